/* SPDX-License-Identifier: MIT */
#include "receiver/guest_timing.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS ((int64_t)1000000)

/* 48 kHz 16 bit stereo, 20 ms chunks. */
static const struct guest_timing_params chunks = {
    .rate = 48000, .frame_bytes = 4, .unit_bytes = 960 * 4, .burst_units = 1};
/* The driver's packets of 6 ms. */
static const struct guest_timing_params packets = {
    .rate = 48000, .frame_bytes = 4, .unit_bytes = 1152, .burst_units = 1};

static struct guest_timing start(struct guest_timing_params params)
{
    struct guest_timing timing;
    assert_int_equal(guest_timing_init(&timing, &params), 0);
    return timing;
}

static struct guest_delivery next(struct guest_timing *timing)
{
    struct guest_delivery delivery;
    guest_timing_next(timing, &delivery);
    return delivery;
}

static void assert_delivery(struct guest_delivery delivery, int64_t at_ns, uint64_t first_unit, uint32_t units)
{
    assert_int_equal(delivery.at_ns, at_ns);
    assert_int_equal(delivery.first_unit, first_unit);
    assert_int_equal(delivery.units, units);
}

static void steady_delivers_each_when_it_is_complete(void **state)
{
    (void)state;
    struct guest_timing timing = start(chunks);
    for (unsigned i = 0; i < 1000; i++)
        assert_delivery(next(&timing), (i + 1) * 20 * MS, i, 1);
}

static void bursts_wait_for_their_last(void **state)
{
    (void)state;
    struct guest_timing_params params = packets;
    params.burst_units = 5;
    struct guest_timing timing = start(params);
    for (unsigned i = 0; i < 100; i++)
        assert_delivery(next(&timing), (i + 1) * 30 * MS, (uint64_t)i * 5, 5);
}

/* Millisecond ticks: the timer fires every 10 ms; packets of 6 ms come as 1, 2, 2, 1, 2, 2 ... */
static void timer_on_a_fine_tick(void **state)
{
    (void)state;
    struct guest_timing_params params = packets;
    params.tick_ns = MS;
    struct guest_timing timing = start(params);
    uint64_t first = 0;
    for (unsigned i = 0; i < 30; i++) {
        uint32_t units = i % 3 == 0 ? 1 : 2;
        assert_delivery(next(&timing), (i + 1) * 10 * MS, first, units);
        first += units;
    }
}

/* Windows' coarse tick: 15.625 ms is longer than the timer's period, so it fires on each. */
static void timer_on_a_coarse_tick(void **state)
{
    (void)state;
    const int64_t tick_ns = 15625000;
    struct guest_timing_params params = packets;
    params.tick_ns = tick_ns;
    struct guest_timing timing = start(params);
    uint64_t first = 0;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t complete = (uint64_t)((i + 1) * tick_ns / (6 * MS));
        assert_delivery(next(&timing), (i + 1) * tick_ns, first, (uint32_t)(complete - first));
        first = complete;
    }
}

static void chunks_on_a_coarse_tick(void **state)
{
    (void)state;
    const int64_t tick_ns = 15625000;
    struct guest_timing_params params = chunks;
    params.tick_ns = tick_ns;
    struct guest_timing timing = start(params);
    for (unsigned i = 0; i < 1000; i++) {
        int64_t complete_ns = (i + 1) * 20 * MS;
        struct guest_delivery delivery = next(&timing);
        assert_int_equal(delivery.first_unit, i);
        assert_int_equal(delivery.units, 1);
        assert_int_equal(delivery.at_ns % tick_ns, 0);
        assert_in_range(delivery.at_ns - complete_ns, 0, tick_ns - 1);
    }
}

static void timer_holds_bursts_whole(void **state)
{
    (void)state;
    struct guest_timing_params params = packets;
    params.tick_ns = MS;
    params.burst_units = 4;
    struct guest_timing timing = start(params);
    uint64_t first = 0;
    for (unsigned i = 0; i < 100; i++) {
        struct guest_delivery delivery = next(&timing);
        assert_int_equal(delivery.first_unit, first);
        assert_int_equal(delivery.units, 4);
        first += 4;
        int64_t complete_ns = (int64_t)first * 6 * MS;
        assert_in_range(delivery.at_ns - complete_ns, 0, 10 * MS - 1);
    }
}

static void a_fast_clock_delivers_early(void **state)
{
    (void)state;
    static const double ppms[] = {500, -500, 50, 2000};
    for (size_t i = 0; i < sizeof ppms / sizeof ppms[0]; i++) {
        struct guest_timing_params params = chunks;
        params.ppm = ppms[i];
        struct guest_timing timing = start(params);
        timing.next_unit = (uint64_t)50 * 3600 * 24 * 30 - 1; /* a month later */
        long double seconds = 3600.0L * 24 * 30;
        long double expected_ns = seconds * 1e9L / (1 + (long double)ppms[i] * 1e-6L);
        struct guest_delivery delivery = next(&timing);
        assert_true(fabsl((long double)delivery.at_ns - expected_ns) <= 2);
    }
}

static void frames_straddle_packets(void **state)
{
    (void)state;
    struct guest_timing_params params = {
        .rate = 48000, .frame_bytes = 10, .unit_bytes = 1152, .burst_units = 1}; /* 5 channels: 115.2 frames */
    struct guest_timing timing = start(params);
    static const uint64_t played[] = {116, 231, 346, 461, 576}; /* the frame that a packet ends in is over */
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(next(&timing).at_ns, guest_timing_duration_ns(played[i], 48000));
    static const uint64_t complete[] = {0, 115, 230, 345, 460, 576};
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(guest_timing_frames(&timing, i), complete[i]);
}

static void jitter_is_bounded_repeatable_and_ordered(void **state)
{
    (void)state;
    struct guest_timing_params params = packets;
    params.jitter_ns = 8 * MS; /* more than a packet: some catch up with the one before */
    params.seed = 7;
    struct guest_timing one = start(params), two = start(params);
    int64_t last_ns = 0, least_ns = INT64_MAX, most_ns = 0, sum_ns = 0;
    const unsigned count = 20000;
    for (unsigned i = 0; i < count; i++) {
        struct guest_delivery delivery = next(&one);
        assert_int_equal(delivery.at_ns, next(&two).at_ns);
        int64_t late_ns = delivery.at_ns - (i + 1) * 6 * MS;
        assert_in_range(late_ns, 0, 8 * MS);
        assert_true(delivery.at_ns >= last_ns);
        last_ns = delivery.at_ns;
        least_ns = late_ns < least_ns ? late_ns : least_ns;
        most_ns = late_ns > most_ns ? late_ns : most_ns;
        sum_ns += late_ns;
    }
    assert_true(least_ns < MS / 50 && most_ns > 8 * MS - MS / 50);
    assert_in_range(sum_ns / count, 4 * MS, 4 * MS + MS / 2); /* order makes it a little more than half */
    params.seed = 8;
    struct guest_timing three = start(params);
    assert_int_not_equal(next(&three).at_ns, 6 * MS);
    assert_int_not_equal(three.last_ns, one.last_ns);
}

static void pauses_hold_the_audio(void **state)
{
    (void)state;
    static const int64_t ticks[] = {0, MS};
    for (size_t t = 0; t < 2; t++) {
        struct guest_timing_params params = chunks;
        params.tick_ns = ticks[t];
        params.pause_every_ns = 1000 * MS;
        params.pause_ns = 300 * MS;
        struct guest_timing timing = start(params);
        for (unsigned i = 0; i < 500; i++) {
            int64_t pauses = i / 50; /* 50 chunks, a pause, 50 chunks ... */
            assert_delivery(next(&timing), (i + 1) * 20 * MS + pauses * 300 * MS, i, 1);
        }
    }
}

static void an_odd_rate_never_drifts(void **state)
{
    (void)state;
    struct guest_timing_params params = {
        .rate = 44100, .frame_bytes = 4, .unit_bytes = 1152, .burst_units = 1}; /* 288 frames: 6.5306 ms */
    struct guest_timing timing = start(params);
    timing.next_unit = 44100u * 1000u - 1;
    assert_int_equal(next(&timing).at_ns, (int64_t)288000 * 1000 * MS);
    assert_int_equal(guest_timing_duration_ns(44100, 44100), 1000 * MS);
    assert_int_equal(guest_timing_duration_ns(1, 44100), 22676); /* rounded up */
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct guest_timing timing;
    struct guest_timing_params bad[8];
    for (size_t i = 0; i < 8; i++)
        bad[i] = chunks;
    bad[0].rate = 0;
    bad[1].frame_bytes = 0;
    bad[2].unit_bytes = 0;
    bad[3].burst_units = 0;
    bad[4].ppm = NAN;
    bad[5].jitter_ns = -1;
    bad[6].tick_ns = -1;
    bad[7].pause_ns = 1; /* but never */
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(guest_timing_init(&timing, &bad[i]), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_delivers_each_when_it_is_complete),
        cmocka_unit_test(bursts_wait_for_their_last),
        cmocka_unit_test(timer_on_a_fine_tick),
        cmocka_unit_test(timer_on_a_coarse_tick),
        cmocka_unit_test(chunks_on_a_coarse_tick),
        cmocka_unit_test(timer_holds_bursts_whole),
        cmocka_unit_test(a_fast_clock_delivers_early),
        cmocka_unit_test(frames_straddle_packets),
        cmocka_unit_test(jitter_is_bounded_repeatable_and_ordered),
        cmocka_unit_test(pauses_hold_the_audio),
        cmocka_unit_test(an_odd_rate_never_drifts),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
