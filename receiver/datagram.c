/* SPDX-License-Identifier: MIT */
#include "receiver/datagram.h"

#include <net/ethernet.h>
#include <stdbool.h>
#include <string.h>

#define ETHERTYPE_QINQ     0x88a8u
#define ETHERTYPE_QINQ_OLD 0x9100u

#define TYPE_AT     12u /* after the two addresses */
#define TAG_BYTES   4u
#define TAGS_MAX    2u
#define IP_BYTES    20u
#define UDP_BYTES   8u
#define FRAGMENTS   0x3fffu /* offset, and that there are more of them; not the bit that forbids it */
#define VERSION_4   4u
#define WORD_BYTES  4u
#define LENGTH_AT   2u /* from the IPv4 header on */
#define FRAGMENT_AT 6u
#define PROTOCOL_AT 9u
#define SOURCE_AT   12u

static uint16_t get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* The type behind all tags, and *at behind it; 0: the frame ends before. */
static uint16_t ether_type(const uint8_t *frame, size_t captured, size_t *at)
{
    *at = TYPE_AT;
    for (unsigned tags = 0; *at + 2 <= captured; tags++, *at += TAG_BYTES) {
        uint16_t type = get16(frame + *at);
        bool tag = type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ || type == ETHERTYPE_QINQ_OLD;
        if (tag && tags < TAGS_MAX)
            continue;
        *at += 2;
        return type;
    }
    return 0;
}

enum datagram_kind datagram_find(struct datagram *datagram, const uint8_t *frame, size_t captured, size_t length)
{
    size_t at;
    if (ether_type(frame, captured, &at) != ETHERTYPE_IP || captured < at + IP_BYTES)
        return DATAGRAM_OTHER;
    const uint8_t *ip = frame + at;
    size_t header = (ip[0] & 0xfu) * WORD_BYTES, packet = get16(ip + LENGTH_AT);
    if (ip[0] >> 4 != VERSION_4 || header < IP_BYTES || packet < header || at + packet > length ||
        ip[PROTOCOL_AT] != IPPROTO_UDP)
        return DATAGRAM_OTHER;
    struct datagram d = {.at = at + header + UDP_BYTES};
    memcpy(&d.from.s_addr, ip + SOURCE_AT, sizeof d.from.s_addr);
    if (get16(ip + FRAGMENT_AT) & FRAGMENTS) {
        *datagram = d;
        return DATAGRAM_FRAGMENT;
    }
    if (packet < header + UDP_BYTES)
        return DATAGRAM_OTHER;
    if (captured < at + packet) {
        *datagram = d;
        return DATAGRAM_CUT;
    }
    const uint8_t *udp = ip + header;
    size_t bytes = get16(udp + 4);
    if (bytes < UDP_BYTES || bytes > packet - header)
        return DATAGRAM_OTHER;
    memcpy(&d.from_port, udp, sizeof d.from_port);
    memcpy(&d.to_port, udp + 2, sizeof d.to_port);
    d.bytes = bytes - UDP_BYTES;
    *datagram = d;
    return DATAGRAM_WHOLE;
}
