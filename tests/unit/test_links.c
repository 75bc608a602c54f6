/* SPDX-License-Identifier: MIT
 *
 * Recorded from a kernel (6.18, x86-64) in a network namespace of its own, while `ip` did what stands beside each
 * message. Of their attributes, those that links.c reads and a few that it does not are still there.
 */
#include "receiver/links.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* name, MTU, kind; of a port also its master and the kind of that */
#define BRIDGE_TAIL "0b000300766972627230000008000400dc050000100012000b0001006272696467650000"
#define VETH_TAIL   "0a000300766e65743000000008000400dc05000010001200090001007665746800000000"
#define PORT_TAIL                                                                                                    \
    "0a000300766e65743000000008000400dc05000008000a00020000001c0012000900010076657468000000000b00040062726964676500" \
    "00"
/* as the bridge tells of it: name, master, MTU */
#define FAMILY_TAIL "0a000300766e65743000000008000a000200000008000400dc050000"
#define ADDRESS_TAIL                                                                                                 \
    "021880000200000008000100c0a87a0108000200c0a87a010b0003007669726272300000080008008000000014000600ffffffffffffff" \
    "ffc1c00300c1c00300"

enum { BRIDGE = 2, VNET = 4 };

static const char created[] = "44000000100000000000000000000000000001000200000002100000ffffffff" BRIDGE_TAIL;
static const char set_up[] = "4400000010000000000000000000000000000100020000004310010001000000" BRIDGE_TAIL;
static const char addressed[] = "50000000140000000000000000000000" ADDRESS_TAIL;
static const char veth[] = "44000000100000000000000000000000000001000400000002100000ffffffff" VETH_TAIL;
static const char enslaved[] = "5800000010000000000000000000000000000100040000000210000000000000" PORT_TAIL;
static const char of_bridge[] = "3c00000010000000000000000000000007000100040000000210000000000000" FAMILY_TAIL;
static const char waits[] = "4400000010000000000000000000000000000100020000000310000000000000" BRIDGE_TAIL;
static const char port_up[] = "5800000010000000000000000000000000000100040000000310000001000000" PORT_TAIL;
static const char plugged[] = "5800000010000000000000000000000000000100040000004310010000000000" PORT_TAIL;
static const char carrier[] = "4400000010000000000000000000000000000100020000004310010000000000" BRIDGE_TAIL;
static const char farewell[] = "3c00000011000000000000000000000007000100040000004310010000000000" FAMILY_TAIL;
static const char freed[] = "4400000010000000000000000000000000000100040000004310010000000000" VETH_TAIL;
static const char unaddressed[] = "50000000150000000000000000000000" ADDRESS_TAIL;
static const char deleted[] = "44000000110000000000000000000000000001000200000002100000ffffffff" BRIDGE_TAIL;

#define UP      (IFF_UP | IFF_MULTICAST)
#define RUNNING (UP | IFF_RUNNING)

static const struct row {
    const char *what;
    const char *hex;
    bool changed;
    bool new_life; /* of the link it is about */
    int index;
    unsigned flags; /* afterwards; 0: it is not there */
    bool port;
} rows[] = {
    {"link add virbr0 type bridge",                    created,     true,  true,  BRIDGE, IFF_MULTICAST, false},
    {"link set virbr0 up",                             set_up,      true,  true,  BRIDGE, RUNNING,       false},
    {"addr add 192.168.122.1/24 dev virbr0",           addressed,   true,  true,  BRIDGE, RUNNING,       false},
    {"again",                                          addressed,   false, false, BRIDGE, RUNNING,       false},
    {"link add vnet0 type veth",                       veth,        true,  true,  VNET,   IFF_MULTICAST, false},
    {"link set vnet0 master virbr0",                   enslaved,    true,  false, VNET,   IFF_MULTICAST, true },
    {"the bridge about it",                            of_bridge,   false, false, VNET,   IFF_MULTICAST, true },
    {"the bridge waits for a carrier",                 waits,       true,  false, BRIDGE, UP,            false},
    {"link set vnet0 up",                              port_up,     true,  false, VNET,   UP,            true },
    {"the other end goes up",                          plugged,     true,  true,  VNET,   RUNNING,       true },
    {"the bridge has a carrier again",                 carrier,     true,  true,  BRIDGE, RUNNING,       false},
    {"link set vnet0 nomaster: the bridge's farewell", farewell,    false, false, VNET,   RUNNING,       true },
    {"and the link's",                                 freed,       true,  false, VNET,   RUNNING,       false},
    {"addr del 192.168.122.1/24 dev virbr0",           unaddressed, true,  false, BRIDGE, RUNNING,       false},
    {"link del virbr0",                                deleted,     true,  false, BRIDGE, 0,             false},
    {"the same index again",                           created,     true,  true,  BRIDGE, IFF_MULTICAST, false},
};

#define ROWS (sizeof rows / sizeof rows[0])

struct message {
    _Alignas(struct nlmsghdr) uint8_t bytes[512];
    size_t size;
};

static struct message recorded(const char *hex)
{
    struct message message = {.size = strlen(hex) / 2};
    assert_true(strlen(hex) % 2 == 0 && message.size <= sizeof message.bytes);
    for (size_t i = 0; i < message.size; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        message.bytes[i] = (uint8_t)byte;
    }
    struct nlmsghdr header;
    memcpy(&header, message.bytes, sizeof header);
    assert_int_equal(header.nlmsg_len, message.size);
    return message;
}

static const struct link *find(const struct links *links, int index)
{
    unsigned count;
    const struct link *list = links_list(links, &count);
    for (unsigned i = 0; i < count; i++)
        if (list[i].index == index)
            return &list[i];
    return NULL;
}

static int setup(void **state)
{
    struct links *links = NULL;
    assert_int_equal(links_open(&links), 0);
    *state = links;
    return 0;
}

static int teardown(void **state)
{
    links_close(*state);
    return 0;
}

static void a_bridge_comes_and_goes(void **state)
{
    struct links *links = *state;
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        const struct link *link = find(links, row->index);
        unsigned life = link ? link->life : 0;
        struct message message = recorded(row->hex);
        bool changed = links_parse(links, message.bytes, message.size);
        link = find(links, row->index);
        if (changed != row->changed || (link ? link->flags : 0) != row->flags || (link && link->port != row->port) ||
            (link && (link->life != life) != row->new_life) || (link && link->life == 0))
            fail_msg("%s: changed %d, flags %x, port %d, life %u to %u", row->what, changed, link ? link->flags : 0,
                     link ? link->port : 0, life, link ? link->life : 0);
        if (link)
            assert_string_equal(link->name, row->index == BRIDGE ? "virbr0" : "vnet0");
    }
}

static void addresses_belong_to_links(void **state)
{
    struct links *links = *state;
    struct in_addr address = {0}, wanted = {inet_addr("192.168.122.1")};
    for (size_t i = 0; i < 3; i++) {
        assert_false(links_has_address(links, BRIDGE, wanted));
        assert_false(links_address(links, BRIDGE, &address));
        struct message message = recorded(rows[i].hex);
        links_parse(links, message.bytes, message.size);
    }
    assert_true(links_has_address(links, BRIDGE, wanted));
    assert_false(links_has_address(links, VNET, wanted));
    assert_true(links_address(links, BRIDGE, &address));
    assert_int_equal(address.s_addr, wanted.s_addr);

    struct message gone = recorded(rows[ROWS - 2].hex);
    assert_true(links_parse(links, gone.bytes, gone.size));
    assert_false(links_has_address(links, BRIDGE, wanted));
}

static void several_in_one_datagram(void **state)
{
    struct links *links = *state;
    _Alignas(struct nlmsghdr) uint8_t bytes[1024];
    size_t size = 0;
    for (size_t i = 0; i < 6; i++) {
        struct message message = recorded(rows[i].hex);
        memcpy(bytes + size, message.bytes, message.size);
        size += message.size;
    }
    assert_true(links_parse(links, bytes, size));
    assert_non_null(find(links, BRIDGE));
    assert_true(find(links, VNET)->port);
    assert_false(links_parse(links, bytes, 0));
}

/* A wireless link says that it scans in a message that has its name and flags, but not what it is a port of. */
static void wireless_news_change_nothing(void **state)
{
    struct links *links = *state;
    struct message port = recorded(rows[5].hex), news = recorded(rows[12].hex);
    links_parse(links, port.bytes, port.size);
    assert_true(find(links, VNET)->port);
    struct nlmsghdr header;
    memcpy(&header, news.bytes, sizeof header);
    struct rtattr wireless = {.rta_len = sizeof wireless + 4, .rta_type = IFLA_WIRELESS};
    memcpy(news.bytes + news.size, &wireless, sizeof wireless);
    news.size += sizeof wireless + 4;
    header.nlmsg_len = (uint32_t)news.size;
    memcpy(news.bytes, &header, sizeof header);
    assert_false(links_parse(links, news.bytes, news.size));
    assert_true(find(links, VNET)->port);
}

/* Nothing is read beyond what is there (ASan), and half a message makes no link without a name. */
static void cut_and_mutated(void **state)
{
    struct links *links = *state;
    uint32_t random = 1;
    for (size_t i = 0; i < ROWS; i++) {
        struct message message = recorded(rows[i].hex);
        for (size_t size = 0; size <= message.size; size++)
            for (unsigned told = 0; told < 2; told++) {
                struct message *cut = malloc(sizeof *cut);
                assert_non_null(cut);
                memcpy(cut->bytes, message.bytes, message.size);
                struct nlmsghdr header;
                memcpy(&header, cut->bytes, sizeof header);
                header.nlmsg_len = told ? (uint32_t)size : header.nlmsg_len;
                memcpy(cut->bytes, &header, sizeof header);
                links_parse(links, cut->bytes, size);
                free(cut);
            }
        for (unsigned round = 0; round < 2000; round++) {
            struct message mutated = message;
            for (unsigned n = 0; n < 3; n++) {
                random = random * 1664525 + 1013904223;
                mutated.bytes[(random >> 8) % message.size] = (uint8_t)(random >> 24);
            }
            links_parse(links, mutated.bytes, mutated.size);
        }
    }
    unsigned count;
    const struct link *list = links_list(links, &count);
    for (unsigned i = 0; i < count; i++)
        assert_true(list[i].index > 0 && list[i].name[0] && list[i].life);
}

/* What every machine has. */
static void the_real_ones(void **state)
{
    struct links *links = *state;
    assert_true(links_update(links));
    struct in_addr loopback = {htonl(INADDR_LOOPBACK)}, address;
    int index = (int)if_nametoindex("lo");
    assert_true(index > 0);
    const struct link *lo = find(links, index);
    assert_non_null(lo);
    assert_string_equal(lo->name, "lo");
    assert_true(lo->flags & IFF_LOOPBACK);
    assert_false(lo->port);
    assert_true(links_has_address(links, index, loopback));
    assert_true(links_address(links, index, &address));
    unsigned life = lo->life, count;
    links_list(links, &count);
    assert_true(links_fd(links) >= 0);
    links_update(links);
    assert_int_equal(find(links, index)->life, life);
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(a_bridge_comes_and_goes), RIGGED(addresses_belong_to_links),    RIGGED(several_in_one_datagram),
        RIGGED(cut_and_mutated),         RIGGED(wireless_news_change_nothing), RIGGED(the_real_ones),
    };
    return cmocka_run_group_tests_name("links", tests, NULL, NULL);
}
