/* SPDX-License-Identifier: MIT
 *
 * PipeWire, through one pw_stream per guest. All streams of a process share one connection, one loop thread and one
 * real-time data thread.
 *
 * Threads: [main] takes the thread loop's lock around every call into the library. [loop] is the library's own
 * thread, which holds that lock while it runs our event handlers. [rt] is the data thread: on_process() and nothing
 * else; it shares only atomics with the others, and `position` and the cycle's bookkeeping belong to it alone.
 */
#include "backends/pipewire.h"

#include "backends/registry.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pipewire/pipewire.h>
#include <spa/param/audio/format-utils.h>
#include <spa/param/latency-utils.h>

#define NO_DEVICE_GRACE_MS 700 /* a stream that is being linked or moved is without a device for a moment */
#define STOP_POLL_NS       100000
#define PERIOD_FRAMES      256 /* what is asked for where nothing else is wanted, at 48 kHz */
#define RATE_GUESS         48000
#define PULL_FRAMES_MAX    8192

struct backend_context {
    struct pw_thread_loop *loop;
    struct pw_context *context;
    struct pw_core *core;
    struct spa_hook core_listener;
    int event_fd;
    int sync_seq;
    bool synced;
    atomic_int state; /* enum backend_state */
};

/* The device's clock as one cycle showed it. */
struct cycle {
    uint32_t clock_id, rate, duration;
    uint64_t position, nsec;
    uint32_t stream_rate;
    uint32_t given; /* frames already handed out in this cycle */
};

struct backend_stream {
    struct backend_context *context;
    struct pw_stream *stream;
    struct spa_hook listener;
    struct spa_source *grace; /* one-shot: still without a device? */
    int64_t period_ns;
    uint32_t frame_bytes;
    bool no_connect;
    bool closing;                  /* under the loop's lock: main knows, no need to tell it */
    bool started;                  /* under the loop's lock */
    enum pw_stream_state pw_state; /* under the loop's lock */
    atomic_int state;              /* enum backend_state */
    _Atomic uint32_t rate;         /* negotiated; 0 before that */

    /* The gate: pull runs only while `open`, and `busy` is set around it (see stream_stop). */
    atomic_bool open, busy;
    atomic_bool restarted; /* the next pull is the first since start */

    void (*pull)(void *arg, float *dst, uint32_t frames, const struct pull_time *time);
    void *arg;

    /* [rt] */
    struct spa_io_position *position;
    struct cycle last;
};

static void notify(const struct backend_context *context)
{
    const uint64_t one = 1;
    /* An eventfd write fails only when the counter is full: then main is about to look anyway. */
    if (write(context->event_fd, &one, sizeof one) < 0)
        return;
}

/* [loop, main] */
static void set_state(struct backend_context *context, atomic_int *state, enum backend_state value)
{
    if (atomic_exchange(state, (int)value) != (int)value)
        notify(context);
}

/* ---- the pull, [rt] ---- */

/* `frames` at `from` Hz, as frames at `to` Hz; exact where the rates are equal, without overflow for any position. */
static uint64_t rescale(uint64_t frames, uint32_t from, uint32_t to)
{
    if (from == to)
        return frames;
    return frames / from * to + frames % from * to / from;
}

/* What the cycle's clock says, in frames of the stream's rate. That is the graph's rate but for the few cycles
 * between a switch of the graph and the stream's renegotiation. The position is the driver's own, not the stream's
 * ticks: ticks are made continuous across a change of driver, which is just what a clock filter has to notice.
 *
 * As seen with 0.3.65 and a null sink: nsec is when the cycle was due, not when it ran; position advances by duration
 * a cycle, also across a change of quantum, which `requested` follows in the same cycle. A switch of the graph's rate
 * goes on counting in frames of the new one, after 4-9 ms of pause. Another sink is another clock id and position. A
 * server that was stopped runs the cycles it missed in a row, as late as it was, and now and then wakes us for two of
 * them at once: a step of two periods, then a second pull in the same cycle. A sink that idles while we are corked is
 * suspended and its position starts anew. */
static void read_cycle(struct backend_stream *s, struct pull_time *time)
{
    const struct spa_io_clock *clock = &s->position->clock;
    struct pw_time stream_time = {0};
    pw_stream_get_time_n(s->stream, &stream_time, sizeof stream_time);

    struct cycle now = {
        .clock_id = clock->id,
        .rate = clock->rate.denom,
        .duration = (uint32_t)clock->duration,
        .position = clock->position,
        .nsec = clock->nsec,
        .stream_rate = atomic_load_explicit(&s->rate, memory_order_relaxed),
    };
    const bool restarted = atomic_exchange_explicit(&s->restarted, false, memory_order_relaxed);
    const bool same_cycle = !restarted && now.clock_id == s->last.clock_id && now.nsec == s->last.nsec &&
                            now.position == s->last.position;
    if (same_cycle)
        now.given = s->last.given;

    *time = (struct pull_time){
        .cycle_ns = (int64_t)now.nsec,
        .position_frames = (int64_t)rescale(now.position, now.rate, now.stream_rate),
        .rate = now.stream_rate,
        .clock_id = now.clock_id,
    };
    int64_t graph_delay = stream_time.delay > 0 ? stream_time.delay : 0;
    time->delay_frames = (int64_t)rescale((uint64_t)graph_delay, now.rate, now.stream_rate) +
                         (int64_t)(stream_time.buffered + stream_time.queued) + now.given;
    if (clock->flags & SPA_IO_CLOCK_FLAG_FREEWHEEL)
        time->flags |= PULL_FREEWHEEL;
    if (!same_cycle &&
        (restarted || now.clock_id != s->last.clock_id || now.rate != s->last.rate ||
         now.stream_rate != s->last.stream_rate || now.position != s->last.position + s->last.duration))
        time->flags |= PULL_DISCONTINUITY;
    s->last = now;
}

static void pull_buffer(struct backend_stream *s, struct pw_buffer *buffer)
{
    struct spa_data *data = &buffer->buffer->datas[0];
    uint32_t frames = 0;

    data->chunk->offset = 0;
    data->chunk->stride = (int32_t)s->frame_bytes;
    if (data->data) {
        const struct spa_io_clock *clock = s->position ? &s->position->clock : NULL;
        const uint32_t rate = atomic_load_explicit(&s->rate, memory_order_relaxed);
        const bool timed = clock && clock->rate.num == 1 && clock->rate.denom > 0 && rate > 0;
        uint64_t wanted = buffer->requested;
        if (wanted == 0 && timed)
            wanted = rescale(clock->duration, clock->rate.denom, rate);
        const uint32_t room = data->maxsize / s->frame_bytes;
        frames = wanted < room ? (uint32_t)wanted : room;
        if (timed && frames > 0) {
            struct pull_time time;
            read_cycle(s, &time);
            s->last.given += frames;
            for (uint32_t done = 0; done < frames;) {
                uint32_t slice = frames - done < PULL_FRAMES_MAX ? frames - done : PULL_FRAMES_MAX;
                s->pull(s->arg, (float *)((char *)data->data + (size_t)done * s->frame_bytes), slice, &time);
                done += slice;
                time.delay_frames += slice;
                time.flags &= ~(unsigned)PULL_DISCONTINUITY;
            }
        } else {
            memset(data->data, 0, (size_t)frames * s->frame_bytes);
        }
    }
    data->chunk->size = frames * s->frame_bytes;
    buffer->size = frames;
}

static void on_process(void *arg)
{
    struct backend_stream *s = arg;

    /* Sequentially consistent on both sides: either stop() sees busy, or this sees the gate closed. */
    atomic_store(&s->busy, true);
    if (atomic_load(&s->open)) {
        struct pw_buffer *buffer = pw_stream_dequeue_buffer(s->stream);
        if (buffer) {
            pull_buffer(s, buffer);
            pw_stream_queue_buffer(s->stream, buffer);
        }
    }
    atomic_store(&s->busy, false);
}

/* ---- events, [loop] ---- */

/* NO_DEVICE cannot be told at once, see NO_DEVICE_GRACE_MS: the timer looks again. */
static void update_stream_state(struct backend_stream *s)
{
    struct pw_loop *loop = pw_thread_loop_get_loop(s->context->loop);
    const bool waits = s->started && !s->no_connect && s->pw_state == PW_STREAM_STATE_PAUSED;

    if (atomic_load(&s->state) == BACKEND_LOST)
        return;
    struct timespec in = {0};
    if (waits)
        in = (struct timespec){.tv_nsec = NO_DEVICE_GRACE_MS * 1000000L};
    else
        set_state(s->context, &s->state, BACKEND_OK);
    pw_loop_update_timer(loop, s->grace, &in, NULL, false);
}

static void on_grace_over(void *arg, uint64_t expirations)
{
    struct backend_stream *s = arg;
    (void)expirations;
    if (s->started && s->pw_state == PW_STREAM_STATE_PAUSED && atomic_load(&s->state) == BACKEND_OK)
        set_state(s->context, &s->state, BACKEND_NO_DEVICE);
}

static void on_state_changed(void *arg, enum pw_stream_state old, enum pw_stream_state state, const char *error)
{
    struct backend_stream *s = arg;
    (void)error;
    s->pw_state = state;
    if (s->closing)
        return;
    if (state == PW_STREAM_STATE_ERROR || (state == PW_STREAM_STATE_UNCONNECTED && old > state))
        set_state(s->context, &s->state, BACKEND_LOST);
    else
        update_stream_state(s);
    pw_thread_loop_signal(s->context->loop, false);
}

/* What crosses to [rt]. */
struct position_ref {
    struct spa_io_position *area;
};

static int set_position(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *arg)
{
    struct backend_stream *s = arg;
    (void)loop, (void)async, (void)seq, (void)size;
    s->position = ((const struct position_ref *)data)->area;
    return 0;
}

static void on_io_changed(void *arg, uint32_t id, void *area, uint32_t size)
{
    struct backend_stream *s = arg;
    if (id != SPA_IO_Position)
        return;
    const struct position_ref ref = {size >= sizeof *ref.area ? area : NULL};
    /* The library unmaps the old area when this returns: [rt] must have let go of it by then. */
#if PW_CHECK_VERSION(1, 2, 0)
    struct pw_loop *data_loop = pw_stream_get_data_loop(s->stream);
#else
    struct pw_loop *data_loop = pw_data_loop_get_loop(pw_context_get_data_loop(s->context->context));
#endif
    if (data_loop)
        pw_loop_invoke(data_loop, set_position, 0, &ref, sizeof ref, true, s);
    else
        s->position = ref.area;
}

/* PipeWire rounds a requested quantum down to a power of two: 235/44100 (5.3 ms) would give 128. Within an eighth of
 * the next power that one is meant: 256 frames at 44.1 as at 48 kHz. */
static uint32_t period_frames(int64_t period_ns, uint32_t rate)
{
    const uint64_t exact = ((uint64_t)period_ns * rate + 500000000u) / 1000000000u;
    uint32_t frames = 16;
    while (frames < PULL_FRAMES_MAX && (uint64_t)frames * 2 * 7 / 8 <= exact)
        frames *= 2;
    return frames;
}

static void ask_latency(struct backend_stream *s, uint32_t rate)
{
    char latency[32];
    snprintf(latency, sizeof latency, "%u/%u", period_frames(s->period_ns, rate), rate);
    struct spa_dict_item items[] = {SPA_DICT_ITEM_INIT(PW_KEY_NODE_LATENCY, latency)};
    pw_stream_update_properties(s->stream, &SPA_DICT_INIT_ARRAY(items));
}

static void on_param_changed(void *arg, uint32_t id, const struct spa_pod *param)
{
    struct backend_stream *s = arg;
    struct spa_audio_info_raw info = {0};

    if (id != SPA_PARAM_Format || !param || spa_format_audio_raw_parse(param, &info) < 0 || info.rate == 0)
        return;
    if (atomic_exchange(&s->rate, info.rate) != info.rate)
        ask_latency(s, info.rate);

    /* One buffer is filled and played within a cycle; the second covers a cycle the server did not take. */
    uint8_t pod[512];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(pod, sizeof pod);
    const int32_t stride = (int32_t)s->frame_bytes;
    const struct spa_pod *params[] = {spa_pod_builder_add_object(
        &builder, SPA_TYPE_OBJECT_ParamBuffers, SPA_PARAM_Buffers, SPA_PARAM_BUFFERS_buffers,
        SPA_POD_CHOICE_RANGE_Int(2, 1, 8), SPA_PARAM_BUFFERS_blocks, SPA_POD_Int(1), SPA_PARAM_BUFFERS_size,
        SPA_POD_CHOICE_RANGE_Int(PULL_FRAMES_MAX * stride, stride, INT32_MAX), SPA_PARAM_BUFFERS_stride,
        SPA_POD_Int(stride))};
    pw_stream_update_params(s->stream, params, 1);
}

static const struct pw_stream_events stream_events = {
    PW_VERSION_STREAM_EVENTS,    .state_changed = on_state_changed,
    .io_changed = on_io_changed, .param_changed = on_param_changed,
    .process = on_process,
};

static void on_core_done(void *arg, uint32_t id, int seq)
{
    struct backend_context *context = arg;
    if (id == PW_ID_CORE && seq == context->sync_seq) {
        context->synced = true;
        pw_thread_loop_signal(context->loop, false);
    }
}

static void on_core_error(void *arg, uint32_t id, int seq, int res, const char *message)
{
    struct backend_context *context = arg;
    (void)seq, (void)message;
    if (id == PW_ID_CORE && res == -EPIPE) {
        set_state(context, &context->state, BACKEND_LOST);
        pw_thread_loop_signal(context->loop, false);
    }
}

static const struct pw_core_events core_events = {
    PW_VERSION_CORE_EVENTS,
    .done = on_core_done,
    .error = on_core_error,
};

/* ---- the contract, [main] ---- */

static void context_close(struct backend_context *context)
{
    if (!context)
        return;
    if (context->loop)
        pw_thread_loop_stop(context->loop);
    if (context->core)
        pw_core_disconnect(context->core);
    if (context->context)
        pw_context_destroy(context->context);
    if (context->loop)
        pw_thread_loop_destroy(context->loop);
    free(context);
    pw_deinit();
}

/* Waits under the loop's lock for a signal. 0, or -ETIMEDOUT once `deadline` has passed. */
static int wait_until(struct backend_context *context, struct timespec *deadline)
{
    return pw_thread_loop_timed_wait_full(context->loop, deadline) < 0 ? -ETIMEDOUT : 0;
}

static int context_open(struct backend_context **out, const struct backend_context_params *params)
{
    struct backend_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->event_fd = params->event_fd;
    pw_init(NULL, NULL);
    int rc = -ENOMEM;
    context->loop = pw_thread_loop_new("earshot-pw", NULL);
    if (!context->loop)
        goto fail;
    context->context = pipewire_context_new(pw_thread_loop_get_loop(context->loop));
    if (!context->context) {
        rc = -errno;
        goto fail;
    }
    if (pw_thread_loop_start(context->loop) < 0)
        goto fail;

    pw_thread_loop_lock(context->loop);
    rc = pipewire_connect(&context->core, context->context, params);
    if (rc == 0) {
        pw_core_add_listener(context->core, &context->core_listener, &core_events, context);
        /* Connecting only fills a queue in the kernel. A server that answers is one that is alive. */
        context->sync_seq = pw_core_sync(context->core, PW_ID_CORE, 0);
        struct timespec deadline;
        pw_thread_loop_get_time(context->loop, &deadline, BACKEND_TIMEOUT_MS * SPA_NSEC_PER_MSEC);
        while (rc == 0 && !context->synced) {
            if (atomic_load(&context->state) != BACKEND_OK || wait_until(context, &deadline) < 0)
                rc = -EHOSTDOWN;
        }
    }
    pw_thread_loop_unlock(context->loop);
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

/* SPA's name of each bit of the mask. */
static const uint32_t speakers[] = {
    SPA_AUDIO_CHANNEL_FL,  SPA_AUDIO_CHANNEL_FR,  SPA_AUDIO_CHANNEL_FC,  SPA_AUDIO_CHANNEL_LFE,
    SPA_AUDIO_CHANNEL_RL,  SPA_AUDIO_CHANNEL_RR,  SPA_AUDIO_CHANNEL_FLC, SPA_AUDIO_CHANNEL_FRC,
    SPA_AUDIO_CHANNEL_RC,  SPA_AUDIO_CHANNEL_SL,  SPA_AUDIO_CHANNEL_SR,  SPA_AUDIO_CHANNEL_TC,
    SPA_AUDIO_CHANNEL_TFL, SPA_AUDIO_CHANNEL_TFC, SPA_AUDIO_CHANNEL_TFR, SPA_AUDIO_CHANNEL_TRL,
};

/* A single channel is MONO to PipeWire: as FC it would be folded into both sides 3 dB down. */
static void fill_positions(struct spa_audio_info_raw *info, uint16_t mask)
{
    uint32_t channel = 0;
    for (unsigned bit = 0; bit < SPA_N_ELEMENTS(speakers) && channel < info->channels; bit++) {
        if (mask & (1u << bit))
            info->position[channel++] = speakers[bit];
    }
    if (info->channels == 1 && mask == 1u << 2)
        info->position[0] = SPA_AUDIO_CHANNEL_MONO;
}

static struct pw_properties *stream_properties(const struct backend_stream_params *params, uint32_t frames)
{
    /* No media.role: the session manager would give all streams of a role one volume. */
    struct pw_properties *props = pw_properties_new(
        PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Playback", PW_KEY_MEDIA_NAME, params->name,
        PW_KEY_NODE_NAME, params->name, PW_KEY_APP_NAME, params->name, PW_KEY_APP_ID, params->name,
        PW_KEY_NODE_DESCRIPTION, params->description ? params->description : params->name, NULL);
    if (!props)
        return NULL;
    pw_properties_setf(props, PW_KEY_NODE_LATENCY, "%u/%u", frames, RATE_GUESS);
    if (params->target) {
        pw_properties_set(props, PW_KEY_TARGET_OBJECT, params->target);
        pw_properties_set(props, "node.target", params->target); /* session managers before 0.3.64 */
    }
    return props;
}

/* [main] Under the loop's lock. */
static int stream_connect(struct backend_stream *s, const struct backend_stream_params *params)
{
    struct backend_context *context = s->context;
    struct pw_properties *props = stream_properties(params, period_frames(s->period_ns, RATE_GUESS));
    if (!props)
        return -ENOMEM;
    s->stream = pw_stream_new(context->core, params->name, props);
    if (!s->stream)
        return -errno;
    s->grace = pw_loop_add_timer(pw_thread_loop_get_loop(context->loop), on_grace_over, s);
    if (!s->grace)
        return -errno;
    pw_stream_add_listener(s->stream, &s->listener, &stream_events, s);

    struct spa_audio_info_raw info = {.format = SPA_AUDIO_FORMAT_F32, .channels = params->channels};
    fill_positions(&info, params->mask);
    uint8_t pod[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(pod, sizeof pod);
    /* No rate: the stream takes the graph's, and takes the new one when the graph switches. */
    const struct spa_pod *format = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info);
    enum pw_stream_flags flags = PW_STREAM_FLAG_INACTIVE | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS;
    if (!params->no_connect)
        flags |= PW_STREAM_FLAG_AUTOCONNECT;
    int rc = pw_stream_connect(s->stream, PW_DIRECTION_OUTPUT, PW_ID_ANY, flags, &format, 1);
    if (rc < 0)
        return rc;

    struct timespec deadline;
    pw_thread_loop_get_time(context->loop, &deadline, BACKEND_TIMEOUT_MS * SPA_NSEC_PER_MSEC);
    while (s->pw_state != PW_STREAM_STATE_PAUSED && s->pw_state != PW_STREAM_STATE_STREAMING) {
        if (atomic_load(&s->state) == BACKEND_LOST || atomic_load(&context->state) != BACKEND_OK ||
            wait_until(context, &deadline) < 0)
            return -EHOSTDOWN;
    }
    return 0;
}

static void stream_stop(struct backend_stream *s)
{
    struct backend_context *context = s->context;

    /* First the gate, which needs no server: it may hang or be gone. Pull takes no lock and makes no system call,
     * so what is waited for here is at most one pull that has already begun. */
    atomic_store(&s->open, false);
    while (atomic_load(&s->busy)) {
        const struct timespec poll = {.tv_nsec = STOP_POLL_NS};
        nanosleep(&poll, NULL);
    }
    pw_thread_loop_lock(context->loop);
    s->started = false;
    pw_stream_set_active(s->stream, false);
    update_stream_state(s);
    pw_thread_loop_unlock(context->loop);
}

static void stream_close(struct backend_stream *s)
{
    if (!s)
        return;
    struct backend_context *context = s->context;
    if (s->started)
        stream_stop(s);
    pw_thread_loop_lock(context->loop);
    s->closing = true;
    if (s->stream)
        pw_stream_destroy(s->stream);
    if (s->grace)
        pw_loop_destroy_source(pw_thread_loop_get_loop(context->loop), s->grace);
    pw_thread_loop_unlock(context->loop);
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
    s->period_ns = params->period_ns > 0 ? params->period_ns : PERIOD_FRAMES * INT64_C(1000000000) / RATE_GUESS;
    s->frame_bytes = (uint32_t)(params->channels * sizeof(float));
    s->no_connect = params->no_connect;
    s->pull = params->pull;
    s->arg = params->arg;

    pw_thread_loop_lock(context->loop);
    int rc = stream_connect(s, params);
    pw_thread_loop_unlock(context->loop);
    if (rc < 0) {
        stream_close(s);
        return rc;
    }
    uint32_t rate = atomic_load(&s->rate);
    if (rate == 0)
        rate = RATE_GUESS;
    params->period_ns = period_frames(s->period_ns, rate) * INT64_C(1000000000) / rate;
    *out = s;
    return 0;
}

static int stream_start(struct backend_stream *s)
{
    struct backend_context *context = s->context;
    if (context_state(context) != BACKEND_OK || atomic_load(&s->state) == BACKEND_LOST)
        return -EHOSTDOWN;
    atomic_store(&s->restarted, true);
    atomic_store(&s->open, true);
    pw_thread_loop_lock(context->loop);
    s->started = true;
    int rc = pw_stream_set_active(s->stream, true);
    update_stream_state(s);
    pw_thread_loop_unlock(context->loop);
    if (rc < 0) {
        stream_stop(s);
        return -EHOSTDOWN;
    }
    return 0;
}

static enum backend_state stream_state(struct backend_stream *s)
{
    return (enum backend_state)atomic_load(&s->state);
}

/* The graph takes it from its next cycle on, where nobody wants less. */
static void stream_ask_period(struct backend_stream *s, int64_t period_ns)
{
    struct backend_context *context = s->context;
    if (context_state(context) != BACKEND_OK)
        return;
    pw_thread_loop_lock(context->loop);
    s->period_ns = period_ns;
    const uint32_t rate = atomic_load(&s->rate);
    ask_latency(s, rate > 0 ? rate : RATE_GUESS);
    pw_thread_loop_unlock(context->loop);
}

const struct backend backend_pipewire = {
    .name = "pipewire",
    .title = "PipeWire",
    .target_help = "the name or serial of a sink",
    .for_auto = true,
    .has_mixer = true,
    .probe = pipewire_probe,
    .context_open = context_open,
    .context_state = context_state,
    .context_close = context_close,
    .open = stream_open,
    .start = stream_start,
    .stop = stream_stop,
    .state = stream_state,
    .close = stream_close,
    .ask_period = stream_ask_period,
};
