/* SPDX-License-Identifier: MIT
 *
 * A source that does as the test says. Waits have limits that only a fault reaches; no outcome depends on timing.
 */
#ifndef EARSHOT_TESTS_SOURCE_THREAD_RIG_H
#define EARSHOT_TESTS_SOURCE_THREAD_RIG_H

#include "receiver/source_thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RIG_SCRIPT_MAX 512
#define RIG_WAIT_MS    20000
#define RIG_CLAIMED    9000 /* senders from here on */

extern const struct pcm_format rig_cd, rig_dvd;

struct rig_step {
    uint64_t sender;
    struct pcm_format format;
};

struct rig_script {
    pthread_mutex_t lock;
    struct rig_step steps[RIG_SCRIPT_MAX];
    unsigned first, count;
    bool change_status;
    uint64_t lost;                 /* what the source counts */
    unsigned watched;              /* times that next() was told of watch_fd */
    int watch_fd;                  /* 0: none */
    int64_t look_ns;               /* > 0: it has no fd, and looks so often */
    struct source_senders senders; /* as told last */
    bool loud;                     /* the blocks hold noise instead of silence */
    int64_t early_ns;              /* its blocks are taken so long before their time */
    int64_t rest_ns;               /* after a block it lets its fd rest for so long */
    unsigned rests;                /* so many times */
    int64_t patience_ns;           /* as told by then */
    int64_t taken_ns;              /* when the last block was */
    atomic_int closed;
};

struct rig {
    struct rig_script script;
    struct source_thread *thread;
    int poke_fd;
};

/* A thread with one such source, started. */
void rig_set_up(struct rig *rig, enum source_kind kind, const struct source_thread_params *params);
void rig_tear_down(struct rig *rig);

/* Another source, of a script with its lock initialized. */
struct source *rig_source_open(struct rig_script *script, enum source_kind kind);

/* Wakes [src]; after a change of the script. */
void rig_poke(struct rig *rig);

/* A block of that sender. The second one is not told of by the source's fd. */
void rig_send(struct rig *rig, uint64_t sender, const struct pcm_format *format);
void rig_send_unseen(struct rig *rig, uint64_t sender, const struct pcm_format *format);

/* Until the source has begun so many rests. When its last block was taken. */
int64_t rig_wait_rests(struct rig *rig, unsigned rests);

/* Until [src] has taken all that was sent; a stop after that finds it written. */
void rig_wait_taken(struct rig *rig);

/* False: none came in that time. */
bool rig_next_event(struct rig *rig, struct source_event *event, int wait_ms);

/* The next event that is not of the kinds in `skip`, a bit each. */
struct source_event rig_expect(struct rig *rig, enum source_event_type type, unsigned skip);

#define RIG_SKIP_PAUSES (1u << SOURCE_EVENT_FEED_IDLE | 1u << SOURCE_EVENT_FEED_ACTIVE)

/* CLOCK_MONOTONIC */
int64_t rig_clock_ns(void);

#endif
