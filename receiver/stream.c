/* SPDX-License-Identifier: MIT */
#include "receiver/stream.h"

#include "receiver/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MS_NS          INT64_C(1000000)
#define SECOND_NS      INT64_C(1000000000)
#define PERIOD_NS      (256 * SECOND_NS / 48000)
#define PERIOD_MIN_NS  (64 * SECOND_NS / 48000)
#define PERIOD_LONG_NS (1024 * SECOND_NS / 48000)
#define REPORT_NS      SECOND_NS
#define PAUSE_LINE_NS  (3 * SECOND_NS)  /* shorter pauses are the guest's business */
#define HOLD_NS        (30 * SECOND_NS) /* of silence, after which others may have a device that has room for one */
#define FADE_LIMIT_NS  (50 * MS_NS)
#define FADE_POLL_NS   (5 * MS_NS)
#define TAIL_POLL_NS   (20 * MS_NS)
#define TAIL_LIMIT_NS  (1500 * MS_NS)  /* more than any latency: a server that asks for nothing is not waited for */
#define STABLE_NS      (2 * SECOND_NS) /* playing so long starts the back-off anew */
#define QUIET_FAILURES 3
#define SETTLE_NS      (5 * SECOND_NS) /* the first line waits so long at most for the latency to be what it will be */
#define SETTLED_NS     (3 * MS_NS)

struct stream {
    struct stream_params params;
    char name[STREAM_NAME_MAX], label[STREAM_NAME_MAX], address[STREAM_ADDRESS_MAX];
    struct output *output;
    const struct log *log;

    struct feed *feed, *next_feed; /* next_feed: waits for the fade of `feed` */
    int64_t chunk_ns, next_chunk_ns;
    int64_t fade_until_ns;
    struct playout *playout;     /* changed only while the backend's stream is stopped: [rt] reads it */
    struct playout_stats before; /* counters of the playouts before this one */

    struct backend_stream *handle;
    int64_t period_ns; /* asked for */
    bool usual_period; /* the latency cannot be had: neither is a period for it of any use */
    uint8_t handle_channels;
    uint16_t handle_mask;
    bool started, idle, faded;
    bool reopening; /* for another period, once the sound has faded */
    bool no_device;
    unsigned failures;
    int64_t retry_ns;

    /* What has been said. */
    int64_t playing_since_ns, idle_since_ns, report_ns;
    bool announced, announced_once, pause_told, failure_told, infeasible_told, jitter_told;
    struct playout_stats reported;
};

const char *stream_state_name(enum stream_state state)
{
    static const char *const names[] = {
        [STREAM_WAITING] = "waiting",     [STREAM_STARTING] = "starting", [STREAM_PLAYING] = "playing",
        [STREAM_IDLE] = "idle",           [STREAM_STARVED] = "starved",   [STREAM_NO_SERVER] = "no-server",
        [STREAM_PORT_BUSY] = "port-busy",
    };
    return names[state];
}

int64_t stream_period_ns(const struct backend *backend, int64_t latency_ns, int64_t chunk_ns)
{
    int64_t usual_ns = backend->period_ns ? backend->period_ns : PERIOD_NS;
    int64_t left_ns = latency_ns - chunk_ns - MS_NS;
    if (latency_ns == 0 || left_ns / 2 < PERIOD_MIN_NS)
        return usual_ns;
    if (left_ns / 2 < usual_ns)
        return left_ns / 2;
    int64_t long_ns = left_ns / 8 < PERIOD_LONG_NS ? left_ns / 8 : PERIOD_LONG_NS;
    return backend->own_period && long_ns > usual_ns ? long_ns : usual_ns;
}

int stream_create(struct stream **stream, const struct stream_params *params, struct output *output,
                  const struct log *log)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->params = *params;
    s->params.name = text_copy(s->name, sizeof(s->name), params->name);
    s->params.label = text_copy(s->label, sizeof(s->label), params->label);
    s->params.address = text_copy(s->address, sizeof(s->address), params->address);
    s->output = output;
    s->log = log;
    *stream = s;
    return 0;
}

/* [rt] */
static void stream_pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct stream *stream = arg;
    playout_pull(stream->playout, dst, frames, time);
}

static void stop(struct stream *stream)
{
    if (!stream->started)
        return;
    output_backend(stream->output)->stop(stream->handle);
    stream->started = false;
    stream->playing_since_ns = 0;
}

void stream_drop(struct stream *stream)
{
    stop(stream);
    if (stream->handle)
        output_backend(stream->output)->close(stream->handle);
    stream->handle = NULL;
    stream->no_device = false;
}

static void drop_playout(struct stream *stream)
{
    if (!stream->playout)
        return;
    struct playout_stats stats;
    playout_get_stats(stream->playout, &stats);
    stream->before.underruns += stats.underruns;
    stream->before.resyncs += stats.resyncs;
    stream->before.dropped_frames += stats.dropped_frames;
    stream->before.xrun_frames += stats.xrun_frames;
    stream->before.frames += stats.frames;
    playout_destroy(stream->playout);
    stream->playout = NULL;
}

void stream_destroy(struct stream *stream)
{
    if (!stream)
        return;
    stream_drop(stream);
    drop_playout(stream);
    feed_destroy(stream->feed);
    feed_destroy(stream->next_feed);
    free(stream);
}

static void begin_fade(struct stream *stream, int64_t now_ns)
{
    if (!stream->started)
        return;
    playout_mute(stream->playout, true);
    stream->fade_until_ns = now_ns + FADE_LIMIT_NS;
}

static bool fades(const struct stream *stream, int64_t now_ns)
{
    return stream->started && now_ns < stream->fade_until_ns && !playout_silent(stream->playout);
}

void stream_set_feed(struct stream *stream, struct feed *feed, int64_t chunk_ns, int64_t now_ns)
{
    feed_destroy(stream->next_feed);
    if (!stream->next_feed)
        begin_fade(stream, now_ns);
    stream->next_feed = feed;
    stream->next_chunk_ns = chunk_ns;
    stream_set_idle(stream, false, now_ns);
}

void stream_set_idle(struct stream *stream, bool idle, int64_t now_ns)
{
    if (idle == stream->idle)
        return;
    stream->idle = idle;
    stream->idle_since_ns = now_ns;
    if (!idle && stream->pause_told && !stream->next_feed) {
        log_line(stream->log, LOG_LEVEL_INFO, "%s: resumed.", stream->label);
        stream->pause_told = false;
    }
}

/* False: the old sound is still fading. */
static bool swap_feed(struct stream *stream, int64_t now_ns)
{
    if (fades(stream, now_ns))
        return false;
    stop(stream);
    drop_playout(stream);
    feed_destroy(stream->feed);
    stream->feed = stream->next_feed;
    stream->chunk_ns = stream->next_chunk_ns;
    stream->next_feed = NULL;
    stream->announced = stream->infeasible_told = stream->jitter_told = stream->usual_period = false;
    stream->pause_told = false;
    stream->reported = (struct playout_stats){0};

    const struct pcm_format *format = feed_format(stream->feed);
    if (stream->handle && (format->channels != stream->handle_channels || format->mask != stream->handle_mask))
        stream_drop(stream);
    return true;
}

static int64_t wanted_latency_ns(const struct stream *stream)
{
    int64_t latency_ns = stream->params.playout.latency_ns;
    return latency_ns && stream->params.latency_above_chunk ? latency_ns + stream->chunk_ns : latency_ns;
}

static int64_t wanted_period_ns(const struct stream *stream)
{
    const int64_t latency_ns = stream->usual_period ? 0 : wanted_latency_ns(stream);
    return stream_period_ns(output_backend(stream->output), latency_ns, stream->chunk_ns);
}

static int open_stream(struct stream *stream)
{
    const struct pcm_format *format = feed_format(stream->feed);
    struct backend_stream_params params = {
        .name = stream->name,
        .description = stream->name,
        .target = stream->params.target,
        .connect = stream->params.connect,
        .no_connect = stream->params.no_connect,
        .channels = format->channels,
        .mask = format->mask,
        .source_rate = format->rate,
        .period_ns = wanted_period_ns(stream),
        .pull = stream_pull,
        .arg = stream,
    };
    const int64_t asked_ns = params.period_ns;
    int r = output_backend(stream->output)->open(output_context(stream->output), &params, &stream->handle);
    if (r < 0) {
        stream->handle = NULL;
        return r;
    }
    stream->period_ns = asked_ns;
    stream->handle_channels = format->channels;
    stream->handle_mask = format->mask;
    if (output_backend(stream->output)->info) {
        struct backend_info info = {0};
        output_backend(stream->output)->info(stream->handle, &info);
        log_line(stream->log, LOG_LEVEL_DEBUG, "%s: %s plays it as %s.", stream->label,
                 output_backend(stream->output)->title, info.text);
    }
    return 0;
}

pid_t stream_thread(const struct stream *stream)
{
    struct backend_info info = {0};
    if (stream->handle && output_backend(stream->output)->info)
        output_backend(stream->output)->info(stream->handle, &info);
    return info.thread;
}

static int start(struct stream *stream)
{
    int r = 0;
    if (!stream->playout) {
        struct playout_params params = stream->params.playout;
        params.latency_ns = wanted_latency_ns(stream);
        r = playout_create(&stream->playout, stream->feed, &params);
        if (r < 0) {
            stream->playout = NULL;
            return r;
        }
    }
    if (!stream->handle)
        r = open_stream(stream);
    if (r == 0)
        r = output_backend(stream->output)->start(stream->handle);
    if (r < 0)
        stream_drop(stream);
    stream->started = r == 0;
    return r;
}

static int64_t fail(struct stream *stream, int error, int64_t now_ns)
{
    stream->retry_ns = now_ns + output_backoff_ns(stream->failures++);
    /* What heals at once, as a server that has just started does, is not worth a line. */
    if (!stream->failure_told && stream->failures > QUIET_FAILURES) {
        const char *reason = error == -ENODEV   ? "no such output device"
                             : error == -EBUSY  ? "another program is using the device"
                             : error == -EEXIST ? "that file is there already, and is no recording"
                                                : strerror(-error);
        log_line(stream->log, LOG_LEVEL_WARNING, "%s: cannot play through %s: %s. Trying again.", stream->label,
                 output_backend(stream->output)->title, reason);
        stream->failure_told = true;
    }
    return stream->retry_ns;
}

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static void announce(struct stream *stream, const struct playout_stats *stats)
{
    const struct backend *backend = output_backend(stream->output);
    bool mixer = !strcmp(backend->name, "pipewire") || !strcmp(backend->name, "pulse");
    const char *called = backend->called ? backend->called(stream->handle) : NULL;
    char format[64];
    pcm_format_describe(feed_format(stream->feed), format, sizeof(format));
    if (stream->announced_once)
        log_line(stream->log, LOG_LEVEL_INFO, "%s: now %s, %.0f ms.", stream->label, format, ms(stats->total_ns));
    else if (mixer)
        log_line(stream->log, LOG_LEVEL_INFO, "%s: %s, %.0f ms. In pavucontrol as \"%s\".", stream->label, format,
                 ms(stats->total_ns), stream->name);
    else if (called)
        log_line(stream->log, LOG_LEVEL_INFO, "%s: %s, %.0f ms. In patch bays as \"%s\".", stream->label, format,
                 ms(stats->total_ns), called);
    else
        log_line(stream->log, LOG_LEVEL_INFO, "%s: %s, %.0f ms.", stream->label, format, ms(stats->total_ns));
    stream->announced = stream->announced_once = true;
}

/* What can be had as the device plays now; 0: not known. */
static int64_t floor_ns(const struct playout_stats *stats)
{
    return stats->quantum_ns ? stats->guest_ns + stats->quantum_ns + stats->resampler_ns + stats->device_ns + MS_NS
                             : 0;
}

/* The latency that it was for cannot be had: a shorter period than usual would only run dry more often, a longer one costs
 * more than auto would. A graph's may yet become what was asked of it. */
static bool has_unused_period(const struct stream *stream)
{
    return stream->usual_period && output_backend(stream->output)->own_period &&
           stream->period_ns != wanted_period_ns(stream);
}

static void report(struct stream *stream, const struct playout_stats *stats)
{
    uint64_t underruns = stats->underruns - stream->reported.underruns;
    uint64_t resyncs = stats->resyncs - stream->reported.resyncs;
    if (underruns)
        log_line(stream->log, LOG_LEVEL_WARNING,
                 "%s: %" PRIu64 " drop-out%s, the guest's sound came too late. Latency now %.0f ms.", stream->label,
                 underruns, underruns == 1 ? "" : "s", ms(stats->total_ns));
    if (resyncs)
        log_line(stream->log, LOG_LEVEL_INFO, "%s: jumped %" PRIu64 " time%s to keep its latency of %.0f ms.",
                 stream->label, resyncs, resyncs == 1 ? "" : "s", ms(stats->total_ns));
    /* A longer period than usual may be why: then it is known once the device is open with the usual one. */
    stream->usual_period = stream->usual_period || stats->latency_infeasible;
    if (stats->latency_infeasible && !stream->infeasible_told && !has_unused_period(stream)) {
        log_line(stream->log, LOG_LEVEL_WARNING,
                 "%s: -t %.4g ms cannot be had, the least here is %.1f: plays as -t auto.", stream->label,
                 ms(wanted_latency_ns(stream)), ceil(ms(floor_ns(stats)) * 10.0) / 10.0);
        stream->infeasible_told = true;
    }
    if (stats->jitter_exceeds && !stream->jitter_told) {
        log_line(stream->log, LOG_LEVEL_WARNING,
                 "%s: the guest is later at times than -t %.4g ms allows: expect drop-outs.", stream->label,
                 ms(wanted_latency_ns(stream)));
        stream->jitter_told = true;
    }
    stream->reported = *stats;
}

/* Lines about a stream that plays; at most one look a second. */
static int64_t watch_playing(struct stream *stream, int64_t now_ns)
{
    struct playout_stats stats;
    playout_get_stats(stream->playout, &stats);
    if (!stream->playing_since_ns) {
        /* What happened while it stood still, or as the guest fell silent, is no news. */
        stream->reported = stats;
        stream->playing_since_ns = now_ns;
        stream->report_ns = now_ns + REPORT_NS;
    }
    if (now_ns < stream->report_ns)
        return stream->report_ns;
    stream->report_ns = now_ns + REPORT_NS;
    /* Dry may mean that the guest has stopped: only what plays again has dropped out. */
    if (stats.state == PLAYOUT_PLAYING) {
        report(stream, &stats);
        const struct backend *backend = output_backend(stream->output);
        if (backend->tell_latency)
            backend->tell_latency(stream->handle, stats.total_ns - stats.device_ns);
        bool settled = llabs(stats.total_ns - stats.target_ns) <= SETTLED_NS;
        if (!stream->announced && (settled || now_ns - stream->playing_since_ns >= SETTLE_NS))
            announce(stream, &stats);
    }
    return stream->report_ns;
}

static void tell_paused(struct stream *stream)
{
    if (stream->announced_once)
        log_line(stream->log, LOG_LEVEL_INFO, "%s: paused.", stream->label);
    stream->pause_told = stream->announced_once;
}

/* Looks after a stream that is open. 0, or -errno: it has to be opened again. */
static int check_device(struct stream *stream)
{
    enum backend_state state = output_backend(stream->output)->state(stream->handle);
    if (state == BACKEND_LOST)
        return -ENODEV;
    bool no_device = state == BACKEND_NO_DEVICE;
    if (no_device && !stream->no_device)
        log_line(stream->log, LOG_LEVEL_WARNING, "%s: %s has no output device: waiting for one.", stream->label,
                 output_backend(stream->output)->title);
    if (!no_device && stream->no_device)
        log_line(stream->log, LOG_LEVEL_INFO, "%s: the output device is back.", stream->label);
    stream->no_device = no_device;
    return 0;
}

/* The guest is silent, but what it said before is still to be heard; and if it was held up, it may go on in time. */
static bool sounds_on(const struct stream *stream, int64_t now_ns)
{
    return !stream_silent(stream) && now_ns < stream->idle_since_ns + TAIL_LIMIT_NS;
}

/* The guest is silent. */
static int64_t rest(struct stream *stream, int64_t now_ns)
{
    const bool tells = !stream->pause_told && stream->announced_once;
    if (tells && now_ns < stream->idle_since_ns + PAUSE_LINE_NS)
        return stream->idle_since_ns + PAUSE_LINE_NS;
    if (tells)
        tell_paused(stream);
    if (!stream->handle || !output_backend(stream->output)->holds_device)
        return INT64_MAX;
    if (now_ns < stream->idle_since_ns + HOLD_NS)
        return stream->idle_since_ns + HOLD_NS;
    stream_drop(stream);
    return INT64_MAX;
}

static void begin_reopening(struct stream *stream, int64_t now_ns)
{
    if (!stream->reopening)
        begin_fade(stream, now_ns);
    stream->reopening = true;
}

/* False: the sound is still fading. */
static bool reopen(struct stream *stream, int64_t now_ns)
{
    if (fades(stream, now_ns))
        return false;
    stream_drop(stream);
    stream->reopening = false;
    if (stream->playout)
        playout_mute(stream->playout, false);
    return true;
}

int64_t stream_run(struct stream *stream, int64_t now_ns)
{
    if (stream->faded)
        return INT64_MAX;
    if (stream->next_feed && !swap_feed(stream, now_ns))
        return now_ns + FADE_POLL_NS;
    /* One that rests keeps its place in the mixer until it plays again. */
    bool rests = stream->idle && !stream->started;
    if (stream->reopening && !rests && !reopen(stream, now_ns))
        return now_ns + FADE_POLL_NS;
    if (!stream->feed || !output_context(stream->output))
        return INT64_MAX;

    if (stream->handle) {
        int r = check_device(stream);
        if (r < 0) {
            stream_drop(stream);
            return fail(stream, r, now_ns);
        }
    }
    if (stream->idle) {
        if (sounds_on(stream, now_ns))
            return now_ns + TAIL_POLL_NS;
        stop(stream);
        return rest(stream, now_ns);
    }
    if (!stream->started) {
        if (now_ns < stream->retry_ns)
            return stream->retry_ns;
        int r = start(stream);
        if (r < 0)
            return fail(stream, r, now_ns);
        if (stream->failure_told)
            log_line(stream->log, LOG_LEVEL_INFO, "%s: plays again.", stream->label);
        stream->failure_told = false;
    }
    int64_t wake_ns = watch_playing(stream, now_ns);
    if (has_unused_period(stream)) {
        begin_reopening(stream, now_ns);
        return now_ns + FADE_POLL_NS;
    }
    if (now_ns - stream->playing_since_ns > STABLE_NS)
        stream->failures = 0;
    return wake_ns;
}

void stream_get_latency(const struct stream *stream, int64_t *latency_ns, int64_t *max_latency_ns)
{
    *latency_ns = wanted_latency_ns(stream);
    *max_latency_ns = stream->params.playout.max_latency_ns;
}

/* No device changes its period as softly as we our latency: only where there is no other way. A longer one would want
 * more than is there yet. */
static void ask_period(struct stream *stream, int64_t latency_ns, int64_t now_ns)
{
    const struct backend *backend = output_backend(stream->output);
    struct playout_stats stats = {0};
    if (!stream->handle || !(backend->ask_period || backend->own_period))
        return;
    if (stream->playout)
        playout_get_stats(stream->playout, &stats);
    int64_t period_ns = stream_period_ns(backend, latency_ns, stream->chunk_ns);
    if (period_ns >= stream->period_ns || (floor_ns(&stats) && latency_ns >= floor_ns(&stats)))
        return;
    if (!backend->ask_period) {
        begin_reopening(stream, now_ns);
        return;
    }
    backend->ask_period(stream->handle, period_ns);
    stream->period_ns = period_ns;
}

void stream_tune(struct stream *stream, int64_t latency_ns, int64_t max_latency_ns, int64_t now_ns)
{
    stream->params.playout.latency_ns = latency_ns;
    stream->params.playout.max_latency_ns = max_latency_ns;
    stream->params.latency_above_chunk = false;
    if (stream->playout)
        playout_set_latency(stream->playout, latency_ns, max_latency_ns);
    ask_period(stream, latency_ns, now_ns);
    /* Said again of the new one, once it has come about. */
    stream->infeasible_told = stream->jitter_told = stream->usual_period = false;
    stream->report_ns = now_ns + REPORT_NS;
}

void stream_fade(struct stream *stream)
{
    stream->faded = true;
    if (stream->started)
        playout_mute(stream->playout, true);
}

bool stream_silent(const struct stream *stream)
{
    return !stream->started || playout_silent(stream->playout);
}

bool stream_has_feed(const struct stream *stream, const struct feed *feed)
{
    return feed == stream->feed || feed == stream->next_feed;
}

const char *stream_name(const struct stream *stream)
{
    return stream->name;
}

static enum stream_state current_state(const struct stream *stream, const struct playout_stats *stats)
{
    if (!stream->feed && !stream->next_feed)
        return STREAM_WAITING;
    if (!output_context(stream->output) || stream->no_device || (stream->failures && !stream->handle))
        return STREAM_NO_SERVER;
    if (stream->idle && !(stream->started && stats->state == PLAYOUT_PLAYING))
        return STREAM_IDLE;
    if (!stream->started || stats->state == PLAYOUT_WAITING)
        return STREAM_STARTING;
    return stats->state == PLAYOUT_STARVED ? STREAM_STARVED : STREAM_PLAYING;
}

void stream_get_status(const struct stream *stream, struct stream_status *status)
{
    memset(status, 0, sizeof(*status));
    memcpy(status->name, stream->name, sizeof(status->name));
    memcpy(status->address, stream->address, sizeof(status->address));
    status->kind = stream->params.kind;
    const struct feed *feed = stream->next_feed ? stream->next_feed : stream->feed;
    if (feed)
        status->format = *feed_format(feed);
    if (stream->playout)
        playout_get_stats(stream->playout, &status->stats);
    status->stats.underruns += stream->before.underruns;
    status->stats.resyncs += stream->before.resyncs;
    status->stats.dropped_frames += stream->before.dropped_frames;
    status->stats.xrun_frames += stream->before.xrun_frames;
    status->stats.frames += stream->before.frames;
    status->state = current_state(stream, &status->stats);
    const struct backend *backend = output_backend(stream->output);
    status->backend = backend ? backend->name : "";
}
