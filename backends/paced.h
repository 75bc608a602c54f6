/* SPDX-License-Identifier: MIT
 *
 * A simulated device: a thread that pulls in real time, by a clock of its own that runs at a chosen distance from
 * CLOCK_MONOTONIC and misbehaves as told. What null and wav have instead of hardware. As with a sound server, any
 * number of streams play on one device, and its thread wakes once for all of them.
 */
#ifndef EARSHOT_PACED_H
#define EARSHOT_PACED_H

#include "backends/backend.h"

#include <stdbool.h>
#include <stdint.h>

struct paced_params {
    uint32_t rate;         /* nominal, what pull_time says */
    uint32_t period[2];    /* frames a pull; the second takes turns with the first, 0: no second */
    uint32_t hold_cycles;  /* cycles between the turns; > 0 */
    double ppm;            /* > 0: the device's clock is faster than CLOCK_MONOTONIC */
    int64_t jitter_ns;     /* the callback comes 0..jitter late; cycle_ns stays right */
    int64_t noise_ns;      /* cycle_ns is wrong by up to +-noise, as with a coarse clock */
    uint32_t double_every; /* every so many cycles it asks for two periods at once, then skips one; 0: never */
    uint32_t delay_frames; /* constant delay behind the pull */
    int64_t late_max_ns;   /* later than this and the device runs on without us: its position jumps */
    uint32_t seed;         /* of jitter and noise; 0 is a seed like any other */
    bool realtime;         /* SCHED_FIFO, where that is permitted */
};

struct paced;
struct paced_stream;

struct paced_stream_params {
    /* [rt] dst has room for BACKEND_CHANNELS_MAX channels. */
    void (*pull)(void *arg, float *dst, uint32_t frames, const struct pull_time *time);
    void *pull_arg;
    /* Takes what pull gave; NULL: nobody does. Same thread, outside pull: may block, and all the device's streams wait. */
    void (*sink)(void *arg, const float *frames, uint32_t count);
    void *sink_arg;
};

/* [main] -ENOMEM. Params are copied. The device's clock starts here and runs whether anything plays or not. */
int paced_create(struct paced **paced, const struct paced_params *params);

/* [main] After its streams. NULL is fine. */
void paced_destroy(struct paced *paced);

/* [main] -ENOMEM. Params are copied. The stream belongs to the caller: paced_close(). */
int paced_open(struct paced *paced, const struct paced_stream_params *params, struct paced_stream **stream);

/* [main] From now on it is pulled; the first of a device's streams starts the thread. 0 or -errno. */
int paced_start(struct paced_stream *stream);

/* [main] On return no pull of this stream is running; the last one ends the thread, also where that waits. Fine on one
 * that is stopped. */
void paced_stop(struct paced_stream *stream);

/* [main] Stops it. NULL is fine. */
void paced_close(struct paced_stream *stream);

/* ---- the device's arithmetic, apart from its thread: pure, for tests. Any thread. ---- */

struct paced_clock {
    struct paced_params params;
    int64_t origin_ns; /* CLOCK_MONOTONIC at position 0 */
    int64_t position;  /* frames: where the next cycle begins */
    uint64_t cycle;    /* cycles so far */
    uint64_t random;   /* generator's state */
    bool restarted;    /* the next cycle is the first after a start */
};

/* One cycle: when to wake, and what to ask for. */
struct paced_cycle {
    int64_t wake_ns;        /* CLOCK_MONOTONIC */
    uint32_t frames, pulls; /* each of `pulls` (1 or 2) asks for `frames` */
    struct pull_time time;  /* of the first pull; a second one has delay_frames + frames */
};

/* CLOCK_MONOTONIC at which the device reaches `position`. */
int64_t paced_clock_time(const struct paced_clock *clock, int64_t position);

/* Begins at `now_ns`, after the last position: the device has run on meanwhile. */
void paced_clock_start(struct paced_clock *clock, int64_t now_ns);

/* The next cycle, seen from `now_ns`. Where that is more than late_max_ns past it, the cycles missed are skipped and
 * the cycle is marked as a discontinuity. */
void paced_clock_next(struct paced_clock *clock, int64_t now_ns, struct paced_cycle *cycle);

#endif
