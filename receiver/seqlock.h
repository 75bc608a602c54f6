/* SPDX-License-Identifier: MIT
 *
 * A small struct handed from one writer to any readers without locks: the writer never waits, a reader tries a few
 * times and else keeps what it had. The words are atomics, so a torn read is seen, and never undefined.
 * H.-J. Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012.
 */
#ifndef EARSHOT_SEQLOCK_H
#define EARSHOT_SEQLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SEQLOCK_WORDS 32
#define SEQLOCK_TRIES 8

struct seqlock {
    _Atomic uint32_t sequence; /* odd while being written */
    _Atomic uint64_t words[SEQLOCK_WORDS];
};

/* [writer] Wait-free. size <= 8 * SEQLOCK_WORDS. */
static inline void seqlock_write(struct seqlock *lock, const void *data, size_t size)
{
    uint64_t words[SEQLOCK_WORDS] = {0};
    memcpy(words, data, size);
    uint32_t sequence = atomic_load_explicit(&lock->sequence, memory_order_relaxed);
    atomic_store_explicit(&lock->sequence, sequence + 1, memory_order_relaxed);
    for (size_t i = 0; i < (size + 7) / 8; i++) /* release: whoever sees a new word sees the odd sequence too */
        atomic_store_explicit(&lock->words[i], words[i], memory_order_release);
    atomic_store_explicit(&lock->sequence, sequence + 2, memory_order_release);
}

/* [reader] False, and *data as it was, where the writer was met SEQLOCK_TRIES times. */
static inline bool seqlock_read(const struct seqlock *lock, void *data, size_t size)
{
    uint64_t words[SEQLOCK_WORDS];
    for (int try = 0; try < SEQLOCK_TRIES; try++) {
        uint32_t before = atomic_load_explicit(&lock->sequence, memory_order_acquire);
        for (size_t i = 0; i < (size + 7) / 8; i++)
            words[i] = atomic_load_explicit(&lock->words[i], memory_order_acquire);
        uint32_t after = atomic_load_explicit(&lock->sequence, memory_order_relaxed);
        if (before == after && before % 2 == 0) {
            memcpy(data, words, size);
            return true;
        }
    }
    return false;
}

#endif
