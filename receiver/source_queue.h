/* SPDX-License-Identifier: MIT
 *
 * What [main] and [src] say to each other: events up, through a bounded queue; commands down. Inside of source_thread.
 */
#ifndef EARSHOT_SOURCE_QUEUE_H
#define EARSHOT_SOURCE_QUEUE_H

#include "receiver/source_thread.h"

#include <pthread.h>

#define SOURCE_QUEUE_MAX 512

enum source_command_type { COMMAND_ADD, COMMAND_REMOVE, COMMAND_FORGET, COMMAND_SENDERS };

struct source_command {
    struct source_command *next;
    enum source_command_type type;
    struct source *source; /* COMMAND_ADD: to be closed by who frees the command instead of doing it */
    unsigned number;
    uint64_t sender;
    struct source_senders senders;
};

struct source_queue {
    int wake_fd;  /* main -> src */
    int event_fd; /* src -> main */
    pthread_mutex_t lock;
    struct source_event events[SOURCE_QUEUE_MAX];
    unsigned first, count;
    struct source_command *commands, **commands_end;
};

/* [main] -errno of eventfd. */
int source_queue_init(struct source_queue *queue);

/* [main] After the thread. What was never done or fetched is freed. */
void source_queue_free(struct source_queue *queue);

/* [main] Wakes [src]; and the other way round. */
void source_queue_wake(struct source_queue *queue);
void source_queue_wake_main(struct source_queue *queue);
void source_queue_drain(int fd);

/* [src] False where the queue is full: the caller keeps what it has and comes back. An event that makes an earlier one
 * worthless takes its place. */
bool source_queue_post(struct source_queue *queue, const struct source_event *event);

/* [src] Only [src] posts, so room that is there stays there. */
bool source_queue_has_room(struct source_queue *queue);

/* [main] As source_thread_next_event(). */
bool source_queue_next(struct source_queue *queue, struct source_event *event);

/* [main] Copied. -ENOMEM. */
int source_queue_say(struct source_queue *queue, const struct source_command *command);

/* [src] All that was said since, in order; the caller frees them. NULL: nothing. */
struct source_command *source_queue_take(struct source_queue *queue);

void source_commands_free(struct source_command *commands);

#endif
