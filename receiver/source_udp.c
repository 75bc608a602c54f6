/* SPDX-License-Identifier: MIT */
#include "receiver/links.h"
#include "receiver/packets.h"
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
#include <unistd.h>

#define MS 1000000LL

#define RETRY_NS      (500 * MS)   /* something is missing: sound is back within a second */
#define REFRESH_NS    (60000 * MS) /* all is well, and the kernel says what changes */
#define LOOK_NS       (5000 * MS)  /* it does not say: a bridge may come */
#define LINKS_NS      (100 * MS)   /* between two looks at a storm of changes */
#define RENEW_LATE_NS (1000 * MS)  /* a membership waits so long for a moment without packets */
#define REST_LATE_NS  (2 * MS)     /* who is woken later than this was held up */
#define PACE_NS       (100 * MS)   /* in which packets are counted */
#define REST_PACKETS  (PACKETS_BATCH / 2)
#define UNRESTED      16         /* reads after a rest that brought nothing: the next packets come later than that */
#define DOUBT_NS      (500 * MS) /* packets that came come no more: sound is to be back within a second */

#define CONTROL_BYTES (CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t)))

/* What one call of the kernel brings. */
struct received {
    struct mmsghdr messages[PACKETS_BATCH];
    struct iovec vectors[PACKETS_BATCH];
    struct sockaddr_in from[PACKETS_BATCH];
    _Alignas(struct cmsghdr) uint8_t control[PACKETS_BATCH][CONTROL_BYTES];
    unsigned used; /* messages that the kernel has filled in */
};

struct source_udp {
    struct source base;
    struct udp_socket socket;
    struct links *links;
    int64_t links_ns; /* when to look at them next, their fd unwatched until then; INT64_MAX: when they say so */
    struct packets packets;
    char *interface;
    int64_t refresh_ns;
    int64_t doubt_ns;      /* when silence is to be doubted; INT64_MAX: it is believed */
    int64_t doubt_wait_ns; /* and again so long after that */
    uint32_t overflows;    /* as the kernel counts them, for this socket */
    bool fed;              /* there was something since next() said there is nothing */
    bool stamped;          /* ... and the kernel wrote down when */
    unsigned read;         /* packets since then */
    unsigned paced;        /* packets since pace_ns; in the time before that, one in interval_ns */
    int64_t pace_ns, interval_ns;
    unsigned unrested;           /* reads until it may rest again */
    struct received received[2]; /* one for each of packets' batches */
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
    pid_t pid = udp_port_holder(s->socket.port, holder, sizeof holder);
    if (pid == getpid())
        snprintf(text, sizeof text,
                 "UDP port %u is in use by another of Earshot's own configurations: give one of them another port",
                 (unsigned)s->socket.port);
    else if (pid > 0)
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
        s->packets.drained_ns = now_ns;
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

/* A guest that falls silent may have nothing to say, or a switch on the way has forgotten who listens, being restarted or
 * told to: each time after twice as long, until that is what renewing does anyway. */
static void doubt_silence(struct source_udp *s, int64_t now_ns)
{
    if (s->fed) {
        s->doubt_wait_ns = DOUBT_NS;
        s->doubt_ns = now_ns + DOUBT_NS;
    } else if (now_ns >= s->doubt_ns) {
        udp_socket_doubt(&s->socket);
        s->doubt_wait_ns *= 2;
        s->doubt_ns = s->doubt_wait_ns < UDP_RENEW_NS ? now_ns + s->doubt_wait_ns : INT64_MAX;
    }
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
    if (s->doubt_ns < wake_ns)
        wake_ns = s->doubt_ns;
    return s->links_ns < wake_ns ? s->links_ns : wake_ns;
}

/* A packet's receive time, -1 where it has none; and the kernel's count of packets it had no room for. */
static int64_t read_control(struct source_udp *s, struct msghdr *message)
{
    int64_t received_ns = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_TIMESTAMPNS && c->cmsg_len >= CMSG_LEN(sizeof(struct timespec))) {
            struct timespec time;
            memcpy(&time, CMSG_DATA(c), sizeof time);
            received_ns = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
        } else if (c->cmsg_type == SO_RXQ_OVFL && c->cmsg_len >= CMSG_LEN(sizeof(uint32_t))) {
            uint32_t overflows;
            memcpy(&overflows, CMSG_DATA(c), sizeof overflows);
            if (overflows != s->overflows)
                packets_lost(&s->packets, overflows - s->overflows);
            s->overflows = overflows;
        }
    }
    return received_ns;
}

/* How long the kernel's buffer would last now, the least of all the streams there were. */
static void note_buffer(void *arg, const struct pcm_format *format, size_t payload)
{
    struct source_udp *s = arg;
    int64_t packet_ns = (int64_t)(payload / pcm_frame_bytes(format)) * 1000000000 / format->rate;
    int64_t buffer_ns = udp_socket_buffer_ns(&s->socket, payload + SCREAM_UDP_HEADER_BYTES, packet_ns);
    if (buffer_ns > 0 && (s->base.counters.buffer_ns == 0 || buffer_ns < s->base.counters.buffer_ns))
        s->base.counters.buffer_ns = buffer_ns;
}

/* Makes a message ready for the kernel. Only those that were used need it again: touching all at each wake-up costs. */
static void arm(struct received *r, struct packet_batch *batch, unsigned i)
{
    r->vectors[i] = (struct iovec){packets_slot(batch, i), PACKETS_BYTES};
    r->messages[i] = (struct mmsghdr){
        .msg_hdr = {.msg_name = &r->from[i],
                    .msg_namelen = sizeof r->from[i],
                    .msg_iov = &r->vectors[i],
                    .msg_iovlen = 1,
                    .msg_control = r->control[i],
                    .msg_controllen = sizeof r->control[i]}
    };
}

/* Reads what has arrived, at most a batch. */
static void fill(void *arg, struct packet_batch *batch, int64_t now_ns)
{
    struct source_udp *s = arg;
    if (s->socket.fd < 0)
        return;
    struct received *r = &s->received[batch - s->packets.batches];
    for (; r->used > 0; r->used--)
        arm(r, batch, r->used - 1);
    int count = recvmmsg(s->socket.fd, r->messages, PACKETS_BATCH, MSG_DONTWAIT, NULL);
    if (count < 0) {
        if (errno == EAGAIN) {
            packets_drained(&s->packets, now_ns);
        } else if (errno != EINTR) {
            char text[160];
            snprintf(text, sizeof text, "cannot receive at UDP port %u: %s", (unsigned)s->socket.port,
                     strerror(errno));
            set_state(s, SOURCE_FAILED, text);
            udp_socket_close(&s->socket);
            s->base.fd = -1;
            s->refresh_ns = now_ns + RETRY_NS;
        }
        return;
    }
    r->used = (unsigned)count;
    bool steady = packets_map_clocks(&s->packets);
    s->stamped = steady;
    s->read += r->used;
    s->packets.rested = s->base.rest_ns > 0 && now_ns - s->base.rest_ns < REST_LATE_NS;
    for (int i = 0; i < count; i++) {
        struct mmsghdr *message = &r->messages[i];
        int64_t received_ns = read_control(s, &message->msg_hdr), arrival_ns, window_ns;
        s->stamped = s->stamped && received_ns >= 0;
        packets_arrival(&s->packets, steady ? received_ns : -1, now_ns, &arrival_ns, &window_ns);
        packets_take(&s->packets, batch, r->from[i].sin_addr, r->from[i].sin_port, r->vectors[i].iov_base,
                     message->msg_len, arrival_ns, window_ns);
    }
    batch->full = count == PACKETS_BATCH;
    if (!batch->full)
        packets_drained(&s->packets, now_ns);
}

static void follow_pace(struct source_udp *s, int64_t now_ns)
{
    s->paced += s->read;
    if (now_ns - s->pace_ns < PACE_NS)
        return;
    s->interval_ns = s->paced > 0 ? (now_ns - s->pace_ns) / s->paced : 0;
    s->pace_ns = now_ns;
    s->paced = 0;
}

/* Where there is room, what comes is read together: each wake-up costs more than the packets. A part of the time that the
 * kernel's buffer lasts, at most, and a part of what is read at once. */
static void rest(struct source_udp *s, int64_t now_ns)
{
    follow_pace(s, now_ns);
    int64_t rest_ns = s->fed && s->stamped && s->read <= REST_PACKETS ? s->base.patience_ns : 0;
    int64_t most_ns = s->base.counters.buffer_ns / 4;
    if (most_ns > 0 && rest_ns > most_ns)
        rest_ns = most_ns;
    if (rest_ns > REST_PACKETS * s->interval_ns)
        rest_ns = REST_PACKETS * s->interval_ns;
    bool in_vain = !s->fed && s->base.rest_ns > 0 && s->base.rest_ns <= now_ns;
    if (in_vain) {
        s->unrested = UNRESTED;
    } else if (s->fed && s->unrested > 0) {
        s->unrested--;
        rest_ns = 0;
    }
    s->read = 0;
    s->base.rest_ns = rest_ns > 0 ? now_ns + rest_ns : 0;
}

static int source_udp_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct source_udp *s = (struct source_udp *)source;
    if (source->watch_ready || now_ns >= s->links_ns)
        follow_links(s, now_ns);
    if (now_ns >= s->refresh_ns)
        maintain(s, now_ns);
    int found = packets_next(&s->packets, block, now_ns);
    if (found) {
        int64_t read_ns = source->rest_ns < now_ns ? source->rest_ns : now_ns;
        block->waited_ns = read_ns > block->arrival_ns ? read_ns - block->arrival_ns : 0;
    } else {
        doubt_silence(s, now_ns);
        renew(s, now_ns);
        rest(s, now_ns);
        /* What was read ahead has left the socket: fd will not wake us for it. */
        source->wake_ns = s->packets.ahead_ready ? now_ns : idle_until_ns(s);
    }
    s->fed = found;
    return found;
}

static void source_udp_set_senders(struct source *source, const struct source_senders *senders)
{
    struct source_udp *s = (struct source_udp *)source;
    packets_set_senders(&s->packets, senders);
}

static void source_udp_close(struct source *source)
{
    struct source_udp *s = (struct source_udp *)source;
    udp_socket_close(&s->socket);
    links_close(s->links);
    packets_free(&s->packets);
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
    s->links_ns = s->doubt_ns = INT64_MAX;
    for (unsigned i = 0; i < 2; i++)
        s->received[i].used = PACKETS_BATCH;
    s->packets = (struct packets){.counters = &s->base.counters, .fill = fill, .begun = note_buffer, .arg = s};
    int error = packets_init(&s->packets, params->from, params->from_count);
    if (error == 0)
        error = links_open(&s->links);
    s->base.watch_fd = error == 0 ? links_fd(s->links) : 0;
    if (params->interface) {
        s->interface = strdup(params->interface);
        s->socket.interface = s->interface;
        error = s->interface ? error : -ENOMEM;
    }
    if (error < 0) {
        source_udp_close(&s->base);
        return -ENOMEM;
    }
    set_state(s, SOURCE_NO_INTERFACE, "not listening yet");
    *source = &s->base;
    return 0;
}
