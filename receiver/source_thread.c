/* SPDX-License-Identifier: MIT */
#include "receiver/source_thread.h"

#include "receiver/source_queue.h"
#include "receiver/source_wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MS_NS     INT64_C(1000000)
#define SECOND_NS INT64_C(1000000000)
#define GONE_NS   (600 * SECOND_NS)
#define RETRY_NS  (50 * MS_NS)  /* the queue was full */
#define SOFT_NS   SECOND_NS     /* another format so soon after sound begins softly */
#define FORMAT_NS (100 * MS_NS) /* a sender may change its format this often: each change is a new feed */
#define ROUND_MAX 128           /* blocks of one source before it is the others' turn */
#define COUNT_NS  SECOND_NS     /* between two events about a source's counters */

/* One sender. `feed` is borrowed: main owns it from SOURCE_EVENT_FEED_NEW on. */
struct slot {
    struct feed *feed; /* NULL: the slot is free */
    unsigned source;
    struct sender sender;
    int64_t heard_ns;
    int64_t created_ns;
    bool claimed;
    bool idle; /* as main was told last */
};

struct source_thread {
    bool used[SOURCE_THREAD_SOURCES_MAX]; /* [main] numbers */
    struct source_input inputs[SOURCE_THREAD_SOURCES_MAX];
    unsigned input_count;
    struct source_sink sink;
    bool has_sink;
    int64_t gone_ns;

    /* [src] */
    struct slot slots[SOURCE_THREAD_FEEDS_MAX];
    unsigned last_slot, stranger_count;
    unsigned slots_used; /* those behind have never been taken */
    bool full_told;
    struct source_command *due; /* taken over, not done yet: the queue was full */
    bool sink_open, sink_bound, sink_closed_told;
    int sink_error;
    unsigned sink_source;
    uint64_t sink_sender;
    struct source_wait wait;
    bool retry; /* something could not be posted */

    pthread_t thread;
    bool running;
    _Atomic pid_t tid;
    _Atomic bool stop;

    struct source_queue queue;
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* False where the queue is full: the caller keeps what it has and comes back. */
static bool post(struct source_thread *t, const struct source_event *event)
{
    bool posted = source_queue_post(&t->queue, event);
    t->retry = t->retry || !posted;
    return posted;
}

static bool has_room(struct source_thread *t)
{
    return source_queue_has_room(&t->queue);
}

/* Shared memory is one guest, and somebody named its file. */
static bool is_claimed(const struct source_input *input, const struct block *block)
{
    return block->sender.claimed || input->source->kind == SOURCE_SHM;
}

static struct slot *find_slot(struct source_thread *t, unsigned source, uint64_t sender)
{
    struct slot *unused = NULL;
    for (unsigned i = 0; i < t->slots_used; i++) {
        unsigned at = (t->last_slot + i) % t->slots_used;
        struct slot *slot = &t->slots[at];
        if (slot->feed && slot->source == source && slot->sender.id == sender) {
            t->last_slot = at;
            return slot;
        }
        if (!slot->feed && !unused)
            unused = slot;
    }
    if (!unused && t->slots_used < SOURCE_THREAD_FEEDS_MAX)
        unused = &t->slots[t->slots_used];
    return unused;
}

/* main owns the feed, and destroys it at the event that says this. */
static void free_slot(struct source_thread *t, struct slot *slot)
{
    t->stranger_count -= !slot->claimed;
    t->full_told = false;
    *slot = (struct slot){0};
}

/* A feed for the block's sender and format. NULL: not now, the block is dropped. */
static struct feed *new_feed(struct source_thread *t, struct slot *slot, const struct source_input *input,
                             const struct block *block, int64_t now_ns)
{
    struct feed *feed;
    if (slot->feed && now_ns - slot->created_ns < FORMAT_NS)
        return NULL;
    if (!has_room(t)) {
        t->retry = true;
        return NULL;
    }
    if (feed_create(&feed, &block->format, input->source->kind) < 0)
        return NULL;
    unsigned used = (unsigned)(slot - t->slots) + 1;
    t->slots_used = used > t->slots_used ? used : t->slots_used;
    bool claimed = is_claimed(input, block);
    t->stranger_count += !claimed;
    t->stranger_count -= slot->feed && !slot->claimed;
    if (slot->feed && now_ns - slot->heard_ns < SOFT_NS)
        feed_start_softly(feed, feed_recent_peak(slot->feed));
    *slot = (struct slot){
        .feed = feed, .source = input->number, .sender = block->sender, .claimed = claimed, .created_ns = now_ns};
    return feed;
}

static void write_feed(struct source_thread *t, const struct source_input *input, const struct block *block,
                       int64_t now_ns)
{
    unsigned source = input->number;
    struct slot *slot = find_slot(t, source, block->sender.id);
    bool full = t->stranger_count >= SOURCE_THREAD_STRANGERS_MAX;
    if (!slot || (!slot->feed && full && !is_claimed(input, block))) {
        struct source_event event = {.type = SOURCE_EVENT_FULL, .source = source, .sender = block->sender};
        t->full_told = t->full_told || post(t, &event);
        return;
    }

    bool known = slot->feed && pcm_format_equal(feed_format(slot->feed), &block->format);
    if (!known && !new_feed(t, slot, input, block, now_ns)) {
        input->source->counters.dropped_frames += block->frames;
        return;
    }
    slot->heard_ns = now_ns;
    feed_write(slot->feed, block, now_ns);

    struct source_event event = {.source = source, .sender = block->sender, .feed = slot->feed};
    if (!known) {
        event.type = SOURCE_EVENT_FEED_NEW;
        event.chunk_ns = (int64_t)block->chunk_frames * SECOND_NS / block->format.rate;
        post(t, &event);
    } else if (slot->idle) {
        event.type = SOURCE_EVENT_FEED_ACTIVE;
        slot->idle = !post(t, &event);
    }
}

static void write_sink(struct source_thread *t, unsigned source, const struct block *block)
{
    if (!t->sink_bound) {
        t->sink_bound = true;
        t->sink_source = source;
        t->sink_sender = block->sender.id;
    }
    if (!t->sink_open || t->sink_source != source || t->sink_sender != block->sender.id)
        return;
    t->sink_error = t->sink.write(t->sink.arg, block);
    t->sink_open = t->sink_error >= 0;
}

/* What everybody who hears this source has room for; nobody, none. */
static int64_t patience_ns(const struct source_thread *t, unsigned source, int64_t now_ns)
{
    int64_t least_ns = INT64_MAX;
    for (unsigned i = 0; i < t->slots_used; i++) {
        const struct slot *slot = &t->slots[i];
        if (!slot->feed || slot->source != source || slot->idle)
            continue;
        int64_t patience_ns = feed_patience_ns(slot->feed, now_ns);
        if (patience_ns < least_ns)
            least_ns = patience_ns;
    }
    return least_ns == INT64_MAX ? 0 : least_ns;
}

/* Returns the number of blocks. */
static unsigned run_source(struct source_thread *t, const struct source_input *input)
{
    struct source *source = input->source;
    for (unsigned blocks = 0; blocks < ROUND_MAX; blocks++) {
        struct block block;
        /* A sink may be slow: a word from main comes before the next block. */
        if (atomic_load_explicit(&t->stop, memory_order_acquire) ||
            source->ops->next(source, &block, clock_ns()) != 1)
            return blocks;
        int64_t now_ns = clock_ns();
        if (t->has_sink)
            write_sink(t, input->number, &block);
        else
            write_feed(t, input, &block, now_ns);
        source->patience_ns = t->has_sink ? 0 : patience_ns(t, input->number, now_ns);
    }
    return ROUND_MAX;
}

static bool same_status(const struct source_status *a, const struct source_status *b)
{
    return a->state == b->state && strcmp(a->detail, b->detail) == 0;
}

/* Tells main what it does not know yet. Returns when to look again at the latest. */
static int64_t tell(struct source_thread *t, int64_t now_ns)
{
    int64_t wake_ns = INT64_MAX;
    t->retry = t->due != NULL;
    for (unsigned i = 0; i < t->input_count; i++) {
        struct source_input *input = &t->inputs[i];
        if (input->told_any && same_status(&input->told, &input->source->status))
            continue;
        struct source_event event = {
            .type = SOURCE_EVENT_STATUS, .source = input->number, .status = input->source->status};
        if (post(t, &event)) {
            input->told = event.status;
            input->told_any = true;
        }
    }
    if (t->has_sink && !t->sink_open && !t->sink_closed_told) {
        struct source_event event = {
            .type = SOURCE_EVENT_SINK_CLOSED, .source = t->sink_source, .error = t->sink_error};
        t->sink_closed_told = post(t, &event);
    }
    for (unsigned i = 0; i < t->slots_used; i++) {
        struct slot *slot = &t->slots[i];
        if (!slot->feed)
            continue;
        struct source_event event = {.source = slot->source, .sender = slot->sender, .feed = slot->feed};
        int64_t idle_ns = feed_idle_at_ns(slot->feed);
        if (!slot->idle && now_ns >= idle_ns) {
            event.type = SOURCE_EVENT_FEED_IDLE;
            slot->idle = post(t, &event);
        }
        if (!slot->idle && now_ns < idle_ns && idle_ns < wake_ns)
            wake_ns = idle_ns;

        /* What is configured stays as long as its source does. */
        if (!slot->idle || slot->claimed)
            continue;
        int64_t gone_ns = slot->heard_ns + t->gone_ns;
        if (now_ns >= gone_ns && has_room(t)) {
            event.type = SOURCE_EVENT_FEED_GONE;
            free_slot(t, slot);
            post(t, &event);
        } else if (gone_ns < wake_ns) {
            wake_ns = now_ns >= gone_ns ? now_ns + RETRY_NS : gone_ns;
        }
    }
    return t->retry && wake_ns > now_ns + RETRY_NS ? now_ns + RETRY_NS : wake_ns;
}

/* Has something happened that main speaks about? */
static bool same_trouble(const struct source_counters *a, const struct source_counters *b)
{
    return a->rejected == b->rejected && a->ignored == b->ignored && a->fragments == b->fragments &&
           a->lost_packets == b->lost_packets && a->unjoined == b->unjoined && a->buffer_ns == b->buffer_ns;
}

static int64_t tell_counters(struct source_thread *t, int64_t now_ns)
{
    int64_t wake_ns = INT64_MAX;
    for (unsigned i = 0; i < t->input_count; i++) {
        struct source_input *input = &t->inputs[i];
        const struct source_counters *counters = &input->source->counters;
        if (same_trouble(counters, &input->counted))
            continue;
        int64_t due_ns = input->counted_ns + COUNT_NS;
        struct source_event event = {.type = SOURCE_EVENT_COUNTERS, .source = input->number, .counters = *counters};
        if (now_ns >= due_ns && post(t, &event)) {
            input->counted = *counters;
            input->counted_ns = now_ns;
        } else if (due_ns < wake_ns) {
            wake_ns = now_ns >= due_ns ? now_ns + RETRY_NS : due_ns;
        }
    }
    return wake_ns;
}

static struct source_input *find_input(struct source_thread *t, unsigned number)
{
    for (unsigned i = 0; i < t->input_count; i++) {
        if (t->inputs[i].number == number)
            return &t->inputs[i];
    }
    return NULL;
}

/* Lets go of one feed, or of all that the source has. False: main is slow, not all could be said. */
static bool let_go(struct source_thread *t, const struct source_command *command)
{
    for (unsigned i = 0; i < t->slots_used; i++) {
        struct slot *slot = &t->slots[i];
        if (!slot->feed || slot->source != command->number ||
            (command->type == COMMAND_FORGET && slot->sender.id != command->sender))
            continue;
        if (!has_room(t))
            return false;
        struct source_event event = {
            .type = SOURCE_EVENT_FEED_GONE, .source = slot->source, .sender = slot->sender, .feed = slot->feed};
        free_slot(t, slot);
        post(t, &event);
    }
    return true;
}

static void set_senders(struct source_thread *t, const struct source_input *input,
                        const struct source_senders *senders)
{
    if (input->source->ops->set_senders)
        input->source->ops->set_senders(input->source, senders);
    for (unsigned i = 0; i < t->slots_used; i++) {
        struct slot *slot = &t->slots[i];
        if (!slot->feed || slot->source != input->number || input->source->kind == SOURCE_SHM)
            continue;
        bool claimed = false;
        for (unsigned k = 0; k < senders->count; k++)
            claimed = claimed || senders->from[k] == slot->sender.id;
        t->stranger_count += slot->claimed;
        t->stranger_count -= claimed;
        slot->claimed = claimed;
    }
}

/* False: not now. */
static bool run_command(struct source_thread *t, const struct source_command *command)
{
    struct source_input *input = find_input(t, command->number);
    switch (command->type) {
    case COMMAND_ADD:
        t->inputs[t->input_count++] = (struct source_input){.source = command->source, .number = command->number};
        return true;
    case COMMAND_SENDERS:
        set_senders(t, input, &command->senders);
        return true;
    case COMMAND_FORGET:
        return let_go(t, command);
    case COMMAND_REMOVE:
        break;
    }
    if (!let_go(t, command) || !has_room(t))
        return false;
    struct source_event event = {.type = SOURCE_EVENT_REMOVED, .source = command->number, .removed = input->source};
    /* Its numbers may mean another source by the time main is told of a sink that was bound to it. */
    *input = t->inputs[--t->input_count];
    return post(t, &event);
}

/* What main said since. */
static void run_commands(struct source_thread *t)
{
    struct source_command **end = &t->due;
    while (*end)
        end = &(*end)->next;
    *end = source_queue_take(&t->queue);
    while (t->due && run_command(t, t->due)) {
        struct source_command *done = t->due;
        t->due = done->next;
        free(done);
    }
}

/* Lets each source that has something to do say it. Returns whether one of them was interrupted. */
static bool run_sources(struct source_thread *t)
{
    bool more = false;
    int64_t now_ns = clock_ns();
    for (unsigned i = 0; i < t->input_count; i++) {
        struct source_input *input = &t->inputs[i];
        if (!source_input_due(input, now_ns))
            continue;
        unsigned blocks = run_source(t, input);
        now_ns = clock_ns();
        input->more = blocks == ROUND_MAX;
        more = more || input->more;
        source_input_ran(input, blocks > 0, now_ns);
    }
    return more;
}

static void *source_thread_main(void *arg)
{
    struct source_thread *t = arg;

    prctl(PR_SET_NAME, "earshot-src");
    prctl(PR_SET_TIMERSLACK, 1ul);
    atomic_store(&t->tid, gettid());
    source_queue_wake_main(&t->queue);
    t->wait.awake_since_ns = clock_ns();

    while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
        run_commands(t);
        bool more = run_sources(t);
        int64_t now_ns = clock_ns(), wake_ns = tell(t, now_ns), count_ns = tell_counters(t, now_ns);
        if (source_wait(&t->wait, t->inputs, t->input_count, t->queue.wake_fd,
                        count_ns < wake_ns ? count_ns : wake_ns, more))
            source_queue_drain(t->queue.wake_fd);
    }
    return NULL;
}

int source_thread_create(struct source_thread **thread, const struct source_thread_params *params)
{
    struct source_thread *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->gone_ns = params->gone_ns ? params->gone_ns : GONE_NS;
    if (params->sink) {
        t->sink = *params->sink;
        t->has_sink = t->sink_open = true;
    }
    int r = source_queue_init(&t->queue);
    if (r < 0) {
        free(t);
        return r;
    }
    *thread = t;
    return 0;
}

int source_thread_add(struct source_thread *thread, struct source *source)
{
    unsigned number = 0;
    while (number < SOURCE_THREAD_SOURCES_MAX && thread->used[number])
        number++;
    int r = number == SOURCE_THREAD_SOURCES_MAX ? -ENOSPC : 0;
    if (r == 0)
        r = source_queue_say(&thread->queue,
                             &(struct source_command){.type = COMMAND_ADD, .source = source, .number = number});
    if (r < 0) {
        source->ops->close(source);
        return r;
    }
    thread->used[number] = true;
    return (int)number;
}

int source_thread_remove(struct source_thread *thread, unsigned source)
{
    return source_queue_say(&thread->queue, &(struct source_command){.type = COMMAND_REMOVE, .number = source});
}

int source_thread_forget(struct source_thread *thread, unsigned source, uint64_t sender)
{
    return source_queue_say(&thread->queue,
                            &(struct source_command){.type = COMMAND_FORGET, .number = source, .sender = sender});
}

int source_thread_set_senders(struct source_thread *thread, unsigned source, const struct source_senders *senders)
{
    return source_queue_say(&thread->queue,
                            &(struct source_command){.type = COMMAND_SENDERS, .number = source, .senders = *senders});
}

int source_thread_start(struct source_thread *thread)
{
    int r = -pthread_create(&thread->thread, NULL, source_thread_main, thread);
    thread->running = r == 0;
    return r;
}

pid_t source_thread_tid(const struct source_thread *thread)
{
    return atomic_load(&thread->tid);
}

int source_thread_fd(const struct source_thread *thread)
{
    return thread->queue.event_fd;
}

int source_thread_next_event(struct source_thread *thread, struct source_event *event)
{
    bool found = source_queue_next(&thread->queue, event);
    if (found && event->type == SOURCE_EVENT_REMOVED) {
        event->removed->ops->close(event->removed);
        event->removed = NULL;
        thread->used[event->source] = false;
    }
    return found;
}

void source_thread_stop(struct source_thread *thread)
{
    if (!thread->running)
        return;
    atomic_store_explicit(&thread->stop, true, memory_order_release);
    source_queue_wake(&thread->queue);
    pthread_join(thread->thread, NULL);
    thread->running = false;
}

void source_thread_destroy(struct source_thread *thread)
{
    if (!thread)
        return;
    source_thread_stop(thread);
    for (struct source_event event; source_thread_next_event(thread, &event);) {
        if (event.type == SOURCE_EVENT_FEED_NEW)
            feed_destroy(event.feed);
    }
    for (unsigned i = 0; i < thread->input_count; i++)
        thread->inputs[i].source->ops->close(thread->inputs[i].source);
    source_commands_free(thread->due);
    source_queue_free(&thread->queue);
    free(thread);
}
