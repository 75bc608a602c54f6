/* SPDX-License-Identifier: MIT
 *
 * earshot-reference: the least that playing through a resampler costs. A bare PipeWire stream, or several of one
 * context, whose callback does nothing but src_process() of a tone made beforehand. tests/bench/cpu.py and many.py
 * compare Earshot with it.
 *
 * [rt] on_process only; all else [main].
 */
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipewire/pipewire.h>
#include <samplerate.h>
#include <spa/param/audio/format-utils.h>

#define CHANNELS   2
#define FRAMES_MAX 8192
#define COUNT_MAX  64
#define TURN       6.283185307179586
#define HZ         375 /* of 48000: a whole number of turns in the input */
#define RATIO      1.0001

struct reference {
    struct pw_stream *stream;
    struct spa_hook listener;
    SRC_STATE *resampler;
    float input[FRAMES_MAX * 2 * CHANNELS];
};

/* [rt] */
static void on_process(void *arg)
{
    struct reference *reference = arg;
    struct pw_time time;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(reference->stream);
    if (!buffer)
        return;
    struct spa_data *data = &buffer->buffer->datas[0];
    uint32_t room = data->maxsize / (CHANNELS * (uint32_t)sizeof(float));
    uint32_t frames = buffer->requested && buffer->requested < room ? (uint32_t)buffer->requested : room;
    if (frames > FRAMES_MAX)
        frames = FRAMES_MAX;
    /* Asking where the device stands is part of the least: who follows a clock must. */
    pw_stream_get_time_n(reference->stream, &time, sizeof time);
    SRC_DATA work = {.data_in = reference->input,
                     .data_out = data->data,
                     .input_frames = (long)frames,
                     .output_frames = (long)frames,
                     .src_ratio = RATIO};
    src_process(reference->resampler, &work);
    data->chunk->offset = 0;
    data->chunk->stride = CHANNELS * sizeof(float);
    data->chunk->size = frames * CHANNELS * (uint32_t)sizeof(float);
    pw_stream_queue_buffer(reference->stream, buffer);
}

static const struct pw_stream_events stream_events = {PW_VERSION_STREAM_EVENTS, .process = on_process};

static void on_signal(void *arg, int number)
{
    (void)number;
    pw_main_loop_quit(arg);
}

/* NULL: it cannot be made. */
static struct reference *play(struct pw_core *core, int converter, const char *sink, const char *latency)
{
    int error = 0;
    struct reference *reference = calloc(1, sizeof *reference);
    if (!reference)
        return NULL;
    for (size_t i = 0; i < FRAMES_MAX * 2; i++) {
        float sample = (float)(0.5 * sin(TURN * HZ * (double)i / 48000));
        reference->input[2 * i] = reference->input[2 * i + 1] = sample;
    }
    struct pw_properties *properties =
        pw_properties_new(PW_KEY_NODE_NAME, "earshot-reference", PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY,
                          "Playback", PW_KEY_TARGET_OBJECT, sink, PW_KEY_NODE_LATENCY, latency, NULL);
    reference->resampler = src_new(converter, CHANNELS, &error);
    reference->stream = pw_stream_new(core, "earshot-reference", properties);
    if (!reference->stream || !reference->resampler)
        goto fail;
    pw_stream_add_listener(reference->stream, &reference->listener, &stream_events, reference);
    struct spa_audio_info_raw info = {
        .format = SPA_AUDIO_FORMAT_F32,
        .channels = CHANNELS,
        .position = {SPA_AUDIO_CHANNEL_FL, SPA_AUDIO_CHANNEL_FR}
    };
    uint8_t storage[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(storage, sizeof storage);
    const struct spa_pod *format = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info);
    if (pw_stream_connect(reference->stream, PW_DIRECTION_OUTPUT, PW_ID_ANY,
                          PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS,
                          &format, 1) == 0)
        return reference;

fail:
    if (reference->stream)
        pw_stream_destroy(reference->stream);
    if (reference->resampler)
        src_delete(reference->resampler);
    free(reference);
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int converter;
    } qualities[] = {
        {"fastest", SRC_SINC_FASTEST       },
        {"medium",  SRC_SINC_MEDIUM_QUALITY},
        {"best",    SRC_SINC_BEST_QUALITY  }
    };
    int converter = -1;
    long count = argc == 5 ? strtol(argv[4], NULL, 10) : 1, made = 0;
    for (size_t i = 0; argc >= 4 && i < sizeof qualities / sizeof qualities[0]; i++) {
        if (strcmp(argv[2], qualities[i].name) == 0)
            converter = qualities[i].converter;
    }
    if (converter < 0 || argc > 5 || count < 1 || count > COUNT_MAX) {
        fputs(
            "Usage: earshot-reference SINK fastest|medium|best LATENCY [COUNT]\nUntil SIGTERM. LATENCY: 256/48000\n",
            stderr);
        return 2;
    }
    pw_init(NULL, NULL);
    struct reference *references[COUNT_MAX];
    struct pw_main_loop *loop = pw_main_loop_new(NULL);
    /* The default configuration leaves the data thread without real-time priority. */
    struct pw_properties *properties = pw_properties_new(PW_KEY_CONFIG_NAME, "client-rt.conf", NULL);
    struct pw_context *context = loop ? pw_context_new(pw_main_loop_get_loop(loop), properties, 0) : NULL;
    struct pw_core *core = context ? pw_context_connect(context, NULL, 0) : NULL;
    while (core && made < count && (references[made] = play(core, converter, argv[1], argv[3])))
        made++;
    if (made == count) {
        pw_loop_add_signal(pw_main_loop_get_loop(loop), SIGTERM, on_signal, loop);
        pw_loop_add_signal(pw_main_loop_get_loop(loop), SIGINT, on_signal, loop);
        pw_main_loop_run(loop);
    }
    for (long i = 0; i < made; i++) {
        pw_stream_destroy(references[i]->stream);
        src_delete(references[i]->resampler);
        free(references[i]);
    }
    if (core)
        pw_core_disconnect(core);
    if (context)
        pw_context_destroy(context);
    if (loop)
        pw_main_loop_destroy(loop);
    pw_deinit();
    return made != count;
}
