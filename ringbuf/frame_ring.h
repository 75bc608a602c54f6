/* SPDX-License-Identifier: MIT
 *
 * Single producer, single consumer ring of interleaved float frames. Positions are frame numbers that only grow
 * (64 bit: they do not wrap in practice), so a position names a frame for good. The consumer may read anywhere in
 * [released, written): what it has heard stays readable until it releases it.
 *
 * Written by one thread, read by one other. No locks, no allocation after create.
 */
#ifndef EARSHOT_FRAME_RING_H
#define EARSHOT_FRAME_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct frame_ring {
    float *samples;
    size_t capacity_frames; /* a power of two */
    unsigned channels;
    _Alignas(64) _Atomic uint64_t written;  /* producer stores, release */
    _Alignas(64) _Atomic uint64_t released; /* consumer stores, release */
};

/* [main, src] Room for at least `frames`. -ENOMEM, -EINVAL. */
int frame_ring_init(struct frame_ring *ring, size_t frames, unsigned channels);
void frame_ring_free(struct frame_ring *ring);

/* [producer] Frames that fit now. */
size_t frame_ring_space(const struct frame_ring *ring);

/* [producer] Where to write the next frames, and how many lie there in one piece (0: full). Fill, then commit. */
float *frame_ring_reserve(struct frame_ring *ring, size_t *frames);
void frame_ring_commit(struct frame_ring *ring, size_t frames);

/* [any] Frames written so far. */
uint64_t frame_ring_written(const struct frame_ring *ring);

/* [consumer] Frames before this one are gone. */
uint64_t frame_ring_released(const struct frame_ring *ring);

/* [consumer] The frames from `position` on that lie in one piece, at most to written; *frames = 0 where
 * `position` is not in [released, written). */
const float *frame_ring_peek(const struct frame_ring *ring, uint64_t position, size_t *frames);

/* [consumer] Everything before `position` may be overwritten. Clamped to [released, written]. */
void frame_ring_release(struct frame_ring *ring, uint64_t position);

#endif
