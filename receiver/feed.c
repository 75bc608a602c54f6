/* SPDX-License-Identifier: MIT */
#include "receiver/feed.h"

#include "receiver/arith.h"
#include "receiver/seqlock.h"
#include "receiver/target.h"
#include "ringbuf/resident.h"

#include <errno.h>
#include <math.h>

#define NS_PER_S            1000000000
#define NS_PER_MS           1000000
#define STEP_S              3e-3 /* more than the average of any jitter, less than a packet or what a guest skips */
#define SOURCE_DLL_HZ       0.0065
#define IDLE_MIN_NS         (120 * (int64_t)NS_PER_MS)
#define IDLE_CHUNKS         4
#define NOT_JITTER_NS       (30 * (int64_t)NS_PER_MS) /* an early arrival cannot be jitter, a pause may lose frames */
#define RING_SECONDS        2
#define RING_BYTES_MIN      (2u << 20) /* a stalled driver's whole backlog, 0.9 MB of PCM, fits as floats */
#define SPLICE_MS           3
#define REDRAW_RATE_SIGMA   50e-6
#define REDRAW_SIGMAS       1.5
#define PEAK_MS             200
#define SOFT_MS             500
#define SOFT_PEAK_MIN       0.01f             /* where nothing was to be heard: -40 dB */
#define SOFT_DECAY_MS       50                /* in which the limiter forgets a peak to a third */
#define DISPLACED_MARGIN_NS (0.5 * NS_PER_MS) /* the hold's own */
#define PHASE_KNOWN_S       3e-3 /* worse than this, a lateness says more of the line than of the guest */

/* What is known of a source before it has said anything: enough for a guest whose timer ticks every 15.6 ms and whose
 * first chunk happened to be the most punctual of all. */
struct prior {
    double sigma_s;
    int64_t lateness_ns; /* beyond its own chunk */
};

static const struct prior priors[] = {
    [SOURCE_SHM] = {6e-3, 18 * NS_PER_MS},
    [SOURCE_UDP] = {3e-3, 21 * NS_PER_MS},
    [SOURCE_PCAP] = {3e-3, 21 * NS_PER_MS},
};

struct feed {
    struct frame_ring ring;
    struct pcm_format format;
    enum source_kind kind;
    struct clock_filter clock;
    struct target_hold target;
    struct feed_view view;
    struct seqlock published;
    _Atomic int64_t patience_ns; /* by the consumer */

    int64_t last_arrival_ns; /* 0: none yet */
    bool in_burst;           /* the last block had BLOCK_MORE */
    bool after_gap;          /* this burst is the first after a pause */
    bool restarted;          /* this burst does not continue what was before it */
    bool dropping;           /* the ring was full */
    uint64_t burst_at;       /* where this burst began, and how late it was */
    double burst_lateness_ns;
    double displaced_ns; /* lateness that is still there when a burst is over, and pending; 0: none */

    float last_frame[PCM_CHANNELS_MAX]; /* for a splice without a click */
    float splice[PCM_CHANNELS_MAX];
    uint32_t splice_left;

    /* A soft start: what is louder than the ceiling is turned down to it. */
    uint32_t soft_left; /* frames; 0: over */
    float ceiling, ceiling_rise, envelope, envelope_decay;
};

int feed_create(struct feed **feed, const struct pcm_format *format, enum source_kind kind)
{
    struct feed *f = resident_alloc(sizeof *f);
    if (!f)
        return -ENOMEM;
    f->format = *format;
    f->kind = kind;
    size_t frames = RING_BYTES_MIN / (format->channels * sizeof(float));
    if (frames < (size_t)format->rate * RING_SECONDS)
        frames = (size_t)format->rate * RING_SECONDS;
    int err = frame_ring_init(&f->ring, frames, format->channels);
    if (err < 0) {
        resident_free(f, sizeof *f);
        return err;
    }
    clock_init(&f->clock, format->rate, SOURCE_DLL_HZ, priors[kind].sigma_s);
    f->clock.step_s = STEP_S;
    *feed = f;
    return 0;
}

void feed_destroy(struct feed *feed)
{
    if (!feed)
        return;
    frame_ring_free(&feed->ring);
    resident_free(feed, sizeof *feed);
}

const struct pcm_format *feed_format(const struct feed *feed)
{
    return &feed->format;
}

const struct frame_ring *feed_ring(const struct feed *feed)
{
    return &feed->ring;
}

void feed_read(const struct feed *feed, struct feed_view *view)
{
    seqlock_read(&feed->published, view, sizeof *view);
}

void feed_release(struct feed *feed, uint64_t position)
{
    frame_ring_release(&feed->ring, position);
}

void feed_set_patience(struct feed *feed, int64_t patience_ns)
{
    atomic_store_explicit(&feed->patience_ns, patience_ns, memory_order_relaxed);
}

/* Lateness of the guest's and of the reader's would add up. */
int64_t feed_patience_ns(const struct feed *feed, int64_t now_ns)
{
    double owed = clock_frame_at(&feed->clock, now_ns) - (double)frame_ring_written(&feed->ring);
    if (owed * feed->clock.nominal_ns > feed->target.hold_ns)
        return 0;
    return atomic_load_explicit(&feed->patience_ns, memory_order_relaxed);
}

static int64_t idle_after_ns(const struct feed *feed)
{
    int64_t chunks = (int64_t)feed->view.chunk_frames * IDLE_CHUNKS * NS_PER_S / feed->format.rate;
    return chunks > IDLE_MIN_NS ? chunks : IDLE_MIN_NS;
}

int64_t feed_idle_at_ns(const struct feed *feed)
{
    return feed->last_arrival_ns ? feed->last_arrival_ns + idle_after_ns(feed) : INT64_MAX;
}

/* Leads from the frame before a gap to what comes after it: a step becomes a curve, and nothing on it is louder than
 * the louder of the two. */
static void splice(struct feed *feed, float *samples, size_t frames)
{
    uint32_t length = feed->format.rate * SPLICE_MS / 1000;
    for (size_t i = 0; i < frames && feed->splice_left > 0; i++, feed->splice_left--) {
        float rest = (float)feed->splice_left / (float)length;
        for (unsigned c = 0; c < feed->format.channels; c++) {
            float *sample = &samples[i * feed->format.channels + c];
            *sample += (feed->splice[c] - *sample) * rest * rest;
        }
    }
}

float feed_recent_peak(const struct feed *feed)
{
    /* The writer alone overwrites what lies there, read or not. */
    uint64_t end = frame_ring_written(&feed->ring), frames = feed->format.rate / (1000 / PEAK_MS);
    float peak = 0.0f;
    for (uint64_t at = end > frames ? end - frames : 0; at < end; at++) {
        const float *frame = feed->ring.samples + (at & (feed->ring.capacity_frames - 1)) * feed->format.channels;
        for (unsigned c = 0; c < feed->format.channels; c++)
            peak = fmaxf(peak, fabsf(frame[c]));
    }
    return fminf(peak, 1.0f);
}

void feed_start_softly(struct feed *feed, float peak)
{
    feed->soft_left = feed->format.rate * SOFT_MS / 1000;
    feed->ceiling = fmaxf(peak, SOFT_PEAK_MIN);
    feed->ceiling_rise = powf(1.0f / feed->ceiling, 1.0f / (float)feed->soft_left);
    feed->envelope = 0.0f;
    feed->envelope_decay = expf(-1000.0f / (float)(feed->format.rate * SOFT_DECAY_MS));
}

static void soften(struct feed *feed, float *samples, size_t frames)
{
    const unsigned channels = feed->format.channels;
    for (size_t i = 0; i < frames && feed->soft_left > 0; i++, feed->soft_left--) {
        float *frame = samples + i * channels;
        feed->envelope *= feed->envelope_decay;
        for (unsigned c = 0; c < channels; c++)
            feed->envelope = fmaxf(feed->envelope, fabsf(frame[c]));
        float gain = feed->envelope > feed->ceiling ? feed->ceiling / feed->envelope : 1.0f;
        for (unsigned c = 0; c < channels; c++)
            frame[c] *= gain;
        feed->ceiling *= feed->ceiling_rise;
    }
}

/* Stores a block's frames; returns how many fitted. */
static uint32_t store(struct feed *feed, const struct block *block, bool gap)
{
    const uint32_t frame_bytes = pcm_frame_bytes(&feed->format);
    const unsigned channels = feed->format.channels;
    uint32_t done = 0;
    while (done < block->frames) {
        size_t room;
        float *at = frame_ring_reserve(&feed->ring, &room);
        if (room == 0)
            break;
        if (room > block->frames - done)
            room = block->frames - done;
        pcm_decode(at, block->data + (size_t)done * frame_bytes, room * channels, feed->format.bits);
        if (gap && done == 0) {
            memcpy(feed->splice, feed->last_frame, channels * sizeof *at);
            feed->splice_left = feed->format.rate * SPLICE_MS / 1000;
        }
        splice(feed, at, room);
        soften(feed, at, room);
        memcpy(feed->last_frame, at + (room - 1) * channels, channels * sizeof *at);
        frame_ring_commit(&feed->ring, room);
        done += (uint32_t)room;
    }
    return done;
}

static void mark_gap(struct feed *feed, uint64_t frame)
{
    feed->view.gap_frame = frame;
    feed->view.gaps++;
}

/* The line begins anew, and late: the first arrival may have been the earliest there will be, and the last moment of
 * its window the true one. */
static void redraw_line(struct feed *feed, const struct block *block, int64_t written)
{
    int64_t late_ns = nearest(REDRAW_SIGMAS * feed->clock.sigma_s * NS_PER_S) + block->window_ns / 2;
    clock_anchor(&feed->clock, block->arrival_ns + late_ns, written, 2 * block->window_ns, REDRAW_RATE_SIGMA);
    feed->view.vague = true;
}

/* Draws the guest's line at the end of a burst and judges how late the burst was. */
static void observe(struct feed *feed, const struct block *block, int64_t now_ns)
{
    int64_t written = (int64_t)frame_ring_written(&feed->ring);
    bool first = !feed->clock.anchored;
    double off_ns =
        first ? 0.0
              : (double)(block->arrival_ns - feed->clock.origin_ns) - clock_time_of(&feed->clock, (double)written);

    /* After a pause the guest either lost the time (it paused: a new line) or catches up (it stalled: the old one). */
    bool paused = feed->after_gap && fabs(off_ns) > (double)NOT_JITTER_NS;
    bool vague = clock_phase_sigma(&feed->clock) > PHASE_KNOWN_S;
    bool impossible = off_ns < -(double)NOT_JITTER_NS - (double)block->window_ns;
    enum clock_verdict verdict = CLOCK_TRACKED;
    if (!first && (feed->restarted || paused || impossible))
        verdict = CLOCK_REANCHORED;
    else if (first || !(block->flags & BLOCK_UNTIMED))
        verdict = clock_update(&feed->clock, block->arrival_ns, written, block->window_ns);
    if (!first && verdict == CLOCK_REANCHORED)
        redraw_line(feed, block, written);

    /* A guest that was held up is back on the line with the end of its burst; one whose frames were lost is not. */
    const double burst_ns = (double)(written - (int64_t)feed->burst_at) * feed->clock.nominal_ns;
    const double late_ns = feed->burst_lateness_ns - burst_ns + feed->target.unit_ns + DISPLACED_MARGIN_NS;
    feed->displaced_ns = verdict == CLOCK_LATE ? larger(feed->displaced_ns, late_ns) : 0.0;

    if (first || feed->restarted || paused)
        mark_gap(feed, feed->burst_at);
    if (verdict == CLOCK_REANCHORED)
        feed->view.epoch++;
    if (first)
        target_init(&feed->target, (double)block->chunk_frames * NS_PER_S / feed->format.rate +
                                       (double)priors[feed->kind].lateness_ns);
    else if (!vague && (!feed->after_gap || verdict != CLOCK_REANCHORED))
        target_update(&feed->target, now_ns, feed->burst_lateness_ns, verdict);
}

void feed_write(struct feed *feed, const struct block *block, int64_t now_ns)
{
    now_ns -= block->waited_ns;
    if (!feed->in_burst) {
        feed->restarted = false;
        feed->burst_at = frame_ring_written(&feed->ring);
        feed->after_gap = feed->last_arrival_ns && block->arrival_ns - feed->last_arrival_ns > idle_after_ns(feed);
        double line = clock_frame_at(&feed->clock, now_ns);
        feed->burst_lateness_ns = (line - (double)feed->burst_at) * feed->clock.nominal_ns * feed->clock.rate;
    }
    feed->view.chunk_frames = block->chunk_frames;

    bool broken = block->flags & (BLOCK_RESYNC | BLOCK_GAP);
    bool spliced = broken || feed->dropping || (feed->after_gap && !feed->in_burst);
    feed->restarted |= broken;
    uint32_t stored = store(feed, block, spliced);
    if (stored < block->frames) {
        feed->view.dropped_frames += block->frames - stored;
        clock_renumber(&feed->clock, -(int64_t)(block->frames - stored));
        mark_gap(feed, frame_ring_written(&feed->ring)); /* now: whoever begins to listen shall not begin before it */
    }
    feed->dropping = stored < block->frames;
    feed->in_burst = block->flags & BLOCK_MORE;
    feed->last_arrival_ns = block->arrival_ns;
    if (feed->in_burst)
        return;

    observe(feed, block, now_ns);
    feed->target.unit_ns = (double)block->chunk_frames * NS_PER_S / feed->format.rate;
    feed->view.time_ns = feed->clock.origin_ns + nearest(feed->clock.x_ns);
    feed->view.frame = (double)feed->clock.frame;
    feed->view.period_ns = feed->clock.nominal_ns * feed->clock.rate;
    feed->view.hold_ns = feed->target.hold_ns;
    feed->view.assumed = feed->target.lessons == 0;
    feed->view.unsure = feed->displaced_ns > feed->target.hold_ns;
    feed->view.vague = feed->view.vague && clock_phase_sigma(&feed->clock) > PHASE_KNOWN_S;
    seqlock_write(&feed->published, &feed->view, sizeof feed->view);
}
