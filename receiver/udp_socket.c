/* SPDX-License-Identifier: MIT */
#include "receiver/udp_socket.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* 300 ms of the largest stream are 1600 packets, of 2.3 kB each with the kernel's own. */
#define RECEIVE_BUFFER_BYTES (4 << 20)

/* The address a unicast socket shall listen at: any, or the chosen interface's. */
static int unicast_address(const struct udp_socket *udp, struct in_addr *address)
{
    address->s_addr = htonl(INADDR_ANY);
    if (!udp->interface || udp->group.s_addr || inet_pton(AF_INET, udp->interface, address) == 1)
        return 0;
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return -errno;
    int result = -ENODEV;
    for (const struct ifaddrs *i = list; i && result < 0; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || strcmp(i->ifa_name, udp->interface) != 0)
            continue;
        struct sockaddr_in in;
        memcpy(&in, i->ifa_addr, sizeof in);
        *address = in.sin_addr;
        result = 0;
    }
    freeifaddrs(list);
    return result;
}

int udp_socket_open(struct udp_socket *udp)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(udp->port)};
    int error = unicast_address(udp, &local.sin_addr);
    if (error < 0)
        return error;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int on = 1, off = 0, bytes = RECEIVE_BUFFER_BYTES;
    /* Beyond the system's limit only root may go; as much as is granted is fine. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    /* Without these the source does its best with the time it reads itself. */
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    /* Else groups that other programs join would be heard, too, and on interfaces nobody chose. */
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof off);
    if (bind(fd, (const struct sockaddr *)&local, sizeof local) < 0) {
        error = errno == EADDRNOTAVAIL ? -ENODEV : -errno;
        close(fd);
        return error;
    }
    udp->fd = fd;
    udp->bound = local.sin_addr;
    udp->joined_count = 0;
    return 0;
}

void udp_socket_close(struct udp_socket *udp)
{
    if (udp->fd >= 0)
        close(udp->fd);
    udp->fd = -1;
    udp->joined_count = 0;
}

/* A bridge's port hands its packets to the bridge, which is joined: memberships are few (20 by default). */
static bool is_bridge_port(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/class/net/%.32s/brport", name);
    return access(path, F_OK) == 0;
}

static bool suitable(const struct ifaddrs *link)
{
    unsigned flags = link->ifa_flags;
    return flags & IFF_UP && flags & (IFF_MULTICAST | IFF_LOOPBACK) && !(flags & (IFF_POINTOPOINT | IFF_SLAVE)) &&
           !is_bridge_port(link->ifa_name);
}

/* Does the option name this link, by name or by one of its addresses? */
static bool chosen(const struct udp_socket *udp, const struct ifaddrs *list, const struct ifaddrs *link)
{
    struct in_addr wanted;
    if (inet_pton(AF_INET, udp->interface, &wanted) != 1)
        return strcmp(udp->interface, link->ifa_name) == 0;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || strcmp(i->ifa_name, link->ifa_name) != 0)
            continue;
        struct sockaddr_in in;
        memcpy(&in, i->ifa_addr, sizeof in);
        if (in.sin_addr.s_addr == wanted.s_addr)
            return true;
    }
    return false;
}

static bool is_joined(const struct udp_socket *udp, int index)
{
    for (unsigned i = 0; i < udp->joined_count; i++)
        if (udp->joined[i] == index)
            return true;
    return false;
}

static void join(struct udp_socket *udp, int index)
{
    if (udp->joined_count == UDP_JOINED_MAX)
        return;
    struct ip_mreqn request = {.imr_multiaddr = udp->group, .imr_ifindex = index};
    if (setsockopt(udp->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request) == 0 || errno == EADDRINUSE)
        udp->joined[udp->joined_count++] = index;
}

/* The kernel keeps counting a membership whose interface is gone. */
static void leave(struct udp_socket *udp, unsigned which)
{
    struct ip_mreqn request = {.imr_multiaddr = udp->group, .imr_ifindex = udp->joined[which]};
    setsockopt(udp->fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &request, sizeof request);
    udp->joined[which] = udp->joined[--udp->joined_count];
}

static int link_index(const struct ifaddrs *i)
{
    if (!i->ifa_addr || i->ifa_addr->sa_family != AF_PACKET)
        return 0;
    struct sockaddr_ll link;
    memcpy(&link, i->ifa_addr, sizeof link);
    return link.sll_ifindex;
}

int udp_socket_refresh(struct udp_socket *udp)
{
    if (!udp->group.s_addr) {
        struct in_addr address;
        int error = unicast_address(udp, &address);
        return error < 0 ? error : address.s_addr == udp->bound.s_addr ? 0 : -ESTALE;
    }
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return -errno;
    for (unsigned i = udp->joined_count; i-- > 0;) {
        bool there = false;
        for (const struct ifaddrs *link = list; link && !there; link = link->ifa_next)
            there = link_index(link) == udp->joined[i] && (!udp->interface || chosen(udp, list, link));
        if (!there)
            leave(udp, i);
    }
    for (const struct ifaddrs *link = list; link; link = link->ifa_next) {
        int index = link_index(link);
        if (index > 0 && !is_joined(udp, index) && (udp->interface ? chosen(udp, list, link) : suitable(link)))
            join(udp, index);
    }
    freeifaddrs(list);
    return udp->joined_count > 0 ? 0 : -ENODEV;
}

/* One line of a table in /proc/net: "0: ADDRESS:PORT ..." in hexadecimal, the inode in the tenth field. The inode, or 0
 * where the line is about another port. */
static unsigned long line_inode(char *line, uint16_t port)
{
    char *rest = NULL, *local = NULL;
    char *field = strtok_r(line, " ", &rest);
    for (unsigned i = 0; field && i < 9; i++) {
        if (i == 1)
            local = field;
        field = strtok_r(NULL, " ", &rest);
    }
    const char *colon = field && local ? strrchr(local, ':') : NULL;
    return colon && strtoul(colon + 1, NULL, 16) == port ? strtoul(field, NULL, 10) : 0;
}

/* The inode of a socket bound to the port; 0: none. */
static unsigned long port_inode(const char *table, uint16_t port)
{
    FILE *file = fopen(table, "re");
    if (!file)
        return 0;
    char line[512];
    unsigned long inode = 0;
    while (inode == 0 && fgets(line, sizeof line, file))
        inode = line_inode(line, port);
    fclose(file);
    return inode;
}

static bool has_socket(const char *pid, const char *wanted)
{
    char path[320], link[64];
    snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    bool found = false;
    for (const struct dirent *entry = readdir(dir); entry && !found; entry = readdir(dir)) {
        ssize_t length = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);
        if (length < 0)
            continue;
        link[length] = 0;
        found = strcmp(link, wanted) == 0;
    }
    closedir(dir);
    return found;
}

bool udp_port_holder(uint16_t port, char *out, size_t size)
{
    unsigned long inode = port_inode("/proc/net/udp", port);
    if (inode == 0)
        inode = port_inode("/proc/net/udp6", port);
    if (inode == 0)
        return false;
    char wanted[48];
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *proc = opendir("/proc");
    if (!proc)
        return false;
    bool found = false;
    for (const struct dirent *entry = readdir(proc); entry && !found; entry = readdir(proc)) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !has_socket(entry->d_name, wanted))
            continue;
        char path[64], name[17] = "";
        snprintf(path, sizeof path, "/proc/%.16s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file) {
            if (!fgets(name, sizeof name, file))
                name[0] = 0;
            fclose(file);
        }
        name[strcspn(name, "\n")] = 0;
        for (char *c = name; *c; c++)
            if (!isprint((unsigned char)*c)) /* the process chose it */
                *c = '?';
        snprintf(out, size, "%s (pid %.16s)", name[0] ? name : "a program", entry->d_name);
        found = true;
    }
    closedir(proc);
    return found;
}
