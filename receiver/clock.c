/* SPDX-License-Identifier: MIT */
#include "receiver/clock.h"

#include "receiver/arith.h"

#include <math.h>
#include <stdlib.h>

#define NS_PER_S           1e9
#define PRIOR_RATE_SIGMA   1000e-6
#define REOPEN_RATE_SIGMA  100e-6
#define CLAMP_MIN_S        2e-3
#define CLAMP_SIGMAS       4.0
#define CLAMPS_TO_REOPEN   12
#define GETS_OVER_IT       0.85 /* of a streak's first half, in its second */
#define SIGMA_FLOOR_S      10e-6
#define SIGMA_PRIOR_WEIGHT 8.0 /* observations that the initial guess counts for */
#define SIGMA_TIME_S       8.0
#define STEP_TIME_S        2.0
#define STEP_RECENT_S      1.0
#define STEP_SETTLED       1.25
#define STEP_SLOPE         500e-6 /* a cent and less */
#define STEP_AFTER         500.0  /* observations: before that the line still moves by itself */

void clock_init(struct clock_filter *clock, double rate_hz, double bandwidth_hz, double sigma_s)
{
    *clock = (struct clock_filter){
        .nominal_ns = NS_PER_S / rate_hz,
        .bandwidth_hz = bandwidth_hz,
        .sigma_s = sigma_s,
        .rate = 1.0,
    };
}

void clock_anchor(struct clock_filter *clock, int64_t time_ns, int64_t frame, int64_t window_ns, double rate_sigma)
{
    double window_s = (double)window_ns / NS_PER_S;
    clock->origin_ns = time_ns;
    clock->x_ns = 0.0;
    clock->frame = frame;
    clock->p00 = clock->sigma_s * clock->sigma_s + window_s * window_s / 12.0;
    clock->p01 = 0.0;
    clock->p11 = larger(clock->p11, rate_sigma * rate_sigma);
    clock->streak = 0;
    clock->mean_s = clock->recent_s = clock->owed_s = 0.0;
    clock->anchored = true;
}

void clock_renumber(struct clock_filter *clock, int64_t frames)
{
    clock->frame += frames;
}

/* Enough in a row: has the line moved? Who is held up is behind for a while as well, but gets over it, and going along
 * would be two jumps for nothing. Then counting begins anew. Who is early proves by that alone that the line is wrong. */
static bool line_moved(struct clock_filter *clock)
{
    if (abs(clock->streak) < CLAMPS_TO_REOPEN)
        return false;
    if (clock->streak < 0 || clock->streak_s[1] >= GETS_OVER_IT * clock->streak_s[0])
        return true;
    clock->streak = 0;
    return false;
}

/* Clamps the error and counts how many in a row went the same way. */
static double judge(struct clock_filter *clock, double error_s, double window_s, enum clock_verdict *verdict)
{
    double sigma = sqrt(clock->sigma_s * clock->sigma_s + clock->p00);
    double limit = larger(CLAMP_SIGMAS * sigma, CLAMP_MIN_S) + window_s;
    *verdict = CLOCK_TRACKED;
    if (fabs(error_s) <= limit) {
        clock->streak = 0;
        return error_s;
    }
    const int sign = error_s > 0 ? 1 : -1;
    if (clock->streak * sign <= 0) {
        clock->streak = 0;
        clock->streak_s[0] = clock->streak_s[1] = 0.0;
    }
    clock->streak_s[abs(clock->streak) >= CLAMPS_TO_REOPEN / 2] += fabs(error_s);
    clock->streak += sign;
    *verdict = sign > 0 ? CLOCK_LATE : CLOCK_EARLY;
    return sign * limit;
}

/* Errors that stay on one side are no jitter: the phase was displaced, and the rate has nothing to do with it. */
static void follow_step(struct clock_filter *clock, double e, double dt)
{
    if (clock->step_s <= 0.0 || clock->seen < STEP_AFTER)
        return;
    clock->mean_s += smaller(dt / STEP_TIME_S, 1.0) * (e - clock->mean_s);
    clock->recent_s += smaller(dt / STEP_RECENT_S, 1.0) * (e - clock->recent_s);
    if (fabs(clock->mean_s) < larger(clock->step_s, clock->sigma_s))
        return;
    if (clock->recent_s / clock->mean_s > STEP_SETTLED) /* how far it goes is not known yet */
        return;
    clock->owed_s += clock->recent_s;
    clock->mean_s = clock->recent_s = 0.0;
}

/* The line goes to where it belongs so slowly that nobody hears it. */
static void pay_step(struct clock_filter *clock, double dt)
{
    double part = larger(-STEP_SLOPE * dt, smaller(clock->owed_s, STEP_SLOPE * dt));
    clock->x_ns += part * NS_PER_S;
    clock->owed_s -= part;
}

enum clock_verdict clock_update(struct clock_filter *clock, int64_t time_ns, int64_t frame, int64_t window_ns)
{
    if (!clock->anchored) {
        clock_anchor(clock, time_ns, frame, window_ns, PRIOR_RATE_SIGMA);
        return CLOCK_REANCHORED;
    }
    if (frame <= clock->frame)
        return CLOCK_TRACKED;

    double frames = (double)(frame - clock->frame);
    double dt = frames * clock->nominal_ns / NS_PER_S;
    double window_s = (double)window_ns / NS_PER_S;

    clock->x_ns += frames * clock->nominal_ns * clock->rate;
    clock->frame = frame;
    clock->p00 += dt * (2.0 * clock->p01 + dt * clock->p11);
    clock->p01 += dt * clock->p11;

    enum clock_verdict verdict;
    pay_step(clock, dt);
    double error = ((double)(time_ns - clock->origin_ns) - clock->x_ns) / NS_PER_S - clock->owed_s;
    double e = judge(clock, error, window_s, &verdict);
    if (line_moved(clock)) {
        clock_anchor(clock, time_ns, frame, window_ns, REOPEN_RATE_SIGMA);
        return CLOCK_REANCHORED;
    }

    double noise = clock->sigma_s * clock->sigma_s + window_s * window_s / 12.0;
    double k1 = clock->p00 / (clock->p00 + noise);
    double k2 = clock->p01 / (clock->p00 + noise);
    clock->p11 -= k2 * clock->p01;
    clock->p01 *= 1.0 - k1;
    clock->p00 *= 1.0 - k1;

    double w = 2.0 * M_PI * clock->bandwidth_hz;
    k1 = larger(k1, smaller(M_SQRT2 * w * dt, 1.0));
    k2 = larger(k2, w * w * dt);
    clock->x_ns += k1 * e * NS_PER_S;
    clock->rate = smaller(larger(clock->rate + k2 * e, 1.0 - CLOCK_RATE_LIMIT), 1.0 + CLOCK_RATE_LIMIT);

    if (window_s <= 2.0 * clock->sigma_s || window_s <= CLAMP_MIN_S) {
        double variance = clock->sigma_s * clock->sigma_s;
        clock->seen++;
        variance += larger(1.0 / (clock->seen + SIGMA_PRIOR_WEIGHT), dt / SIGMA_TIME_S) * (e * e - variance);
        clock->sigma_s = larger(sqrt(variance), SIGMA_FLOOR_S);
        follow_step(clock, e, dt);
    }
    return verdict;
}

double clock_phase_sigma(const struct clock_filter *clock)
{
    return sqrt(clock->p00);
}

double clock_frame_at(const struct clock_filter *clock, int64_t time_ns)
{
    double since = (double)(time_ns - clock->origin_ns) - clock->x_ns;
    return (double)clock->frame + since / (clock->nominal_ns * clock->rate);
}

double clock_time_of(const struct clock_filter *clock, double frame)
{
    return clock->x_ns + (frame - (double)clock->frame) * clock->nominal_ns * clock->rate;
}
