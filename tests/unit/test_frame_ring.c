/* SPDX-License-Identifier: MIT */
#include "ringbuf/frame_ring.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void sizes(void **state)
{
    (void)state;
    struct frame_ring ring;
    assert_int_equal(frame_ring_init(&ring, 0, 2), -EINVAL);
    assert_int_equal(frame_ring_init(&ring, 10, 0), -EINVAL);
    assert_int_equal(frame_ring_init(&ring, SIZE_MAX, 2), -EINVAL);
    assert_int_equal(frame_ring_init(&ring, SIZE_MAX / 2, 8), -EINVAL);
    frame_ring_free(&ring); /* also after a failed init */
    static const size_t rows[][2] = {
        {1,    1   },
        {2,    2   },
        {3,    4   },
        {1000, 1024},
        {1024, 1024},
        {1025, 2048}
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(frame_ring_init(&ring, rows[i][0], 3), 0);
        assert_int_equal(ring.capacity_frames, rows[i][1]);
        assert_int_equal(frame_ring_space(&ring), rows[i][1]);
        frame_ring_free(&ring);
    }
}

/* Writes frames numbered from the ring's position on; each sample is frame * channels + channel. */
static size_t produce(struct frame_ring *ring, size_t wanted)
{
    size_t frames;
    float *to = frame_ring_reserve(ring, &frames);
    if (frames > wanted)
        frames = wanted;
    uint64_t position = frame_ring_written(ring);
    for (size_t i = 0; i < frames * ring->channels; i++)
        to[i] = (float)((position * ring->channels + i) & 0xffffff);
    frame_ring_commit(ring, frames);
    return frames;
}

/* Wrong samples in a piece read at `position`. */
static size_t faults(const struct frame_ring *ring, uint64_t position, const float *from, size_t frames)
{
    size_t count = 0;
    for (size_t i = 0; i < frames * ring->channels; i++)
        count += from[i] != (float)((position * ring->channels + i) & 0xffffff);
    return count;
}

static void wraps(void **state)
{
    (void)state;
    struct frame_ring ring;
    assert_int_equal(frame_ring_init(&ring, 8, 2), 0);
    assert_int_equal(produce(&ring, 6), 6);
    frame_ring_release(&ring, 5);
    assert_int_equal(frame_ring_space(&ring), 7);
    assert_int_equal(produce(&ring, 7), 2); /* up to the end of the buffer */
    assert_int_equal(produce(&ring, 7), 5);
    size_t frames;
    frame_ring_reserve(&ring, &frames);
    assert_int_equal(frames, 0);
    assert_int_equal(produce(&ring, 1), 0);
    assert_int_equal(frame_ring_written(&ring), 13);

    const float *from = frame_ring_peek(&ring, 5, &frames);
    assert_int_equal(frames, 3);
    assert_int_equal(faults(&ring, 5, from, frames), 0);
    from = frame_ring_peek(&ring, 8, &frames);
    assert_int_equal(frames, 5);
    assert_int_equal(faults(&ring, 8, from, frames), 0);
    /* What was read stays readable until it is released. */
    from = frame_ring_peek(&ring, 6, &frames);
    assert_int_equal(frames, 2);
    assert_int_equal(faults(&ring, 6, from, frames), 0);
    frame_ring_free(&ring);
}

static void outside(void **state)
{
    (void)state;
    struct frame_ring ring;
    size_t frames = 1;
    assert_int_equal(frame_ring_init(&ring, 8, 1), 0);
    assert_null(frame_ring_peek(&ring, 0, &frames));
    assert_int_equal(frames, 0);
    produce(&ring, 4);
    assert_null(frame_ring_peek(&ring, 4, &frames));
    assert_null(frame_ring_peek(&ring, UINT64_MAX, &frames));
    frame_ring_release(&ring, 2);
    assert_null(frame_ring_peek(&ring, 1, &frames));
    assert_non_null(frame_ring_peek(&ring, 2, &frames));
    frame_ring_release(&ring, 1); /* never back */
    assert_int_equal(frame_ring_released(&ring), 2);
    frame_ring_release(&ring, 100); /* never beyond what is written */
    assert_int_equal(frame_ring_released(&ring), 4);
    assert_int_equal(frame_ring_space(&ring), 8);
    frame_ring_free(&ring);
}

#define STRESS_FRAMES 300000u /* ThreadSanitizer on a busy machine needs seconds for it */

struct stress {
    struct frame_ring ring;
    size_t faults;
};

static void *consumer(void *arg)
{
    struct stress *s = arg;
    uint64_t position = 0;
    unsigned step = 0;
    while (position < STRESS_FRAMES) {
        size_t frames;
        const float *from = frame_ring_peek(&s->ring, position, &frames);
        if (frames == 0) {
            sched_yield();
            continue;
        }
        if (frames > 1 + step % 97)
            frames = 1 + step % 97;
        s->faults += faults(&s->ring, position, from, frames);
        position += frames;
        /* Some frames are kept for a while and read once more before they go. */
        uint64_t keep = step % 13;
        uint64_t release = position > keep ? position - keep : 0;
        if (release > frame_ring_released(&s->ring)) {
            const float *again = frame_ring_peek(&s->ring, frame_ring_released(&s->ring), &frames);
            s->faults += again ? faults(&s->ring, frame_ring_released(&s->ring), again, 1) : 1;
            frame_ring_release(&s->ring, release);
        }
        step++;
    }
    frame_ring_release(&s->ring, position);
    return NULL;
}

/* ThreadSanitizer sees a missing acquire or release here; without it, so does the content on weaker machines. */
static void two_threads(void **state)
{
    (void)state;
    static const size_t capacities[] = {16, 256, 4096};
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        struct stress s = {0};
        assert_int_equal(frame_ring_init(&s.ring, capacities[i], 2), 0);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, consumer, &s), 0);
        uint64_t written = 0;
        unsigned step = 0;
        while (written < STRESS_FRAMES) {
            size_t wanted = 1 + step++ % 61;
            if (wanted > STRESS_FRAMES - written)
                wanted = (size_t)(STRESS_FRAMES - written);
            size_t frames = produce(&s.ring, wanted);
            if (frames == 0)
                sched_yield();
            written += frames;
        }
        pthread_join(thread, NULL);
        assert_int_equal(s.faults, 0);
        assert_int_equal(frame_ring_written(&s.ring), STRESS_FRAMES);
        assert_int_equal(frame_ring_released(&s.ring), STRESS_FRAMES);
        frame_ring_free(&s.ring);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(wraps),
        cmocka_unit_test(outside),
        cmocka_unit_test(two_threads),
    };
    return cmocka_run_group_tests_name("frame_ring", tests, NULL, NULL);
}
