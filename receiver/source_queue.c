/* SPDX-License-Identifier: MIT */
#include "receiver/source_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void signal_fd(int fd)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is at its end, so the reader has been told often enough. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void source_queue_drain(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

void source_queue_wake(struct source_queue *queue)
{
    signal_fd(queue->wake_fd);
}

void source_queue_wake_main(struct source_queue *queue)
{
    signal_fd(queue->event_fd);
}

int source_queue_init(struct source_queue *queue)
{
    int r = 0;
    queue->commands_end = &queue->commands;
    queue->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->wake_fd < 0 || queue->event_fd < 0)
        r = -errno;
    if (r == 0)
        r = -pthread_mutex_init(&queue->lock, NULL);
    if (r == 0)
        return 0;
    if (queue->wake_fd >= 0)
        close(queue->wake_fd);
    if (queue->event_fd >= 0)
        close(queue->event_fd);
    return r;
}

void source_queue_free(struct source_queue *queue)
{
    source_commands_free(queue->commands);
    pthread_mutex_destroy(&queue->lock);
    close(queue->wake_fd);
    close(queue->event_fd);
}

/* A later event of these kinds makes the earlier one that nobody has fetched worthless. */
static bool replaces(const struct source_event *newer, const struct source_event *older)
{
    if (newer->type == SOURCE_EVENT_STATUS || newer->type == SOURCE_EVENT_COUNTERS)
        return older->type == newer->type && older->source == newer->source;
    if (newer->type == SOURCE_EVENT_FEED_IDLE || newer->type == SOURCE_EVENT_FEED_ACTIVE)
        return older->feed == newer->feed &&
               (older->type == SOURCE_EVENT_FEED_IDLE || older->type == SOURCE_EVENT_FEED_ACTIVE);
    return false;
}

bool source_queue_post(struct source_queue *queue, const struct source_event *event)
{
    bool posted = true;
    pthread_mutex_lock(&queue->lock);
    unsigned i = 0;
    while (i < queue->count && !replaces(event, &queue->events[(queue->first + i) % SOURCE_QUEUE_MAX]))
        i++;
    if (i < SOURCE_QUEUE_MAX) {
        queue->events[(queue->first + i) % SOURCE_QUEUE_MAX] = *event;
        queue->count += i == queue->count;
    } else {
        posted = false;
    }
    pthread_mutex_unlock(&queue->lock);
    if (posted)
        signal_fd(queue->event_fd);
    return posted;
}

bool source_queue_has_room(struct source_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    bool room = queue->count < SOURCE_QUEUE_MAX;
    pthread_mutex_unlock(&queue->lock);
    return room;
}

bool source_queue_next(struct source_queue *queue, struct source_event *event)
{
    /* Before the look: what is posted after it makes the fd readable again. */
    source_queue_drain(queue->event_fd);
    pthread_mutex_lock(&queue->lock);
    bool found = queue->count > 0;
    if (found) {
        *event = queue->events[queue->first];
        queue->first = (queue->first + 1) % SOURCE_QUEUE_MAX;
        queue->count--;
    }
    pthread_mutex_unlock(&queue->lock);
    return found;
}

int source_queue_say(struct source_queue *queue, const struct source_command *command)
{
    struct source_command *copy = malloc(sizeof(*copy));
    if (!copy)
        return -ENOMEM;
    *copy = *command;
    copy->next = NULL;
    pthread_mutex_lock(&queue->lock);
    *queue->commands_end = copy;
    queue->commands_end = &copy->next;
    pthread_mutex_unlock(&queue->lock);
    signal_fd(queue->wake_fd);
    return 0;
}

struct source_command *source_queue_take(struct source_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    struct source_command *commands = queue->commands;
    queue->commands = NULL;
    queue->commands_end = &queue->commands;
    pthread_mutex_unlock(&queue->lock);
    return commands;
}

void source_commands_free(struct source_command *commands)
{
    while (commands) {
        struct source_command *next = commands->next;
        if (commands->type == COMMAND_ADD && commands->source)
            commands->source->ops->close(commands->source);
        free(commands);
        commands = next;
    }
}
