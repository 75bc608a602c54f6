/* SPDX-License-Identifier: MIT
 *
 * What the streams play through: the choice of a backend, its one context, and the waiting where the server is not
 * there. [main]
 *
 * Time comes in as an argument (CLOCK_MONOTONIC), so that tests need no sleep.
 */
#ifndef EARSHOT_OUTPUT_H
#define EARSHOT_OUTPUT_H

#include "backends/backend.h"
#include "receiver/log.h"

#include <stdbool.h>
#include <stdint.h>

struct output_params {
    const struct backend *backend;             /* NULL: auto */
    const struct backend *const *auto_choices; /* NULL-terminated, in order of preference; for auto */
    const char *server;                        /* or NULL */
    const char *target;                        /* or NULL */
    const struct log *log;
};

struct output;

/* Strings, backends and log are borrowed. -ENOMEM, -errno of eventfd. */
int output_create(struct output **output, const struct output_params *params);

/* After its streams; NULL is fine. */
void output_destroy(struct output *output);

/* Does what is due: chooses, connects. Returns when it wants to be called again; INT64_MAX: not by itself. */
int64_t output_run(struct output *output, int64_t now_ns);

/* Readable when the context's or a stream's state changed: call output_check(). */
int output_fd(const struct output *output);

/* True where the server is lost. Then close all streams and call output_drop(). */
bool output_check(struct output *output);
void output_drop(struct output *output, int64_t now_ns);

/* NULL while there is no server. */
struct backend_context *output_context(const struct output *output);

/* NULL while `auto` has not chosen. */
const struct backend *output_backend(const struct output *output);

/* 100 ms, doubled for each failure before, at most a second. */
int64_t output_backoff_ns(unsigned failures);

#endif
