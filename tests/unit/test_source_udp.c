/* SPDX-License-Identifier: MIT
 *
 * What the real source makes of packets: bursts, streams, frames, whose they are.
 */
#include "tests/unit/source_udp_rig.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct scream_udp_header five = {1, 16, 5, 0};

/* The guest's next stream comes from another port. */
static void new_port(struct rig *r, unsigned sender)
{
    int old = r->sockets[sender];
    r->sockets[sender] = -1;
    rig_send_raw(r, sender, "", 0); /* opens the new one while the old still has its port */
    close(old);
}

static void starts_with_two(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_true(r->source->fd >= 0);
    rig_send(r, 0, &rig_stereo, 1152, 7);
    rig_drain(r);
    assert_int_equal(r->count, 0);
    r->now_ns += 6 * RIG_MS;
    rig_send(r, 0, &rig_stereo, 1152, 8);
    rig_drain(r);
    assert_int_equal(r->count, 2); /* the first one is not lost */
    assert_int_equal(r->heard[0].first_byte, 7);
    assert_int_equal(r->heard[0].last_byte, 7);
    assert_int_equal(r->heard[1].first_byte, 8);
    assert_int_equal(rig_flags(r, 0), BLOCK_RESYNC | BLOCK_MORE);
    assert_int_equal(rig_flags(r, 1), 0);
    assert_int_equal(r->heard[1].block.frames, 288);
    assert_string_equal(r->heard[1].block.sender.label, "127.0.1.1");
    assert_int_equal(r->heard[1].block.format.rate, 48000);
    assert_int_equal(r->source->counters.rejected, 0);
    assert_int_equal(r->source->counters.blocks, 2);

    /* A second late packet does not make a burst of an old one. */
    rig_wait(r, 40 * RIG_MS);
    rig_send(r, 1, &rig_stereo, 1152, 1);
    rig_drain(r);
    rig_wait(r, 200 * RIG_MS);
    rig_send(r, 1, &rig_stereo, 1152, 2);
    rig_drain(r);
    assert_int_equal(r->count, 0);
    rig_send(r, 1, &rig_stereo, 1152, 3);
    rig_drain(r);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->heard[0].first_byte, 2);
}

static void send_some(struct rig *r, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        rig_send(r, 0, &rig_stereo, 1152, 1);
    rig_drain(r);
    assert_int_equal(r->count, count);
}

/* A guest that is known, and room for so much lateness. From beyond the kernel's times: each packet came when the socket was
 * read last. */
static void begin_with_room(struct rig *r, int64_t patience_ns)
{
    rig_wait(r, 0);
    rig_start(r, 0, &rig_stereo);
    assert_int_equal(r->source->rest_ns, 0);
    r->source->patience_ns = patience_ns;
    r->now_ns += RIG_SECOND;
}

/* With room for lateness the socket is left alone for a while, and what came meanwhile has waited. */
static void rests_where_there_is_room(void **state)
{
    struct rig *r = *state;
    begin_with_room(r, 10 * RIG_MS);
    for (unsigned i = 0; i < 3; i++) {
        send_some(r, 1);
        assert_int_equal(r->source->rest_ns, r->now_ns + 10 * RIG_MS);
        assert_int_equal(r->heard[0].block.waited_ns, i > 0 ? 10 * RIG_MS : 0);
        r->now_ns += 10 * RIG_MS + (i > 0) * RIG_MS; /* woken later than it was to be is late */
    }
    r->source->counters.buffer_ns = 16 * RIG_MS; /* a small buffer and a fast stream */
    send_some(r, 1);
    assert_int_equal(r->source->rest_ns, r->now_ns + 4 * RIG_MS);
    r->source->patience_ns = 0;
    send_some(r, 1);
    assert_int_equal(r->source->rest_ns, 0);
}

/* A rest in which nothing comes has cost a wake-up, and so would the next ones. */
static void rests_not_in_vain(void **state)
{
    struct rig *r = *state;
    begin_with_room(r, 2 * RIG_MS);
    send_some(r, 1);
    assert_int_equal(r->source->rest_ns, r->now_ns + 2 * RIG_MS);
    r->now_ns += RIG_MS;
    rig_drain(r); /* looked at for another reason */
    send_some(r, 1);
    assert_int_equal(r->source->rest_ns, r->now_ns + 2 * RIG_MS);
    r->now_ns += 2 * RIG_MS;
    rig_drain(r);
    assert_int_equal(r->source->rest_ns, 0); /* what comes next is to wake it */
    for (unsigned i = 0; i < 16; i++) {
        send_some(r, 1);
        assert_int_equal(r->source->rest_ns, 0);
    }
    send_some(r, 1);
    assert_int_equal(r->source->rest_ns, r->now_ns + 2 * RIG_MS);
}

/* Packets in such numbers that the socket might overflow: read in several batches, or by their pace. */
static void rests_not_where_many_come(void **state)
{
    struct rig *r = *state;
    begin_with_room(r, 10 * RIG_MS);
    send_some(r, 17);
    assert_int_equal(r->source->rest_ns, 0);
    send_some(r, 40);
    assert_int_equal(r->source->rest_ns, 0);
    r->now_ns += 50 * RIG_MS;
    send_some(r, 159);
    assert_int_equal(r->source->rest_ns, 0);
    r->now_ns += 50 * RIG_MS;
    send_some(r, 1);
    assert_int_equal(r->source->rest_ns, r->now_ns + 8 * RIG_MS); /* 200 in 100 ms: 16 of them */
}

static void readable_when_it_should_be(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    struct pollfd p = {.fd = r->source->fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    uint64_t wakeups = r->source->counters.wakeups;
    rig_start(r, 0, &rig_stereo);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(r->source->counters.wakeups, wakeups + 1);
    rig_send(r, 0, &rig_stereo, 1152, 1);
    assert_int_equal(poll(&p, 1, 0), 1);
}

static void check_bursts(const struct rig *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        bool more = false;
        for (unsigned j = i + 1; j < r->count; j++)
            more = more || r->heard[j].block.sender.id == r->heard[i].block.sender.id;
        assert_int_equal((r->heard[i].block.flags & BLOCK_MORE) != 0, more);
    }
}

static void bursts_of_several(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    for (unsigned sender = 0; sender < 3; sender++)
        rig_start(r, sender, &rig_stereo);
    static const unsigned sizes[] = {1, 2, 5, 31, 32, 33, 63, 64, 65, 96, 200};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        r->now_ns += 20 * RIG_MS;
        for (unsigned i = 0; i < sizes[s]; i++)
            rig_send(r, i * 7 % 5 % 3, &rig_stereo, 1152, (uint8_t)i);
        rig_drain(r);
        assert_int_equal(r->count, sizes[s]);
        for (unsigned i = 0; i < r->count; i++)
            assert_int_equal(r->heard[i].first_byte, i);
        check_bursts(r);
    }
    /* Garbage among them, a whole batch of it, hides nothing. */
    r->now_ns += 20 * RIG_MS;
    rig_send(r, 0, &rig_stereo, 1152, 1);
    for (unsigned i = 0; i < 150; i++)
        rig_send_raw(r, 1, "garbage", 7);
    rig_send(r, 1, &rig_stereo, 1152, 2);
    rig_drain(r);
    unsigned heard = r->count;
    rig_drain(r);
    assert_int_equal(heard + r->count, 2);
    assert_int_equal(r->source->counters.rejected, 150);
}

static void a_new_stream_within_a_burst(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    rig_start(r, 0, &rig_stereo);
    /* Held packets of one batch are heard intact after others were held. */
    r->now_ns += 5 * RIG_MS;
    const struct scream_udp_header other = {0x81, 16, 2, 3};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < 2; j++)
            rig_send(r, 0, i & 1 ? &rig_stereo : &other, 1152, (uint8_t)(2 * i + j + 10));
    rig_drain(r);
    assert_int_equal(r->count, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(r->heard[i].first_byte, i + 10);
        assert_int_equal(r->heard[i].last_byte, i + 10);
        assert_int_equal(r->heard[i].block.format.rate, i / 2 & 1 ? 48000 : 44100);
        assert_int_equal((r->heard[i].block.flags & BLOCK_RESYNC) != 0, i % 2 == 0);
    }
    check_bursts(r);
}

static void odd_packet_out(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    rig_start(r, 0, &rig_stereo);
    const struct scream_udp_header other = {2, 32, 8, 0x63f};
    rig_send(r, 0, &other, 1152, 9);
    rig_send(r, 0, &rig_stereo, 1152, 2);
    rig_send(r, 0, &other, 1152, 9);
    rig_send(r, 0, &rig_stereo, 1152, 3);
    rig_drain(r);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->heard[0].first_byte, 2);
    assert_int_equal(r->heard[1].first_byte, 3);
    assert_int_equal(rig_flags(r, 0), BLOCK_MORE);
    assert_int_equal(r->source->counters.rejected, 2);
    assert_int_equal(r->source->counters.dropped_frames, 2 * 36);
}

/* 1152 bytes are 115.2 frames. The PCM counts frames, so that a byte out of place shows. */
static void frames_straddle(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    uint8_t pcm[100 * 1152];
    for (size_t i = 0; i < sizeof pcm; i++)
        pcm[i] = (uint8_t)(i / 10 + i % 10);
    size_t heard = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t packet[SCREAM_UDP_HEADER_BYTES + 1152];
        scream_udp_build(packet, &five);
        memcpy(packet + SCREAM_UDP_HEADER_BYTES, pcm + i * 1152, 1152);
        r->now_ns += 2 * RIG_MS;
        if (i == 50) /* a pause: the guest keeps what it has not sent, and goes on with it */
            rig_wait(r, 500 * RIG_MS);
        rig_send_raw(r, 0, packet, sizeof packet);
        rig_drain(r);
        if (i > 1)
            assert_int_equal(rig_flags(r, 0), i == 50 ? BLOCK_GAP : 0);
        assert_memory_equal(r->bytes, pcm + heard, r->byte_count);
        heard += r->byte_count;
        if (i > 0)
            assert_int_equal(heard, ((i + 1) * 1152) / 10 * 10);
    }

    /* Another stream starts with a whole frame. */
    rig_wait(r, 2 * RIG_SECOND);
    new_port(r, 0);
    rig_send(r, 0, &five, 1152, 77);
    rig_drain(r);
    assert_int_equal(r->count, 0); /* one packet may be anybody's */
    rig_send(r, 0, &five, 1152, 78);
    rig_drain(r);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->heard[0].first_byte, 77);
    assert_int_equal(r->heard[0].block.frames, 115);
    assert_int_equal(rig_flags(r, 0) & BLOCK_RESYNC, BLOCK_RESYNC);
}

static void less_than_a_frame(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    const struct scream_udp_header big = {1, 32, 8, 0x63f};
    for (unsigned i = 0; i < 17; i++)
        rig_send(r, 0, &big, 4, (uint8_t)i);
    rig_drain(r);
    assert_int_equal(r->count, 2);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(r->bytes[i], i / 4);
    check_bursts(r);
}

static void gaps(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    rig_start(r, 0, &rig_stereo);
    rig_wait(r, 500 * RIG_MS);
    rig_send(r, 0, &rig_stereo, 1152, 1);
    rig_send(r, 0, &rig_stereo, 1152, 1);
    rig_drain(r);
    assert_int_equal(rig_flags(r, 0), BLOCK_GAP | BLOCK_MORE);
    assert_int_equal(rig_flags(r, 1), 0);
    assert_true(r->heard[0].block.arrival_ns >= r->now_ns - 500 * RIG_MS);
    r->now_ns += 10 * RIG_MS;
    rig_send(r, 0, &rig_stereo, 1152, 1);
    rig_drain(r);
    assert_int_equal(rig_flags(r, 0), 0);
}

static void sizes_and_formats(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    static const uint8_t markers[] = {0x81, 1, 0x82, 2, 0x84, 4};
    for (unsigned m = 0; m < sizeof markers; m++)
        for (uint8_t bits = 16; bits <= 32; bits += 8)
            for (uint8_t channels = 1; channels <= 8; channels++) {
                const struct scream_udp_header h = {markers[m], bits, channels, 3};
                rig_start(r, 0, &h);
                assert_int_equal(r->heard[0].block.format.channels, channels);
                assert_int_equal(r->heard[0].block.format.bits, bits);
                assert_int_equal(r->heard[0].block.frames, 1152 / (channels * bits / 8));
            }
    rig_start(r, 0, &rig_stereo);
    static const size_t payloads[] = {4, 64, 1440, 8960, 40000, 65500};
    for (unsigned i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        rig_send(r, 0, &rig_stereo, payloads[i], (uint8_t)i);
        rig_drain(r);
        assert_int_equal(r->count, 1);
        assert_int_equal(r->byte_count, payloads[i]);
        assert_int_equal(r->heard[0].last_byte, i);
    }
    /* As a stream's first packets, too: what is too large to keep is not heard, what follows is. */
    rig_send(r, 1, &rig_stereo, 65500, 1);
    rig_send(r, 1, &rig_stereo, 65500, 2);
    rig_drain(r);
    assert_int_equal(r->count, 1);
    assert_int_equal(r->heard[0].first_byte, 2);
    assert_int_equal(rig_flags(r, 0), BLOCK_RESYNC);
}

static void garbage(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    static const uint8_t alsa[6 + 1152] = {1, 16, 2, 3, 0, 0};
    rig_send_raw(r, 0, "", 0);
    rig_send_raw(r, 0, "\x01\x10\x02\x03\x00", 5);
    rig_send_raw(r, 0, "\x01\x10\x02\x03\x00x", 6);
    rig_send_raw(r, 0, "\x01\x10\xff\x03\x00xx", 7);
    rig_send_raw(r, 0, alsa, sizeof alsa);
    rig_drain(r);
    assert_int_equal(r->count, 0);
    assert_int_equal(r->source->counters.rejected, 5);
    assert_int_equal(r->source->counters.rejected_from, inet_addr("127.0.1.1"));
    assert_true(r->source->counters.rejected_long); /* the last one */
    rig_send_raw(r, 3, "garbage", 7);
    rig_drain(r);
    assert_int_equal(r->source->counters.rejected_from, inet_addr("127.0.1.4"));
    assert_false(r->source->counters.rejected_long);
    uint32_t random = 1;
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t packet[200];
        for (unsigned j = 0; j < sizeof packet; j++)
            packet[j] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
        if (i & 1)
            memcpy(packet, "\x01\x10", 2);
        rig_send_raw(r, i % 40, packet, random % sizeof packet);
        if (i % 50 == 0)
            rig_drain(r);
    }
    rig_drain(r);
    assert_true(r->source->counters.rejected > 1500);
    rig_start(r, RIG_SENDERS - 1, &rig_stereo);
}

/* Whose packets are wanted may change while it listens. */
static void claims(void **state)
{
    struct rig *r = *state;
    struct source_senders senders = {.from = {inet_addr("127.0.1.2")}, .count = 1};
    rig_wait(r, 0);
    for (unsigned turn = 0; turn < 3; turn++) {
        senders.others = turn == 1;
        r->source->ops->set_senders(r->source, &senders);
        r->count = 0;
        for (unsigned i = 0; i < 2; i++)
            for (unsigned sender = 0; sender < 3; sender++)
                rig_send(r, sender, &rig_stereo, 1152, (uint8_t)sender);
        rig_drain(r);
        assert_int_equal(r->count, turn == 1 ? 6 : 2);
        for (unsigned i = 0; i < r->count; i++)
            assert_int_equal(r->heard[i].block.sender.claimed, r->heard[i].first_byte == 1);
    }

    /* One that was heard as a stranger is wanted now. */
    senders.from[0] = inet_addr("127.0.1.3");
    r->source->ops->set_senders(r->source, &senders);
    r->count = 0;
    for (unsigned sender = 0; sender < 3; sender++)
        rig_send(r, sender, &rig_stereo, 1152, (uint8_t)sender);
    rig_drain(r);
    assert_int_equal(r->count, 1);
    assert_int_equal(r->heard[0].first_byte, 2);
    assert_true(r->heard[0].block.sender.claimed);
}

static void only_from(void **state)
{
    struct rig *r = *state;
    const uint32_t from[] = {inet_addr("127.0.1.2"), inet_addr("127.0.1.3")};
    rig_open(r, &(struct source_udp_params){.port = r->port, .from = from, .from_count = 2});
    rig_wait(r, 0);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned sender = 0; sender < 5; sender++)
            rig_send(r, sender, &rig_stereo, 1152, (uint8_t)sender);
    rig_drain(r);
    assert_int_equal(r->count, 4);
    for (unsigned i = 0; i < r->count; i++)
        assert_in_range(r->heard[i].first_byte, 1, 2);
    assert_int_equal(r->source->counters.ignored, 6);
    assert_int_equal(r->source->counters.ignored_from, inet_addr("127.0.1.5"));
    assert_int_equal(r->source->counters.rejected, 0);
}

/* Random bytes make a header now and then. From the guest's own address, but another port, they must not look like
 * the guest's next stream. */
static void a_header_by_chance(void **state)
{
    struct rig *r = *state;
    rig_wait(r, 0);
    rig_start(r, 0, &five);
    size_t bytes = r->byte_count;
    for (unsigned i = 0; i < 20; i++) {
        r->now_ns += 100 * RIG_MS; /* more than a second in all: a new port would be a new stream */
        rig_send(r, 0, &five, 1152, (uint8_t)i);
        int guest = r->sockets[0];
        r->sockets[0] = rig_socket_at("127.0.1.1", 0);
        const struct scream_udp_header other = {(uint8_t)(1 + i % 2), 32, 8, 0x63f};
        rig_send(r, 0, &other, 64, 99);
        close(r->sockets[0]);
        r->sockets[0] = guest;
        rig_send(r, 0, &five, 1152, (uint8_t)i);
        rig_drain(r);
        assert_int_equal(r->count, 2);
        for (unsigned j = 0; j < 2; j++)
            assert_int_equal(rig_flags(r, j) & ~(unsigned)BLOCK_MORE, 0);
        /* No byte of a frame that straddles is lost. */
        bytes += r->byte_count;
        assert_int_equal(bytes, (2 + 2 * (i + 1)) * 1152 / 10 * 10);
    }
    assert_int_equal(r->source->counters.rejected, 20);
}

/* What the source says of the kernel's buffer is what it takes in. */
static void the_buffer_lasts(void **state)
{
    struct rig *r = *state;
    const struct scream_udp_header big = {4, 32, 8, 0x63f};
    const int64_t packet_ns = 187500; /* 36 frames */
    rig_wait(r, 0);
    rig_start(r, 0, &big);
    int64_t packets = r->source->counters.buffer_ns / packet_ns;
    assert_in_range(packets, 20, 100000);
    for (int64_t i = 0; i < packets * 3 / 4; i++)
        rig_send(r, 0, &big, 1152, 1);
    struct block block;
    int64_t heard = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1)
        heard++;
    assert_int_equal(heard, packets * 3 / 4);
    assert_int_equal(r->source->counters.lost_packets, 0);
    for (int64_t i = 0; i < packets * 3 / 2; i++)
        rig_send(r, 0, &big, 1152, 1);
    heard = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1)
        heard++;
    assert_true(heard < packets * 3 / 2);
    /* The kernel says so with the next packet, which says that sound is missing. */
    rig_send(r, 0, &big, 1152, 1);
    rig_drain(r);
    assert_int_equal(r->source->counters.lost_packets, packets * 3 / 2 - heard);
    assert_int_equal(rig_flags(r, 0), BLOCK_GAP);
    rig_start(r, 1, &rig_stereo);
    assert_int_equal(r->source->counters.buffer_ns, packets * packet_ns); /* the worst of all there were */
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(starts_with_two),
        RIGGED(rests_where_there_is_room),
        RIGGED(rests_not_in_vain),
        RIGGED(rests_not_where_many_come),
        RIGGED(readable_when_it_should_be),
        RIGGED(bursts_of_several),
        RIGGED(a_new_stream_within_a_burst),
        RIGGED(odd_packet_out),
        RIGGED(frames_straddle),
        RIGGED(less_than_a_frame),
        RIGGED(gaps),
        RIGGED(sizes_and_formats),
        RIGGED(garbage),
        RIGGED(only_from),
        RIGGED(claims),
        RIGGED(a_header_by_chance),
        RIGGED(the_buffer_lasts),
    };
    return cmocka_run_group_tests_name("source_udp", tests, NULL, NULL);
}
