/* SPDX-License-Identifier: MIT
 *
 * What becomes of packets, without a network: what can be heard of lost, strange and lying ones.
 */
#include "receiver/packets.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS      1000000LL
#define GUEST   0x0100007fu
#define PORT    1000
#define PAYLOAD 1152

struct packet {
    uint16_t port;
    uint8_t bytes[SCREAM_UDP_HEADER_BYTES + PAYLOAD];
};

struct rig {
    struct source_counters counters;
    struct packets packets;
    struct packet queue[PACKETS_BATCH];
    unsigned queued;
    int64_t now_ns;
    /* What the last drain() brought. */
    unsigned blocks, flags;
    size_t bytes;
    uint8_t heard[PACKETS_BATCH * (PAYLOAD + 32)];
    struct pcm_format format;
};

static void fill(void *arg, struct packet_batch *batch, int64_t now_ns)
{
    struct rig *r = arg;
    for (unsigned i = 0; i < r->queued; i++) {
        uint8_t *slot = packets_slot(batch, i);
        memcpy(slot, r->queue[i].bytes, sizeof r->queue[i].bytes);
        packets_take(&r->packets, batch, (struct in_addr){GUEST}, r->queue[i].port, slot, sizeof r->queue[i].bytes,
                     now_ns, 0);
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

static void queue(struct rig *r, uint16_t port, const struct scream_udp_header *header, const uint8_t *payload)
{
    assert_true(r->queued < PACKETS_BATCH);
    struct packet *packet = &r->queue[r->queued++];
    packet->port = port;
    scream_udp_build(packet->bytes, header);
    memcpy(packet->bytes + SCREAM_UDP_HEADER_BYTES, payload, PAYLOAD);
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
        r->blocks++;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lost_packets_make_no_noise),
        TEST(test_a_stranger_is_not_mixed_in),
        TEST(test_a_new_port_loses_nothing),
        TEST(test_a_format_flap_is_not_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
