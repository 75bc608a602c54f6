/* SPDX-License-Identifier: MIT */
#include "receiver/rate.h"
#include "tests/unit/near.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define DT_S       (256.0 / 48000.0)
#define SECONDS(s) ((int)((s) / DT_S))

/* The error held still: the ratio after so many seconds. */
static double hold_error(struct rate_loop *loop, double error_s, double seconds)
{
    double ratio = 1.0;
    for (int i = 0; i < SECONDS(seconds); i++)
        ratio = rate_update(loop, error_s, DT_S, 1.0, 0.0);
    return ratio;
}

static struct rate_loop steady_loop(void)
{
    struct rate_loop loop = {0};
    rate_start(&loop, 1.0);
    hold_error(&loop, 0.0, 15.0);
    assert_int_equal(loop.gear, RATE_GEARS - 1);
    return loop;
}

/* A fill that obeys the ratio; returns the error after so many seconds. plant_ppm: what the feed does not tell. */
static double closed_loop(struct rate_loop *loop, double error_s, double plant_ppm, double seconds)
{
    for (int i = 0; i < SECONDS(seconds); i++) {
        double ratio = rate_update(loop, error_s, DT_S, 1.0, 0.0);
        error_s += (1.0 + plant_ppm * 1e-6 - ratio) * DT_S;
    }
    return error_s;
}

/* Too full: consume more. */
static void sign(void **state)
{
    (void)state;
    struct rate_loop loop = steady_loop();
    assert_true(hold_error(&loop, 0.5e-3, 5.0) > 1.0 + 20e-6);
    loop = steady_loop();
    assert_true(hold_error(&loop, -0.5e-3, 5.0) < 1.0 - 20e-6);
    loop = steady_loop();
    assert_near(hold_error(&loop, 0.0, 5.0), 1.0, 1e-12);
}

static void converges(void **state)
{
    (void)state;
    static const double ppm[] = {0.0, 20.0, -20.0, 100.0};
    for (size_t i = 0; i < sizeof ppm / sizeof ppm[0]; i++) {
        struct rate_loop loop = steady_loop();
        double error_s = closed_loop(&loop, 0.8e-3, ppm[i], 300.0);
        assert_near(error_s, 0.0, 5e-6);
        assert_true(rate_locked(&loop));
        assert_near(loop.integral, ppm[i] * 1e-6, 1e-6);
    }
}

/* The pitch: at most +-1000 ppm where it is steady, +-3000 while it is being found. */
static void clamps(void **state)
{
    (void)state;
    for (int side = -1; side <= 1; side += 2) {
        struct rate_loop loop = {0};
        rate_start(&loop, 1.0);
        for (int i = 0; i < SECONDS(60.0); i++) {
            double off = rate_update(&loop, side * 1.9e-3, DT_S, 1.0, 0.0) - 1.0;
            double limit = loop.gear < RATE_GEARS - 1 ? 3000e-6 : 1000e-6 + 200e-6;
            assert_true(fabs(off) <= limit + 1e-9);
        }
        /* An error that no correction mends does not wind up the integral. */
        loop = steady_loop();
        for (int i = 0; i < SECONDS(600.0); i++)
            rate_update(&loop, side * 50e-3, DT_S, 1.0, 0.0);
        assert_true(fabs(loop.integral) <= 10e-6);
    }
}

/* The whole ratio stays within 1 %, whatever the clocks claim. */
static void total_limit(void **state)
{
    (void)state;
    static const double feeds[] = {0.9, 0.98, 1.0099, 1.02, 1.5, 100.0};
    for (size_t i = 0; i < sizeof feeds / sizeof feeds[0]; i++) {
        struct rate_loop loop = {0};
        rate_start(&loop, feeds[i]);
        for (int k = 0; k < SECONDS(30.0); k++) {
            double ratio = rate_update(&loop, 5e-3, DT_S, feeds[i], 0.0);
            assert_true(ratio >= 0.99 - 1e-12 && ratio <= 1.01 + 1e-12);
        }
    }
}

/* The correction never jumps: 500 ppm a second in the last gear, 5000 before. */
static void slew(void **state)
{
    (void)state;
    struct rate_loop loop = {0};
    rate_start(&loop, 1.0);
    double last = 1.0;
    unsigned random = 1;
    for (int i = 0; i < SECONDS(60.0); i++) {
        random = random * 1664525u + 1013904223u;
        double error_s = ((double)(random >> 8) / (1 << 24) - 0.5) * 3e-3;
        double ratio = rate_update(&loop, error_s, DT_S, 1.0, 0.0);
        double limit = (loop.gear == RATE_GEARS - 1 ? 500e-6 : 5000e-6) * DT_S;
        assert_true(fabs(ratio - last) <= limit * (1.0 + 1e-6));
        last = ratio;
    }
}

/* A step of the fed-forward ratio comes in over a fraction of a second, and fully. */
static void feed_forward(void **state)
{
    (void)state;
    struct rate_loop loop = {0};
    rate_start(&loop, 1.0003);
    assert_near(rate_update(&loop, 0.0, DT_S, 1.0003, 0.0), 1.0003, 1e-9); /* at once, after a start */
    double ratio = rate_update(&loop, 0.0, DT_S, 1.0008, 0.0);
    assert_true(ratio - 1.0003 < 10e-6);
    for (int i = 0; i < SECONDS(3.0); i++)
        ratio = rate_update(&loop, 0.0, DT_S, 1.0008, 0.0);
    assert_near(ratio, 1.0008, 1e-7);
}

static void gears(void **state)
{
    (void)state;
    struct rate_loop loop = {0};
    rate_start(&loop, 1.0);
    assert_int_equal(loop.gear, 0);
    assert_near(hold_error(&loop, 1.5e-3, 2.9), 1.0, 1e-12); /* acquiring: only the clocks speak */
    assert_int_equal(loop.gear, 0);
    hold_error(&loop, 0.0, 0.3);
    assert_int_equal(loop.gear, 1);
    assert_false(rate_locked(&loop));
    hold_error(&loop, 0.0, 5.0);
    assert_int_equal(loop.gear, 1);
    hold_error(&loop, 0.0, 4.0);
    assert_int_equal(loop.gear, 2);
    assert_true(rate_locked(&loop));

    hold_error(&loop, 1.5e-3, 3.0); /* off, but no reason to change gear */
    assert_int_equal(loop.gear, 2);
    assert_false(rate_locked(&loop));
    hold_error(&loop, 3e-3, 3.0);
    assert_int_equal(loop.gear, 1);
    hold_error(&loop, 3e-3, 60.0); /* not as long as it lasts */
    assert_int_equal(loop.gear, 1);

    loop = steady_loop();
    rate_shift(&loop, 1);
    assert_int_equal(loop.gear, 1);
    rate_shift(&loop, 2); /* never forward */
    assert_int_equal(loop.gear, 1);
    hold_error(&loop, 0.0, 6.0);
    assert_int_equal(loop.gear, 1); /* its time starts over */
}

/* A restart keeps what was learnt and does not acquire from the beginning. */
static void restart(void **state)
{
    (void)state;
    struct rate_loop loop = steady_loop();
    closed_loop(&loop, 0.0, 60.0, 400.0);
    assert_near(loop.integral, 60e-6, 2e-6);
    rate_start(&loop, 1.0);
    assert_int_equal(loop.gear, 1);
    assert_near(rate_update(&loop, 0.0, DT_S, 1.0, 0.0), 1.0 + 60e-6, 3e-6);

    loop = (struct rate_loop){0};
    rate_start(&loop, 1.0);
    hold_error(&loop, 0.0, 1.0);
    rate_start(&loop, 1.0);
    assert_int_equal(loop.gear, 0);
}

/* A rising target is fed by consuming less. */
static void slope_is_fed_forward(void **state)
{
    (void)state;
    struct rate_loop loop = steady_loop();
    double ratio = 1.0;
    for (int i = 0; i < SECONDS(3.0); i++)
        ratio = rate_update(&loop, 0.0, DT_S, 1.0, 300e-6);
    assert_near(ratio, 1.0 - 300e-6, 1e-9);
}

/* The loop follows a moving target without an error of its own: what is fed forward is all there is to do. */
static void moving_target(void **state)
{
    (void)state;
    struct rate_loop loop = steady_loop();
    struct rate_target target = {.fill_s = 30e-3};
    double fill_s = 30e-3, worst_s = 0.0;
    for (int i = 0; i < SECONDS(120.0); i++) {
        double slope = rate_target_move(&target, 36e-3, DT_S, false);
        double ratio = rate_update(&loop, fill_s - target.fill_s, DT_S, 1.0, slope);
        fill_s += (1.0 - ratio) * DT_S;
        worst_s = fmax(worst_s, fabs(fill_s - target.fill_s));
    }
    assert_true(worst_s < 0.3e-3);
    assert_near(fill_s, 36e-3, 0.1e-3);
}

static void target_slopes(void **state)
{
    (void)state;
    static const struct row {
        double from_s, goal_s;
        bool acquiring;
        double limit; /* of the slope, signed */
    } rows[] = {
        {20e-3,  60e-3, false, 300e-6  },
        {28e-3,  20e-3, false, -100e-6 },
        {60e-3,  20e-3, false, -400e-6 },
        {200e-3, 40e-3, false, -450e-6 },
        {20e-3,  60e-3, true,  3000e-6 },
        {60e-3,  20e-3, true,  -3000e-6}
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rate_target target = {.fill_s = rows[i].from_s};
        assert_near(rate_target_move(&target, rows[i].goal_s, 0.0, rows[i].acquiring), rows[i].limit, 1e-12);
        assert_true(target.fill_s == rows[i].from_s);
        double last_s = target.fill_s;
        for (int k = 0; k < SECONDS(600.0); k++) {
            double slope = rate_target_move(&target, rows[i].goal_s, DT_S, rows[i].acquiring);
            assert_true(fabs(slope) <= fabs(rows[i].limit) + 1e-15);
            assert_near(target.fill_s - last_s, slope * DT_S, 1e-12);                /* it says what it did */
            assert_true((rows[i].goal_s - target.fill_s) * rows[i].limit >= -1e-15); /* and never overshoots */
            last_s = target.fill_s;
        }
        assert_near(target.fill_s, rows[i].goal_s, 1e-6);
    }
}

/* Calls in no time at all, and after a second of none. */
static void odd_steps(void **state)
{
    (void)state;
    struct rate_loop loop = steady_loop();
    double ratio = rate_update(&loop, 1e-3, 0.0, 1.0, 0.0);
    assert_near(ratio, 1.0, 1e-12);
    for (int i = 0; i < 100; i++) {
        ratio = rate_update(&loop, i % 2 ? 15e-3 : -15e-3, 1.0, 1.0, 0.0);
        assert_true(isfinite(ratio) && fabs(ratio - 1.0) < 3000e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign),          cmocka_unit_test(converges),     cmocka_unit_test(clamps),
        cmocka_unit_test(total_limit),   cmocka_unit_test(slew),          cmocka_unit_test(feed_forward),
        cmocka_unit_test(gears),         cmocka_unit_test(restart),       cmocka_unit_test(slope_is_fed_forward),
        cmocka_unit_test(moving_target), cmocka_unit_test(target_slopes), cmocka_unit_test(odd_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
