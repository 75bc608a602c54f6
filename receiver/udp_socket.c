/* SPDX-License-Identifier: MIT */
#include "receiver/udp_socket.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel doubles it, for its own. Lasts 0.68 s at 192 kHz, 32 bit, 8 channels (5333 packets a second). */
#define RECEIVE_BUFFER_BYTES (4 << 20)
/* What the kernel counts for a packet: its data with headers and room for more, in a block of a power of two, and a
 * struct sk_buff. */
#define PACKET_OVERHEAD_BYTES 384u
#define PACKET_STRUCT_BYTES   256u

/* The link that the option names. */
static const struct link *named_link(const struct udp_socket *udp, const struct links *links)
{
    unsigned count;
    const struct link *list = links_list(links, &count);
    for (unsigned i = 0; i < count; i++)
        if (strcmp(list[i].name, udp->interface) == 0)
            return &list[i];
    return NULL;
}

/* The address a unicast socket shall listen at: any, or the chosen interface's. */
static int unicast_address(const struct udp_socket *udp, const struct links *links, struct in_addr *address)
{
    address->s_addr = htonl(INADDR_ANY);
    if (!udp->interface || udp->group.s_addr || inet_pton(AF_INET, udp->interface, address) == 1)
        return 0;
    const struct link *link = named_link(udp, links);
    return link && links_address(links, link->index, address) ? 0 : -ENODEV;
}

static void set_buffer(struct udp_socket *udp, int fd)
{
    const int wanted = RECEIVE_BUFFER_BYTES;
    int granted = 0;
    socklen_t length = sizeof granted;
    /* Beyond the system's limit only root may go; as much as is granted is fine. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof wanted) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &length);
    udp->buffer_bytes = granted > 0 ? (unsigned)granted : 0;
    udp->buffer_limited = granted < 2 * wanted;
}

int64_t udp_socket_buffer_ns(const struct udp_socket *udp, size_t packet_bytes, int64_t packet_ns)
{
    size_t block = 512;
    while (block < packet_bytes + PACKET_OVERHEAD_BYTES)
        block *= 2;
    return (int64_t)(udp->buffer_bytes / (block + PACKET_STRUCT_BYTES)) * packet_ns;
}

int udp_socket_open(struct udp_socket *udp, const struct links *links)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(udp->port)};
    int error = unicast_address(udp, links, &local.sin_addr);
    if (error < 0)
        return error;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int on = 1, off = 0;
    set_buffer(udp, fd);
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
    udp->joined_count = udp->unjoined = 0;
    return 0;
}

void udp_socket_close(struct udp_socket *udp)
{
    if (udp->fd >= 0)
        close(udp->fd);
    udp->fd = -1;
    udp->joined_count = udp->unjoined = 0;
}

/* Is this one of the links to listen on? A bridge's port hands its packets to the bridge, which is joined: memberships
 * are few (20 by default). */
static bool chosen(const struct udp_socket *udp, const struct links *links, const struct link *link)
{
    struct in_addr wanted;
    if (!udp->interface)
        return link->flags & (IFF_MULTICAST | IFF_LOOPBACK) && !(link->flags & (IFF_POINTOPOINT | IFF_SLAVE)) &&
               !link->port;
    if (inet_pton(AF_INET, udp->interface, &wanted) == 1)
        return links_has_address(links, link->index, wanted);
    return strcmp(udp->interface, link->name) == 0;
}

/* The membership's link, if it is still the one that was joined and is wanted. */
static bool in_place(const struct udp_socket *udp, const struct links *links, const struct udp_membership *membership)
{
    unsigned count;
    const struct link *list = links_list(links, &count);
    for (unsigned i = 0; i < count; i++)
        if (list[i].index == membership->index)
            return list[i].life == membership->life && chosen(udp, links, &list[i]);
    return false;
}

static bool is_joined(const struct udp_socket *udp, int index)
{
    for (unsigned i = 0; i < udp->joined_count; i++)
        if (udp->joined[i].index == index)
            return true;
    return false;
}

static int set_membership(const struct udp_socket *udp, int option, int index)
{
    struct ip_mreqn request = {.imr_multiaddr = udp->group, .imr_ifindex = index};
    return setsockopt(udp->fd, IPPROTO_IP, option, &request, sizeof request) < 0 ? -errno : 0;
}

static void join(struct udp_socket *udp, const struct link *link, int64_t now_ns)
{
    int error = udp->joined_count < UDP_JOINED_MAX ? set_membership(udp, IP_ADD_MEMBERSHIP, link->index) : -ENOBUFS;
    if (error == 0 || error == -EADDRINUSE)
        udp->joined[udp->joined_count++] = (struct udp_membership){link->index, link->life, now_ns + UDP_RENEW_NS};
    else if (error == -ENOBUFS)
        udp->unjoined++;
}

/* Also of a link that is gone: the kernel goes on counting the membership. */
static void leave(struct udp_socket *udp, unsigned which)
{
    set_membership(udp, IP_DROP_MEMBERSHIP, udp->joined[which].index);
    udp->joined[which] = udp->joined[--udp->joined_count];
}

int udp_socket_refresh(struct udp_socket *udp, const struct links *links, int64_t now_ns)
{
    if (!udp->group.s_addr) {
        struct in_addr address;
        int error = unicast_address(udp, links, &address);
        return error < 0 ? error : address.s_addr == udp->bound.s_addr ? 0 : -ESTALE;
    }
    for (unsigned i = udp->joined_count; i-- > 0;)
        if (!in_place(udp, links, &udp->joined[i]))
            leave(udp, i);
    unsigned count;
    const struct link *list = links_list(links, &count);
    udp->unjoined = 0;
    for (unsigned i = 0; i < count; i++)
        /* Of all there are, those that are up; one that was asked for by name, at once. */
        if ((udp->interface || list[i].flags & IFF_UP) && chosen(udp, links, &list[i]) &&
            !is_joined(udp, list[i].index))
            join(udp, &list[i], now_ns);
    return udp->joined_count > 0 ? 0 : -ENODEV;
}

int64_t udp_socket_renew_ns(const struct udp_socket *udp)
{
    int64_t renew_ns = INT64_MAX;
    for (unsigned i = 0; i < udp->joined_count; i++)
        if (udp->joined[i].renew_ns < renew_ns)
            renew_ns = udp->joined[i].renew_ns;
    return renew_ns;
}

void udp_socket_doubt(struct udp_socket *udp)
{
    for (unsigned i = 0; i < udp->joined_count; i++)
        udp->joined[i].renew_ns = 0;
}

bool udp_socket_renew(struct udp_socket *udp, int64_t now_ns)
{
    bool complete = true;
    for (unsigned i = udp->joined_count; i-- > 0;) {
        struct udp_membership *membership = &udp->joined[i];
        if (now_ns < membership->renew_ns)
            continue;
        membership->renew_ns = now_ns + UDP_RENEW_NS;
        set_membership(udp, IP_DROP_MEMBERSHIP, membership->index);
        if (set_membership(udp, IP_ADD_MEMBERSHIP, membership->index) < 0) {
            *membership = udp->joined[--udp->joined_count];
            complete = false;
        }
    }
    return complete;
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

pid_t udp_port_holder(uint16_t port, char *out, size_t size)
{
    unsigned long inode = port_inode("/proc/net/udp", port);
    if (inode == 0)
        inode = port_inode("/proc/net/udp6", port);
    if (inode == 0)
        return 0;
    char wanted[48];
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *proc = opendir("/proc");
    if (!proc)
        return 0;
    pid_t found = 0;
    for (const struct dirent *entry = readdir(proc); entry && found == 0; entry = readdir(proc)) {
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
        found = (pid_t)strtol(entry->d_name, NULL, 10);
    }
    closedir(proc);
    return found;
}
