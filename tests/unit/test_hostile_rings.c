/* SPDX-License-Identifier: MIT
 *
 * A million headers that a guest has no business to write, one for each look, beside a guest that behaves: each with
 * a source of its own, under one virtual clock. Nothing dies, and the other's sound is whole.
 */
#include "receiver/source.h"
#include "ringbuf/scream_shm.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MS      1000000LL
#define SECOND  1000000000LL
#define CHUNK   960u /* bytes: 10 ms of one channel, 16 bit */
#define BYTES   (64u << 10)
#define HEADERS 1000000u

struct ring {
    struct source *source;
    int fd;
    uint8_t *memory;
};

static void open_ring(struct ring *ring)
{
    ring->fd = memfd_create("ring", MFD_CLOEXEC);
    assert_true(ring->fd >= 0);
    assert_int_equal(ftruncate(ring->fd, BYTES), 0);
    ring->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    assert_true(ring->memory != MAP_FAILED);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ring->fd);
    assert_int_equal(source_shm_open(&ring->source, path), 0);
}

static void close_ring(struct ring *ring)
{
    ring->source->ops->close(ring->source);
    munmap(ring->memory, BYTES);
    close(ring->fd);
}

static uint32_t draw(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 32);
}

static const struct scream_shm_header mono = {
    .chunk_size = CHUNK, .sample_rate = 1, .sample_size = 16, .channels = 1, .channel_map = 4};

/* From wholly random to nearly right. */
static void spoil(struct ring *ring, uint64_t *random, uint8_t good[SCREAM_SHM_HEADER_BYTES])
{
    uint8_t bytes[SCREAM_SHM_HEADER_BYTES];
    memcpy(bytes, good, sizeof bytes);
    struct scream_shm_header h;
    switch (draw(random) % 6) {
    case 0:
        for (unsigned i = 4; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)draw(random);
        break;
    case 1:
        bytes[draw(random) % sizeof bytes] = (uint8_t)draw(random);
        break;
    case 2:
        memset(bytes, 0, sizeof bytes);
        break;
    case 3: /* the index jumps */
        bytes[4] = (uint8_t)draw(random);
        bytes[5] = (uint8_t)(draw(random) % 2);
        break;
    case 4: /* other geometries that could be */
        scream_shm_decode(&h, bytes);
        h.chunk_size = (1 + draw(random) % 64) * 32;
        h.max_chunks = (uint16_t)(2 + draw(random) % ((BYTES - 48) / h.chunk_size));
        h.write_idx = (uint16_t)(draw(random) % h.max_chunks);
        h.offset = draw(random) % 2 ? 24 : 48;
        h.channels = (uint8_t)(1u << draw(random) % 4);
        h.sample_size = draw(random) % 2 ? 16 : 32;
        scream_shm_encode(bytes, &h);
        memcpy(good, bytes, sizeof bytes); /* and stays for a while */
        break;
    default: /* the index goes on, as a guest's does */
        scream_shm_decode(&h, good);
        h.write_idx = (uint16_t)((h.write_idx + 1u) % (h.max_chunks ? h.max_chunks : 1));
        scream_shm_encode(good, &h);
        memcpy(bytes, good, sizeof bytes);
    }
    memcpy(ring->memory, bytes, sizeof bytes);
}

/* All that a block says is true. Returns the number of blocks. */
static unsigned drain_hostile(struct ring *ring, int64_t now_ns)
{
    struct block block;
    unsigned count = 0;
    uint64_t sum = 0;
    while (ring->source->ops->next(ring->source, &block, now_ns) == 1) {
        size_t bytes = (size_t)block.frames * pcm_frame_bytes(&block.format);
        assert_true(block.frames > 0 && block.chunk_frames > 0 && block.frames % block.chunk_frames == 0);
        assert_true(block.arrival_ns <= now_ns && block.window_ns >= 0);
        for (size_t i = 0; i < bytes; i++)
            sum += block.data[i];
        assert_true(++count < 100);
    }
    assert_true(ring->source->wake_ns > now_ns);
    assert_true(sum < UINT64_MAX); /* all of it can be read */
    return count;
}

static void test_million_headers(void **state)
{
    (void)state;
    struct ring hostile, innocent;
    open_ring(&hostile);
    open_ring(&innocent);
    uint64_t random = 1;
    int64_t now_ns = 1000 * SECOND, chunk_due_ns = now_ns + SECOND;
    uint8_t good[SCREAM_SHM_HEADER_BYTES];
    scream_shm_encode(good, &(struct scream_shm_header){SCREAM_SHM_MAGIC, 1, 24, 60, CHUNK, 1, 16, 1, 4});

    struct scream_shm_writer writer;
    bool opened = false;
    uint16_t written = 0, heard = 0;
    uint64_t heard_frames = 0, hostile_blocks = 0;
    for (unsigned headers = 0; headers < HEADERS;) {
        bool hostile_first = hostile.source->wake_ns <= innocent.source->wake_ns;
        int64_t wake_ns = hostile_first ? hostile.source->wake_ns : innocent.source->wake_ns;
        if (wake_ns > now_ns)
            now_ns = wake_ns;
        for (; chunk_due_ns <= now_ns; chunk_due_ns += 10 * MS) {
            if (!opened)
                assert_int_equal(scream_shm_writer_open(&writer, innocent.memory, BYTES, &mono), 0);
            opened = true;
            uint8_t *to = scream_shm_writer_chunk(&writer);
            for (unsigned i = 0; i < CHUNK / 2; i++, written++)
                memcpy(to + 2 * (size_t)i, &written, 2);
            scream_shm_writer_publish(&writer);
        }
        if (hostile_first) {
            spoil(&hostile, &random, good);
            headers++;
            hostile_blocks += drain_hostile(&hostile, now_ns);
            continue;
        }
        struct block block;
        while (innocent.source->ops->next(innocent.source, &block, now_ns) == 1) {
            for (uint32_t i = 0; i < block.frames; i++, heard++) {
                uint16_t sample;
                memcpy(&sample, block.data + 2 * (size_t)i, 2);
                assert_int_equal(sample, heard);
            }
            heard_frames += block.frames;
            assert_int_equal(block.format.rate, 48000);
        }
    }
    assert_int_equal(innocent.source->counters.dropped_frames, 0);
    assert_in_range((uint64_t)(chunk_due_ns - 1000 * SECOND - SECOND) / 10 / MS * (CHUNK / 2) - heard_frames, 0,
                    4 * CHUNK);
    assert_true(hostile_blocks > 1000);
    assert_true(hostile.source->counters.rejected > 1000);

    /* And then it behaves. */
    memset(hostile.memory, 0, SCREAM_SHM_HEADER_BYTES);
    for (int64_t end = now_ns + SECOND; hostile.source->wake_ns < end;) {
        now_ns = hostile.source->wake_ns;
        drain_hostile(&hostile, now_ns);
    }
    assert_int_equal(scream_shm_writer_open(&writer, hostile.memory, BYTES, &mono), 0);
    unsigned blocks = 0;
    for (unsigned i = 0; i < 50; i++) {
        scream_shm_writer_publish(&writer);
        for (int64_t end = now_ns + 10 * MS; hostile.source->wake_ns <= end;) {
            now_ns = hostile.source->wake_ns > now_ns ? hostile.source->wake_ns : now_ns;
            blocks += drain_hostile(&hostile, now_ns);
        }
        now_ns += 10 * MS;
    }
    assert_in_range(blocks, 30, 50);
    close_ring(&hostile);
    close_ring(&innocent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_million_headers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
