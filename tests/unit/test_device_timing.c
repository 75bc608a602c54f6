/* SPDX-License-Identifier: MIT */
#include "backends/device_timing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define RATE   48000
#define PERIOD 240 /* 5 ms */
#define FILL   480
#define MS_NS  INT64_C(1000000)

/* A device in made-up time: plays frame f of its run at begun_ns + f / RATE. */
struct device {
    struct device_timing timing;
    int64_t begun_ns;
    int64_t beyond;
};

static void begin(struct device *d, int64_t at_ns)
{
    device_timing_restart(&d->timing);
    d->begun_ns = at_ns;
}

static struct device new_device(int64_t at_ns)
{
    struct device d = {.beyond = 96};
    device_timing_init(&d.timing, RATE, PERIOD, FILL, 7);
    begin(&d, at_ns);
    return d;
}

static int64_t played(const struct device *d, int64_t at_ns)
{
    return (at_ns - d->begun_ns) * RATE / 1000000000;
}

/* Asks and writes; told at at_ns, `late_ns` of it old. */
static struct pull_time ask(struct device *d, int64_t at_ns, int64_t age_ns, bool estimated)
{
    const struct device_moment moment = {
        .at_ns = at_ns - age_ns,
        .queued_frames = d->timing.written - played(d, at_ns - age_ns),
        .beyond_frames = d->beyond,
        .estimated = estimated,
    };
    struct pull_time time;
    device_timing_cycle(&d->timing, &moment, &time);
    device_timing_wrote(&d->timing);
    return time;
}

/* However late it is woken and however old what it is told: the cycle is when the room came free. */
static void late_wakeups(void **state)
{
    (void)state;
    static const int64_t late_ns[] = {0, 100000, 3 * MS_NS, 0, 9 * MS_NS, 4 * MS_NS, 0};
    struct device d = new_device(1000 * MS_NS);
    for (int i = 0; i < (int)(sizeof late_ns / sizeof late_ns[0]); i++) {
        const int64_t due_ns = 1000 * MS_NS + i * 5 * MS_NS;
        const struct pull_time time = ask(&d, due_ns + late_ns[i], i % 2 ? 50000 : 0, i > 3);
        assert_int_equal(time.position_frames, i * PERIOD);
        assert_true(llabs(time.cycle_ns - due_ns) <= 21000); /* a frame */
        assert_int_equal(time.delay_frames, FILL - PERIOD + 96);
        assert_int_equal(time.rate, RATE);
        assert_int_equal(time.clock_id, 7);
        assert_int_equal(time.flags, (i == 0 ? PULL_DISCONTINUITY : 0) | (i > 3 ? PULL_COARSE : 0));
    }
}

/* A device that ran dry begins anew, and its position is where it would be had it not. */
static void ran_dry(void **state)
{
    (void)state;
    struct device d = new_device(0);
    for (int i = 0; i < 10; i++)
        ask(&d, i * 5 * MS_NS, 0, false);
    begin(&d, 145 * MS_NS); /* 100 ms after the last cycle */
    struct pull_time time = ask(&d, 145 * MS_NS, 0, false);
    assert_true(time.flags & PULL_DISCONTINUITY);
    assert_int_equal(time.position_frames, 29 * PERIOD);
    time = ask(&d, 150 * MS_NS, 0, false);
    assert_false(time.flags & PULL_DISCONTINUITY);
    assert_int_equal(time.position_frames, 30 * PERIOD);
    assert_int_equal(time.cycle_ns, 150 * MS_NS);
}

/* Another fill after it ran dry often: the position goes on. */
static void more_room(void **state)
{
    (void)state;
    struct device d = new_device(0);
    for (int i = 0; i < 4; i++)
        ask(&d, i * 5 * MS_NS, 0, false);
    device_timing_init(&d.timing, RATE, PERIOD, FILL + PERIOD, 7);
    begin(&d, 30 * MS_NS);
    const struct pull_time time = ask(&d, 30 * MS_NS, 0, false);
    assert_int_equal(time.position_frames, 6 * PERIOD);
    assert_int_equal(time.delay_frames, FILL + 96);
}

/* A server that is only getting under way says so much and then so much: none of it counts as time. */
static void under_way(void **state)
{
    (void)state;
    struct device d = new_device(0);
    for (int i = 0; i < 20; i++) {
        d.beyond = i < 5 ? 0 : i < 11 ? 1024 : 700;
        const struct pull_time time = ask(&d, i * 5 * MS_NS, 0, true);
        assert_true(llabs(time.cycle_ns - i * 5 * MS_NS) <= 21000);
        assert_int_equal(time.delay_frames, FILL - PERIOD + d.beyond);
        assert_int_equal(!!(time.flags & PULL_DISCONTINUITY), i == 0 || i == 5 || i == 11);
    }
    begin(&d, 200 * MS_NS);
    ask(&d, 200 * MS_NS, 0, true);
    d.begun_ns += 13 * MS_NS; /* it took that long until it really ran, but had not said so */
    assert_true(ask(&d, 205 * MS_NS, 0, true).flags & PULL_DISCONTINUITY);
    assert_false(ask(&d, 210 * MS_NS, 0, true).flags & PULL_DISCONTINUITY);
}

/* What is beyond the buffer may be told with noise, which moves nothing; what has changed for good counts. */
static void beyond(void **state)
{
    (void)state;
    struct device d = new_device(0);
    for (int i = 0; i < 400; i++) {
        d.beyond = 96 + ((i + 3) % 7 - 3) * 15; /* +-1 ms nearly */
        const struct pull_time time = ask(&d, i * 5 * MS_NS, 0, false);
        assert_int_equal(time.delay_frames, FILL - PERIOD + 96);
        assert_int_equal(time.cycle_ns, i * 5 * MS_NS);
    }
    d.beyond = 960;
    for (int i = 400; i < 500; i++) {
        const struct pull_time time = ask(&d, i * 5 * MS_NS, 0, false);
        assert_int_equal(time.flags, 0);
        assert_int_equal(time.cycle_ns, i * 5 * MS_NS);
        assert_true(time.delay_frames == FILL - PERIOD + (i < 409 ? 96 : 960) || i < 412);
    }
    /* A single wrong answer is none. */
    d.beyond = 20;
    assert_int_equal(ask(&d, 500 * 5 * MS_NS, 0, false).delay_frames, FILL - PERIOD + 960);
    d.beyond = 960;
    for (int i = 501; i < 600; i++)
        assert_int_equal(ask(&d, i * 5 * MS_NS, 0, false).delay_frames, FILL - PERIOD + 960);
}

/* Only the sum is told: a delay that changes for good shifts the cycle, once. */
static void estimated(void **state)
{
    (void)state;
    struct device d = new_device(0);
    for (int i = 0; i < 100; i++)
        assert_true(llabs(ask(&d, i * 5 * MS_NS, 0, true).cycle_ns - i * 5 * MS_NS) <= 21000);
    d.beyond += RATE / 100;
    int64_t last_ns = 0;
    int changed = 0;
    for (int i = 100; i < 200; i++) {
        const struct pull_time time = ask(&d, i * 5 * MS_NS, 0, true);
        changed += !!(time.flags & PULL_DISCONTINUITY);
        last_ns = time.cycle_ns;
    }
    assert_int_equal(changed, 1);
    assert_true(llabs(last_ns - 199 * 5 * MS_NS) <= 21000);
}

static void free_running(void **state)
{
    (void)state;
    struct device d = new_device(10 * MS_NS);
    struct pull_time time;
    for (int i = 0; i < 20; i++) {
        device_timing_free_cycle(&d.timing, 10 * MS_NS, &time);
        assert_int_equal(time.position_frames, i * PERIOD);
        assert_int_equal(time.cycle_ns, (10 + i * 5) * MS_NS);
        device_timing_wrote(&d.timing);
    }
    /* 20 periods are 100 ms. */
    assert_int_equal(device_timing_ahead(&d.timing, 10 * MS_NS, 10 * MS_NS), 20 * PERIOD);
    assert_int_equal(device_timing_ahead(&d.timing, 10 * MS_NS, 110 * MS_NS), 0);
    assert_int_equal(device_timing_ahead(&d.timing, 10 * MS_NS, 115 * MS_NS), -PERIOD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_wakeups), cmocka_unit_test(ran_dry), cmocka_unit_test(more_room),
        cmocka_unit_test(under_way),    cmocka_unit_test(beyond),  cmocka_unit_test(estimated),
        cmocka_unit_test(free_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
