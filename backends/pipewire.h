/* SPDX-License-Identifier: MIT
 *
 * What the two files of the PipeWire backend share. [main]
 */
#ifndef EARSHOT_PIPEWIRE_H
#define EARSHOT_PIPEWIRE_H

#include "backends/backend.h"

struct pw_context;
struct pw_core;
struct pw_loop;

/* A context with the user's client configuration and real-time scheduling for its data thread. NULL sets errno. */
struct pw_context *pipewire_context_new(struct pw_loop *loop);

/* Connects; the server has not answered yet. -EHOSTDOWN: there is none. Under the loop's lock. */
int pipewire_connect(struct pw_core **core, struct pw_context *context, const struct backend_context_params *params);

/* struct backend's probe. Waits one second at most. */
int pipewire_probe(const struct backend_context_params *params);

#endif
