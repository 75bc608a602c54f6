/* SPDX-License-Identifier: MIT
 *
 * A sound card for alsa-lib that is none: paced by CLOCK_MONOTONIC at a distance one chooses, with the formats,
 * channels, sizes and faults one dials in. What it "plays" goes to a capture file, frame by frame with its time.
 *
 *   pcm_type.earshot_test { lib "/.../alsa_test_plugin.so" }
 *   pcm.card {
 *       type earshot_test
 *       control "/directory"     # what files are in there:
 *                                # gone     the card is unplugged          busy   somebody else has it
 *                                # suspend  it sleeps until that is gone   xrun   it runs dry, once (is removed)
 *                                # stall    its clock stands still         deaf   it does not resume
 *       capture "/file"          # capture_file.h; or left out
 *       ppm 300                  # its clock
 *       rates "44100,48000"      formats "S16_LE,S32_LE"      channels "2,6,8"
 *       period_min 64  period_max 4096   # frames; equal: this and no other
 *       period_step 47                   # multiples of it only
 *       buffer_min 128  buffer_max 16384
 *       chmap "FL,FR,RL,RR,FC,LFE"       # of one channel count; or left out: it has none
 *       chmap_fixed 1                    # it cannot be set
 *       granule 32               # frames its position goes by
 *       beyond 96                # frames between its buffer and the ear
 *       slow 20                  # microseconds that it takes to say where it is
 *   }
 */
#include "tests/integration/capture_file.h"

#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S     1000000000
#define LIST_MAX     16
#define CHANNELS_MAX CAPTURE_CHANNELS_MAX

struct list {
    unsigned values[LIST_MAX];
    unsigned count;
};

struct card {
    snd_pcm_ioplug_t io;
    char *control, *capture_path;
    long ppm, period_min, period_max, period_step, buffer_min, buffer_max, chmap_fixed, granule, beyond, slow;
    struct list rates, formats, channels;
    snd_pcm_chmap_t *chmap, *chosen;
    snd_pcm_uframes_t avail_min;

    bool running;
    int64_t begun_ns;   /* when frame 0 of this run was played */
    int64_t stopped_ns; /* the clock stands since; 0: it goes */
    uint64_t played;    /* frames of this run, given out as position */
    uint64_t total;     /* of all runs: the position in the capture */
    FILE *capture;
    float *ring; /* buffer_size frames, as written */
    unsigned ring_channels;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static bool fault(const struct card *card, const char *name)
{
    char path[512];
    if (!card->control)
        return false;
    snprintf(path, sizeof path, "%s/%s", card->control, name);
    return access(path, F_OK) == 0;
}

static bool fault_once(const struct card *card, const char *name)
{
    char path[512];
    if (!fault(card, name))
        return false;
    snprintf(path, sizeof path, "%s/%s", card->control, name);
    return unlink(path) == 0;
}

/* ---- its clock ---- */

static double clock_hz(const struct card *card)
{
    return card->io.rate * (1.0 + (double)card->ppm * 1e-6);
}

static int64_t frame_ns(const struct card *card, uint64_t frame)
{
    return card->begun_ns + (int64_t)((double)frame * NS_PER_S / clock_hz(card));
}

static uint64_t exact_position(const struct card *card)
{
    const int64_t ns = (card->stopped_ns ? card->stopped_ns : now_ns()) - card->begun_ns;
    return ns > 0 ? (uint64_t)((double)ns * clock_hz(card) / NS_PER_S) : 0;
}

static void hold_clock(struct card *card, bool hold)
{
    if (hold && card->stopped_ns == 0) {
        card->stopped_ns = now_ns();
    } else if (!hold && card->stopped_ns != 0) {
        card->begun_ns += now_ns() - card->stopped_ns;
        card->stopped_ns = 0;
    }
}

/* ---- what it plays ---- */

static float decode(const unsigned char *at, snd_pcm_format_t format)
{
    int32_t word;
    int16_t half;
    float value;
    switch (format) {
    case SND_PCM_FORMAT_S16:
        memcpy(&half, at, sizeof half);
        return (float)half * 0x1p-15f;
    case SND_PCM_FORMAT_S24_3LE:
        word = (int32_t)((uint32_t)at[0] << 8 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 24);
        return (float)word * 0x1p-31f;
    case SND_PCM_FORMAT_S24:
        memcpy(&word, at, sizeof word);
        return (float)(int32_t)((uint32_t)word << 8) * 0x1p-31f;
    case SND_PCM_FORMAT_S32:
        memcpy(&word, at, sizeof word);
        return (float)word * 0x1p-31f;
    default:
        memcpy(&value, at, sizeof value);
        return value;
    }
}

/* Frames up to `to` of this run have been heard. */
static void play_until(struct card *card, uint64_t to)
{
    const snd_pcm_uframes_t size = card->io.buffer_size;
    while (card->played < to) {
        const uint64_t at = card->played % size;
        uint64_t count = to - card->played;
        if (count > size - at)
            count = size - at;
        if (card->capture) {
            const struct capture_record record = {
                .cycle_ns = frame_ns(card, card->played),
                .position = card->total,
                .frames = (uint32_t)count,
                .rate = card->io.rate,
                .quantum = (uint32_t)card->io.period_size,
                .clock_id = 1,
            };
            fwrite(&record, sizeof record, 1, card->capture);
            fwrite(card->ring + at * card->ring_channels, card->ring_channels * sizeof(float), count, card->capture);
            fflush(card->capture);
        }
        card->played += count;
        card->total += count;
    }
}

/* ---- the callbacks ---- */

static int card_start(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    card->begun_ns = now_ns();
    card->stopped_ns = 0;
    card->played = 0;
    card->running = true;
    return 0;
}

static int card_stop(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    card->running = false;
    return 0;
}

static snd_pcm_sframes_t card_pointer(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    if (fault(card, "gone")) {
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
        card->running = false;
    }
    if (!card->running)
        return (snd_pcm_sframes_t)(card->played % io->buffer_size);
    const bool asleep = fault(card, "suspend");
    hold_clock(card, asleep || fault(card, "stall"));
    if (asleep)
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_SUSPENDED);
    for (const int64_t until_ns = now_ns() + card->slow * 1000; now_ns() < until_ns;)
        ;
    uint64_t position = exact_position(card);
    position -= position % (uint64_t)card->granule;
    /* appl_ptr is the library's, modulo its boundary, which no test reaches. */
    const uint64_t written = io->appl_ptr;
    const bool dry = fault_once(card, "xrun") || position > written;
    play_until(card, position < written ? position : written);
    if (dry) {
        card->running = false;
        return -EPIPE;
    }
    return (snd_pcm_sframes_t)(position % io->buffer_size);
}

static snd_pcm_sframes_t card_transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
                                       snd_pcm_uframes_t offset, snd_pcm_uframes_t size)
{
    struct card *card = io->private_data;
    if (fault(card, "gone"))
        return -ENODEV;
    const uint64_t at = io->appl_ptr;
    for (snd_pcm_uframes_t i = 0; i < size; i++) {
        float *frame = card->ring + (at + i) % io->buffer_size * card->ring_channels;
        for (unsigned c = 0; c < card->ring_channels; c++) {
            const unsigned char *sample =
                (const unsigned char *)areas[c].addr + (areas[c].first + (offset + i) * areas[c].step) / 8;
            frame[c] = decode(sample, io->format);
        }
    }
    return (snd_pcm_sframes_t)size;
}

static int card_delay(snd_pcm_ioplug_t *io, snd_pcm_sframes_t *delay)
{
    struct card *card = io->private_data;
    const uint64_t position = card->running ? exact_position(card) : card->played;
    *delay = (snd_pcm_sframes_t)io->appl_ptr - (snd_pcm_sframes_t)position + card->beyond;
    return 0;
}

static int card_prepare(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    card->running = false;
    card->played = 0;
    return fault(card, "gone") ? -ENODEV : 0;
}

static int card_resume(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    if (fault(card, "suspend"))
        return -EAGAIN;
    if (fault(card, "deaf"))
        return -ENOSYS;
    hold_clock(card, false);
    snd_pcm_ioplug_set_state(io, SND_PCM_STATE_RUNNING);
    return 0;
}

static int card_hw_params(snd_pcm_ioplug_t *io, snd_pcm_hw_params_t *params)
{
    struct card *card = io->private_data;
    (void)params;
    free(card->ring);
    card->ring_channels = io->channels < CHANNELS_MAX ? io->channels : CHANNELS_MAX;
    card->ring = calloc(io->buffer_size * card->ring_channels, sizeof *card->ring);
    if (!card->ring)
        return -ENOMEM;
    if (card->capture_path && !card->capture) {
        /* Opened again it goes on at the file's end. */
        card->capture = fopen(card->capture_path, "abe");
        if (!card->capture)
            return -errno;
        const struct capture_header header = {.magic = CAPTURE_MAGIC, .channels = card->ring_channels};
        if (ftell(card->capture) == 0)
            fwrite(&header, sizeof header, 1, card->capture);
    }
    return 0;
}

static int card_sw_params(snd_pcm_ioplug_t *io, snd_pcm_sw_params_t *params)
{
    struct card *card = io->private_data;
    return snd_pcm_sw_params_get_avail_min(params, &card->avail_min);
}

/* The "interrupt": at the end of each of its periods, as a card does it. */
static void arm_timer(struct card *card)
{
    int64_t at_ns = now_ns() + NS_PER_S / 100;
    if (card->running && card->stopped_ns == 0) {
        const uint64_t period = card->io.period_size;
        at_ns = frame_ns(card, (exact_position(card) / period + 1) * period) + 1000;
    }
    const struct itimerspec when = {
        .it_value = {.tv_sec = at_ns / NS_PER_S, .tv_nsec = at_ns % NS_PER_S}
    };
    timerfd_settime(card->io.poll_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int card_poll_descriptors(snd_pcm_ioplug_t *io, struct pollfd *fds, unsigned space)
{
    struct card *card = io->private_data;
    if (space < 1)
        return -EINVAL;
    arm_timer(card);
    fds[0] = (struct pollfd){.fd = io->poll_fd, .events = POLLIN};
    return 1;
}

static int card_poll_revents(snd_pcm_ioplug_t *io, struct pollfd *fds, unsigned count, unsigned short *revents)
{
    struct card *card = io->private_data;
    uint64_t expirations;
    *revents = 0;
    if (count < 1 || !(fds[0].revents & POLLIN))
        return 0;
    if (read(io->poll_fd, &expirations, sizeof expirations) < 0)
        return 0;
    if (fault(card, "gone"))
        *revents = POLLERR;
    else if (exact_position(card) + io->buffer_size >= io->appl_ptr + card->avail_min)
        *revents = POLLOUT;
    return 0;
}

static snd_pcm_chmap_query_t **card_query_chmaps(snd_pcm_ioplug_t *io)
{
    const struct card *card = io->private_data;
    if (!card->chmap)
        return NULL;
    snd_pcm_chmap_query_t **maps = calloc(2, sizeof *maps);
    const size_t size = sizeof(struct snd_pcm_chmap_query) + card->chmap->channels * sizeof card->chmap->pos[0];
    if (!maps || !(maps[0] = calloc(1, size)))
        return maps;
    maps[0]->type = card->chmap_fixed ? SND_CHMAP_TYPE_FIXED : SND_CHMAP_TYPE_VAR;
    maps[0]->map.channels = card->chmap->channels;
    memcpy(maps[0]->map.pos, card->chmap->pos, card->chmap->channels * sizeof card->chmap->pos[0]);
    return maps;
}

static snd_pcm_chmap_t *copy_map(const snd_pcm_chmap_t *map)
{
    const size_t size = sizeof *map + map->channels * sizeof map->pos[0];
    snd_pcm_chmap_t *copy = malloc(size);
    return copy ? memcpy(copy, map, size) : NULL;
}

static snd_pcm_chmap_t *card_get_chmap(snd_pcm_ioplug_t *io)
{
    const struct card *card = io->private_data;
    const snd_pcm_chmap_t *map = card->chosen ? card->chosen : card->chmap;
    return map && map->channels == io->channels ? copy_map(map) : NULL;
}

static int card_set_chmap(snd_pcm_ioplug_t *io, const snd_pcm_chmap_t *map)
{
    struct card *card = io->private_data;
    if (!card->chmap || card->chmap_fixed || map->channels != io->channels)
        return -ENXIO;
    free(card->chosen);
    card->chosen = copy_map(map);
    return card->chosen ? 0 : -ENOMEM;
}

static void card_free(struct card *card)
{
    if (card->io.poll_fd >= 0)
        close(card->io.poll_fd);
    if (card->capture)
        fclose(card->capture);
    free(card->ring);
    free(card->chmap);
    free(card->chosen);
    free(card->control);
    free(card->capture_path);
    free(card);
}

static int card_close(snd_pcm_ioplug_t *io)
{
    card_free(io->private_data);
    return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = card_start,
    .stop = card_stop,
    .pointer = card_pointer,
    .transfer = card_transfer,
    .close = card_close,
    .hw_params = card_hw_params,
    .sw_params = card_sw_params,
    .prepare = card_prepare,
    .resume = card_resume,
    .poll_descriptors = card_poll_descriptors,
    .poll_revents = card_poll_revents,
    .delay = card_delay,
    .query_chmaps = card_query_chmaps,
    .get_chmap = card_get_chmap,
    .set_chmap = card_set_chmap,
};

/* ---- its configuration ---- */

static void parse_list(struct list *list, const char *text, bool formats)
{
    char word[32];
    int length;
    list->count = 0;
    while (list->count < LIST_MAX && sscanf(text, "%31[^,]%n", word, &length) == 1) {
        list->values[list->count++] =
            formats ? (unsigned)snd_pcm_format_value(word) : (unsigned)strtoul(word, NULL, 10);
        text += length + (text[length] == ',');
    }
}

static snd_pcm_chmap_t *parse_map(const char *text)
{
    char spaced[128];
    snprintf(spaced, sizeof spaced, "%s", text);
    for (char *c = spaced; *c; c++)
        if (*c == ',')
            *c = ' ';
    return snd_pcm_chmap_parse_string(spaced);
}

static int configure(struct card *card, snd_config_t *conf)
{
    const struct {
        const char *name;
        long *value;
    } numbers[] = {
        {"ppm",         &card->ppm        },
        {"period_min",  &card->period_min },
        {"period_max",  &card->period_max },
        {"period_step", &card->period_step},
        {"buffer_min",  &card->buffer_min },
        {"buffer_max",  &card->buffer_max },
        {"chmap_fixed", &card->chmap_fixed},
        {"granule",     &card->granule    },
        {"beyond",      &card->beyond     },
        {"slow",        &card->slow       },
    };
    snd_config_iterator_t i, next;
    snd_config_for_each(i, next, conf)
    {
        snd_config_t *entry = snd_config_iterator_entry(i);
        const char *id, *text = NULL;
        long number;
        if (snd_config_get_id(entry, &id) < 0)
            continue;
        if (snd_config_get_integer(entry, &number) == 0) {
            for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++)
                if (strcmp(id, numbers[n].name) == 0)
                    *numbers[n].value = number;
            continue;
        }
        if (snd_config_get_string(entry, &text) < 0)
            continue;
        if (strcmp(id, "control") == 0)
            card->control = strdup(text);
        else if (strcmp(id, "capture") == 0)
            card->capture_path = strdup(text);
        else if (strcmp(id, "rates") == 0)
            parse_list(&card->rates, text, false);
        else if (strcmp(id, "formats") == 0)
            parse_list(&card->formats, text, true);
        else if (strcmp(id, "channels") == 0)
            parse_list(&card->channels, text, false);
        else if (strcmp(id, "chmap") == 0)
            card->chmap = parse_map(text);
    }
    return 0;
}

/* Sizes count in bytes for the library, which has no other way of saying it; so there is one frame size only. */
static int constrain(struct card *card)
{
    snd_pcm_ioplug_t *io = &card->io;
    const unsigned frame = card->channels.values[card->channels.count - 1] *
                           (unsigned)snd_pcm_format_physical_width((snd_pcm_format_t)card->formats.values[0]) / 8;
    /* alsa-lib's own plug-ins want to map what they write to. */
    const unsigned access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED};
    int rc = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);
    if (rc == 0)
        rc = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, card->formats.count, card->formats.values);
    if (rc == 0)
        rc = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_RATE, card->rates.count, card->rates.values);
    if (rc == 0)
        rc = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_CHANNELS, card->channels.count,
                                           card->channels.values);
    if (rc == 0 && card->period_step > 0) {
        unsigned sizes[64], count = 0;
        for (long period = card->period_step; period <= card->period_max && count < 64; period += card->period_step)
            if (period >= card->period_min)
                sizes[count++] = (unsigned)period * frame;
        rc = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, count, sizes);
    } else if (rc == 0) {
        rc = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, (unsigned)card->period_min * frame,
                                             (unsigned)card->period_max * frame);
    }
    if (rc == 0)
        rc = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_BUFFER_BYTES, (unsigned)card->buffer_min * frame,
                                             (unsigned)card->buffer_max * frame);
    return rc;
}

int SND_PCM_PLUGIN_ENTRY(earshot_test)(snd_pcm_t **pcm, const char *name, snd_config_t *root, snd_config_t *conf,
                                       snd_pcm_stream_t stream, int mode);

int SND_PCM_PLUGIN_ENTRY(earshot_test)(snd_pcm_t **pcm, const char *name, snd_config_t *root, snd_config_t *conf,
                                       snd_pcm_stream_t stream, int mode)
{
    (void)root;
    if (stream != SND_PCM_STREAM_PLAYBACK)
        return -ENODEV;
    struct card *card = calloc(1, sizeof *card);
    if (!card)
        return -ENOMEM;
    card->period_min = 32;
    card->period_max = 8192;
    card->buffer_min = 64;
    card->buffer_max = 65536;
    card->granule = 1;
    parse_list(&card->rates, "44100,48000,88200,96000,176400,192000", false);
    parse_list(&card->formats, "S32_LE", true);
    parse_list(&card->channels, "2", false);
    card->io = (snd_pcm_ioplug_t){
        .version = SND_PCM_IOPLUG_VERSION,
        .name = "Earshot's test card",
        .callback = &callbacks,
        .private_data = card,
        .poll_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
        .poll_events = POLLIN,
    };
    int rc = card->io.poll_fd < 0 ? -errno : configure(card, conf);
    if (rc == 0 && fault(card, "gone"))
        rc = -ENOENT;
    if (rc == 0 && fault(card, "busy"))
        rc = -EBUSY;
    if (rc == 0)
        rc = snd_pcm_ioplug_create(&card->io, name, stream, mode);
    if (rc < 0) {
        card_free(card);
        return rc;
    }
    rc = constrain(card);
    if (rc < 0) {
        snd_pcm_ioplug_delete(&card->io);
        return rc;
    }
    *pcm = card->io.pcm;
    return 0;
}

/* As SND_PCM_PLUGIN_SYMBOL(), which has a semicolon too many. */
SND_DLSYM_BUILD_VERSION(SND_PCM_PLUGIN_ENTRY(earshot_test), SND_PCM_DLSYM_VERSION)
