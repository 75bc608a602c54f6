/* SPDX-License-Identifier: MIT
 *
 * How the thread of the sources sleeps: until one of them has something to do, or main has something to say. Each
 * wake-up costs more than what it is for, so those that are due nearly together get one. [src]
 */
#ifndef EARSHOT_SOURCE_WAIT_H
#define EARSHOT_SOURCE_WAIT_H

#include "receiver/source.h"

/* A source as its thread has it. */
struct source_input {
    struct source *source;
    unsigned number; /* for main */
    struct source_status told;
    bool told_any;
    struct source_counters counted; /* as main was told last */
    int64_t counted_ns;
    bool more;     /* it had not said all when it was the others' turn */
    bool readable; /* its fd, unless that is ignored */
    unsigned fruitless;
    int64_t ignore_fd_until_ns;
};

struct source_wait {
    int64_t awake_since_ns; /* CLOCK_MONOTONIC, as the next */
    int64_t heard_ns;       /* so lately all that may end a sleep was listened to */
};

/* Sleeps until `wake_ns` (INT64_MAX: no such time), until a source is due, or wake_fd is readable; not at all where a
 * source has `more`. Marks what is readable; of wake_fd, returns it. While no source waits for its fd, wake_fd and
 * watch_fds are heard some tens of ms late. */
bool source_wait(struct source_wait *wait, struct source_input *inputs, unsigned count, int wake_fd, int64_t wake_ns,
                 bool more);

/* Has it anything to do? */
bool source_input_due(const struct source_input *input, int64_t now_ns);

/* It was called, and had blocks or none: a flood of garbage, or an fd in error, is not listened to for a moment. */
void source_input_ran(struct source_input *input, bool blocks, int64_t now_ns);

#endif
