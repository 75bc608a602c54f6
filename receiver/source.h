/* SPDX-License-Identifier: MIT
 *
 * A source reads what guests write and hands it on in blocks. It never blocks by itself: the thread that runs it
 * (source_thread.h) sleeps until `wake_ns` or until `fd` is readable, so one thread serves any number of sources.
 *
 * open and close: [main]. next and set_senders: [src], by one thread only, or [main] before it has the source.
 */
#ifndef EARSHOT_SOURCE_H
#define EARSHOT_SOURCE_H

#include "receiver/format.h"

#include <stdbool.h>
#include <stdint.h>

/* Who sent a block. Two senders are the same where the ids are. */
struct sender {
    uint64_t id;    /* UDP, pcap: the IPv4 address; shared memory: 0 */
    char label[48]; /* UDP, pcap: "192.168.122.50"; shared memory: the file's basename. Names the stream. */
    bool claimed;   /* somebody asked for just this one: strangers never take its place */
};

#define SOURCE_SENDERS_MAX 64

/* Whose packets are wanted. */
struct source_senders {
    uint32_t from[SOURCE_SENDERS_MAX]; /* IPv4 addresses, network order: the claimed ones */
    unsigned count;
    bool others; /* and everybody else's */
};

enum block_flags {
    BLOCK_MORE = 1 << 0,    /* another block of this sender follows at once: a burst, only its last is timed */
    BLOCK_GAP = 1 << 1,     /* frames are missing before this block: the guest paused, or data was dropped */
    BLOCK_RESYNC = 1 << 2,  /* another stream of the guest's begins here: nothing before this block belongs to it */
    BLOCK_UNTIMED = 1 << 3, /* arrival_ns is what was expected: it says nothing new about the guest's clock */
};

/* Data points into the source and stays valid until the next call of next() or close(). */
struct block {
    struct sender sender;
    struct pcm_format format;
    const uint8_t *data;   /* whole frames, copied out of the guest's reach */
    uint32_t frames;       /* > 0 */
    uint32_t chunk_frames; /* what the guest delivers at once: the ring's chunk, the packet's frames */
    int64_t arrival_ns;    /* CLOCK_MONOTONIC at which the last frame is believed to have become available */
    int64_t window_ns;     /* width of the interval in which it must have become so; 0 = exact */
    int64_t waited_ns;     /* so long of the time since then it was left lying, because there was room for that */
    unsigned flags;        /* enum block_flags */
};

enum source_kind { SOURCE_SHM, SOURCE_UDP, SOURCE_PCAP };

/* What a source waits for, for the log and status. Each is one line, once, when it changes. */
enum source_state {
    SOURCE_LISTENING,    /* UDP: socket open, joined. pcap: capturing. shm: ring opened, header may be all zero */
    SOURCE_NO_FILE,      /* shm: not there yet */
    SOURCE_NO_ACCESS,    /* shm: not readable; pcap: not allowed to capture */
    SOURCE_EMPTY,        /* shm: too short to be a ring yet */
    SOURCE_NO_RING,      /* shm: no magic: driver not started, or could not map it */
    SOURCE_BAD_HEADER,   /* shm: magic, but fields that cannot be: `detail` says which */
    SOURCE_TAKEN,        /* shm: another earshot plays it */
    SOURCE_PORT_BUSY,    /* UDP: another program has the port */
    SOURCE_NO_INTERFACE, /* UDP, pcap: -i names one that does not exist yet; UDP: or none can do multicast */
    SOURCE_FAILED,       /* anything else; errno in `detail` */
};

struct source_status {
    enum source_state state;
    char detail[160]; /* a sentence a gamer understands: what, where, what to do; "" for LISTENING */
};

struct source_counters {
    uint64_t blocks;
    uint64_t rejected;       /* packets that are no Scream packet, headers that cannot be */
    uint64_t fragments;      /* pcap: pieces of packets too long for the network, which nobody puts together here */
    uint64_t ignored;        /* UDP, pcap: packets of senders that are not among those wanted */
    uint64_t dropped_frames; /* stale, overwritten while reading, or beyond what the ring holds */
    uint64_t lost_packets;   /* UDP, pcap: the kernel had no room for them */
    uint64_t wakeups;

    /* UDP: what main says about it, once */
    uint32_t rejected_from; /* the latest such sender's IPv4 address, network order */
    uint32_t ignored_from;
    bool rejected_long;  /* ... sends a header of six bytes */
    uint32_t unjoined;   /* interfaces beyond those the kernel lets a socket listen on */
    int64_t buffer_ns;   /* the shortest time that the kernel's buffer lasts, of what was heard so far; 0: unknown */
    bool buffer_limited; /* the system allows no larger one */
};

struct source;

struct source_ops {
    /* 1: *block filled, call again at once. 0: nothing now, call again at source->wake_ns or when source->fd is
     * readable. Never fails for good: a file or interface that is missing is a state that is looked at again. */
    int (*next)(struct source *source, struct block *block, int64_t now_ns);
    void (*close)(struct source *source); /* frees it */
    /* From now on only these. NULL where there is but one sender. */
    void (*set_senders)(struct source *source, const struct source_senders *senders);
};

/* First member of each source. */
struct source {
    const struct source_ops *ops;
    enum source_kind kind;
    int fd;              /* readable = call next(); -1: none. Any next() may change it */
    int watch_fd;        /* > 0: another one, seldom readable; then watch_ready is set before next() */
    bool watch_ready;    /* next() clears it */
    int64_t wake_ns;     /* CLOCK_MONOTONIC; INT64_MAX: only fd matters */
    int64_t slack_ns;    /* it does not matter if that is so much later, with others */
    int64_t rest_ns;     /* fd is not watched before, then next() is called; 0: it is watched */
    int64_t patience_ns; /* those who hear it have room for so much lateness more: the thread says so after a block */
    struct source_status status; /* [src] writes; source_thread hands changes to main */
    struct source_counters counters;
};

/* Shared memory: a ring file, or a character device that is mapped. The path need not exist. -ENOMEM, -EINVAL. */
int source_shm_open(struct source **source, const char *path);

struct source_udp_params {
    uint16_t port;         /* 1..65535 */
    const char *group;     /* multicast address; NULL: unicast only (-u) */
    const char *interface; /* name (need not exist yet) or address; NULL: every suitable one */
    const uint32_t *from;  /* only these IPv4 addresses, network order; NULL: all. Later: set_senders */
    unsigned from_count;   /* at most SOURCE_SENDERS_MAX */
};
int source_udp_open(struct source **source, const struct source_udp_params *params);

/* What an interface sees of packets to the port, whoever they are for. Only in builds with EARSHOT_PCAP. */
struct source_pcap_params {
    uint16_t port;
    const char *interface; /* name (need not exist yet) or address; at most 15 characters */
    const uint32_t *from;  /* as above */
    unsigned from_count;
};
int source_pcap_open(struct source **source, const struct source_pcap_params *params);

#endif
