/* SPDX-License-Identifier: MIT */
#include "receiver/guest_input.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef EARSHOT_WAV
#include <sndfile.h>
#endif

#define BLOCK_FRAMES     256
#define STDIN_WAIT_MS    100
#define DEFAULT_RATE     48000
#define DEFAULT_BITS     16
#define DEFAULT_CHANNELS 2
#define DEFAULT_LEVEL_DB (-12.0)

struct guest_input {
    enum guest_play play;
    struct pcm_format format;
    struct signal_gen signal;
    uint64_t next_frame;
    const char *path;
    bool loop;
    float gain;
#ifdef EARSHOT_WAV
    SNDFILE *file;
#endif
    float samples[BLOCK_FRAMES * PCM_CHANNELS_MAX];
    uint8_t block[BLOCK_FRAMES * PCM_CHANNELS_MAX * 4]; /* encoded, from which reads are served */
    size_t block_bytes, block_taken;
};

static double level_of(const struct guest_options *options, double default_db)
{
    return pow(10, (isnan(options->level_db) ? default_db : options->level_db) / 20);
}

static int open_signal(struct guest_input *input, const struct guest_options *options, char error[OPTABLE_ERROR_MAX])
{
    struct signal_params params = {
        .kind = options->signal,
        .rate = input->format.rate,
        .channels = input->format.channels,
        .hz = options->hz,
        .period_frames = options->period_frames,
        .level = level_of(options, options->signal == SIGNAL_IMPULSE ? 0 : DEFAULT_LEVEL_DB),
    };
    int result = signal_gen_init(&input->signal, &params);
    if (result != 0)
        snprintf(error, OPTABLE_ERROR_MAX, "--tone %g: must stay below half the rate, %g Hz%s", options->hz,
                 input->format.rate / 2.0,
                 options->signal == SIGNAL_PER_CHANNEL ? ", also for the highest channel" : "");
    return result;
}

#ifdef EARSHOT_WAV
static uint8_t file_bits(int format)
{
    switch (format & SF_FORMAT_SUBMASK) {
    case SF_FORMAT_PCM_24:
        return 24;
    case SF_FORMAT_PCM_32:
    case SF_FORMAT_FLOAT:
    case SF_FORMAT_DOUBLE:
        return 32;
    default:
        return 16;
    }
}

static int open_wav(struct guest_input *input, const struct guest_options *options, uint32_t *rate, uint8_t *bits,
                    unsigned *channels, char error[OPTABLE_ERROR_MAX])
{
    if (access(options->wav_path, R_OK) != 0) {
        int result = -errno;
        snprintf(error, OPTABLE_ERROR_MAX, "cannot read %.100s: %s", options->wav_path, strerror(-result));
        return result;
    }
    SF_INFO info = {0};
    input->file = sf_open(options->wav_path, SFM_READ, &info);
    if (!input->file) {
        snprintf(error, OPTABLE_ERROR_MAX, "cannot read %.100s: %.100s", options->wav_path, sf_strerror(NULL));
        return -EIO;
    }
    if ((*rate && *rate != (uint32_t)info.samplerate) || (*channels && *channels != (unsigned)info.channels)) {
        snprintf(error, OPTABLE_ERROR_MAX,
                 "%.100s has %d channels at %d Hz: leave out --rate and --channels, or convert it first",
                 options->wav_path, info.channels, info.samplerate);
        return -EINVAL;
    }
    if (info.samplerate < PCM_RATE_MIN || info.samplerate > PCM_RATE_MAX ||
        pcm_rate_marker((uint32_t)info.samplerate) == 0 || info.channels < 1 || info.channels > PCM_CHANNELS_MAX) {
        snprintf(error, OPTABLE_ERROR_MAX,
                 "%.100s has %d channels at %d Hz: a guest has 1 to 8 at a multiple of 44100 or 48000",
                 options->wav_path, info.channels, info.samplerate);
        return -EINVAL;
    }
    *rate = (uint32_t)info.samplerate;
    *channels = (unsigned)info.channels;
    if (*bits == 0)
        *bits = file_bits(info.format);
    input->gain = (float)level_of(options, 0);
    return 0;
}

static ssize_t wav_frames(struct guest_input *input)
{
    sf_count_t frames = sf_readf_float(input->file, input->samples, BLOCK_FRAMES);
    if (frames == 0 && input->loop && sf_seek(input->file, 0, SEEK_SET) == 0)
        frames = sf_readf_float(input->file, input->samples, BLOCK_FRAMES);
    if (frames <= 0)
        return sf_error(input->file) ? -EIO : 0;
    for (size_t i = 0; i < (size_t)frames * input->format.channels; i++)
        input->samples[i] *= input->gain;
    return (ssize_t)frames;
}
#else
static int open_wav(struct guest_input *input, const struct guest_options *options, uint32_t *rate, uint8_t *bits,
                    unsigned *channels, char error[OPTABLE_ERROR_MAX])
{
    (void)input, (void)options, (void)rate, (void)bits, (void)channels;
    snprintf(error, OPTABLE_ERROR_MAX, "--wav: this earshot was built without libsndfile (EARSHOT_WAV)");
    return -ENOTSUP;
}

static ssize_t wav_frames(struct guest_input *input)
{
    (void)input;
    return 0;
}
#endif

static int check_capture(char error[OPTABLE_ERROR_MAX])
{
#ifdef EARSHOT_PULSE
    (void)error;
    return 0;
#else
    snprintf(error, OPTABLE_ERROR_MAX, "--capture: this earshot was built without libpulse (EARSHOT_PULSE)");
    return -ENOTSUP;
#endif
}

int guest_input_open(struct guest_input **input, const struct guest_options *options, struct pcm_format *format,
                     char error[OPTABLE_ERROR_MAX])
{
    struct guest_input *opened = calloc(1, sizeof *opened);
    int result = -ENOMEM;
    if (!opened) {
        snprintf(error, OPTABLE_ERROR_MAX, "out of memory");
        goto fail;
    }
    opened->play = options->play;
    opened->path = options->wav_path;
    opened->loop = options->loop;
    uint32_t rate = options->rate;
    uint8_t bits = options->bits;
    unsigned channels = options->channels;
    if (opened->play == GUEST_PLAY_WAV || opened->play == GUEST_PLAY_CAPTURE) {
        result = opened->play == GUEST_PLAY_CAPTURE ? check_capture(error)
                                                    : open_wav(opened, options, &rate, &bits, &channels, error);
        if (result != 0)
            goto fail;
    }
    rate = rate ? rate : DEFAULT_RATE;
    bits = bits ? bits : DEFAULT_BITS;
    channels = channels ? channels : DEFAULT_CHANNELS;
    result = pcm_format_parse(&opened->format, pcm_rate_marker(rate), bits, (uint8_t)channels,
                              options->mask < 0 ? 0 : (uint16_t)options->mask);
    if (result != 0) {
        snprintf(error, OPTABLE_ERROR_MAX, "the driver cannot send %u channels of %u bit at %u Hz", channels, bits,
                 rate);
        goto fail;
    }
    if (opened->play == GUEST_PLAY_SIGNAL) {
        result = open_signal(opened, options, error);
        if (result != 0)
            goto fail;
    }
    *format = opened->format;
    *input = opened;
    return 0;
fail:
    guest_input_close(opened);
    return result;
}

static ssize_t read_stdin(uint8_t *dst, size_t size)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&in, 1, STDIN_WAIT_MS) <= 0)
        return -EAGAIN;
    ssize_t got = read(STDIN_FILENO, dst, size);
    if (got < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    return got;
}

/* Frames put into input->samples: 0 at the end, -errno. */
static ssize_t next_frames(struct guest_input *input)
{
    if (input->play == GUEST_PLAY_WAV)
        return wav_frames(input);
    signal_gen_fill(&input->signal, input->samples, input->next_frame, BLOCK_FRAMES);
    input->next_frame += BLOCK_FRAMES;
    return BLOCK_FRAMES;
}

ssize_t guest_input_read(struct guest_input *input, uint8_t *dst, size_t size)
{
    if (input->play == GUEST_PLAY_STDIN)
        return read_stdin(dst, size);
    if (input->block_taken == input->block_bytes) {
        ssize_t frames = next_frames(input);
        if (frames <= 0)
            return frames;
        pcm_encode(input->block, input->samples, (size_t)frames * input->format.channels, input->format.bits);
        input->block_bytes = (size_t)frames * pcm_frame_bytes(&input->format);
        input->block_taken = 0;
    }
    size_t bytes = input->block_bytes - input->block_taken;
    if (bytes > size)
        bytes = size;
    memcpy(dst, input->block + input->block_taken, bytes);
    input->block_taken += bytes;
    return (ssize_t)bytes;
}

char *guest_input_describe(const struct guest_input *input, char *out, size_t size)
{
    const struct signal_params *params = &input->signal.params;
    if (input->play == GUEST_PLAY_STDIN)
        snprintf(out, size, "standard input");
    else if (input->play == GUEST_PLAY_WAV)
        snprintf(out, size, "the file %s", input->path);
    else if (input->play == GUEST_PLAY_CAPTURE)
        snprintf(out, size, "what plays here");
    else if (params->kind == SIGNAL_TONE)
        snprintf(out, size, "%g Hz tone", params->hz);
    else if (params->kind == SIGNAL_PER_CHANNEL)
        snprintf(out, size, "tones from %g to %g Hz", params->hz, params->hz * params->channels);
    else if (params->kind == SIGNAL_SWEEP)
        snprintf(out, size, "a sweep");
    else
        snprintf(out, size, "a pulse every %u frames", params->period_frames);
    return out;
}

void guest_input_close(struct guest_input *input)
{
    if (!input)
        return;
#ifdef EARSHOT_WAV
    if (input->file)
        sf_close(input->file);
#endif
    free(input);
}
