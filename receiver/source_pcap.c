/* SPDX-License-Identifier: MIT
 *
 * Packets as an interface sees them, for guests that the host cannot hear through a socket: macvtap lets nothing
 * through between a guest and the host it runs on.
 */
#include "receiver/datagram.h"
#include "receiver/packets.h"
#include "receiver/source.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MS 1000000LL

#define LOOK_NS    (250 * MS)  /* for an interface that is not there */
#define RETRY_NS   (1000 * MS) /* something else is wrong */
#define REFRESH_NS (5000 * MS) /* -i may name an address, which may move */
#define STATS_NS   (1000 * MS)

#define MTU_USUAL     1500u
#define ETHER_BYTES   (14u + 2 * 4u) /* before a packet: addresses, type, two VLAN tags */
#define CAPTURE_MAX   65535u         /* a datagram is no longer */
#define RING_PACKETS  2048u          /* 380 ms of the largest stream */
#define RING_OVERHEAD 128u
#define RING_MAX      (8u << 20) /* real memory, and the kernel's page-wise division can double it */

struct source_pcap {
    struct source base;
    struct packets packets;
    pcap_t *capture;          /* NULL: closed */
    char *interface;          /* name or address */
    char device[IF_NAMESIZE]; /* that is captured */
    unsigned index;
    uint16_t port;
    unsigned longest; /* of the packets that were cut: the MTU was changed, or the kernel joins packets */
    bool cut;
    int64_t refresh_ns, stats_ns;
    unsigned dropped; /* as the kernel counts them, for this capture */
};

/* What a callback needs. */
struct reading {
    struct source_pcap *source;
    struct packet_batch *batch;
    int64_t now_ns;
    unsigned count; /* slots used */
    bool mapped, steady;
};

static void set_state(struct source_pcap *s, enum source_state state, const char *detail)
{
    s->base.status.state = state;
    snprintf(s->base.status.detail, sizeof s->base.status.detail, "%s", detail);
}

static void close_capture(struct source_pcap *s)
{
    if (s->capture)
        pcap_close(s->capture);
    s->capture = NULL;
    s->base.fd = -1;
}

/* The name of the interface that has an address. */
static bool find_device(uint32_t address, char name[IF_NAMESIZE])
{
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return false;
    bool found = false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        struct sockaddr_in in;
        memcpy(&in, i->ifa_addr, sizeof in);
        found = in.sin_addr.s_addr == address;
        if (found)
            snprintf(name, IF_NAMESIZE, "%s", i->ifa_name);
    }
    freeifaddrs(list);
    return found;
}

/* The interface's index now, its name in s->device; 0: it is not there. */
static unsigned look_up(struct source_pcap *s)
{
    struct in_addr address;
    if (inet_pton(AF_INET, s->interface, &address) != 1)
        snprintf(s->device, sizeof s->device, "%s", s->interface);
    else if (!find_device(address.s_addr, s->device))
        return 0;
    return if_nametoindex(s->device);
}

static unsigned read_mtu(const char *device)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu > 0;
    if (fd >= 0)
        close(fd);
    return known ? (unsigned)request.ifr_mtu : MTU_USUAL;
}

/* The kernel gives a ring of equal slots: as large as this interface's packets need. */
static void set_sizes(const struct source_pcap *s, pcap_t *capture)
{
    unsigned bytes = read_mtu(s->device) + ETHER_BYTES;
    if (bytes < s->longest)
        bytes = s->longest;
    if (bytes > CAPTURE_MAX)
        bytes = CAPTURE_MAX;
    unsigned ring = RING_PACKETS * (bytes + RING_OVERHEAD);
    pcap_set_snaplen(capture, (int)bytes);
    pcap_set_buffer_size(capture, (int)(ring < RING_MAX ? ring : RING_MAX));
}

/* Only what is sent to the port leaves the kernel, whatever tags it has. */
static int set_filter(const struct source_pcap *s, pcap_t *capture)
{
    char text[160];
    struct bpf_program program;
    unsigned port = s->port;
    snprintf(text, sizeof text,
             "(ip and udp dst port %u) or (vlan and ((ip and udp dst port %u) or (vlan and ip and udp dst port %u)))",
             port, port, port);
    if (pcap_compile(capture, &program, text, 1, PCAP_NETMASK_UNKNOWN) < 0)
        return PCAP_ERROR;
    int error = pcap_setfilter(capture, &program);
    pcap_freecode(&program);
    return error;
}

/* 0, or one of libpcap's errors with a clause about it in `text`. */
static int open_capture(struct source_pcap *s, char *text, size_t size)
{
    char reason[PCAP_ERRBUF_SIZE] = "";
    pcap_t *capture = pcap_create(s->device, reason);
    if (!capture) {
        snprintf(text, size, "%.80s", reason);
        return PCAP_ERROR;
    }
    set_sizes(s, capture);
    pcap_set_promisc(capture, 1); /* what is sent to the guest's group or to this host is for other addresses here */
    pcap_set_immediate_mode(capture, 1);
    pcap_set_tstamp_precision(capture, PCAP_TSTAMP_PRECISION_NANO);
    int error = pcap_activate(capture);
    if (error < 0) {
        const char *what = error == PCAP_ERROR ? pcap_geterr(capture) : pcap_statustostr(error);
        snprintf(text, size, "%.80s", what);
    } else if (pcap_datalink(capture) != DLT_EN10MB) {
        snprintf(text, size, "it is no Ethernet");
        error = PCAP_ERROR;
    } else if (set_filter(s, capture) < 0 || pcap_setnonblock(capture, 1, reason) < 0) {
        snprintf(text, size, "%.80s", reason[0] ? reason : pcap_geterr(capture));
        error = PCAP_ERROR;
    } else {
        error = 0; /* warnings are positive */
    }
    if (error < 0) {
        pcap_close(capture);
        return error;
    }
    s->capture = capture;
    s->base.fd = pcap_get_selectable_fd(capture);
    s->dropped = 0;
    s->cut = false;
    return 0;
}

static void set_waiting(struct source_pcap *s, const char *until)
{
    char text[160];
    snprintf(text, sizeof text, "waiting for the network interface %.64s%s", s->interface, until);
    set_state(s, SOURCE_NO_INTERFACE, text);
}

static void set_denied(struct source_pcap *s)
{
    char text[160], program[80] = "earshot";
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0 && length < (ssize_t)sizeof program - 1)
        program[length] = 0;
    else
        strcpy(program, "\"$(command -v earshot)\"");
    snprintf(text, sizeof text, "no permission to capture on %.15s: sudo setcap cap_net_raw+ep %s", s->device,
             program);
    set_state(s, SOURCE_NO_ACCESS, text);
}

static void maintain(struct source_pcap *s, int64_t now_ns)
{
    unsigned index = look_up(s);
    if (s->capture && (index != s->index || s->cut))
        close_capture(s);
    s->index = index;
    if (index == 0) {
        set_waiting(s, "");
        s->refresh_ns = now_ns + LOOK_NS;
        return;
    }
    if (s->capture) {
        s->refresh_ns = now_ns + REFRESH_NS;
        return;
    }
    char reason[96], text[160];
    s->packets.drained_ns = now_ns;
    s->refresh_ns = now_ns + RETRY_NS;
    switch (open_capture(s, reason, sizeof reason)) {
    case 0:
        set_state(s, SOURCE_LISTENING, "");
        s->refresh_ns = now_ns + REFRESH_NS;
        break;
    case PCAP_ERROR_IFACE_NOT_UP:
        set_waiting(s, " to be up");
        s->refresh_ns = now_ns + LOOK_NS;
        break;
    case PCAP_ERROR_PERM_DENIED:
    case PCAP_ERROR_PROMISC_PERM_DENIED:
        set_denied(s);
        break;
    default:
        snprintf(text, sizeof text, "cannot capture on %.15s: %s", s->device, reason);
        set_state(s, SOURCE_FAILED, text);
    }
}

/* libpcap calls this for each packet of a read. */
static void take(u_char *arg, const struct pcap_pkthdr *header, const u_char *frame)
{
    struct reading *r = (struct reading *)(void *)arg;
    struct source_pcap *s = r->source;
    struct datagram datagram;
    switch (datagram_find(&datagram, frame, header->caplen, header->len)) {
    case DATAGRAM_WHOLE:
        break;
    case DATAGRAM_CUT:
        s->base.counters.rejected++;
        if (header->len > s->longest) {
            s->longest = header->len;
            s->cut = true;
        }
        return;
    case DATAGRAM_FRAGMENT:
        s->base.counters.fragments++;
        return;
    default:
        s->base.counters.rejected++;
        return;
    }
    if (datagram.to_port != htons(s->port) || datagram.bytes > PACKETS_BYTES) /* older than the filter */
        return;
    if (!r->mapped) {
        r->steady = packets_map_clocks(&s->packets);
        r->mapped = true;
    }
    int64_t received_ns = (int64_t)header->ts.tv_sec * 1000000000;
    bool nano = pcap_get_tstamp_precision(s->capture) == PCAP_TSTAMP_PRECISION_NANO;
    received_ns += (int64_t)header->ts.tv_usec * (nano ? 1 : 1000);
    int64_t arrival_ns, window_ns;
    packets_arrival(&s->packets, r->steady ? received_ns : -1, r->now_ns, &arrival_ns, &window_ns);
    uint8_t *slot = packets_slot(r->batch, r->count++);
    memcpy(slot, frame + datagram.at, datagram.bytes); /* the ring's slot is the kernel's again after this call */
    packets_take(&s->packets, r->batch, datagram.from, datagram.from_port, slot, datagram.bytes, arrival_ns,
                 window_ns);
}

static void count_lost(struct source_pcap *s, int64_t now_ns)
{
    struct pcap_stat stats;
    s->stats_ns = now_ns + STATS_NS;
    if (pcap_stats(s->capture, &stats) < 0)
        return;
    if (stats.ps_drop != s->dropped)
        packets_lost(&s->packets, stats.ps_drop - s->dropped);
    s->dropped = stats.ps_drop;
}

static void fill(void *arg, struct packet_batch *batch, int64_t now_ns)
{
    struct source_pcap *s = arg;
    if (!s->capture)
        return;
    struct reading reading = {.source = s, .batch = batch, .now_ns = now_ns};
    int count = pcap_dispatch(s->capture, PACKETS_BATCH, take, (u_char *)&reading);
    if (count < 0) { /* the interface went down, or away */
        close_capture(s);
        s->refresh_ns = now_ns;
        return;
    }
    batch->full = count >= PACKETS_BATCH;
    if (count > 0 && (now_ns >= s->stats_ns || batch->full))
        count_lost(s, now_ns);
    if (!batch->full)
        packets_drained(&s->packets, now_ns);
    if (s->cut)
        s->refresh_ns = now_ns;
}

static int source_pcap_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct source_pcap *s = (struct source_pcap *)source;
    if (now_ns >= s->refresh_ns)
        maintain(s, now_ns);
    int found = packets_next(&s->packets, block, now_ns);
    if (!found) /* what was read ahead has left the ring: fd will not wake us for it */
        source->wake_ns = s->packets.ahead_ready ? now_ns : s->refresh_ns;
    return found;
}

static void source_pcap_set_senders(struct source *source, const struct source_senders *senders)
{
    struct source_pcap *s = (struct source_pcap *)source;
    packets_set_senders(&s->packets, senders);
}

static void source_pcap_close(struct source *source)
{
    struct source_pcap *s = (struct source_pcap *)source;
    close_capture(s);
    packets_free(&s->packets);
    free(s->interface);
    free(s);
}

static const struct source_ops source_pcap_ops = {
    .next = source_pcap_next,
    .close = source_pcap_close,
    .set_senders = source_pcap_set_senders,
};

int source_pcap_open(struct source **source, const struct source_pcap_params *params)
{
    if (params->port == 0 || !params->interface || params->interface[0] == 0 ||
        strlen(params->interface) >= IF_NAMESIZE)
        return -EINVAL;
    struct source_pcap *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->base = (struct source){.ops = &source_pcap_ops, .kind = SOURCE_PCAP, .fd = -1, .wake_ns = 0};
    s->port = params->port;
    s->packets = (struct packets){.counters = &s->base.counters, .fill = fill, .arg = s};
    int error = packets_init(&s->packets, params->from, params->from_count);
    s->interface = strdup(params->interface);
    if (error < 0 || !s->interface) {
        source_pcap_close(&s->base);
        return -ENOMEM;
    }
    set_waiting(s, "");
    *source = &s->base;
    return 0;
}
