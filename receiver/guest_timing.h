/* SPDX-License-Identifier: MIT
 *
 * When the guest's driver delivers how much: pure arithmetic on times since the stream's start, reads no clock. A unit
 * is a chunk of the shared-memory ring or a packet; a packet need not be a whole number of frames. Any thread.
 *
 * Steady (tick_ns 0): each burst of units is delivered when its last frame has been played into it.
 * Timer: the driver's timer is due every 10 ms, but fires only on the system's tick (1 or 15.625 ms); all units that
 * are complete by then are delivered together.
 */
#ifndef EARSHOT_GUEST_TIMING_H
#define EARSHOT_GUEST_TIMING_H

#include <stdint.h>

#define GUEST_TIMER_NS 10000000

struct guest_timing_params {
    uint32_t rate;          /* frames per second of the guest's clock */
    uint32_t frame_bytes;   /* > 0 */
    uint32_t unit_bytes;    /* > 0 */
    uint32_t burst_units;   /* units held back and delivered at once, >= 1 */
    double ppm;             /* the guest's clock runs (1 + ppm / 1e6) times the host's */
    int64_t jitter_ns;      /* each delivery is later by uniformly 0..jitter_ns; order is kept */
    int64_t tick_ns;        /* 0: steady */
    int64_t pause_every_ns; /* after so much audio ... */
    int64_t pause_ns;       /* ... nothing is played for so long; 0: never */
    uint64_t seed;          /* same seed, same jitter */
};

struct guest_timing {
    struct guest_timing_params params;
    uint64_t next_unit;
    int64_t last_ns;
    uint64_t random;
};

struct guest_delivery {
    int64_t at_ns; /* host time since the stream's start */
    uint64_t first_unit;
    uint32_t units;
};

/* -EINVAL: a parameter is out of range. */
int guest_timing_init(struct guest_timing *timing, const struct guest_timing_params *params);

/* The next delivery; at_ns never falls. */
void guest_timing_next(struct guest_timing *timing, struct guest_delivery *delivery);

/* Frames that are complete once `units` units are delivered. */
uint64_t guest_timing_frames(const struct guest_timing *timing, uint64_t units);

/* Frames as nanoseconds of the guest's own clock, rounded up. */
int64_t guest_timing_duration_ns(uint64_t frames, uint32_t rate);

#endif
