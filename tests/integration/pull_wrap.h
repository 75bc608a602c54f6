/* SPDX-License-Identifier: MIT
 *
 * Laid around the program's own main(): the pulls of the first backend that is looked up - by -o - go through
 * pull_wrapped(), which who links this defines. The linker sends backend_find() here (--wrap).
 */
#ifndef EARSHOT_PULL_WRAP_H
#define EARSHOT_PULL_WRAP_H

#include "backends/backend.h"

typedef void pull_function(void *arg, float *dst, uint32_t frames, const struct pull_time *time);

/* [rt] Calls `pull` with the rest. */
void pull_wrapped(pull_function *pull, void *arg, float *dst, uint32_t frames, const struct pull_time *time);

/* [any] Of the stream that was opened last. */
unsigned pull_wrap_channels(void);

#endif
