/* SPDX-License-Identifier: MIT */
#include "receiver/links.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 32768 /* as much as the kernel puts into one datagram of a dump */
#define READS_MAX    256   /* at a time: nobody may keep us here */
#define FOLLOWED     (IFF_UP | IFF_RUNNING | IFF_LOOPBACK | IFF_POINTOPOINT | IFF_MULTICAST | IFF_SLAVE)
#define CONFIG_MAX   1024 /* addresses that the look without netlink sees */

struct address {
    int index;
    struct in_addr address;
    bool seen;
};

/* The table is right once links and addresses have been dumped; from then on each message is a change of it. */
enum links_state { DUMP_NEEDED, DUMP_LINKS, DUMP_ADDRESSES, UP_TO_DATE };

struct links {
    struct mnl_socket *socket; /* NULL: no netlink here */
    enum links_state state;
    bool interrupted;  /* something changed under the dump: once more */
    uint32_t sequence; /* of the dump that was asked for last */
    unsigned lives;
    struct link *list;
    struct address *addresses;
    unsigned count, capacity, address_count, address_capacity;
    _Alignas(struct nlmsghdr) uint8_t buffer[BUFFER_BYTES];
};

/* Room for one more. NULL: no memory, and the old array is still there. */
static void *grow(void *array, unsigned count, unsigned *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    void *larger = realloc(array, (size_t)(*capacity ? 2 * *capacity : 16) * size);
    if (larger)
        *capacity = *capacity ? 2 * *capacity : 16;
    return larger;
}

static struct link *find(const struct links *links, int index)
{
    for (unsigned i = 0; i < links->count; i++)
        if (links->list[i].index == index)
            return &links->list[i];
    return NULL;
}

static void renew(struct links *links, struct link *link)
{
    if (++links->lives == 0)
        links->lives++;
    link->life = links->lives;
}

static bool put_link(struct links *links, const struct link *now)
{
    struct link *link = find(links, now->index);
    if (!link) {
        struct link *list = grow(links->list, links->count, &links->capacity, sizeof *list);
        if (!list)
            return false;
        links->list = list;
        link = &list[links->count++];
        *link = *now;
        link->seen = true;
        renew(links, link);
        return true;
    }
    bool plugged_in = now->flags & IFF_RUNNING && !(link->flags & IFF_RUNNING);
    bool changed = link->flags != now->flags || link->port != now->port || strcmp(link->name, now->name) != 0;
    unsigned life = link->life;
    *link = *now;
    link->seen = true;
    link->life = life;
    if (plugged_in)
        renew(links, link);
    return changed;
}

static bool put_address(struct links *links, int index, struct in_addr address)
{
    bool first = true;
    for (unsigned i = 0; i < links->address_count; i++) {
        struct address *known = &links->addresses[i];
        if (known->index != index)
            continue;
        first = false;
        if (known->address.s_addr == address.s_addr) {
            known->seen = true;
            return false;
        }
    }
    struct address *addresses =
        grow(links->addresses, links->address_count, &links->address_capacity, sizeof *addresses);
    if (!addresses)
        return false;
    links->addresses = addresses;
    addresses[links->address_count++] = (struct address){index, address, true};
    struct link *link = find(links, index);
    if (first && link)
        renew(links, link);
    return true;
}

/* In order, so that the first address stays the first. */
static void remove_address(struct links *links, unsigned which)
{
    links->address_count--;
    memmove(&links->addresses[which], &links->addresses[which + 1],
            (links->address_count - which) * sizeof *links->addresses);
}

static bool drop_address(struct links *links, int index, struct in_addr address)
{
    for (unsigned i = 0; i < links->address_count; i++)
        if (links->addresses[i].index == index && links->addresses[i].address.s_addr == address.s_addr) {
            remove_address(links, i);
            return true;
        }
    return false;
}

static bool drop_link(struct links *links, int index)
{
    struct link *link = find(links, index);
    if (!link)
        return false;
    *link = links->list[--links->count];
    for (unsigned i = links->address_count; i-- > 0;)
        if (links->addresses[i].index == index)
            remove_address(links, i);
    return true;
}

static void forget_seen(struct links *links)
{
    for (unsigned i = 0; i < links->count; i++)
        links->list[i].seen = false;
    for (unsigned i = 0; i < links->address_count; i++)
        links->addresses[i].seen = false;
}

/* What a whole look did not show is gone. */
static bool sweep_links(struct links *links)
{
    bool changed = false;
    for (unsigned i = links->count; i-- > 0;)
        if (!links->list[i].seen)
            changed = drop_link(links, links->list[i].index) || changed;
    return changed;
}

static bool sweep_addresses(struct links *links)
{
    bool changed = false;
    for (unsigned i = links->address_count; i-- > 0;)
        if (!links->addresses[i].seen) {
            remove_address(links, i);
            changed = true;
        }
    return changed;
}

/* In a link's information: what the link is a port of, if anything. Ports of a VRF still receive for themselves. */
static int on_link_info(const struct nlattr *attribute, void *arg)
{
    struct link *link = arg;
    if (mnl_attr_get_type(attribute) == IFLA_INFO_SLAVE_KIND &&
        mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) == 0)
        link->port = strcmp(mnl_attr_get_str(attribute), "vrf") != 0;
    return MNL_CB_OK;
}

static int on_link_attribute(const struct nlattr *attribute, void *arg)
{
    struct link *link = arg;
    switch (mnl_attr_get_type(attribute)) {
    case IFLA_IFNAME:
        if (mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) < 0 ||
            mnl_attr_get_payload_len(attribute) > sizeof link->name)
            return MNL_CB_ERROR;
        memcpy(link->name, mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute));
        return MNL_CB_OK;
    case IFLA_LINKINFO:
        return mnl_attr_parse_nested(attribute, on_link_info, link);
    case IFLA_WIRELESS: /* news from the air, without all the rest */
        return MNL_CB_ERROR;
    default:
        return MNL_CB_OK;
    }
}

static bool take_link(struct links *links, const struct nlmsghdr *message)
{
    struct ifinfomsg info;
    if (mnl_nlmsg_get_payload_len(message) < sizeof info)
        return false;
    memcpy(&info, mnl_nlmsg_get_payload(message), sizeof info);
    /* A bridge tells of its ports in messages of its own: one that leaves it is not gone. */
    if (info.ifi_family != AF_UNSPEC || info.ifi_index <= 0)
        return false;
    if (message->nlmsg_type == RTM_DELLINK)
        return drop_link(links, info.ifi_index);
    struct link link = {.index = info.ifi_index, .flags = info.ifi_flags & FOLLOWED};
    return mnl_attr_parse(message, sizeof info, on_link_attribute, &link) == MNL_CB_OK && link.name[0] &&
           put_link(links, &link);
}

struct parsed_address {
    struct in_addr any, local; /* the other one is the peer's where the two differ */
};

static int on_address_attribute(const struct nlattr *attribute, void *arg)
{
    struct parsed_address *parsed = arg;
    if (mnl_attr_get_payload_len(attribute) != sizeof parsed->any)
        return MNL_CB_OK;
    if (mnl_attr_get_type(attribute) == IFA_LOCAL)
        memcpy(&parsed->local, mnl_attr_get_payload(attribute), sizeof parsed->local);
    else if (mnl_attr_get_type(attribute) == IFA_ADDRESS)
        memcpy(&parsed->any, mnl_attr_get_payload(attribute), sizeof parsed->any);
    return MNL_CB_OK;
}

static bool take_address(struct links *links, const struct nlmsghdr *message)
{
    struct ifaddrmsg info;
    struct parsed_address parsed = {0};
    if (mnl_nlmsg_get_payload_len(message) < sizeof info)
        return false;
    memcpy(&info, mnl_nlmsg_get_payload(message), sizeof info);
    if (info.ifa_family != AF_INET)
        return false;
    mnl_attr_parse(message, sizeof info, on_address_attribute, &parsed);
    struct in_addr address = parsed.local.s_addr ? parsed.local : parsed.any;
    if (address.s_addr == 0)
        return false;
    int index = (int)info.ifa_index;
    return message->nlmsg_type == RTM_DELADDR ? drop_address(links, index, address)
                                              : put_address(links, index, address);
}

static bool dump_done(struct links *links)
{
    bool changed = false;
    if (links->interrupted) {
        links->state = DUMP_NEEDED;
    } else if (links->state == DUMP_LINKS) {
        changed = sweep_links(links);
        links->state = DUMP_ADDRESSES; /* links_update() asks for them */
    } else if (links->state == DUMP_ADDRESSES) {
        changed = sweep_addresses(links);
        links->state = UP_TO_DATE;
    }
    return changed;
}

bool links_parse(struct links *links, const void *datagram, size_t size)
{
    bool changed = false;
    int left = size <= INT32_MAX ? (int)size : 0;
    /* mnl_nlmsg_ok() takes lengths beyond an int's for negative ones, and lets them pass. */
    for (const struct nlmsghdr *message = datagram;
         mnl_nlmsg_ok(message, left) && message->nlmsg_len <= (uint32_t)left;
         message = mnl_nlmsg_next(message, &left)) {
        bool asked = message->nlmsg_seq == links->sequence;
        links->interrupted = links->interrupted || (asked && message->nlmsg_flags & NLM_F_DUMP_INTR);
        switch (message->nlmsg_type) {
        case RTM_NEWLINK:
        case RTM_DELLINK:
            changed = take_link(links, message) || changed;
            break;
        case RTM_NEWADDR:
        case RTM_DELADDR:
            changed = take_address(links, message) || changed;
            break;
        case NLMSG_DONE:
            changed = (asked && dump_done(links)) || changed;
            break;
        case NLMSG_ERROR: /* no dump now: another one is still on its way */
            if (asked)
                links->state = DUMP_NEEDED;
            break;
        default:
            break;
        }
    }
    return changed;
}

static bool request(struct links *links, uint16_t type, unsigned char family)
{
    _Alignas(struct nlmsghdr) uint8_t bytes[64] = {0};
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    message->nlmsg_seq = ++links->sequence;
    /* Both kinds of request begin with the family, and this length does for both. */
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);
    info->ifi_family = family;
    return mnl_socket_sendto(links->socket, message, message->nlmsg_len) >= 0;
}

/* Messages were lost: whatever is on the list may have gone and come back meanwhile. */
static void start_over(struct links *links)
{
    links->state = DUMP_NEEDED;
    for (unsigned i = 0; i < links->count; i++)
        renew(links, &links->list[i]);
}

static bool read_netlink(struct links *links)
{
    bool changed = false;
    for (unsigned i = 0; i < READS_MAX; i++) {
        enum links_state before = links->state;
        if (before == DUMP_NEEDED) {
            forget_seen(links);
            links->interrupted = false;
            if (!request(links, RTM_GETLINK, AF_UNSPEC))
                break;
            links->state = DUMP_LINKS;
        }
        ssize_t size = mnl_socket_recvfrom(links->socket, links->buffer, sizeof links->buffer);
        if (size < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
            start_over(links);
            changed = true;
        } else if (size < 0 && errno != EINTR) {
            break;
        } else if (size > 0) {
            changed = links_parse(links, links->buffer, (size_t)size) || changed;
        }
        if (before != DUMP_ADDRESSES && links->state == DUMP_ADDRESSES && !request(links, RTM_GETADDR, AF_INET))
            links->state = DUMP_NEEDED;
    }
    return changed;
}

/* Knows only links that have an address, and no ports: those seldom have one. */
static bool look(struct links *links)
{
    struct ifreq *requests = calloc(CONFIG_MAX, sizeof *requests);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifconf config = {.ifc_len = CONFIG_MAX * (int)sizeof *requests, .ifc_req = requests};
    bool changed = false;
    if (!requests || fd < 0 || ioctl(fd, SIOCGIFCONF, &config) < 0)
        goto out;
    forget_seen(links);
    for (size_t i = 0; i < (size_t)config.ifc_len / sizeof *requests; i++) {
        struct ifreq *r = &requests[i];
        struct sockaddr_in in;
        memcpy(&in, &r->ifr_addr, sizeof in);
        char *alias = memchr(r->ifr_name, ':', sizeof r->ifr_name);
        if (alias)
            *alias = 0;
        struct link link = {0};
        memcpy(link.name, r->ifr_name, sizeof link.name - 1);
        if (in.sin_family != AF_INET || ioctl(fd, SIOCGIFINDEX, r) < 0)
            continue;
        link.index = r->ifr_ifindex;
        if (ioctl(fd, SIOCGIFFLAGS, r) < 0)
            continue;
        link.flags = (unsigned)(unsigned short)r->ifr_flags & FOLLOWED;
        changed = put_link(links, &link) || changed;
        changed = put_address(links, link.index, in.sin_addr) || changed;
    }
    changed = sweep_links(links) || changed;
    changed = sweep_addresses(links) || changed;
out:
    if (fd >= 0)
        close(fd);
    free(requests);
    return changed;
}

bool links_update(struct links *links)
{
    return links->socket ? read_netlink(links) : look(links);
}

int links_open(struct links **links)
{
    struct links *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (l->socket && mnl_socket_bind(l->socket, RTMGRP_LINK | RTMGRP_IPV4_IFADDR, MNL_SOCKET_AUTOPID) < 0) {
        mnl_socket_close(l->socket);
        l->socket = NULL;
    }
    *links = l;
    return 0;
}

void links_close(struct links *links)
{
    if (!links)
        return;
    if (links->socket)
        mnl_socket_close(links->socket);
    free(links->list);
    free(links->addresses);
    free(links);
}

int links_fd(const struct links *links)
{
    return links->socket ? mnl_socket_get_fd(links->socket) : -1;
}

const struct link *links_list(const struct links *links, unsigned *count)
{
    *count = links->count;
    return links->list;
}

bool links_has_address(const struct links *links, int index, struct in_addr address)
{
    for (unsigned i = 0; i < links->address_count; i++)
        if (links->addresses[i].index == index && links->addresses[i].address.s_addr == address.s_addr)
            return true;
    return false;
}

bool links_address(const struct links *links, int index, struct in_addr *address)
{
    for (unsigned i = 0; i < links->address_count; i++)
        if (links->addresses[i].index == index) {
            *address = links->addresses[i].address;
            return true;
        }
    return false;
}
