/* SPDX-License-Identifier: MIT */
#include "ringbuf/frame_ring.h"

#include "ringbuf/resident.h"

#include <errno.h>

#define FRAME_RING_MAX_SAMPLES ((size_t)1 << 28)

int frame_ring_init(struct frame_ring *ring, size_t frames, unsigned channels)
{
    *ring = (struct frame_ring){0};
    if (frames == 0 || channels == 0 || frames > FRAME_RING_MAX_SAMPLES / channels)
        return -EINVAL;
    size_t capacity = 1;
    while (capacity < frames)
        capacity *= 2;
    ring->samples = resident_alloc(capacity * channels * sizeof *ring->samples);
    if (!ring->samples)
        return -ENOMEM;
    ring->capacity_frames = capacity;
    ring->channels = channels;
    return 0;
}

void frame_ring_free(struct frame_ring *ring)
{
    resident_free(ring->samples, ring->capacity_frames * ring->channels * sizeof *ring->samples);
    ring->samples = NULL;
    ring->capacity_frames = 0;
}

size_t frame_ring_space(const struct frame_ring *ring)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    uint64_t released = atomic_load_explicit(&ring->released, memory_order_acquire);
    return ring->capacity_frames - (size_t)(written - released);
}

/* Frames from `position` to the end of the buffer or `limit`, whichever comes first. */
static size_t contiguous(const struct frame_ring *ring, uint64_t position, size_t limit)
{
    size_t to_end = ring->capacity_frames - (size_t)(position & (ring->capacity_frames - 1));
    return limit < to_end ? limit : to_end;
}

static float *frame_at(const struct frame_ring *ring, uint64_t position)
{
    return ring->samples + (size_t)(position & (ring->capacity_frames - 1)) * ring->channels;
}

float *frame_ring_reserve(struct frame_ring *ring, size_t *frames)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    *frames = contiguous(ring, written, frame_ring_space(ring));
    return frame_at(ring, written);
}

void frame_ring_commit(struct frame_ring *ring, size_t frames)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    atomic_store_explicit(&ring->written, written + frames, memory_order_release);
}

uint64_t frame_ring_written(const struct frame_ring *ring)
{
    return atomic_load_explicit(&ring->written, memory_order_acquire);
}

uint64_t frame_ring_released(const struct frame_ring *ring)
{
    return atomic_load_explicit(&ring->released, memory_order_relaxed);
}

const float *frame_ring_peek(const struct frame_ring *ring, uint64_t position, size_t *frames)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
    uint64_t released = atomic_load_explicit(&ring->released, memory_order_relaxed);
    if (position < released || position >= written) {
        *frames = 0;
        return NULL;
    }
    *frames = contiguous(ring, position, (size_t)(written - position));
    return frame_at(ring, position);
}

void frame_ring_release(struct frame_ring *ring, uint64_t position)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
    uint64_t released = atomic_load_explicit(&ring->released, memory_order_relaxed);
    if (position > written)
        position = written;
    if (position > released)
        atomic_store_explicit(&ring->released, position, memory_order_release);
}
