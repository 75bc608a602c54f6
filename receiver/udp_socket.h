/* SPDX-License-Identifier: MIT
 *
 * The socket guests send to: the port, the memberships on the interfaces there are, and who has the port where it is
 * taken. Nothing is remembered about interfaces but what was joined: each look takes them as they are. [src]
 */
#ifndef EARSHOT_UDP_SOCKET_H
#define EARSHOT_UDP_SOCKET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UDP_JOINED_MAX 64

struct udp_socket {
    int fd; /* -1: closed */
    uint16_t port;
    struct in_addr group;       /* 0: unicast only */
    const char *interface;      /* the caller's; name or address; NULL: every suitable one */
    struct in_addr bound;       /* unicast on one interface: its address */
    int joined[UDP_JOINED_MAX]; /* interface indexes */
    unsigned joined_count;
};

/* Opens and binds; joins nothing yet. Sets up large buffers, kernel receive times and loss counts. port, group and
 * interface must be set, fd must be -1. -EADDRINUSE: another program has the port. -ENODEV: unicast, and the interface
 * or address is not there. Or -errno. */
int udp_socket_open(struct udp_socket *udp);
void udp_socket_close(struct udp_socket *udp);

/* Looks at the interfaces: joins where it should and has not, forgets those that are gone. 0: all is in place. -ENODEV:
 * the wanted interface, or any that can do multicast, is missing; look again soon. -ESTALE: the interface's address is
 * another by now; close and open again. Or -errno. */
int udp_socket_refresh(struct udp_socket *udp);

/* "scream (pid 1234)" of a process that has the UDP port; false where that cannot be found out. Looks through all of
 * /proc: once per incident, not per retry. */
bool udp_port_holder(uint16_t port, char *out, size_t size);

#endif
