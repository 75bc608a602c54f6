/* SPDX-License-Identifier: MIT
 *
 * The network source among real bridges, in a network namespace of this process's own. The source's time is made up, so
 * that a minute between two renewals takes none. What a guest sends is put on the wire as whole frames, at the far end
 * of a cable into the bridge. Exit status 77: no namespace, or no `ip`.
 */
#include "receiver/links.h"
#include "receiver/source.h"
#include "receiver/udp_socket.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MS               1000000LL
#define SECOND           1000000000LL
#define PORT             4010
#define PAYLOAD          1152
#define FLOOD            20000
#define HEARD_MS         250
#define FORWARDING_LOOKS 500
#define AHEAD            64 /* packets: what any socket's buffer holds */

struct frame {
    uint8_t ethernet[ETH_HLEN];
    struct iphdr ip;
    struct udphdr udp;
    uint8_t packet[SCREAM_UDP_HEADER_BYTES + PAYLOAD];
} __attribute__((packed));

struct rig {
    struct source *source;
    int64_t now_ns;
    int wire; /* packet socket */
};

__attribute__((format(printf, 1, 2))) static void ip(const char *format, ...)
{
    char command[512] = "ip ";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command + 3, sizeof command - 3, format, arguments);
    va_end(arguments);
    if (system(command) != 0)
        fail_msg("%s failed", command);
}

static void rest(int ms)
{
    poll(NULL, 0, ms);
}

/* A port forwards once the kernel has seen that its cable is there, which it looks at when it likes. */
static void wait_forwarding(unsigned number)
{
    for (unsigned looks = 0; looks < FORWARDING_LOOKS; looks++, rest(10)) {
        char command[64], text[2048];
        snprintf(command, sizeof command, "ip -d link show vnet%u", number);
        FILE *said = popen(command, "re");
        assert_non_null(said);
        text[fread(text, 1, sizeof text - 1, said)] = 0;
        pclose(said);
        if (strstr(text, "state forwarding"))
            return;
    }
    fail_msg("vnet%u forwards nothing", number);
}

/* The bridge, and a cable into it: vnetN is its port, peerN the guest's end. */
static void add_bridge(unsigned number, const char *options)
{
    ip("link add virbr%u %s", number, options);
    ip("link set vnet%u master virbr%u", number, number);
    ip("address add 192.168.%u.1/24 dev virbr%u", 122 + number, number);
    ip("link set vnet%u up", number);
    ip("link set virbr%u up", number);
    wait_forwarding(number);
}

/* Its port would be a link to listen on by itself. */
static void delete_bridge(unsigned number)
{
    ip("link set vnet%u down", number);
    ip("link del virbr%u", number);
}

static void add_cable(unsigned number)
{
    ip("link add vnet%u type veth peer name peer%u", number, number);
    ip("link set peer%u up", number);
}

static uint16_t checksum(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i += 2)
        sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static struct frame guest_frame(unsigned number)
{
    struct frame frame = {
        .ethernet = {0x01, 0x00, 0x5e, 0x7f, 0x4d, 0x4d, 0x52, 0x54, 0x00, 0, 0, (uint8_t)number, 0x08, 0x00}
    };
    char address[INET_ADDRSTRLEN];
    snprintf(address, sizeof address, "192.168.%u.50", 122 + number);
    struct iphdr header = {.version = 4,
                           .ihl = 5,
                           .tot_len = htons(sizeof frame - ETH_HLEN),
                           .ttl = 1,
                           .protocol = IPPROTO_UDP,
                           .saddr = inet_addr(address),
                           .daddr = inet_addr(SCREAM_UDP_GROUP)};
    header.check = checksum(&header, sizeof header);
    frame.ip = header;
    frame.udp = (struct udphdr){
        .source = htons(40000), .dest = htons(PORT), .len = htons(sizeof frame - ETH_HLEN - sizeof header)};
    const struct scream_udp_header scream = {1, 16, 2, 3};
    scream_udp_build(frame.packet, &scream);
    return frame;
}

static void send_frame(int wire, unsigned number, const struct frame *frame)
{
    char name[IF_NAMESIZE];
    snprintf(name, sizeof name, "peer%u", number);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    assert_int_equal(sendto(wire, frame, sizeof *frame, 0, (struct sockaddr *)&to, sizeof to), sizeof *frame);
}

static unsigned drain(struct rig *r)
{
    struct pollfd watch = {.fd = r->source->watch_fd > 0 ? r->source->watch_fd : -1, .events = POLLIN};
    poll(&watch, 1, 0);
    r->source->watch_ready = watch.revents != 0;
    struct block block;
    unsigned blocks = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1)
        blocks++;
    return blocks;
}

/* Blocks heard of two packets, some milliseconds of the source's time later. What is not here after HEARD_MS does not
 * come: the kernel hands packets on at once, but a machine may be busy. */
static unsigned heard(struct rig *r, unsigned number)
{
    struct frame frame = guest_frame(number);
    r->now_ns += 110 * MS; /* the next look at changes after a change */
    drain(r);
    r->now_ns += 10 * MS;
    for (unsigned i = 0; i < 2; i++)
        send_frame(r->wire, number, &frame);
    unsigned blocks = 0;
    for (unsigned waited = 0; waited < HEARD_MS && blocks < 2; waited++) {
        rest(1);
        blocks += drain(r);
    }
    return blocks;
}

static void listen_to(struct rig *r, const char *interface)
{
    const struct source_udp_params params = {.port = PORT, .group = SCREAM_UDP_GROUP, .interface = interface};
    assert_int_equal(source_udp_open(&r->source, &params), 0);
    drain(r);
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    r->now_ns = (int64_t)now.tv_sec * SECOND + now.tv_nsec;
    r->wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    assert_true(r->wire >= 0);
    add_cable(0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    if (r->source)
        r->source->ops->close(r->source);
    close(r->wire);
    free(r);
    unsigned count;
    struct links *links;
    assert_int_equal(links_open(&links), 0);
    links_update(links);
    const struct link *list = links_list(links, &count);
    for (unsigned i = 0; i < count; i++)
        if (strncmp(list[i].name, "virbr", 5) == 0 || strncmp(list[i].name, "peer", 4) == 0)
            ip("link del %s", list[i].name);
    links_close(links);
    return 0;
}

static void bridge_comes_late(void **state)
{
    struct rig *r = *state;
    listen_to(r, NULL);
    assert_int_equal(heard(r, 0), 0);
    add_bridge(0, "type bridge");
    assert_int_equal(heard(r, 0), 2);
    delete_bridge(0);
    assert_int_equal(heard(r, 0), 0);
    add_bridge(0, "type bridge");
    assert_int_equal(heard(r, 0), 2);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
}

static void the_chosen_bridge(void **state)
{
    struct rig *r = *state;
    static const char *const choices[] = {"virbr1", "192.168.123.1"};
    add_cable(1);
    for (unsigned i = 0; i < 2; i++) {
        add_bridge(0, "type bridge");
        listen_to(r, choices[i]);
        assert_int_equal(r->source->status.state, SOURCE_NO_INTERFACE);
        assert_int_equal(heard(r, 1), 0);
        add_bridge(1, "type bridge"); /* its address comes after it */
        assert_int_equal(heard(r, 1), 2);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
        assert_int_equal(heard(r, 0), 0);
        delete_bridge(1);
        assert_int_equal(heard(r, 1), 0);
        assert_int_equal(r->source->status.state, SOURCE_NO_INTERFACE);
        delete_bridge(0);
        r->source->ops->close(r->source);
        r->source = NULL;
    }
}

/* Gone and back between two looks, under the same name and index: the membership is gone all the same. */
static void the_same_index_again(void **state)
{
    struct rig *r = *state;
    add_bridge(0, "index 4711 type bridge");
    listen_to(r, NULL);
    assert_int_equal(heard(r, 0), 2);
    for (unsigned i = 0; i < 20; i++) {
        delete_bridge(0);
        add_bridge(0, "index 4711 type bridge");
        assert_int_equal(heard(r, 0), 2);
    }
}

/* A bridge that snoops forgets, after two seconds here, who does not say again that he listens: nobody asks. Returns when
 * it has; what came before was heard. */
static void listen_until_forgotten(struct rig *r)
{
    add_bridge(0, "type bridge mcast_startup_query_count 1 mcast_query_interval 100000 "
                  "mcast_query_response_interval 10 mcast_membership_interval 200");
    /* Only what takes itself for a querier minds who listens. It asks once, and not again. */
    ip("link set virbr0 type bridge mcast_querier 1");
    rest(300);
    listen_to(r, NULL);
    rest(50);
    assert_int_equal(heard(r, 0), 2);
    /* The kernel repeats its first report once, within ten seconds. Then there is silence, or this proves nothing. */
    unsigned late = 1;
    for (unsigned i = 0; i < 80 && late; i++) {
        rest(250);
        late = heard(r, 0);
    }
    assert_int_equal(late, 0);
}

static void snooping_without_a_querier(void **state)
{
    struct rig *r = *state;
    listen_until_forgotten(r);
    unsigned late = 0;
    for (unsigned i = 0; i < 12; i++) {
        r->now_ns += 61 * SECOND;
        drain(r);
        rest(250);
        late += heard(r, 0) != 2;
    }
    assert_int_equal(late, 0);
}

/* Who has been heard and is no more may have been forgotten: that is not left to the next minute. */
static void silence_is_doubted(void **state)
{
    struct rig *r = *state;
    listen_until_forgotten(r);
    assert_in_range(r->source->wake_ns, r->now_ns, r->now_ns + SECOND / 2);
    int64_t silent_ns = r->now_ns;
    unsigned doubts = 0;
    /* Nothing is sent, and no more is done than that. */
    while (r->source->wake_ns < silent_ns + 59 * SECOND) {
        r->now_ns = r->source->wake_ns;
        drain(r);
        doubts++;
        if (doubts == 1) {
            rest(250);
            assert_int_equal(heard(r, 0), 2);
            silent_ns = r->now_ns;
        }
    }
    assert_in_range(doubts, 6, 8);
    assert_true(r->source->wake_ns > silent_ns + 59 * SECOND);
}

struct flood {
    int wire;
    unsigned number;
    atomic_uint received;
    atomic_bool done;
};

static void *send_flood(void *arg)
{
    struct flood *flood = arg;
    const struct frame frame = guest_frame(flood->number);
    unsigned lost = 0; /* or so it seems */
    for (unsigned i = 0; i < FLOOD; i++) {
        send_frame(flood->wire, flood->number, &frame);
        for (unsigned waited = 0; i - atomic_load(&flood->received) - lost >= AHEAD; waited++) {
            if (waited == HEARD_MS)
                lost = i - atomic_load(&flood->received);
            rest(1);
        }
        if (i % 8 == 7) {
            struct timespec pause = {.tv_nsec = 100000};
            nanosleep(&pause, NULL);
        }
    }
    atomic_store(&flood->done, true);
    return NULL;
}

/* Packets received of FLOOD, sent to virbr1 while the membership on `renewed` is renewed all the time. */
static unsigned count_flood(struct rig *r, const char *renewed, unsigned *renewals)
{
    struct links *links;
    struct udp_socket udp = {.fd = -1, .port = PORT, .group.s_addr = inet_addr(SCREAM_UDP_GROUP)};
    assert_int_equal(links_open(&links), 0);
    links_update(links);
    assert_int_equal(udp_socket_open(&udp, links), 0);
    assert_int_equal(udp_socket_refresh(&udp, links, 0), 0);
    struct flood flood = {.wire = r->wire, .number = 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_flood, &flood), 0);
    unsigned received = 0;
    *renewals = 0;
    for (bool more = true; more;) {
        more = !atomic_load(&flood.done);
        uint8_t packet[2048];
        while (recv(udp.fd, packet, sizeof packet, MSG_DONTWAIT) > 0)
            atomic_store(&flood.received, ++received);
        for (unsigned i = 0; i < udp.joined_count; i++)
            udp.joined[i].renew_ns = udp.joined[i].index == (int)if_nametoindex(renewed) ? 0 : INT64_MAX;
        *renewals += udp_socket_renew(&udp, 1);
        struct timespec pause = {.tv_nsec = 200000};
        nanosleep(&pause, NULL);
    }
    pthread_join(thread, NULL);
    udp_socket_close(&udp);
    links_close(links);
    return received;
}

static void renewing_loses_nothing_elsewhere(void **state)
{
    struct rig *r = *state;
    add_cable(1);
    add_bridge(0, "type bridge");
    add_bridge(1, "type bridge");
    unsigned renewals;
    unsigned received = count_flood(r, "virbr0", &renewals);
    printf("%u of %u packets while another membership was renewed %u times\n", received, FLOOD, renewals);
    assert_int_equal(received, FLOOD);
    received = count_flood(r, "virbr1", &renewals);
    printf("%u of %u packets while their own was, %u times, at any moment\n", received, FLOOD, renewals);
}

/* A bridge's port is the bridge's: it takes none of the few memberships, nor does one that becomes a port. */
static void ports_are_not_joined(void **state)
{
    struct rig *r = *state;
    struct links *links;
    struct udp_socket udp = {.fd = -1, .port = PORT, .group.s_addr = inet_addr(SCREAM_UDP_GROUP)};
    ip("link set vnet0 up");
    assert_int_equal(links_open(&links), 0);
    links_update(links);
    assert_int_equal(udp_socket_open(&udp, links), 0);
    assert_int_equal(udp_socket_refresh(&udp, links, r->now_ns), 0);
    unsigned before = udp.joined_count; /* lo, vnet0, peer0 */
    add_bridge(0, "type bridge");
    assert_true(links_update(links));
    assert_int_equal(udp_socket_refresh(&udp, links, r->now_ns), 0);
    assert_int_equal(udp.joined_count, before); /* the bridge for vnet0 */
    for (unsigned i = 0; i < udp.joined_count; i++)
        assert_int_not_equal(udp.joined[i].index, if_nametoindex("vnet0"));
    udp_socket_close(&udp);
    links_close(links);
}

static void more_links_than_memberships(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 1; i < 15; i++) {
        add_cable(i);
        ip("link set vnet%u up", i);
    }
    listen_to(r, NULL);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_true(r->source->counters.unjoined > 0);
    for (unsigned i = 5; i < 15; i++)
        ip("link del peer%u", i);
    r->now_ns += SECOND;
    drain(r);
    assert_int_equal(r->source->counters.unjoined, 0);
}

/* As a sandbox does that allows AF_INET and AF_UNIX alone. */
static int refuse_netlink(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -1 : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int without_netlink(struct rig *r, int go)
{
    char byte;
    if (refuse_netlink() < 0)
        return 2;
    const struct source_udp_params params = {.port = PORT, .group = SCREAM_UDP_GROUP};
    if (source_udp_open(&r->source, &params) < 0 || r->source->watch_fd > 0)
        return 3;
    drain(r);
    if (r->source->status.state != SOURCE_LISTENING || heard(r, 0) != 0)
        return 4;
    if (read(go, &byte, 1) != 1) /* the bridge is there */
        return 5;
    r->now_ns = r->source->wake_ns;
    drain(r);
    return heard(r, 0) == 2 ? 0 : 6;
}

static void netlink_refused(void **state)
{
    struct rig *r = *state;
    int go[2], status;
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(without_netlink(r, go[0]));
    rest(50);
    add_bridge(0, "type bridge");
    assert_int_equal(write(go[1], "!", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(go[0]);
    close(go[1]);
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return size < 0 ? -1 : 0;
}

/* A network of our own: as root at once, else as the root of a user namespace. */
static int enter_namespace(void)
{
    if (unshare(CLONE_NEWNET) == 0)
        return 0;
    char map[64];
    snprintf(map, sizeof map, "0 %u 1", (unsigned)getuid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 || write_file("/proc/self/uid_map", map) < 0 ? -1 : 0;
}

int main(void)
{
    if (enter_namespace() < 0 || system("ip link set lo up") != 0) {
        printf("skipped: no network namespace, or no ip\n");
        return 77;
    }
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(bridge_comes_late),    RIGGED(the_chosen_bridge),
        RIGGED(the_same_index_again), RIGGED(snooping_without_a_querier),
        RIGGED(silence_is_doubted),   RIGGED(renewing_loses_nothing_elsewhere),
        RIGGED(ports_are_not_joined), RIGGED(more_links_than_memberships),
        RIGGED(netlink_refused),
    };
    return cmocka_run_group_tests_name("memberships", tests, NULL, NULL);
}
