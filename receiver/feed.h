/* SPDX-License-Identifier: MIT
 *
 * The writing side of one guest's stream: blocks in, float frames, the guest's clock and its lateness out. Made and
 * written by [src]; read by one playout [rt]. One feed has one format for life; another format is another feed.
 */
#ifndef EARSHOT_FEED_H
#define EARSHOT_FEED_H

#include "receiver/source.h"
#include "ringbuf/frame_ring.h"

#include <stdbool.h>
#include <stdint.h>

struct feed;

/* [src] -ENOMEM. The feed belongs to the caller; feed_destroy() once no thread uses it. */
int feed_create(struct feed **feed, const struct pcm_format *format, enum source_kind kind);
void feed_destroy(struct feed *feed);

/* [src] The loudest sample of the last 200 ms of what was written, 0..1. */
float feed_recent_peak(const struct feed *feed);

/* [src] Before the first write: begins no louder than `peak` (0..1), and reaches full scale half a second later, evenly
 * in dB. For what takes the place of sound in another format: if that is no change but garbage, it is no blast. */
void feed_start_softly(struct feed *feed, float peak);

/* [src] Decodes and stores; updates clock and lateness. now_ns: CLOCK_MONOTONIC at which the frames become readable
 * (the block's own arrival_ns may lie before; what it waited does not count as late). Frames that do not fit are dropped
 * and counted. */
void feed_write(struct feed *feed, const struct block *block, int64_t now_ns);

/* [src] CLOCK_MONOTONIC at which the feed becomes idle if nothing arrives before: last arrival plus the larger of
 * 120 ms and four chunks. INT64_MAX before the first block. */
int64_t feed_idle_at_ns(const struct feed *feed);

/* [any] Immutable. */
const struct pcm_format *feed_format(const struct feed *feed);
const struct frame_ring *feed_ring(const struct feed *feed);

/* What the playout needs to know of the guest, as of the last arrival. */
struct feed_view {
    int64_t time_ns;    /* CLOCK_MONOTONIC at which the line passes `frame`; 0: nothing arrived yet */
    double frame;       /* in positions of the ring */
    double period_ns;   /* filtered nanoseconds per frame */
    double hold_ns;     /* target.h */
    uint64_t gap_frame; /* the first frame after the last pause or restart of the guest */
    uint64_t gaps;      /* how many of those there were; the stream's start is the first */
    uint64_t epoch;     /* how often the line was drawn anew */
    uint64_t dropped_frames;
    uint32_t chunk_frames; /* what the guest delivers at once */
    bool assumed;          /* hold_ns is a guess: the guest has not been seen for long enough */
    bool unsure;           /* the last ones came so late that the hold or the line is wrong; it will soon be known */
    bool vague;            /* the line was drawn from a look so rare that it may lie late by a chunk */
};

/* [rt] Bounded, wait-free for the writer; leaves *view as it was where it cannot be had now. */
void feed_read(const struct feed *feed, struct feed_view *view);

/* [rt, consumer] Frames before `position` are no longer needed. */
void feed_release(struct feed *feed, uint64_t position);

/* What arrives may be stored so much later than at once: there is room for it. [rt, consumer] */
void feed_set_patience(struct feed *feed, int64_t patience_ns);

/* [src] Of what arrives from now_ns on. 0 at first, and while the guest is later than the hold: it takes the room. */
int64_t feed_patience_ns(const struct feed *feed, int64_t now_ns);

#endif
