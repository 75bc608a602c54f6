/* SPDX-License-Identifier: MIT */
#include "tests/unit/playout_rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_NS (1000 * RIG_SECOND)

static double uniform(struct rig *rig)
{
    rig->random = rig->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(rig->random >> 11) * 0x1p-53;
}

static double chunk_ns(const struct rig *rig)
{
    return rig->chunk * 1e9 / (feed_format(rig->feed)->rate * (1.0 + rig->guest_ppm * 1e-6));
}

static void next_chunk(struct rig *rig)
{
    rig->guest_due_ns += llround(chunk_ns(rig));
    rig->chunk_at_ns = rig->guest_due_ns + llround((double)rig->late_ns * uniform(rig));
}

struct rig *rig_new(const struct playout_params *params)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    *rig = (struct rig){
        .chunk = 960,
        .level = RIG_LEVEL,
        .guest_due_ns = START_NS,
        .rate = 48000,
        .quantum = 256,
        .clock_id = 7,
        .cycle_ns = (double)START_NS + 1.7e6,
        .position = 1000000,
        .pull = playout_pull,
        .random = 1,
        .channels = 2,
    };
    struct pcm_format format;
    assert_int_equal(pcm_format_parse(&format, pcm_rate_marker(48000), 32, 2, 3), 0);
    assert_int_equal(feed_create(&rig->feed, &format, SOURCE_SHM), 0);
    assert_int_equal(playout_create(&rig->playout, rig->feed, params), 0);
    next_chunk(rig);
    return rig;
}

struct rig *rig_new_locked(const struct playout_params *params)
{
    struct rig *rig = rig_new(params);
    rig_run(rig, 20.0);
    assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
    assert_true(rig_stats(rig).locked);
    return rig;
}

void rig_free(struct rig *rig)
{
    if (!rig)
        return;
    playout_destroy(rig->playout);
    feed_destroy(rig->feed);
    free(rig);
}

static void send(struct rig *rig, int64_t at_ns, unsigned flags)
{
    const struct pcm_format *format = feed_format(rig->feed);
    for (uint32_t i = 0; i < rig->chunk; i++) {
        rig->floats[2 * i] = (float)(rig->level * sin(2.0 * M_PI * rig->phase));
        rig->floats[2 * i + 1] = (float)(rig->level * cos(2.0 * M_PI * rig->phase));
        rig->phase += RIG_HZ / format->rate;
        rig->phase -= floor(rig->phase);
    }
    pcm_encode(rig->bytes, rig->floats, (size_t)rig->chunk * 2, 32);
    const struct block block = {
        .format = *format,
        .data = rig->bytes,
        .frames = rig->chunk,
        .chunk_frames = rig->chunk,
        .arrival_ns = at_ns,
        .flags = flags,
    };
    rig->sent += rig->chunk;
    feed_write(rig->feed, &block, at_ns);
}

static void deliver(struct rig *rig)
{
    const int64_t at_ns = rig->chunk_at_ns;
    next_chunk(rig);
    if (rig->paused)
        return;
    rig->owed++;
    while (rig->owed > 0 && !rig->stalled)
        send(rig, at_ns, --rig->owed > 0 ? BLOCK_MORE : 0);
}

static void pull(struct rig *rig, int64_t queued)
{
    const struct pull_time time = {
        .cycle_ns = llround(rig->cycle_ns),
        .position_frames = rig->position,
        .rate = rig->rate,
        .delay_frames = rig->delay_frames + queued,
        .clock_id = rig->clock_id,
        .flags = rig->flags | rig->keep,
    };
    rig->flags = 0;
    memset(rig->out, 0xFF, sizeof rig->out); /* NaN: whatever is left of it is seen */
    rig->pull(rig->playout, rig->out, rig->quantum, &time);
    if (rig->tap)
        rig->tap(rig->tap_arg, rig->produced, rig->out, rig->quantum);
    rig->produced += rig->quantum;
}

static void cycle(struct rig *rig)
{
    const unsigned pulls = rig->twice ? 2 : 1;
    rig->twice = false;
    for (unsigned i = 0; i < pulls && !rig->stopped; i++)
        pull(rig, (int64_t)i * rig->quantum);
    rig->position += (int64_t)rig->quantum * pulls;
    rig->cycle_ns += rig->quantum * pulls * 1e9 / (rig->rate * (1.0 + rig->device_ppm * 1e-6));
}

/* What the device's thread does, without the thread. */
static void paced_wait(struct rig *rig)
{
    paced_clock_next(&rig->paced_clock, llround(rig->cycle_ns), &rig->paced_due);
    double wake_ns = (double)rig->paced_due.wake_ns;
    if (rig->stall_every > 0 && rig->paced_clock.cycle % rig->stall_every == 0)
        wake_ns += (double)rig->stall_ns;
    rig->cycle_ns = fmax(rig->cycle_ns, wake_ns);
}

static void paced_cycle(struct rig *rig)
{
    struct paced_cycle *due = &rig->paced_due;
    for (unsigned i = 0; i < due->pulls; i++) {
        memset(rig->out, 0xFF, sizeof rig->out);
        rig->pull(rig->playout, rig->out, due->frames, &due->time);
        if (rig->tap)
            rig->tap(rig->tap_arg, rig->produced, rig->out, due->frames);
        rig->produced += due->frames;
        due->time.delay_frames += due->frames;
        due->time.flags = 0;
    }
    paced_wait(rig);
}

void rig_attach(struct rig *rig, const struct paced_params *params)
{
    rig->paced = true;
    rig->rate = params->rate;
    rig->device_ppm = params->ppm;
    rig->paced_clock =
        (struct paced_clock){.params = *params, .origin_ns = llround(rig->cycle_ns), .random = params->seed};
    paced_clock_start(&rig->paced_clock, rig->paced_clock.origin_ns);
    paced_wait(rig);
}

void rig_run(struct rig *rig, double seconds)
{
    const double end_ns = rig->cycle_ns + seconds * 1e9;
    while (rig->cycle_ns < end_ns) {
        if ((double)rig->chunk_at_ns <= rig->cycle_ns)
            deliver(rig);
        else if (rig->paced)
            paced_cycle(rig);
        else
            cycle(rig);
    }
}

void rig_set_rate(struct rig *rig, uint32_t rate)
{
    rig->position = llround((double)rig->position * rate / rig->rate);
    rig->rate = rate;
}

double rig_slope(const struct rig *rig)
{
    return rig->level * 2.0 * M_PI * RIG_HZ / rig->rate;
}

static void hear(void *arg, uint64_t at, const float *samples, uint32_t frames)
{
    struct rig_ear *ear = arg;
    for (uint32_t i = 0; i < frames; i++) {
        bool zero = true;
        for (unsigned c = 0; c < 2; c++) {
            const float now = samples[2 * i + c];
            const double step = fabs((double)now - (double)ear->last[c]);
            if (ear->begun && !(step <= ear->worst)) { /* a NaN, too */
                ear->worst = isnan(now) ? INFINITY : step;
                ear->at = at + i;
            }
            ear->last[c] = now;
            ear->peak = fmax(ear->peak, fabs((double)now));
            zero = zero && now == 0.0f;
        }
        if (!zero && ear->first == UINT64_MAX)
            ear->first = at + i;
        ear->zero += zero;
        ear->begun = true;
    }
    ear->frames += frames;
}

void rig_listen(struct rig *rig, struct rig_ear *ear)
{
    *ear = (struct rig_ear){.first = UINT64_MAX};
    rig->tap = hear;
    rig->tap_arg = ear;
}

struct playout_stats rig_stats(const struct rig *rig)
{
    struct playout_stats stats;
    playout_get_stats(rig->playout, &stats);
    return stats;
}

struct playout_trace rig_trace(const struct rig *rig)
{
    struct playout_trace trace;
    playout_get_trace(rig->playout, &trace);
    return trace;
}
