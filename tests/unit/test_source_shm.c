/* SPDX-License-Identifier: MIT
 *
 * What the source makes of the ring: streams, backlogs, pauses, headers that change or lie.
 */
#include "tests/unit/source_shm_rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void stale_header(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_open_stream(r, &rig_stereo);
    rig_write_chunks(r, 7); /* by a guest that is long gone */
    rig_run(r, 5 * RIG_SECOND);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    rig_play(r, 10);
    rig_heard(r, 8, 10);

    /* It restarts from number 1, between two looks. */
    rig_run(r, 60 * RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 10);
    rig_heard(r, 1, 10);
    assert_int_equal(r->first_flags & BLOCK_RESYNC, BLOCK_RESYNC);
}

/* A new stream whose first chunk is not there yet has nothing to play. */
static void restarted_and_looked_at_early(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 15);
    rig_open_stream(r, &rig_stereo);
    rig_run(r, 20 * RIG_MS);
    assert_int_equal(r->blocks, 0);
    rig_play(r, 20);
    rig_heard(r, 1, 20);
    assert_int_equal(r->first_flags & BLOCK_RESYNC, BLOCK_RESYNC);
    assert_int_equal(r->source->counters.dropped_frames, 0);
}

/* Its frozen index was so near the ring's end that the new stream's looks like a few chunks more. */
static void restarted_near_the_end(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 30);
    rig_run(r, 60 * RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_write_chunks(r, 2);
    rig_run(r, 120 * RIG_MS);
    rig_heard(r, 1, 2);
    assert_int_equal(r->first_flags & BLOCK_RESYNC, BLOCK_RESYNC);

    /* Who only paused there goes on. */
    rig_play(r, 35);
    rig_heard(r, 3, 35);
    rig_run(r, 60 * RIG_SECOND);
    rig_play(r, 10);
    rig_heard(r, 38, 10);
    assert_int_equal(r->first_flags & (BLOCK_GAP | BLOCK_RESYNC), BLOCK_GAP);
    assert_int_equal(r->source->counters.dropped_frames, 0);
}

static void closed_and_opened(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, 4 * RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 10);
    scream_shm_writer_close(&r->writer);
    rig_run(r, 40 * RIG_SECOND);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING); /* idle is not an error */

    const struct scream_shm_header surround = {.offset = 48,
                                               .chunk_size = 882 * 18,
                                               .sample_rate = 0x81,
                                               .sample_size = 24,
                                               .channels = 6,
                                               .channel_map = 0xffff};
    rig_open_stream(r, &surround);
    r->next_byte = 101;
    rig_play(r, 10);
    rig_heard(r, 101, 10);
    assert_int_equal(r->format.rate, 44100);
    assert_int_equal(r->format.bits, 24);
    assert_int_equal(r->format.channels, 6);
    assert_int_equal(r->format.mask, 0x3f);
    assert_int_equal(r->chunk_frames, 882);
}

static void last_chunk_is_cut_off(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_CHUNKS * RIG_CHUNK); /* 24 bytes short */
    const struct scream_shm_header h = {SCREAM_SHM_MAGIC, 0, 24, RIG_CHUNKS, RIG_CHUNK, 1, 16, 2, 3};
    rig_run(r, RIG_SECOND);
    scream_shm_encode(r->memory, &h);
    r->writer = (struct scream_shm_writer){.memory = r->memory, .header = h};
    r->next_byte = 1;
    /* The writer's double may not touch the chunk that is not there, but its index passes it. */
    for (unsigned lap = 0; lap < 2; lap++) {
        rig_play(r, RIG_CHUNKS - 2);
        rig_heard(r, r->next_byte - (RIG_CHUNKS - 2), RIG_CHUNKS - 2);
        scream_shm_writer_publish(&r->writer);
        rig_run(r, 20 * RIG_MS);
        assert_int_equal(r->blocks, 0);
        assert_int_equal(r->source->counters.dropped_frames, 960 * (lap + 1));
        rig_play(r, 1);
        rig_heard(r, r->next_byte - 1u, 1);
        assert_int_equal(r->first_flags & BLOCK_GAP, BLOCK_GAP);
    }
    /* And within one backlog: two blocks, the second after a gap. */
    rig_play(r, RIG_CHUNKS - 4);
    rig_write_chunks(r, 2);
    scream_shm_writer_publish(&r->writer);
    rig_write_chunks(r, 2);
    r->now_ns += 60 * RIG_MS;
    rig_run(r, 5 * RIG_MS);
    rig_heard(r, r->next_byte - 4u, 4);
    assert_int_equal(r->blocks, 2);
    assert_int_equal(r->first_flags & (BLOCK_MORE | BLOCK_GAP), BLOCK_MORE);
    assert_int_equal(r->flags & BLOCK_GAP, BLOCK_GAP);
}

static void several_at_once(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 75); /* the next ones wrap */
    rig_write_chunks(r, 10);
    r->now_ns += 200 * RIG_MS; /* this process was stopped */
    rig_run(r, 5 * RIG_MS);
    rig_heard(r, 76, 10);
    assert_int_equal(r->blocks, 1);
    assert_int_equal(r->frames, 9600);
    assert_int_equal(r->chunk_frames, 960);
    assert_int_equal(r->flags & (BLOCK_GAP | BLOCK_RESYNC | BLOCK_MORE), 0);

    rig_write_chunks(r, 19);
    r->now_ns += 380 * RIG_MS;
    rig_run(r, 5 * RIG_MS);
    rig_heard(r, 90, 15); /* 300 ms */
    assert_int_equal(r->source->counters.dropped_frames, 4 * 960);
    assert_int_equal(r->first_flags & BLOCK_GAP, BLOCK_GAP);
}

/* A guest that was held up is seen in the middle of handing over what it owes: the rest is none the worse for it, and is
 * not left lying until the next chunk is due. */
static void backlog_in_pieces(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 75);
    rig_run(r, 200 * RIG_MS);
    rig_write_chunks(r, 5);
    rig_run(r, 3 * RIG_MS);
    rig_heard(r, 76, 5);
    rig_write_chunks(r, 5);
    rig_run(r, 3 * RIG_MS);
    rig_heard(r, 81, 5);
    assert_int_equal(r->flags & BLOCK_RESYNC, 0);
    assert_int_equal(r->source->counters.dropped_frames, 0);

    /* Of more than is worth playing the rest is dropped, and counted. */
    rig_play(r, 10);
    rig_run(r, 600 * RIG_MS);
    rig_write_chunks(r, 1);
    rig_run(r, 3 * RIG_MS);
    rig_write_chunks(r, 19);
    rig_run(r, 3 * RIG_MS);
    assert_int_equal(r->source->counters.dropped_frames, 18 * 960);

    /* But what a guest cannot have made is another stream's. */
    rig_play(r, 10);
    rig_run(r, 200 * RIG_MS);
    rig_write_chunks(r, 2);
    rig_run(r, 150 * RIG_MS);
    rig_write_chunks(r, 15);
    rig_run(r, 3 * RIG_MS);
    assert_int_equal(r->flags & BLOCK_RESYNC, BLOCK_RESYNC);
}

static void idle_and_back(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 50);
    assert_int_equal(r->source->slack_ns, 0);
    rig_run(r, 35 * RIG_SECOND);
    assert_int_equal(r->blocks, 0);
    assert_in_range(r->source->slack_ns, 10 * RIG_MS, 20 * RIG_MS);
    rig_run(r, 60 * RIG_SECOND);
    assert_true(r->looks <= 600);
    assert_true(r->looks >= 540);
    rig_play(r, 50);
    rig_heard(r, 51, 50);
    assert_int_equal(r->first_flags & (BLOCK_GAP | BLOCK_RESYNC), BLOCK_GAP);
    assert_int_equal(r->source->counters.dropped_frames, 0);
    rig_play(r, 50);
    rig_heard(r, 101, 50);
    assert_int_equal(r->flags, 0);
}

/* A driver that was held up for 0.6 s writes all of it at once: only the newest is worth playing. */
static void what_is_stale_is_counted(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, 4 * RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    rig_run(r, 600 * RIG_MS);
    assert_int_equal(r->blocks, 0);
    rig_write_chunks(r, 30);
    rig_run(r, 20 * RIG_MS);
    rig_heard(r, 50, 1);
    assert_int_equal(r->source->counters.dropped_frames, 29 * 960);
    rig_play(r, 20);
    rig_heard(r, 51, 20);
    assert_int_equal(r->source->counters.dropped_frames, 29 * 960);
}

static void switch_wants_two_looks(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    /* A header that flickers for one look changes nothing. */
    r->memory[16] = 0x81;
    struct block block;
    r->now_ns = r->source->wake_ns;
    assert_int_equal(r->source->ops->next(r->source, &block, r->now_ns), 0);
    r->memory[16] = 1;
    rig_play(r, 20);
    rig_heard(r, 21, 20);
    assert_int_equal(r->flags & BLOCK_RESYNC, 0);
    assert_int_equal(r->format.rate, 48000);
    /* One that stays does. */
    r->memory[16] = 0x81;
    r->writer.header.sample_rate = 0x81;
    rig_play(r, 20);
    assert_true(r->heard_count >= 18);
    assert_int_equal(r->first_flags & BLOCK_RESYNC, BLOCK_RESYNC);
    assert_int_equal(r->format.rate, 44100);
    assert_int_equal(r->heard[r->heard_count - 1], 60);
}

static void hostile_at_any_moment(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
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
        rig_open_stream(r, &rig_stereo);
        rig_play(r, 10);
        assert_int_equal(r->heard_count, 10);
        r->memory[rows[i].at] = rows[i].value;
        rig_run(r, RIG_SECOND);
        assert_int_equal(r->blocks, 0);
        assert_int_equal(r->source->status.state, SOURCE_BAD_HEADER);
        assert_non_null(strstr(r->source->status.detail, rows[i].names));
        assert_int_equal(r->source->counters.rejected, ++rejected);
        scream_shm_writer_close(&r->writer);
        rig_run(r, RIG_SECOND);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    }
}

static void something_else(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    memset(r->memory, 'x', 100);
    rig_run(r, RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    assert_non_null(strstr(r->source->status.detail, "something else"));
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
    rig_create_file(r, RIG_BYTES);
    struct vandal vandal = {.memory = r->memory};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, vandalise, &vandal), 0);
    for (unsigned i = 0; i < 500; i++)
        rig_run(r, 200 * RIG_MS);
    atomic_store(&vandal.stop, true);
    pthread_join(thread, NULL);
    /* And then a guest that behaves. */
    scream_shm_writer_close(&(struct scream_shm_writer){.memory = r->memory});
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    rig_heard(r, 1, 20);
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(stale_header),           RIGGED(restarted_and_looked_at_early), RIGGED(restarted_near_the_end),
        RIGGED(closed_and_opened),      RIGGED(last_chunk_is_cut_off),         RIGGED(several_at_once),
        RIGGED(backlog_in_pieces),      RIGGED(what_is_stale_is_counted),      RIGGED(idle_and_back),
        RIGGED(switch_wants_two_looks), RIGGED(hostile_at_any_moment),         RIGGED(something_else),
        RIGGED(changes_while_read),
    };
    return cmocka_run_group_tests_name("source_shm", tests, NULL, NULL);
}
