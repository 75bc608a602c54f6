/* SPDX-License-Identifier: MIT
 *
 * A stream of the PulseAudio backend: the pull, and what happens to it. See pulse.c for who may do what.
 */
#include "backends/pulse.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S           INT64_C(1000000000)
#define NO_DEVICE_GRACE_MS 700 /* a sink that resumes or a stream that is moved is without a device for a moment */
#define SETTLE_MS          500 /* PipeWire's session manager loses a stream that is made anew while it is being moved */
#define TIMING_NS          (NS_PER_S / 10)
#define RECONNECTS_MAX     4 /* to get at a sink's rate, for one open() or move */

static void notify(const struct backend_context *context)
{
    const uint64_t one = 1;
    /* An eventfd write fails only when the counter is full: then main is about to look anyway. */
    if (write(context->event_fd, &one, sizeof one) < 0)
        return;
}

void pulse_set_state(struct backend_context *context, atomic_int *state, enum backend_state value)
{
    if (atomic_exchange(state, (int)value) != (int)value)
        notify(context);
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Without overflow for any time. */
static int64_t ns_to_frames(int64_t ns, uint32_t rate)
{
    return ns / NS_PER_S * rate + ns % NS_PER_S * rate / NS_PER_S;
}

static void cancel(pa_operation **operation)
{
    if (*operation) {
        pa_operation_cancel(*operation);
        pa_operation_unref(*operation);
    }
    *operation = NULL;
}

static void finished(pa_operation **operation)
{
    if (*operation)
        pa_operation_unref(*operation);
    *operation = NULL;
}

void pulse_forget(pa_operation *operation)
{
    if (operation)
        pa_operation_unref(operation);
}

/* ---- the pull, [loop] ---- */

static void on_timing(pa_stream *stream, int success, void *arg);

static void ask_timing(struct backend_stream *s)
{
    if (!s->timing)
        s->timing = pa_stream_update_timing_info(s->stream, on_timing, s);
}

/* The device stands elsewhere from now on, and where is not known before the server says so. */
static void lose_position(struct backend_stream *s)
{
    cancel(&s->timing);
    pulse_clock_reset(&s->clock, s->rate);
    s->restarted = true;
}

/* Pulls `frames` into the server's own memory. Returns how many there was room for at once; 0: none. */
static uint32_t pull_period(struct backend_stream *s, uint32_t frames, uint32_t skip)
{
    void *data = NULL;
    size_t bytes = (size_t)frames * s->frame_bytes;
    if (pa_stream_begin_write(s->stream, &data, &bytes) < 0 || !data)
        return 0;
    if (bytes < (size_t)frames * s->frame_bytes)
        frames = (uint32_t)(bytes / s->frame_bytes);
    if (frames == 0) {
        pa_stream_cancel_write(s->stream);
        return 0;
    }
    s->written += skip;
    struct pull_time time = {
        .cycle_ns = pulse_clock_heard_ns(&s->clock, s->written) - s->lead.frames * NS_PER_S / s->rate,
        .position_frames = s->position,
        .rate = s->rate,
        .delay_frames = s->lead.frames,
        .clock_id = pa_stream_get_device_index(s->stream),
        .flags = PULL_COARSE,
    };
    if (s->restarted || skip > 0) {
        /* The queue's read index stands still or goes back at times, and is another one after a pause or a move. The
         * device's time goes on, and so does its position. */
        time.position_frames = s->last_position + ns_to_frames(time.cycle_ns - s->last_ns, s->rate);
        time.flags |= PULL_DISCONTINUITY;
    }
    s->restarted = false;
    s->last_ns = time.cycle_ns;
    s->last_position = time.position_frames;
    s->position = time.position_frames + frames;
    s->pull(s->arg, data, frames, &time);
    pa_stream_write(s->stream, data, (size_t)frames * s->frame_bytes, NULL, (int64_t)skip * s->frame_bytes,
                    PA_SEEK_RELATIVE);
    s->written += frames;
    return frames;
}

/* Writes what the queue lacks, period by period. The position that goes with each is that of the line at which the
 * device takes periods one after the other, each `lead` before it is heard: requests that come late, or for several
 * periods, look to the pull like a device on time whose callback is late. */
static void fill(struct backend_stream *s)
{
    const size_t room = pa_stream_writable_size(s->stream);
    if (!s->running || !atomic_load(&s->open) || s->clock.at_ns == 0 || room == (size_t)-1)
        return;
    const int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    const int64_t late = pulse_clock_frame(&s->clock, now_ns) - s->written;
    uint32_t lacks = (uint32_t)(room / s->frame_bytes);
    uint32_t missed = lacks > s->queue_frames ? lacks - s->queue_frames : 0;
    if (late > missed) /* and more requests have yet to be read */
        missed = late < lacks ? (uint32_t)late : lacks;
    lacks -= missed;
    if (lacks == 0)
        return;

    const uint32_t periods = (lacks + s->period_frames / 2) / s->period_frames;
    const uint32_t last = periods > 1 ? lacks / periods : lacks;
    const int64_t ahead_ns = pulse_clock_heard_ns(&s->clock, s->written + missed + lacks - last) - now_ns;
    if (pulse_lead_follow(&s->lead, ns_to_frames(ahead_ns, s->rate), s->rate, now_ns))
        s->restarted = true;

    uint32_t skip = missed;
    for (uint32_t left = periods > 1 ? periods : 1; lacks > 0 && atomic_load(&s->open); left -= left > 1) {
        const uint32_t done = pull_period(s, lacks / left, skip);
        if (done == 0)
            return;
        lacks -= done;
        skip = 0;
    }
    /* Asked after a request, the server answers at the same point of its cycle each time. */
    if (now_ns - s->clock.at_ns >= TIMING_NS)
        ask_timing(s);
}

/* Where the server plays. It answers on CLOCK_REALTIME, which only its age is taken from. */
static void on_timing(pa_stream *stream, int success, void *arg)
{
    struct backend_stream *s = arg;
    finished(&s->timing);
    const pa_timing_info *info = success ? pa_stream_get_timing_info(stream) : NULL;
    if (!s->running || !info || info->read_index_corrupt || info->write_index_corrupt)
        return; /* the next request asks again */

    const int64_t age_ns = clock_ns(CLOCK_REALTIME) -
                           ((int64_t)info->timestamp.tv_sec * NS_PER_S + (int64_t)info->timestamp.tv_usec * 1000);
    if (age_ns < 0 || age_ns > NS_PER_S)
        return; /* somebody set the clock */
    const double heard =
        (double)info->read_index / s->frame_bytes - (double)info->sink_usec * s->rate / (double)PA_USEC_PER_SEC;
    const enum pulse_verdict verdict = pulse_clock_answer(&s->clock, clock_ns(CLOCK_MONOTONIC) - age_ns, heard);
    if (verdict == PULSE_DOUBTED)
        return;
    if (verdict == PULSE_JUMPED)
        s->restarted = true;
    s->written = info->write_index / s->frame_bytes;
    fill(s);
}

/* The server's queue lacks something. Before the first of these after a start nothing is known of where it plays. */
static void on_request(pa_stream *stream, size_t bytes, void *arg)
{
    struct backend_stream *s = arg;
    (void)stream, (void)bytes;
    if (!s->running)
        return;
    if (s->clock.at_ns == 0)
        ask_timing(s);
    else
        fill(s);
}

/* ---- a stream's life, [loop] and [main] ---- */

static bool without_device(const struct backend_stream *s)
{
    const char *device = pa_stream_get_device_name(s->stream);
    return pa_stream_is_suspended(s->stream) > 0 || (device && strcmp(device, PULSE_DUMMY_SINK) == 0);
}

static void end_timer(const struct backend_stream *s, pa_time_event **timer)
{
    if (*timer)
        pa_threaded_mainloop_get_api(s->context->loop)->time_free(*timer);
    *timer = NULL;
}

static void on_grace_over(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    struct backend_stream *s = arg;
    (void)api, (void)event, (void)when;
    end_timer(s, &s->grace);
    if (s->started && s->ready && without_device(s) && atomic_load(&s->state) == BACKEND_OK)
        pulse_set_state(s->context, &s->state, BACKEND_NO_DEVICE);
}

static void update_state(struct backend_stream *s)
{
    if (atomic_load(&s->state) == BACKEND_LOST)
        return;
    if (!s->started || !s->ready || !without_device(s)) {
        end_timer(s, &s->grace);
        pulse_set_state(s->context, &s->state, BACKEND_OK);
    } else if (!s->grace) {
        s->grace = pa_context_rttime_new(s->context->context,
                                         pa_rtclock_now() + NO_DEVICE_GRACE_MS * PA_USEC_PER_MSEC, on_grace_over, s);
    }
}

/* It cannot go on: main hears of it. */
static void lose(struct backend_stream *s, int error)
{
    s->error = error != 0 ? error : -ENODEV;
    s->ready = s->running = false;
    pulse_set_state(s->context, &s->state, BACKEND_LOST);
    pa_threaded_mainloop_signal(s->context->loop, 0);
}

static void on_uncorked(pa_stream *stream, int success, void *arg)
{
    struct backend_stream *s = arg;
    (void)stream;
    finished(&s->cork);
    s->running = success && s->started;
}

static void uncork(struct backend_stream *s)
{
    lose_position(s);
    cancel(&s->cork);
    s->cork = pa_stream_cork(s->stream, 0, on_uncorked, s);
}

/* What is still queued would be heard, stale, when it plays again. */
static void cork(struct backend_stream *s)
{
    s->running = false;
    lose_position(s);
    cancel(&s->cork);
    pulse_forget(pa_stream_cork(s->stream, 1, NULL, NULL));
    pulse_forget(pa_stream_flush(s->stream, NULL, NULL));
}

/* What the server granted. */
static void read_attributes(struct backend_stream *s)
{
    const pa_buffer_attr *granted = pa_stream_get_buffer_attr(s->stream);
    if (granted)
        s->queue_frames = granted->tlength / s->frame_bytes;
}

void pulse_stream_disconnect(struct backend_stream *s)
{
    s->ready = s->running = false;
    end_timer(s, &s->grace);
    end_timer(s, &s->settle);
    cancel(&s->sink);
    cancel(&s->timing);
    cancel(&s->cork);
    if (!s->stream)
        return;
    pa_stream_set_state_callback(s->stream, NULL, NULL);
    pa_stream_set_write_callback(s->stream, NULL, NULL);
    pa_stream_set_moved_callback(s->stream, NULL, NULL);
    pa_stream_set_suspended_callback(s->stream, NULL, NULL);
    pa_stream_set_buffer_attr_callback(s->stream, NULL, NULL);
    pa_stream_disconnect(s->stream);
    pa_stream_unref(s->stream);
    s->stream = NULL;
}

static void make_stream(struct backend_stream *s);

static void connected(struct backend_stream *s)
{
    s->reconnects = 0;
    s->ready = true;
    read_attributes(s);
    if (s->started)
        uncork(s);
    update_state(s);
    pa_threaded_mainloop_signal(s->context->loop, 0);
}

/* Makes the stream anew at the rate of the sink that it plays to; that need not be the one where it was opened. */
static void follow_rate(struct backend_stream *s, const pa_sink_info *info)
{
    if (s->ready) {
        char *target = strdup(info->name);
        if (!target)
            return;
        free(s->target);
        s->target = target;
    }
    pulse_stream_disconnect(s);
    s->rate = info->sample_spec.rate;
    make_stream(s);
}

/* The sink that the stream plays to. A sink that goes on changing its mind is left to the server's resampler. */
static void on_sink(pa_context *context, const pa_sink_info *info, int end, void *arg)
{
    struct backend_stream *s = arg;
    (void)context;
    if (end) {
        finished(&s->sink);
        if (end < 0 && !s->ready)
            lose(s, -ENODEV);
    } else if (info->sample_spec.rate != s->rate && s->reconnects < RECONNECTS_MAX) {
        s->reconnects++;
        follow_rate(s, info);
    } else if (!s->ready) {
        connected(s);
    }
}

static void ask_sink(struct backend_stream *s)
{
    cancel(&s->sink);
    s->sink =
        pa_context_get_sink_info_by_index(s->context->context, pa_stream_get_device_index(s->stream), on_sink, s);
}

static void on_settled(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    struct backend_stream *s = arg;
    (void)api, (void)event, (void)when;
    end_timer(s, &s->settle);
    if (s->ready)
        ask_sink(s);
}

void pulse_stream_check_rate(struct backend_stream *s)
{
    if (!s->settle)
        s->settle = pa_context_rttime_new(s->context->context, pa_rtclock_now() + SETTLE_MS * PA_USEC_PER_MSEC,
                                          on_settled, s);
}

static void on_stream_state(pa_stream *stream, void *arg)
{
    struct backend_stream *s = arg;
    const pa_stream_state_t state = pa_stream_get_state(stream);
    if (state == PA_STREAM_READY)
        ask_sink(s);
    else if (!PA_STREAM_IS_GOOD(state)) /* killed in a mixer, or the server is gone */
        lose(s, pulse_error(pa_context_errno(s->context->context)));
}

static void on_moved(pa_stream *stream, void *arg)
{
    struct backend_stream *s = arg;
    (void)stream;
    lose_position(s);
    read_attributes(s);
    pulse_stream_check_rate(s);
    update_state(s);
}

static void on_suspended(pa_stream *stream, void *arg)
{
    struct backend_stream *s = arg;
    lose_position(s);
    if (s->running && pa_stream_is_suspended(stream) == 0)
        pulse_forget(pa_stream_flush(stream, NULL, NULL)); /* as old as the suspension */
    update_state(s);
}

static void on_attributes(pa_stream *stream, void *arg)
{
    (void)stream;
    read_attributes(arg);
}

static pa_proplist *stream_properties(const struct backend_stream *s)
{
    pa_proplist *proplist = pa_proplist_new();
    if (!proplist)
        return NULL;
    /* What the mixer remembers it by. No media.role: all streams of a role would share one volume. */
    static const char *const keys[] = {PA_PROP_MEDIA_NAME, PA_PROP_APPLICATION_NAME, PA_PROP_APPLICATION_ID,
                                       "node.name"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        pa_proplist_sets(proplist, keys[i], s->name);
    pa_proplist_sets(proplist, "node.description", s->description);
    return proplist;
}

static int begin_stream(struct backend_stream *s)
{
    pa_context *context = s->context->context;
    pa_proplist *proplist = stream_properties(s);
    if (!proplist)
        return -ENOMEM;
    const pa_sample_spec spec = {.format = PA_SAMPLE_FLOAT32NE, .rate = s->rate, .channels = s->map.channels};
    s->stream = pa_stream_new_with_proplist(context, s->name, &spec, &s->map, proplist);
    pa_proplist_free(proplist);
    if (!s->stream)
        return pulse_error(pa_context_errno(context));
    pa_stream_set_state_callback(s->stream, on_stream_state, s);
    pa_stream_set_write_callback(s->stream, on_request, s);
    pa_stream_set_moved_callback(s->stream, on_moved, s);
    pa_stream_set_suspended_callback(s->stream, on_suspended, s);
    pa_stream_set_buffer_attr_callback(s->stream, on_attributes, s);

    struct pulse_buffer buffer;
    pulse_buffer_choose(&buffer, s->period_ns, s->rate);
    s->period_frames = buffer.request;
    const pa_buffer_attr attributes = {
        .maxlength = UINT32_MAX,
        .tlength = buffer.total * s->frame_bytes,
        .minreq = buffer.request * s->frame_bytes,
        .prebuf = 0,
        .fragsize = UINT32_MAX,
    };
    lose_position(s);
    s->lead = (struct pulse_lead){0};
    /* No PA_STREAM_FIX_RATE: PipeWire 0.3.65 takes another rate of its own accord then, and tells nobody. */
    if (pa_stream_connect_playback(s->stream, s->target, &attributes,
                                   PA_STREAM_START_CORKED | PA_STREAM_ADJUST_LATENCY, NULL, NULL) < 0)
        return pulse_error(pa_context_errno(context));
    return 0;
}

static void make_stream(struct backend_stream *s)
{
    const int rc = begin_stream(s);
    if (rc < 0)
        lose(s, rc);
}

/* The sink that the stream will probably play to, unless the server remembers another one for it. */
static void on_first_sink(pa_context *context, const pa_sink_info *info, int end, void *arg)
{
    struct backend_stream *s = arg;
    (void)context;
    if (!end) {
        s->rate = info->sample_spec.rate;
        return;
    }
    finished(&s->sink);
    if (s->rate == 0)
        lose(s, -ENODEV);
    else
        make_stream(s);
}

void pulse_stream_connect(struct backend_stream *s)
{
    s->sink = pa_context_get_sink_info_by_name(s->context->context, s->target ? s->target : "@DEFAULT_SINK@",
                                               on_first_sink, s);
    if (!s->sink)
        lose(s, pulse_error(pa_context_errno(s->context->context)));
}

void pulse_stream_set_started(struct backend_stream *s, bool started)
{
    s->started = started;
    s->running = false;
    atomic_store(&s->open, started);
    if (s->ready && started) {
        uncork(s);
        pulse_stream_check_rate(s); /* while it was corked the sink may have got another one */
    } else if (s->ready) {
        cork(s);
    }
    update_state(s);
}
