/* SPDX-License-Identifier: MIT
 *
 * Senders and sources that come, stay, go, and are too many.
 */
#include "tests/unit/source_thread_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static void test_gone(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){.gone_ns = 1});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 7, &rig_dvd);
    struct source_event new = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0);
    struct source_event gone = rig_expect(&rig, SOURCE_EVENT_FEED_GONE, RIG_SKIP_PAUSES);
    assert_ptr_equal(gone.feed, new.feed);
    assert_int_equal(gone.sender.id, 7);
    feed_destroy(new.feed);

    /* It comes back as somebody new. */
    rig_send(&rig, 7, &rig_dvd);
    new = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0);
    rig_expect(&rig, SOURCE_EVENT_FEED_GONE, RIG_SKIP_PAUSES);
    feed_destroy(new.feed);
    rig_tear_down(&rig);
}

static void test_shared_memory_stays(void **state)
{
    (void)state;
    struct rig rig;
    struct source_event event;
    rig_set_up(&rig, SOURCE_SHM, &(struct source_thread_params){.gone_ns = 1});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 0, &rig_dvd);
    struct source_event new = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0);
    rig_expect(&rig, SOURCE_EVENT_FEED_IDLE, 0);
    rig_poke(&rig);
    assert_false(rig_next_event(&rig, &event, 50));
    source_thread_stop(rig.thread);
    feed_destroy(new.feed);
    rig_tear_down(&rig);
}

static void test_full(void **state)
{
    (void)state;
    struct rig rig;
    struct feed *feeds[SOURCE_THREAD_STRANGERS_MAX + 1];
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    for (unsigned i = 0; i < SOURCE_THREAD_STRANGERS_MAX + 3; i++)
        rig_send(&rig, 1000 + i, &rig_dvd);
    for (unsigned i = 0; i < SOURCE_THREAD_STRANGERS_MAX; i++)
        feeds[i] = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES).feed;
    struct source_event full = rig_expect(&rig, SOURCE_EVENT_FULL, RIG_SKIP_PAUSES);
    assert_int_equal(full.sender.id, 1000 + SOURCE_THREAD_STRANGERS_MAX);

    /* What nobody plays has no room for lateness either. */
    struct rig other = {
        .script = {.rest_ns = 1, .patience_ns = -1}
    };
    assert_int_equal(pthread_mutex_init(&other.script.lock, NULL), 0);
    struct source *source = rig_source_open(&other.script, SOURCE_UDP);
    other.poke_fd = dup(source->fd);
    assert_int_equal(source_thread_add(rig.thread, source), 1);
    rig_expect(&rig, SOURCE_EVENT_STATUS, RIG_SKIP_PAUSES);
    rig_send(&other, 1, &rig_dvd);
    rig_wait_rests(&other, 1);
    assert_int_equal(other.script.patience_ns, 0);

    /* There is always room for one that somebody wants, but no more for strangers than before. */
    rig_send(&rig, RIG_CLAIMED, &rig_dvd);
    rig_send(&rig, 2000, &rig_dvd);
    struct source_event wanted = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES);
    assert_int_equal(wanted.sender.id, RIG_CLAIMED);
    feeds[SOURCE_THREAD_STRANGERS_MAX] = wanted.feed;
    rig_wait_taken(&rig);
    source_thread_stop(rig.thread);
    struct source_event event;
    while (source_thread_next_event(rig.thread, &event))
        assert_true(RIG_SKIP_PAUSES & 1u << event.type);
    for (unsigned i = 0; i <= SOURCE_THREAD_STRANGERS_MAX; i++)
        feed_destroy(feeds[i]);
    rig_tear_down(&rig);
    close(other.poke_fd);
    pthread_mutex_destroy(&other.script.lock);
}

static void test_claimed_stays(void **state)
{
    (void)state;
    struct rig rig;
    struct source_event event;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){.gone_ns = 1});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, RIG_CLAIMED, &rig_dvd);
    struct feed *feed = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0).feed;
    rig_expect(&rig, SOURCE_EVENT_FEED_IDLE, 0);
    rig_poke(&rig);
    assert_false(rig_next_event(&rig, &event, 50));

    /* Nobody's any more. */
    assert_int_equal(source_thread_set_senders(rig.thread, 0, &(struct source_senders){.others = true}), 0);
    event = rig_expect(&rig, SOURCE_EVENT_FEED_GONE, 0);
    assert_ptr_equal(event.feed, feed);
    feed_destroy(feed);

    /* And the other way round: one that was a stranger when it was first heard. */
    rig_send(&rig, 7, &rig_dvd);
    feed = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0).feed;
    struct source_senders senders = {.from = {7}, .count = 1, .others = true};
    assert_int_equal(source_thread_set_senders(rig.thread, 0, &senders), 0);
    rig_expect(&rig, SOURCE_EVENT_FEED_IDLE, 0);
    assert_false(rig_next_event(&rig, &event, 50));
    source_thread_stop(rig.thread);
    assert_int_equal(rig.script.senders.from[0], 7);
    feed_destroy(feed);
    rig_tear_down(&rig);
}

static void test_forget(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 1, &rig_dvd);
    rig_send(&rig, 2, &rig_dvd);
    struct feed *one = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES).feed;
    struct feed *two = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES).feed;

    assert_int_equal(source_thread_forget(rig.thread, 0, 3), 0); /* never heard of: nothing */
    assert_int_equal(source_thread_forget(rig.thread, 0, 1), 0);
    struct source_event gone = rig_expect(&rig, SOURCE_EVENT_FEED_GONE, RIG_SKIP_PAUSES);
    assert_ptr_equal(gone.feed, one);
    feed_destroy(one);
    rig_send(&rig, 2, &rig_dvd);
    rig_send(&rig, 1, &rig_dvd);
    struct source_event again = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES);
    assert_int_equal(again.sender.id, 1);
    source_thread_stop(rig.thread);
    assert_int_equal(frame_ring_written(feed_ring(two)), 960);
    feed_destroy(again.feed);
    feed_destroy(two);
    rig_tear_down(&rig);
}

/* A source comes and goes, and another does not notice. */
static void test_come_and_go(void **state)
{
    (void)state;
    struct rig rig, other = {.script.first = 0};
    rig_set_up(&rig, SOURCE_SHM, &(struct source_thread_params){0});
    rig_expect(&rig, SOURCE_EVENT_STATUS, 0);
    rig_send(&rig, 0, &rig_dvd);
    struct feed *stays = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, 0).feed;

    assert_int_equal(pthread_mutex_init(&other.script.lock, NULL), 0);
    for (unsigned turn = 1; turn <= 3; turn++) {
        struct source *source = rig_source_open(&other.script, SOURCE_UDP);
        other.poke_fd = dup(source->fd);
        assert_int_equal(source_thread_add(rig.thread, source), 1);
        assert_int_equal(rig_expect(&rig, SOURCE_EVENT_STATUS, RIG_SKIP_PAUSES).source, 1);
        rig_send(&other, 4, &rig_cd);
        rig_send(&other, 5, &rig_cd);
        struct feed *four = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES).feed;
        struct feed *five = rig_expect(&rig, SOURCE_EVENT_FEED_NEW, RIG_SKIP_PAUSES).feed;
        rig_send(&rig, 0, &rig_dvd);

        assert_int_equal(source_thread_remove(rig.thread, 1), 0);
        for (unsigned i = 0; i < 2; i++) {
            struct source_event gone = rig_expect(&rig, SOURCE_EVENT_FEED_GONE, RIG_SKIP_PAUSES);
            assert_int_equal(gone.source, 1);
            assert_true(gone.feed == four || gone.feed == five);
            feed_destroy(gone.feed);
        }
        assert_int_equal(atomic_load(&other.script.closed), (int)turn - 1);
        assert_int_equal(rig_expect(&rig, SOURCE_EVENT_REMOVED, RIG_SKIP_PAUSES).source, 1);
        assert_int_equal(atomic_load(&other.script.closed), (int)turn);
        close(other.poke_fd);
    }
    rig_wait_taken(&rig);
    source_thread_stop(rig.thread);
    assert_int_equal(frame_ring_written(feed_ring(stays)), 4 * 480);
    feed_destroy(stays);
    pthread_mutex_destroy(&other.script.lock);
    rig_tear_down(&rig);
}

/* Nobody fetches anything: nothing leaks (ASan), nothing blocks. */
static void test_nobody_listens(void **state)
{
    (void)state;
    struct rig rig;
    rig_set_up(&rig, SOURCE_UDP, &(struct source_thread_params){.gone_ns = 1});
    for (unsigned i = 0; i < RIG_SCRIPT_MAX; i++)
        rig_send(&rig, i, &rig_dvd);
    rig_wait_taken(&rig);
    source_thread_stop(rig.thread);
    /* The last word of each remains: every feed is announced before anything else is said of it. */
    struct source_event event;
    struct feed *feeds[RIG_SCRIPT_MAX];
    unsigned count = 0;
    while (source_thread_next_event(rig.thread, &event)) {
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
    rig_tear_down(&rig);
}

static void test_too_many_sources(void **state)
{
    (void)state;
    struct rig_script script = {0};
    struct source_thread *thread;
    assert_int_equal(pthread_mutex_init(&script.lock, NULL), 0);
    assert_int_equal(source_thread_create(&thread, &(struct source_thread_params){0}), 0);
    for (int i = 0; i < SOURCE_THREAD_SOURCES_MAX; i++)
        assert_int_equal(source_thread_add(thread, rig_source_open(&script, SOURCE_SHM)), i);
    assert_int_equal(source_thread_add(thread, rig_source_open(&script, SOURCE_SHM)), -ENOSPC);
    assert_int_equal(atomic_load(&script.closed), 1);
    source_thread_destroy(thread);
    assert_int_equal(atomic_load(&script.closed), SOURCE_THREAD_SOURCES_MAX + 1);
    pthread_mutex_destroy(&script.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_shared_memory_stays),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_too_many_sources),
        cmocka_unit_test(test_claimed_stays),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
