/* SPDX-License-Identifier: MIT
 *
 * Where the guest's double delivers to: the ring in shared memory, or the network. One delivery is a unit: a chunk or
 * a packet. One thread.
 */
#ifndef EARSHOT_GUEST_WRITER_H
#define EARSHOT_GUEST_WRITER_H

#include "receiver/format.h"
#include "receiver/optable.h"
#include "ringbuf/scream_shm.h"
#include "ringbuf/scream_udp.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest_writer {
    uint32_t unit_bytes;
    int fd; /* -1: closed */
    bool is_shm;
    bool may_shrink; /* an ordinary file, which others may truncate while it is mapped */
    uint8_t *memory;
    size_t memory_bytes;
    struct scream_shm_writer ring;
    struct sockaddr_in to;
    uint8_t packet_header[SCREAM_UDP_HEADER_BYTES];
};

struct guest_shm_params {
    const char *path;
    size_t bytes; /* size of a file to be made, and least size of one that exists; 0: not given */
    struct pcm_format format;
    uint16_t mask; /* as the header says it, any value */
    uint32_t chunk_frames;
};

/* An ordinary file is made or enlarged; a character device or a PCI resource in /sys is mapped as it is. 0 or -errno
 * with a line in `error`. */
int guest_writer_open_shm(struct guest_writer *writer, const struct guest_shm_params *params,
                          char error[OPTABLE_ERROR_MAX]);

struct guest_udp_params {
    struct in_addr address; /* a host or a group */
    uint16_t port;
    const char *interface; /* name or address; NULL: the kernel's choice */
    int ttl;               /* for a group */
    struct pcm_format format;
    uint16_t mask;
    uint32_t packet_frames; /* 0: the driver's 1152 bytes, whatever frame that ends in */
};

/* 0; -EINVAL: packet_frames do not fit into a packet; -errno; with a line in `error`. */
int guest_writer_open_udp(struct guest_writer *writer, const struct guest_udp_params *params,
                          char error[OPTABLE_ERROR_MAX]);

/* Delivers unit_bytes of PCM. -ESTALE: the file has been truncated under us; -errno of a send: the packet is lost. A
 * send waits at most a second. */
int guest_writer_write(struct guest_writer *writer, const uint8_t *pcm);

/* Closes the stream as the driver does: the ring's header is zeroed, the network just falls silent. A writer that
 * failed to open or is closed (fd -1) is fine. */
void guest_writer_close(struct guest_writer *writer);

#endif
