/* SPDX-License-Identifier: MIT
 *
 * The simulated device: its arithmetic under a time the test makes up, and its thread, where only order is checked.
 */
#include "backends/paced.h"
#include "backends/registry.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)

static struct paced_clock clock_with(struct paced_params params)
{
    if (params.rate == 0)
        params.rate = 48000;
    if (params.period[0] == 0)
        params.period[0] = 480;
    if (params.hold_cycles == 0)
        params.hold_cycles = 50;
    if (params.late_max_ns == 0)
        params.late_max_ns = SECOND / 50;
    struct paced_clock clock = {.params = params, .origin_ns = 5 * SECOND, .random = params.seed};
    paced_clock_start(&clock, clock.origin_ns);
    return clock;
}

/* Runs `cycles` on time and returns the last. */
static struct paced_cycle run(struct paced_clock *clock, unsigned cycles)
{
    struct paced_cycle cycle = {0};
    for (unsigned i = 0; i < cycles; i++)
        paced_clock_next(clock, paced_clock_time(clock, clock->position), &cycle);
    return cycle;
}

static void test_cycles_follow_the_clock(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){.delay_frames = 7});
    struct paced_cycle cycle = run(&clock, 1);
    assert_int_equal(cycle.wake_ns, 5 * SECOND);
    assert_int_equal(cycle.time.flags, PULL_DISCONTINUITY);
    for (unsigned i = 1; i < 1000; i++) {
        cycle = run(&clock, 1);
        assert_int_equal(cycle.wake_ns, 5 * SECOND + i * SECOND / 100);
        assert_int_equal(cycle.time.cycle_ns, cycle.wake_ns);
        assert_int_equal(cycle.time.position_frames, i * 480);
        assert_int_equal(cycle.time.flags, 0);
        assert_int_equal(cycle.time.delay_frames, 7);
        assert_int_equal(cycle.time.rate, 48000);
        assert_int_equal(cycle.frames, 480);
        assert_int_equal(cycle.pulls, 1);
    }
}

static void test_ppm_is_the_clocks_not_the_nominal_rate(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){.ppm = 2000});
    struct paced_cycle cycle = run(&clock, 100 * 1002 + 1); /* 1002 s of frames take a fast device 1000 s */
    assert_int_equal(cycle.time.rate, 48000);
    assert_in_range(cycle.wake_ns, 1005 * SECOND - 1, 1005 * SECOND + 1);

    clock = clock_with((struct paced_params){.ppm = -2000});
    cycle = run(&clock, 100 * 998 + 1);
    assert_in_range(cycle.wake_ns, 1005 * SECOND - 1, 1005 * SECOND + 1);
}

static void test_a_week_keeps_its_precision(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){0});
    const int64_t week = INT64_C(7) * 24 * 3600;
    assert_int_equal(paced_clock_time(&clock, week * 48000), 5 * SECOND + week * SECOND);
    assert_int_equal(paced_clock_time(&clock, week * 48000 + 48), 5 * SECOND + week * SECOND + SECOND / 1000);
}

static void test_period_takes_turns(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){
        .period = {64, 4096},
          .hold_cycles = 3
    });
    int64_t position = 0;
    for (unsigned i = 0; i < 60; i++) {
        const struct paced_cycle cycle = run(&clock, 1);
        assert_int_equal(cycle.frames, i / 3 % 2 == 0 ? 64 : 4096);
        assert_int_equal(cycle.time.position_frames, position);
        assert_int_equal(cycle.time.flags, i == 0 ? PULL_DISCONTINUITY : 0);
        position += cycle.frames;
    }
}

static void test_jitter_delays_the_callback_alone(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){.jitter_ns = 3000000, .seed = 1});
    int64_t latest = 0;
    for (unsigned i = 0; i < 2000; i++) {
        const struct paced_cycle cycle = run(&clock, 1);
        const int64_t late = cycle.wake_ns - cycle.time.cycle_ns;
        assert_int_equal(cycle.time.cycle_ns, 5 * SECOND + i * SECOND / 100);
        assert_in_range(late, 0, 2999999);
        latest = late > latest ? late : latest;
    }
    assert_true(latest > 2900000);
}

static void test_noise_is_in_the_time_that_is_told(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){.noise_ns = 1000000, .seed = 1});
    int64_t lowest = 0, highest = 0;
    for (unsigned i = 0; i < 2000; i++) {
        const struct paced_cycle cycle = run(&clock, 1);
        const int64_t error = cycle.time.cycle_ns - cycle.wake_ns;
        lowest = error < lowest ? error : lowest;
        highest = error > highest ? error : highest;
    }
    assert_true(lowest >= -1000000 && lowest < -900000);
    assert_true(highest <= 1000000 && highest > 900000);
}

static void test_doubled_callbacks_keep_the_sum(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){.double_every = 5});
    int64_t pulled = 0;
    for (unsigned i = 1; i <= 50; i++) {
        const struct paced_cycle cycle = run(&clock, 1);
        assert_int_equal(cycle.pulls, i % 5 == 0 ? 2 : 1);
        assert_int_equal(cycle.time.position_frames, pulled);
        assert_int_equal(cycle.time.cycle_ns, paced_clock_time(&clock, pulled));
        pulled += (int64_t)cycle.pulls * cycle.frames;
    }
}

static void test_too_late_is_a_jump_of_whole_periods(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){.late_max_ns = SECOND / 50});
    struct paced_cycle cycle;
    run(&clock, 10);
    paced_clock_next(&clock, paced_clock_time(&clock, clock.position) + SECOND / 50, &cycle); /* just in time */
    assert_int_equal(cycle.time.position_frames, 10 * 480);
    assert_int_equal(cycle.time.flags, 0);
    paced_clock_next(&clock, 5 * SECOND + SECOND / 2 + 1000000, &cycle); /* 390 ms late */
    assert_int_equal(cycle.time.position_frames, 50 * 480);
    assert_int_equal(cycle.time.flags, PULL_DISCONTINUITY);
    assert_int_equal(cycle.wake_ns, 5 * SECOND + SECOND / 2);
    cycle = run(&clock, 1);
    assert_int_equal(cycle.time.flags, 0);
}

static void test_the_clock_runs_on_while_stopped(void **state)
{
    (void)state;
    struct paced_clock clock = clock_with((struct paced_params){0});
    run(&clock, 10);
    paced_clock_start(&clock, 65 * SECOND);
    struct paced_cycle cycle = run(&clock, 1);
    assert_int_equal(cycle.time.position_frames, 60 * 48000);
    assert_int_equal(cycle.time.flags, PULL_DISCONTINUITY);
    /* Started again within the period that was already handed out: not the same frames twice. */
    paced_clock_start(&clock, 65 * SECOND + 1000);
    cycle = run(&clock, 1);
    assert_int_equal(cycle.time.position_frames, 60 * 48000 + 480);
    assert_int_equal(cycle.time.flags, PULL_DISCONTINUITY);
}

/* ---- the backend ---- */

struct player {
    atomic_uint pulls;
    atomic_bool stopped, violated;
    uint32_t frames;
    struct pull_time first;
    _Atomic(pthread_t) thread; /* the last that pulled */
};

static void pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct player *player = arg;
    if (atomic_load(&player->stopped))
        atomic_store(&player->violated, true);
    if (atomic_load(&player->pulls) == 0) {
        player->frames = frames;
        player->first = *time;
    }
    for (uint32_t i = 0; i < frames * 2; i++)
        dst[i] = 0;
    atomic_store(&player->thread, pthread_self());
    atomic_fetch_add(&player->pulls, 1);
}

static int try_target(const char *target)
{
    struct backend_context *context = NULL;
    const struct backend_context_params params = {.app_name = "test", .target = target, .event_fd = -1};
    const int rc = backend_null.context_open(&context, &params);
    if (rc == 0)
        backend_null.context_close(context);
    return rc;
}

static void test_target_is_parsed_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "rate=44100",
        "period=64/4096,hold=10",
        "rate=96000,ppm=-2000,jitter=3000,noise=1000",
        "double=7,delay=512",
        "seed=3",
    };
    static const char *const bad[] = {
        "rate",
        "rate=",
        "rate=48k",
        "rate=0",
        "rate=48000,",
        ",rate=48000",
        "rates=48000",
        "rat=48000",
        "rate=48000,,ppm=1",
        "period=64/",
        "period=64/4096/64",
        "period=/64",
        "rate=44100/48000",
        "period=8193",
        "period=0",
        "ppm=1.5",
        "ppm= 1",
        "ppm=+1",
        "jitter=-1",
        "ppm=99999999999999999999",
        "period=64;hold=1",
        "=1",
        "ppm==1",
    };
    assert_int_equal(try_target(NULL), 0);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(try_target(good[i]), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (try_target(bad[i]) != -EINVAL)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void wait_pulls(struct player *player, unsigned total)
{
    while (atomic_load(&player->pulls) < total)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void test_plays_stops_and_plays_again(void **state)
{
    (void)state;
    struct backend_context *context = NULL;
    struct backend_stream *stream = NULL;
    struct player player = {0};
    const struct backend_context_params context_params = {
        .app_name = "test", .target = "rate=44100,period=64,double=3,delay=9", .event_fd = -1};
    struct backend_stream_params params = {.name = "guest",
                                           .channels = 2,
                                           .mask = 3,
                                           .source_rate = 48000,
                                           .period_ns = 10000000,
                                           .pull = pull,
                                           .arg = &player};
    assert_int_equal(backend_null.probe(&context_params), 0);
    assert_int_equal(backend_null.context_open(&context, &context_params), 0);
    assert_int_equal(backend_null.open(context, &params, &stream), 0);
    assert_int_equal(params.period_ns, 64 * SECOND / 44100);
    assert_int_equal(atomic_load(&player.pulls), 0);
    for (unsigned i = 0; i < 20; i++) {
        const unsigned before = atomic_load(&player.pulls);
        atomic_store(&player.stopped, false);
        assert_int_equal(backend_null.start(stream), 0);
        assert_int_equal(backend_null.start(stream), 0); /* already */
        wait_pulls(&player, before + 5);
        backend_null.stop(stream);
        atomic_store(&player.stopped, true);
        backend_null.stop(stream);
    }
    assert_int_equal(backend_null.state(stream), BACKEND_OK);
    assert_int_equal(player.frames, 64);
    assert_int_equal(player.first.rate, 44100);
    assert_int_equal(player.first.delay_frames, 9);
    assert_int_equal(player.first.flags, PULL_DISCONTINUITY);
    atomic_store(&player.stopped, false);
    assert_int_equal(backend_null.start(stream), 0);
    backend_null.close(stream); /* also while it plays */
    atomic_store(&player.stopped, true);
    backend_null.context_close(context);
    assert_false(atomic_load(&player.violated));
}

/* Those that want the same device share its thread and its clock; each comes and goes without the others' noticing. */
static void test_streams_share_a_device(void **state)
{
    (void)state;
    enum { STREAMS = 5, OTHER = 4 };
    struct backend_context *context = NULL;
    struct backend_stream *streams[STREAMS] = {0};
    struct player players[STREAMS] = {0};
    const struct backend_context_params context_params = {.app_name = "test", .target = "period=64", .event_fd = -1};
    assert_int_equal(backend_null.context_open(&context, &context_params), 0);
    for (unsigned i = 0; i < STREAMS; i++) {
        struct backend_stream_params params = {
            .name = "guest", .channels = 2, .mask = 3, .source_rate = 48000, .pull = pull, .arg = &players[i]};
        params.target = i == OTHER ? "period=64,ppm=1" : NULL;
        assert_int_equal(backend_null.open(context, &params, &streams[i]), 0);
        assert_int_equal(backend_null.start(streams[i]), 0);
        wait_pulls(&players[i], 1);
        assert_int_equal(players[i].first.flags & PULL_DISCONTINUITY, PULL_DISCONTINUITY);
    }
    const pthread_t thread = atomic_load(&players[0].thread);
    for (unsigned i = 1; i < STREAMS; i++)
        assert_int_equal(pthread_equal(atomic_load(&players[i].thread), thread) != 0, i != OTHER);
    for (unsigned turn = 0; turn < 50; turn++) {
        struct player *stopped = &players[1 + turn % 3];
        backend_null.stop(streams[1 + turn % 3]);
        atomic_store(&stopped->stopped, true);
        const unsigned at = atomic_load(&players[0].pulls), kept = atomic_load(&stopped->pulls);
        wait_pulls(&players[0], at + 2);
        assert_int_equal(atomic_load(&stopped->pulls), kept);
        atomic_store(&stopped->stopped, false);
        atomic_store(&stopped->pulls, 0); /* so that the next is the first */
        assert_int_equal(backend_null.start(streams[1 + turn % 3]), 0);
        wait_pulls(stopped, 1);
        assert_int_equal(stopped->first.flags, PULL_DISCONTINUITY);
    }
    assert_true(pthread_equal(atomic_load(&players[0].thread), thread)); /* it never ended */
    for (unsigned i = 0; i < STREAMS; i++) {
        backend_null.close(streams[i]);
        atomic_store(&players[i].stopped, true);
        if (i + 1 < STREAMS)
            wait_pulls(&players[STREAMS - 1], atomic_load(&players[STREAMS - 1].pulls) + 2);
    }
    for (unsigned i = 0; i < STREAMS; i++)
        assert_false(atomic_load(&players[i].violated));
    backend_null.context_close(context);
}

static void test_a_stop_does_not_wait_for_the_period(void **state)
{
    (void)state;
    struct paced *paced = NULL;
    struct paced_stream *stream = NULL;
    struct player player = {0};
    /* 8192 frames at 1 Hz: had stop() to wait for a period, this would end by the test's time limit. */
    const struct paced_params params = {.rate = 1, .period = {8192}, .hold_cycles = 1, .late_max_ns = SECOND};
    const struct paced_stream_params stream_params = {.pull = pull, .pull_arg = &player};
    assert_int_equal(paced_create(&paced, &params), 0);
    assert_int_equal(paced_open(paced, &stream_params, &stream), 0);
    assert_int_equal(paced_start(stream), 0);
    wait_pulls(&player, 1);
    paced_close(stream);
    paced_destroy(paced);
}

static void test_bad_streams_are_refused(void **state)
{
    (void)state;
    struct backend_context *context = NULL;
    struct backend_stream *stream = NULL;
    const struct backend_context_params context_params = {.app_name = "test", .event_fd = -1};
    assert_int_equal(backend_null.context_open(&context, &context_params), 0);
    struct backend_stream_params params = {.name = "guest", .channels = 9, .pull = pull};
    assert_int_equal(backend_null.open(context, &params, &stream), -EINVAL);
    params.channels = 0;
    assert_int_equal(backend_null.open(context, &params, &stream), -EINVAL);
    params.channels = 2;
    params.target = "nonsense";
    assert_int_equal(backend_null.open(context, &params, &stream), -EINVAL);
    assert_null(stream);
    backend_null.context_close(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cycles_follow_the_clock),
        cmocka_unit_test(test_ppm_is_the_clocks_not_the_nominal_rate),
        cmocka_unit_test(test_a_week_keeps_its_precision),
        cmocka_unit_test(test_period_takes_turns),
        cmocka_unit_test(test_jitter_delays_the_callback_alone),
        cmocka_unit_test(test_noise_is_in_the_time_that_is_told),
        cmocka_unit_test(test_doubled_callbacks_keep_the_sum),
        cmocka_unit_test(test_too_late_is_a_jump_of_whole_periods),
        cmocka_unit_test(test_the_clock_runs_on_while_stopped),
        cmocka_unit_test(test_target_is_parsed_strictly),
        cmocka_unit_test(test_plays_stops_and_plays_again),
        cmocka_unit_test(test_streams_share_a_device),
        cmocka_unit_test(test_a_stop_does_not_wait_for_the_period),
        cmocka_unit_test(test_bad_streams_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
