/* SPDX-License-Identifier: MIT */
#include "tests/unit/stream_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fake fake;

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
const struct backend fake_backend = FAKE("fake", true);
const struct backend fake_manual = FAKE("manual", false);

static void fake_info(struct backend_stream *stream, struct backend_info *info)
{
    assert_ptr_equal(stream, &fake.streams);
    *info = (struct backend_info){.text = "48 kHz, in the test", .thread = FAKE_THREAD};
}

const struct backend fake_exclusive = {
    .name = "exclusive",
    .title = "Fake",
    .holds_device = true,
    .own_period = true,
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

const struct pcm_format dvd = {.rate = 48000, .bits = 16, .channels = 2, .mask = 3};
const struct pcm_format cd = {.rate = 44100, .bits = 16, .channels = 2, .mask = 3};
const struct pcm_format surround = {.rate = 48000, .bits = 16, .channels = 6, .mask = 0x3f};

struct feed *new_feed(const struct pcm_format *format)
{
    struct feed *feed;
    assert_int_equal(feed_create(&feed, format, SOURCE_SHM), 0);
    return feed;
}

void set_up_output(struct fixture *f, const struct backend *chosen, const struct backend *const *choices)
{
    memset(f, 0, sizeof(*f));
    memset(&fake, 0, sizeof(fake));
    said_open(&f->said);
    struct output_params params = {.backend = chosen, .auto_choices = choices, .log = &f->said.log};
    assert_int_equal(output_create(&f->output, &params), 0);
    f->now_ns = 1000000 * MS_NS;
}

void set_up_with(struct fixture *f, const struct backend *chosen)
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

void set_up(struct fixture *f)
{
    set_up_with(f, &fake_backend);
}

void tear_down(struct fixture *f)
{
    stream_destroy(f->stream);
    output_destroy(f->output);
    said_close(&f->said);
    assert_int_equal(fake.streams, 0);
    assert_int_equal(fake.contexts, 0);
}

void play(struct fixture *f, const struct pcm_format *format)
{
    stream_set_feed(f->stream, new_feed(format), 20 * MS_NS, f->now_ns);
    stream_run(f->stream, f->now_ns);
}

enum stream_state state_of(struct fixture *f)
{
    struct stream_status status;
    stream_get_status(f->stream, &status);
    return status.state;
}

void pull(struct fixture *f)
{
    float buffer[256 * 8];
    struct pull_time time = {.cycle_ns = f->now_ns, .rate = 48000, .clock_id = 1};
    fake.params.pull(fake.params.arg, buffer, 256, &time);
}
