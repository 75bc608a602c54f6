/* SPDX-License-Identifier: MIT
 *
 * How late the guest's audio comes, and so how much must be held ready. Fed with one lateness per arrival: how far
 * the guest's clock was ahead of what had been written just before (chunk, burst and delay in one number).
 * Pure arithmetic; [src], one thread.
 *
 * The hold is the largest lateness of the last 60-90 s plus a margin: raised at once (half-way ahead of what grows),
 * lowered only after a minute spent clearly below. The initial guess gives way to what was seen after 3, 20 and 60 s.
 * One stall is not jitter: a lateness far above the hold (twice it, or twice what usually comes on top of the guest's
 * own chunk and 10 ms more) raises nothing unless a second one follows within a minute; only the margin is made wider for
 * a while, since who was held up may go on at another phase of its timer.
 */
#ifndef EARSHOT_TARGET_H
#define EARSHOT_TARGET_H

#include "receiver/clock.h"

#include <stdint.h>

#define TARGET_LESSONS 3
#define TARGET_WINDOWS 3

struct target_hold {
    double hold_ns;
    double unit_ns; /* what the guest delivers at once: the part of a lateness that is none; 0: unknown */
    double window_max_ns[TARGET_WINDOWS]; /* windows of 30 s, the current one first */
    int64_t window_start_ns;
    int64_t below_since_ns;
    double pending_ns; /* lateness of arrivals off the line, until it is known whether the line or they were wrong */
    double stall_ns;   /* the last outlier, and when it came */
    int64_t stall_at_ns;
    int64_t since_ns; /* the first arrival */
    unsigned lessons; /* how far the initial guess has been replaced by what was seen */
};

/* initial_ns: what to expect before anything is known (> 0). */
void target_init(struct target_hold *target, double initial_ns);

/* lateness_ns as above, at now_ns; verdict: what the clock filter made of the same arrival. */
void target_update(struct target_hold *target, int64_t now_ns, double lateness_ns, enum clock_verdict verdict);

#endif
