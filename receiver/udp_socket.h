/* SPDX-License-Identifier: MIT
 *
 * The socket guests send to: the port, the memberships on the interfaces there are, and who has the port where it is
 * taken. [src]
 *
 * Bridges and switches that snoop forget a membership that nobody asks about after some four minutes (RFC 3376, 8.4:
 * 260 s), and a network without a querier has nobody who asks. So each membership is left and joined again every
 * minute, which makes the kernel report it. That does nothing while another socket of this host has the same
 * membership: the kernel counts them, and reports the first and the last.
 */
#ifndef EARSHOT_UDP_SOCKET_H
#define EARSHOT_UDP_SOCKET_H

#include "receiver/links.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define UDP_JOINED_MAX 64
#define UDP_RENEW_NS   INT64_C(60000000000)

struct udp_membership {
    int index;
    unsigned life; /* the link's, when it was joined */
    int64_t renew_ns;
};

struct udp_socket {
    int fd; /* -1: closed */
    uint16_t port;
    struct in_addr group;  /* 0: unicast only */
    const char *interface; /* the caller's; name or address; NULL: every suitable one */
    struct in_addr bound;  /* unicast on one interface: its address */
    unsigned buffer_bytes; /* of the receive buffer, as the kernel counts */
    bool buffer_limited;   /* the system's limit made it smaller than it should be */
    struct udp_membership joined[UDP_JOINED_MAX];
    unsigned joined_count;
    unsigned unjoined; /* links that should be joined, but the kernel allows no more memberships */
};

/* Opens and binds; joins nothing yet. Sets up large buffers, kernel receive times and loss counts. port, group and
 * interface must be set, fd must be -1. -EADDRINUSE: another program has the port. -ENODEV: unicast, and the interface
 * or address is not there. Or -errno. */
int udp_socket_open(struct udp_socket *udp, const struct links *links);
void udp_socket_close(struct udp_socket *udp);

/* Joins where it should and has not, and again what came back; forgets what is gone. 0: all is in place. -ENODEV: the
 * wanted interface, or any that can do multicast, is missing. -ESTALE: the interface's address is another by now; close
 * and open again. */
int udp_socket_refresh(struct udp_socket *udp, const struct links *links, int64_t now_ns);

/* When the next membership is to be renewed; INT64_MAX: there is none. Renewing loses what arrives on that interface
 * in the few microseconds between leaving and joining; call it when nothing does. False: one could not be joined again,
 * and refresh() is to try it. */
int64_t udp_socket_renew_ns(const struct udp_socket *udp);
bool udp_socket_renew(struct udp_socket *udp, int64_t now_ns);

/* Something on the way may have forgotten who listens: all memberships are due to be renewed. */
void udp_socket_doubt(struct udp_socket *udp);

/* For how long the receive buffer takes in packets of so many bytes, one each packet_ns, while nobody reads it. */
int64_t udp_socket_buffer_ns(const struct udp_socket *udp, size_t packet_bytes, int64_t packet_ns);

/* A process that has the UDP port, which may be this one, and "scream (pid 1234)" of it; 0 where that cannot be found out.
 * Looks through all of /proc: once per incident, not per retry. */
pid_t udp_port_holder(uint16_t port, char *out, size_t size);

#endif
