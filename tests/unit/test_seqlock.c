/* SPDX-License-Identifier: MIT */
#include "receiver/seqlock.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define WRITES 200000

/* As large as it gets, and each word derived from the first. */
struct payload {
    uint64_t words[SEQLOCK_WORDS];
};

struct shared {
    struct seqlock lock;
    atomic_bool done;
};

static void payload_fill(struct payload *payload, uint64_t n)
{
    for (size_t i = 0; i < SEQLOCK_WORDS; i++)
        payload->words[i] = n * (2 * i + 1) + i;
}

static bool payload_whole(const struct payload *payload)
{
    struct payload expected;
    payload_fill(&expected, payload->words[0]);
    return memcmp(payload, &expected, sizeof expected) == 0;
}

static void round_trip(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 8, 9, 17, 120, sizeof(struct payload)};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct seqlock lock = {0};
        uint8_t in[sizeof(struct payload)], out[sizeof in + 1];
        for (size_t k = 0; k < sizeof in; k++)
            in[k] = (uint8_t)(k * 37 + sizes[i]);
        memset(out, 0xEE, sizeof out);
        seqlock_write(&lock, in, sizes[i]);
        assert_true(seqlock_read(&lock, out, sizes[i]));
        assert_memory_equal(out, in, sizes[i]);
        assert_int_equal(out[sizes[i]], 0xEE); /* not a byte more */
    }
}

/* Before the first write it reads as zeros. */
static void fresh(void **state)
{
    (void)state;
    struct seqlock lock = {0};
    uint64_t value = 5;
    assert_true(seqlock_read(&lock, &value, sizeof value));
    assert_int_equal(value, 0);
}

/* A writer stopped half-way: the reader gives up in bounded time and keeps what it had. */
static void writer_stuck(void **state)
{
    (void)state;
    struct seqlock lock = {0};
    uint64_t value = 1;
    seqlock_write(&lock, &value, sizeof value);
    atomic_fetch_add(&lock.sequence, 1);
    value = 77;
    assert_false(seqlock_read(&lock, &value, sizeof value));
    assert_int_equal(value, 77);
    atomic_fetch_add(&lock.sequence, 1);
    assert_true(seqlock_read(&lock, &value, sizeof value));
    assert_int_equal(value, 1);
}

/* The count goes round after days of writing; nothing special happens. */
static void sequence_wraps(void **state)
{
    (void)state;
    struct seqlock lock = {0};
    atomic_store(&lock.sequence, UINT32_MAX - 3);
    for (uint64_t i = 0; i < 8; i++) {
        uint64_t value = 0;
        seqlock_write(&lock, &i, sizeof i);
        assert_true(seqlock_read(&lock, &value, sizeof value));
        assert_int_equal(value, i);
    }
}

static void *write_all(void *arg)
{
    struct shared *shared = arg;
    struct payload payload;
    for (uint64_t n = 1; n <= WRITES; n++) {
        payload_fill(&payload, n);
        seqlock_write(&shared->lock, &payload, sizeof payload);
        if (n % 64 == 0)
            sched_yield(); /* on one core the reader shall have its turn */
    }
    atomic_store(&shared->done, true);
    return NULL;
}

/* Whatever a reader gets was written in one piece, and never older than what it got before. */
static void no_torn_reads(void **state)
{
    (void)state;
    static struct shared shared;
    struct payload payload = {0};
    payload_fill(&payload, 0);
    seqlock_write(&shared.lock, &payload, sizeof payload);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_all, &shared), 0);
    uint64_t last = 0, good = 0, torn = 0, backwards = 0, changes = 0;
    bool done = false;
    while (!done) {
        done = atomic_load(&shared.done); /* one more read after the last write */
        if (!seqlock_read(&shared.lock, &payload, sizeof payload))
            continue;
        good++;
        torn += !payload_whole(&payload);
        backwards += payload.words[0] < last;
        changes += payload.words[0] != last;
        last = payload.words[0];
    }
    pthread_join(writer, NULL);
    assert_int_equal(torn, 0);
    assert_int_equal(backwards, 0);
    assert_int_equal(last, WRITES);
    assert_true(good > 0 && changes > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),     cmocka_unit_test(fresh),         cmocka_unit_test(writer_stuck),
        cmocka_unit_test(sequence_wraps), cmocka_unit_test(no_torn_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
