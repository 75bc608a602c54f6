/* SPDX-License-Identifier: MIT */
#include "tests/unit/stream_rig.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_auto(void **state)
{
    (void)state;
    static const struct backend *const choices[] = {&fake_manual, &fake_backend, NULL};
    struct fixture f;
    set_up_output(&f, NULL, choices);
    fake.probe_result = -EHOSTDOWN;
    assert_true(output_run(f.output, f.now_ns) > f.now_ns);
    assert_null(output_backend(f.output));
    assert_int_equal(said_times(&f.said, "No sound server is running"), 1);

    /* Not before its time, and said once only. */
    assert_true(output_run(f.output, f.now_ns + 1) > f.now_ns + 1);
    for (unsigned i = 0; i < 10; i++) {
        int64_t next_ns = output_run(f.output, f.now_ns);
        assert_true(next_ns > f.now_ns && next_ns - f.now_ns <= 1000 * MS_NS);
        f.now_ns = next_ns;
    }
    assert_int_equal(said_times(&f.said, "No sound server is running"), 1);
    fake.probe_result = -ENODEV;
    f.now_ns = output_run(f.output, f.now_ns);
    assert_int_equal(said_times(&f.said, "has no output device"), 1);

    fake.probe_result = 0;
    assert_true(output_run(f.output, f.now_ns) == INT64_MAX);
    assert_ptr_equal(output_backend(f.output), &fake_backend);
    assert_non_null(output_context(f.output));
    assert_int_equal(said_times(&f.said, "Playing through Fake"), 1);

    /* Lost: the same one is waited for. */
    assert_false(output_check(f.output));
    fake.context_state = BACKEND_LOST;
    assert_true(output_check(f.output));
    output_drop(f.output, f.now_ns);
    assert_null(output_context(f.output));
    assert_int_equal(fake.contexts, 0);
    fake.context_result = -EHOSTDOWN;
    int64_t start_ns = f.now_ns;
    for (unsigned i = 0; i < 20; i++)
        f.now_ns = output_run(f.output, f.now_ns);
    assert_true(f.now_ns > start_ns);
    fake.context_result = 0;
    int64_t next_ns = output_run(f.output, f.now_ns);
    assert_true(next_ns == INT64_MAX);
    assert_int_equal(said_times(&f.said, "Fake is gone"), 1);
    assert_int_equal(said_times(&f.said, "Fake is back"), 1);
    assert_int_equal(said_times(&f.said, "not running"), 0);
    tear_down(&f);
}

static void test_backoff(void **state)
{
    (void)state;
    assert_true(output_backoff_ns(0) == 100 * MS_NS);
    assert_true(output_backoff_ns(1) == 200 * MS_NS);
    assert_true(output_backoff_ns(4) == 1000 * MS_NS);
    assert_true(output_backoff_ns(1000000) == 1000 * MS_NS);
}

static void test_opens_with_first_feed(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_true(stream_run(f.stream, f.now_ns) == INT64_MAX);
    assert_int_equal(fake.opens, 0);
    assert_int_equal(state_of(&f), STREAM_WAITING);

    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    assert_true(stream_run(f.stream, f.now_ns) <= f.now_ns + 1000 * MS_NS);
    assert_int_equal(fake.opens, 1);
    assert_int_equal(fake.running, 1);
    assert_string_equal(fake.params.name, "Desk");
    assert_int_equal(fake.params.channels, 2);
    assert_int_equal(fake.params.mask, 3);
    assert_int_equal(fake.params.source_rate, 48000);
    assert_true(fake.params.period_ns == stream_period_ns(&fake_backend, 0, 20 * MS_NS));
    pull(&f);
    assert_int_equal(state_of(&f), STREAM_STARTING);
    tear_down(&f);
}

static void test_idle_corks(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    play(&f, &dvd);
    stream_set_idle(f.stream, true, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.running, 0);
    assert_int_equal(fake.streams, 1);
    assert_int_equal(state_of(&f), STREAM_IDLE);
    /* Never announced, so nothing to say; and nothing to wake up for. */
    assert_true(stream_run(f.stream, f.now_ns + 10000 * MS_NS) == INT64_MAX);
    assert_int_equal(said_times(&f.said, "paused"), 0);

    stream_set_idle(f.stream, false, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.running, 1);
    assert_int_equal(fake.opens, 1);
    tear_down(&f);
}

/* A device that others may want is closed after half a minute of silence, and opened again with the next sound. */
static void test_idle_closes(void **state)
{
    (void)state;
    struct fixture f;
    set_up_with(&f, &fake_exclusive);
    f.said.log.verbose = true;
    assert_int_equal(stream_thread(f.stream), 0);
    play(&f, &dvd);
    assert_int_equal(stream_thread(f.stream), FAKE_THREAD);
    assert_int_equal(said_times(&f.said, "Fake plays it as 48 kHz, in the test."), 1);

    stream_set_idle(f.stream, true, f.now_ns);
    const int64_t due_ns = f.now_ns + 30000 * MS_NS;
    assert_true(stream_run(f.stream, f.now_ns) == due_ns);
    assert_true(stream_run(f.stream, due_ns - 1) == due_ns);
    assert_int_equal(fake.streams, 1);
    assert_true(stream_run(f.stream, due_ns) == INT64_MAX);
    assert_int_equal(fake.streams, 0);
    assert_int_equal(stream_thread(f.stream), 0);
    assert_int_equal(state_of(&f), STREAM_IDLE);
    assert_true(stream_run(f.stream, due_ns + 10000 * MS_NS) == INT64_MAX);

    stream_set_idle(f.stream, false, due_ns);
    stream_run(f.stream, due_ns);
    assert_int_equal(fake.running, 1);
    assert_int_equal(fake.opens, 2);

    /* Sound within the half minute, and it begins anew. */
    stream_set_idle(f.stream, true, due_ns);
    stream_run(f.stream, due_ns + 20000 * MS_NS);
    stream_set_idle(f.stream, false, due_ns + 20000 * MS_NS);
    stream_run(f.stream, due_ns + 20000 * MS_NS);
    stream_set_idle(f.stream, true, due_ns + 21000 * MS_NS);
    stream_run(f.stream, due_ns + 40000 * MS_NS);
    assert_int_equal(fake.streams, 1);
    tear_down(&f);
}

static void test_busy(void **state)
{
    (void)state;
    struct fixture f;
    set_up_with(&f, &fake_exclusive);
    fake.open_result = -EBUSY;
    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    int64_t next_ns = f.now_ns;
    for (unsigned i = 0; i < 10; i++)
        next_ns = stream_run(f.stream, next_ns);
    assert_int_equal(
        said_times(&f.said, "cannot play through Fake: another program is using the device. Trying again."), 1);
    assert_int_equal(state_of(&f), STREAM_NO_SERVER);
    fake.open_result = 0;
    stream_run(f.stream, next_ns);
    assert_int_equal(fake.running, 1);
    tear_down(&f);
}

static void test_open_fails(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    fake.open_result = -ENODEV;
    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    int64_t last_ns = f.now_ns, gap_ns = 0;
    for (unsigned i = 0; i < 10; i++) {
        int64_t next_ns = stream_run(f.stream, last_ns);
        assert_true(next_ns - last_ns >= gap_ns && next_ns - last_ns <= 1000 * MS_NS);
        gap_ns = next_ns - last_ns;
        last_ns = next_ns;
        /* Too early changes nothing. */
        assert_true(stream_run(f.stream, next_ns - 1) == next_ns);
    }
    assert_int_equal(fake.opens, 10);
    assert_int_equal(said_times(&f.said, "cannot play through Fake"), 1);
    assert_int_equal(state_of(&f), STREAM_NO_SERVER);

    fake.open_result = 0;
    fake.start_result = -EIO;
    last_ns = stream_run(f.stream, last_ns);
    assert_int_equal(fake.streams, 0); /* closed after a failed start */
    fake.start_result = 0;
    stream_run(f.stream, last_ns);
    assert_int_equal(fake.running, 1);
    assert_int_equal(said_times(&f.said, "plays again"), 1);
    assert_int_equal(state_of(&f), STREAM_STARTING);
    tear_down(&f);
}

static void test_stream_lost(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    play(&f, &dvd);
    fake.stream_state = BACKEND_NO_DEVICE;
    stream_run(f.stream, f.now_ns);
    assert_int_equal(state_of(&f), STREAM_NO_SERVER);
    assert_int_equal(fake.streams, 1);
    fake.stream_state = BACKEND_OK;
    stream_run(f.stream, f.now_ns);
    assert_int_equal(said_times(&f.said, "the output device is back"), 1);

    fake.stream_state = BACKEND_LOST;
    int64_t next_ns = stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.streams, 0);
    assert_true(next_ns > f.now_ns && next_ns <= f.now_ns + 1000 * MS_NS);
    stream_run(f.stream, next_ns);
    assert_int_equal(fake.running, 1);
    assert_int_equal(fake.opens, 2);
    tear_down(&f);
}

static void test_server_lost(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    play(&f, &dvd);
    stream_drop(f.stream);
    output_drop(f.output, f.now_ns);
    assert_true(stream_run(f.stream, f.now_ns) == INT64_MAX);
    assert_int_equal(state_of(&f), STREAM_NO_SERVER);
    assert_int_equal(fake.opens, 1);

    int64_t back_ns = output_run(f.output, f.now_ns);
    assert_true(output_run(f.output, back_ns) == INT64_MAX);
    stream_run(f.stream, back_ns);
    assert_int_equal(fake.running, 1);
    assert_int_equal(fake.opens, 2);
    tear_down(&f);
}

static void test_format_change(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    play(&f, &dvd);
    pull(&f);

    /* Another rate: the same node goes on. */
    play(&f, &cd);
    assert_int_equal(fake.opens, 1);
    assert_int_equal(fake.stops, 1);
    assert_int_equal(fake.running, 1);
    pull(&f);

    /* Other channels: another node. The last of two changes counts. */
    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    struct feed *last = new_feed(&surround);
    stream_set_feed(f.stream, last, 20 * MS_NS, f.now_ns);
    assert_true(stream_has_feed(f.stream, last));
    f.now_ns += 100 * MS_NS;
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.opens, 2);
    assert_int_equal(fake.streams, 1);
    assert_int_equal(fake.params.channels, 6);
    struct stream_status status;
    stream_get_status(f.stream, &status);
    assert_int_equal(status.format.channels, 6);
    pull(&f);
    tear_down(&f);
}

static void test_fade(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    play(&f, &dvd);
    pull(&f);
    stream_fade(f.stream);
    assert_true(stream_silent(f.stream)); /* nothing was sounding */
    assert_true(stream_run(f.stream, f.now_ns) == INT64_MAX);
    tear_down(&f);
}

static void test_period(void **state)
{
    (void)state;
    int64_t most_ns = INT64_C(5333333), chunk_ns = 20 * MS_NS;
    assert_true(stream_period_ns(&fake_backend, 0, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&fake_backend, 200 * MS_NS, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&fake_backend, 32 * MS_NS, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&fake_backend, 29 * MS_NS, chunk_ns) == 4 * MS_NS);
    assert_true(stream_period_ns(&fake_backend, 25 * MS_NS, chunk_ns) == 2 * MS_NS);
    /* What cannot be had plays as auto. */
    assert_true(stream_period_ns(&fake_backend, 23 * MS_NS, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&fake_backend, 1 * MS_NS, chunk_ns) == most_ns);
    struct backend slow = fake_backend;
    slow.period_ns = 10 * MS_NS;
    assert_true(stream_period_ns(&slow, 0, chunk_ns) == 10 * MS_NS);
    assert_true(stream_period_ns(&slow, 60 * MS_NS, chunk_ns) == 10 * MS_NS);
    assert_true(stream_period_ns(&slow, 37 * MS_NS, chunk_ns) == 8 * MS_NS);
    /* A buffer of its own takes its part of what is generous, and no more. */
    slow.own_period = true;
    assert_true(stream_period_ns(&slow, 0, chunk_ns) == 10 * MS_NS);
    assert_true(stream_period_ns(&slow, 101 * MS_NS, chunk_ns) == 10 * MS_NS);
    assert_true(stream_period_ns(&slow, 141 * MS_NS, chunk_ns) == 15 * MS_NS);
    assert_true(stream_period_ns(&slow, 1000 * MS_NS, chunk_ns) == INT64_C(1024) * 1000000000 / 48000);
}

static void test_latency_above_chunk(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    stream_destroy(f.stream);
    struct stream_params params = {
        .name = "Desk",
        .label = "x",
        .address = "x",
        .latency_above_chunk = true,
        .playout = {.quality = RESAMPLER_FASTEST, .latency_ns = 9 * MS_NS}
    };
    assert_int_equal(stream_create(&f.stream, &params, f.output, &f.said.log), 0);
    play(&f, &dvd);
    assert_true(fake.params.period_ns == 4 * MS_NS); /* as for -t 29 */
    tear_down(&f);
}

static int64_t device_delay(void)
{
    return fake.beyond_frames ? fake.beyond_frames + 2 * fake.params.period_ns * 48000 / INT64_C(1000000000) : 192;
}

/* The feed's guest (NULL: it is silent) and the device go on for `seconds`. */
static void sound(struct fixture *f, struct feed *feed, double seconds)
{
    static const uint8_t silence[960 * 4];
    const int64_t cycle_ns = 64 * INT64_C(1000000000) / 48000;
    const uint64_t cycles = (uint64_t)(seconds * 1e9 / (double)cycle_ns);
    for (uint64_t cycle = 0, sent = 0; cycle < cycles; cycle++, f->now_ns += cycle_ns) {
        for (; feed && sent * 20 * MS_NS <= cycle * (uint64_t)cycle_ns; sent++) {
            const struct block block = {
                .format = dvd, .data = silence, .frames = 960, .chunk_frames = 960, .arrival_ns = f->now_ns};
            feed_write(feed, &block, f->now_ns);
        }
        float buffer[64 * 2];
        const struct pull_time time = {.cycle_ns = f->now_ns,
                                       .position_frames = (int64_t)cycle * 64,
                                       .rate = 48000,
                                       .delay_frames = device_delay(),
                                       .clock_id = fake.opens};
        if (fake.running)
            fake.params.pull(fake.params.arg, buffer, 64, &time);
        if (cycle % 100 == 0)
            stream_run(f->stream, f->now_ns);
    }
}

/* A guest that falls silent is heard to the end of what it has said, and is corked then: without a cut, and if it was only
 * held up, without a gap. Who asks for nothing any more is not waited for. */
static void test_idle_plays_to_its_end(void **state)
{
    (void)state;
    for (int pulls = 0; pulls < 2; pulls++) {
        struct fixture f;
        set_up(&f);
        stream_tune(f.stream, 250 * MS_NS, 0, f.now_ns);
        struct feed *feed = new_feed(&dvd);
        stream_set_feed(f.stream, feed, 20 * MS_NS, f.now_ns);
        stream_run(f.stream, f.now_ns);
        sound(&f, feed, 3);
        sound(&f, NULL, 0.12);
        const int64_t idle_ns = f.now_ns;
        stream_set_idle(f.stream, true, idle_ns);
        assert_true(stream_run(f.stream, f.now_ns) <= f.now_ns + 20 * MS_NS);
        assert_int_equal(fake.running, 1);
        assert_int_equal(state_of(&f), STREAM_PLAYING);
        stream_set_idle(f.stream, false, f.now_ns);
        stream_run(f.stream, f.now_ns);
        assert_int_equal(fake.starts, 1);

        stream_set_idle(f.stream, true, f.now_ns);
        if (pulls)
            sound(&f, NULL, 0.15);
        else
            stream_run(f.stream, f.now_ns + 1500 * MS_NS);
        stream_run(f.stream, f.now_ns);
        assert_int_equal(fake.running, 0);
        assert_int_equal(state_of(&f), STREAM_IDLE);
        tear_down(&f);
    }
}

/* What cannot be had plays as auto, also with the period of auto: once, and as long as nothing else is asked for. */
static void test_period_of_auto(void **state)
{
    (void)state;
    struct fixture f;
    const int64_t auto_ns = stream_period_ns(&fake_exclusive, 0, 20 * MS_NS);
    set_up_with(&f, &fake_exclusive);
    stream_tune(f.stream, 24 * MS_NS, 0, f.now_ns);
    struct feed *feed = new_feed(&dvd);
    stream_set_feed(f.stream, feed, 20 * MS_NS, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_true(fake.params.period_ns < auto_ns / 2);
    sound(&f, feed, 10);
    assert_int_equal(fake.opens, 2);
    assert_true(fake.params.period_ns == auto_ns);
    assert_int_equal(state_of(&f), STREAM_PLAYING);
    assert_int_equal(said_times(&f.said, "-t 24 ms cannot be had"), 1);

    /* More is tried with the period that it asks for. This device has the same delay with any. */
    stream_tune(f.stream, 26 * MS_NS, 0, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.opens, 2); /* not in the middle of a sound: it fades first */
    assert_int_equal(fake.running, 1);
    sound(&f, feed, 0.5);
    assert_true(!stream_silent(f.stream));
    assert_int_equal(fake.opens, 3);
    assert_true(fake.params.period_ns == stream_period_ns(&fake_exclusive, 26 * MS_NS, 20 * MS_NS));
    sound(&f, feed, 10);
    assert_int_equal(fake.opens, 4);
    assert_true(fake.params.period_ns == auto_ns);
    assert_int_equal(said_times(&f.said, "-t 26 ms cannot be had"), 1);
    tear_down(&f);

    /* A graph's period is not the stream's. */
    set_up(&f);
    stream_tune(f.stream, 24 * MS_NS, 0, f.now_ns);
    feed = new_feed(&dvd);
    stream_set_feed(f.stream, feed, 20 * MS_NS, f.now_ns);
    stream_run(f.stream, f.now_ns);
    sound(&f, feed, 10);
    assert_int_equal(said_times(&f.said, "cannot be had"), 1);
    assert_int_equal(fake.opens, 1);
    double least_ms;
    const char *told = strstr(said_text(&f.said), "the least here is ");
    assert_non_null(told);
    assert_int_equal(sscanf(told, "the least here is %lf", &least_ms), 1);

    /* The least that is told can be had. */
    stream_tune(f.stream, llround(least_ms * 1e6), 0, f.now_ns);
    sound(&f, feed, 10);
    assert_int_equal(said_times(&f.said, "cannot be had"), 1);
    tear_down(&f);
}

/* Nor may the long period of a generous latency be why that cannot be had. */
static void test_period_too_long(void **state)
{
    (void)state;
    struct fixture f;
    const int64_t auto_ns = stream_period_ns(&fake_exclusive, 0, 20 * MS_NS);
    set_up_with(&f, &fake_exclusive);
    stream_tune(f.stream, 200 * MS_NS, 0, f.now_ns);
    struct feed *feed = new_feed(&dvd);
    stream_set_feed(f.stream, feed, 20 * MS_NS, f.now_ns);
    fake.beyond_frames = 48 * 150;
    stream_run(f.stream, f.now_ns);
    assert_true(fake.params.period_ns > 3 * auto_ns);
    sound(&f, feed, 20);
    assert_int_equal(fake.opens, 2);
    assert_true(fake.params.period_ns == auto_ns);
    assert_int_equal(said_times(&f.said, "cannot be had"), 0);
    struct stream_status status;
    stream_get_status(f.stream, &status);
    assert_int_equal(status.state, STREAM_PLAYING);
    assert_in_range(status.stats.total_ns, 199 * MS_NS, 201 * MS_NS);

    fake.beyond_frames = 48 * 190;
    sound(&f, feed, 3);
    assert_int_equal(fake.opens, 2);
    assert_int_equal(said_times(&f.said, "-t 200 ms cannot be had"), 1);
    tear_down(&f);
}

/* A stream that rests keeps its place in the mixer, whatever period it will want. */
static void test_tune_while_idle(void **state)
{
    (void)state;
    struct fixture f;
    struct backend shared = fake_exclusive;
    shared.holds_device = false;
    set_up_with(&f, &shared);
    stream_tune(f.stream, 200 * MS_NS, 0, f.now_ns);
    play(&f, &dvd);
    stream_set_idle(f.stream, true, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.running, 0);
    stream_tune(f.stream, 30 * MS_NS, 0, f.now_ns);
    assert_true(stream_run(f.stream, f.now_ns + 60000 * MS_NS) == INT64_MAX);
    assert_int_equal(fake.streams, 1);
    assert_int_equal(fake.opens, 1);
    stream_set_idle(f.stream, false, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.opens, 2);
    assert_int_equal(fake.running, 1);
    assert_true(fake.params.period_ns == stream_period_ns(&shared, 30 * MS_NS, 20 * MS_NS));
    tear_down(&f);
}

/* Another latency reaches what plays, what is opened later, and the device's period, where that can be changed. */
static void test_tune(void **state)
{
    (void)state;
    struct fixture f;
    int64_t latency_ns, max_ns;
    set_up(&f);
    stream_get_latency(f.stream, &latency_ns, &max_ns);
    assert_true(latency_ns == 0 && max_ns == 0);
    stream_tune(f.stream, 40 * MS_NS, 100 * MS_NS, f.now_ns); /* nothing plays yet */
    stream_get_latency(f.stream, &latency_ns, &max_ns);
    assert_true(latency_ns == 40 * MS_NS && max_ns == 100 * MS_NS);
    assert_int_equal(fake.asked_periods, 0);

    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_true(fake.params.period_ns == stream_period_ns(&fake_backend, 40 * MS_NS, 20 * MS_NS));
    stream_tune(f.stream, 25 * MS_NS, 100 * MS_NS, f.now_ns);
    assert_int_equal(fake.asked_periods, 1);
    assert_true(fake.asked_ns == stream_period_ns(&fake_backend, 25 * MS_NS, 20 * MS_NS));
    assert_true(fake.asked_ns < stream_period_ns(&fake_backend, 40 * MS_NS, 20 * MS_NS));
    /* A longer one would want more than is there: it comes when the stream is opened again. */
    stream_tune(f.stream, 100 * MS_NS, 100 * MS_NS, f.now_ns);
    assert_int_equal(fake.asked_periods, 1);
    stream_tune(f.stream, 25 * MS_NS, 100 * MS_NS, f.now_ns);
    assert_int_equal(fake.asked_periods, 1);
    assert_int_equal(fake.opens, 1);
    assert_int_equal(fake.stops, 0);

    /* It lasts: the server comes back, the guest changes its format. */
    stream_drop(f.stream);
    stream_set_feed(f.stream, new_feed(&surround), 20 * MS_NS, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.opens, 2);
    assert_true(fake.params.period_ns == stream_period_ns(&fake_backend, 25 * MS_NS, 20 * MS_NS));
    tear_down(&f);

    /* A backend that cannot change its period is not asked: it is opened anew, where there is no other way. */
    set_up_with(&f, &fake_exclusive);
    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    stream_run(f.stream, f.now_ns);
    stream_tune(f.stream, 60 * MS_NS, 0, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.opens, 1);
    stream_tune(f.stream, 26 * MS_NS, 0, f.now_ns);
    stream_run(f.stream, f.now_ns);
    assert_int_equal(fake.opens, 2);
    assert_int_equal(fake.asked_periods, 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_opens_with_first_feed),
        cmocka_unit_test(test_idle_corks),
        cmocka_unit_test(test_idle_closes),
        cmocka_unit_test(test_idle_plays_to_its_end),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_stream_lost),
        cmocka_unit_test(test_server_lost),
        cmocka_unit_test(test_format_change),
        cmocka_unit_test(test_fade),
        cmocka_unit_test(test_period),
        cmocka_unit_test(test_latency_above_chunk),
        cmocka_unit_test(test_period_of_auto),
        cmocka_unit_test(test_period_too_long),
        cmocka_unit_test(test_tune_while_idle),
        cmocka_unit_test(test_tune),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
