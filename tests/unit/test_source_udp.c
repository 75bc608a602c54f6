/* SPDX-License-Identifier: MIT
 *
 * The real source on loopback: what is sent has arrived when send returns. Each sender has an address of its own out
 * of 127.0.0.0/8. Time is the test's: the kernel's receive times are clamped between two drains.
 */
#include "receiver/source.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS      1000000LL
#define SECOND  1000000000LL
#define HEARD   512
#define SENDERS 48

struct heard {
    struct block block;
    uint8_t first_byte, last_byte;
};

struct rig {
    struct source *source;
    uint16_t port;
    int64_t now_ns, before_ns;
    int sockets[SENDERS];
    struct heard heard[HEARD];
    unsigned count;
    uint8_t bytes[1 << 20]; /* all the PCM heard, in order */
    size_t byte_count;
};

static int udp_socket_at(const char *address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static uint16_t free_port(void)
{
    int fd = udp_socket_at("0.0.0.0", 0);
    struct sockaddr_in in;
    socklen_t length = sizeof in;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
    close(fd);
    return ntohs(in.sin_port);
}

static void open_source(struct rig *r, const struct source_udp_params *params)
{
    if (r->source)
        r->source->ops->close(r->source);
    assert_int_equal(source_udp_open(&r->source, params), 0);
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    for (unsigned i = 0; i < SENDERS; i++)
        r->sockets[i] = -1;
    r->port = free_port();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    r->now_ns = (int64_t)now.tv_sec * SECOND + now.tv_nsec;
    r->before_ns = r->now_ns;
    open_source(r, &(struct source_udp_params){.port = r->port});
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    if (r->source)
        r->source->ops->close(r->source);
    for (unsigned i = 0; i < SENDERS; i++)
        if (r->sockets[i] >= 0)
            close(r->sockets[i]);
    free(r);
    return 0;
}

static void send_raw(struct rig *r, unsigned sender, const void *data, size_t size)
{
    assert_in_range(sender, 0, SENDERS - 1);
    if (r->sockets[sender] < 0) {
        char address[32];
        snprintf(address, sizeof address, "127.0.1.%u", sender + 1);
        r->sockets[sender] = udp_socket_at(address, 0);
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(r->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(sendto(r->sockets[sender], data, size, 0, (struct sockaddr *)&to, sizeof to), size);
}

/* The guest's next stream comes from another port. */
static void new_port(struct rig *r, unsigned sender)
{
    int old = r->sockets[sender];
    r->sockets[sender] = -1;
    send_raw(r, sender, "", 0); /* opens the new one while the old still has its port */
    close(old);
}

static const struct scream_udp_header stereo = {1, 16, 2, 3};
static const struct scream_udp_header five = {1, 16, 5, 0};

static void send_packet(struct rig *r, unsigned sender, const struct scream_udp_header *header, size_t payload,
                        uint8_t fill)
{
    uint8_t packet[65507];
    scream_udp_build(packet, header);
    memset(packet + SCREAM_UDP_HEADER_BYTES, fill, payload);
    send_raw(r, sender, packet, SCREAM_UDP_HEADER_BYTES + payload);
}

/* Calls next until there is nothing, as the thread does when poll wakes it. */
static void drain(struct rig *r)
{
    struct block block;
    r->count = 0;
    r->byte_count = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1) {
        assert_true(r->count < HEARD);
        size_t bytes = block.frames * pcm_frame_bytes(&block.format);
        assert_true(block.frames > 0);
        assert_int_equal(block.chunk_frames, block.frames);
        assert_true(r->byte_count + bytes <= sizeof r->bytes);
        memcpy(r->bytes + r->byte_count, block.data, bytes);
        r->byte_count += bytes;
        r->heard[r->count++] = (struct heard){block, block.data[0], block.data[bytes - 1]};
        assert_true(block.arrival_ns <= r->now_ns);
        assert_true(block.window_ns >= 0);
    }
    assert_true(r->source->wake_ns > r->now_ns);
}

static void wait_ns(struct rig *r, int64_t ns)
{
    r->now_ns += ns;
    drain(r); /* empty: what comes next came later than now */
    assert_int_equal(r->count, 0);
}

static unsigned flags(const struct rig *r, unsigned i)
{
    return r->heard[i].block.flags;
}

/* Brings a sender to where its packets are played. */
static void start(struct rig *r, unsigned sender, const struct scream_udp_header *header)
{
    send_packet(r, sender, header, 1152, 1);
    send_packet(r, sender, header, 1152, 1);
    drain(r);
    assert_int_equal(r->count, 2);
}

static void starts_with_two(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_true(r->source->fd >= 0);
    send_packet(r, 0, &stereo, 1152, 7);
    drain(r);
    assert_int_equal(r->count, 0);
    r->now_ns += 6 * MS;
    send_packet(r, 0, &stereo, 1152, 8);
    drain(r);
    assert_int_equal(r->count, 2); /* the first one is not lost */
    assert_int_equal(r->heard[0].first_byte, 7);
    assert_int_equal(r->heard[0].last_byte, 7);
    assert_int_equal(r->heard[1].first_byte, 8);
    assert_int_equal(flags(r, 0), BLOCK_RESYNC | BLOCK_MORE);
    assert_int_equal(flags(r, 1), 0);
    assert_int_equal(r->heard[1].block.frames, 288);
    assert_string_equal(r->heard[1].block.sender.label, "127.0.1.1");
    assert_int_equal(r->heard[1].block.format.rate, 48000);
    assert_true(r->heard[0].block.arrival_ns < r->heard[1].block.arrival_ns);
    assert_int_equal(r->source->counters.rejected, 0);
    assert_int_equal(r->source->counters.blocks, 2);

    /* A second late packet does not make a burst of an old one. */
    wait_ns(r, 40 * MS);
    send_packet(r, 1, &stereo, 1152, 1);
    drain(r);
    wait_ns(r, 200 * MS);
    send_packet(r, 1, &stereo, 1152, 2);
    drain(r);
    assert_int_equal(r->count, 0);
    send_packet(r, 1, &stereo, 1152, 3);
    drain(r);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->heard[0].first_byte, 2);
}

static void readable_when_it_should_be(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    struct pollfd p = {.fd = r->source->fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    uint64_t wakeups = r->source->counters.wakeups;
    start(r, 0, &stereo);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(r->source->counters.wakeups, wakeups + 1);
    send_packet(r, 0, &stereo, 1152, 1);
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
    wait_ns(r, 0);
    for (unsigned sender = 0; sender < 3; sender++)
        start(r, sender, &stereo);
    static const unsigned sizes[] = {1, 2, 5, 31, 32, 33, 63, 64, 65, 96, 200};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        r->now_ns += 20 * MS;
        for (unsigned i = 0; i < sizes[s]; i++)
            send_packet(r, i * 7 % 5 % 3, &stereo, 1152, (uint8_t)i);
        drain(r);
        assert_int_equal(r->count, sizes[s]);
        for (unsigned i = 0; i < r->count; i++)
            assert_int_equal(r->heard[i].first_byte, i);
        check_bursts(r);
    }
    /* Garbage among them, a whole batch of it, hides nothing. */
    r->now_ns += 20 * MS;
    send_packet(r, 0, &stereo, 1152, 1);
    for (unsigned i = 0; i < 150; i++)
        send_raw(r, 1, "garbage", 7);
    send_packet(r, 1, &stereo, 1152, 2);
    drain(r);
    unsigned heard = r->count;
    drain(r);
    assert_int_equal(heard + r->count, 2);
    assert_int_equal(r->source->counters.rejected, 150);
}

static void a_new_stream_within_a_burst(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    start(r, 0, &stereo);
    /* Held packets of one batch are heard intact after others were held. */
    r->now_ns += 5 * MS;
    const struct scream_udp_header other = {0x81, 16, 2, 3};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < 2; j++)
            send_packet(r, 0, i & 1 ? &stereo : &other, 1152, (uint8_t)(2 * i + j + 10));
    drain(r);
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
    wait_ns(r, 0);
    start(r, 0, &stereo);
    const struct scream_udp_header other = {2, 32, 8, 0x63f};
    send_packet(r, 0, &other, 1152, 9);
    send_packet(r, 0, &stereo, 1152, 2);
    send_packet(r, 0, &other, 1152, 9);
    send_packet(r, 0, &stereo, 1152, 3);
    drain(r);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->heard[0].first_byte, 2);
    assert_int_equal(r->heard[1].first_byte, 3);
    assert_int_equal(flags(r, 0), BLOCK_MORE);
    assert_int_equal(r->source->counters.rejected, 2);
    assert_int_equal(r->source->counters.dropped_frames, 2 * 36);
}

/* 1152 bytes are 115.2 frames. The PCM counts frames, so that a byte out of place shows. */
static void frames_straddle(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    uint8_t pcm[100 * 1152];
    for (size_t i = 0; i < sizeof pcm; i++)
        pcm[i] = (uint8_t)(i / 10 + i % 10);
    size_t heard = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t packet[SCREAM_UDP_HEADER_BYTES + 1152];
        scream_udp_build(packet, &five);
        memcpy(packet + SCREAM_UDP_HEADER_BYTES, pcm + i * 1152, 1152);
        r->now_ns += 2 * MS;
        if (i == 50) /* a pause: the guest keeps what it has not sent, and goes on with it */
            wait_ns(r, 500 * MS);
        send_raw(r, 0, packet, sizeof packet);
        drain(r);
        if (i > 1)
            assert_int_equal(flags(r, 0), i == 50 ? BLOCK_GAP : 0);
        assert_memory_equal(r->bytes, pcm + heard, r->byte_count);
        heard += r->byte_count;
        if (i > 0)
            assert_int_equal(heard, ((i + 1) * 1152) / 10 * 10);
    }

    /* Another stream starts with a whole frame. */
    wait_ns(r, 2 * SECOND);
    new_port(r, 0);
    send_packet(r, 0, &five, 1152, 77);
    drain(r);
    assert_int_equal(r->count, 0); /* one packet may be anybody's */
    send_packet(r, 0, &five, 1152, 78);
    drain(r);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->heard[0].first_byte, 77);
    assert_int_equal(r->heard[0].block.frames, 115);
    assert_int_equal(flags(r, 0) & BLOCK_RESYNC, BLOCK_RESYNC);
}

static void less_than_a_frame(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    const struct scream_udp_header big = {1, 32, 8, 0x63f};
    for (unsigned i = 0; i < 17; i++)
        send_packet(r, 0, &big, 4, (uint8_t)i);
    drain(r);
    assert_int_equal(r->count, 2);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(r->bytes[i], i / 4);
    check_bursts(r);
}

static void gaps(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    start(r, 0, &stereo);
    wait_ns(r, 500 * MS);
    send_packet(r, 0, &stereo, 1152, 1);
    send_packet(r, 0, &stereo, 1152, 1);
    drain(r);
    assert_int_equal(flags(r, 0), BLOCK_GAP | BLOCK_MORE);
    assert_int_equal(flags(r, 1), 0);
    assert_true(r->heard[0].block.arrival_ns >= r->now_ns - 500 * MS);
    r->now_ns += 10 * MS;
    send_packet(r, 0, &stereo, 1152, 1);
    drain(r);
    assert_int_equal(flags(r, 0), 0);
}

static void sizes_and_formats(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    static const uint8_t markers[] = {0x81, 1, 0x82, 2, 0x84, 4};
    for (unsigned m = 0; m < sizeof markers; m++)
        for (uint8_t bits = 16; bits <= 32; bits += 8)
            for (uint8_t channels = 1; channels <= 8; channels++) {
                const struct scream_udp_header h = {markers[m], bits, channels, 3};
                start(r, 0, &h);
                assert_int_equal(r->heard[0].block.format.channels, channels);
                assert_int_equal(r->heard[0].block.format.bits, bits);
                assert_int_equal(r->heard[0].block.frames, 1152 / (channels * bits / 8));
            }
    start(r, 0, &stereo);
    static const size_t payloads[] = {4, 64, 1440, 8960, 40000, 65500};
    for (unsigned i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        send_packet(r, 0, &stereo, payloads[i], (uint8_t)i);
        drain(r);
        assert_int_equal(r->count, 1);
        assert_int_equal(r->byte_count, payloads[i]);
        assert_int_equal(r->heard[0].last_byte, i);
    }
    /* As a stream's first packets, too: what is too large to keep is not heard, what follows is. */
    send_packet(r, 1, &stereo, 65500, 1);
    send_packet(r, 1, &stereo, 65500, 2);
    drain(r);
    assert_int_equal(r->count, 1);
    assert_int_equal(r->heard[0].first_byte, 2);
    assert_int_equal(flags(r, 0), BLOCK_RESYNC);
}

static void garbage(void **state)
{
    struct rig *r = *state;
    wait_ns(r, 0);
    static const uint8_t alsa[6 + 1152] = {1, 16, 2, 3, 0, 0};
    send_raw(r, 0, "", 0);
    send_raw(r, 0, "\x01\x10\x02\x03\x00", 5);
    send_raw(r, 0, "\x01\x10\x02\x03\x00x", 6);
    send_raw(r, 0, "\x01\x10\xff\x03\x00xx", 7);
    send_raw(r, 0, alsa, sizeof alsa);
    drain(r);
    assert_int_equal(r->count, 0);
    assert_int_equal(r->source->counters.rejected, 5);
    assert_int_equal(r->source->counters.rejected_from, inet_addr("127.0.1.1"));
    assert_true(r->source->counters.rejected_long); /* the last one */
    send_raw(r, 3, "garbage", 7);
    drain(r);
    assert_int_equal(r->source->counters.rejected_from, inet_addr("127.0.1.4"));
    assert_false(r->source->counters.rejected_long);
    uint32_t random = 1;
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t packet[200];
        for (unsigned j = 0; j < sizeof packet; j++)
            packet[j] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
        if (i & 1)
            memcpy(packet, "\x01\x10", 2);
        send_raw(r, i % 40, packet, random % sizeof packet);
        if (i % 50 == 0)
            drain(r);
    }
    drain(r);
    assert_true(r->source->counters.rejected > 1500);
    start(r, SENDERS - 1, &stereo);
}

/* Whose packets are wanted may change while it listens. */
static void claims(void **state)
{
    struct rig *r = *state;
    struct source_senders senders = {.from = {inet_addr("127.0.1.2")}, .count = 1};
    wait_ns(r, 0);
    for (unsigned turn = 0; turn < 3; turn++) {
        senders.others = turn == 1;
        r->source->ops->set_senders(r->source, &senders);
        r->count = 0;
        for (unsigned i = 0; i < 2; i++)
            for (unsigned sender = 0; sender < 3; sender++)
                send_packet(r, sender, &stereo, 1152, (uint8_t)sender);
        drain(r);
        assert_int_equal(r->count, turn == 1 ? 6 : 2);
        for (unsigned i = 0; i < r->count; i++)
            assert_int_equal(r->heard[i].block.sender.claimed, r->heard[i].first_byte == 1);
    }

    /* One that was heard as a stranger is wanted now. */
    senders.from[0] = inet_addr("127.0.1.3");
    r->source->ops->set_senders(r->source, &senders);
    r->count = 0;
    for (unsigned sender = 0; sender < 3; sender++)
        send_packet(r, sender, &stereo, 1152, (uint8_t)sender);
    drain(r);
    assert_int_equal(r->count, 1);
    assert_int_equal(r->heard[0].first_byte, 2);
    assert_true(r->heard[0].block.sender.claimed);
}

static void only_from(void **state)
{
    struct rig *r = *state;
    const uint32_t from[] = {inet_addr("127.0.1.2"), inet_addr("127.0.1.3")};
    open_source(r, &(struct source_udp_params){.port = r->port, .from = from, .from_count = 2});
    wait_ns(r, 0);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned sender = 0; sender < 5; sender++)
            send_packet(r, sender, &stereo, 1152, (uint8_t)sender);
    drain(r);
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
    wait_ns(r, 0);
    start(r, 0, &five);
    size_t bytes = r->byte_count;
    for (unsigned i = 0; i < 20; i++) {
        r->now_ns += 100 * MS; /* more than a second in all: a new port would be a new stream */
        send_packet(r, 0, &five, 1152, (uint8_t)i);
        int guest = r->sockets[0];
        r->sockets[0] = udp_socket_at("127.0.1.1", 0);
        const struct scream_udp_header other = {(uint8_t)(1 + i % 2), 32, 8, 0x63f};
        send_packet(r, 0, &other, 64, 99);
        close(r->sockets[0]);
        r->sockets[0] = guest;
        send_packet(r, 0, &five, 1152, (uint8_t)i);
        drain(r);
        assert_int_equal(r->count, 2);
        for (unsigned j = 0; j < 2; j++)
            assert_int_equal(flags(r, j) & ~(unsigned)BLOCK_MORE, 0);
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
    wait_ns(r, 0);
    start(r, 0, &big);
    int64_t packets = r->source->counters.buffer_ns / packet_ns;
    assert_in_range(packets, 20, 100000);
    for (int64_t i = 0; i < packets * 3 / 4; i++)
        send_packet(r, 0, &big, 1152, 1);
    struct block block;
    int64_t heard = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1)
        heard++;
    assert_int_equal(heard, packets * 3 / 4);
    assert_int_equal(r->source->counters.lost_packets, 0);
    for (int64_t i = 0; i < packets * 3 / 2; i++)
        send_packet(r, 0, &big, 1152, 1);
    heard = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1)
        heard++;
    assert_true(heard < packets * 3 / 2);
    /* The kernel says so with the next packet, which says that sound is missing. */
    send_packet(r, 0, &big, 1152, 1);
    drain(r);
    assert_int_equal(r->source->counters.lost_packets, packets * 3 / 2 - heard);
    assert_int_equal(flags(r, 0), BLOCK_GAP);
    start(r, 1, &stereo);
    assert_int_equal(r->source->counters.buffer_ns, packets * packet_ns); /* the worst of all there were */
}

static void busy_port(void **state)
{
    struct rig *r = *state;
    int holder = udp_socket_at("0.0.0.0", r->port);
    wait_ns(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_PORT_BUSY);
    assert_int_equal(r->source->fd, -1);
    char pid[24];
    snprintf(pid, sizeof pid, "pid %d", (int)getpid());
    assert_non_null(strstr(r->source->status.detail, pid));
    assert_non_null(strstr(r->source->status.detail, "test_source_udp"));
    wait_ns(r, 3 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_PORT_BUSY);
    close(holder);
    assert_true(r->source->wake_ns <= r->now_ns + SECOND / 2);
    r->now_ns = r->source->wake_ns;
    wait_ns(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_string_equal(r->source->status.detail, "");
    start(r, 0, &stereo);
}

static void missing_interface(void **state)
{
    struct rig *r = *state;
    static const char *const names[] = {"earshot-none", "203.0.113.77"};
    for (unsigned i = 0; i < 2; i++)
        for (unsigned multicast = 0; multicast < 2; multicast++) {
            open_source(r, &(struct source_udp_params){
                               .port = r->port, .group = multicast ? SCREAM_UDP_GROUP : NULL, .interface = names[i]});
            wait_ns(r, 0);
            assert_int_equal(r->source->status.state, SOURCE_NO_INTERFACE);
            assert_non_null(strstr(r->source->status.detail, names[i]));
            assert_int_equal(r->source->wake_ns, r->now_ns + SECOND / 2);
            wait_ns(r, SECOND);
            assert_int_equal(r->source->wake_ns, r->now_ns + SECOND / 2);
        }
}

static void send_multicast(struct rig *r, const char *group)
{
    if (r->sockets[0] < 0)
        r->sockets[0] = udp_socket_at("0.0.0.0", 0);
    struct ip_mreqn via = {.imr_ifindex = (int)if_nametoindex("lo")};
    assert_int_equal(setsockopt(r->sockets[0], IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof via), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(r->port)};
    assert_int_equal(inet_pton(AF_INET, group, &to.sin_addr), 1);
    uint8_t packet[SCREAM_UDP_HEADER_BYTES + 64] = {0};
    scream_udp_build(packet, &stereo);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(sendto(r->sockets[0], packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to),
                         sizeof packet);
}

static void multicast(void **state)
{
    struct rig *r = *state;
    static const char *const interfaces[] = {NULL, "lo", "127.0.0.1"};
    for (unsigned i = 0; i < 3; i++) {
        open_source(
            r, &(struct source_udp_params){.port = r->port, .group = SCREAM_UDP_GROUP, .interface = interfaces[i]});
        wait_ns(r, 0);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
        send_multicast(r, SCREAM_UDP_GROUP);
        drain(r);
        assert_int_equal(r->count, 2);
        wait_ns(r, 60 * SECOND); /* looking at the interfaces again keeps what is there */
        send_multicast(r, SCREAM_UDP_GROUP);
        drain(r);
        assert_int_equal(r->count, 2);
        send_packet(r, 1, &stereo, 64, 1); /* unicast is heard as well */
        send_packet(r, 1, &stereo, 64, 1);
        drain(r);
        assert_int_equal(r->count, 2);
    }
    /* A group that another program joined is not ours. */
    int other = udp_socket_at("0.0.0.0", 0);
    struct ip_mreqn request = {.imr_ifindex = (int)if_nametoindex("lo")};
    assert_int_equal(inet_pton(AF_INET, "239.255.77.99", &request.imr_multiaddr), 1);
    assert_int_equal(setsockopt(other, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request), 0);
    send_multicast(r, "239.255.77.99");
    drain(r);
    assert_int_equal(r->count, 0);
    close(other);
}

/* Memberships are renewed once a minute: behind packets where there are any, else a second later. */
static void renews(void **state)
{
    struct rig *r = *state;
    open_source(r, &(struct source_udp_params){.port = r->port, .group = SCREAM_UDP_GROUP, .interface = "lo"});
    wait_ns(r, 0);
    int64_t joined_ns = r->now_ns;
    send_multicast(r, SCREAM_UDP_GROUP);
    drain(r);
    assert_int_equal(r->count, 2);
    assert_true(r->source->wake_ns <= joined_ns + 60 * SECOND);
    wait_ns(r, 60 * SECOND + 500 * MS);
    assert_int_equal(r->source->wake_ns, joined_ns + 61 * SECOND); /* nothing came, so not yet */
    send_multicast(r, SCREAM_UDP_GROUP);
    drain(r);
    assert_int_equal(r->count, 2);
    joined_ns = r->now_ns;
    assert_true(r->source->wake_ns > r->now_ns + 50 * SECOND);
    r->now_ns = joined_ns + 61 * SECOND;
    wait_ns(r, 0); /* and nothing comes */
    assert_true(r->source->wake_ns > r->now_ns + 50 * SECOND);
    send_multicast(r, SCREAM_UDP_GROUP);
    drain(r);
    assert_int_equal(r->count, 2);
}

static void unicast_on_one_interface(void **state)
{
    struct rig *r = *state;
    static const char *const interfaces[] = {"lo", "127.0.0.1"};
    for (unsigned i = 0; i < 2; i++) {
        open_source(r, &(struct source_udp_params){.port = r->port, .interface = interfaces[i]});
        wait_ns(r, 0);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
        start(r, 0, &stereo);
        wait_ns(r, 20 * SECOND);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    }
}

static void bad_parameters(void **state)
{
    (void)state;
    struct source *source = NULL;
    const struct source_udp_params rows[] = {
        {.port = 0              },
        { .port = 4010,        .group = "fred"},
        { .port = 4010, .group = "192.168.1.1"},
        { .port = 4010,            .group = ""},
        { .port = 4010,        .interface = ""},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(source_udp_open(&source, &rows[i]), -EINVAL);
    assert_null(source);
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(starts_with_two),
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
        RIGGED(busy_port),
        RIGGED(missing_interface),
        RIGGED(multicast),
        RIGGED(renews),
        RIGGED(unicast_on_one_interface),
        cmocka_unit_test(bad_parameters),
    };
    return cmocka_run_group_tests_name("source_udp", tests, NULL, NULL);
}
