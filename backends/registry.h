/* SPDX-License-Identifier: MIT
 *
 * The backends that may be built in, for registry.c and the backends themselves; everybody else asks
 * backend_list() and backend_find().
 */
#ifndef EARSHOT_REGISTRY_H
#define EARSHOT_REGISTRY_H

#include "backends/backend.h"

extern const struct backend backend_pipewire;
extern const struct backend backend_pulse;
extern const struct backend backend_jack;
extern const struct backend backend_alsa;
extern const struct backend backend_sndio;
extern const struct backend backend_wav;
extern const struct backend backend_null;

#endif
