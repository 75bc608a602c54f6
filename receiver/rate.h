/* SPDX-License-Identifier: MIT
 *
 * Rate control: how many source frames to consume per device frame so that the fill stays on its target. Pure
 * arithmetic on its arguments, called once per pull. [rt]
 *
 * A type-2 loop behind a two-pole low-pass, its gains falling from acquisition to steady state; the ratio of the two
 * clock filters is fed forward, so that the loop only corrects phase. After F. Adriaensen, "Controlling adaptive
 * resampling", LAC 2012.
 */
#ifndef EARSHOT_RATE_H
#define EARSHOT_RATE_H

#include <stdbool.h>

/* Of the low-passes, for steps of dt_s in that gear: a device's are all alike. */
struct rate_gains {
    double dt_s;
    unsigned gear;
    double error, phase, feed;
};

struct rate_loop {
    double feed1, feed2;     /* the fed-forward ratio, low-passed: arrivals must not be heard as sidebands; minus 1 */
    double z1, z2, integral; /* of the error, as fractions of the ratio */
    double correction;       /* what was applied last, slew-limited; fraction */
    double slow_error_s;     /* low-passed error: what decides about gears */
    double in_gear_s;
    unsigned gear; /* 0 acquires, RATE_GEARS - 1 is steady */
    struct rate_gains gains;
};

#define RATE_GEARS 3

/* Start, or start again after a break: what was learnt of the ratio stays, and whoever was past the first gear
 * resumes in the second. feed: as for rate_update(). */
void rate_start(struct rate_loop *loop, double feed);

/* Back to the given gear or a faster one, e.g. when a clock's line was re-anchored. */
void rate_shift(struct rate_loop *loop, unsigned gear);

/* error_s: fill minus target, in seconds of source time (> 0: too full). dt_s: since the last call. feed: the clock
 * filters' device period / source period, relative to nominal (near 1). target_slope: seconds of target per second.
 * Returns source seconds consumed per device second, near 1, within +-1 %. */
double rate_update(struct rate_loop *loop, double error_s, double dt_s, double feed, double target_slope);

/* True in the last gear with a small error. */
bool rate_locked(const struct rate_loop *loop);

/* The target fill: rises by at most 300 ppm of real time, falls by at most 100 - by up to 450 where it is more than 10 ms
 * too high, which stalls leave behind - and comes in softly, so that nobody hears it. In the first seconds, while the pitch is still being found, it moves by up to 3000 ppm. */
struct rate_target {
    double fill_s; /* where it is now */
};

/* Moves towards goal_s; returns the slope applied (s per s). */
double rate_target_move(struct rate_target *target, double goal_s, double dt_s, bool acquiring);

#endif
