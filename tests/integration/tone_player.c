/* SPDX-License-Identifier: MIT
 *
 * earshot-tone-player: a bare stream that plays the quadrature tone at the graph's rate, with faults at known places:
 * what the harness is tried on before anything is judged with it. Logs as `earshot guest --log` does, a line a cycle.
 *
 * [rt] on_process writes the log through a buffer that is flushed at the end: good enough for a few seconds.
 */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipewire/pipewire.h>
#include <spa/param/audio/format-utils.h>

#define TURN       6.283185307179586
#define CYCLES_MAX 200000

struct cycle {
    uint64_t first;
    int64_t ns;
    uint32_t frames;
};

struct player {
    struct pw_main_loop *loop;
    struct pw_stream *stream;
    struct spa_hook listener;
    _Atomic(struct spa_io_position *) position;
    double hz;
    uint64_t frame;      /* of the tone: the next to play */
    uint64_t skip_every; /* frames; 0: never */
    uint64_t skip;       /* so many then */
    uint64_t until_skip;
    struct cycle *cycles;
    size_t cycle_count;
};

static void on_io_changed(void *arg, uint32_t id, void *area, uint32_t size)
{
    struct player *player = arg;
    if (id == SPA_IO_Position)
        atomic_store(&player->position, size >= sizeof(struct spa_io_position) ? area : NULL);
}

/* [rt] */
static void on_process(void *arg)
{
    struct player *player = arg;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(player->stream);
    if (!buffer)
        return;
    struct spa_data *data = &buffer->buffer->datas[0];
    const struct spa_io_position *position = atomic_load(&player->position);
    uint32_t room = data->maxsize / (2 * (uint32_t)sizeof(float));
    uint32_t frames = position && position->clock.duration < room ? (uint32_t)position->clock.duration : room;
    float *samples = data->data;
    double rate = position && position->clock.rate.denom ? position->clock.rate.denom : 48000;

    if (position && player->cycle_count < CYCLES_MAX)
        player->cycles[player->cycle_count++] = (struct cycle){player->frame, (int64_t)position->clock.nsec, frames};
    for (uint32_t i = 0; samples && i < frames; i++) {
        if (player->skip_every && player->until_skip-- == 0) {
            player->until_skip = player->skip_every;
            player->frame += player->skip;
        }
        double phase = TURN * fmod(player->hz * (double)player->frame++ / rate, 1);
        samples[2 * i] = (float)(0.9 * cos(phase));
        samples[2 * i + 1] = (float)(0.9 * sin(phase));
    }
    data->chunk->offset = 0;
    data->chunk->stride = 2 * sizeof(float);
    data->chunk->size = frames * 2 * (uint32_t)sizeof(float);
    pw_stream_queue_buffer(player->stream, buffer);
}

static const struct pw_stream_events stream_events = {
    PW_VERSION_STREAM_EVENTS,
    .io_changed = on_io_changed,
    .process = on_process,
};

static void on_signal(void *arg, int number)
{
    (void)number;
    pw_main_loop_quit(((struct player *)arg)->loop);
}

static int write_log(const struct player *player, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return -1;
    for (size_t i = 0; i < player->cycle_count; i++)
        fprintf(file, "%" PRIu64 " %" PRId64 " %" PRIu32 "\n", player->cycles[i].first, player->cycles[i].ns,
                player->cycles[i].frames);
    return fclose(file);
}

static int play(struct player *player, const char *sink, const char *latency)
{
    struct pw_properties *properties =
        pw_properties_new(PW_KEY_NODE_NAME, "earshot-tone-player", PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY,
                          "Playback", PW_KEY_TARGET_OBJECT, sink, PW_KEY_NODE_LATENCY, latency, NULL);
    player->stream = pw_stream_new_simple(pw_main_loop_get_loop(player->loop), "earshot-tone-player", properties,
                                          &stream_events, player);
    if (!player->stream)
        return -1;
    struct spa_audio_info_raw info = {
        .format = SPA_AUDIO_FORMAT_F32, .channels = 2, .position = {SPA_AUDIO_CHANNEL_FL, SPA_AUDIO_CHANNEL_FR}
    };
    uint8_t storage[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(storage, sizeof storage);
    const struct spa_pod *format = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info);
    int result = pw_stream_connect(
        player->stream, PW_DIRECTION_OUTPUT, PW_ID_ANY,
        PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS, &format, 1);
    if (result == 0)
        pw_main_loop_run(player->loop);
    pw_stream_destroy(player->stream);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fputs("Usage: earshot-tone-player SINK HZ LATENCY LOG SKIP_EVERY SKIP\n"
              "Until SIGTERM. LATENCY: 256/48000. Each SKIP_EVERY frames skips SKIP of them; 0: never.\n",
              stderr);
        return 2;
    }
    pw_init(NULL, NULL);
    struct player player = {.hz = strtod(argv[2], NULL),
                            .skip_every = strtoull(argv[5], NULL, 10),
                            .skip = strtoull(argv[6], NULL, 10),
                            .cycles = calloc(CYCLES_MAX, sizeof *player.cycles),
                            .loop = pw_main_loop_new(NULL)};
    player.until_skip = player.skip_every;
    int result = -1;
    if (player.cycles && player.loop) {
        struct pw_loop *loop = pw_main_loop_get_loop(player.loop);
        pw_loop_add_signal(loop, SIGTERM, on_signal, &player);
        pw_loop_add_signal(loop, SIGINT, on_signal, &player);
        result = play(&player, argv[1], argv[3]);
        if (result == 0)
            result = write_log(&player, argv[4]);
    }
    if (player.loop)
        pw_main_loop_destroy(player.loop);
    free(player.cycles);
    pw_deinit();
    return result != 0;
}
