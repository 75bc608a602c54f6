/* SPDX-License-Identifier: MIT */
#include "receiver/rate.h"

#include "receiver/arith.h"

#include <math.h>

struct gear {
    double bandwidth_hz;
    double hold_s;    /* at least this long before the next one */
    double phase_max; /* largest phase correction */
    double slew_per_s;
};

static const struct gear gears[RATE_GEARS] = {
    {0.15, 3.0, 0.0,     5000e-6},
    {0.05, 7.0, 1500e-6, 5000e-6},
    {0.02, 0.0, 1000e-6, 500e-6 },
};

#define SHIFT_UP_ERROR_S 2e-3
#define LOCKED_ERROR_S   1e-3
#define ERROR_TIME_S     0.5
#define RATIO_LIMIT      0.01
#define FEED_HZ          1.0
#define INTEGRAL_LIMIT   200e-6
#define TARGET_RISE      300e-6
#define TARGET_FALL      100e-6
#define TARGET_FALL_FAR  450e-6 /* 0.78 cents */
#define FALL_TIME_S      100.0  /* of what is more than 10 ms too high */
#define ACQUIRE_SLOPE    3000e-6
#define ACQUIRE_TIME_S   0.5
#define TARGET_TIME_S    10.0 /* half a millisecond at 50 ppm: 0.09 cents */

static double clamp(double value, double limit)
{
    return larger(-limit, smaller(value, limit));
}

void rate_start(struct rate_loop *loop, double feed)
{
    *loop = (struct rate_loop){
        .integral = loop->integral,
        .correction = loop->integral,
        .gear = loop->gear > 0 ? 1 : 0,
        .feed1 = feed - 1.0,
        .feed2 = feed - 1.0,
    };
}

void rate_shift(struct rate_loop *loop, unsigned gear)
{
    if (loop->gear > gear) {
        loop->gear = gear;
        loop->in_gear_s = 0.0;
    }
}

static double omega(unsigned gear)
{
    return 2.0 * M_PI * gears[gear].bandwidth_hz;
}

static const struct rate_gains *gains_for(struct rate_loop *loop, double dt_s)
{
    struct rate_gains *gains = &loop->gains;
    if (gains->dt_s != dt_s || gains->gear != loop->gear)
        *gains = (struct rate_gains){
            .dt_s = dt_s,
            .gear = loop->gear,
            .error = 1.0 - exp(-dt_s / ERROR_TIME_S),
            .phase = 1.0 - exp(-20.0 * omega(loop->gear) * dt_s),
            .feed = 1.0 - exp(-2.0 * M_PI * FEED_HZ * dt_s),
        };
    return gains;
}

static void choose_gear(struct rate_loop *loop, double error_s, double dt_s)
{
    loop->slow_error_s += gains_for(loop, dt_s)->error * (error_s - loop->slow_error_s);
    loop->in_gear_s += dt_s;
    if (loop->gear + 1 < RATE_GEARS && loop->in_gear_s >= gears[loop->gear].hold_s &&
        fabs(loop->slow_error_s) < SHIFT_UP_ERROR_S) {
        loop->gear++;
        loop->in_gear_s = 0.0;
    } else if (loop->gear > 1 && fabs(loop->slow_error_s) > SHIFT_UP_ERROR_S) {
        loop->gear = 1;
        loop->in_gear_s = 0.0;
    }
}

double rate_update(struct rate_loop *loop, double error_s, double dt_s, double feed, double target_slope)
{
    choose_gear(loop, error_s, dt_s);
    const struct gear *gear = &gears[loop->gear];

    double w = omega(loop->gear);
    double w0 = gains_for(loop, dt_s)->phase;
    loop->z1 += w0 * (2.0 * w * error_s - loop->z1);
    loop->z2 += w0 * (loop->z1 - loop->z2);
    double phase = clamp(loop->z2, gear->phase_max);
    if (loop->gear == RATE_GEARS - 1 && phase == loop->z2) /* it shall not learn from transients */
        loop->integral = clamp(loop->integral + w * w * error_s * dt_s / 4.0, INTEGRAL_LIMIT);

    double wanted = phase + loop->integral;
    loop->correction += clamp(wanted - loop->correction, gear->slew_per_s * dt_s);

    double smooth = gains_for(loop, dt_s)->feed;
    loop->feed1 += smooth * (feed - 1.0 - loop->feed1);
    loop->feed2 += smooth * (loop->feed1 - loop->feed2);
    return 1.0 + clamp((1.0 + loop->feed2) * (1.0 + loop->correction - target_slope) - 1.0, RATIO_LIMIT);
}

bool rate_locked(const struct rate_loop *loop)
{
    return loop->gear == RATE_GEARS - 1 && fabs(loop->slow_error_s) < LOCKED_ERROR_S;
}

double rate_target_move(struct rate_target *target, double goal_s, double dt_s, bool acquiring)
{
    double missing_s = goal_s - target->fill_s;
    double fall = larger(TARGET_FALL, smaller(-missing_s / FALL_TIME_S, TARGET_FALL_FAR));
    double slope = acquiring ? clamp(missing_s / ACQUIRE_TIME_S, ACQUIRE_SLOPE)
                             : larger(-fall, smaller(missing_s / TARGET_TIME_S, TARGET_RISE));
    target->fill_s += slope * dt_s;
    return slope;
}
