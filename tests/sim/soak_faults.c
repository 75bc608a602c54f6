/* SPDX-License-Identifier: MIT */
#include "tests/sim/soak.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define PICK(s, ...)                                                                                                 \
    soak_pick(s, (const double[]){__VA_ARGS__}, (unsigned)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)))

#define PPM_MAX     500.0
#define PPM_STEP    100.0
#define PATTERN_S   10.0  /* in which a timer has shown how late it can be */
#define CLEAN_S     200.0 /* so long nothing happens after some faults */
#define WAIT_S      20.0
#define CROWD_S     2.0
#define CLEAN_SHARE 0.25
#define CROWD_SHARE 0.2

static const char *const names[SOAK_FAULTS] = {
    [SOAK_STALL] = "the guest's driver stalls for s",
    [SOAK_PAUSE] = "the guest pauses for s",
    [SOAK_RESTART] = "the guest restarts its stream after s",
    [SOAK_FORMAT] = "the guest changes its format after s",
    [SOAK_PPM] = "the guest's clock changes to ppm",
    [SOAK_TICK] = "the guest's timer changes to ms",
    [SOAK_JITTER] = "the driver is late for a while, by up to ms",
    [SOAK_LUMPS] = "the driver looks less often for a while, every ms",
    [SOAK_LOSS] = "packets lost",
    [SOAK_DUPLICATE] = "packets twice",
    [SOAK_REORDER] = "packets out of order",
    [SOAK_SOURCE_STALL] = "the source's thread stalls for s",
    [SOAK_DEVICE_STOP] = "the device does not ask for s",
    [SOAK_DEVICE_XRUN] = "the device goes on alone for frames",
    [SOAK_DEVICE_LATE] = "a callback is late by s",
    [SOAK_DEVICE_TWICE] = "two callbacks in a cycle",
    [SOAK_QUANTUM] = "the quantum becomes frames",
    [SOAK_DEVICE_RATE] = "the graph's rate becomes Hz",
    [SOAK_DEVICE_MOVED] = "another device, of ppm",
    [SOAK_SERVER_LOST] = "the server is gone for s",
    [SOAK_SUSPEND] = "the host sleeps, and is back after s",
};

/* Each of these is heard as 1 or 2 channels: the arithmetic is the same for more, and takes longer. */
static const struct {
    uint32_t rate;
    uint8_t bits, channels;
} formats[] = {
    {48000, 32, 1},
    {44100, 16, 2},
    {96000, 24, 1},
    {48000, 16, 2},
};

const char *soak_fault_name(enum soak_fault_kind kind)
{
    return names[kind];
}

static bool applies(const struct soak *s, enum soak_fault_kind kind)
{
    bool wire = kind == SOAK_LOSS || kind == SOAK_DUPLICATE || kind == SOAK_REORDER;
    return !wire || s->params->kind == SOURCE_UDP;
}

/* From a shuffled deck: each kind comes about as often as any other. */
static enum soak_fault_kind draw(struct soak *s)
{
    do {
        if (s->deck_at == 0) {
            for (unsigned i = 0; i < SOAK_FAULTS; i++)
                s->deck[i] = i;
            for (unsigned i = SOAK_FAULTS - 1; i > 0; i--) {
                unsigned other = (unsigned)(soak_uniform(s) * (i + 1)), kept = s->deck[i];
                s->deck[i] = s->deck[other];
                s->deck[other] = kept;
            }
        }
        unsigned at = s->deck_at;
        s->deck_at = (s->deck_at + 1) % SOAK_FAULTS;
        if (applies(s, (enum soak_fault_kind)s->deck[at]))
            return (enum soak_fault_kind)s->deck[at];
    } while (true);
}

static void choose_format(struct soak *s, struct pcm_format *format)
{
    do {
        unsigned i = (unsigned)(soak_uniform(s) * LENGTH(formats));
        pcm_format_parse(format, pcm_rate_marker(formats[i].rate), formats[i].bits, formats[i].channels, 0);
    } while (pcm_format_equal(format, &s->guest.format));
}

static void pause_guest(struct soak *s, double seconds)
{
    struct soak_guest *g = &s->guest;
    soak_guest_rebase(s);
    g->base_s = fmax(g->base_s, s->now_s + seconds);
    g->paused_until_s = fmax(g->paused_until_s, s->now_s + seconds);
}

/* Another clock, another position. */
static void move_device(struct soak *s, double ppm)
{
    struct soak_device *d = &s->device;
    d->clock_id++;
    d->position = (int64_t)(soak_uniform(s) * 1e9);
    d->ppm = ppm;
    d->cycle_s += soak_uniform(s) * d->quantum / d->rate;
}

static double change_guest(struct soak *s, enum soak_fault_kind kind, double *value)
{
    struct soak_guest *g = &s->guest;
    switch (kind) {
    case SOAK_STALL:
        *value = PICK(s, 0.02, 0.03, 0.06, 0.13, 0.3, 0.6, 1.0, 2.0);
        g->stalled_until_s = s->now_s + *value;
        if (isfinite(g->delivery_s))
            g->delivery_s = fmax(g->delivery_s, g->stalled_until_s);
        return *value;
    case SOAK_PAUSE:
        *value = PICK(s, 0.06, 0.15, 0.5, 1.0, 5.0, 40.0);
        pause_guest(s, *value);
        return *value;
    case SOAK_RESTART:
    case SOAK_FORMAT: {
        struct pcm_format format = g->format;
        *value = PICK(s, 0.05, 0.2, 1.0, 3.0);
        if (kind == SOAK_FORMAT)
            choose_format(s, &format);
        soak_guest_close(s);
        g->next_format = format;
        g->reopen_s = s->now_s + *value;
        return *value;
    }
    case SOAK_PPM:
        soak_guest_rebase(s);
        g->ppm = *value = fmax(-PPM_MAX, fmin(g->ppm + PPM_STEP * (2.0 * soak_uniform(s) - 1.0), PPM_MAX));
        return 0.0;
    case SOAK_TICK:
        g->normal_tick_s = g->normal_tick_s > 0.012 ? 0.010 : 0.015625;
        g->tick_s = isfinite(g->odd_until_s) ? g->tick_s : g->normal_tick_s;
        *value = g->normal_tick_s * 1e3;
        g->behind_count = 0.0;
        return PATTERN_S;
    case SOAK_JITTER:
    case SOAK_LUMPS:
        *value = kind == SOAK_JITTER ? PICK(s, 3, 6, 12) : PICK(s, 30, 50);
        g->odd_until_s = s->now_s + PICK(s, 3, 10, 40);
        g->behind_count = 0.0;
        *(kind == SOAK_JITTER ? &g->delay_s : &g->tick_s) = *value / 1e3;
        return g->odd_until_s - s->now_s;
    default:
        return 0.0;
    }
}

static double change_way(struct soak *s, enum soak_fault_kind kind, double *value)
{
    struct soak_wire *w = &s->wire;
    if (kind == SOAK_SOURCE_STALL) {
        *value = PICK(s, 0.01, 0.03, 0.1, 0.4, 1.0, 2.0);
        s->source_stalled_until_s = s->now_s + *value;
        s->source_s = fmax(s->source_s, s->source_stalled_until_s);
        return *value;
    }
    *value = PICK(s, 1, 2, 5, 20, 60);
    *(kind == SOAK_LOSS ? &w->lose : kind == SOAK_DUPLICATE ? &w->duplicate : &w->delay) = (unsigned)*value;
    return *value * s->guest.unit_frames / s->guest.format.rate;
}

static double change_device(struct soak *s, enum soak_fault_kind kind, double *value)
{
    struct soak_device *d = &s->device;
    switch (kind) {
    case SOAK_DEVICE_STOP:
        *value = PICK(s, 0.02, 0.1, 0.3, 1.5, 10.0);
        d->off_until_s = fmax(d->off_until_s, s->now_s + *value);
        return *value;
    case SOAK_DEVICE_XRUN:
        *value = PICK(s, 256, 512, 1000, 4096, 24000);
        d->position += (int64_t)*value;
        d->cycle_s += *value / d->rate;
        return *value / d->rate;
    case SOAK_DEVICE_LATE:
        *value = PICK(s, 0.003, 0.010, 0.040);
        d->late_s = *value;
        return *value;
    case SOAK_DEVICE_TWICE:
        d->twice = true;
        return 0.0;
    case SOAK_QUANTUM:
        *value = PICK(s, 64, 128, 256, 512, 1024, 2048, 4096);
        d->quantum = (uint32_t)*value;
        return 0.0;
    case SOAK_DEVICE_RATE:
        *value = PICK(s, 44100, 48000, 96000);
        d->position = llround((double)d->position * *value / d->rate);
        d->rate = (uint32_t)*value;
        return 0.0;
    case SOAK_DEVICE_MOVED:
        *value = PPM_MAX * (2.0 * soak_uniform(s) - 1.0);
        move_device(s, *value);
        return 0.0;
    case SOAK_SERVER_LOST:
        *value = PICK(s, 0.5, 2.0, 8.0, 30.0);
        d->off_until_s = fmax(d->off_until_s, s->now_s + *value);
        move_device(s, PPM_MAX * (2.0 * soak_uniform(s) - 1.0));
        d->quantum = (uint32_t)PICK(s, 256, 256, 1024);
        return *value;
    default: /* SOAK_SUSPEND */
        *value = PICK(s, 0.0, 0.3, 1.5);
        pause_guest(s, *value * soak_uniform(s));
        d->off_until_s = fmax(d->off_until_s, s->now_s + *value);
        d->position += (int64_t)(soak_uniform(s) * 1e8) + d->rate;
        d->flags = PULL_DISCONTINUITY;
        return *value;
    }
}

void soak_fault(struct soak *s)
{
    enum soak_fault_kind kind = draw(s);
    double value = 0.0, lasts_s;
    if (kind <= SOAK_LUMPS)
        lasts_s = change_guest(s, kind, &value);
    else if (kind <= SOAK_SOURCE_STALL)
        lasts_s = change_way(s, kind, &value);
    else
        lasts_s = change_device(s, kind, &value);
    check_fault(s->check, kind, value, s->now_s + lasts_s);

    double rest = soak_uniform(s), wait_s = WAIT_S * soak_uniform(s);
    if (rest < CLEAN_SHARE)
        wait_s = CLEAN_S;
    else if (rest > 1.0 - CROWD_SHARE)
        wait_s = CROWD_S * soak_uniform(s) - lasts_s; /* in the middle of this one, at times */
    s->fault_s = s->now_s + fmax(lasts_s + wait_s, 0.001);
}
