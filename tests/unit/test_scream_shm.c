/* SPDX-License-Identifier: MIT */
#include "ringbuf/scream_shm.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB 1048576u
#define MS  1000000

/* The driver's header for 48 kHz, 16 bit, stereo in 2 MiB. */
static const struct scream_shm_header stereo = {
    .magic = SCREAM_SHM_MAGIC,
    .write_idx = 7,
    .offset = 24,
    .max_chunks = 546,
    .chunk_size = 3840,
    .sample_rate = 1,
    .sample_size = 16,
    .channels = 2,
    .channel_map = 3,
};

static bool check(const struct scream_shm_header *header, uint64_t bytes, struct scream_shm_geometry *geometry,
                  const char *field)
{
    char reason[80] = "";
    bool good = scream_shm_check(geometry, header, bytes, reason, sizeof reason);
    assert_int_equal(good, field == NULL);
    if (field)
        assert_memory_equal(reason, field, strlen(field));
    return good;
}

static void layout(void **state)
{
    (void)state;
    const struct scream_shm_header header = {0x11112014, 0x0201, 48, 0x0403, 0x08070605, 0x81, 24, 8, 0x0a09};
    const uint8_t want[24] = {0x14, 0x20, 0x11, 0x11, 0x01, 0x02, 48, 0, 0x03, 0x04, 0, 0,
                              0x05, 0x06, 0x07, 0x08, 0x81, 24,   8,  0, 0x09, 0x0a, 0, 0};
    uint8_t bytes[24];
    scream_shm_encode(bytes, &header);
    assert_memory_equal(bytes, want, sizeof bytes);
    struct scream_shm_header back;
    scream_shm_decode(&back, bytes);
    assert_true(scream_shm_same_stream(&header, &back));
    assert_int_equal(back.write_idx, 0x0201);
    assert_int_equal(scream_shm_chunk_at(&stereo, 2), 24 + 2 * 3840);
    const struct scream_shm_header huge = {.offset = 255, .chunk_size = UINT32_MAX};
    assert_true(scream_shm_chunk_at(&huge, 65535) == 255 + (uint64_t)UINT32_MAX * 65535);
}

static void each_field_matters(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 24; byte++) {
        uint8_t bytes[24];
        struct scream_shm_header other;
        scream_shm_encode(bytes, &stereo);
        bytes[byte] ^= 1;
        scream_shm_decode(&other, bytes);
        bool padding = byte == 7 || byte == 10 || byte == 11 || byte == 19 || byte >= 22;
        bool index = byte == 4 || byte == 5;
        assert_int_equal(scream_shm_same_stream(&stereo, &other), padding || index);
    }
}

static void good_geometry(void **state)
{
    (void)state;
    struct scream_shm_geometry g;
    check(&stereo, 2 * MIB, &g, NULL);
    assert_int_equal(g.rate, 48000);
    assert_int_equal(g.frame_bytes, 4);
    assert_int_equal(g.chunk_frames, 960);
    assert_int_equal(g.chunks, 546);
    assert_int_equal(g.usable, 546);
    assert_int_equal(g.chunk_ns, 20 * MS);

    struct scream_shm_header other = stereo;
    other.offset = 48;
    check(&other, 2 * MIB, &g, NULL);
    other = stereo;
    other.channel_map = 0; /* a matter of taste, not of safety */
    check(&other, 2 * MIB, &g, NULL);
    other.channel_map = 0xffff;
    check(&other, 2 * MIB, &g, NULL);
}

static void last_chunk_past_the_end(void **state)
{
    (void)state;
    struct scream_shm_geometry g;
    /* A driver's ring in exactly 546 chunks of memory: the header pushes the last one out. */
    check(&stereo, 546u * 3840u, &g, NULL);
    assert_int_equal(g.usable, 545);
    assert_true(scream_shm_chunk_at(&stereo, (uint16_t)(g.usable - 1)) + stereo.chunk_size <= 546u * 3840u);
    check(&stereo, 24 + 546u * 3840u, &g, NULL);
    assert_int_equal(g.usable, 546);
    check(&stereo, 24 + 545u * 3840u - 1, &g, "max_chunks");
}

static void hostile_fields(void **state)
{
    (void)state;
    struct scream_shm_geometry g;
    struct scream_shm_header h;
#define BAD(field, value, names)                                                                                     \
    do {                                                                                                             \
        h = stereo;                                                                                                  \
        h.field = (value);                                                                                           \
        check(&h, 2 * MIB, &g, names);                                                                               \
    } while (0)
    BAD(sample_rate, 0, "sample_rate is 0");
    BAD(sample_rate, 0x80, "sample_rate");
    BAD(sample_rate, 5, "sample_rate");
    BAD(sample_rate, 0xff, "sample_rate");
    BAD(sample_size, 0, "sample_size");
    BAD(sample_size, 17, "sample_size is 17");
    BAD(sample_size, 8, "sample_size");
    BAD(sample_size, 64, "sample_size");
    BAD(channels, 0, "channels is 0");
    BAD(channels, 9, "channels");
    BAD(channels, 255, "channels");
    BAD(offset, 0, "offset");
    BAD(offset, 23, "offset");
    BAD(chunk_size, 0, "chunk_size");
    BAD(chunk_size, 3, "chunk_size");
    BAD(chunk_size, 3841, "chunk_size");
    BAD(chunk_size, UINT32_MAX, "chunk_size");
    BAD(chunk_size, UINT32_MAX - 3, "chunk_size");
    BAD(chunk_size, 48001 * 4, "chunk_size");
    BAD(max_chunks, 0, "max_chunks");
    BAD(max_chunks, 1, "max_chunks");
    BAD(max_chunks, 548, "max_chunks");
    BAD(max_chunks, 65535, "max_chunks");
    BAD(write_idx, 546, "write_idx");
    BAD(write_idx, 65535, "write_idx");
#undef BAD
    check(&stereo, 0, &g, "max_chunks");
    check(&stereo, 23, &g, "max_chunks");
    char tiny[4];
    assert_false(scream_shm_check(&g, &stereo, 0, tiny, sizeof tiny));
    assert_int_equal(tiny[3], 0);
}

/* Whatever passes the check lies inside the memory. */
static void random_headers(void **state)
{
    (void)state;
    uint32_t seed = 1;
    unsigned passed = 0;
    for (unsigned round = 0; round < 2000000; round++) {
        uint8_t bytes[24];
        for (unsigned i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(seed >> 24);
        }
        /* Small numbers make more of them pass. */
        bytes[5] = bytes[9] = bytes[13] = bytes[14] = bytes[15] = 0;
        bytes[16] &= 0x83;
        bytes[17] = 16;
        bytes[18] &= 3;
        struct scream_shm_header header;
        scream_shm_decode(&header, bytes);
        struct scream_shm_geometry g;
        char reason[64];
        uint64_t size = seed % 8192;
        if (!scream_shm_check(&g, &header, size, reason, sizeof reason))
            continue;
        passed++;
        assert_in_range(g.usable, 1, g.chunks);
        assert_in_range(g.chunks - g.usable, 0, 1);
        assert_true(scream_shm_chunk_at(&header, (uint16_t)(g.usable - 1)) + header.chunk_size <= size);
        assert_true(g.chunk_ns >= 1);
        assert_int_equal(g.chunk_frames * g.frame_bytes, header.chunk_size);
    }
    assert_true(passed > 1000);
}

static struct scream_shm_advance jump(uint16_t from, uint16_t to, int64_t since_look_ns, int64_t still_ns)
{
    struct scream_shm_geometry g;
    char reason[64];
    assert_true(scream_shm_check(&g, &stereo, 2 * MIB, reason, sizeof reason));
    struct scream_shm_header last = stereo, now = stereo;
    last.write_idx = from;
    now.write_idx = to;
    return scream_shm_advance(&last, &now, &g, since_look_ns, still_ns);
}

static void expect(struct scream_shm_advance advance, enum scream_shm_step step, unsigned first, unsigned count)
{
    assert_int_equal(advance.step, step);
    assert_int_equal(advance.count, count);
    if (count > 0)
        assert_int_equal(advance.first, first);
}

static void advances(void **state)
{
    (void)state;
    expect(jump(5, 5, MS, 0), SCREAM_SHM_SAME, 0, 0);
    expect(jump(5, 6, MS, 19 * MS), SCREAM_SHM_ADVANCED, 6, 1);
    expect(jump(545, 0, MS, 19 * MS), SCREAM_SHM_ADVANCED, 0, 1);
    expect(jump(544, 1, MS, 39 * MS), SCREAM_SHM_ADVANCED, 545, 3);
    expect(jump(100, 115, 300 * MS, 0), SCREAM_SHM_ADVANCED, 101, 15);           /* this process was stopped */
    expect(jump(100, 115, MS, 300 * MS), SCREAM_SHM_ADVANCED, 101, 15);          /* the guest was, and caught up */
    expect(jump(100, 106, 110 * MS, 60000LL * MS), SCREAM_SHM_ADVANCED, 101, 6); /* back after a pause */
    expect(jump(100, 350, 5000LL * MS, 0), SCREAM_SHM_ADVANCED, 101, 250);
}

static void resyncs(void **state)
{
    (void)state;
    expect(jump(300, 2, MS, 20 * MS), SCREAM_SHM_RESYNC, 1, 2); /* restarted: all of a young stream is fresh */
    expect(jump(300, 2, 110 * MS, 60000LL * MS), SCREAM_SHM_RESYNC, 1, 2);
    expect(jump(300, 50, MS, 20 * MS), SCREAM_SHM_RESYNC, 50, 1);
    expect(jump(10, 200, MS, 20 * MS), SCREAM_SHM_RESYNC, 200, 1); /* far more than time allows */
    expect(jump(10, 40, 110 * MS, 60000LL * MS), SCREAM_SHM_RESYNC, 40, 1);
    expect(jump(100, 101, 12000LL * MS, 0), SCREAM_SHM_RESYNC, 101, 1); /* perhaps round and one further */

    /* What a guest was held up with is known, but not what stood in the ring before. */
    assert_int_equal(jump(10, 40, 110 * MS, 60000LL * MS).stale, 29);
    assert_int_equal(jump(10, 110, MS, 2000LL * MS).stale, 99);
    assert_int_equal(jump(500, 54, MS, 2000LL * MS).stale, 99);
    assert_int_equal(jump(10, 200, MS, 20 * MS).stale, 0);
    assert_int_equal(jump(300, 50, MS, 60000LL * MS).stale, 0);
    assert_int_equal(jump(300, 2, 110 * MS, 60000LL * MS).stale, 0);
    assert_int_equal(jump(100, 101, 12000LL * MS, 0).stale, 0);

    struct scream_shm_geometry g;
    char reason[64];
    assert_true(scream_shm_check(&g, &stereo, 2 * MIB, reason, sizeof reason));
    struct scream_shm_header now = stereo;
    now.sample_rate = 0x81;
    expect(scream_shm_advance(&stereo, &now, &g, MS, MS), SCREAM_SHM_RESYNC, 0, 0);
    now.write_idx = 1;
    expect(scream_shm_advance(&stereo, &now, &g, MS, MS), SCREAM_SHM_RESYNC, 1, 1);
    now.write_idx = 0;
    expect(scream_shm_advance(&stereo, &now, &g, MS, MS), SCREAM_SHM_RESYNC, 0, 0);
}

/* A stream's first chunk is number 1: while a new one's index is 0, what lies there is the old one's. But a stream that
 * goes on comes through 0, too. */
static void index_zero(void **state)
{
    (void)state;
    expect(jump(300, 0, MS, 20 * MS), SCREAM_SHM_RESYNC, 0, 0);
    expect(jump(300, 0, 110 * MS, 60000LL * MS), SCREAM_SHM_RESYNC, 0, 0);
    expect(jump(500, 0, MS, 2500LL * MS), SCREAM_SHM_RESYNC, 0, 0);
    /* No guest that died is back so soon: that is one that was held up, and its backlog is counted. */
    expect(jump(517, 0, MS, 600 * MS), SCREAM_SHM_RESYNC, 0, 1);
    assert_int_equal(jump(517, 0, MS, 600 * MS).stale, 28);
    expect(jump(100, 0, 12000LL * MS, 0), SCREAM_SHM_RESYNC, 0, 0);
    assert_int_equal(jump(300, 0, 110 * MS, 60000LL * MS).stale, 0);

    expect(jump(545, 0, MS, 0), SCREAM_SHM_ADVANCED, 0, 1);
    expect(jump(545, 0, 110 * MS, 60000LL * MS), SCREAM_SHM_ADVANCED, 0, 1);
    expect(jump(544, 0, MS, 40 * MS), SCREAM_SHM_ADVANCED, 545, 2);
    expect(jump(531, 0, MS, 300 * MS), SCREAM_SHM_ADVANCED, 532, 15);
    expect(jump(531, 0, 300 * MS, 0), SCREAM_SHM_ADVANCED, 532, 15);
    expect(jump(300, 0, 5000LL * MS, 0), SCREAM_SHM_ADVANCED, 301, 246);
}

/* Past the end of the ring after a long stillness: a guest that goes on after a pause, or a dead one's ring with a new
 * stream in it. */
static void wraps_after_long_stillness(void **state)
{
    (void)state;
    const int64_t long_ns = 60000LL * MS;
    for (uint16_t from = 539; from < 546; from++)
        for (uint16_t count = 1; count <= 6; count++)
            expect(jump(from, (uint16_t)((from + count) % 546), 110 * MS, long_ns), SCREAM_SHM_ADVANCED,
                   (from + 1u) % 546, count);
    expect(jump(540, 2, 200 * MS, long_ns), SCREAM_SHM_ADVANCED, 541, 8); /* we looked late */
    expect(jump(540, 2, MS, 1900 * MS), SCREAM_SHM_ADVANCED, 541, 8);     /* the guest was held up */
    expect(jump(100, 108, 110 * MS, long_ns), SCREAM_SHM_ADVANCED, 101, 8);

    /* More than has been made since the last look: either a backlog, or not all of it is new. */
    expect(jump(540, 2, 110 * MS, long_ns), SCREAM_SHM_RESYNC, 1, 2);
    expect(jump(540, 2, MS, 2100 * MS), SCREAM_SHM_RESYNC, 1, 2);
    expect(jump(545, 7, 110 * MS, long_ns), SCREAM_SHM_RESYNC, 1, 7);
    expect(jump(538, 0, 110 * MS, long_ns), SCREAM_SHM_RESYNC, 0, 0);
    assert_int_equal(jump(540, 2, 110 * MS, long_ns).stale, 0);
}

/* A writer of small chunks that is held up a little has many of them at once, seen in more than one look. */
static void small_chunks_come_in_bursts(void **state)
{
    (void)state;
    struct scream_shm_header last = stereo, now = stereo;
    last.chunk_size = now.chunk_size = 480;
    last.max_chunks = now.max_chunks = 4000;
    last.write_idx = 100;
    struct scream_shm_geometry g;
    char reason[64];
    assert_true(scream_shm_check(&g, &now, 2 * MIB, reason, sizeof reason));
    now.write_idx = 116;
    expect(scream_shm_advance(&last, &now, &g, MS, MS), SCREAM_SHM_ADVANCED, 101, 16);
    now.write_idx = 117;
    expect(scream_shm_advance(&last, &now, &g, MS, MS), SCREAM_SHM_RESYNC, 117, 1);
    last.write_idx = 3990;
    now.write_idx = 6;
    expect(scream_shm_advance(&last, &now, &g, MS, MS), SCREAM_SHM_ADVANCED, 3991, 16);
}

static void smallest_ring(void **state)
{
    (void)state;
    struct scream_shm_header last = stereo, now = stereo;
    last.max_chunks = now.max_chunks = 2;
    last.write_idx = 0;
    now.write_idx = 1;
    struct scream_shm_geometry g;
    char reason[64];
    assert_true(scream_shm_check(&g, &now, MIB, reason, sizeof reason));
    expect(scream_shm_advance(&last, &now, &g, MS, MS), SCREAM_SHM_ADVANCED, 1, 1);
    expect(scream_shm_advance(&now, &last, &g, MS, MS), SCREAM_SHM_ADVANCED, 0, 1);
    /* A look that comes a chunk's time after the one before has lost the place, but what is newest is known. */
    expect(scream_shm_advance(&last, &now, &g, 21 * MS, 0), SCREAM_SHM_RESYNC, 1, 1);
    expect(scream_shm_advance(&now, &last, &g, 21 * MS, 0), SCREAM_SHM_RESYNC, 0, 1);
    assert_true(scream_shm_intact(&now, &now, 1));
    assert_false(scream_shm_intact(&now, &last, 1));
}

/* For any pair of indexes the answer stays inside the ring and never exceeds half of it. */
static void every_pair(void **state)
{
    (void)state;
    for (uint16_t chunks = 2; chunks < 40; chunks++) {
        struct scream_shm_header last = stereo, now = stereo;
        last.max_chunks = now.max_chunks = chunks;
        last.write_idx = now.write_idx = 0;
        struct scream_shm_geometry g;
        char reason[64];
        assert_true(scream_shm_check(&g, &now, 2 * MIB, reason, sizeof reason));
        for (last.write_idx = 0; last.write_idx < chunks; last.write_idx++)
            for (now.write_idx = 0; now.write_idx < chunks; now.write_idx++)
                for (int64_t ns = 0; ns < 60000LL * MS; ns = ns * 4 + MS) {
                    struct scream_shm_advance a = scream_shm_advance(&last, &now, &g, ns, ns / 2);
                    assert_int_equal(a.step == SCREAM_SHM_SAME, last.write_idx == now.write_idx);
                    assert_true(a.first < chunks);
                    assert_true(a.count <= chunks / 2);
                    if (a.count > 0)
                        assert_int_equal((a.first + a.count - 1) % chunks, now.write_idx);
                }
    }
}

static void overwritten_while_read(void **state)
{
    (void)state;
    struct scream_shm_header after = stereo;
    assert_true(scream_shm_intact(&stereo, &after, 1));
    after.write_idx = 20;
    assert_true(scream_shm_intact(&stereo, &after, 273));
    after.write_idx = (7 + 545) % 546; /* one short of a lap: the next chunk is being overwritten */
    assert_false(scream_shm_intact(&stereo, &after, 1));
    after.write_idx = (7 + 544) % 546;
    assert_true(scream_shm_intact(&stereo, &after, 1));
    assert_false(scream_shm_intact(&stereo, &after, 2));
    after = stereo;
    after.magic = 0;
    assert_false(scream_shm_intact(&stereo, &after, 1));
    after = stereo;
    after.write_idx = 60000;
    assert_false(scream_shm_intact(&stereo, &after, 1));
}

static void writer(void **state)
{
    (void)state;
    _Alignas(4) static uint8_t memory[24 + 3 * 8 + 7];
    memset(memory, 0xaa, sizeof memory);
    const struct scream_shm_header fields = {.chunk_size = 8, .sample_rate = 1, .sample_size = 16, .channels = 2};
    struct scream_shm_writer w;
    assert_int_equal(scream_shm_writer_open(&w, memory, 24 + 15, &fields), -EINVAL);
    assert_int_equal(scream_shm_writer_open(&w, memory, 4, &fields), -EINVAL);
    assert_int_equal(scream_shm_writer_open(&w, memory, sizeof memory, &fields), 0);

    uint8_t bytes[24];
    struct scream_shm_header header;
    scream_shm_snapshot(bytes, memory);
    scream_shm_decode(&header, bytes);
    assert_int_equal(header.magic, SCREAM_SHM_MAGIC);
    assert_int_equal(header.max_chunks, 3);
    assert_int_equal(header.write_idx, 0);
    assert_int_equal(header.offset, 24);
    static const uint16_t order[] = {1, 2, 0, 1};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *chunk = scream_shm_writer_chunk(&w);
        assert_ptr_equal(chunk, memory + 24 + order[i] * 8);
        memset(chunk, (int)i, 8);
        scream_shm_writer_publish(&w);
        scream_shm_snapshot(bytes, memory);
        scream_shm_decode(&header, bytes);
        assert_int_equal(header.write_idx, order[i]);
    }
    scream_shm_writer_close(&w);
    static const uint8_t zero[24];
    assert_memory_equal(memory, zero, sizeof zero);
    assert_int_equal(memory[sizeof memory - 1], 0xaa);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(each_field_matters),
        cmocka_unit_test(good_geometry),
        cmocka_unit_test(last_chunk_past_the_end),
        cmocka_unit_test(hostile_fields),
        cmocka_unit_test(random_headers),
        cmocka_unit_test(advances),
        cmocka_unit_test(resyncs),
        cmocka_unit_test(index_zero),
        cmocka_unit_test(wraps_after_long_stillness),
        cmocka_unit_test(small_chunks_come_in_bursts),
        cmocka_unit_test(smallest_ring),
        cmocka_unit_test(every_pair),
        cmocka_unit_test(overwritten_while_read),
        cmocka_unit_test(writer),
    };
    return cmocka_run_group_tests_name("scream_shm", tests, NULL, NULL);
}
