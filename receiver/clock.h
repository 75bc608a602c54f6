/* SPDX-License-Identifier: MIT
 *
 * Clock filter: turns noisy pairs (time, frame number) of a clock into a straight line, the time at which each frame
 * is due. One stands for the guest's clock, one for the device's. Pure arithmetic: reads no clock, allocates nothing,
 * locks nothing; any thread, one at a time.
 *
 * A two-state Kalman filter (phase, rate) whose gains never fall below those of a delay-locked loop of the given
 * bandwidth: least squares at first, a DLL for ever after. The DLL's gains (sqrt(2)*w*dt, w^2*dt) are those of
 * F. Adriaensen, "Using a DLL to filter time", LAC 2005.
 *
 * A DLL that steady needs minutes to get over frames that were lost, came twice or were never made, and swings to the
 * other side meanwhile, pitch and all. With step_s set such a step is told from jitter by an average over seconds.
 */
#ifndef EARSHOT_CLOCK_H
#define EARSHOT_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_RATE_LIMIT 0.01 /* a clock is believed to be within +-1 % of its nominal rate */

struct clock_filter {
    double nominal_ns;   /* T0: nominal nanoseconds per frame */
    double bandwidth_hz; /* of the DLL */
    double sigma_s;      /* running estimate of the observations' noise, standard deviation in seconds */
    double rate;         /* T / T0: 1.0001 is a clock 100 ppm slow */
    int64_t origin_ns;   /* x_ns counts from here, so that doubles stay exact */
    double x_ns;         /* filtered time of `frame` */
    int64_t frame;
    double p00, p01, p11; /* covariance of phase (s) and rate */
    double seen;          /* observations so far */
    int streak;           /* clamped errors in a row, signed */
    double streak_s[2];   /* how far off: sums over the first half of those that start the line anew, and the rest */
    double step_s; /* > 0: where the errors of the last seconds are this far off on average, the line goes there */
    double mean_s, recent_s; /* those averages: over STEP_TIME_S, which decides, and over a shorter time */
    double owed_s;           /* how far it still has to go */
    bool anchored;
};

/* What became of an observation. */
enum clock_verdict {
    CLOCK_TRACKED,    /* within what is usual */
    CLOCK_EARLY,      /* clamped: much earlier than the line */
    CLOCK_LATE,       /* clamped: much later */
    CLOCK_REANCHORED, /* the first one, or too many clamped in a row that do not get less: the line starts anew here, at
                       * its old rate */
};

/* rate_hz > 0; sigma_s: what noise to expect at first. */
void clock_init(struct clock_filter *clock, double rate_hz, double bandwidth_hz, double sigma_s);

/* The frames before `frame` were there at time_ns. window_ns: how uncertain time_ns is by itself (the width of the
 * interval it was seen in); 0 where it is exact. A frame not beyond the last one changes nothing. */
enum clock_verdict clock_update(struct clock_filter *clock, int64_t time_ns, int64_t frame, int64_t window_ns);

/* Starts the line anew at (time_ns, frame), time_ns as uncertain as clock_update() has it; the rate stays, believed to
 * within rate_sigma (e.g. 50e-6). */
void clock_anchor(struct clock_filter *clock, int64_t time_ns, int64_t frame, int64_t window_ns, double rate_sigma);

/* How well the line's phase is known now: standard deviation, seconds. */
double clock_phase_sigma(const struct clock_filter *clock);

/* Frame numbers are `frames` higher from now on; the line in time stays. */
void clock_renumber(struct clock_filter *clock, int64_t frames);

/* Where the line is at time_ns, in frames (it may be extended into the future), and when it reaches `frame`. */
double clock_frame_at(const struct clock_filter *clock, int64_t time_ns);
double clock_time_of(const struct clock_filter *clock, double frame); /* ns since origin_ns */

#endif
