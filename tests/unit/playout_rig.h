/* SPDX-License-Identifier: MIT
 *
 * A guest, a feed, a playout and a device for the tests of the pull: chunk by chunk and cycle by cycle under a virtual
 * clock. The guest plays a tone without end, so whatever is not smooth in what comes out was made on the way.
 */
#ifndef EARSHOT_TESTS_PLAYOUT_RIG_H
#define EARSHOT_TESTS_PLAYOUT_RIG_H

#include "backends/paced.h"
#include "receiver/playout.h"

#include <stdbool.h>
#include <stdint.h>

#define RIG_MS     INT64_C(1000000)
#define RIG_SECOND INT64_C(1000000000)
#define RIG_LEVEL  0.5
#define RIG_HZ     200.0 /* so slow that a step of a few samples' slope stands out */
#define RIG_FRAMES 8192  /* the longest pull */

struct rig {
    struct feed *feed;
    struct playout *playout;

    /* the guest; may be changed between runs */
    uint32_t chunk;       /* frames */
    double guest_ppm;     /* > 0: faster than CLOCK_MONOTONIC */
    int64_t late_ns;      /* each chunk comes 0..late_ns late */
    bool paused;          /* makes no chunks */
    bool stalled;         /* makes chunks, and sends them when it is over */
    unsigned owed;        /* chunks, while stalled */
    uint64_t sent;        /* frames */
    double phase;         /* of the tone, in cycles */
    double level;         /* of the tone */
    int64_t guest_due_ns; /* of the next chunk */
    int64_t chunk_at_ns;  /* with its lateness */

    /* the device; may be changed between runs */
    uint32_t rate, quantum, clock_id;
    double device_ppm;
    int64_t delay_frames;
    unsigned flags;    /* of the next pull */
    unsigned keep;     /* flags of every pull */
    bool twice;        /* the next cycle asks twice */
    bool stopped;      /* does not ask; its position goes on */
    double cycle_ns;   /* of the next cycle */
    int64_t position;  /* at that */
    uint64_t produced; /* frames it got */

    /* the device, instead of the above, after rig_attach() */
    bool paced;
    struct paced_clock paced_clock;
    struct paced_cycle paced_due;
    unsigned stall_every; /* cycles; 0: never. Each such cycle's callback comes ... */
    int64_t stall_ns;     /* ... so much later still */

    void (*pull)(void *playout, float *dst, uint32_t frames, const struct pull_time *time);
    void (*tap)(void *arg, uint64_t at, const float *samples, uint32_t frames); /* or NULL */
    void *tap_arg;
    uint64_t random;
    unsigned channels;
    float out[RIG_FRAMES * 2]; /* the last pull */
    uint8_t bytes[RIG_FRAMES * 2 * 4];
    float floats[RIG_FRAMES * 2];
};

/* A guest of 48 kHz, 32 bit, stereo with chunks of 20 ms and a device of 48 kHz and 256 frames. The rig is freed by
 * rig_free(). */
struct rig *rig_new(const struct playout_params *params);
/* One that has played for as long as it takes to lock. */
struct rig *rig_new_locked(const struct playout_params *params);
void rig_free(struct rig *rig);

/* The null backend's device instead of the rig's own; rate, ppm, delay and the rest are its. Before the first run. */
void rig_attach(struct rig *rig, const struct paced_params *params);

/* Lets `seconds` of CLOCK_MONOTONIC pass. */
void rig_run(struct rig *rig, double seconds);

/* Another nominal rate of the device, its position counted in the new frames. */
void rig_set_rate(struct rig *rig, uint32_t rate);

/* The largest step between two samples that the tone makes by itself, at the device's rate. */
double rig_slope(const struct rig *rig);

/* A tap that looks for steps and for silence. */
struct rig_ear {
    double worst;  /* largest step */
    uint64_t at;   /* where it was */
    double peak;   /* largest sample */
    uint64_t zero; /* frames that were exactly 0 in all channels */
    uint64_t frames;
    uint64_t first; /* the first frame that was not 0; UINT64_MAX: none */
    float last[2];
    bool begun;
};

/* What follows is heard by this ear, which is reset. */
void rig_listen(struct rig *rig, struct rig_ear *ear);

struct playout_stats rig_stats(const struct rig *rig);
struct playout_trace rig_trace(const struct rig *rig);

#endif
