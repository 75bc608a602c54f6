/* SPDX-License-Identifier: MIT
 *
 * What the real source does about ports, interfaces and groups.
 */
#include "tests/unit/source_udp_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Another process that has the port, until `end` is closed. */
static pid_t hold_port(uint16_t port, int *end)
{
    int ready[2], ends[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[1]);
        rig_socket_at("0.0.0.0", port);
        _exit(write(ready[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(ready[1]);
    close(ends[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *end = ends[1];
    return pid;
}

static void busy_port(void **state)
{
    struct rig *r = *state;
    int end, status = -1;
    pid_t holder = hold_port(r->port, &end);
    rig_wait(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_PORT_BUSY);
    assert_int_equal(r->source->fd, -1);
    char pid[24];
    snprintf(pid, sizeof pid, "pid %d", (int)holder);
    assert_non_null(strstr(r->source->status.detail, pid));
    assert_non_null(strstr(r->source->status.detail, "test_source_udp"));
    rig_wait(r, 3 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_PORT_BUSY);
    close(end);
    assert_int_equal(waitpid(holder, &status, 0), holder);
    assert_int_equal(status, 0);
    assert_true(r->source->wake_ns <= r->now_ns + RIG_SECOND / 2);
    r->now_ns = r->source->wake_ns;
    rig_wait(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_string_equal(r->source->status.detail, "");
    rig_start(r, 0, &rig_stereo);
}

/* Who is told to close what has the port must not be shown himself. */
static void port_of_our_own(void **state)
{
    struct rig *r = *state;
    char wanted[160];
    int other = rig_socket_at("0.0.0.0", r->port);
    rig_wait(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_PORT_BUSY);
    snprintf(wanted, sizeof wanted,
             "UDP port %u is in use by another of Earshot's own configurations: give one of them another port",
             (unsigned)r->port);
    assert_string_equal(r->source->status.detail, wanted);
    close(other);
    r->now_ns = r->source->wake_ns;
    rig_wait(r, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
}

static void missing_interface(void **state)
{
    struct rig *r = *state;
    static const char *const names[] = {"earshot-none", "203.0.113.77"};
    for (unsigned i = 0; i < 2; i++)
        for (unsigned multicast = 0; multicast < 2; multicast++) {
            rig_open(r, &(struct source_udp_params){
                            .port = r->port, .group = multicast ? SCREAM_UDP_GROUP : NULL, .interface = names[i]});
            rig_wait(r, 0);
            assert_int_equal(r->source->status.state, SOURCE_NO_INTERFACE);
            assert_non_null(strstr(r->source->status.detail, names[i]));
            assert_int_equal(r->source->wake_ns, r->now_ns + RIG_SECOND / 2);
            rig_wait(r, RIG_SECOND);
            assert_int_equal(r->source->wake_ns, r->now_ns + RIG_SECOND / 2);
        }
}

static void send_multicast(struct rig *r, const char *group)
{
    if (r->sockets[0] < 0)
        r->sockets[0] = rig_socket_at("0.0.0.0", 0);
    struct ip_mreqn via = {.imr_ifindex = (int)if_nametoindex("lo")};
    assert_int_equal(setsockopt(r->sockets[0], IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof via), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(r->port)};
    assert_int_equal(inet_pton(AF_INET, group, &to.sin_addr), 1);
    uint8_t packet[SCREAM_UDP_HEADER_BYTES + 64] = {0};
    scream_udp_build(packet, &rig_stereo);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(sendto(r->sockets[0], packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to),
                         sizeof packet);
}

static void multicast(void **state)
{
    struct rig *r = *state;
    static const char *const interfaces[] = {NULL, "lo", "127.0.0.1"};
    for (unsigned i = 0; i < 3; i++) {
        rig_open(r,
                 &(struct source_udp_params){.port = r->port, .group = SCREAM_UDP_GROUP, .interface = interfaces[i]});
        rig_wait(r, 0);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
        send_multicast(r, SCREAM_UDP_GROUP);
        rig_drain(r);
        assert_int_equal(r->count, 2);
        rig_wait(r, 60 * RIG_SECOND); /* looking at the interfaces again keeps what is there */
        send_multicast(r, SCREAM_UDP_GROUP);
        rig_drain(r);
        assert_int_equal(r->count, 2);
        rig_send(r, 1, &rig_stereo, 64, 1); /* unicast is heard as well */
        rig_send(r, 1, &rig_stereo, 64, 1);
        rig_drain(r);
        assert_int_equal(r->count, 2);
    }
    /* A group that another program joined is not ours. */
    int other = rig_socket_at("0.0.0.0", 0);
    struct ip_mreqn request = {.imr_ifindex = (int)if_nametoindex("lo")};
    assert_int_equal(inet_pton(AF_INET, "239.255.77.99", &request.imr_multiaddr), 1);
    assert_int_equal(setsockopt(other, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request), 0);
    send_multicast(r, "239.255.77.99");
    rig_drain(r);
    assert_int_equal(r->count, 0);
    close(other);
}

/* Memberships are renewed once a minute: behind packets where there are any, else a second later. */
static void renews(void **state)
{
    struct rig *r = *state;
    rig_open(r, &(struct source_udp_params){.port = r->port, .group = SCREAM_UDP_GROUP, .interface = "lo"});
    rig_wait(r, 0);
    int64_t joined_ns = r->now_ns;
    assert_true(r->source->wake_ns <= joined_ns + 60 * RIG_SECOND);
    rig_wait(r, 60 * RIG_SECOND + 800 * RIG_MS);
    assert_int_equal(r->source->wake_ns, joined_ns + 61 * RIG_SECOND); /* nothing came, so not yet */
    send_multicast(r, SCREAM_UDP_GROUP);
    rig_drain(r);
    assert_int_equal(r->count, 2);
    joined_ns = r->now_ns;
    assert_int_equal(r->source->wake_ns, joined_ns + RIG_SECOND / 2); /* done, and now silence will be doubted */
    r->now_ns = joined_ns + 61 * RIG_SECOND;
    rig_wait(r, 0); /* and nothing comes */
    assert_int_equal(r->source->wake_ns, r->now_ns + RIG_SECOND);
    send_multicast(r, SCREAM_UDP_GROUP);
    rig_drain(r);
    assert_int_equal(r->count, 2);
}

/* What was heard and falls silent: renewed after half a second, after one more, after two, ..., and then as always. */
static void doubts_silence(void **state)
{
    struct rig *r = *state;
    rig_open(r, &(struct source_udp_params){.port = r->port, .group = SCREAM_UDP_GROUP, .interface = "lo"});
    rig_wait(r, 0);
    assert_true(r->source->wake_ns > r->now_ns + 50 * RIG_SECOND); /* nobody was heard */
    for (unsigned turn = 0; turn < 2; turn++) {
        send_multicast(r, SCREAM_UDP_GROUP);
        rig_drain(r);
        for (int64_t wait_ns = RIG_SECOND / 2; wait_ns < 20 * RIG_SECOND; wait_ns *= 2) {
            assert_int_equal(r->source->wake_ns, r->now_ns + wait_ns);
            rig_wait(r, wait_ns - 1);
            assert_int_equal(r->source->wake_ns, r->now_ns + 1);
            rig_wait(r, 1);
        }
        rig_wait(r, 60 * RIG_SECOND); /* the last of them, and what is done each minute */
        assert_true(r->source->wake_ns > r->now_ns + 50 * RIG_SECOND);
    }
    send_multicast(r, SCREAM_UDP_GROUP);
    rig_drain(r);
    assert_int_equal(r->count, 2);
}

static void unicast_on_one_interface(void **state)
{
    struct rig *r = *state;
    static const char *const interfaces[] = {"lo", "127.0.0.1"};
    for (unsigned i = 0; i < 2; i++) {
        rig_open(r, &(struct source_udp_params){.port = r->port, .interface = interfaces[i]});
        rig_wait(r, 0);
        assert_int_equal(r->source->status.state, SOURCE_LISTENING);
        rig_start(r, 0, &rig_stereo);
        rig_wait(r, 20 * RIG_SECOND);
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
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(busy_port),
        RIGGED(port_of_our_own),
        RIGGED(missing_interface),
        RIGGED(multicast),
        RIGGED(renews),
        RIGGED(doubts_silence),
        RIGGED(unicast_on_one_interface),
        cmocka_unit_test(bad_parameters),
    };
    return cmocka_run_group_tests_name("source_udp_network", tests, NULL, NULL);
}
