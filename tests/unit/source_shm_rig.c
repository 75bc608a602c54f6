/* SPDX-License-Identifier: MIT */
#include "tests/unit/source_shm_rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

const struct scream_shm_header rig_stereo = {
    .chunk_size = RIG_CHUNK, .sample_rate = 1, .sample_size = 16, .channels = 2, .channel_map = 3};

int rig_setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    strcpy(r->dir, "/tmp/earshot-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->path, sizeof r->path, "%s/scream-ivshmem", r->dir);
    assert_int_equal(source_shm_open(&r->source, r->path), 0);
    r->now_ns = 1000 * RIG_SECOND;
    r->fd = -1;
    *state = r;
    return 0;
}

static void unmap(struct rig *r)
{
    if (r->memory)
        munmap(r->memory, r->bytes);
    if (r->fd >= 0)
        close(r->fd);
    r->memory = NULL;
    r->fd = -1;
}

int rig_teardown(void **state)
{
    struct rig *r = *state;
    r->source->ops->close(r->source);
    unmap(r);
    unlink(r->path);
    rmdir(r->dir);
    free(r);
    return 0;
}

void rig_create_file(struct rig *r, size_t bytes)
{
    unmap(r);
    r->fd = open(r->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(r->fd >= 0);
    assert_int_equal(ftruncate(r->fd, (off_t)bytes), 0);
    r->bytes = bytes;
    if (bytes > 0) {
        r->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
        assert_true(r->memory != MAP_FAILED);
    }
}

void rig_open_stream(struct rig *r, const struct scream_shm_header *fields)
{
    assert_int_equal(scream_shm_writer_open(&r->writer, r->memory, r->bytes, fields), 0);
    r->next_byte = 1;
}

void rig_write_chunks(struct rig *r, unsigned count)
{
    for (; count > 0; count--) {
        memset(scream_shm_writer_chunk(&r->writer), r->next_byte++, r->writer.header.chunk_size);
        scream_shm_writer_publish(&r->writer);
    }
}

void rig_run(struct rig *r, int64_t ns)
{
    int64_t end = r->now_ns + ns;
    r->blocks = r->flags = r->looks = r->heard_count = 0;
    r->frames = 0;
    while (r->source->wake_ns + r->source->slack_ns <= end) { /* as late as it may be called */
        if (r->source->wake_ns + r->source->slack_ns > r->now_ns)
            r->now_ns = r->source->wake_ns + r->source->slack_ns;
        struct block block;
        unsigned before = r->blocks;
        uint32_t more = 0;
        while (r->source->ops->next(r->source, &block, r->now_ns) == 1) {
            size_t chunk = block.chunk_frames * pcm_frame_bytes(&block.format);
            assert_true(block.frames > 0);
            assert_int_equal(block.frames % block.chunk_frames, 0);
            for (uint32_t at = 0; at < block.frames / block.chunk_frames; at++) {
                const uint8_t *data = block.data + at * chunk;
                for (size_t i = 1; i < chunk; i++)
                    assert_int_equal(data[i], data[0]);
                assert_true(r->heard_count < sizeof r->heard);
                r->heard[r->heard_count++] = data[0];
            }
            if (r->blocks++ == 0)
                r->first_flags = block.flags;
            assert_true(block.arrival_ns <= r->now_ns);
            assert_true(block.window_ns >= 0);
            r->flags |= block.flags;
            more = block.flags & BLOCK_MORE;
            r->frames += block.frames;
            r->chunk_frames = block.chunk_frames;
            r->arrival_ns = block.arrival_ns;
            r->format = block.format;
            assert_string_equal(block.sender.label, "scream-ivshmem");
        }
        if (r->blocks > before)
            assert_int_equal(more, 0); /* the last of a burst says so */
        assert_true(r->source->wake_ns > r->now_ns);
        r->looks++;
    }
    r->now_ns = end;
}

void rig_heard(const struct rig *r, unsigned from, unsigned count)
{
    assert_int_equal(r->heard_count, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(r->heard[i], (uint8_t)(from + i));
}

void rig_play(struct rig *r, unsigned count)
{
    uint8_t all[sizeof r->heard];
    unsigned total = 0, flags = 0, first = 0;
    for (unsigned i = 0; i < count; i++) {
        rig_write_chunks(r, 1);
        rig_run(r, 20 * RIG_MS);
        memcpy(all + total, r->heard, r->heard_count);
        if (total == 0 && r->heard_count > 0)
            first = r->first_flags;
        total += r->heard_count;
        flags |= r->flags;
    }
    memcpy(r->heard, all, total);
    r->heard_count = total;
    r->flags = flags;
    r->first_flags = first;
}
