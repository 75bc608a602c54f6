/* SPDX-License-Identifier: MIT
 *
 * The real source on loopback: what is sent has arrived when send returns. Each sender has an address of its own out
 * of 127.0.0.0/8. Time is the test's: to the kernel's receive times it is the future, so that a packet counts as having
 * come at the last drain.
 */
#ifndef EARSHOT_TESTS_SOURCE_UDP_RIG_H
#define EARSHOT_TESTS_SOURCE_UDP_RIG_H

#include "receiver/source.h"
#include "ringbuf/scream_udp.h"

#include <stddef.h>
#include <stdint.h>

#define RIG_MS      1000000LL
#define RIG_SECOND  1000000000LL
#define RIG_HEARD   512
#define RIG_SENDERS 48

struct rig_heard {
    struct block block;
    uint8_t first_byte, last_byte;
};

struct rig {
    struct source *source;
    uint16_t port;
    int64_t now_ns;
    int sockets[RIG_SENDERS];
    struct rig_heard heard[RIG_HEARD];
    unsigned count;
    uint8_t bytes[1 << 20]; /* all the PCM heard, in order */
    size_t byte_count;
};

extern const struct scream_udp_header rig_stereo;

/* A source that listens for unicast on a free port of every interface. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* A source with these parameters in the place of the one there is. */
void rig_open(struct rig *r, const struct source_udp_params *params);

int rig_socket_at(const char *address, uint16_t port);

/* As the sender of that number, from 127.0.1.1 on. */
void rig_send_raw(struct rig *r, unsigned sender, const void *data, size_t size);
void rig_send(struct rig *r, unsigned sender, const struct scream_udp_header *header, size_t payload, uint8_t fill);

/* Calls next until there is nothing, as the thread does when poll wakes it. */
void rig_drain(struct rig *r);

/* Lets that time pass, in which nothing comes. */
void rig_wait(struct rig *r, int64_t ns);

/* Of block i of what was heard. */
unsigned rig_flags(const struct rig *r, unsigned i);

/* Brings a sender to where its packets are played. */
void rig_start(struct rig *r, unsigned sender, const struct scream_udp_header *header);

#endif
