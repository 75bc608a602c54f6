/* SPDX-License-Identifier: MIT
 *
 * The thread that runs sources, which come and go while it runs. It sorts their blocks by sender into feeds and tells
 * main, through a bounded queue and an eventfd, what changed. What cannot be posted because main is slow is posted
 * later, in its latest state: nothing is lost that somebody owns.
 */
#ifndef EARSHOT_SOURCE_THREAD_H
#define EARSHOT_SOURCE_THREAD_H

#include "receiver/feed.h"
#include "receiver/source.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SOURCE_THREAD_SOURCES_MAX   64
#define SOURCE_THREAD_STRANGERS_MAX 64 /* senders that nobody claimed */
#define SOURCE_THREAD_FEEDS_MAX     (128 + SOURCE_THREAD_STRANGERS_MAX)

enum source_event_type {
    SOURCE_EVENT_STATUS,      /* `status` of `source` changed; comes once at the start for every source */
    SOURCE_EVENT_FEED_NEW,    /* `feed` belongs to main now, and replaces the sender's feed before it, which [src] has
                               let go of */
    SOURCE_EVENT_FEED_IDLE,   /* nothing arrived until feed_idle_at_ns() */
    SOURCE_EVENT_FEED_ACTIVE, /* it goes on */
    SOURCE_EVENT_FEED_GONE,   /* a stranger silent for gone_ns, or what main wanted: [src] has let go of `feed` */
    SOURCE_EVENT_FULL,        /* a stranger is ignored: there are SOURCE_THREAD_STRANGERS_MAX already. Once. */
    SOURCE_EVENT_REMOVED,     /* the source is closed, its feeds are all gone; its number may come again */
    SOURCE_EVENT_COUNTERS,    /* `counters` say what main has to speak about; at most once a second for a source */
    SOURCE_EVENT_SINK_CLOSED, /* the sink returned `error`; no block follows */
};

struct source_event {
    enum source_event_type type;
    unsigned source; /* as source_thread_add() numbered it */
    int error;
    struct feed *feed;
    struct sender sender;
    int64_t chunk_ns; /* what the guest delivers at once */
    struct source_status status;
    struct source_counters counters;
    struct source *removed; /* source_thread's own */
};

/* Gets the blocks of one sender, the first that is heard, instead of feeds. [src] 0, or -errno to get no more. */
struct source_sink {
    int (*write)(void *arg, const struct block *block);
    void *arg;
};

struct source_thread_params {
    const struct source_sink *sink; /* copied; or NULL: feeds */
    int64_t gone_ns;                /* a sender silent for so long has gone; 0: ten minutes */
};

struct source_thread;

/* [main] -ENOMEM, -errno of eventfd. */
int source_thread_create(struct source_thread **thread, const struct source_thread_params *params);

/* [main] Takes ownership, also where it fails (-ENOSPC, -ENOMEM). Returns the source's number. */
int source_thread_add(struct source_thread *thread, struct source *source);

/* [main] Once each; until SOURCE_EVENT_REMOVED there may be more events of it. -ENOMEM. */
int source_thread_remove(struct source_thread *thread, unsigned source);

/* [main] Lets go of a sender's feed, if there is one: SOURCE_EVENT_FEED_GONE. Heard again, it is a new one. -ENOMEM. */
int source_thread_forget(struct source_thread *thread, unsigned source, uint64_t sender);

/* [main] From now on the source takes only these. -ENOMEM. */
int source_thread_set_senders(struct source_thread *thread, unsigned source, const struct source_senders *senders);

/* [main] -errno of pthread_create. */
int source_thread_start(struct source_thread *thread);

/* [main] Thread id, for scheduling; 0 before start. */
pid_t source_thread_tid(const struct source_thread *thread);

/* [main] Readable when there are events. */
int source_thread_fd(const struct source_thread *thread);

/* [main] The next event, in the order they happened: 1, or 0 where there is none. */
int source_thread_next_event(struct source_thread *thread, struct source_event *event);

/* [main] Ends the thread. From here on no feed is written; feeds in events not yet fetched stay theirs to fetch. */
void source_thread_stop(struct source_thread *thread);

/* [main] Stops, closes the sources, frees what nobody fetched. NULL is fine. */
void source_thread_destroy(struct source_thread *thread);

#endif
