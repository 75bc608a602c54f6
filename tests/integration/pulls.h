/* SPDX-License-Identifier: MIT
 *
 * When a program was asked for sound, as earshot-witnessed records it, and when it was not though it should have been.
 * A sound server asks once a cycle. If the machine holds the server up, it asks late or leaves cycles out, and what is
 * heard of those nobody could have played: no latency is long enough for that.
 */
#ifndef EARSHOT_PULLS_H
#define EARSHOT_PULLS_H

#include "tests/integration/latency.h"

#include <stddef.h>
#include <stdint.h>

struct pull_record {
    int64_t entered_ns, left_ns; /* CLOCK_MONOTONIC; entered_ns 0: no record */
    int64_t cycle_ns;            /* that of the cycle, as the server has it */
    uint64_t stream;
    uint32_t frames, rate;
    uint32_t realtime; /* the thread had real-time priority: being late was not its own fault */
    uint32_t unused;
};

/* Adds what passed from one pull of a stream to the end of the next where that was over more than half a period after
 * it was due, by its cycle's time or by that of the pull before. Nothing of an ordinary thread, which may be late by its own fault; nor of a program whose pulls take more
 * than a quarter of a period themselves more often than once in fifty. -ENOMEM. */
int pulls_late(struct stalls *late, const struct pull_record *records, size_t count);

/* The same of a file of records. -errno, -ENOMEM. */
int pulls_load(struct stalls *late, const char *path);

#endif
