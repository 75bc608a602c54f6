/* SPDX-License-Identifier: MIT
 *
 * The network packet: a five-byte header and PCM. Pure functions, any thread.
 */
#ifndef EARSHOT_SCREAM_UDP_H
#define EARSHOT_SCREAM_UDP_H

#include <stddef.h>
#include <stdint.h>

#define SCREAM_UDP_HEADER_BYTES  5u
#define SCREAM_UDP_PAYLOAD_BYTES 1152u /* what the driver always sends */
#define SCREAM_UDP_PORT          4010
#define SCREAM_UDP_GROUP         "239.255.77.77"

struct scream_udp_header {
    uint8_t sample_rate;
    uint8_t sample_size;
    uint8_t channels;
    uint16_t channel_map;
};

/* Returns the number of payload bytes (> 0, whole samples, not always whole frames), or -EBADMSG for what cannot be
 * one of the driver's packets; then *header is left alone. */
int scream_udp_parse(struct scream_udp_header *header, const uint8_t *packet, size_t size);

/* Writes the header before a payload. */
void scream_udp_build(uint8_t packet[SCREAM_UDP_HEADER_BYTES], const struct scream_udp_header *header);

#endif
