/* SPDX-License-Identifier: MIT
 *
 * A UDP datagram inside a captured Ethernet frame. Pure, any thread: whatever a frame says of its lengths is checked.
 */
#ifndef EARSHOT_DATAGRAM_H
#define EARSHOT_DATAGRAM_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

struct datagram {
    struct in_addr from;          /* network order, as the ports */
    in_port_t from_port, to_port; /* of a fragment: 0 */
    size_t at, bytes;             /* where its content lies in the frame; bytes may be 0 */
};

enum datagram_kind {
    DATAGRAM_WHOLE,
    DATAGRAM_OTHER,    /* no IPv4 UDP, or what cannot be */
    DATAGRAM_FRAGMENT, /* a piece of one: only `from` is told */
    DATAGRAM_CUT,      /* the capture ends before it does: as for a fragment */
};

/* `captured` bytes of a frame that had `length` of them on the wire. Sees through up to two VLAN tags (802.1Q, 802.1ad
 * and what came before it) and IPv4 options. Checksums are not looked at: of a packet that has not left this host they
 * need not be there yet. */
enum datagram_kind datagram_find(struct datagram *datagram, const uint8_t *frame, size_t captured, size_t length);

#endif
