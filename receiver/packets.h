/* SPDX-License-Identifier: MIT
 *
 * What becomes of packets, however they came here (source_udp.c, source_pcap.c): senders told apart, a format believed
 * when two packets agree, frames that straddle packets put together, bursts marked, receive times mapped from
 * CLOCK_REALTIME to CLOCK_MONOTONIC. The source fills batches, and hands out the blocks that come of them. [src]
 */
#ifndef EARSHOT_PACKETS_H
#define EARSHOT_PACKETS_H

#include "receiver/source.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKETS_BATCH 32
#define PACKETS_BYTES 65536 /* no datagram is larger */

struct packet_sender;

/* What one read brought, and the blocks that came of it. All the blocks' data lie in here. */
struct packet_batch {
    uint8_t *packets; /* PACKETS_BATCH slots: headroom, packet */
    uint8_t *held;    /* PACKETS_BATCH slots: headroom, payload kept from an earlier packet */
    unsigned held_count;
    struct block blocks[2 * PACKETS_BATCH];
    unsigned next, count;
    bool full; /* there may be more behind it */
};

struct packets {
    struct source_counters *counters;
    /* Reads what has arrived, at most PACKETS_BATCH packets: each into its slot, then packets_take(). Sets full where
     * it read as many as it could, else calls packets_drained(). */
    void (*fill)(void *arg, struct packet_batch *batch, int64_t now_ns);
    /* In packets_take(): a stream of this format has begun, with packets of so many bytes of PCM. Or NULL. */
    void (*begun)(void *arg, const struct pcm_format *format, size_t payload);
    void *arg;

    struct source_senders wanted;
    int64_t drained_ns; /* nothing was left to read then */
    int64_t offset_ns;  /* CLOCK_MONOTONIC minus CLOCK_REALTIME, at offset_at_ns; 0: not known yet */
    int64_t offset_at_ns;
    struct packet_sender *senders;
    uint8_t *held;
    struct packet_batch batches[2];
    struct packet_batch *current, *ahead; /* ahead: read to know what follows on current's blocks */
    bool ahead_ready;
    bool drained; /* the last read left nothing: what came since wakes poll */
    bool rested;  /* by fill: what was read lay there by intent, and no longer than it was meant to */
    bool asleep;  /* packets_next() said there is nothing */
};

/* counters, fill, begun and arg must be set, the rest zero. `from`: only these IPv4 addresses, network order, at
 * most SOURCE_SENDERS_MAX; NULL: all. * -ENOMEM; packets_free() is due also then. */
int packets_init(struct packets *packets, const uint32_t *from, unsigned from_count);
void packets_free(struct packets *packets);

/* From now on only these. */
void packets_set_senders(struct packets *packets, const struct source_senders *senders);

/* Where a batch's packet number i goes: PACKETS_BYTES. */
uint8_t *packets_slot(struct packet_batch *batch, unsigned i);

/* In fill, before the times of a read are used: renews the offset between the clocks. False: CLOCK_REALTIME was set
 * since the last time, and the receive times of this read may be of either. */
bool packets_map_clocks(struct packets *packets);

/* When a packet arrived. received_ns: CLOCK_REALTIME, or -1 where it is not known or not to be trusted. */
void packets_arrival(const struct packets *packets, int64_t received_ns, int64_t now_ns, int64_t *arrival_ns,
                     int64_t *window_ns);

/* In fill: a datagram's content, which lies in a slot, sent from `from`, port `port` (network order both). */
void packets_take(struct packets *packets, struct packet_batch *batch, struct in_addr from, in_port_t port,
                  uint8_t *packet, size_t size, int64_t arrival_ns, int64_t window_ns);

/* In fill: packets were lost, whose is not known. */
void packets_lost(struct packets *packets, uint32_t count);

/* In fill: nothing is left to read. */
void packets_drained(struct packets *packets, int64_t now_ns);

/* The next block: as source_ops.next, but for wake_ns. Where it says 0 and ahead_ready, it wants to be called again at
 * once: what was read ahead wakes nobody. */
int packets_next(struct packets *packets, struct block *block, int64_t now_ns);

#endif
