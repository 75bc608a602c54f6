/* SPDX-License-Identifier: MIT */
#include "receiver/feed.h"
#include "tests/unit/near.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MS       INT64_C(1000000)
#define SECOND   INT64_C(1000000000)
#define START_NS (1000 * SECOND)
#define CHUNK    960u
#define CHUNK_NS (20 * MS)

/* A 48 kHz guest of one channel, 32 bit, and what it has sent so far. */
struct guest {
    struct feed *feed;
    struct feed_view view; /* as last read */
    int64_t now_ns;
    uint64_t sent;
    uint8_t bytes[CHUNK * 4];
};

static struct feed *feed_of(uint32_t rate, uint8_t bits, uint8_t channels, enum source_kind kind)
{
    struct pcm_format format;
    struct feed *feed = NULL;
    assert_int_equal(pcm_format_parse(&format, pcm_rate_marker(rate), bits, channels, pcm_default_mask(channels)), 0);
    assert_int_equal(feed_create(&feed, &format, kind), 0);
    return feed;
}

static void guest_init(struct guest *guest)
{
    *guest = (struct guest){.feed = feed_of(48000, 32, 1, SOURCE_SHM), .now_ns = START_NS};
}

static void guest_free(struct guest *guest)
{
    feed_destroy(guest->feed);
}

/* A tone that never rests: 440 Hz, half of full scale. */
static float tone(uint64_t frame)
{
    return (float)(0.5 * sin(2.0 * M_PI * 440.0 / 48000.0 * (double)frame));
}

static void send(struct guest *guest, struct block block, int64_t now_ns)
{
    float samples[CHUNK];
    for (uint32_t i = 0; i < block.frames; i++)
        samples[i] = tone(guest->sent + i);
    pcm_encode(guest->bytes, samples, block.frames, 32);
    block.format = *feed_format(guest->feed);
    block.data = guest->bytes;
    block.chunk_frames = CHUNK;
    guest->sent += block.frames;
    feed_write(guest->feed, &block, now_ns);
    feed_read(guest->feed, &guest->view);
}

static void send_at(struct guest *guest, int64_t at_ns, uint32_t frames, unsigned flags)
{
    send(guest, (struct block){.frames = frames, .arrival_ns = at_ns, .flags = flags}, at_ns);
}

/* A chunk that came within a window. */
static void send_found_at(struct guest *guest, int64_t arrival_ns, int64_t now_ns, int64_t window_ns)
{
    send(guest, (struct block){.frames = CHUNK, .arrival_ns = arrival_ns, .window_ns = window_ns}, now_ns);
}

/* A consumer that is never further behind than 200 ms. */
static void consume(struct guest *guest)
{
    uint64_t written = frame_ring_written(feed_ring(guest->feed));
    if (written > 10 * CHUNK)
        feed_release(guest->feed, written - 10 * CHUNK);
}

/* Chunks every 20 ms, heard. */
static void play(struct guest *guest, int chunks)
{
    for (int i = 0; i < chunks; i++) {
        guest->now_ns += CHUNK_NS;
        send_at(guest, guest->now_ns, CHUNK, 0);
        consume(guest);
    }
}

static float sample(const struct guest *guest, uint64_t position)
{
    size_t frames;
    const float *at = frame_ring_peek(feed_ring(guest->feed), position, &frames);
    assert_non_null(at);
    return *at;
}

static void all_formats(void **state)
{
    (void)state;
    static const uint32_t rates[] = {44100, 48000, 96000, 192000};
    static const uint8_t depths[] = {16, 24, 32};
    for (size_t k = 0; k < sizeof rates / sizeof rates[0] * 3 * 8; k++) {
        const uint32_t rate = rates[k / 24];
        const uint8_t bits = depths[k / 8 % 3], channels = (uint8_t)(k % 8 + 1);
        struct feed *feed = feed_of(rate, bits, channels, SOURCE_UDP);
        assert_true(feed_ring(feed)->capacity_frames >= 2 * rate);
        assert_int_equal(feed_ring(feed)->channels, channels);

        enum { FRAMES = 300 };
        uint8_t bytes[FRAMES * 8 * 4];
        const uint32_t width = bits / 8u;
        for (size_t i = 0; i < (size_t)FRAMES * channels; i++) {
            int64_t value = ((int64_t)(i * 7919) % 60000 - 30000) * (INT64_C(1) << (bits - 16));
            for (uint32_t b = 0; b < width; b++)
                bytes[i * width + b] = (uint8_t)((uint64_t)value >> (8 * b));
        }
        struct block block = {
            .format = *feed_format(feed),
            .data = bytes,
            .frames = FRAMES,
            .chunk_frames = FRAMES,
            .arrival_ns = START_NS,
        };
        feed_write(feed, &block, START_NS);
        assert_int_equal(frame_ring_written(feed_ring(feed)), FRAMES);
        size_t frames;
        const float *at = frame_ring_peek(feed_ring(feed), 0, &frames);
        assert_int_equal(frames, FRAMES);
        for (size_t i = 0; i < (size_t)FRAMES * channels; i++)
            assert_near(at[i], (double)((int64_t)(i * 7919) % 60000 - 30000) / 32768.0, 1e-7);
        feed_destroy(feed);
    }
}

static void starts(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    guest.view.time_ns = 77;
    feed_read(guest.feed, &guest.view);
    assert_int_equal(guest.view.time_ns, 0);
    assert_int_equal(guest.view.gaps, 0);
    assert_int_equal(feed_idle_at_ns(guest.feed), INT64_MAX);

    play(&guest, 1);
    assert_int_equal(guest.view.time_ns, guest.now_ns);
    assert_near(guest.view.frame, CHUNK, 1e-9);
    assert_near(guest.view.period_ns, 1e9 / 48000.0, 1e-9);
    assert_int_equal(guest.view.gaps, 1); /* the start is the first */
    assert_int_equal(guest.view.gap_frame, 0);
    assert_int_equal(guest.view.chunk_frames, CHUNK);
    assert_true(guest.view.hold_ns > 20.0 * MS && guest.view.hold_ns < 45.0 * MS);

    play(&guest, 500);
    assert_int_equal(guest.view.gaps, 1);
    assert_int_equal(guest.view.epoch, 1);
    assert_near(guest.view.frame, 501.0 * CHUNK, 1e-9);
    assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 10e3);
    guest_free(&guest);
}

/* Only the last block of a burst is timed, and shown. */
static void bursts(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    play(&guest, 100);
    const struct feed_view before = guest.view;
    guest.now_ns += CHUNK_NS;
    send_at(&guest, guest.now_ns - 19 * MS, CHUNK / 3, BLOCK_MORE); /* its time is nonsense */
    send_at(&guest, guest.now_ns - 18 * MS, CHUNK / 3, BLOCK_MORE);
    assert_memory_equal(&guest.view, &before, sizeof before);
    send_at(&guest, guest.now_ns, CHUNK / 3, 0);
    assert_near(guest.view.frame, 101.0 * CHUNK, 1e-9);
    assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 10e3);
    assert_near(guest.view.period_ns, before.period_ns, before.period_ns * 1e-6);
    guest_free(&guest);
}

/* Nobody listens: what does not fit is dropped and counted, the line goes on in the ring's numbers. */
static void full_ring(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    const struct frame_ring *ring = feed_ring(guest.feed);
    const uint32_t chunks = (uint32_t)(ring->capacity_frames / CHUNK) + 250;
    for (uint32_t i = 0; i < chunks; i++) {
        guest.now_ns += CHUNK_NS;
        send_at(&guest, guest.now_ns, CHUNK, 0);
        assert_int_equal(frame_ring_written(ring) + guest.view.dropped_frames, guest.sent);
        assert_near(guest.view.frame, (double)frame_ring_written(ring), 1e-9);
        assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 50e3);
        assert_near(guest.view.period_ns, 1e9 / 48000.0, 1e-3);
    }
    const uint64_t full = ring->capacity_frames;
    assert_int_equal(frame_ring_written(ring), full);
    assert_int_equal(guest.view.epoch, 1);
    assert_int_equal(guest.view.gap_frame, full); /* all that is in the ring is old */
    assert_true(guest.view.gaps > 1);

    /* What comes once there is room again does not continue what was before it. */
    feed_release(guest.feed, full - 100);
    const uint64_t dropped = guest.view.dropped_frames;
    const float last = sample(&guest, full - 1);
    play(&guest, 1);
    assert_int_equal(guest.view.dropped_frames, dropped);
    assert_int_equal(guest.view.gap_frame, full);
    assert_near(sample(&guest, full), last, 1e-6); /* and is spliced to it */
    const uint64_t gaps = guest.view.gaps;
    play(&guest, 50);
    assert_int_equal(guest.view.gaps, gaps);
    assert_int_equal(guest.view.epoch, 1);
    assert_near(guest.view.frame, (double)(full + 51 * CHUNK), 1e-9);
    assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 50e3);
    guest_free(&guest);
}

/* Room for a part of a block: that part is kept. */
static void partly_full(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    const struct frame_ring *ring = feed_ring(guest.feed);
    const uint64_t full = ring->capacity_frames;
    while (guest.view.dropped_frames == 0) {
        guest.now_ns += CHUNK_NS;
        send_at(&guest, guest.now_ns, CHUNK, 0);
    }
    assert_int_equal(guest.view.dropped_frames, guest.sent - full);
    feed_release(guest.feed, 100);
    guest.now_ns += CHUNK_NS;
    send_at(&guest, guest.now_ns, CHUNK, 0);
    assert_int_equal(frame_ring_written(ring), full + 100);
    assert_int_equal(guest.view.dropped_frames, guest.sent - full - 100);
    assert_near(guest.view.frame, (double)(full + 100), 1e-9);
    assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 50e3);
    guest_free(&guest);
}

/* A new line begins at the arrival or a little later, never before: it may have been the earliest there will be. */
static void assert_line_begins(const struct guest *guest)
{
    assert_in_range(guest->view.time_ns, guest->now_ns + 1, guest->now_ns + MS);
}

/* The guest was paused: its clock stood still, the line is drawn anew. */
static void pause(void **state)
{
    (void)state;
    static const int64_t pauses_ms[] = {200, 1000, 5000, 600000};
    for (size_t i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++) {
        struct guest guest;
        guest_init(&guest);
        play(&guest, 700);
        const struct feed_view before = guest.view;
        const uint64_t at = frame_ring_written(feed_ring(guest.feed));
        guest.now_ns += pauses_ms[i] * MS;
        play(&guest, 1);
        assert_int_equal(guest.view.gaps, before.gaps + 1);
        assert_int_equal(guest.view.gap_frame, at);
        assert_int_equal(guest.view.epoch, before.epoch + 1);
        assert_line_begins(&guest);
        assert_near(guest.view.period_ns, before.period_ns, 1e-9); /* the rate is kept */
        assert_near(guest.view.hold_ns, before.hold_ns, 1e-3);     /* and nothing was late */
        play(&guest, 100);
        assert_int_equal(guest.view.gaps, before.gaps + 1);
        assert_near(guest.view.hold_ns, before.hold_ns, 2.0 * MS);
        guest_free(&guest);
    }
}

/* Back after a pause, found by a look that was long in coming: no later than the line says, and soon known better. */
static void rare_look(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    play(&guest, 500);
    assert_false(guest.view.vague);
    guest.now_ns += 60 * SECOND;
    send_found_at(&guest, guest.now_ns - CHUNK_NS / 2, guest.now_ns, CHUNK_NS);
    assert_true(guest.view.vague);
    assert_true(guest.view.time_ns >= guest.now_ns);
    assert_true(guest.view.time_ns < guest.now_ns + 5 * MS);
    guest.now_ns -= 15 * MS; /* it really came that much earlier, and so do those that follow */
    play(&guest, 20);
    assert_false(guest.view.vague);
    assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 2.0 * MS);
    guest_free(&guest);
}

/* The guest was held up, for a short or a long time, and catches up: still the old line. */
static void stall(void **state)
{
    (void)state;
    static const int chunks[] = {4, 10, 60};
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        struct guest guest;
        guest_init(&guest);
        play(&guest, 500);
        const struct feed_view before = guest.view;
        guest.now_ns += (chunks[i] - 1) * CHUNK_NS;
        for (int k = 0; k < chunks[i] - 1; k++)
            send_at(&guest, guest.now_ns + CHUNK_NS, CHUNK, BLOCK_MORE);
        play(&guest, 1);
        assert_int_equal(guest.view.gaps, before.gaps);
        assert_int_equal(guest.view.gap_frame, before.gap_frame);
        assert_int_equal(guest.view.epoch, before.epoch);
        assert_near((double)(guest.view.time_ns - guest.now_ns), 0.0, 1.0 * MS);
        /* One stall is not jitter: the first lesson's margin of 1.25 ms becomes that after a stall, 1.75. */
        assert_near(guest.view.hold_ns, before.hold_ns + 0.5 * MS, 1e-3);
        guest_free(&guest);
    }
}

/* Packets of a virtual machine that its host did not run for 34 ms, as they were seen: it is behind for a while and gets
 * over it by itself. Nothing was lost, and whoever plays has no reason to go anywhere. */
static void held_up(void **state)
{
    (void)state;
    static const double late_ms[] = {0.9,  1.6,  1.0,  34.9, 42.8, 47.6, 47.2, 46.6, 41.2, 38.7, 40.8,
                                     37.2, 31.2, 25.2, 30.4, 24.5, 22.3, 22.8, 18.1, 14.0, 8.2,  7.6,
                                     8.2,  12.7, 12.0, 9.8,  6.6,  9.0,  3.1,  3.2,  9.5,  4.6,  1.5,
                                     0.7,  0.8,  1.4,  5.7,  0.6,  1.1,  2.2,  1.5,  1.6};
    struct guest guest = {.feed = feed_of(48000, 32, 1, SOURCE_UDP), .now_ns = START_NS};
    for (int i = 0; i < 2000; i++) {
        guest.now_ns += 6 * MS;
        send_at(&guest, guest.now_ns + i % 7 * MS / 4, 288, 0);
        consume(&guest);
    }
    const struct feed_view before = guest.view;
    for (size_t i = 0; i < sizeof late_ms / sizeof late_ms[0]; i++) {
        guest.now_ns += 6 * MS;
        send_at(&guest, guest.now_ns + (int64_t)(late_ms[i] * MS), 288, 0);
        const double moved_ns =
            (double)(guest.view.time_ns - before.time_ns) - (guest.view.frame - before.frame) * before.period_ns;
        assert_near(moved_ns, 0.0, 2.0 * MS);
    }
    assert_int_equal(guest.view.epoch, before.epoch);
    assert_int_equal(guest.view.gaps, before.gaps);
    guest_free(&guest);
}

/* Chunks that are fetched when there is time for it are not late, and their times are theirs. */
static void waited(void **state)
{
    (void)state;
    struct guest at_once, patient;
    guest_init(&at_once);
    guest_init(&patient);
    assert_int_equal(feed_patience_ns(patient.feed, START_NS), 0);
    feed_set_patience(patient.feed, 15 * MS);
    for (int i = 0; i < 3500; i++) { /* all that there is to learn of its lateness */
        at_once.now_ns += CHUNK_NS;
        const int64_t at_ns = at_once.now_ns, lies_ns = i % 3 * 5 * MS;
        send_at(&at_once, at_ns, CHUNK, 0);
        send(&patient, (struct block){.frames = CHUNK, .arrival_ns = at_ns, .waited_ns = lies_ns}, at_ns + lies_ns);
        consume(&at_once);
        consume(&patient);
    }
    assert_near(patient.view.hold_ns, at_once.view.hold_ns, 1.0);
    assert_near(patient.view.frame, at_once.view.frame, 1e-6);
    assert_near(patient.view.period_ns, at_once.view.period_ns, 1e-9);
    assert_int_equal(patient.view.time_ns, at_once.view.time_ns);
    guest_free(&at_once);
    guest_free(&patient);
}

/* A guest that is later than it has been has no room to give away. */
static void no_patience(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    feed_set_patience(guest.feed, 15 * MS);
    play(&guest, 3500);
    const int64_t hold_ns = (int64_t)guest.view.hold_ns, arrived_ns = guest.now_ns;
    assert_in_range(hold_ns, CHUNK_NS, CHUNK_NS + 5 * MS);
    assert_int_equal(feed_patience_ns(guest.feed, arrived_ns), 15 * MS);
    assert_int_equal(feed_patience_ns(guest.feed, arrived_ns + hold_ns - MS), 15 * MS);
    assert_int_equal(feed_patience_ns(guest.feed, arrived_ns + hold_ns + MS), 0);
    guest.now_ns += CHUNK_NS;
    send_at(&guest, guest.now_ns + 12 * MS, CHUNK, 0); /* it still owes the next one, as it should at that time */
    assert_int_equal(feed_patience_ns(guest.feed, guest.now_ns + 12 * MS), 15 * MS);
    assert_int_equal(feed_patience_ns(guest.feed, guest.now_ns + CHUNK_NS), 15 * MS);
    assert_int_equal(feed_patience_ns(guest.feed, guest.now_ns + 2 * CHUNK_NS), 0);
    guest_free(&guest);
}

/* Another stream of the same guest's, or frames that are missing: no pause is needed to see it. */
static void restart(void **state)
{
    (void)state;
    static const unsigned flags[] = {BLOCK_RESYNC, BLOCK_GAP};
    for (size_t i = 0; i < 2; i++) {
        struct guest guest;
        guest_init(&guest);
        play(&guest, 700);
        const struct feed_view before = guest.view;
        const uint64_t at = frame_ring_written(feed_ring(guest.feed));
        guest.now_ns += CHUNK_NS + 7 * MS;
        send_at(&guest, guest.now_ns, CHUNK, flags[i]);
        assert_int_equal(guest.view.gaps, before.gaps + 1);
        assert_int_equal(guest.view.gap_frame, at);
        assert_int_equal(guest.view.epoch, before.epoch + 1);
        assert_line_begins(&guest);
        guest_free(&guest);
    }
}

/* Far ahead of its time is no jitter: the line was wrong. A little ahead is. */
static void early(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    play(&guest, 500);
    const struct feed_view before = guest.view;
    send_at(&guest, guest.now_ns + 1 * MS, CHUNK, 0); /* 19 ms too soon */
    assert_int_equal(guest.view.epoch, before.epoch);
    send_at(&guest, guest.now_ns + 2 * MS, CHUNK, 0); /* 38 ms */
    assert_int_equal(guest.view.epoch, before.epoch + 1);
    assert_int_equal(guest.view.gaps, before.gaps);
    guest_free(&guest);
}

static void idle_time(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    play(&guest, 3);
    assert_int_equal(feed_idle_at_ns(guest.feed), guest.now_ns + 120 * MS); /* four chunks are less */
    struct block block = {
        .format = *feed_format(guest.feed),
        .data = guest.bytes,
        .frames = CHUNK,
        .chunk_frames = 4800,
        .arrival_ns = guest.now_ns + 90 * MS,
    };
    feed_write(guest.feed, &block, block.arrival_ns + 5 * MS);
    assert_int_equal(feed_idle_at_ns(guest.feed), block.arrival_ns + 400 * MS);
    guest_free(&guest);
}

/* Nothing that is heard across a gap is steeper than the tone and a curve of 3 ms; also where blocks are short. */
static void splice(void **state)
{
    (void)state;
    static const uint32_t parts[] = {CHUNK, 50, 1};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct guest guest;
        guest_init(&guest);
        play(&guest, 20);
        const uint64_t at = frame_ring_written(feed_ring(guest.feed));
        guest.sent = 30 * CHUNK + 27; /* goes on at the tone's crest, was at its zero: a step of 0.5 */
        guest.now_ns += CHUNK_NS;
        for (uint32_t sent = 0; sent < 2 * CHUNK; sent += parts[i])
            send_at(&guest, guest.now_ns, parts[i], (sent == 0 ? BLOCK_GAP : 0u) | BLOCK_MORE);
        const double jump = fabs((double)tone(30 * CHUNK + 27) - (double)tone(20 * CHUNK - 1));
        assert_true(jump > 0.3);
        const double slope = 0.5 * 2.0 * M_PI * 440.0 / 48000.0, most = slope + 2.0 * jump / 144.0;
        for (uint64_t frame = at - 10; frame < at + CHUNK; frame++)
            assert_true(fabs((double)sample(&guest, frame + 1) - (double)sample(&guest, frame)) <= most * 1.001);
        assert_near(sample(&guest, at), tone(20 * CHUNK - 1), 1e-6);
        for (uint64_t frame = at + 144; frame < at + CHUNK; frame++) /* and then it is what was sent */
            assert_near(sample(&guest, frame), tone(30 * CHUNK + 27 + frame - at), 1e-6);
        guest_free(&guest);
    }
}

/* A guest's own full-scale square wave, cut anywhere: the splice is no louder than that. */
static void splice_is_not_louder(void **state)
{
    (void)state;
    for (uint32_t offset = 0; offset < 50; offset++) {
        struct feed *feed = feed_of(48000, 32, 1, SOURCE_SHM);
        float samples[CHUNK];
        uint8_t bytes[CHUNK * 4];
        for (unsigned chunk = 0; chunk < 2; chunk++) {
            for (uint32_t i = 0; i < CHUNK; i++)
                samples[i] = (i + chunk * offset) / 24 % 2 ? -0.99f : 0.99f;
            pcm_encode(bytes, samples, CHUNK, 32);
            const struct block block = {.format = *feed_format(feed),
                                        .data = bytes,
                                        .frames = CHUNK,
                                        .chunk_frames = CHUNK,
                                        .arrival_ns = START_NS + chunk * CHUNK_NS,
                                        .flags = chunk ? BLOCK_GAP : 0};
            feed_write(feed, &block, block.arrival_ns);
        }
        size_t frames;
        const float *at = frame_ring_peek(feed_ring(feed), 0, &frames);
        assert_int_equal(frames, 2 * CHUNK);
        for (size_t i = 0; i < frames; i++)
            assert_true(fabsf(at[i]) <= 0.9901f);
        assert_near(feed_recent_peak(feed), 0.99, 1e-4);
        feed_destroy(feed);
    }
}

static uint32_t random_sample(uint32_t *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random;
}

/* Full-scale noise where a softer sound was: never louder than that and what half a second allows. */
static void soft_start(void **state)
{
    (void)state;
    static const float peaks[] = {0.0f, 0.05f, 0.5f, 1.0f};
    for (size_t p = 0; p < sizeof peaks / sizeof peaks[0]; p++) {
        struct feed *feed = feed_of(48000, 32, 2, SOURCE_UDP);
        feed_start_softly(feed, peaks[p]);
        const double from = fmax((double)peaks[p], 0.01);
        uint32_t random = 1;
        uint64_t frame = 0;
        for (unsigned chunk = 0; chunk < 40; chunk++) {
            uint8_t bytes[CHUNK / 2 * 8];
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (uint8_t)(random_sample(&random) >> 24);
            const struct block block = {.format = *feed_format(feed),
                                        .data = bytes,
                                        .frames = CHUNK / 2,
                                        .chunk_frames = CHUNK / 2,
                                        .arrival_ns = START_NS + chunk * CHUNK_NS / 2};
            feed_write(feed, &block, block.arrival_ns);
        }
        for (; frame < 40 * CHUNK / 2; frame++) {
            size_t frames;
            const float *at = frame_ring_peek(feed_ring(feed), frame, &frames);
            const double allowed = fmin(from * pow(1.0 / from, (double)frame / 24000.0), 1.0);
            for (unsigned c = 0; c < 2; c++)
                assert_true(fabs((double)at[c]) <= allowed * 1.001);
            if (frame < 960) /* 20 ms are the longest burst that is let through before the old format may be back */
                assert_true(fabs((double)at[0]) <= from * 1.21);
        }
        feed_destroy(feed);
    }
}

/* What is not louder than what was heard before is left alone. */
static void soft_start_spares_the_quiet(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest);
    feed_start_softly(guest.feed, 0.5001f);
    play(&guest, 10);
    for (uint64_t frame = 0; frame < 10 * CHUNK; frame++)
        assert_near(sample(&guest, frame), tone(frame), 1e-6);
    guest_free(&guest);
}

struct shared {
    struct guest guest;
    atomic_bool done;
};

static void *write_chunks(void *arg)
{
    struct shared *shared = arg;
    for (int i = 0; i < 3000; i++) {
        shared->guest.now_ns += CHUNK_NS;
        send_at(&shared->guest, shared->guest.now_ns, CHUNK, 0);
        sched_yield();
    }
    atomic_store(&shared->done, true);
    return NULL;
}

/* One thread writes, one reads as a playout does: what the view tells of is in the ring, and nothing is half made. */
static void two_threads(void **state)
{
    (void)state;
    static struct shared shared;
    guest_init(&shared.guest);
    const struct feed *feed = shared.guest.feed;
    const struct frame_ring *ring = feed_ring(feed);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_chunks, &shared), 0);
    struct feed_view view = {0};
    uint64_t wrong = 0, last = 0;
    bool done = false;
    while (!done) {
        done = atomic_load(&shared.done);
        feed_read(feed, &view);
        const uint64_t frame = (uint64_t)view.frame;
        wrong += frame % CHUNK != 0 && view.dropped_frames == 0;
        wrong += frame < last || frame > frame_ring_written(ring);
        wrong += frame > 0 && fabs(view.period_ns * 48000.0 - 1e9) > 1e3;
        last = frame;
        size_t frames;
        const float *at = frame > 0 ? frame_ring_peek(ring, frame - 1, &frames) : NULL;
        wrong += at && view.dropped_frames == 0 && fabs((double)*at - (double)tone(frame - 1)) > 1e-6;
        if (frame > 2 * CHUNK)
            feed_release(shared.guest.feed, frame - 2 * CHUNK);
    }
    pthread_join(writer, NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(last + view.dropped_frames, shared.guest.sent);
    guest_free(&shared.guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_formats),
        cmocka_unit_test(starts),
        cmocka_unit_test(bursts),
        cmocka_unit_test(full_ring),
        cmocka_unit_test(partly_full),
        cmocka_unit_test(pause),
        cmocka_unit_test(rare_look),
        cmocka_unit_test(stall),
        cmocka_unit_test(held_up),
        cmocka_unit_test(waited),
        cmocka_unit_test(no_patience),
        cmocka_unit_test(restart),
        cmocka_unit_test(early),
        cmocka_unit_test(idle_time),
        cmocka_unit_test(splice),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(splice_is_not_louder),
        cmocka_unit_test(soft_start),
        cmocka_unit_test(soft_start_spares_the_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
