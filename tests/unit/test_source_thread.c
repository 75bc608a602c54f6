/* SPDX-License-Identifier: MIT
 *
 * A source that does as the test says. Waits have limits that only a fault reaches; no outcome depends on timing.
 */
#include "receiver/source_thread.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SCRIPT_MAX 512
#define WAIT_MS    20000
#define CLAIMED    9000 /* senders from here on */

static const struct pcm_format cd = {.rate = 44100, .bits = 16, .channels = 2, .mask = 3};
static const struct pcm_format dvd = {.rate = 48000, .bits = 16, .channels = 2, .mask = 3};

struct step {
    uint64_t sender;
    struct pcm_format format;
};

struct script {
    pthread_mutex_t lock;
    struct step steps[SCRIPT_MAX];
    unsigned first, count;
    bool change_status;
    uint64_t lost;                 /* what the source counts */
    unsigned watched;              /* times that next() was told of watch_fd */
    int watch_fd;                  /* 0: none */
    struct source_senders senders; /* as told last */
    bool loud;                     /* the blocks hold noise instead of silence */
    atomic_int closed;
};

struct fake {
    struct source base;
    struct script *script;
};

static const uint8_t silence[480 * 4];
static uint8_t noise[480 * 4];

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int fake_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct script *script = ((struct fake *)source)->script;
    uint64_t count;
    int r = 0;
    pthread_mutex_lock(&script->lock);
    if (script->change_status) {
        source->status.state = SOURCE_BAD_HEADER;
        strcpy(source->status.detail, "bad");
        script->change_status = false;
    }
    source->counters.lost_packets = script->lost;
    if (source->watch_ready && read(source->watch_fd, &count, sizeof(count)) == sizeof(count))
        script->watched++;
    source->watch_ready = false;
    if (script->first < script->count) {
        const struct step *step = &script->steps[script->first++];
        *block = (struct block){
            .sender = {.id = step->sender, .claimed = step->sender >= CLAIMED},
            .format = step->format,
            .data = script->loud ? noise : silence,
            .frames = 480,
            .chunk_frames = 480,
            .arrival_ns = now_ns
        };
        snprintf(block->sender.label, sizeof(block->sender.label), "sender %u", (unsigned)step->sender);
        r = 1;
    } else if (read(source->fd, &count, sizeof(count)) < 0) {
        assert(errno == EAGAIN);
    }
    pthread_mutex_unlock(&script->lock);
    return r;
}

static void fake_close(struct source *source)
{
    struct script *script = ((struct fake *)source)->script;
    close(source->fd);
    free(source);
    atomic_fetch_add(&script->closed, 1);
}

static void fake_set_senders(struct source *source, const struct source_senders *senders)
{
    struct script *script = ((struct fake *)source)->script;
    pthread_mutex_lock(&script->lock);
    script->senders = *senders;
    pthread_mutex_unlock(&script->lock);
}

static const struct source_ops fake_ops = {.next = fake_next, .close = fake_close, .set_senders = fake_set_senders};

static struct source *fake_open(struct script *script, enum source_kind kind)
{
    struct fake *fake = calloc(1, sizeof(*fake));
    assert_non_null(fake);
    fake->base = (struct source){.ops = &fake_ops, .kind = kind, .wake_ns = INT64_MAX};
    fake->base.fd = eventfd(0, EFD_NONBLOCK);
    assert_true(fake->base.fd >= 0);
    fake->base.watch_fd = script->watch_fd;
    fake->script = script;
    return &fake->base;
}

struct fixture {
    struct script script;
    struct source_thread *thread;
    int poke_fd;
};

static void set_up(struct fixture *f, enum source_kind kind, const struct source_thread_params *params)
{
    memset(f, 0, sizeof(*f));
    assert_int_equal(pthread_mutex_init(&f->script.lock, NULL), 0);
    assert_int_equal(source_thread_create(&f->thread, params), 0);
    struct source *source = fake_open(&f->script, kind);
    f->poke_fd = dup(source->fd);
    assert_int_equal(source_thread_add(f->thread, source), 0);
    assert_int_equal(source_thread_start(f->thread), 0);
}

static void tear_down(struct fixture *f)
{
    source_thread_destroy(f->thread);
    assert_int_equal(atomic_load(&f->script.closed), 1);
    pthread_mutex_destroy(&f->script.lock);
    close(f->poke_fd);
}

static void poke(struct fixture *f)
{
    uint64_t one = 1;
    assert_int_equal(write(f->poke_fd, &one, sizeof(one)), sizeof(one));
}

static void send(struct fixture *f, uint64_t sender, const struct pcm_format *format)
{
    pthread_mutex_lock(&f->script.lock);
    assert_true(f->script.count < SCRIPT_MAX);
    f->script.steps[f->script.count++] = (struct step){.sender = sender, .format = *format};
    pthread_mutex_unlock(&f->script.lock);
    poke(f);
}

/* Until [src] has taken all that was sent; a stop after that finds it written. */
static void wait_taken(struct fixture *f)
{
    for (unsigned left = 1; left;) {
        pthread_mutex_lock(&f->script.lock);
        left = f->script.count - f->script.first;
        pthread_mutex_unlock(&f->script.lock);
        poll(NULL, 0, 1);
    }
}

static bool next_event(struct fixture *f, struct source_event *event, int wait_ms)
{
    int64_t end_ns = clock_ns() + wait_ms * INT64_C(1000000);
    while (source_thread_next_event(f->thread, event) != 1) {
        struct pollfd fd = {.fd = source_thread_fd(f->thread), .events = POLLIN};
        int left_ms = (int)((end_ns - clock_ns()) / 1000000);
        if (left_ms <= 0)
            return false;
        poll(&fd, 1, left_ms);
    }
    return true;
}

/* The next event that is not of the kinds in `skip`, a bit each. */
static struct source_event expect(struct fixture *f, enum source_event_type type, unsigned skip)
{
    struct source_event event;
    do {
        if (!next_event(f, &event, WAIT_MS))
            fail_msg("no event, wanted %d", (int)type);
    } while (skip & 1u << event.type);
    assert_int_equal(event.type, type);
    return event;
}

#define SKIP_PAUSES (1u << SOURCE_EVENT_FEED_IDLE | 1u << SOURCE_EVENT_FEED_ACTIVE)

static void test_status_first(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_SHM, &(struct source_thread_params){0});
    struct source_event event = expect(&f, SOURCE_EVENT_STATUS, 0);
    assert_int_equal(event.status.state, SOURCE_LISTENING);
    assert_int_equal(event.source, 0);
    assert_true(source_thread_tid(f.thread) > 0);

    pthread_mutex_lock(&f.script.lock);
    f.script.change_status = true;
    pthread_mutex_unlock(&f.script.lock);
    poke(&f);
    event = expect(&f, SOURCE_EVENT_STATUS, 0);
    assert_int_equal(event.status.state, SOURCE_BAD_HEADER);
    assert_string_equal(event.status.detail, "bad");
    tear_down(&f);
}

static void test_feed_per_sender(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 1, &dvd);
    send(&f, 2, &cd);
    send(&f, 1, &dvd);
    struct source_event one = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES);
    struct source_event two = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES);
    assert_int_equal(one.sender.id, 1);
    assert_string_equal(one.sender.label, "sender 1");
    assert_int_equal(one.chunk_ns, 10000000);
    assert_int_equal(two.sender.id, 2);
    assert_ptr_not_equal(one.feed, two.feed);
    assert_true(pcm_format_equal(feed_format(one.feed), &dvd));
    assert_true(pcm_format_equal(feed_format(two.feed), &cd));

    wait_taken(&f);
    source_thread_stop(f.thread);
    /* Two blocks went into the first, one into the second. */
    assert_int_equal(frame_ring_written(feed_ring(one.feed)), 960);
    assert_int_equal(frame_ring_written(feed_ring(two.feed)), 480);
    feed_destroy(one.feed);
    feed_destroy(two.feed);
    tear_down(&f);
}

static void test_format_change(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_SHM, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 0, &dvd);
    struct source_event one = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES);

    /* A change right after the first is not followed at once; but soon. Idle means that the time is up. */
    send(&f, 0, &dvd);
    expect(&f, SOURCE_EVENT_FEED_IDLE, 1u << SOURCE_EVENT_FEED_ACTIVE);
    send(&f, 0, &cd);
    struct source_event two = expect(&f, SOURCE_EVENT_FEED_NEW, 0);
    assert_int_equal(two.sender.id, 0);
    assert_true(pcm_format_equal(feed_format(two.feed), &cd));
    /* Main may free the old one as soon as it has the new: [src] does not touch it any more (ASan, TSan). */
    feed_destroy(one.feed);
    send(&f, 0, &cd);
    wait_taken(&f);
    source_thread_stop(f.thread);
    assert_int_equal(frame_ring_written(feed_ring(two.feed)), 960);
    feed_destroy(two.feed);
    tear_down(&f);
}

/* What begins in another format while something plays is no louder than that was: it may be garbage. */
static void test_format_change_is_soft(void **state)
{
    (void)state;
    bool judged = false;
    for (unsigned attempt = 0; attempt < 20 && !judged; attempt++) {
        struct fixture f;
        set_up(&f, SOURCE_UDP, &(struct source_thread_params){0});
        expect(&f, SOURCE_EVENT_STATUS, 0);
        send(&f, 0, &dvd);
        struct source_event one = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES);
        int64_t from_ns = clock_ns();
        send(&f, 0, &dvd);
        expect(&f, SOURCE_EVENT_FEED_IDLE, 1u << SOURCE_EVENT_FEED_ACTIVE);
        pthread_mutex_lock(&f.script.lock);
        f.script.loud = true;
        pthread_mutex_unlock(&f.script.lock);
        send(&f, 0, &cd);
        struct source_event two = expect(&f, SOURCE_EVENT_FEED_NEW, 0);
        judged = clock_ns() - from_ns < INT64_C(900000000); /* else the machine stood still: that is no change */
        wait_taken(&f);
        source_thread_stop(f.thread);
        if (judged)
            assert_true(feed_recent_peak(two.feed) < 0.02f);
        feed_destroy(one.feed);
        feed_destroy(two.feed);
        tear_down(&f);
    }
    assert_true(judged);
}

static void test_idle_and_active(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_SHM, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 0, &dvd);
    struct source_event new = expect(&f, SOURCE_EVENT_FEED_NEW, 0);
    struct source_event idle = expect(&f, SOURCE_EVENT_FEED_IDLE, 0);
    assert_ptr_equal(idle.feed, new.feed);
    send(&f, 0, &dvd);
    /* If main is slow the pause after it may have taken its place; nothing else may come. */
    struct source_event event;
    assert_true(next_event(&f, &event, WAIT_MS));
    assert_true(SKIP_PAUSES & 1u << event.type);
    assert_ptr_equal(event.feed, new.feed);
    source_thread_stop(f.thread);
    feed_destroy(new.feed);
    tear_down(&f);
}

static void test_gone(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){.gone_ns = 1});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 7, &dvd);
    struct source_event new = expect(&f, SOURCE_EVENT_FEED_NEW, 0);
    struct source_event gone = expect(&f, SOURCE_EVENT_FEED_GONE, SKIP_PAUSES);
    assert_ptr_equal(gone.feed, new.feed);
    assert_int_equal(gone.sender.id, 7);
    feed_destroy(new.feed);

    /* It comes back as somebody new. */
    send(&f, 7, &dvd);
    new = expect(&f, SOURCE_EVENT_FEED_NEW, 0);
    expect(&f, SOURCE_EVENT_FEED_GONE, SKIP_PAUSES);
    feed_destroy(new.feed);
    tear_down(&f);
}

static void test_shared_memory_stays(void **state)
{
    (void)state;
    struct fixture f;
    struct source_event event;
    set_up(&f, SOURCE_SHM, &(struct source_thread_params){.gone_ns = 1});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 0, &dvd);
    struct source_event new = expect(&f, SOURCE_EVENT_FEED_NEW, 0);
    expect(&f, SOURCE_EVENT_FEED_IDLE, 0);
    poke(&f);
    assert_false(next_event(&f, &event, 50));
    source_thread_stop(f.thread);
    feed_destroy(new.feed);
    tear_down(&f);
}

static void test_full(void **state)
{
    (void)state;
    struct fixture f;
    struct feed *feeds[SOURCE_THREAD_STRANGERS_MAX + 1];
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    for (unsigned i = 0; i < SOURCE_THREAD_STRANGERS_MAX + 3; i++)
        send(&f, 1000 + i, &dvd);
    for (unsigned i = 0; i < SOURCE_THREAD_STRANGERS_MAX; i++)
        feeds[i] = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES).feed;
    struct source_event full = expect(&f, SOURCE_EVENT_FULL, SKIP_PAUSES);
    assert_int_equal(full.sender.id, 1000 + SOURCE_THREAD_STRANGERS_MAX);

    /* There is always room for one that somebody wants, but no more for strangers than before. */
    send(&f, CLAIMED, &dvd);
    send(&f, 2000, &dvd);
    struct source_event wanted = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES);
    assert_int_equal(wanted.sender.id, CLAIMED);
    feeds[SOURCE_THREAD_STRANGERS_MAX] = wanted.feed;
    wait_taken(&f);
    source_thread_stop(f.thread);
    struct source_event event;
    while (source_thread_next_event(f.thread, &event))
        assert_true(SKIP_PAUSES & 1u << event.type);
    for (unsigned i = 0; i <= SOURCE_THREAD_STRANGERS_MAX; i++)
        feed_destroy(feeds[i]);
    tear_down(&f);
}

static void test_claimed_stays(void **state)
{
    (void)state;
    struct fixture f;
    struct source_event event;
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){.gone_ns = 1});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, CLAIMED, &dvd);
    struct feed *feed = expect(&f, SOURCE_EVENT_FEED_NEW, 0).feed;
    expect(&f, SOURCE_EVENT_FEED_IDLE, 0);
    poke(&f);
    assert_false(next_event(&f, &event, 50));

    /* Nobody's any more. */
    assert_int_equal(source_thread_set_senders(f.thread, 0, &(struct source_senders){.others = true}), 0);
    event = expect(&f, SOURCE_EVENT_FEED_GONE, 0);
    assert_ptr_equal(event.feed, feed);
    feed_destroy(feed);

    /* And the other way round: one that was a stranger when it was first heard. */
    send(&f, 7, &dvd);
    feed = expect(&f, SOURCE_EVENT_FEED_NEW, 0).feed;
    struct source_senders senders = {.from = {7}, .count = 1, .others = true};
    assert_int_equal(source_thread_set_senders(f.thread, 0, &senders), 0);
    expect(&f, SOURCE_EVENT_FEED_IDLE, 0);
    assert_false(next_event(&f, &event, 50));
    source_thread_stop(f.thread);
    assert_int_equal(f.script.senders.from[0], 7);
    feed_destroy(feed);
    tear_down(&f);
}

static void test_forget(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 1, &dvd);
    send(&f, 2, &dvd);
    struct feed *one = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES).feed;
    struct feed *two = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES).feed;

    assert_int_equal(source_thread_forget(f.thread, 0, 3), 0); /* never heard of: nothing */
    assert_int_equal(source_thread_forget(f.thread, 0, 1), 0);
    struct source_event gone = expect(&f, SOURCE_EVENT_FEED_GONE, SKIP_PAUSES);
    assert_ptr_equal(gone.feed, one);
    feed_destroy(one);
    send(&f, 2, &dvd);
    send(&f, 1, &dvd);
    struct source_event again = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES);
    assert_int_equal(again.sender.id, 1);
    source_thread_stop(f.thread);
    assert_int_equal(frame_ring_written(feed_ring(two)), 960);
    feed_destroy(again.feed);
    feed_destroy(two);
    tear_down(&f);
}

/* A source comes and goes, and another does not notice. */
static void test_come_and_go(void **state)
{
    (void)state;
    struct fixture f, other = {.script.first = 0};
    set_up(&f, SOURCE_SHM, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 0, &dvd);
    struct feed *stays = expect(&f, SOURCE_EVENT_FEED_NEW, 0).feed;

    assert_int_equal(pthread_mutex_init(&other.script.lock, NULL), 0);
    for (unsigned turn = 1; turn <= 3; turn++) {
        struct source *source = fake_open(&other.script, SOURCE_UDP);
        other.poke_fd = dup(source->fd);
        assert_int_equal(source_thread_add(f.thread, source), 1);
        assert_int_equal(expect(&f, SOURCE_EVENT_STATUS, SKIP_PAUSES).source, 1);
        send(&other, 4, &cd);
        send(&other, 5, &cd);
        struct feed *four = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES).feed;
        struct feed *five = expect(&f, SOURCE_EVENT_FEED_NEW, SKIP_PAUSES).feed;
        send(&f, 0, &dvd);

        assert_int_equal(source_thread_remove(f.thread, 1), 0);
        for (unsigned i = 0; i < 2; i++) {
            struct source_event gone = expect(&f, SOURCE_EVENT_FEED_GONE, SKIP_PAUSES);
            assert_int_equal(gone.source, 1);
            assert_true(gone.feed == four || gone.feed == five);
            feed_destroy(gone.feed);
        }
        assert_int_equal(atomic_load(&other.script.closed), (int)turn - 1);
        assert_int_equal(expect(&f, SOURCE_EVENT_REMOVED, SKIP_PAUSES).source, 1);
        assert_int_equal(atomic_load(&other.script.closed), (int)turn);
        close(other.poke_fd);
    }
    wait_taken(&f);
    source_thread_stop(f.thread);
    assert_int_equal(frame_ring_written(feed_ring(stays)), 4 * 480);
    feed_destroy(stays);
    pthread_mutex_destroy(&other.script.lock);
    tear_down(&f);
}

/* Nobody fetches anything: nothing leaks (ASan), nothing blocks. */
static void test_nobody_listens(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){.gone_ns = 1});
    for (unsigned i = 0; i < SCRIPT_MAX; i++)
        send(&f, i, &dvd);
    wait_taken(&f);
    source_thread_stop(f.thread);
    /* The last word of each remains: every feed is announced before anything else is said of it. */
    struct source_event event;
    struct feed *feeds[SCRIPT_MAX];
    unsigned count = 0;
    while (source_thread_next_event(f.thread, &event)) {
        unsigned i = 0;
        if (event.type == SOURCE_EVENT_STATUS || event.type == SOURCE_EVENT_FULL)
            continue;
        while (i < count && feeds[i] != event.feed)
            i++;
        assert_true(i < count || event.type == SOURCE_EVENT_FEED_NEW);
        if (event.type == SOURCE_EVENT_FEED_NEW)
            feeds[count++] = event.feed;
    }
    assert_true(count >= SOURCE_THREAD_STRANGERS_MAX);
    for (unsigned i = 0; i < count; i++)
        feed_destroy(feeds[i]);
    tear_down(&f);
}

struct collector {
    unsigned blocks;
    uint64_t sender;
    unsigned limit;
};

static int collect(void *arg, const struct block *block)
{
    struct collector *c = arg;
    if (c->blocks == c->limit)
        return -EPIPE;
    assert(!c->blocks || c->sender == block->sender.id);
    c->sender = block->sender.id;
    c->blocks++;
    return 0;
}

static void test_sink(void **state)
{
    (void)state;
    struct fixture f;
    struct collector c = {.limit = 2};
    struct source_sink sink = {.write = collect, .arg = &c};
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){.sink = &sink});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    send(&f, 5, &dvd);
    send(&f, 6, &dvd);
    send(&f, 5, &cd);
    send(&f, 5, &dvd);
    send(&f, 5, &dvd);
    struct source_event closed = expect(&f, SOURCE_EVENT_SINK_CLOSED, 0);
    assert_int_equal(closed.error, -EPIPE);
    source_thread_stop(f.thread);
    assert_int_equal(c.blocks, 2);
    assert_int_equal(c.sender, 5);
    tear_down(&f);
}

static void count_lost(struct fixture *f, uint64_t lost)
{
    pthread_mutex_lock(&f->script.lock);
    f->script.lost = lost;
    pthread_mutex_unlock(&f->script.lock);
    poke(f);
}

/* Trouble is told of at once, and then no more than once a second, in its latest state. */
static void test_counters(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, SOURCE_UDP, &(struct source_thread_params){0});
    expect(&f, SOURCE_EVENT_STATUS, 0);
    int64_t from_ns = clock_ns(), events = 0;
    for (uint64_t lost = 1; lost <= 100; lost++) {
        count_lost(&f, lost);
        poll(NULL, 0, 1);
    }
    for (uint64_t lost = 0; lost < 100; events++) {
        struct source_event event = expect(&f, SOURCE_EVENT_COUNTERS, 0);
        assert_true(event.counters.lost_packets > lost);
        lost = event.counters.lost_packets;
    }
    assert_true(events <= 1 + (clock_ns() - from_ns) / INT64_C(1000000000));
    tear_down(&f);
}

static void test_watch_fd(void **state)
{
    (void)state;
    struct source_thread *thread;
    struct script script = {.watch_fd = eventfd(0, EFD_NONBLOCK)};
    assert_true(script.watch_fd > 0);
    assert_int_equal(pthread_mutex_init(&script.lock, NULL), 0);
    assert_int_equal(source_thread_create(&thread, &(struct source_thread_params){0}), 0);
    assert_int_equal(source_thread_add(thread, fake_open(&script, SOURCE_UDP)), 0);
    assert_int_equal(source_thread_start(thread), 0);
    for (unsigned i = 0, watched = 0; i < 3; i++) {
        uint64_t one = 1;
        assert_int_equal(write(script.watch_fd, &one, sizeof(one)), sizeof(one));
        for (int64_t end_ns = clock_ns() + WAIT_MS * INT64_C(1000000); watched <= i && clock_ns() < end_ns;) {
            pthread_mutex_lock(&script.lock);
            watched = script.watched;
            pthread_mutex_unlock(&script.lock);
            poll(NULL, 0, 1);
        }
        assert_int_equal(watched, i + 1);
    }
    source_thread_destroy(thread);
    close(script.watch_fd);
    pthread_mutex_destroy(&script.lock);
}

static void test_too_many_sources(void **state)
{
    (void)state;
    struct script script = {0};
    struct source_thread *thread;
    assert_int_equal(pthread_mutex_init(&script.lock, NULL), 0);
    assert_int_equal(source_thread_create(&thread, &(struct source_thread_params){0}), 0);
    for (int i = 0; i < SOURCE_THREAD_SOURCES_MAX; i++)
        assert_int_equal(source_thread_add(thread, fake_open(&script, SOURCE_SHM)), i);
    assert_int_equal(source_thread_add(thread, fake_open(&script, SOURCE_SHM)), -ENOSPC);
    assert_int_equal(atomic_load(&script.closed), 1);
    source_thread_destroy(thread);
    assert_int_equal(atomic_load(&script.closed), SOURCE_THREAD_SOURCES_MAX + 1);
    pthread_mutex_destroy(&script.lock);
}

int main(void)
{
    memset(noise, 0x7f, sizeof(noise));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_first),
        cmocka_unit_test(test_feed_per_sender),
        cmocka_unit_test(test_format_change),
        cmocka_unit_test(test_format_change_is_soft),
        cmocka_unit_test(test_idle_and_active),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_shared_memory_stays),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_sink),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_watch_fd),
        cmocka_unit_test(test_too_many_sources),
        cmocka_unit_test(test_claimed_stays),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
