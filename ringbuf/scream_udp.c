/* SPDX-License-Identifier: MIT */
#include "ringbuf/scream_udp.h"

#include <errno.h>

#define SCREAM_UDP_DATAGRAM_MAX 65507u

int scream_udp_parse(struct scream_udp_header *header, const uint8_t *packet, size_t size)
{
    if (size <= SCREAM_UDP_HEADER_BYTES || size > SCREAM_UDP_DATAGRAM_MAX)
        return -EBADMSG;
    struct scream_udp_header parsed = {
        .sample_rate = packet[0],
        .sample_size = packet[1],
        .channels = packet[2],
        .channel_map = (uint16_t)(packet[3] | packet[4] << 8),
    };
    unsigned multiplier = parsed.sample_rate & 0x7fu;
    if (multiplier < 1 || multiplier > 4)
        return -EBADMSG;
    if (parsed.sample_size != 16 && parsed.sample_size != 24 && parsed.sample_size != 32)
        return -EBADMSG;
    if (parsed.channels < 1 || parsed.channels > 8)
        return -EBADMSG;
    /* Frames may straddle packets, samples never do: 1152 divides by 2, 3 and 4. This also keeps out senders with
     * a header of another length. */
    size_t payload = size - SCREAM_UDP_HEADER_BYTES;
    if (payload % (parsed.sample_size / 8u) != 0)
        return -EBADMSG;
    *header = parsed;
    return (int)payload;
}

void scream_udp_build(uint8_t packet[SCREAM_UDP_HEADER_BYTES], const struct scream_udp_header *header)
{
    packet[0] = header->sample_rate;
    packet[1] = header->sample_size;
    packet[2] = header->channels;
    packet[3] = (uint8_t)header->channel_map;
    packet[4] = (uint8_t)(header->channel_map >> 8);
}
