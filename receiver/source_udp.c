/* SPDX-License-Identifier: MIT */
#include "receiver/links.h"
#include "receiver/source.h"
#include "receiver/udp_socket.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MS 1000000LL

#define GAP_NS        (120 * MS)
#define RETRY_NS      (500 * MS)   /* something is missing: sound is back within a second */
#define REFRESH_NS    (60000 * MS) /* all is well, and the kernel says what changes */
#define LOOK_NS       (5000 * MS)  /* it does not say: a bridge may come */
#define LINKS_NS      (100 * MS)   /* between two looks at a storm of changes */
#define RENEW_LATE_NS (1000 * MS)  /* a membership waits so long for a moment without packets */
/* A guest's new stream has a new port; faster changes are several streams behind one address. */
#define PORT_CHANGE_NS (1000 * MS)

#define STRANGERS     64 /* that are told apart at a time */
#define SENDERS       (STRANGERS + SOURCE_SENDERS_MAX)
#define BATCH         32
#define PACKET_BYTES  65536 /* no datagram is larger */
#define EMPTY_BATCHES 8     /* of packets that mean nothing, before others get their turn */
#define HEADROOM      64    /* before a packet: room for what a frame left over, and alignment */
#define SLOT_BYTES    (PACKET_BYTES + 4096)
#define FRAME_BYTES   32u  /* of the largest frame: 8 channels of 32 bit */
#define HELD_BYTES    9216 /* of a stream's first packet; more than a jumbo frame carries */
#define HELD_SLOT     (FRAME_BYTES + HELD_BYTES)
#define CONTROL_BYTES (CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t)))

struct udp_sender {
    struct sender name;
    bool used;
    uint16_t port;
    int64_t heard_ns, port_changed_ns;
    bool agreed; /* format is what plays */
    struct pcm_format format;
    unsigned pending_flags;     /* for the next block */
    uint8_t carry[FRAME_BYTES]; /* the beginning of a frame whose rest is in the next packet */
    size_t carry_bytes;
    /* One packet of another format, which plays if the next one agrees. */
    bool candidate;
    struct pcm_format candidate_format;
    uint16_t candidate_port;
    int64_t held_arrival_ns, held_window_ns;
    size_t held_bytes;
    uint8_t *held;
};

/* What one call of the kernel brought, and the blocks that came of it. All the blocks' data lie in here. */
struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_in from[BATCH];
    _Alignas(struct cmsghdr) uint8_t control[BATCH][CONTROL_BYTES];
    uint8_t *packets; /* BATCH slots: headroom, packet */
    uint8_t *held;    /* BATCH slots: headroom, payload kept from an earlier packet */
    unsigned held_count;
    struct block blocks[2 * BATCH];
    unsigned next, count;
    unsigned used; /* messages that the kernel has filled in */
    bool full;     /* there may be more behind it */
};

struct source_udp {
    struct source base;
    struct udp_socket socket;
    struct links *links;
    int64_t links_ns; /* when to look at them next, their fd unwatched until then; INT64_MAX: when they say so */
    char *interface;
    struct source_senders wanted;
    int64_t refresh_ns;
    int64_t drained_ns; /* the socket was empty then */
    int64_t offset_ns;  /* CLOCK_MONOTONIC minus CLOCK_REALTIME, at offset_at_ns; 0: not known yet */
    int64_t offset_at_ns;
    uint32_t overflows; /* as the kernel counts them, for this socket */
    struct udp_sender senders[SENDERS];
    uint8_t *held;
    struct batch batches[2];
    struct batch *current, *ahead; /* ahead: read to know what follows on current's blocks */
    bool ahead_ready;
    bool drained; /* the last read emptied the socket: what came since wakes poll */
    bool asleep;  /* next() said there is nothing */
    bool fed;     /* there was something since */
};

static void set_state(struct source_udp *s, enum source_state state, const char *detail)
{
    s->base.status.state = state;
    snprintf(s->base.status.detail, sizeof s->base.status.detail, "%s", detail);
}

static void set_busy(struct source_udp *s)
{
    if (s->base.status.state == SOURCE_PORT_BUSY)
        return; /* finding the holder again at every retry would cost too much */
    char holder[64], text[160];
    if (udp_port_holder(s->socket.port, holder, sizeof holder))
        snprintf(text, sizeof text, "UDP port %u is in use by %s: close that, or choose another with -p",
                 (unsigned)s->socket.port, holder);
    else
        snprintf(text, sizeof text, "UDP port %u is in use by another program: close that, or choose another with -p",
                 (unsigned)s->socket.port);
    set_state(s, SOURCE_PORT_BUSY, text);
}

/* Socket and memberships. */
static void maintain(struct source_udp *s, int64_t now_ns)
{
    char text[160];
    int error = 0;
    links_update(s->links);
    if (s->socket.fd < 0) {
        error = udp_socket_open(&s->socket, s->links);
        s->overflows = 0;
        s->drained_ns = now_ns;
    }
    if (error == 0) {
        error = udp_socket_refresh(&s->socket, s->links, now_ns);
        if (error == -ESTALE)
            udp_socket_close(&s->socket);
    }
    switch (error) {
    case 0:
        set_state(s, SOURCE_LISTENING, "");
        break;
    case -EADDRINUSE:
        set_busy(s);
        break;
    case -ENODEV:
    case -ESTALE:
        if (s->interface)
            snprintf(text, sizeof text, "waiting for the network interface %.64s", s->interface);
        else
            snprintf(text, sizeof text, "waiting for a network interface that can do multicast");
        set_state(s, SOURCE_NO_INTERFACE, text);
        break;
    default:
        snprintf(text, sizeof text, "cannot listen at UDP port %u: %s", (unsigned)s->socket.port, strerror(-error));
        set_state(s, SOURCE_FAILED, text);
    }
    s->refresh_ns = now_ns + (error != 0 ? RETRY_NS : links_fd(s->links) >= 0 ? REFRESH_NS : LOOK_NS);
    s->base.fd = s->socket.fd;
    s->base.counters.unjoined = s->socket.unjoined;
    s->base.counters.buffer_limited = s->socket.buffer_limited;
}

/* The first change is acted on at once; while they come in numbers, ten times a second. */
static void follow_links(struct source_udp *s, int64_t now_ns)
{
    bool changed = links_update(s->links);
    if (changed)
        s->refresh_ns = now_ns;
    bool rest = changed || s->base.watch_ready;
    s->links_ns = rest ? now_ns + LINKS_NS : INT64_MAX;
    s->base.watch_fd = rest ? 0 : links_fd(s->links);
    s->base.watch_ready = false;
}

/* Renews memberships right behind packets that have come: the next ones are farthest away then. */
static void renew(struct source_udp *s, int64_t now_ns)
{
    int64_t due_ns = udp_socket_renew_ns(&s->socket);
    if (now_ns < due_ns || (!s->fed && now_ns - due_ns < RENEW_LATE_NS))
        return;
    if (!udp_socket_renew(&s->socket, now_ns) && s->refresh_ns > now_ns + RETRY_NS)
        s->refresh_ns = now_ns + RETRY_NS;
}

static int64_t idle_until_ns(const struct source_udp *s)
{
    int64_t renew_ns = udp_socket_renew_ns(&s->socket);
    int64_t wake_ns = renew_ns < INT64_MAX ? renew_ns + RENEW_LATE_NS : INT64_MAX;
    if (s->refresh_ns < wake_ns)
        wake_ns = s->refresh_ns;
    return s->links_ns < wake_ns ? s->links_ns : wake_ns;
}

static int64_t read_clock(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Renews the offset between the clocks. False: CLOCK_REALTIME was set since the last time, and the kernel's receive
 * times of this drain may be of either. */
static bool map_clocks(struct source_udp *s)
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
    int64_t moved = offset > s->offset_ns ? offset - s->offset_ns : s->offset_ns - offset;
    int64_t slewed = MS + width + (at - s->offset_at_ns) / 1000;
    bool steady = s->offset_at_ns == 0 || moved <= slewed;
    s->offset_ns = offset;
    s->offset_at_ns = at;
    return steady;
}

/* A packet's receive time and the kernel's count of packets it had no room for. */
static void read_control(struct source_udp *s, struct msghdr *message, bool steady, int64_t now_ns,
                         int64_t *arrival_ns, int64_t *window_ns)
{
    bool stamped = false;
    *arrival_ns = now_ns;
    *window_ns = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_TIMESTAMPNS && c->cmsg_len >= CMSG_LEN(sizeof(struct timespec))) {
            struct timespec time;
            memcpy(&time, CMSG_DATA(c), sizeof time);
            *arrival_ns = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec + s->offset_ns;
            stamped = true;
        } else if (c->cmsg_type == SO_RXQ_OVFL && c->cmsg_len >= CMSG_LEN(sizeof(uint32_t))) {
            uint32_t overflows;
            memcpy(&overflows, CMSG_DATA(c), sizeof overflows);
            if (overflows != s->overflows) {
                s->base.counters.lost_packets += overflows - s->overflows;
                s->overflows = overflows;
                for (unsigned i = 0; i < SENDERS; i++) /* whose they were is not known */
                    s->senders[i].pending_flags |= BLOCK_GAP;
            }
        }
    }
    if (!stamped || !steady) {
        *arrival_ns = now_ns;
        *window_ns = now_ns - s->drained_ns;
    } else if (*arrival_ns > now_ns) {
        *arrival_ns = now_ns;
    } else if (*arrival_ns < s->drained_ns) {
        *arrival_ns = s->drained_ns;
    }
}

static bool is_claimed(const struct source_udp *s, uint64_t id)
{
    for (unsigned i = 0; i < s->wanted.count; i++)
        if (s->wanted.from[i] == id)
            return true;
    return false;
}

/* The sender's entry. A new one takes the place of the stranger not heard for
 * longest, where there is no room or there are too many: never that of one that somebody claimed. */
static struct udp_sender *find_sender(struct source_udp *s, struct in_addr address, int64_t now_ns)
{
    struct udp_sender *unused = NULL, *oldest = NULL;
    unsigned strangers = 0;
    for (unsigned i = 0; i < SENDERS; i++) {
        struct udp_sender *sender = &s->senders[i];
        if (sender->used && sender->name.id == address.s_addr)
            return sender;
        if (!sender->used) {
            unused = sender;
        } else if (!sender->name.claimed) {
            strangers++;
            oldest = !oldest || sender->heard_ns < oldest->heard_ns ? sender : oldest;
        }
    }
    bool claimed = is_claimed(s, address.s_addr);
    /* There are as many entries as there can be strangers and claims, so one of the two is there. */
    struct udp_sender *sender = unused && (claimed || strangers < STRANGERS) ? unused : oldest;
    uint8_t *held = sender->held;
    *sender = (struct udp_sender){.used = true, .held = held, .heard_ns = now_ns, .port_changed_ns = now_ns};
    sender->name.id = address.s_addr;
    sender->name.claimed = claimed;
    inet_ntop(AF_INET, &address, sender->name.label, sizeof sender->name.label);
    return sender;
}

static void source_udp_set_senders(struct source *source, const struct source_senders *senders)
{
    struct source_udp *s = (struct source_udp *)source;
    s->wanted = *senders;
    for (unsigned i = 0; i < SENDERS; i++)
        s->senders[i].name.claimed = s->senders[i].used && is_claimed(s, s->senders[i].name.id);
}

/* Makes a block of whole frames; before `data` there is room for FRAME_BYTES. */
static void emit(struct batch *batch, struct udp_sender *sender, uint8_t *data, size_t bytes, int64_t arrival_ns,
                 int64_t window_ns)
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

static void hold(struct udp_sender *sender, const struct pcm_format *format, const uint8_t *payload, size_t bytes,
                 int64_t arrival_ns, int64_t window_ns)
{
    sender->candidate = true;
    sender->candidate_format = *format;
    sender->held_arrival_ns = arrival_ns;
    sender->held_window_ns = window_ns;
    sender->held_bytes = bytes <= HELD_BYTES ? bytes : 0;
    memcpy(sender->held, payload, sender->held_bytes);
}

/* A packet of another format came to nothing. */
static void forget_candidate(struct source_udp *s, struct udp_sender *sender)
{
    if (!sender->candidate)
        return;
    sender->candidate = false;
    s->base.counters.rejected++;
    s->base.counters.rejected_from = (uint32_t)sender->name.id;
    s->base.counters.rejected_long = false;
    s->base.counters.dropped_frames += sender->held_bytes / pcm_frame_bytes(&sender->candidate_format);
}

/* As ALSA's plug-in for Scream sends it: one byte more, and then whole samples. */
static bool has_long_header(uint8_t *packet, size_t size)
{
    struct scream_udp_header header;
    return scream_udp_parse(&header, packet, size) < 0 && size > 0 && scream_udp_parse(&header, packet, size - 1) > 0;
}

/* How long the kernel's buffer would last now, the least of all the streams there were. */
static void note_buffer(struct source_udp *s, const struct pcm_format *format, size_t payload)
{
    int64_t packet_ns = (int64_t)(payload / pcm_frame_bytes(format)) * 1000000000 / format->rate;
    int64_t buffer_ns = udp_socket_buffer_ns(&s->socket, payload + SCREAM_UDP_HEADER_BYTES, packet_ns);
    if (buffer_ns > 0 && (s->base.counters.buffer_ns == 0 || buffer_ns < s->base.counters.buffer_ns))
        s->base.counters.buffer_ns = buffer_ns;
}

/* Another stream of the guest's: it starts with a whole frame. On the same port the guest's bytes go on where they
 * stopped, also after a gap. */
static void change_port(struct udp_sender *sender, uint16_t port, int64_t arrival_ns)
{
    sender->carry_bytes = 0;
    if (arrival_ns - sender->port_changed_ns > PORT_CHANGE_NS)
        sender->pending_flags |= BLOCK_RESYNC;
    sender->port_changed_ns = arrival_ns;
    sender->port = port;
}

static void take_packet(struct source_udp *s, struct batch *batch, const struct sockaddr_in *from, uint8_t *packet,
                        size_t size, int64_t arrival_ns, int64_t window_ns)
{
    if (!s->wanted.others && !is_claimed(s, from->sin_addr.s_addr)) {
        s->base.counters.ignored++;
        s->base.counters.ignored_from = from->sin_addr.s_addr;
        return;
    }
    struct scream_udp_header header;
    struct pcm_format format;
    int bytes = scream_udp_parse(&header, packet, size);
    if (bytes < 0 ||
        pcm_format_parse(&format, header.sample_rate, header.sample_size, header.channels, header.channel_map) < 0) {
        s->base.counters.rejected++;
        s->base.counters.rejected_from = from->sin_addr.s_addr;
        s->base.counters.rejected_long = has_long_header(packet, size);
        return;
    }
    uint8_t *payload = packet + SCREAM_UDP_HEADER_BYTES;
    struct udp_sender *sender = find_sender(s, from->sin_addr, arrival_ns);
    bool gap = arrival_ns - sender->heard_ns > GAP_NS;
    sender->heard_ns = arrival_ns;
    if (gap)
        sender->pending_flags |= BLOCK_GAP;

    if (sender->agreed && pcm_format_equal(&sender->format, &format)) {
        forget_candidate(s, sender);
        if (sender->port != from->sin_port)
            change_port(sender, from->sin_port, arrival_ns);
        emit(batch, sender, payload, (size_t)bytes, arrival_ns, window_ns);
        return;
    }
    /* From another port than the first it is no second word for it: noise that has a header by chance, or a stream
     * that nobody has begun. */
    if (!sender->candidate || gap || !pcm_format_equal(&sender->candidate_format, &format) ||
        sender->candidate_port != from->sin_port) {
        forget_candidate(s, sender);
        hold(sender, &format, payload, (size_t)bytes, arrival_ns, window_ns);
        sender->candidate_port = from->sin_port;
        return;
    }
    sender->candidate = false;
    sender->agreed = true;
    sender->format = format;
    sender->port = from->sin_port;
    sender->port_changed_ns = arrival_ns;
    sender->carry_bytes = 0;
    sender->pending_flags = BLOCK_RESYNC;
    note_buffer(s, &format, (size_t)bytes);
    /* The held packet moves into the batch: until its block is heard the sender may hold another. */
    uint8_t *slot = batch->held + (size_t)batch->held_count++ * HELD_SLOT + FRAME_BYTES;
    memcpy(slot, sender->held, sender->held_bytes);
    emit(batch, sender, slot, sender->held_bytes, sender->held_arrival_ns, sender->held_window_ns);
    emit(batch, sender, payload, (size_t)bytes, arrival_ns, window_ns);
}

/* Makes a message ready for the kernel. Only those that were used need it again: touching all at each wake-up costs. */
static void arm(struct batch *batch, unsigned i)
{
    batch->vectors[i] = (struct iovec){batch->packets + (size_t)i * SLOT_BYTES + HEADROOM, PACKET_BYTES};
    batch->messages[i] = (struct mmsghdr){
        .msg_hdr = {.msg_name = &batch->from[i],
                    .msg_namelen = sizeof batch->from[i],
                    .msg_iov = &batch->vectors[i],
                    .msg_iovlen = 1,
                    .msg_control = batch->control[i],
                    .msg_controllen = sizeof batch->control[i]}
    };
}

/* Reads what has arrived, at most a batch. */
static void fill(struct source_udp *s, struct batch *batch, int64_t now_ns)
{
    batch->next = batch->count = batch->held_count = 0;
    batch->full = false;
    if (s->socket.fd < 0)
        return;
    for (; batch->used > 0; batch->used--)
        arm(batch, batch->used - 1);
    int count = recvmmsg(s->socket.fd, batch->messages, BATCH, MSG_DONTWAIT, NULL);
    if (count < 0) {
        if (errno == EAGAIN) {
            s->drained = true;
            s->drained_ns = now_ns;
        } else if (errno != EINTR) {
            char text[160];
            snprintf(text, sizeof text, "cannot receive at UDP port %u: %s", (unsigned)s->socket.port,
                     strerror(errno));
            set_state(s, SOURCE_FAILED, text);
            udp_socket_close(&s->socket);
            s->base.fd = -1;
            s->refresh_ns = s->base.wake_ns = now_ns + RETRY_NS;
        }
        return;
    }
    batch->used = (unsigned)count;
    bool steady = map_clocks(s);
    for (int i = 0; i < count; i++) {
        struct mmsghdr *message = &batch->messages[i];
        int64_t arrival_ns, window_ns;
        read_control(s, &message->msg_hdr, steady, now_ns, &arrival_ns, &window_ns);
        take_packet(s, batch, &batch->from[i], batch->vectors[i].iov_base, message->msg_len, arrival_ns, window_ns);
    }
    batch->full = count == BATCH;
    s->drained = !batch->full;
    if (s->drained)
        s->drained_ns = now_ns;
}

static bool follows(const struct batch *batch, unsigned from, uint64_t id)
{
    for (unsigned i = from; i < batch->count; i++)
        if (batch->blocks[i].sender.id == id)
            return true;
    return false;
}

/* Marks the current batch's blocks that others of their sender follow on, be it in the batch ahead. */
static void mark_bursts(struct source_udp *s)
{
    struct batch *batch = s->current;
    for (unsigned i = 0; i < batch->count; i++) {
        uint64_t id = batch->blocks[i].sender.id;
        if (follows(batch, i + 1, id) || (s->ahead_ready && follows(s->ahead, 0, id)))
            batch->blocks[i].flags |= BLOCK_MORE;
    }
}

/* Makes the next batch the current one. False: it has no blocks. */
static bool advance(struct source_udp *s, int64_t now_ns)
{
    if (s->ahead_ready) {
        struct batch *batch = s->current;
        s->current = s->ahead;
        s->ahead = batch;
        s->ahead_ready = false;
    } else {
        fill(s, s->current, now_ns);
    }
    if (s->current->full) {
        fill(s, s->ahead, now_ns);
        s->ahead_ready = s->ahead->count > 0 || s->ahead->full;
    }
    mark_bursts(s);
    return s->current->count > 0;
}

static int source_udp_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct source_udp *s = (struct source_udp *)source;
    if (s->asleep)
        source->counters.wakeups++;
    if (source->watch_ready || now_ns >= s->links_ns)
        follow_links(s, now_ns);
    if (now_ns >= s->refresh_ns)
        maintain(s, now_ns);
    if (s->current->next == s->current->count) {
        bool filled = false;
        if (s->ahead_ready || s->asleep || !s->drained)
            filled = advance(s, now_ns);
        for (unsigned i = 0; !filled && s->ahead_ready && i < EMPTY_BATCHES; i++)
            filled = advance(s, now_ns);
        s->asleep = !filled;
        if (!filled) {
            renew(s, now_ns);
            s->fed = false;
            /* What was read ahead has left the socket: fd will not wake us for it. */
            source->wake_ns = s->ahead_ready ? now_ns : idle_until_ns(s);
            return 0;
        }
        s->fed = true;
    }
    *block = s->current->blocks[s->current->next++];
    source->counters.blocks++;
    return 1;
}

static void source_udp_close(struct source *source)
{
    struct source_udp *s = (struct source_udp *)source;
    udp_socket_close(&s->socket);
    links_close(s->links);
    for (unsigned i = 0; i < 2; i++) {
        free(s->batches[i].packets);
        free(s->batches[i].held);
    }
    free(s->held);
    free(s->interface);
    free(s);
}

static const struct source_ops source_udp_ops = {
    .next = source_udp_next,
    .close = source_udp_close,
    .set_senders = source_udp_set_senders,
};

int source_udp_open(struct source **source, const struct source_udp_params *params)
{
    struct in_addr group = {0};
    if (params->port == 0)
        return -EINVAL;
    if (params->group && (inet_pton(AF_INET, params->group, &group) != 1 || !IN_MULTICAST(ntohl(group.s_addr))))
        return -EINVAL;
    if (params->interface && params->interface[0] == 0)
        return -EINVAL;
    struct source_udp *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->base = (struct source){.ops = &source_udp_ops, .kind = SOURCE_UDP, .fd = -1, .wake_ns = 0};
    s->socket = (struct udp_socket){.fd = -1, .port = params->port, .group = group};
    s->current = &s->batches[0];
    s->ahead = &s->batches[1];
    s->asleep = true;
    s->links_ns = INT64_MAX;
    bool complete = links_open(&s->links) == 0;
    s->base.watch_fd = complete ? links_fd(s->links) : 0;
    /* Large, but the kernel gives memory only for what packets really fill. */
    for (unsigned i = 0; i < 2; i++) {
        s->batches[i].packets = calloc(BATCH, SLOT_BYTES);
        s->batches[i].held = calloc(BATCH, HELD_SLOT);
        s->batches[i].used = BATCH;
        complete = complete && s->batches[i].packets && s->batches[i].held;
    }
    s->held = calloc(SENDERS, HELD_BYTES);
    complete = complete && s->held;
    if (params->interface) {
        s->interface = strdup(params->interface);
        s->socket.interface = s->interface;
        complete = complete && s->interface;
    }
    s->wanted.others = params->from_count == 0;
    for (; s->wanted.count < params->from_count && s->wanted.count < SOURCE_SENDERS_MAX; s->wanted.count++)
        s->wanted.from[s->wanted.count] = params->from[s->wanted.count];
    if (!complete) {
        source_udp_close(&s->base);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < SENDERS; i++)
        s->senders[i].held = s->held + (size_t)i * HELD_BYTES;
    set_state(s, SOURCE_NO_INTERFACE, "not listening yet");
    *source = &s->base;
    return 0;
}
