/* SPDX-License-Identifier: MIT */
#include "tests/unit/source_thread_rig.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

const struct pcm_format rig_cd = {.rate = 44100, .bits = 16, .channels = 2, .mask = 3};
const struct pcm_format rig_dvd = {.rate = 48000, .bits = 16, .channels = 2, .mask = 3};

struct fake {
    struct source base;
    struct rig_script *script;
    bool fed;
};

static const uint8_t silence[480 * 4];
static uint8_t noise[480 * 4];

int64_t rig_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int fake_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct fake *fake = (struct fake *)source;
    struct rig_script *script = fake->script;
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
        const struct rig_step *step = &script->steps[script->first++];
        *block = (struct block){
            .sender = {.id = step->sender, .claimed = step->sender >= RIG_CLAIMED},
            .format = step->format,
            .data = script->loud ? noise : silence,
            .frames = 480,
            .chunk_frames = 480,
            .arrival_ns = now_ns + script->early_ns
        };
        snprintf(block->sender.label, sizeof(block->sender.label), "sender %u", (unsigned)step->sender);
        script->taken_ns = now_ns;
        fake->fed = true;
        r = 1;
    } else {
        bool rests = fake->fed && script->rest_ns > 0;
        source->rest_ns = rests ? now_ns + script->rest_ns : 0;
        script->rests += rests;
        fake->fed = false;
        script->patience_ns = source->patience_ns;
        if (script->look_ns > 0)
            source->wake_ns = now_ns + script->look_ns;
        else if (read(source->fd, &count, sizeof(count)) < 0)
            assert(errno == EAGAIN);
    }
    pthread_mutex_unlock(&script->lock);
    return r;
}

static void fake_close(struct source *source)
{
    struct rig_script *script = ((struct fake *)source)->script;
    if (source->fd >= 0)
        close(source->fd);
    free(source);
    atomic_fetch_add(&script->closed, 1);
}

static void fake_set_senders(struct source *source, const struct source_senders *senders)
{
    struct rig_script *script = ((struct fake *)source)->script;
    pthread_mutex_lock(&script->lock);
    script->senders = *senders;
    pthread_mutex_unlock(&script->lock);
}

static const struct source_ops fake_ops = {.next = fake_next, .close = fake_close, .set_senders = fake_set_senders};

struct source *rig_source_open(struct rig_script *script, enum source_kind kind)
{
    struct fake *fake = calloc(1, sizeof(*fake));
    assert_non_null(fake);
    fake->base = (struct source){.ops = &fake_ops, .kind = kind, .fd = -1};
    if (script->look_ns == 0) {
        fake->base.wake_ns = INT64_MAX;
        fake->base.fd = eventfd(0, EFD_NONBLOCK);
        assert_true(fake->base.fd >= 0);
    }
    fake->base.watch_fd = script->watch_fd;
    fake->script = script;
    return &fake->base;
}

void rig_set_up(struct rig *rig, enum source_kind kind, const struct source_thread_params *params)
{
    memset(noise, 0x7f, sizeof(noise));
    memset(rig, 0, sizeof(*rig));
    assert_int_equal(pthread_mutex_init(&rig->script.lock, NULL), 0);
    assert_int_equal(source_thread_create(&rig->thread, params), 0);
    struct source *source = rig_source_open(&rig->script, kind);
    rig->poke_fd = dup(source->fd);
    assert_int_equal(source_thread_add(rig->thread, source), 0);
    assert_int_equal(source_thread_start(rig->thread), 0);
}

void rig_tear_down(struct rig *rig)
{
    source_thread_destroy(rig->thread);
    assert_int_equal(atomic_load(&rig->script.closed), 1);
    pthread_mutex_destroy(&rig->script.lock);
    close(rig->poke_fd);
}

void rig_poke(struct rig *rig)
{
    uint64_t one = 1;
    assert_int_equal(write(rig->poke_fd, &one, sizeof(one)), sizeof(one));
}

void rig_send_unseen(struct rig *rig, uint64_t sender, const struct pcm_format *format)
{
    pthread_mutex_lock(&rig->script.lock);
    assert_true(rig->script.count < RIG_SCRIPT_MAX);
    rig->script.steps[rig->script.count++] = (struct rig_step){.sender = sender, .format = *format};
    pthread_mutex_unlock(&rig->script.lock);
}

void rig_send(struct rig *rig, uint64_t sender, const struct pcm_format *format)
{
    rig_send_unseen(rig, sender, format);
    rig_poke(rig);
}

int64_t rig_wait_rests(struct rig *rig, unsigned rests)
{
    for (int64_t end_ns = rig_clock_ns() + RIG_WAIT_MS * INT64_C(1000000);; poll(NULL, 0, 1)) {
        pthread_mutex_lock(&rig->script.lock);
        unsigned begun = rig->script.rests;
        int64_t taken_ns = rig->script.taken_ns;
        pthread_mutex_unlock(&rig->script.lock);
        if (begun >= rests)
            return taken_ns;
        assert_true(rig_clock_ns() < end_ns);
    }
}

void rig_wait_taken(struct rig *rig)
{
    for (unsigned left = 1; left;) {
        pthread_mutex_lock(&rig->script.lock);
        left = rig->script.count - rig->script.first;
        pthread_mutex_unlock(&rig->script.lock);
        poll(NULL, 0, 1);
    }
}

bool rig_next_event(struct rig *rig, struct source_event *event, int wait_ms)
{
    int64_t end_ns = rig_clock_ns() + wait_ms * INT64_C(1000000);
    while (source_thread_next_event(rig->thread, event) != 1) {
        struct pollfd fd = {.fd = source_thread_fd(rig->thread), .events = POLLIN};
        int left_ms = (int)((end_ns - rig_clock_ns()) / 1000000);
        if (left_ms <= 0)
            return false;
        poll(&fd, 1, left_ms);
    }
    return true;
}

struct source_event rig_expect(struct rig *rig, enum source_event_type type, unsigned skip)
{
    struct source_event event;
    do {
        if (!rig_next_event(rig, &event, RIG_WAIT_MS))
            fail_msg("no event, wanted %d", (int)type);
    } while (skip & 1u << event.type);
    assert_int_equal(event.type, type);
    return event;
}
