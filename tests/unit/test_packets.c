/* SPDX-License-Identifier: MIT
 *
 * What becomes of packets, without a network: what can be heard of lost, strange and lying ones.
 */
#include "receiver/packets.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS      1000000LL
#define GUEST   0x0100007fu
#define PORT    1000
#define PAYLOAD 1152
#define LONGEST 32000 /* 8000 frames of 16-bit stereo: 167 ms */

struct packet {
    uint32_t from;
    uint16_t port;
    int64_t ago_ns; /* it came so long before it is read */
    size_t size;
    uint8_t bytes[SCREAM_UDP_HEADER_BYTES + LONGEST];
};

struct rig {
    struct source_counters counters;
    struct packets packets;
    struct packet queue[PACKETS_BATCH];
    unsigned queued;
    int64_t now_ns;
    int64_t window_ns; /* in which the packets came */
    /* What the last drain() brought. */
    unsigned blocks, flags;
    unsigned each[2 * PACKETS_BATCH]; /* block's flags */
    size_t bytes;
    uint8_t heard[2 * PACKETS_BATCH * (PAYLOAD + 32)];
    struct pcm_format format;
};

static void fill(void *arg, struct packet_batch *batch, int64_t now_ns)
{
    struct rig *r = arg;
    for (unsigned i = 0; i < r->queued; i++) {
        uint8_t *slot = packets_slot(batch, i);
        memcpy(slot, r->queue[i].bytes, r->queue[i].size);
        packets_take(&r->packets, batch, (struct in_addr){r->queue[i].from}, r->queue[i].port, slot, r->queue[i].size,
                     now_ns - r->queue[i].ago_ns, r->window_ns);
    }
    r->queued = 0;
    packets_drained(&r->packets, now_ns);
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->packets = (struct packets){.counters = &r->counters, .fill = fill, .arg = r};
    r->now_ns = 1000000 * MS;
    assert_int_equal(packets_init(&r->packets, NULL, 0), 0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    packets_free(&r->packets);
    free(r);
    return 0;
}

static void queue_sized(struct rig *r, uint32_t from, uint16_t port, const struct scream_udp_header *header,
                        const uint8_t *payload, size_t bytes)
{
    assert_true(r->queued < PACKETS_BATCH && bytes <= LONGEST);
    struct packet *packet = &r->queue[r->queued++];
    packet->from = from;
    packet->ago_ns = 0;
    packet->port = port;
    packet->size = SCREAM_UDP_HEADER_BYTES + bytes;
    scream_udp_build(packet->bytes, header);
    memcpy(packet->bytes + SCREAM_UDP_HEADER_BYTES, payload, bytes);
}

static void queue_from(struct rig *r, uint32_t from, uint16_t port, const struct scream_udp_header *header,
                       const uint8_t *payload)
{
    queue_sized(r, from, port, header, payload, PAYLOAD);
}

static void queue(struct rig *r, uint16_t port, const struct scream_udp_header *header, const uint8_t *payload)
{
    queue_from(r, GUEST, port, header, payload);
}

static void queue_fill(struct rig *r, uint16_t port, const struct scream_udp_header *header, uint8_t value)
{
    uint8_t payload[PAYLOAD];
    memset(payload, value, sizeof payload);
    queue(r, port, header, payload);
}

static void drain(struct rig *r)
{
    struct block block;
    r->now_ns += 6 * MS;
    r->blocks = r->flags = 0;
    r->bytes = 0;
    while (packets_next(&r->packets, &block, r->now_ns) == 1) {
        size_t bytes = (size_t)block.frames * pcm_frame_bytes(&block.format);
        assert_true(r->bytes + bytes <= sizeof r->heard);
        memcpy(r->heard + r->bytes, block.data, bytes);
        r->bytes += bytes;
        r->each[r->blocks++] = block.flags;
        r->flags |= block.flags;
        r->format = block.format;
    }
}

static const struct scream_udp_header stereo = {1, 16, 2, 3};
static const struct scream_udp_header wide = {1, 24, 2, 3};

/* Where frames straddle packets, a lost one moves sound to other channels, but never a sample's bytes into another
 * sample: no sample is heard that was not sent, so nothing gets louder. */
static void test_lost_packets_make_no_noise(void **state)
{
    (void)state;
    static const uint8_t bits[] = {16, 24, 32};
    for (unsigned i = 0; i < 3; i++) {
        for (uint8_t channels = 1; channels <= 8; channels++) {
            void *made;
            setup(&made);
            struct rig *r = made;
            const struct scream_udp_header header = {1, bits[i], channels, 0};
            const unsigned sample = bits[i] / 8;
            uint32_t random = channels;
            for (unsigned p = 0; p < 400; p++) {
                /* Each sample begins with 1, goes on with zeros and ends with 0x11: no shift of it looks like one. */
                uint8_t payload[PAYLOAD] = {0};
                for (unsigned at = 0; at < PAYLOAD; at += sample) {
                    payload[at] = 1;
                    payload[at + sample - 1] = 0x11;
                }
                random = random * 1664525 + 1013904223;
                if (p < 2 || random >> 30)
                    queue(r, PORT, &header, payload);
                drain(r);
                for (size_t at = 0; at < r->bytes; at += sample)
                    assert_true(r->heard[at] == 1 && r->heard[at + sample - 1] == 0x11);
            }
            assert_int_equal(r->counters.rejected, 0);
            teardown(&made);
        }
    }
}

/* Somebody at the guest's address - another program there - sends what looks like its sound. */
static void test_a_stranger_is_not_mixed_in(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < 10; i++)
        queue_fill(r, PORT, &stereo, 1);
    drain(r);
    assert_int_equal(r->blocks, 10);
    for (unsigned i = 0; i < 100; i++) {
        queue_fill(r, PORT, &stereo, 1);
        queue_fill(r, (uint16_t)(PORT + 1 + i % 2), i % 3 ? &stereo : &wide, 0x7f);
        drain(r);
        assert_int_equal(r->blocks, 1);
        assert_int_equal(r->bytes, PAYLOAD);
        assert_int_equal(r->heard[0], 1);
        assert_int_equal(r->heard[PAYLOAD - 1], 1);
        assert_int_equal(r->flags, 0);
    }
    assert_in_range(r->counters.rejected, 99, 100); /* and counted */
    assert_true(r->counters.dropped_frames > 90 * 192);
}

/* A new port is a new stream of the guest's: nothing of it is lost for the second packet that is waited for. */
static void test_a_new_port_loses_nothing(void **state)
{
    struct rig *r = *state;
    queue_fill(r, PORT, &stereo, 1);
    queue_fill(r, PORT, &stereo, 2);
    drain(r);
    r->now_ns += 2000 * MS;
    queue_fill(r, PORT + 1, &stereo, 3);
    drain(r);
    assert_int_equal(r->blocks, 0);
    queue_fill(r, PORT + 1, &stereo, 4);
    drain(r);
    assert_int_equal(r->bytes, 2 * PAYLOAD);
    assert_int_equal(r->heard[0], 3);
    assert_int_equal(r->heard[PAYLOAD], 4);
    assert_int_equal(r->flags & BLOCK_RESYNC, BLOCK_RESYNC);
    assert_int_equal(r->counters.rejected, 0);
    assert_int_equal(r->counters.dropped_frames, 0);
}

/* A packet that comes when it has been played is after no gap, be it long. */
static void test_long_packets_play(void **state)
{
    struct rig *r = *state;
    static const uint8_t payload[LONGEST];
    for (unsigned i = 0; i < 20; i++) {
        queue_sized(r, GUEST, PORT, &stereo, payload, LONGEST);
        r->now_ns += 161 * MS;
        drain(r);
        assert_int_equal(r->blocks, i > 0); /* the first is longer than what is kept for the second that agrees */
        assert_int_equal(r->flags, i == 1 ? BLOCK_RESYNC : 0);
    }
    assert_int_equal(r->counters.rejected, 0);

    /* A pause is longer than four of them, or than 120 ms, where they are short. */
    static const struct {
        size_t bytes;
        unsigned ms;
        bool gap;
    } rows[] = {
        {LONGEST, 660, false},
        {LONGEST, 675, true },
        {PAYLOAD, 119, false},
        {PAYLOAD, 121, true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        queue_sized(r, GUEST, PORT, &stereo, payload, rows[i].bytes);
        r->now_ns += (rows[i].ms - 6) * MS;
        drain(r);
        assert_int_equal(r->blocks, 1);
        assert_int_equal(r->flags, rows[i].gap ? BLOCK_GAP : 0);
    }
}

static void test_a_format_flap_is_not_followed(void **state)
{
    struct rig *r = *state;
    queue_fill(r, PORT, &stereo, 1);
    queue_fill(r, PORT, &stereo, 1);
    drain(r);
    for (unsigned i = 0; i < 100; i++) {
        queue_fill(r, PORT, i % 2 ? &stereo : &wide, 1);
        drain(r);
        assert_int_equal(r->blocks, i % 2);
        if (r->blocks)
            assert_int_equal(r->format.bits, 16);
        assert_int_equal(r->flags & BLOCK_RESYNC, 0);
    }
    assert_int_equal(r->counters.rejected, 50);
}

/* A packet from each of these addresses, some ms of time in all. Returns how many blocks it brought; r->flags: of all. */
static unsigned packet_of_each(struct rig *r, uint32_t first, unsigned count)
{
    static const uint8_t payload[PAYLOAD];
    unsigned blocks = 0, flags = 0;
    for (unsigned i = 0; i < count; i++) {
        queue_from(r, htonl(first + i), PORT, &stereo, payload);
        if (r->queued == PACKETS_BATCH || i + 1 == count) {
            drain(r);
            blocks += r->blocks;
            flags |= r->flags;
        }
    }
    r->flags = flags;
    return blocks;
}

#define PLAYERS   0x0a000000u
#define NEWCOMERS 0x0a000100u
#define CROWD     0x0a010000u
#define PLACES    128

/* More want to be heard than are played. Those that come too late are heard of, so that somebody can say so. */
static void test_newcomers_evict_nobody_who_plays(void **state)
{
    struct rig *r = *state;
    assert_int_equal(packet_of_each(r, PLAYERS, 64), 0);
    assert_int_equal(packet_of_each(r, PLAYERS, 64), 128);
    assert_int_equal(packet_of_each(r, NEWCOMERS, 20), 0);
    assert_int_equal(packet_of_each(r, NEWCOMERS, 20), 40);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(packet_of_each(r, PLAYERS, 64), 64);
        assert_int_equal(r->flags & BLOCK_RESYNC, 0);
        assert_int_equal(packet_of_each(r, NEWCOMERS, 20), 20);
    }
    assert_int_equal(r->counters.dropped_frames, 0);
}

/* Any number of addresses is cheap to make up. */
static void test_a_crowd_takes_no_places(void **state)
{
    struct rig *r = *state;
    packet_of_each(r, PLAYERS, PLACES);
    assert_int_equal(packet_of_each(r, PLAYERS, PLACES), 2 * PLACES);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(packet_of_each(r, CROWD, 300), 0);
        assert_int_equal(packet_of_each(r, PLAYERS, PLACES), PLACES);
        assert_int_equal(r->flags & (BLOCK_RESYNC | BLOCK_GAP), 0);
    }
    assert_int_equal(r->counters.dropped_frames, 20 * 300 * PAYLOAD / 4);
}

/* One that is silent for 10 s makes room; the one that is silent for longest first. */
static void test_a_silent_one_makes_room(void **state)
{
    struct rig *r = *state;
    packet_of_each(r, PLAYERS, PLACES);
    packet_of_each(r, PLAYERS, PLACES);
    int64_t silent_ns = r->now_ns;
    while (r->now_ns < silent_ns + 9900 * MS)
        assert_int_equal(packet_of_each(r, PLAYERS + 1, PLACES - 1), PLACES - 1);
    assert_int_equal(packet_of_each(r, NEWCOMERS, 1) + packet_of_each(r, NEWCOMERS, 1), 0);
    r->now_ns += 100 * MS;
    assert_int_equal(packet_of_each(r, NEWCOMERS, 1) + packet_of_each(r, NEWCOMERS, 1), 2);
    assert_int_equal(packet_of_each(r, PLAYERS + 1, PLACES - 1), PLACES - 1);
    assert_int_equal(packet_of_each(r, PLAYERS, 1) + packet_of_each(r, PLAYERS, 1), 0);
}

/* One packet that means nothing does not keep a place. */
static void test_noise_makes_room(void **state)
{
    struct rig *r = *state;
    packet_of_each(r, CROWD, 4 * PLACES);
    assert_int_equal(packet_of_each(r, PLAYERS, 64) + packet_of_each(r, PLAYERS, 64), 128);
}

static void test_a_claimed_one_always_gets_in(void **state)
{
    struct rig *r = *state;
    packets_set_senders(&r->packets, &(struct source_senders){.others = true, .count = 1, .from = {GUEST}});
    packet_of_each(r, PLAYERS, PLACES);
    packet_of_each(r, PLAYERS, PLACES);
    queue_fill(r, PORT, &stereo, 1);
    queue_fill(r, PORT, &stereo, 1);
    drain(r);
    assert_int_equal(r->blocks, 2);
    assert_int_equal(packet_of_each(r, PLAYERS, PLACES), PLACES);
    /* And keeps its place: a stranger that comes back would have to send two that agree. */
    packet_of_each(r, CROWD, 300);
    queue_fill(r, PORT, &stereo, 1);
    drain(r);
    assert_int_equal(r->blocks, 1);
}

/* Also where those that were claimed before have become strangers, and no place is left at all. */
static void test_a_late_claim_gets_in(void **state)
{
    struct rig *r = *state;
    struct source_senders claims = {.others = true, .count = SOURCE_SENDERS_MAX};
    for (unsigned i = 0; i < claims.count; i++)
        claims.from[i] = htonl(NEWCOMERS + i);
    packets_set_senders(&r->packets, &claims);
    for (unsigned i = 0; i < 2; i++) {
        packet_of_each(r, NEWCOMERS, claims.count);
        packet_of_each(r, PLAYERS, PLACES);
    }
    claims = (struct source_senders){.others = true, .count = 1, .from = {GUEST}};
    packets_set_senders(&r->packets, &claims);
    assert_int_equal(packet_of_each(r, CROWD, 1) + packet_of_each(r, CROWD, 1), 0);
    queue_fill(r, PORT, &stereo, 1);
    queue_fill(r, PORT, &stereo, 1);
    drain(r);
    assert_int_equal(r->blocks, 2);
}

static void test_the_clock_may_be_set(void **state)
{
    struct rig *r = *state;
    struct packets *p = &r->packets;
    const int64_t hour_ns = 3600000 * MS;
    assert_true(packets_map_clocks(p));
    assert_true(packets_map_clocks(p));
    const int64_t offset_ns = p->offset_ns;
    p->offset_ns += hour_ns; /* as it is after CLOCK_REALTIME has been set forward by as much */
    assert_false(packets_map_clocks(p));
    assert_true(llabs(p->offset_ns - offset_ns) < hour_ns / 60);
    assert_true(packets_map_clocks(p));

    /* What the kernel says of a packet is believed as far as it can be; without it, what is known is used. */
    const int64_t now_ns = 1000000 * MS, drained_ns = now_ns - 5 * MS;
    int64_t arrival_ns, window_ns;
    p->drained_ns = drained_ns;
    packets_arrival(p, now_ns - 2 * MS - p->offset_ns, now_ns, &arrival_ns, &window_ns);
    assert_int_equal(arrival_ns, now_ns - 2 * MS);
    assert_int_equal(window_ns, 0);
    packets_arrival(p, now_ns + hour_ns - p->offset_ns, now_ns, &arrival_ns, &window_ns);
    assert_int_equal(arrival_ns, now_ns);
    packets_arrival(p, now_ns - hour_ns - p->offset_ns, now_ns, &arrival_ns, &window_ns);
    assert_int_equal(arrival_ns, drained_ns);
    packets_arrival(p, -1, now_ns, &arrival_ns, &window_ns);
    assert_int_equal(arrival_ns, now_ns);
    assert_int_equal(window_ns, 5 * MS);
}

/* What lay in the socket together was handed over together only where it came together. */
static void test_only_a_burst_is_a_burst(void **state)
{
    static const struct {
        int64_t ago_us[4], window_ns;
        bool held_up;  /* we were */
        unsigned more; /* a bit for each but the last */
    } rows[] = {
        {{30, 20, 10, 0},          0,  false, 7}, /* a timer's burst */
        {{18000, 12000, 6000, 0},  0,  false, 0}, /* 6 ms each, at their own pace */
        {{18000, 12000, 6000, 0},  0,  true,  7}, /* one lateness, not four */
        {{18000, 12010, 12000, 0}, 0,  false, 2},
        {{12000, 8500, 6000, 0},   0,  false, 2}, /* one came later than the next one should */
        {{18000, 12000, 6000, 0},  MS, false, 7}, /* when they came is not known so well */
    };
    struct rig *r = *state;
    queue_fill(r, PORT, &stereo, 1);
    queue_fill(r, PORT, &stereo, 1);
    drain(r);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        r->now_ns += 40 * MS;
        r->window_ns = rows[i].window_ns;
        r->packets.rested = !rows[i].held_up;
        for (unsigned k = 0; k < 4; k++) {
            queue_fill(r, PORT, &stereo, 1);
            r->queue[k].ago_ns = rows[i].ago_us[k] * 1000;
        }
        drain(r);
        assert_int_equal(r->blocks, 4);
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(r->each[k], rows[i].more & 1u << k ? BLOCK_MORE : 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lost_packets_make_no_noise),
        TEST(test_a_stranger_is_not_mixed_in),
        TEST(test_a_new_port_loses_nothing),
        TEST(test_long_packets_play),
        TEST(test_a_format_flap_is_not_followed),
        TEST(test_newcomers_evict_nobody_who_plays),
        TEST(test_a_crowd_takes_no_places),
        TEST(test_a_silent_one_makes_room),
        TEST(test_noise_makes_room),
        TEST(test_a_claimed_one_always_gets_in),
        TEST(test_a_late_claim_gets_in),
        TEST(test_the_clock_may_be_set),
        TEST(test_only_a_burst_is_a_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
