/* SPDX-License-Identifier: MIT
 *
 * The real source on the loopback interface of a network namespace of the test's own: what is sent has been captured
 * when send returns. Time is the test's. Skipped where one may not make such a namespace.
 */
#include "receiver/source.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS      1000000LL
#define SECOND  1000000000LL
#define PORT    4010
#define PAYLOAD 1152

struct rig {
    struct source *source;
    int64_t now_ns;
    int sender, control;
    unsigned blocks, frames, flags;
    uint8_t first_byte;
    struct block last;
    char label[48];
};

static bool own_network; /* the namespace was made: nothing of this can reach the machine's */

static int group_setup(void **state)
{
    (void)state;
    own_network = unshare(CLONE_NEWNET) == 0;
    return 0;
}

static void set_lo(const struct rig *r, bool up)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = (short)(up ? IFF_UP : 0)};
    assert_int_equal(ioctl(r->control, SIOCSIFFLAGS, &request), 0);
}

static void set_mtu(const struct rig *r, int mtu)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_mtu = mtu};
    assert_int_equal(ioctl(r->control, SIOCSIFMTU, &request), 0);
}

static void open_source(struct rig *r, const char *interface, const char *from)
{
    if (r->source)
        r->source->ops->close(r->source);
    uint32_t address = from ? inet_addr(from) : 0;
    const struct source_pcap_params params = {
        .port = PORT, .interface = interface, .from = from ? &address : NULL, .from_count = from ? 1 : 0};
    assert_int_equal(source_pcap_open(&r->source, &params), 0);
}

static void drain(struct rig *r)
{
    struct block block;
    r->blocks = r->frames = r->flags = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1) {
        if (r->blocks++ == 0)
            r->first_byte = block.data[0];
        r->frames += block.frames;
        r->flags |= block.flags;
        assert_true(block.arrival_ns <= r->now_ns);
        r->last = block;
        snprintf(r->label, sizeof r->label, "%s", block.sender.label);
    }
}

/* Lets the source look now, as its fd would have it, and then when it wants to. */
static void pass(struct rig *r, int64_t ns)
{
    drain(r);
    int64_t end = r->now_ns + ns;
    unsigned looks = 0;
    while (r->source->wake_ns <= end) {
        if (r->source->wake_ns > r->now_ns)
            r->now_ns = r->source->wake_ns;
        drain(r);
        assert_true(++looks <= ns / MS + 10);
    }
    r->now_ns = end;
    drain(r); /* the made-up time is ahead of the kernel's: arrivals count from here */
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    *state = r;
    if (!own_network)
        return 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    r->now_ns = (int64_t)now.tv_sec * SECOND + now.tv_nsec;
    r->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    r->sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(r->control >= 0 && r->sender >= 0);
    set_mtu(r, 65536);
    set_lo(r, true);
    open_source(r, "lo", NULL);
    drain(r);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_true(r->source->fd >= 0);
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    if (r->source) {
        r->source->ops->close(r->source);
        close(r->control);
        close(r->sender);
    }
    free(r);
    return 0;
}

static void need_network(void)
{
    if (!own_network)
        skip();
}

static void send_packet(struct rig *r, uint16_t port, size_t payload, uint8_t fill)
{
    static const struct scream_udp_header stereo = {1, 16, 2, 3};
    uint8_t packet[65507];
    scream_udp_build(packet, &stereo);
    memset(packet + SCREAM_UDP_HEADER_BYTES, fill, payload);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size_t size = SCREAM_UDP_HEADER_BYTES + payload;
    ssize_t sent = sendto(r->sender, packet, size, 0, (struct sockaddr *)&to, sizeof to);
    assert_true(sent == (ssize_t)size || errno == ECONNREFUSED); /* nobody listens there, and nobody has to */
}

static void play(struct rig *r, unsigned packets)
{
    for (; packets > 0; packets--) {
        send_packet(r, PORT, PAYLOAD, (uint8_t)packets);
        r->now_ns += 6 * MS;
        drain(r);
    }
}

static void test_plays(void **state)
{
    need_network();
    struct rig *r = *state;
    send_packet(r, PORT, PAYLOAD, 1);
    r->now_ns += 6 * MS;
    drain(r);
    assert_int_equal(r->blocks, 0); /* one packet is nobody's format */
    send_packet(r, PORT, PAYLOAD, 2);
    send_packet(r, PORT, PAYLOAD, 3);
    r->now_ns += 6 * MS;
    drain(r);
    assert_int_equal(r->blocks, 3); /* each once, though loopback shows them going and coming */
    assert_int_equal(r->frames, 3 * 288);
    assert_int_equal(r->first_byte, 1);
    assert_int_equal(r->last.chunk_frames, 288);
    assert_int_equal(r->last.window_ns, 0); /* the kernel's own receive time */
    assert_string_equal(r->label, "127.0.0.1");
    assert_int_equal(r->source->counters.rejected, 0);
    assert_int_equal(r->source->counters.blocks, 3);
}

static void test_only_its_port(void **state)
{
    need_network();
    struct rig *r = *state;
    for (unsigned i = 0; i < 10; i++)
        send_packet(r, PORT + 1, PAYLOAD, 1);
    drain(r);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->counters.rejected, 0); /* the kernel keeps them to itself */
}

static void test_from(void **state)
{
    need_network();
    struct rig *r = *state;
    open_source(r, "lo", "10.0.0.1");
    drain(r);
    play(r, 5);
    assert_int_equal(r->source->counters.blocks, 0);
    open_source(r, "lo", "127.0.0.1");
    drain(r);
    play(r, 5);
    assert_int_equal(r->source->counters.blocks, 5);
}

static void test_interface_comes_and_goes(void **state)
{
    need_network();
    struct rig *r = *state;
    open_source(r, "none0", NULL);
    drain(r);
    assert_int_equal(r->source->status.state, SOURCE_NO_INTERFACE);
    assert_non_null(strstr(r->source->status.detail, "none0"));
    assert_int_equal(r->source->fd, -1);

    /* By its address; lo has one whenever it is up. */
    set_lo(r, false);
    open_source(r, "127.0.0.1", NULL);
    pass(r, 3 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_INTERFACE);
    set_lo(r, true);
    pass(r, SECOND);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    play(r, 5);
    assert_int_equal(r->source->counters.blocks, 5);

    open_source(r, "lo", NULL);
    drain(r);
    play(r, 5);
    set_lo(r, false);
    pass(r, 3 * SECOND);
    set_lo(r, true);
    pass(r, SECOND);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    play(r, 5);
    assert_int_equal(r->source->counters.blocks, 10);
    assert_int_equal(r->flags & BLOCK_RESYNC, 0);
}

static void test_fragments_are_counted(void **state)
{
    need_network();
    struct rig *r = *state;
    play(r, 3);
    set_mtu(r, 1500);
    for (unsigned i = 0; i < 4; i++) {
        send_packet(r, PORT, 8000, 9);
        r->now_ns += 6 * MS;
        drain(r);
        assert_int_equal(r->blocks, 0);
    }
    assert_int_equal(r->source->counters.fragments, 4); /* of each only the first has a port */
    play(r, 3);
    assert_int_equal(r->blocks, 1);
    assert_int_equal(r->first_byte, 1);
}

/* A capture takes as much of a packet as the MTU says at its start. */
static void test_longer_than_the_mtu_was(void **state)
{
    need_network();
    struct rig *r = *state;
    set_mtu(r, 1500);
    open_source(r, "lo", NULL);
    drain(r);
    play(r, 3);
    set_mtu(r, 9000);
    send_packet(r, PORT, 8000, 9); /* is lost, and tells */
    pass(r, 10 * MS);
    assert_int_equal(r->source->counters.rejected, 1);
    send_packet(r, PORT, 8000, 9);
    drain(r);
    assert_int_equal(r->frames, 2000);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
}

/* Frames as a guest's card sends them, with tags, options and trailing bytes. */
static void test_tags_and_options(void **state)
{
    need_network();
    struct rig *r = *state;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    assert_true(fd >= 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("lo")};
    unsigned sent = 0;
    for (unsigned tags = 0; tags <= 2; tags++) {
        for (unsigned options = 0; options <= 2; options++, sent++) {
            uint8_t frame[2048] = {0};
            static const uint8_t types[2][2] = {
                {0x88, 0xa8},
                {0x81, 0x00}
            };
            size_t at = 12;
            for (unsigned i = 0; i < tags; i++, at += 4) {
                memcpy(frame + at, types[tags == 1 ? 1 : i], 2);
                frame[at + 3] = 7;
            }
            frame[at] = 0x08;
            size_t udp = at + 2 + 20 + options * 4, bytes = SCREAM_UDP_HEADER_BYTES + PAYLOAD;
            uint8_t *ip = frame + at + 2;
            ip[0] = (uint8_t)(0x45 + options);
            size_t length = udp + 8 + bytes - (at + 2);
            ip[2] = (uint8_t)(length >> 8);
            ip[3] = (uint8_t)length;
            ip[9] = IPPROTO_UDP;
            memcpy(ip + 12, (const uint8_t[]){192, 168, 122, 50, 239, 255, 77, 77}, 8);
            memset(ip + 20, 1, (size_t)options * 4);
            memcpy(frame + udp, (const uint8_t[]){0x10, 0, PORT >> 8, PORT & 0xff}, 4);
            frame[udp + 4] = (uint8_t)((8 + bytes) >> 8);
            frame[udp + 5] = (uint8_t)(8 + bytes);
            scream_udp_build(frame + udp + 8, &(const struct scream_udp_header){1, 16, 2, 3});
            memset(frame + udp + 8 + SCREAM_UDP_HEADER_BYTES, 7, PAYLOAD);
            size_t size = udp + 8 + bytes + options; /* and padding */
            assert_int_equal(sendto(fd, frame, size, 0, (struct sockaddr *)&to, sizeof to), size);
            r->now_ns += 6 * MS;
            drain(r);
            assert_int_equal(r->frames, sent == 0 ? 0 : sent == 1 ? 2 * 288 : 288);
        }
    }
    assert_string_equal(r->label, "192.168.122.50");
    assert_int_equal(r->source->counters.rejected, 0);
    close(fd);
}

/* Never more than a few looks a second, whatever is missing. */
static void test_idle_is_cheap(void **state)
{
    need_network();
    struct rig *r = *state;
    static const char *const interfaces[] = {"lo", "none0"};
    for (unsigned i = 0; i < 2; i++) {
        open_source(r, interfaces[i], NULL);
        drain(r);
        unsigned looks = 0;
        for (int64_t end = r->now_ns + 10 * SECOND; r->source->wake_ns < end; looks++) {
            assert_true(r->source->wake_ns > r->now_ns);
            r->now_ns = r->source->wake_ns;
            drain(r);
        }
        assert_in_range(looks, 1, 50);
    }
}

static void test_no_permission(void **state)
{
    need_network();
    struct rig *r = *state;
    /* Of another user's, who has no capabilities: this thread's are back when it is root again. */
    open_source(r, "lo", NULL);
    assert_int_equal(seteuid(65534), 0);
    drain(r);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(r->source->status.state, SOURCE_NO_ACCESS);
    assert_non_null(strstr(r->source->status.detail, "sudo setcap cap_net_raw+ep /"));
    pass(r, 2 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
}

static void test_params(void **state)
{
    (void)state;
    struct source *source;
    assert_int_equal(source_pcap_open(&source, &(struct source_pcap_params){.interface = "lo"}), -EINVAL);
    assert_int_equal(source_pcap_open(&source, &(struct source_pcap_params){.port = PORT}), -EINVAL);
    assert_int_equal(
        source_pcap_open(&source, &(struct source_pcap_params){.port = PORT, .interface = "longer-than-names-are"}),
        -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_plays),
        TEST(test_only_its_port),
        TEST(test_from),
        TEST(test_interface_comes_and_goes),
        TEST(test_fragments_are_counted),
        TEST(test_longer_than_the_mtu_was),
        TEST(test_tags_and_options),
        TEST(test_idle_is_cheap),
        TEST(test_no_permission),
        cmocka_unit_test(test_params),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
