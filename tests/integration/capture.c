/* SPDX-License-Identifier: MIT
 *
 * earshot-capture: records a sink's monitor with the graph's time and position of each cycle. It asks for no latency
 * of its own, so that it does not change what it measures.
 *
 * Threads: [main] the PipeWire loop; [rt] on_process.
 */
#include "tests/integration/capture_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pipewire/pipewire.h>
#include <spa/debug/types.h>
#include <spa/param/audio/format-utils.h>
#include <spa/param/audio/type-info.h>

struct capturer {
    struct pw_main_loop *loop;
    struct pw_context *context;
    struct pw_stream *stream;
    struct spa_hook listener;
    _Atomic(struct spa_io_position *) position;
    struct capture_writer *writer;
    unsigned channels;
    bool closing; /* the stream's end is our own doing */
    int exit_code;
};

static void on_io_changed(void *arg, uint32_t id, void *area, uint32_t size)
{
    struct capturer *capturer = arg;
    if (id == SPA_IO_Position)
        atomic_store(&capturer->position, size >= sizeof(struct spa_io_position) ? area : NULL);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SPA_NSEC_PER_SEC + now.tv_nsec;
}

/* [rt] */
static void on_process(void *arg)
{
    struct capturer *capturer = arg;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(capturer->stream);
    if (!buffer)
        return;
    const struct spa_io_position *position = atomic_load(&capturer->position);
    const struct spa_data *data = &buffer->buffer->datas[0];
    if (position && data->data && data->chunk->offset <= data->maxsize &&
        data->chunk->size <= data->maxsize - data->chunk->offset) {
        size_t frame_bytes = capturer->channels * sizeof(float);
        uint32_t frames = (uint32_t)(data->chunk->size / frame_bytes);
        struct capture_record record = {
            .cycle_ns = (int64_t)position->clock.nsec,
            .position = position->clock.position,
            .frames = frames,
            .rate = position->clock.rate.denom,
            .quantum = (uint32_t)position->clock.duration,
            .clock_id = position->clock.id,
            .read_ns = now_ns(),
        };
        capture_writer_put(capturer->writer, &record, SPA_PTROFF(data->data, data->chunk->offset, const void));
    }
    pw_stream_queue_buffer(capturer->stream, buffer);
}

static void on_state_changed(void *arg, enum pw_stream_state old, enum pw_stream_state state, const char *error)
{
    struct capturer *capturer = arg;
    (void)old;
    if (state == PW_STREAM_STATE_STREAMING) {
        puts("capturing");
        fflush(stdout);
    } else if (!capturer->closing && (state == PW_STREAM_STATE_ERROR || state == PW_STREAM_STATE_UNCONNECTED)) {
        fprintf(stderr, "earshot-capture: the stream ended: %s\n", error ? error : "server gone");
        capturer->exit_code = 3;
        pw_main_loop_quit(capturer->loop);
    }
}

static const struct pw_stream_events stream_events = {
    PW_VERSION_STREAM_EVENTS,
    .state_changed = on_state_changed,
    .io_changed = on_io_changed,
    .process = on_process,
};

static void on_signal(void *arg, int number)
{
    (void)number;
    pw_main_loop_quit(((struct capturer *)arg)->loop);
}

static void on_timeout(void *arg, uint64_t expirations)
{
    (void)expirations;
    pw_main_loop_quit(((struct capturer *)arg)->loop);
}

static uint32_t channel_id(const char *name, size_t length)
{
    for (const struct spa_type_info *type = spa_type_audio_channel; type->name; type++) {
        const char *channel = spa_debug_type_short_name(type->name);
        if (strlen(channel) == length && strncmp(channel, name, length) == 0)
            return type->type;
    }
    return SPA_ID_INVALID;
}

/* "FL,FR,LFE" to channel ids; returns how many, 0 for a name that is none. */
static unsigned parse_positions(const char *text, uint32_t positions[CAPTURE_CHANNELS_MAX])
{
    unsigned count = 0;
    while (*text && count < CAPTURE_CHANNELS_MAX) {
        size_t length = strcspn(text, ",");
        positions[count] = channel_id(text, length);
        if (positions[count++] == SPA_ID_INVALID)
            return 0;
        text += length + (text[length] == ',');
    }
    return *text ? 0 : count;
}

static int connect_stream(struct capturer *capturer, const char *sink, bool passive, const uint32_t *positions)
{
    struct pw_properties *properties = pw_properties_new(
        PW_KEY_NODE_NAME, "earshot-capture", PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Capture",
        PW_KEY_STREAM_CAPTURE_SINK, "true", PW_KEY_TARGET_OBJECT, sink, PW_KEY_NODE_DONT_RECONNECT, "true",
        PW_KEY_STREAM_DONT_REMIX, "true", PW_KEY_NODE_PASSIVE, passive ? "true" : "false", NULL);
    if (!properties)
        return -ENOMEM;
    capturer->stream = pw_stream_new_simple(pw_main_loop_get_loop(capturer->loop), "earshot-capture", properties,
                                            &stream_events, capturer);
    if (!capturer->stream)
        return -errno;

    /* No rate: the stream runs at the graph's, whatever that is and becomes. */
    struct spa_audio_info_raw info = {.format = SPA_AUDIO_FORMAT_F32, .channels = capturer->channels};
    memcpy(info.position, positions, capturer->channels * sizeof *positions);
    uint8_t storage[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(storage, sizeof storage);
    const struct spa_pod *format = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info);
    return pw_stream_connect(capturer->stream, PW_DIRECTION_INPUT, PW_ID_ANY,
                             PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS,
                             &format, 1);
}

static int capture_run(struct capturer *capturer, const char *sink, bool passive, const uint32_t *positions,
                       double seconds)
{
    struct pw_loop *loop = pw_main_loop_get_loop(capturer->loop);
    pw_loop_add_signal(loop, SIGTERM, on_signal, capturer);
    pw_loop_add_signal(loop, SIGINT, on_signal, capturer);
    struct spa_source *timer = pw_loop_add_timer(loop, on_timeout, capturer);
    struct timespec limit = {.tv_sec = (time_t)seconds};
    limit.tv_nsec = (long)((seconds - (double)limit.tv_sec) * 1e9);
    pw_loop_update_timer(loop, timer, &limit, NULL, false);

    int result = connect_stream(capturer, sink, passive, positions);
    if (result == 0)
        pw_main_loop_run(capturer->loop);
    capturer->closing = true;
    if (capturer->stream)
        pw_stream_destroy(capturer->stream);
    return result;
}

static int usage(void)
{
    fputs("Usage: earshot-capture SINK FILE SECONDS [POSITIONS] [passive]\n"
          "Records the sink's monitor until SECONDS are over or SIGTERM. POSITIONS: FL,FR\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 6)
        return usage();
    char *end;
    double seconds = strtod(argv[3], &end);
    uint32_t positions[CAPTURE_CHANNELS_MAX];
    struct capturer capturer = {.channels = parse_positions(argc > 4 ? argv[4] : "FL,FR", positions)};
    bool passive = argc > 5 && strcmp(argv[5], "passive") == 0;
    if (*end || !(seconds > 0 && seconds < 1e6) || capturer.channels == 0)
        return usage();

    pw_init(NULL, NULL);
    uint64_t dropped = 0;
    int result = capture_writer_open(&capturer.writer, argv[2], capturer.channels);
    if (result == 0) {
        capturer.loop = pw_main_loop_new(NULL);
        result = capturer.loop ? capture_run(&capturer, argv[1], passive, positions, seconds) : -ENOMEM;
        if (capturer.loop)
            pw_main_loop_destroy(capturer.loop);
        const int written = capture_writer_close(capturer.writer, &dropped);
        result = result != 0 ? result : written;
    }
    pw_deinit();
    if (result != 0)
        fprintf(stderr, "earshot-capture: %s\n", strerror(-result));
    else if (dropped)
        fprintf(stderr, "earshot-capture: %" PRIu64 " cycles did not fit\n", dropped);
    return result != 0 ? 1 : capturer.exit_code;
}
