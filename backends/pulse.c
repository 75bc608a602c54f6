/* SPDX-License-Identifier: MIT
 *
 * PulseAudio, also the one inside PipeWire, through one stream per guest. All streams of a process share one
 * connection and one thread, libpulse's threaded main loop.
 *
 * Threads: that loop [loop] holds the main loop's lock while it runs our callbacks, of which fill() is the one that
 * pulls; [main] holds it around every call into the library. So whoever has the lock knows that no pull is running.
 *
 * The stream is a queue in the server that runs on whether we write or not (prebuf 0): what is not there in time is
 * silence, and what comes for it later is skipped here, so that a frame's place in time never changes. With each
 * request the server says how many frames its queue lacks; a request larger than the queue tells what was missed.
 *
 * Each stream is opened at its sink's rate, or the server would resample after us. Where the sink turns out to have
 * another one, or gets another one, or the stream is moved to such a sink, the stream is made anew at that rate.
 */
#include "backends/pulse.h"

#include "backends/pulse_map.h"
#include "backends/registry.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S INT64_C(1000000000)
#define PERIOD_NS                                                                                                    \
    (15 * NS_PER_S / 1000) /* the server's own thread that hands on what we write is no real-time thread */
#define PRIORITY 15

/* ---- the context ---- */

static void on_context_state(pa_context *pulse, void *arg)
{
    struct backend_context *context = arg;
    if (!PA_CONTEXT_IS_GOOD(pa_context_get_state(pulse)))
        pulse_set_state(context, &context->state, BACKEND_LOST);
    pa_threaded_mainloop_signal(context->loop, 0);
}

/* A sink that changes may have changed its rate. */
static void on_event(pa_context *pulse, pa_subscription_event_type_t type, uint32_t index, void *arg)
{
    struct backend_context *context = arg;
    (void)pulse;
    if ((type & PA_SUBSCRIPTION_EVENT_TYPE_MASK) != PA_SUBSCRIPTION_EVENT_CHANGE)
        return;
    for (struct backend_stream *s = context->streams; s; s = s->next) {
        if (s->ready && pa_stream_get_device_index(s->stream) == index)
            pulse_stream_check_rate(s);
    }
}

static void on_timeout(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    struct backend_context *context = arg;
    (void)api, (void)event, (void)when;
    context->timed_out = true;
    pa_threaded_mainloop_signal(context->loop, 0);
}

/* [main] Under the lock: waits while waits(arg) and not for longer than the contract allows. 0 or -ETIMEDOUT. */
static int wait_while(struct backend_context *context, bool (*waits)(const void *arg), const void *arg)
{
    context->timed_out = false;
    pa_time_event *limit = pa_context_rttime_new(
        context->context, pa_rtclock_now() + BACKEND_TIMEOUT_MS * PA_USEC_PER_MSEC, on_timeout, context);
    if (!limit)
        return -ENOMEM;
    while (waits(arg) && !context->timed_out)
        pa_threaded_mainloop_wait(context->loop);
    pa_threaded_mainloop_get_api(context->loop)->time_free(limit);
    return waits(arg) ? -ETIMEDOUT : 0;
}

static bool context_connecting(const void *arg)
{
    const struct backend_context *context = arg;
    const pa_context_state_t state = pa_context_get_state(context->context);
    return state != PA_CONTEXT_READY && PA_CONTEXT_IS_GOOD(state);
}

/* libpulse keeps its own way to real time to itself. Where the user may have it by limits.conf, this is enough. */
static void make_realtime(pa_mainloop_api *api, void *arg)
{
    (void)api, (void)arg;
    const struct sched_param param = {.sched_priority = PRIORITY};
    pthread_setschedparam(pthread_self(), SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
}

static void context_close(struct backend_context *context)
{
    if (!context)
        return;
    if (context->loop)
        pa_threaded_mainloop_lock(context->loop);
    if (context->context) {
        pa_context_set_state_callback(context->context, NULL, NULL);
        pa_context_set_subscribe_callback(context->context, NULL, NULL);
        pa_context_disconnect(context->context);
        pa_context_unref(context->context);
    }
    if (context->loop) {
        pa_threaded_mainloop_unlock(context->loop);
        pa_threaded_mainloop_stop(context->loop);
        pa_threaded_mainloop_free(context->loop);
    }
    free(context);
}

static int context_open(struct backend_context **out, const struct backend_context_params *params)
{
    struct backend_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->event_fd = params->event_fd;
    int rc = -ENOMEM;
    context->loop = pa_threaded_mainloop_new();
    if (!context->loop)
        goto fail;
    pa_threaded_mainloop_set_name(context->loop, "earshot-pulse");
    pa_mainloop_api *api = pa_threaded_mainloop_get_api(context->loop);
    context->context = pulse_context_new(api, params);
    if (!context->context)
        goto fail;
    pa_context_set_state_callback(context->context, on_context_state, context);
    pa_context_set_subscribe_callback(context->context, on_event, context);
    pa_mainloop_api_once(api, make_realtime, NULL);
    rc = pulse_context_connect(context->context, params);
    if (rc < 0)
        goto fail;
    rc = -ENOMEM;
    if (pa_threaded_mainloop_start(context->loop) < 0)
        goto fail;

    pa_threaded_mainloop_lock(context->loop);
    rc = wait_while(context, context_connecting, context) < 0 ? -EHOSTDOWN : 0;
    if (rc == 0 && pa_context_get_state(context->context) != PA_CONTEXT_READY)
        rc = pulse_error(pa_context_errno(context->context));
    if (rc == 0)
        pulse_forget(pa_context_subscribe(context->context, PA_SUBSCRIPTION_MASK_SINK, NULL, NULL));
    pa_threaded_mainloop_unlock(context->loop);
    if (rc < 0)
        goto fail;
    *out = context;
    return 0;

fail:
    context_close(context);
    return rc;
}

static enum backend_state context_state(struct backend_context *context)
{
    return (enum backend_state)atomic_load(&context->state);
}

/* ---- the contract's streams, [main] ---- */

static bool stream_opening(const void *arg)
{
    const struct backend_stream *s = arg;
    return !s->ready && s->error == 0;
}

static void stream_stop(struct backend_stream *s)
{
    atomic_store(&s->open, false);
    pa_threaded_mainloop_lock(s->context->loop);
    pulse_stream_set_started(s, false);
    pa_threaded_mainloop_unlock(s->context->loop);
}

static void stream_close(struct backend_stream *s)
{
    if (!s)
        return;
    struct backend_context *context = s->context;
    atomic_store(&s->open, false);
    pa_threaded_mainloop_lock(context->loop);
    pulse_stream_disconnect(s);
    for (struct backend_stream **link = &context->streams; *link; link = &(*link)->next) {
        if (*link == s) {
            *link = s->next;
            break;
        }
    }
    pa_threaded_mainloop_unlock(context->loop);
    free(s->name);
    free(s->description);
    free(s->target);
    free(s);
}

static int stream_open(struct backend_context *context, struct backend_stream_params *params,
                       struct backend_stream **out)
{
    if (params->channels == 0 || params->channels > BACKEND_CHANNELS_MAX ||
        __builtin_popcount(params->mask) != params->channels)
        return -EINVAL;
    if (context_state(context) != BACKEND_OK)
        return -EHOSTDOWN;
    struct backend_stream *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->context = context;
    s->period_ns = params->period_ns > 0 ? params->period_ns : PERIOD_NS;
    s->frame_bytes = (uint32_t)(params->channels * sizeof(float));
    s->pull = params->pull;
    s->arg = params->arg;
    pulse_map_fill(&s->map, params->channels, params->mask);
    s->name = strdup(params->name);
    s->description = strdup(params->description ? params->description : params->name);
    s->target = params->target ? strdup(params->target) : NULL;
    int rc = -ENOMEM;
    if (s->name && s->description && (s->target || !params->target)) {
        pa_threaded_mainloop_lock(context->loop);
        s->next = context->streams;
        context->streams = s;
        pulse_stream_connect(s);
        rc = wait_while(context, stream_opening, s) < 0 ? -EHOSTDOWN : s->error;
        pa_threaded_mainloop_unlock(context->loop);
    }
    if (rc < 0) {
        stream_close(s);
        return rc;
    }
    params->period_ns = s->period_frames * NS_PER_S / s->rate;
    *out = s;
    return 0;
}

static int stream_start(struct backend_stream *s)
{
    if (context_state(s->context) != BACKEND_OK || atomic_load(&s->state) == BACKEND_LOST)
        return -EHOSTDOWN;
    pa_threaded_mainloop_lock(s->context->loop);
    pulse_stream_set_started(s, true);
    pa_threaded_mainloop_unlock(s->context->loop);
    return 0;
}

static enum backend_state stream_state(struct backend_stream *s)
{
    return (enum backend_state)atomic_load(&s->state);
}

const struct backend backend_pulse = {
    .name = "pulse",
    .title = "PulseAudio",
    .target_help = "the name of a sink",
    .for_auto = true,
    .has_mixer = true,
    .own_period = true,
    .period_ns = PERIOD_NS,
    .probe = pulse_probe,
    .context_open = context_open,
    .context_state = context_state,
    .context_close = context_close,
    .open = stream_open,
    .start = stream_start,
    .stop = stream_stop,
    .state = stream_state,
    .close = stream_close,
};
