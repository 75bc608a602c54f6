/* SPDX-License-Identifier: MIT
 *
 * The host's network interfaces and their IPv4 addresses, kept up to date by rtnetlink's messages; where the system
 * refuses netlink sockets, looked up at every links_update(). All functions: one thread at a time.
 * Messages: linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h; rtnetlink(7).
 */
#ifndef EARSHOT_LINKS_H
#define EARSHOT_LINKS_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct link {
    int index;      /* > 0; another link may get it after this one is gone */
    unsigned flags; /* IFF_*, as far as links.c follows them */
    char name[IF_NAMESIZE];
    bool port; /* of a bridge or the like, which takes all that arrives here */
    /* Another one each time the link comes into being, is plugged in or gets its first address: who out there has to
     * know of a membership may have forgotten it, or never known. Never 0. */
    unsigned life;
    bool seen; /* links.c's own */
};

struct links;

/* Empty until the first links_update(). -ENOMEM. */
int links_open(struct links **links);
void links_close(struct links *links); /* NULL is fine */

/* Readable: call links_update(). -1: there is no netlink, look now and then. */
int links_fd(const struct links *links);

/* Takes in what has happened since; never waits. True: some link or address is not what it was. */
bool links_update(struct links *links);

/* Valid until the next links_update(). */
const struct link *links_list(const struct links *links, unsigned *count);
bool links_has_address(const struct links *links, int index, struct in_addr address);
bool links_address(const struct links *links, int index, struct in_addr *address); /* its first one */

/* What links_update() does with one datagram of the kernel's. Foreign, short or unknown messages change nothing. */
bool links_parse(struct links *links, const void *datagram, size_t size);

#endif
