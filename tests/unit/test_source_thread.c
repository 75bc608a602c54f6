/* SPDX-License-Identifier: MIT
 *
 * What [src] tells main of its sources: status, feeds, formats, pauses, counters.
 */
#include "tests/unit/source_thread_rig.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

static void test_status_first(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_SHM, &(struct source_thread_params){0});
    struct source_event event = rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    assert_int_equal(event.status.state, SOURCE_LISTENING);
    assert_int_equal(event.source, 0);
    assert_true(source_thread_tid(rig.thread) > 0);

    pthread_mutex_lock(&rig.script.lock);
    rig.script.change_status = true;
    pthread_mutex_unlock(&rig.script.lock);
    rig_poke(&rig);
    event = rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    assert_int_equal(event.status.state, SOURCE_BAD_HEADER);
    assert_string_equal(event.status.detail, "bad");
    rig_tear_down(&rig);
}

static void test_feed_per_sender(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 1, &rig_dvd);
    rig_send(&rig, 2, &rig_cd);
    rig_send(&rig, 1, &rig_dvd);
    struct source_event one = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES);
    struct source_event two = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES);
    assert_int_equal(one.sender.id, 1);
    assert_string_equal(one.sender.label, "sender 1");
    assert_int_equal(one.chunk_ns, 10000000);
    assert_int_equal(two.sender.id, 2);
    assert_ptr_not_equal(one.feed, two.feed);
    assert_true(pcm_format_equal(feed_format(one.feed), &rig_dvd));
    assert_true(pcm_format_equal(feed_format(two.feed), &rig_cd));

    rig_wait_taken(&rig);
    source_thread_stop(rig.thread);
    /* Two blocks went into the first, one into the second. */
    assert_int_equal(frame_ring_written(feed_ring(one.feed)), 960);
    assert_int_equal(frame_ring_written(feed_ring(two.feed)), 480);
    feed_destroy(one.feed);
    feed_destroy(two.feed);
    rig_tear_down(&rig);
}

static void test_format_change(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_SHM, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 0, &rig_dvd);
    struct source_event one = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES);

    /* A change right after the first is not followed at once; but soon. Idle means that the time is up. */
    rig_send(&rig, 0, &rig_dvd);
    rig_expect(&rig, SOURCE_EVENT_FEED_IDLE, 1u << SOURCE_EVENT_FEED_ACTIVE);
    rig_send(&rig, 0, &rig_cd);
    struct source_event two = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0);
    assert_int_equal(two.sender.id, 0);
    assert_true(pcm_format_equal(feed_format(two.feed), &rig_cd));
    /* Main may free the old one as soon as it has the new: [src] does not touch it any more (ASan, TSan). */
    feed_destroy(one.feed);
    rig_send(&rig, 0, &rig_cd);
    rig_wait_taken(&rig);
    source_thread_stop(rig.thread);
    assert_int_equal(frame_ring_written(feed_ring(two.feed)), 960);
    feed_destroy(two.feed);
    rig_tear_down(&rig);
}

/* What begins in another format while something plays is no louder than that was: it may be garbage. */
static void test_format_change_is_soft(void **state)
{
    (void)state;
    bool judged = false;
    for (unsigned attempt = 0; attempt < 20 && !judged; attempt++) {
        struct rig rig;
        rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){0});
        rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
        rig_send(&rig, 0, &rig_dvd);
        struct source_event one = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES);
        int64_t from_ns = rig_clock_ns();
        rig_send(&rig, 0, &rig_dvd);
        rig_expect(&rig, SOURCE_EVENT_FEED_IDLE, 1u << SOURCE_EVENT_FEED_ACTIVE);
        pthread_mutex_lock(&rig.script.lock);
        rig.script.loud = true;
        pthread_mutex_unlock(&rig.script.lock);
        rig_send(&rig, 0, &rig_cd);
        struct source_event two = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0);
        judged = rig_clock_ns() - from_ns < INT64_C(900000000); /* else the machine stood still: that is no change */
        rig_wait_taken(&rig);
        source_thread_stop(rig.thread);
        if (judged)
            assert_true(feed_recent_peak(two.feed) < 0.02f);
        feed_destroy(one.feed);
        feed_destroy(two.feed);
        rig_tear_down(&rig);
    }
    assert_true(judged);
}

static void test_idle_and_active(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_SHM, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 0, &rig_dvd);
    struct source_event new = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0);
    struct source_event idle = rig_expect(&rig, SOURCE_EVENT_FEED_IDLE, 0);
    assert_ptr_equal(idle.feed, new.feed);
    rig_send(&rig, 0, &rig_dvd);
    /* If main is slow the pause after it may have taken its place; nothing else may come. */
    struct source_event event;
    assert_true(rig_next_event(&rig, &event, RIG_WAIT_MS));
    assert_true(RIG_SKIP_PAUSES & 1u << event.type);
    assert_ptr_equal(event.feed, new.feed);
    source_thread_stop(rig.thread);
    feed_destroy(new.feed);
    rig_tear_down(&rig);
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
    struct rig rig;
    struct collector c = {.limit = 2};
    struct source_sink sink = {.write = collect, .arg = &c};
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){.sink = &sink});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 5, &rig_dvd);
    rig_send(&rig, 6, &rig_dvd);
    rig_send(&rig, 5, &rig_cd);
    rig_send(&rig, 5, &rig_dvd);
    rig_send(&rig, 5, &rig_dvd);
    struct source_event closed = rig_expect(&rig, SOURCE_EVENT_SINK_CLOSED, 0);
    assert_int_equal(closed.error, -EPIPE);
    source_thread_stop(rig.thread);
    assert_int_equal(c.blocks, 2);
    assert_int_equal(c.sender, 5);
    rig_tear_down(&rig);
}

static void count_lost(struct rig *rig, uint64_t lost)
{
    pthread_mutex_lock(&rig->script.lock);
    rig->script.lost = lost;
    pthread_mutex_unlock(&rig->script.lock);
    rig_poke(rig);
}

/* Trouble is told of at once, and then no more than once a second, in its latest state. */
static void test_counters(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    int64_t from_ns = rig_clock_ns(), events = 0;
    for (uint64_t lost = 1; lost <= 100; lost++) {
        count_lost(&rig, lost);
        poll(NULL, 0, 1);
    }
    for (uint64_t lost = 0; lost < 100; events++) {
        struct source_event event = rig_expect(&rig, SOURCE_EVENT_COUNTERS, 0);
        assert_true(event.counters.lost_packets > lost);
        lost = event.counters.lost_packets;
    }
    assert_true(events <= 1 + (rig_clock_ns() - from_ns) / INT64_C(1000000000));
    rig_tear_down(&rig);
}

/* A source is told the least patience of those who hear it. The rest that it takes is kept, whatever its fd says, and ends
 * also where that says nothing. */
static void test_rest(void **state)
{
    (void)state;
    const int64_t rest_ns = 30 * INT64_C(1000000);
    struct rig rig;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    pthread_mutex_lock(&rig.script.lock);
    rig.script.early_ns = 3600 * INT64_C(1000000000); /* who is held up leaves no room for anything */
    pthread_mutex_unlock(&rig.script.lock);
    struct feed *feeds[2];
    for (unsigned i = 0; i < 2; i++) {
        rig_send(&rig, 1 + i, &rig_dvd);
        feeds[i] = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES).feed;
        feed_set_patience(feeds[i], 7 - i);
    }
    rig_wait_taken(&rig);
    pthread_mutex_lock(&rig.script.lock);
    rig.script.rest_ns = rest_ns;
    pthread_mutex_unlock(&rig.script.lock);
    rig_send(&rig, 1, &rig_dvd);
    int64_t taken_ns = rig_wait_rests(&rig, 1);
    for (unsigned i = 1; i < 4; i++) {
        if (i % 2)
            rig_send(&rig, 1, &rig_dvd);
        else
            rig_send_unseen(&rig, 1, &rig_dvd);
        int64_t next_ns = rig_wait_rests(&rig, i + 1);
        assert_true(next_ns >= taken_ns + rest_ns);
        taken_ns = next_ns;
    }
    assert_int_equal(rig.script.patience_ns, 6);
    rig_tear_down(&rig);
    feed_destroy(feeds[0]);
    feed_destroy(feeds[1]);
}

static void watch(int64_t look_ns)
{
    struct source_thread *thread;
    struct rig_script script = {.watch_fd = eventfd(0, EFD_NONBLOCK), .look_ns = look_ns};
    assert_true(script.watch_fd > 0);
    assert_int_equal(pthread_mutex_init(&script.lock, NULL), 0);
    assert_int_equal(source_thread_create(&thread, &(struct source_thread_params){0}), 0);
    assert_int_equal(source_thread_add(thread, rig_source_open(&script, SOURCE_UDP)), 0);
    assert_int_equal(source_thread_start(thread), 0);
    for (unsigned i = 0, watched = 0; i < 3; i++) {
        uint64_t one = 1;
        assert_int_equal(write(script.watch_fd, &one, sizeof(one)), sizeof(one));
        for (int64_t end_ns = rig_clock_ns() + RIG_WAIT_MS * INT64_C(1000000);
             watched <= i && rig_clock_ns() < end_ns;) {
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

/* It is heard between looks that come in short order as well. */
static void test_watch_fd(void **state)
{
    (void)state;
    watch(0);
    watch(3 * INT64_C(1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_first),    cmocka_unit_test(test_feed_per_sender),
        cmocka_unit_test(test_format_change),   cmocka_unit_test(test_format_change_is_soft),
        cmocka_unit_test(test_idle_and_active), cmocka_unit_test(test_sink),
        cmocka_unit_test(test_counters),        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_watch_fd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
