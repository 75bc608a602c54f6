/* SPDX-License-Identifier: MIT
 *
 * Output and stream against a backend that fails as it is told, in a time that the test makes.
 */
#include "receiver/stream.h"
#include "tests/unit/said.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS_NS INT64_C(1000000)

/* What the fake is told, and what was done to it. One at a time: cmocka runs one test after the other. */
struct fake {
    int probe_result, context_result, open_result, start_result;
    enum backend_state context_state, stream_state;
    unsigned contexts, streams, running; /* that exist, that run */
    unsigned opens, starts, stops, asked_periods;
    int64_t asked_ns;                    /* the last of them */
    struct backend_stream_params params; /* of the last open */
};

static struct fake fake;

static int fake_probe(const struct backend_context_params *params)
{
    (void)params;
    return fake.probe_result;
}

static int fake_context_open(struct backend_context **context, const struct backend_context_params *params)
{
    assert_true(params->event_fd >= 0);
    if (fake.context_result < 0)
        return fake.context_result;
    fake.contexts++;
    fake.context_state = BACKEND_OK;
    *context = (struct backend_context *)&fake.contexts;
    return 0;
}

static enum backend_state fake_context_state(struct backend_context *context)
{
    assert_ptr_equal(context, &fake.contexts);
    return fake.context_state;
}

static void fake_context_close(struct backend_context *context)
{
    if (!context)
        return;
    assert_int_equal(fake.streams, 0);
    fake.contexts--;
}

static int fake_open(struct backend_context *context, struct backend_stream_params *params,
                     struct backend_stream **stream)
{
    assert_ptr_equal(context, &fake.contexts);
    fake.opens++;
    if (fake.open_result < 0)
        return fake.open_result;
    fake.params = *params;
    fake.streams++;
    fake.stream_state = BACKEND_OK;
    *stream = (struct backend_stream *)&fake.streams;
    return 0;
}

static int fake_start(struct backend_stream *stream)
{
    assert_ptr_equal(stream, &fake.streams);
    if (fake.start_result < 0)
        return fake.start_result;
    fake.starts++;
    fake.running++;
    return 0;
}

static void fake_stop(struct backend_stream *stream)
{
    assert_ptr_equal(stream, &fake.streams);
    assert_int_equal(fake.running, 1);
    fake.running--;
    fake.stops++;
}

static enum backend_state fake_state(struct backend_stream *stream)
{
    assert_ptr_equal(stream, &fake.streams);
    return fake.stream_state;
}

static void fake_close(struct backend_stream *stream)
{
    if (!stream)
        return;
    assert_int_equal(fake.running, 0);
    fake.streams--;
}

static void fake_ask_period(struct backend_stream *stream, int64_t period_ns)
{
    assert_ptr_equal(stream, &fake.streams);
    fake.asked_periods++;
    fake.asked_ns = period_ns;
}

#define FAKE(a_name, automatic)                                                                                      \
    {                                                                                                                \
        .name = a_name, .title = "Fake", .for_auto = automatic, .probe = fake_probe,                                 \
        .context_open = fake_context_open, .context_state = fake_context_state, .context_close = fake_context_close, \
        .open = fake_open, .start = fake_start, .stop = fake_stop, .state = fake_state, .close = fake_close,         \
        .ask_period = fake_ask_period                                                                                \
    }
static const struct backend backend = FAKE("fake", true);
static const struct backend manual = FAKE("manual", false);

#define FAKE_THREAD 4711

static void fake_info(struct backend_stream *stream, struct backend_info *info)
{
    assert_ptr_equal(stream, &fake.streams);
    *info = (struct backend_info){.text = "48 kHz, in the test", .thread = FAKE_THREAD};
}

/* One that nobody else can play through meanwhile. */
static const struct backend exclusive = {
    .name = "exclusive",
    .title = "Fake",
    .holds_device = true,
    .probe = fake_probe,
    .context_open = fake_context_open,
    .context_state = fake_context_state,
    .context_close = fake_context_close,
    .open = fake_open,
    .start = fake_start,
    .stop = fake_stop,
    .state = fake_state,
    .close = fake_close,
    .info = fake_info,
};

struct fixture {
    struct said said;
    struct output *output;
    struct stream *stream;
    int64_t now_ns;
};

static const struct pcm_format dvd = {.rate = 48000, .bits = 16, .channels = 2, .mask = 3};
static const struct pcm_format cd = {.rate = 44100, .bits = 16, .channels = 2, .mask = 3};
static const struct pcm_format surround = {.rate = 48000, .bits = 16, .channels = 6, .mask = 0x3f};

static struct feed *new_feed(const struct pcm_format *format)
{
    struct feed *feed;
    assert_int_equal(feed_create(&feed, format, SOURCE_SHM), 0);
    return feed;
}

static void set_up_output(struct fixture *f, const struct backend *chosen, const struct backend *const *choices)
{
    memset(f, 0, sizeof(*f));
    memset(&fake, 0, sizeof(fake));
    said_open(&f->said);
    struct output_params params = {.backend = chosen, .auto_choices = choices, .log = &f->said.log};
    assert_int_equal(output_create(&f->output, &params), 0);
    f->now_ns = 1000000 * MS_NS;
}

static void set_up_with(struct fixture *f, const struct backend *chosen)
{
    set_up_output(f, chosen, NULL);
    assert_true(output_run(f->output, f->now_ns) == INT64_MAX);
    struct stream_params params = {.name = "Desk",
                                   .label = "10.0.0.1",
                                   .address = "10.0.0.1",
                                   .kind = SOURCE_UDP,
                                   .playout = {.quality = RESAMPLER_FASTEST}};
    assert_int_equal(stream_create(&f->stream, &params, f->output, &f->said.log), 0);
}

static void set_up(struct fixture *f)
{
    set_up_with(f, &backend);
}

static void tear_down(struct fixture *f)
{
    stream_destroy(f->stream);
    output_destroy(f->output);
    said_close(&f->said);
    assert_int_equal(fake.streams, 0);
    assert_int_equal(fake.contexts, 0);
}

/* Gives the stream a feed, and lets it take that up. */
static void play(struct fixture *f, const struct pcm_format *format)
{
    stream_set_feed(f->stream, new_feed(format), 20 * MS_NS, f->now_ns);
    stream_run(f->stream, f->now_ns);
}

static enum stream_state state_of(struct fixture *f)
{
    struct stream_status status;
    stream_get_status(f->stream, &status);
    return status.state;
}

static void pull(struct fixture *f)
{
    float buffer[256 * 8];
    struct pull_time time = {.cycle_ns = f->now_ns, .rate = 48000, .clock_id = 1};
    fake.params.pull(fake.params.arg, buffer, 256, &time);
}

static void test_auto(void **state)
{
    (void)state;
    static const struct backend *const choices[] = {&manual, &backend, NULL};
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
    assert_ptr_equal(output_backend(f.output), &backend);
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
    assert_true(fake.params.period_ns == stream_period_ns(&backend, 0, 20 * MS_NS));
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
    set_up_with(&f, &exclusive);
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
    set_up_with(&f, &exclusive);
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
    assert_true(stream_period_ns(&backend, 0, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&backend, 200 * MS_NS, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&backend, 32 * MS_NS, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&backend, 29 * MS_NS, chunk_ns) == 4 * MS_NS);
    assert_true(stream_period_ns(&backend, 25 * MS_NS, chunk_ns) == 2 * MS_NS);
    /* What cannot be had plays as auto. */
    assert_true(stream_period_ns(&backend, 23 * MS_NS, chunk_ns) == most_ns);
    assert_true(stream_period_ns(&backend, 1 * MS_NS, chunk_ns) == most_ns);
    struct backend slow = backend;
    slow.period_ns = 10 * MS_NS;
    assert_true(stream_period_ns(&slow, 0, chunk_ns) == 10 * MS_NS);
    assert_true(stream_period_ns(&slow, 60 * MS_NS, chunk_ns) == 10 * MS_NS);
    assert_true(stream_period_ns(&slow, 37 * MS_NS, chunk_ns) == 8 * MS_NS);
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
    assert_true(fake.params.period_ns == stream_period_ns(&backend, 40 * MS_NS, 20 * MS_NS));
    stream_tune(f.stream, 25 * MS_NS, 100 * MS_NS, f.now_ns);
    assert_int_equal(fake.asked_periods, 1);
    assert_true(fake.asked_ns == stream_period_ns(&backend, 25 * MS_NS, 20 * MS_NS));
    assert_true(fake.asked_ns < stream_period_ns(&backend, 40 * MS_NS, 20 * MS_NS));
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
    assert_true(fake.params.period_ns == stream_period_ns(&backend, 25 * MS_NS, 20 * MS_NS));
    tear_down(&f);

    /* A backend that cannot change its period is not asked; the old -t's way of counting ends. */
    set_up_with(&f, &exclusive);
    stream_set_feed(f.stream, new_feed(&dvd), 20 * MS_NS, f.now_ns);
    stream_run(f.stream, f.now_ns);
    stream_tune(f.stream, 60 * MS_NS, 0, f.now_ns);
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
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_stream_lost),
        cmocka_unit_test(test_server_lost),
        cmocka_unit_test(test_format_change),
        cmocka_unit_test(test_fade),
        cmocka_unit_test(test_period),
        cmocka_unit_test(test_latency_above_chunk),
        cmocka_unit_test(test_tune),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
