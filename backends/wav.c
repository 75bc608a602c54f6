/* SPDX-License-Identifier: MIT
 *
 * Records to a WAV file, in real time: the file gets what a device would have played. Float samples with the guest's
 * speaker mask. Files beyond 4 GiB become RF64; shorter ones are plain WAVE.
 */
#include "backends/paced.h"
#include "backends/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sndfile.h>

#define PERIOD_FRAMES_MAX 8192

/* Streams of one context that would have the same file get numbers. */
struct wav_name {
    struct wav_name *next;
    unsigned used;
    char path[];
};

struct backend_context {
    int event_fd;
    char *target;
    struct wav_name *names;
};

struct backend_stream {
    SNDFILE *file;
    struct paced *device; /* its own: the file takes its time */
    struct paced_stream *paced;
    int event_fd;
    uint32_t rate;
    uint32_t unsaved; /* frames since the header was brought up to date */
    atomic_int state; /* enum backend_state */
};

/* libsndfile's name of each bit of the mask. Its FRONT_LEFT, FRONT_RIGHT and FRONT_CENTER are not WAVE's. */
static const int speakers[] = {
    SF_CHANNEL_MAP_LEFT,
    SF_CHANNEL_MAP_RIGHT,
    SF_CHANNEL_MAP_CENTER,
    SF_CHANNEL_MAP_LFE,
    SF_CHANNEL_MAP_REAR_LEFT,
    SF_CHANNEL_MAP_REAR_RIGHT,
    SF_CHANNEL_MAP_FRONT_LEFT_OF_CENTER,
    SF_CHANNEL_MAP_FRONT_RIGHT_OF_CENTER,
    SF_CHANNEL_MAP_REAR_CENTER,
    SF_CHANNEL_MAP_SIDE_LEFT,
    SF_CHANNEL_MAP_SIDE_RIGHT,
    SF_CHANNEL_MAP_TOP_CENTER,
    SF_CHANNEL_MAP_TOP_FRONT_LEFT,
    SF_CHANNEL_MAP_TOP_FRONT_CENTER,
    SF_CHANNEL_MAP_TOP_FRONT_RIGHT,
    SF_CHANNEL_MAP_TOP_REAR_LEFT,
};

static int wav_probe(const struct backend_context_params *params)
{
    (void)params;
    return 0;
}

static int wav_context_open(struct backend_context **out, const struct backend_context_params *params)
{
    struct backend_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->event_fd = params->event_fd;
    if (params->target && !(context->target = strdup(params->target))) {
        free(context);
        return -ENOMEM;
    }
    *out = context;
    return 0;
}

static enum backend_state wav_context_state(struct backend_context *context)
{
    (void)context;
    return BACKEND_OK;
}

static void wav_context_close(struct backend_context *context)
{
    if (!context)
        return;
    for (struct wav_name *name = context->names; name;) {
        struct wav_name *next = name->next;
        free(name);
        name = next;
    }
    free(context->target);
    free(context);
}

/* How often `path` has been used in this context, this time included; 0: no memory. A number once given is not given
 * again: a stream that comes back with another format must not overwrite what it recorded before. */
static unsigned name_count(struct backend_context *context, const char *path)
{
    for (struct wav_name *name = context->names; name; name = name->next) {
        if (strcmp(name->path, path) == 0)
            return ++name->used;
    }
    const size_t size = strlen(path) + 1;
    struct wav_name *name = malloc(sizeof *name + size);
    if (!name)
        return 0;
    memcpy(name->path, path, size);
    name->used = 1;
    name->next = context->names;
    context->names = name;
    return 1;
}

/* "take.wav" -> "take-2.wav", "take" -> "take-2". */
static int numbered_path(char *out, size_t size, const char *path, unsigned number)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    const char *dot = strrchr(base, '.');
    if (!dot || dot == base)
        dot = base + strlen(base);
    const int length = number == 1 ? snprintf(out, size, "%s", path)
                                   : snprintf(out, size, "%.*s-%u%s", (int)(dot - path), path, number, dot);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

/* Empty, or a recording: anything else is somebody's file that was named by mistake. */
static int may_overwrite(int fd)
{
    char magic[4];
    const ssize_t bytes = pread(fd, magic, sizeof magic, 0);
    if (bytes < 0)
        return -errno;
    const bool recording = bytes == sizeof magic && (!memcmp(magic, "RIFF", 4) || !memcmp(magic, "RF64", 4));
    return bytes == 0 || recording ? 0 : -EEXIST;
}

/* Opens it ourselves for the sake of errno, and without waiting for a FIFO's reader. */
static int open_file(const char *path, int *fd)
{
    struct stat st;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (*fd < 0)
        return -errno;
    int rc = fstat(*fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -ESPIPE : may_overwrite(*fd);
    if (rc == 0 && ftruncate(*fd, 0) < 0)
        rc = -errno;
    if (rc < 0)
        close(*fd);
    return rc;
}

static int open_sound(SNDFILE **file, const char *path, const struct backend_stream_params *params)
{
    int fd;
    int rc = open_file(path, &fd);
    if (rc < 0)
        return rc;
    SF_INFO info = {.samplerate = (int)params->source_rate,
                    .channels = params->channels,
                    .format = SF_FORMAT_RF64 | SF_FORMAT_FLOAT};
    *file = sf_open_fd(fd, SFM_WRITE, &info, SF_TRUE);
    if (!*file)
        return -EIO; /* it has closed fd */
    int map[BACKEND_CHANNELS_MAX] = {0};
    int channel = 0;
    for (unsigned bit = 0; bit < sizeof speakers / sizeof speakers[0] && channel < params->channels; bit++) {
        if (params->mask & (1u << bit))
            map[channel++] = speakers[bit];
    }
    if (!sf_command(*file, SFC_SET_CHANNEL_MAP_INFO, map, channel * (int)sizeof map[0]))
        return -EIO; /* the caller closes the file */
    sf_command(*file, SFC_RF64_AUTO_DOWNGRADE, NULL, SF_TRUE);
    sf_command(*file, SFC_UPDATE_HEADER_NOW, NULL, 0);
    return 0;
}

/* The paced thread, outside pull. A full disk is a device that is missing for a while: what does not fit is lost, and
 * recording goes on when there is room. */
static void write_frames(void *arg, const float *frames, uint32_t count)
{
    struct backend_stream *stream = arg;
    const bool written = sf_writef_float(stream->file, frames, count) == (sf_count_t)count;
    const int state = written ? BACKEND_OK : BACKEND_NO_DEVICE;
    const uint64_t one = 1;

    if (atomic_exchange(&stream->state, state) != state && write(stream->event_fd, &one, sizeof one) < 0)
        return; /* the counter is full: main is about to look anyway */
    /* Once a second, so that a file that was never closed can be played all the same. */
    stream->unsaved += count;
    if (stream->unsaved >= stream->rate) {
        sf_command(stream->file, SFC_UPDATE_HEADER_NOW, NULL, 0);
        stream->unsaved = 0;
    }
}

static void wav_close(struct backend_stream *stream)
{
    if (!stream)
        return;
    paced_close(stream->paced);
    paced_destroy(stream->device);
    if (stream->file)
        sf_close(stream->file);
    free(stream);
}

static int wav_open(struct backend_context *context, struct backend_stream_params *params,
                    struct backend_stream **out)
{
    const char *target = params->target ? params->target : context->target;
    char path[PATH_MAX];

    if (!target || *target == '\0' || params->source_rate == 0 || params->source_rate > INT_MAX ||
        params->channels == 0 || params->channels > BACKEND_CHANNELS_MAX ||
        __builtin_popcount(params->mask) != params->channels)
        return -EINVAL;
    struct backend_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    const unsigned number = name_count(context, target);
    int rc = number == 0 ? -ENOMEM : numbered_path(path, sizeof path, target, number);
    if (rc == 0)
        rc = open_sound(&stream->file, path, params);
    if (rc < 0)
        goto fail;
    stream->event_fd = context->event_fd;
    stream->rate = params->source_rate;

    /* Recording may be late: it catches up rather than leaving a hole, unless the machine slept. */
    int64_t frames = params->period_ns > 0 ? params->period_ns * params->source_rate / 1000000000 : 0;
    frames = frames < 256 ? 256 : frames > PERIOD_FRAMES_MAX ? PERIOD_FRAMES_MAX : frames;
    const struct paced_params device = {
        .rate = params->source_rate,
        .period = {(uint32_t)frames},
        .hold_cycles = 1,
        .late_max_ns = INT64_C(2000000000),
    };
    const struct paced_stream_params paced = {
        .pull = params->pull, .pull_arg = params->arg, .sink = write_frames, .sink_arg = stream};
    rc = paced_create(&stream->device, &device);
    if (rc == 0)
        rc = paced_open(stream->device, &paced, &stream->paced);
    if (rc < 0)
        goto fail;
    params->period_ns = frames * 1000000000 / params->source_rate;
    *out = stream;
    return 0;

fail:
    wav_close(stream);
    return rc;
}

static int wav_start(struct backend_stream *stream)
{
    return paced_start(stream->paced);
}

static void wav_stop(struct backend_stream *stream)
{
    paced_stop(stream->paced);
    sf_command(stream->file, SFC_UPDATE_HEADER_NOW, NULL, 0);
    stream->unsaved = 0;
}

static enum backend_state wav_state(struct backend_stream *stream)
{
    return (enum backend_state)atomic_load(&stream->state);
}

const struct backend backend_wav = {
    .name = "wav",
    .title = "WAV file",
    .target_help = "a file to record to",
    .needs_target = true,
    .probe = wav_probe,
    .context_open = wav_context_open,
    .context_state = wav_context_state,
    .context_close = wav_context_close,
    .open = wav_open,
    .start = wav_start,
    .stop = wav_stop,
    .state = wav_state,
    .close = wav_close,
};
