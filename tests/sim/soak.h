/* SPDX-License-Identifier: MIT
 *
 * The soak: hours of a guest, a wire, a source thread and a device under a virtual clock, and one fault after the other
 * from a schedule that a seed decides. What reads the guest is the production code from the ring file or the packet on:
 * source_shm or packets, feed, playout. Invariants are looked at in every pull.
 *
 * soak_world.c: what there is; soak_faults.c: what happens to it; soak_check.c: what must hold meanwhile.
 */
#ifndef EARSHOT_SIM_SOAK_H
#define EARSHOT_SIM_SOAK_H

#include "receiver/packets.h"
#include "receiver/playout.h"
#include "ringbuf/scream_shm.h"
#include "ringbuf/scream_udp.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define SOAK_PULL_MAX     8192
#define SOAK_QUEUE        4096 /* packets on the wire or in the socket; a power of two */
#define SOAK_SOCKET       300  /* that the socket has room for */
#define SOAK_LEVEL        0.5
#define SOAK_HZ           200.0
#define SOAK_PACKET_BYTES (SCREAM_UDP_HEADER_BYTES + SCREAM_UDP_PAYLOAD_BYTES)

enum soak_fault_kind {
    SOAK_STALL,        /* the guest's driver is held up, then catches up */
    SOAK_PAUSE,        /* the guest plays nothing */
    SOAK_RESTART,      /* the guest's stream ends and begins anew, in the same format */
    SOAK_FORMAT,       /* ... in another one */
    SOAK_PPM,          /* the guest's clock changes its rate */
    SOAK_TICK,         /* the guest's timer gets coarser or finer */
    SOAK_JITTER,       /* for some seconds the driver is late by up to so much */
    SOAK_LUMPS,        /* for some seconds the driver looks only so often: bursts */
    SOAK_LOSS,         /* packets get lost */
    SOAK_DUPLICATE,    /* packets come twice */
    SOAK_REORDER,      /* packets come behind those that were sent after them */
    SOAK_SOURCE_STALL, /* the thread that reads the guest is not run */
    SOAK_DEVICE_STOP,  /* the device does not ask, its position goes on */
    SOAK_DEVICE_XRUN,  /* the device goes on without us for some frames */
    SOAK_DEVICE_LATE,  /* one callback is late, and says so */
    SOAK_DEVICE_TWICE, /* two callbacks in one cycle */
    SOAK_QUANTUM,      /* the device asks for more or less at once, 64..4096 */
    SOAK_DEVICE_RATE,  /* the graph's rate */
    SOAK_DEVICE_MOVED, /* another device: its clock, its position */
    SOAK_SERVER_LOST,  /* no device for a while, then another one */
    SOAK_SUSPEND,      /* the host sleeps: no time passes, but nothing is where it was */
    SOAK_FAULTS
};

struct soak_params {
    enum source_kind kind; /* SOURCE_SHM or SOURCE_UDP */
    uint64_t seed;
    double seconds;
    bool verbose; /* a line for each fault */
};

struct soak_guest {
    bool open, fresh; /* fresh: no chunk of this stream has been looked at */
    struct pcm_format format, next_format;
    uint32_t unit_frames;
    uint16_t port; /* udp: of this stream */
    double base_s, base_frames, ppm;
    double tick_s, delay_s;
    double next_fire_s, delivery_s; /* INFINITY: nothing to deliver */
    uint64_t found, delivered;      /* frames of this stream */
    double stalled_until_s, paused_until_s, reopen_s;
    /* faults that end by themselves */
    double odd_until_s, normal_tick_s;
    uint8_t *wave; /* so many bytes of it come round */
    size_t wave_bytes, wave_at;
    double behind_frames; /* mean of what is not delivered yet just after a delivery */
    double behind_count;
};

struct soak_packet {
    double at_s; /* when it reaches the socket */
    uint16_t port;
    uint32_t frames;
    uint8_t bytes[SOAK_PACKET_BYTES];
};

struct soak_wire {
    struct scream_shm_writer writer;
    uint8_t *memory;
    char path[32];
    struct soak_packet *queue;
    unsigned first, count;
    uint64_t frames;                 /* in the queue */
    unsigned lose, duplicate, delay; /* of the next packets */
    uint32_t overflows;
};

struct soak_device {
    double cycle_s, ppm;
    int64_t position;
    uint32_t quantum, rate, clock_id;
    double off_until_s; /* does not ask before */
    double late_s;      /* the next callback */
    bool twice;
    unsigned flags;    /* of the next pull */
    double asked_at_s; /* when the frames it has been given end; < 0: none yet */
};

/* Frames, in all feeds so far. What is no source's and no feed's fault is counted by the world. */
struct soak_count {
    uint64_t sent;    /* by guests */
    uint64_t twice;   /* more of them, by the wire */
    uint64_t lost;    /* on the wire, in the socket, or in a ring that was closed before anybody looked */
    uint64_t refused; /* by the thread: another format too soon */
    uint64_t fed;
    uint64_t stale; /* of these, what an index that starts anew near where the last one ended gives out for new */
};

struct soak_check;

struct soak {
    const struct soak_params *params;
    uint64_t random;
    double now_s;
    struct soak_guest guest;
    struct soak_wire wire;
    struct soak_device device;

    struct source *source; /* shm */
    struct packets packets;
    struct source_counters counters; /* udp */
    double source_s, source_stalled_until_s;
    int64_t rest_ns; /* udp: the socket is not read before */

    struct feed *feed, *next_feed; /* next_feed: written already, played when the old one has faded */
    int64_t heard_ns, created_ns;
    double swap_s; /* INFINITY: nothing to swap */
    double fade_until_s;
    bool idle, corked;
    struct playout *playout;

    double fault_s; /* the next one */
    unsigned deck[SOAK_FAULTS], deck_at;
    struct soak_count count;
    struct soak_check *check;
    float *out;
};

/* --- soak_world.c */

double soak_uniform(struct soak *s);                                    /* [0, 1) */
double soak_pick(struct soak *s, const double *values, unsigned count); /* one of them */
int64_t soak_ns(double t_s);                                            /* CLOCK_MONOTONIC */
double soak_guest_frames(const struct soak *s, double t_s);             /* made since its stream began */
void soak_guest_rebase(struct soak *s);                                 /* before its rate changes */
void soak_guest_close(struct soak *s);
void soak_guest_open(struct soak *s); /* in its next_format */

/* Runs it; 0: all invariants held. What did not is printed with seed, time, fault and values. */
int soak_run(const struct soak_params *params);

/* --- soak_faults.c */

const char *soak_fault_name(enum soak_fault_kind kind);

/* The next fault happens, and when the one after it will is decided. */
void soak_fault(struct soak *s);

/* --- soak_check.c */

struct soak_check *check_new(struct soak *s);
void check_fault(struct soak_check *c, enum soak_fault_kind kind, double value, double end_s);
void check_begin(struct soak_check *c);  /* a playout has just been made */
void check_retire(struct soak_check *c); /* it is about to be destroyed */
void check_source(struct soak_check *c); /* it has just read all there was */
void check_pull(struct soak_check *c, uint32_t frames, double missed_frames);
/* Prints what there was; frees it. Returns how many invariants were violated. */
unsigned check_finish(struct soak_check *c);

#endif
