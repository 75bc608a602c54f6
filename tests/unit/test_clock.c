/* SPDX-License-Identifier: MIT */
#include "receiver/clock.h"
#include "tests/unit/near.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define START_NS  1000000000000
#define RATE      48000.0
#define CHUNK     960
#define CHUNK_NS  20000000.0
#define MS        1e6
#define SOURCE_HZ 0.01

/* A guest `ppm` fast: when its frame is due, to the nanosecond. */
static int64_t due_ns(int64_t frame, double ppm)
{
    return START_NS + llround((double)frame * 1e9 / (RATE * (1.0 + ppm * 1e-6)));
}

static double noise(uint64_t *random, double half_width)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*random >> 11) * 0x1p-52 - 1.0) * half_width;
}

static double ppm_of(const struct clock_filter *clock)
{
    return (1.0 / clock->rate - 1.0) * 1e6;
}

/* How late the filter believes `frame` to be, in nanoseconds. */
static double line_error_ns(const struct clock_filter *clock, int64_t frame, double ppm)
{
    return clock_time_of(clock, (double)frame) + (double)(clock->origin_ns - due_ns(frame, ppm));
}

/* Feeds `count` chunks from the frame it stands at on; returns the last frame. */
static int64_t feed_chunks(struct clock_filter *clock, int count, double ppm, double jitter_ns, uint64_t *random)
{
    int64_t frame = clock->anchored ? clock->frame : 0;
    for (int i = 0; i < count; i++) {
        frame += CHUNK;
        int64_t at_ns = due_ns(frame, ppm) + llround(jitter_ns > 0.0 ? noise(random, jitter_ns) : 0.0);
        clock_update(clock, at_ns, frame, 0);
    }
    return frame;
}

static void first_anchors(void **state)
{
    (void)state;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 3e-3);
    assert_false(clock.anchored);
    assert_int_equal(clock_update(&clock, START_NS + 7, 960, 0), CLOCK_REANCHORED);
    assert_true(clock.anchored);
    assert_near(clock_frame_at(&clock, START_NS + 7), 960.0, 1e-6);
    assert_near(clock_frame_at(&clock, START_NS + 7 + 1000000000), 960.0 + RATE, 1e-3);
    assert_near(clock_time_of(&clock, 960.0 + RATE) + (double)(clock.origin_ns - START_NS), 1e9 + 7, 1.0);
}

/* Without noise the line is found, at any distance that a guest's clock may have. */
static void exact_line(void **state)
{
    (void)state;
    static const double rows[] = {0.0, 50.0, -300.0, 500.0, -2000.0, 2000.0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct clock_filter clock;
        clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
        int64_t frame = feed_chunks(&clock, 50 * 60, rows[i], 0.0, NULL);
        assert_near(ppm_of(&clock), rows[i], 0.5);
        assert_near(line_error_ns(&clock, frame, rows[i]), 0.0, 20e3);
        assert_true(clock.sigma_s < 0.1e-3); /* and it knows that there is none */
    }
}

static void noisy_line(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        uint64_t random = seed;
        struct clock_filter clock;
        clock_init(&clock, RATE, SOURCE_HZ, 3e-3);
        int64_t frame = feed_chunks(&clock, 50 * 10, 300.0, 2.0 * MS, &random);
        assert_near(ppm_of(&clock), 300.0, 60.0); /* the lock gate's */
        frame = feed_chunks(&clock, 50 * 120, 300.0, 2.0 * MS, &random);
        assert_near(ppm_of(&clock), 300.0, 6.0);
        assert_near(line_error_ns(&clock, frame, 300.0), 0.0, 0.25 * MS);
        assert_near(clock.sigma_s, 2e-3 / sqrt(3.0), 0.2e-3); /* of a uniform distribution */
        assert_true(clock_phase_sigma(&clock) < 0.5e-3);
    }
}

/* The gains never fall to nothing: a clock that changes its rate after an hour is followed. */
static void rate_step_late(void **state)
{
    (void)state;
    uint64_t random = 9;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 3e-3);
    int64_t frame = feed_chunks(&clock, 50 * 3600, 0.0, 1.0 * MS, &random);
    int64_t turn = frame;
    for (int i = 0; i < 50 * 120; i++) {
        frame += CHUNK;
        int64_t at_ns = due_ns(turn, 0.0) + (due_ns(frame - turn, 100.0) - START_NS);
        clock_update(&clock, at_ns + llround(noise(&random, 1.0 * MS)), frame, 0);
    }
    assert_near(ppm_of(&clock), 100.0, 6.0);
}

static void one_outlier(void **state)
{
    (void)state;
    static const struct row {
        double off_ns;
        enum clock_verdict verdict;
    } rows[] = {
        {130.0 * MS,  CLOCK_LATE },
        {5000.0 * MS, CLOCK_LATE },
        {-80.0 * MS,  CLOCK_EARLY}
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t random = 3;
        struct clock_filter clock;
        clock_init(&clock, RATE, SOURCE_HZ, 3e-3);
        int64_t frame = feed_chunks(&clock, 50 * 60, -300.0, 1.0 * MS, &random) + CHUNK;
        double before_ppm = ppm_of(&clock), before_ns = line_error_ns(&clock, frame, -300.0);
        assert_int_equal(clock_update(&clock, due_ns(frame, -300.0) + llround(rows[i].off_ns), frame, 0),
                         rows[i].verdict);
        assert_near(line_error_ns(&clock, frame, -300.0), before_ns, 20e3);
        assert_near(ppm_of(&clock), before_ppm, 2.0);
        frame += CHUNK;
        assert_int_equal(clock_update(&clock, due_ns(frame, -300.0), frame, 0), CLOCK_TRACKED);
        assert_int_equal(clock.streak, 0);
    }
}

/* Twelve in a row that went the same way: the line has moved, the rate has not. */
static void streak_reanchors(void **state)
{
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        uint64_t random = 5;
        struct clock_filter clock;
        clock_init(&clock, RATE, SOURCE_HZ, 3e-3);
        int64_t frame = feed_chunks(&clock, 50 * 60, 500.0, 0.5 * MS, &random);
        const int64_t moved_ns = sign * 200 * (int64_t)MS;
        const enum clock_verdict clamped = sign > 0 ? CLOCK_LATE : CLOCK_EARLY;
        for (int i = 1; i <= 12; i++) {
            frame += CHUNK;
            assert_int_equal(clock_update(&clock, due_ns(frame, 500.0) + moved_ns, frame, 0),
                             i < 12 ? clamped : CLOCK_REANCHORED);
        }
        assert_near(line_error_ns(&clock, frame, 500.0), (double)moved_ns, 1.0);
        assert_near(ppm_of(&clock), 500.0, 60.0);
        assert_int_equal(clock.streak, 0);
    }
}

/* Eleven one way, one the other: counting begins anew. */
static void streak_is_of_one_sign(void **state)
{
    (void)state;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
    int64_t frame = feed_chunks(&clock, 50 * 60, 0.0, 0.0, NULL);
    for (int i = 0; i < 24; i++) {
        int64_t off_ns = (i == 11 || i == 12 ? -300 : 300) * (int64_t)MS;
        frame += CHUNK;
        enum clock_verdict verdict = clock_update(&clock, due_ns(frame, 0.0) + off_ns, frame, 0);
        assert_int_equal(verdict, off_ns > 0 ? CLOCK_LATE : CLOCK_EARLY);
    }
}

static void renumber(void **state)
{
    (void)state;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
    int64_t frame = feed_chunks(&clock, 50 * 30, 100.0, 0.0, NULL);
    int64_t then_ns = due_ns(frame, 100.0) + 123456789;
    double before = clock_frame_at(&clock, then_ns), rate = clock.rate;
    clock_renumber(&clock, -5000);
    assert_near(clock_frame_at(&clock, then_ns), before - 5000.0, 1e-6);
    clock_renumber(&clock, 7000);
    assert_near(clock_frame_at(&clock, then_ns), before + 2000.0, 1e-6);
    /* What comes next in the new numbers is right on the line. */
    assert_int_equal(clock_update(&clock, due_ns(frame + CHUNK, 100.0), frame + CHUNK + 2000, 0), CLOCK_TRACKED);
    assert_near(clock.rate, rate, 1e-9);
}

/* A wide window says little: the error is believed to lie within it and moves the line less. */
static void window(void **state)
{
    (void)state;
    double moved_ns[2], sigma_s[2];
    for (int wide = 0; wide <= 1; wide++) {
        uint64_t random = 11;
        struct clock_filter clock;
        clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
        int64_t frame = feed_chunks(&clock, 20, 0.0, 0.2 * MS, &random) + CHUNK;
        double before_ns = line_error_ns(&clock, frame, 0.0), before_s = clock.sigma_s;
        int64_t window_ns = wide ? 100 * (int64_t)MS : 0;
        enum clock_verdict verdict = clock_update(&clock, due_ns(frame, 0.0) + 50 * (int64_t)MS, frame, window_ns);
        assert_int_equal(verdict, wide ? CLOCK_TRACKED : CLOCK_LATE);
        moved_ns[wide] = line_error_ns(&clock, frame, 0.0) - before_ns;
        sigma_s[wide] = clock.sigma_s / before_s;
        assert_true(moved_ns[wide] > 0.0 && moved_ns[wide] < 2.0 * MS);
    }
    assert_near(sigma_s[1], 1.0, 0.0); /* nor does it say how noisy the others are */
    assert_true(sigma_s[0] > 1.0);

    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
    clock_update(&clock, START_NS, 0, 60 * (int64_t)MS);
    assert_near(clock_phase_sigma(&clock), hypot(1e-3, 60e-3 / sqrt(12.0)), 1e-9);
}

/* A frame that was there before says nothing. */
static void not_beyond_the_last(void **state)
{
    (void)state;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
    int64_t frame = feed_chunks(&clock, 100, 20.0, 0.0, NULL);
    const struct clock_filter before = clock;
    clock_update(&clock, due_ns(frame, 20.0) + 999999999, frame, 0);
    assert_memory_equal(&clock, &before, sizeof clock);
    clock_update(&clock, due_ns(frame, 20.0) + 999999999, frame - CHUNK, 0);
    assert_memory_equal(&clock, &before, sizeof clock);
}

static void anchor_keeps_rate(void **state)
{
    (void)state;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
    int64_t frame = feed_chunks(&clock, 50 * 60, -300.0, 0.0, NULL);
    double rate = clock.rate;
    int64_t there_ns = due_ns(frame, -300.0) + 77 * (int64_t)1000000000;
    clock_anchor(&clock, there_ns, frame + 12345, 0, 50e-6);
    assert_true(clock.rate == rate);
    assert_near(clock_frame_at(&clock, there_ns), (double)frame + 12345.0, 1e-6);
    assert_true(clock.p11 >= 50e-6 * 50e-6);
    /* Its next observations may move the rate by what was allowed, no more. */
    int64_t at_ns = there_ns;
    for (int i = 1; i <= 100; i++) {
        at_ns += 20000000 + (i % 2 ? 500000 : -500000);
        clock_update(&clock, at_ns, frame + 12345 + (int64_t)i * CHUNK, 0);
        assert_near(ppm_of(&clock), -300.0, 330.0);
    }
}

/* Whatever is claimed, the rate stays within 1 % and everything stays finite. */
static void rate_is_limited(void **state)
{
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        struct clock_filter clock;
        clock_init(&clock, RATE, SOURCE_HZ, 3e-3);
        double now_ns = 0.0;
        for (int i = 1; i < 20000; i++) {
            now_ns += CHUNK_NS * (1.0 + sign * 0.05);
            clock_update(&clock, START_NS + llround(now_ns), (int64_t)i * CHUNK, 0);
            assert_true(clock.rate >= 1.0 - CLOCK_RATE_LIMIT && clock.rate <= 1.0 + CLOCK_RATE_LIMIT);
            assert_true(isfinite(clock.x_ns) && isfinite(clock.sigma_s));
        }
        assert_near(clock.rate, 1.0 + sign * CLOCK_RATE_LIMIT, 1e-4);
    }
}

/* A day of frames: the line is as sharp as on the first minute. */
static void long_run(void **state)
{
    (void)state;
    struct clock_filter clock;
    clock_init(&clock, RATE, SOURCE_HZ, 1e-3);
    int64_t frame = 0;
    for (int i = 0; i < 24 * 3600 * 10; i++) {
        frame += 4800;
        clock_update(&clock, due_ns(frame, 500.0), frame, 0);
    }
    assert_near(line_error_ns(&clock, frame, 500.0), 0.0, 2e3);
    assert_near(ppm_of(&clock), 500.0, 0.01);
}

#define STEP_S   3e-3
#define SETTLE_S 30     /* seconds; 12 ms at 500 ppm take 24 of them */
#define SLOW_HZ  0.0065 /* as in feed.c */

/* As feed_chunks(), displaced by `off_ns`. Returns how far the line was off at most, after the first `settle`. */
static double feed_displaced(struct clock_filter *clock, int count, int settle, double off_ns, uint64_t *random)
{
    const double ppm = 150.0;
    double worst_ns = 0.0;
    int64_t frame = clock->frame;
    for (int i = 0; i < count; i++) {
        frame += CHUNK;
        clock_update(clock, due_ns(frame, ppm) + llround(off_ns + noise(random, 4 * MS)), frame, 0);
        if (i >= settle)
            worst_ns = fmax(worst_ns, fabs(line_error_ns(clock, frame, ppm) - off_ns));
    }
    return worst_ns;
}

/* Frames that were lost, came twice or were never made: the line is where it belongs within seconds, and stays. */
static void follows_a_step(void **state)
{
    (void)state;
    static const double rows_ms[] = {6.0, -6.0, 8.0, 12.0, -10.0};
    for (size_t i = 0; i < sizeof rows_ms / sizeof rows_ms[0]; i++) {
        struct clock_filter clock, slow;
        uint64_t random = i + 1, again;
        clock_init(&clock, RATE, SLOW_HZ, 3e-3);
        clock.step_s = STEP_S;
        feed_chunks(&clock, 120 * 50, 150.0, 4 * MS, &random);
        slow = clock;
        slow.step_s = 0.0;
        again = random;
        assert_true(feed_displaced(&clock, 180 * 50, SETTLE_S * 50, rows_ms[i] * MS, &random) < 1.0 * MS);
        assert_true(feed_displaced(&slow, 180 * 50, SETTLE_S * 50, rows_ms[i] * MS, &again) > 1.2 * MS);
        assert_near(ppm_of(&clock), 150.0, 20.0);
    }
}

/* And what is jitter, even of a timer that ticks every 15.6 ms, changes nothing at all. */
static void jitter_is_no_step(void **state)
{
    (void)state;
    const double tick_ns = 15.625 * MS;
    struct clock_filter clock, plain;
    uint64_t random = 1;
    clock_init(&plain, RATE, SLOW_HZ, 3e-3);
    clock = plain;
    clock.step_s = STEP_S;
    for (int64_t frame = CHUNK; frame < 600 * 50 * CHUNK; frame += CHUNK) {
        int64_t due = due_ns(frame, -300.0);
        int64_t at = START_NS + llround(ceil((double)(due - START_NS) / tick_ns) * tick_ns + noise(&random, 2 * MS));
        if (frame % (3000 * CHUNK) == 0)
            at += 60000000; /* a stall, once a minute */
        clock_update(&plain, at, frame, 0);
        clock_update(&clock, at, frame, 0);
    }
    assert_true(clock.x_ns == plain.x_ns && clock.rate == plain.rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_anchors),
        cmocka_unit_test(exact_line),
        cmocka_unit_test(noisy_line),
        cmocka_unit_test(rate_step_late),
        cmocka_unit_test(one_outlier),
        cmocka_unit_test(streak_reanchors),
        cmocka_unit_test(streak_is_of_one_sign),
        cmocka_unit_test(renumber),
        cmocka_unit_test(window),
        cmocka_unit_test(not_beyond_the_last),
        cmocka_unit_test(anchor_keeps_rate),
        cmocka_unit_test(rate_is_limited),
        cmocka_unit_test(long_run),
        cmocka_unit_test(follows_a_step),
        cmocka_unit_test(jitter_is_no_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
