/* SPDX-License-Identifier: MIT */
#include "receiver/packets.h"

#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS 1000000LL

#define GAP_NS      (120 * MS) /* silence longer than this and than GAP_PACKETS is a pause of the guest's */
#define GAP_PACKETS 4
#define BURST_NS    MS /* packets closer than this, and than half of one, were handed over together */
/* A guest's new stream has a new port; faster changes are several streams behind one address. */
#define PORT_CHANGE_NS (1000 * MS)

/* That are told apart at a time: more than are ever played, so that one too many gets as far as to be refused. */
#define STRANGERS     128
#define SENDERS       (STRANGERS + SOURCE_SENDERS_MAX)
#define SETTLED_NS    (10000 * MS) /* whose format is agreed keeps its place for so long */
#define EMPTY_BATCHES 8            /* of packets that mean nothing, before others get their turn */
#define HEADROOM      64           /* before a packet: room for what a frame left over, and alignment */
#define SLOT_BYTES    (PACKETS_BYTES + 4096)
#define FRAME_BYTES   32u  /* of the largest frame: 8 channels of 32 bit */
#define HELD_BYTES    9216 /* of a stream's first packet; more than a jumbo frame carries */
#define HELD_SLOT     (FRAME_BYTES + HELD_BYTES)

struct packet_sender {
    struct sender name;
    bool used;
    uint16_t port;
    int64_t heard_ns, port_changed_ns;
    bool agreed; /* format is what plays */
    struct pcm_format format;
    unsigned pending_flags;     /* for the next block */
    uint8_t carry[FRAME_BYTES]; /* the beginning of a frame whose rest is in the next packet */
    size_t carry_bytes;
    /* One packet of another format or port, which plays if the next one agrees. */
    bool candidate;
    struct pcm_format candidate_format;
    uint16_t candidate_port;
    int64_t held_arrival_ns, held_window_ns;
    size_t held_bytes;
    uint8_t *held;
};

uint8_t *packets_slot(struct packet_batch *batch, unsigned i)
{
    return batch->packets + (size_t)i * SLOT_BYTES + HEADROOM;
}

static int64_t read_clock(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

bool packets_map_clocks(struct packets *p)
{
    int64_t offset = 0, at = 0, width = INT64_MAX;
    for (unsigned attempt = 0; attempt < 3 && width > MS / 20; attempt++) {
        int64_t before = read_clock(CLOCK_MONOTONIC);
        int64_t real = read_clock(CLOCK_REALTIME);
        int64_t after = read_clock(CLOCK_MONOTONIC);
        if (after - before < width) {
            width = after - before;
            at = before + width / 2;
            offset = at - real;
        }
    }
    int64_t moved = offset > p->offset_ns ? offset - p->offset_ns : p->offset_ns - offset;
    int64_t slewed = MS + width + (at - p->offset_at_ns) / 1000;
    bool steady = p->offset_at_ns == 0 || moved <= slewed;
    p->offset_ns = offset;
    p->offset_at_ns = at;
    return steady;
}

void packets_arrival(const struct packets *p, int64_t received_ns, int64_t now_ns, int64_t *arrival_ns,
                     int64_t *window_ns)
{
    *arrival_ns = received_ns + p->offset_ns;
    *window_ns = 0;
    if (received_ns < 0) {
        *arrival_ns = now_ns;
        *window_ns = now_ns - p->drained_ns;
    } else if (*arrival_ns > now_ns) {
        *arrival_ns = now_ns;
    } else if (*arrival_ns < p->drained_ns) {
        *arrival_ns = p->drained_ns;
    }
}

static bool is_claimed(const struct packets *p, uint64_t id)
{
    for (unsigned i = 0; i < p->wanted.count; i++)
        if (p->wanted.from[i] == id)
            return true;
    return false;
}

/* The sender's entry. A new one takes the place of the stranger not heard for longest, but never that of one that
 * plays, unless somebody claimed the new one. NULL: no place. */
static struct packet_sender *find_sender(struct packets *p, struct in_addr address, int64_t now_ns)
{
    struct packet_sender *unused = NULL, *oldest = NULL, *oldest_settled = NULL;
    unsigned strangers = 0;
    for (unsigned i = 0; i < SENDERS; i++) {
        struct packet_sender *sender = &p->senders[i];
        if (sender->used && sender->name.id == address.s_addr)
            return sender;
        if (!sender->used) {
            unused = unused ? unused : sender; /* the first: that is where it is looked for next time */
        } else if (!sender->name.claimed) {
            strangers++;
            bool settled = sender->agreed && now_ns - sender->heard_ns < SETTLED_NS;
            struct packet_sender **first = settled ? &oldest_settled : &oldest;
            *first = !*first || sender->heard_ns < (*first)->heard_ns ? sender : *first;
        }
    }
    bool claimed = is_claimed(p, address.s_addr);
    struct packet_sender *sender = unused && (claimed || strangers < STRANGERS) ? unused : oldest;
    if (!sender && claimed) /* with as many entries as there can be strangers and claims, there is one */
        sender = oldest_settled;
    if (!sender)
        return NULL;
    uint8_t *held = sender->held;
    *sender = (struct packet_sender){.used = true, .held = held, .heard_ns = now_ns, .port_changed_ns = now_ns};
    sender->name.id = address.s_addr;
    sender->name.claimed = claimed;
    inet_ntop(AF_INET, &address, sender->name.label, sizeof sender->name.label);
    return sender;
}

void packets_set_senders(struct packets *p, const struct source_senders *senders)
{
    p->wanted = *senders;
    for (unsigned i = 0; i < SENDERS; i++)
        p->senders[i].name.claimed = p->senders[i].used && is_claimed(p, p->senders[i].name.id);
}

/* Makes a block of whole frames; before `data` there is room for FRAME_BYTES. */
static void emit(struct packet_batch *batch, struct packet_sender *sender, uint8_t *data, size_t bytes,
                 int64_t arrival_ns, int64_t window_ns)
{
    size_t frame = pcm_frame_bytes(&sender->format);
    data -= sender->carry_bytes;
    bytes += sender->carry_bytes;
    memcpy(data, sender->carry, sender->carry_bytes);
    size_t frames = bytes / frame;
    sender->carry_bytes = bytes % frame;
    memcpy(sender->carry, data + frames * frame, sender->carry_bytes);
    if (frames == 0)
        return;
    batch->blocks[batch->count++] = (struct block){
        .sender = sender->name,
        .format = sender->format,
        .data = data,
        .frames = (uint32_t)frames,
        .chunk_frames = (uint32_t)frames,
        .arrival_ns = arrival_ns,
        .window_ns = window_ns,
        .flags = sender->pending_flags,
    };
    sender->pending_flags = 0;
}

static void hold(struct packet_sender *sender, const struct pcm_format *format, uint16_t port, const uint8_t *payload,
                 size_t bytes, int64_t arrival_ns, int64_t window_ns)
{
    sender->candidate = true;
    sender->candidate_format = *format;
    sender->candidate_port = port;
    sender->held_arrival_ns = arrival_ns;
    sender->held_window_ns = window_ns;
    sender->held_bytes = bytes <= HELD_BYTES ? bytes : 0;
    memcpy(sender->held, payload, sender->held_bytes);
}

/* A packet of another format or port came to nothing. */
static void forget_candidate(struct packets *p, struct packet_sender *sender)
{
    if (!sender->candidate)
        return;
    sender->candidate = false;
    p->counters->rejected++;
    if (!sender->agreed || !pcm_format_equal(&sender->candidate_format, &sender->format)) {
        p->counters->rejected_from = (uint32_t)sender->name.id; /* who it was is known, and that it made no sense */
        p->counters->rejected_long = false;
    }
    p->counters->dropped_frames += sender->held_bytes / pcm_frame_bytes(&sender->candidate_format);
}

/* As ALSA's plug-in for Scream sends it: one byte more, and then whole samples. */
static bool has_long_header(uint8_t *packet, size_t size)
{
    struct scream_udp_header header;
    return scream_udp_parse(&header, packet, size) < 0 && size > 0 && scream_udp_parse(&header, packet, size - 1) > 0;
}

/* Another stream of the guest's: it starts with a whole frame. On the same port the guest's bytes go on where they
 * stopped, also after a gap. */
static void begin_stream(struct packet_sender *sender, const struct pcm_format *format, uint16_t port,
                         int64_t arrival_ns)
{
    if (!sender->agreed || !pcm_format_equal(&sender->format, format))
        sender->pending_flags = BLOCK_RESYNC;
    else if (arrival_ns - sender->port_changed_ns > PORT_CHANGE_NS)
        sender->pending_flags |= BLOCK_RESYNC;
    sender->candidate = false;
    sender->agreed = true;
    sender->format = *format;
    sender->port = port;
    sender->port_changed_ns = arrival_ns;
    sender->carry_bytes = 0;
}

void packets_take(struct packets *p, struct packet_batch *batch, struct in_addr from, in_port_t port, uint8_t *packet,
                  size_t size, int64_t arrival_ns, int64_t window_ns)
{
    if (!p->wanted.others && !is_claimed(p, from.s_addr)) {
        p->counters->ignored++;
        p->counters->ignored_from = from.s_addr;
        return;
    }
    struct scream_udp_header header;
    struct pcm_format format;
    int bytes = scream_udp_parse(&header, packet, size);
    if (bytes < 0 ||
        pcm_format_parse(&format, header.sample_rate, header.sample_size, header.channels, header.channel_map) < 0) {
        p->counters->rejected++;
        p->counters->rejected_from = from.s_addr;
        p->counters->rejected_long = has_long_header(packet, size);
        return;
    }
    uint8_t *payload = packet + SCREAM_UDP_HEADER_BYTES;
    struct packet_sender *sender = find_sender(p, from, arrival_ns);
    if (!sender) {
        p->counters->dropped_frames += (uint64_t)bytes / pcm_frame_bytes(&format);
        return;
    }
    int64_t packet_ns = (int64_t)bytes / pcm_frame_bytes(&format) * 1000000000 / format.rate;
    int64_t silence_ns = arrival_ns - sender->heard_ns;
    bool gap = silence_ns > GAP_NS && silence_ns > GAP_PACKETS * packet_ns;
    sender->heard_ns = arrival_ns;
    if (gap)
        sender->pending_flags |= BLOCK_GAP;
    if (sender->agreed && sender->port == port && pcm_format_equal(&sender->format, &format)) {
        forget_candidate(p, sender);
        emit(batch, sender, payload, (size_t)bytes, arrival_ns, window_ns);
        return;
    }
    /* What begins with another format or from another port is believed when a second packet agrees: what somebody else
     * at that address sends, or noise that has a header by chance, is not played into the guest's sound. */
    bool second = sender->candidate && !gap && sender->candidate_port == port &&
                  pcm_format_equal(&sender->candidate_format, &format);
    if (!second) {
        forget_candidate(p, sender);
        hold(sender, &format, port, payload, (size_t)bytes, arrival_ns, window_ns);
        return;
    }
    begin_stream(sender, &format, port, arrival_ns);
    if (p->begun)
        p->begun(p->arg, &format, (size_t)bytes);
    /* The held packet moves into the batch: until its block is heard the sender may hold another. */
    uint8_t *slot = batch->held + (size_t)batch->held_count++ * HELD_SLOT + FRAME_BYTES;
    memcpy(slot, sender->held, sender->held_bytes);
    emit(batch, sender, slot, sender->held_bytes, sender->held_arrival_ns, sender->held_window_ns);
    emit(batch, sender, payload, (size_t)bytes, arrival_ns, window_ns);
}

void packets_lost(struct packets *p, uint32_t count)
{
    p->counters->lost_packets += count;
    for (unsigned i = 0; i < SENDERS; i++)
        p->senders[i].pending_flags |= BLOCK_GAP;
}

void packets_drained(struct packets *p, int64_t now_ns)
{
    p->drained = true;
    p->drained_ns = now_ns;
}

static void fill(struct packets *p, struct packet_batch *batch, int64_t now_ns)
{
    batch->next = batch->count = batch->held_count = 0;
    batch->full = false;
    p->fill(p->arg, batch, now_ns);
    if (batch->full)
        p->drained = false;
}

/* Does this block's sender follow on it at once, in this batch from `from` on? What is read together counts as handed over
 * together, and as late as its first packet, once; but packets at their own pace that were left to lie are no burst, where
 * it is known when they came. */
static bool follows(const struct packet_batch *batch, unsigned from, const struct block *block, bool rested)
{
    int64_t unit_ns = (int64_t)block->frames * 1000000000 / block->format.rate;
    int64_t burst_ns = unit_ns / 2 > BURST_NS ? unit_ns / 2 : BURST_NS;
    for (unsigned i = from; i < batch->count; i++) {
        const struct block *next = &batch->blocks[i];
        if (next->sender.id == block->sender.id)
            return !rested || next->window_ns > 0 || next->arrival_ns - block->arrival_ns < burst_ns;
    }
    return false;
}

/* Marks the current batch's blocks that others of their sender follow on, be it in the batch ahead. */
static void mark_bursts(struct packets *p)
{
    struct packet_batch *batch = p->current;
    for (unsigned i = 0; i < batch->count; i++) {
        struct block *block = &batch->blocks[i];
        if (follows(batch, i + 1, block, p->rested) || (p->ahead_ready && follows(p->ahead, 0, block, p->rested)))
            block->flags |= BLOCK_MORE;
    }
}

/* Makes the next batch the current one. False: it has no blocks. */
static bool advance(struct packets *p, int64_t now_ns)
{
    if (p->ahead_ready) {
        struct packet_batch *batch = p->current;
        p->current = p->ahead;
        p->ahead = batch;
        p->ahead_ready = false;
    } else {
        fill(p, p->current, now_ns);
    }
    if (p->current->full) {
        fill(p, p->ahead, now_ns);
        p->ahead_ready = p->ahead->count > 0 || p->ahead->full;
    }
    mark_bursts(p);
    return p->current->count > 0;
}

int packets_next(struct packets *p, struct block *block, int64_t now_ns)
{
    if (p->asleep)
        p->counters->wakeups++;
    if (p->current->next == p->current->count) {
        bool filled = false;
        if (p->ahead_ready || p->asleep || !p->drained)
            filled = advance(p, now_ns);
        for (unsigned i = 0; !filled && p->ahead_ready && i < EMPTY_BATCHES; i++)
            filled = advance(p, now_ns);
        p->asleep = !filled;
        if (!filled)
            return 0;
    }
    *block = p->current->blocks[p->current->next++];
    p->counters->blocks++;
    return 1;
}

int packets_init(struct packets *p, const uint32_t *from, unsigned from_count)
{
    p->current = &p->batches[0];
    p->ahead = &p->batches[1];
    p->asleep = true;
    /* Large, but the kernel gives memory only for what packets really fill. */
    for (unsigned i = 0; i < 2; i++) {
        p->batches[i].packets = calloc(PACKETS_BATCH, SLOT_BYTES);
        p->batches[i].held = calloc(PACKETS_BATCH, HELD_SLOT);
        if (!p->batches[i].packets || !p->batches[i].held)
            return -ENOMEM;
    }
    p->senders = calloc(SENDERS, sizeof *p->senders);
    p->held = calloc(SENDERS, HELD_BYTES);
    if (!p->senders || !p->held)
        return -ENOMEM;
    for (unsigned i = 0; i < SENDERS; i++)
        p->senders[i].held = p->held + (size_t)i * HELD_BYTES;
    p->wanted.others = from_count == 0;
    for (; p->wanted.count < from_count && p->wanted.count < SOURCE_SENDERS_MAX; p->wanted.count++)
        p->wanted.from[p->wanted.count] = from[p->wanted.count];
    return 0;
}

void packets_free(struct packets *p)
{
    for (unsigned i = 0; i < 2; i++) {
        free(p->batches[i].packets);
        free(p->batches[i].held);
    }
    free(p->senders);
    free(p->held);
}
