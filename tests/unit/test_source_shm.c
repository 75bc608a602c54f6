/* SPDX-License-Identifier: MIT
 *
 * The real source on a real file, under a virtual clock: only the looks the source asks for are made.
 */
#include "receiver/shm_file.h"
#include "receiver/source.h"
#include "ringbuf/scream_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MS     1000000LL
#define SECOND 1000000000LL
#define CHUNK  3840u
#define CHUNKS 40u
#define BYTES  (24u + CHUNKS * CHUNK)

struct rig {
    char dir[64], path[128];
    struct source *source;
    int64_t now_ns;
    int fd;
    uint8_t *memory;
    size_t bytes;
    struct scream_shm_writer writer;
    uint8_t next_byte; /* every chunk is filled with its number in the guest's stream */
    /* What came out of the last run(). */
    unsigned blocks, flags, first_flags, looks;
    uint32_t frames, chunk_frames;
    uint8_t heard[4096]; /* one byte a chunk */
    unsigned heard_count;
    int64_t arrival_ns;
    struct pcm_format format;
};

static const struct scream_shm_header stereo = {
    .chunk_size = CHUNK, .sample_rate = 1, .sample_size = 16, .channels = 2, .channel_map = 3};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    strcpy(r->dir, "/tmp/earshot-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->path, sizeof r->path, "%s/scream-ivshmem", r->dir);
    assert_int_equal(source_shm_open(&r->source, r->path), 0);
    r->now_ns = 1000 * SECOND;
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

static int teardown(void **state)
{
    struct rig *r = *state;
    r->source->ops->close(r->source);
    unmap(r);
    unlink(r->path);
    rmdir(r->dir);
    free(r);
    return 0;
}

static void create_file(struct rig *r, size_t bytes)
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

static void open_stream(struct rig *r, const struct scream_shm_header *fields)
{
    assert_int_equal(scream_shm_writer_open(&r->writer, r->memory, r->bytes, fields), 0);
    r->next_byte = 1;
}

static void write_chunks(struct rig *r, unsigned count)
{
    for (; count > 0; count--) {
        memset(scream_shm_writer_chunk(&r->writer), r->next_byte++, r->writer.header.chunk_size);
        scream_shm_writer_publish(&r->writer);
    }
}

/* Lets the source look whenever it wants to, for `ns`. */
static void run(struct rig *r, int64_t ns)
{
    int64_t end = r->now_ns + ns;
    r->blocks = r->flags = r->looks = r->heard_count = 0;
    r->frames = 0;
    while (r->source->wake_ns <= end) {
        if (r->source->wake_ns > r->now_ns)
            r->now_ns = r->source->wake_ns;
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

static void heard(const struct rig *r, unsigned from, unsigned count)
{
    assert_int_equal(r->heard_count, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(r->heard[i], (uint8_t)(from + i));
}

/* A guest that plays `count` chunks in real time, the source looking on; all of it together is what is heard. */
static void play(struct rig *r, unsigned count)
{
    uint8_t all[sizeof r->heard];
    unsigned total = 0, flags = 0, first = 0;
    for (unsigned i = 0; i < count; i++) {
        write_chunks(r, 1);
        run(r, 20 * MS);
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

static void file_appears(void **state)
{
    struct rig *r = *state;
    run(r, 3 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    assert_non_null(strstr(r->source->status.detail, r->path));
    assert_in_range(r->looks, 4, 8);

    create_file(r, 0);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_EMPTY);
    assert_true(r->looks < 20);

    create_file(r, BYTES);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);

    /* The first chunk of the first stream is heard, whole. */
    open_stream(r, &stereo);
    play(r, 100);
    heard(r, 1, 100);
    assert_int_equal(r->first_flags & (BLOCK_RESYNC | BLOCK_GAP), BLOCK_RESYNC);
    assert_int_equal(r->flags & BLOCK_GAP, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_string_equal(r->source->status.detail, "");
    assert_int_equal(r->chunk_frames, 960);
    assert_int_equal(r->format.rate, 48000);
    assert_int_equal(r->source->counters.dropped_frames, 0);
    assert_int_equal(r->source->counters.rejected, 0);
}

static void stale_header(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    open_stream(r, &stereo);
    write_chunks(r, 7); /* by a guest that is long gone */
    run(r, 5 * SECOND);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    play(r, 10);
    heard(r, 8, 10);

    /* It restarts from number 1, between two looks. */
    run(r, 60 * SECOND);
    open_stream(r, &stereo);
    play(r, 10);
    heard(r, 1, 10);
    assert_int_equal(r->first_flags & BLOCK_RESYNC, BLOCK_RESYNC);
}

static void closed_and_opened(void **state)
{
    struct rig *r = *state;
    create_file(r, 4 * BYTES);
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 10);
    scream_shm_writer_close(&r->writer);
    run(r, 40 * SECOND);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING); /* idle is not an error */

    const struct scream_shm_header surround = {.offset = 48,
                                               .chunk_size = 882 * 18,
                                               .sample_rate = 0x81,
                                               .sample_size = 24,
                                               .channels = 6,
                                               .channel_map = 0xffff};
    open_stream(r, &surround);
    r->next_byte = 101;
    play(r, 10);
    heard(r, 101, 10);
    assert_int_equal(r->format.rate, 44100);
    assert_int_equal(r->format.bits, 24);
    assert_int_equal(r->format.channels, 6);
    assert_int_equal(r->format.mask, 0x3f);
    assert_int_equal(r->chunk_frames, 882);
}

static void last_chunk_is_cut_off(void **state)
{
    struct rig *r = *state;
    create_file(r, CHUNKS * CHUNK); /* 24 bytes short */
    const struct scream_shm_header h = {SCREAM_SHM_MAGIC, 0, 24, CHUNKS, CHUNK, 1, 16, 2, 3};
    run(r, SECOND);
    scream_shm_encode(r->memory, &h);
    r->writer = (struct scream_shm_writer){.memory = r->memory, .header = h};
    r->next_byte = 1;
    /* The writer's double may not touch the chunk that is not there, but its index passes it. */
    for (unsigned lap = 0; lap < 2; lap++) {
        play(r, CHUNKS - 2);
        heard(r, r->next_byte - (CHUNKS - 2), CHUNKS - 2);
        scream_shm_writer_publish(&r->writer);
        run(r, 20 * MS);
        assert_int_equal(r->blocks, 0);
        assert_int_equal(r->source->counters.dropped_frames, 960 * (lap + 1));
        play(r, 1);
        heard(r, r->next_byte - 1u, 1);
        assert_int_equal(r->first_flags & BLOCK_GAP, BLOCK_GAP);
    }
    /* And within one backlog: two blocks, the second after a gap. */
    play(r, CHUNKS - 4);
    write_chunks(r, 2);
    scream_shm_writer_publish(&r->writer);
    write_chunks(r, 2);
    r->now_ns += 60 * MS;
    run(r, 5 * MS);
    heard(r, r->next_byte - 4u, 4);
    assert_int_equal(r->blocks, 2);
    assert_int_equal(r->first_flags & (BLOCK_MORE | BLOCK_GAP), BLOCK_MORE);
    assert_int_equal(r->flags & BLOCK_GAP, BLOCK_GAP);
}

static void several_at_once(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 75); /* the next ones wrap */
    write_chunks(r, 10);
    r->now_ns += 200 * MS; /* this process was stopped */
    run(r, 5 * MS);
    heard(r, 76, 10);
    assert_int_equal(r->blocks, 1);
    assert_int_equal(r->frames, 9600);
    assert_int_equal(r->chunk_frames, 960);
    assert_int_equal(r->flags & (BLOCK_GAP | BLOCK_RESYNC | BLOCK_MORE), 0);

    write_chunks(r, 19);
    r->now_ns += 380 * MS;
    run(r, 5 * MS);
    heard(r, 90, 15); /* 300 ms */
    assert_int_equal(r->source->counters.dropped_frames, 4 * 960);
    assert_int_equal(r->first_flags & BLOCK_GAP, BLOCK_GAP);
}

static void idle_and_back(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 50);
    run(r, 35 * SECOND);
    assert_int_equal(r->blocks, 0);
    run(r, 60 * SECOND);
    assert_true(r->looks <= 600);
    assert_true(r->looks >= 540);
    play(r, 50);
    heard(r, 51, 50);
    assert_int_equal(r->first_flags & (BLOCK_GAP | BLOCK_RESYNC), BLOCK_GAP);
    assert_int_equal(r->source->counters.dropped_frames, 0);
    play(r, 50);
    heard(r, 101, 50);
    assert_int_equal(r->flags, 0);
}

static void switch_wants_two_looks(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 20);
    /* A header that flickers for one look changes nothing. */
    r->memory[16] = 0x81;
    struct block block;
    r->now_ns = r->source->wake_ns;
    assert_int_equal(r->source->ops->next(r->source, &block, r->now_ns), 0);
    r->memory[16] = 1;
    play(r, 20);
    heard(r, 21, 20);
    assert_int_equal(r->flags & BLOCK_RESYNC, 0);
    assert_int_equal(r->format.rate, 48000);
    /* One that stays does. */
    r->memory[16] = 0x81;
    r->writer.header.sample_rate = 0x81;
    play(r, 20);
    assert_true(r->heard_count >= 18);
    assert_int_equal(r->first_flags & BLOCK_RESYNC, BLOCK_RESYNC);
    assert_int_equal(r->format.rate, 44100);
    assert_int_equal(r->heard[r->heard_count - 1], 60);
}

static void hostile_at_any_moment(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    run(r, SECOND);
    static const struct {
        unsigned at;
        uint8_t value;
        const char *names;
    } rows[] = {
        {5,  0xff, "write_idx"      },
        {6,  1,    "offset"         },
        {9,  0xff, "max_chunks"     },
        {15, 0xff, "chunk_size"     },
        {16, 0,    "sample_rate"    },
        {17, 17,   "sample_size"    },
        {18, 255,  "channels"       },
        {12, 1,    "chunk_size"     },
        {8,  0,    "max_chunks is 0"}
    };
    uint64_t rejected = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        open_stream(r, &stereo);
        play(r, 10);
        assert_int_equal(r->heard_count, 10);
        r->memory[rows[i].at] = rows[i].value;
        run(r, SECOND);
        assert_int_equal(r->blocks, 0);
        assert_int_equal(r->source->status.state, SOURCE_BAD_HEADER);
        assert_non_null(strstr(r->source->status.detail, rows[i].names));
        assert_int_equal(r->source->counters.rejected, ++rejected);
        scream_shm_writer_close(&r->writer);
        run(r, SECOND);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    }
}

static void something_else(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    memset(r->memory, 'x', 100);
    run(r, SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    assert_non_null(strstr(r->source->status.detail, "something else"));
}

static void truncated_while_playing(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 20);
    assert_int_equal(ftruncate(r->fd, 0), 0);
    run(r, SECOND);
    assert_int_equal(r->source->status.state, SOURCE_EMPTY);
    assert_int_equal(r->blocks, 0);

    /* Sized again: zeros, then the guest. */
    assert_int_equal(ftruncate(r->fd, BYTES), 0);
    run(r, SECOND);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    open_stream(r, &stereo);
    play(r, 20);
    heard(r, 1, 20);

    /* Cut behind the header: chunks that are not there are not heard, and nothing dies of it. */
    write_chunks(r, 5);
    assert_int_equal(ftruncate(r->fd, 100), 0);
    run(r, 5 * MS);
    assert_int_equal(r->blocks, 0);
    run(r, SECOND);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->status.state, SOURCE_BAD_HEADER);
    /* It grows again: the header was there all along, so only what comes next is heard. */
    assert_int_equal(ftruncate(r->fd, BYTES), 0);
    run(r, SECOND);
    assert_int_equal(r->blocks, 0);
    play(r, 5);
    heard(r, 26, 5);
}

static void deleted_and_recreated(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 20);
    unlink(r->path);
    play(r, 20); /* as long as it plays, it plays */
    heard(r, 21, 20);
    run(r, 3 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    create_file(r, BYTES);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    open_stream(r, &stereo);
    play(r, 20);
    heard(r, 1, 20);

    /* Another file under the name at once. */
    unlink(r->path);
    create_file(r, BYTES);
    run(r, 3 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    open_stream(r, &stereo);
    play(r, 20);
    heard(r, 1, 20);
}

static void not_permitted(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(chmod(r->dir, 0755), 0);
        assert_int_equal(seteuid(65534), 0);
    } else {
        assert_int_equal(chmod(r->path, 0), 0);
    }
    run(r, 2 * SECOND);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(r->source->status.state, SOURCE_NO_ACCESS);
    assert_int_equal(chmod(r->path, 0600), 0);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
}

static void odd_kinds_of_file(void **state)
{
    struct rig *r = *state;
    assert_int_equal(mkdir(r->path, 0700), 0);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_FAILED);
    rmdir(r->path);
    assert_int_equal(mkfifo(r->path, 0600), 0);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_FAILED);
    unlink(r->path);
    assert_int_equal(symlink("/dev/zero", r->path), 0); /* mapped: a device has no length */
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    unlink(r->path);
    assert_int_equal(symlink("/dev/null", r->path), 0);
    run(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_FAILED);
    struct source *none;
    assert_int_equal(source_shm_open(&none, ""), -EINVAL);
    assert_int_equal(source_shm_open(&none, "/dev/shm/"), -EINVAL);
}

struct vandal {
    uint8_t *memory;
    atomic_bool stop;
};

/* A guest that changes its header all the time, also while the source is between two reads of it. */
static void *vandalise(void *arg)
{
    struct vandal *v = arg;
    uint32_t random = 1;
    const struct scream_shm_header hostile[] = {
        {SCREAM_SHM_MAGIC, 3, 24, 10, 3840, 1, 16, 2, 3},
        {SCREAM_SHM_MAGIC,              3, 24, 10, 3840, 1, 16, 2, 3},
        {SCREAM_SHM_MAGIC,            1, 24, 2, 4, 4, 32, 1, 0},
        {SCREAM_SHM_MAGIC,              0, 255, 65535, UINT32_MAX, 1, 16, 2, 3},
        {0              },
    };
    while (!atomic_load(&v->stop)) {
        uint8_t bytes[24];
        random = random * 1664525 + 1013904223;
        struct scream_shm_header h = hostile[(random >> 24) % 5];
        for (unsigned i = 0; i < 50; i++) {
            if (h.max_chunks > 0)
                h.write_idx = (uint16_t)((h.write_idx + 1) % h.max_chunks);
            scream_shm_encode(bytes, &h);
            memcpy(v->memory, bytes, sizeof bytes);
        }
    }
    return NULL;
}

static void changes_while_read(void **state)
{
    struct rig *r = *state;
    create_file(r, BYTES);
    struct vandal vandal = {.memory = r->memory};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, vandalise, &vandal), 0);
    for (unsigned i = 0; i < 500; i++)
        run(r, 200 * MS);
    atomic_store(&vandal.stop, true);
    pthread_join(thread, NULL);
    /* And then a guest that behaves. */
    scream_shm_writer_close(&(struct scream_shm_writer){.memory = r->memory});
    run(r, SECOND);
    open_stream(r, &stereo);
    play(r, 20);
    heard(r, 1, 20);
}

static void mapped_memory(void **state)
{
    (void)state;
    _Alignas(4) uint8_t memory[64];
    for (unsigned i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)i;
    const struct shm_file file = {.fd = -1, .map = memory, .map_bytes = sizeof memory};
    uint8_t out[64];
    assert_int_equal(shm_file_size(&file), 64);
    assert_int_equal(shm_file_read_header(&file, out), 0);
    assert_memory_equal(out, memory, 24);
    assert_int_equal(shm_file_read(&file, 40, out, 24), 0);
    assert_memory_equal(out, memory + 40, 24);
    assert_int_equal(shm_file_read(&file, 41, out, 24), -ENODATA);
    assert_int_equal(shm_file_read(&file, UINT64_MAX - 8, out, 24), -ENODATA);
    assert_int_equal(shm_file_read(&file, 0, out, SIZE_MAX), -ENODATA);
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(file_appears),
        RIGGED(stale_header),
        RIGGED(closed_and_opened),
        RIGGED(last_chunk_is_cut_off),
        RIGGED(several_at_once),
        RIGGED(idle_and_back),
        RIGGED(switch_wants_two_looks),
        RIGGED(hostile_at_any_moment),
        RIGGED(something_else),
        RIGGED(truncated_while_playing),
        RIGGED(deleted_and_recreated),
        RIGGED(not_permitted),
        RIGGED(odd_kinds_of_file),
        RIGGED(changes_while_read),
        cmocka_unit_test(mapped_memory),
    };
    return cmocka_run_group_tests_name("source_shm", tests, NULL, NULL);
}
