/* SPDX-License-Identifier: MIT
 *
 * earshot-pulse-capture: records a PulseAudio sink's monitor, each piece with the time at which the sink plays it. It
 * asks for no latency of its own, so that it does not change what it measures.
 */
#include "tests/integration/capture_file.h"

#include <errno.h>
#include <math.h>
#include <pulse/pulseaudio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S      INT64_C(1000000000)
#define PIECE_MS      10
#define TIMING_USEC   (50 * PA_USEC_PER_MSEC)
#define FOLLOW        0.1  /* of what an answer differs from the line */
#define FOLLOW_MAX_NS 20e6 /* what differs by more is another line */

struct capturer {
    pa_mainloop *loop;
    pa_context *context;
    pa_stream *stream;
    pa_channel_map map;
    char source[256];
    FILE *file;
    uint32_t rate;
    size_t frame_bytes;
    uint64_t frames;       /* so far */
    bool timed;            /* line_ns is known */
    int64_t line_frame;    /* is played at ... */
    double line_ns;        /* ... CLOCK_MONOTONIC */
    int64_t arrival_least; /* from a piece's last frame being played until it was here, ns: < 0, the sink buffers */
    bool told;
    int exit_code;
};

static int64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void fail(struct capturer *c, const char *what)
{
    fprintf(stderr, "earshot-pulse-capture: %s: %s\n", what, pa_strerror(pa_context_errno(c->context)));
    c->exit_code = 3;
    pa_mainloop_quit(c->loop, c->exit_code);
}

static double played_ns(const struct capturer *c, int64_t frame)
{
    return c->line_ns + (double)(frame - c->line_frame) * (double)NS_PER_S / c->rate;
}

/* The queue's write index, when it was there, and how long the sink takes from there. */
static void on_timing(pa_stream *stream, int success, void *arg)
{
    struct capturer *c = arg;
    const pa_timing_info *info = success ? pa_stream_get_timing_info(stream) : NULL;
    if (!info || info->write_index_corrupt)
        return;
    const int64_t age_ns = clock_ns(CLOCK_REALTIME) -
                           ((int64_t)info->timestamp.tv_sec * NS_PER_S + (int64_t)info->timestamp.tv_usec * 1000);
    const int64_t frame = info->write_index / (int64_t)c->frame_bytes;
    const double ns =
        (double)(clock_ns(CLOCK_MONOTONIC) - age_ns) + 1000.0 * ((double)info->sink_usec - (double)info->source_usec);
    const double off = c->timed ? ns - played_ns(c, frame) : 0;
    const bool follow = c->timed && fabs(off) < FOLLOW_MAX_NS;
    c->line_ns = follow ? played_ns(c, frame) + FOLLOW * off : ns;
    c->line_frame = frame;
    c->timed = true;
}

static void on_read(pa_stream *stream, size_t bytes, void *arg)
{
    struct capturer *c = arg;
    const void *data;
    while (pa_stream_readable_size(stream) > 0 && pa_stream_peek(stream, &data, &bytes) == 0 && bytes > 0) {
        const uint32_t frames = (uint32_t)(bytes / c->frame_bytes);
        struct capture_record record = {
            .cycle_ns = llround(played_ns(c, (int64_t)c->frames)),
            .position = c->frames,
            .frames = frames,
            .rate = c->rate,
            .quantum = frames,
            .clock_id = 1,
        };
        c->frames += frames;
        if (data && c->timed) {
            if (fwrite(&record, sizeof record, 1, c->file) != 1 ||
                fwrite(data, c->frame_bytes, frames, c->file) != frames)
                fail(c, "writing");
            if (!c->told)
                puts("capturing");
            c->told = true;
            const int64_t arrival = clock_ns(CLOCK_MONOTONIC) - llround(played_ns(c, (int64_t)c->frames));
            if (arrival < c->arrival_least)
                c->arrival_least = arrival;
        }
        pa_stream_drop(stream);
    }
}

static void on_timer(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    struct capturer *c = arg;
    (void)api, (void)when;
    pa_operation *operation = pa_stream_update_timing_info(c->stream, on_timing, c);
    if (operation)
        pa_operation_unref(operation);
    pa_context_rttime_restart(c->context, event, pa_rtclock_now() + TIMING_USEC);
}

static void on_stream_state(pa_stream *stream, void *arg)
{
    struct capturer *c = arg;
    const pa_stream_state_t state = pa_stream_get_state(stream);
    if (state == PA_STREAM_READY)
        pa_context_rttime_new(c->context, pa_rtclock_now(), on_timer, c);
    else if (!PA_STREAM_IS_GOOD(state))
        fail(c, "the stream ended");
}

static void on_source(pa_context *context, const pa_source_info *info, int end, void *arg)
{
    struct capturer *c = arg;
    if (end < 0)
        fail(c, c->source);
    if (end)
        return;
    c->rate = info->sample_spec.rate;
    const pa_sample_spec spec = {.format = PA_SAMPLE_FLOAT32NE, .rate = c->rate, .channels = c->map.channels};
    const pa_buffer_attr attributes = {.maxlength = UINT32_MAX,
                                       .fragsize = c->rate * PIECE_MS / 1000 * (uint32_t)c->frame_bytes};
    c->stream = pa_stream_new(context, "earshot-capture", &spec, &c->map);
    if (!c->stream) {
        fail(c, "a stream");
        return;
    }
    pa_stream_set_state_callback(c->stream, on_stream_state, c);
    pa_stream_set_read_callback(c->stream, on_read, c);
    if (pa_stream_connect_record(c->stream, c->source, &attributes,
                                 PA_STREAM_DONT_MOVE | PA_STREAM_NO_REMIX_CHANNELS) < 0)
        fail(c, c->source);
}

static void on_context_state(pa_context *context, void *arg)
{
    struct capturer *c = arg;
    const pa_context_state_t state = pa_context_get_state(context);
    if (state == PA_CONTEXT_READY)
        pa_operation_unref(pa_context_get_source_info_by_name(context, c->source, on_source, c));
    else if (!PA_CONTEXT_IS_GOOD(state))
        fail(c, "the server");
}

static void on_signal(pa_mainloop_api *api, pa_signal_event *event, int number, void *arg)
{
    (void)event, (void)number, (void)arg;
    api->quit(api, 0);
}

static void on_limit(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    (void)event, (void)when, (void)arg;
    api->quit(api, 0);
}

/* "FL,FR,RL": as PipeWire calls them. */
static bool parse_positions(pa_channel_map *map, const char *text)
{
    static const struct {
        const char *name;
        pa_channel_position_t position;
    } names[] = {
        {"FL",   PA_CHANNEL_POSITION_FRONT_LEFT  },
        {"FR",   PA_CHANNEL_POSITION_FRONT_RIGHT },
        {"FC",   PA_CHANNEL_POSITION_FRONT_CENTER},
        {"LFE",  PA_CHANNEL_POSITION_LFE         },
        {"RL",   PA_CHANNEL_POSITION_REAR_LEFT   },
        {"RR",   PA_CHANNEL_POSITION_REAR_RIGHT  },
        {"SL",   PA_CHANNEL_POSITION_SIDE_LEFT   },
        {"SR",   PA_CHANNEL_POSITION_SIDE_RIGHT  },
        {"MONO", PA_CHANNEL_POSITION_MONO        },
    };
    pa_channel_map_init(map);
    while (*text) {
        const size_t length = strcspn(text, ",");
        size_t i = 0;
        while (i < sizeof names / sizeof names[0] &&
               (strlen(names[i].name) != length || strncmp(names[i].name, text, length) != 0))
            i++;
        if (i == sizeof names / sizeof names[0] || map->channels == CAPTURE_CHANNELS_MAX)
            return false;
        map->map[map->channels++] = names[i].position;
        text += length + (text[length] == ',');
    }
    return map->channels > 0;
}

static int run(struct capturer *c, double seconds)
{
    pa_mainloop_api *api = pa_mainloop_get_api(c->loop);
    c->context = pa_context_new(api, "earshot-capture");
    if (!c->context)
        return -ENOMEM;
    pa_signal_init(api);
    pa_signal_new(SIGTERM, on_signal, c);
    pa_signal_new(SIGINT, on_signal, c);
    pa_context_set_state_callback(c->context, on_context_state, c);
    pa_context_rttime_new(c->context, pa_rtclock_now() + (pa_usec_t)(seconds * 1e6), on_limit, c);
    if (pa_context_connect(c->context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
        return -EHOSTDOWN;
    pa_mainloop_run(c->loop, NULL);
    pa_context_set_state_callback(c->context, NULL, NULL);
    if (c->stream) {
        pa_stream_set_state_callback(c->stream, NULL, NULL);
        pa_stream_unref(c->stream);
    }
    pa_context_disconnect(c->context);
    pa_context_unref(c->context);
    pa_signal_done();
    return 0;
}

int main(int argc, char **argv)
{
    struct capturer c = {.arrival_least = INT64_MAX};
    char *end = NULL;
    const double seconds = argc > 3 ? strtod(argv[3], &end) : 0;
    if (argc < 4 || argc > 5 || *end || !(seconds > 0 && seconds < 1e6) ||
        !parse_positions(&c.map, argc > 4 ? argv[4] : "FL,FR")) {
        fputs("Usage: earshot-pulse-capture SINK FILE SECONDS [POSITIONS]\n"
              "Records the sink's monitor until SECONDS are over or SIGTERM. POSITIONS: FL,FR\n",
              stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(c.source, sizeof c.source, "%s.monitor", argv[1]);
    c.frame_bytes = c.map.channels * sizeof(float);
    const struct capture_header header = {.magic = CAPTURE_MAGIC, .channels = c.map.channels};
    int result = -EIO;
    c.loop = pa_mainloop_new();
    c.file = fopen(argv[2], "wbe");
    if (c.loop && c.file && fwrite(&header, sizeof header, 1, c.file) == 1)
        result = run(&c, seconds);
    if (c.loop)
        pa_mainloop_free(c.loop);
    if (c.file && fclose(c.file) != 0 && result == 0)
        result = -EIO;
    if (c.told)
        printf("pieces were here %.2f ms before they were played\n", (double)-c.arrival_least / 1e6);
    if (result != 0)
        fprintf(stderr, "earshot-pulse-capture: %s\n", strerror(-result));
    return result != 0 ? 1 : c.exit_code;
}
