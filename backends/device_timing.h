/* SPDX-License-Identifier: MIT
 *
 * When a device that one writes to asks for its next period, as pull_time wants it. The thread that writes wakes up
 * late, and devices tell their position only now and then; but where the device stood at a known time, and how much had
 * been written, say exactly when the room for the next period came free: that is the cycle, and cycles follow each
 * other by one period of the device's clock. Pure arithmetic; [rt] of one thread.
 */
#ifndef EARSHOT_DEVICE_TIMING_H
#define EARSHOT_DEVICE_TIMING_H

#include "backends/backend.h"

#include <stdbool.h>
#include <stdint.h>

/* Where a device stands, as it says itself. */
struct device_moment {
    int64_t at_ns;         /* CLOCK_MONOTONIC */
    int64_t queued_frames; /* written by us and not yet taken out of the buffer at that time */
    int64_t beyond_frames; /* from there until it is heard */
    bool estimated;        /* only the sum of the two is good at at_ns, and that to about a millisecond */
    bool coarse;           /* good to about a millisecond */
};

struct device_timing {
    uint32_t rate, period_frames, fill_frames;
    uint32_t clock_id;
    int64_t written;            /* frames in this run */
    int64_t origin;             /* position at which this run began */
    int64_t beyond;             /* frames, what delay_frames counts with */
    int64_t off_sum;            /* what was told instead of late, in frames ... */
    int64_t off_cycles;         /* ... so many times in a row */
    bool begun;                 /* this run has had a cycle */
    bool known;                 /* there has been a run before */
    int64_t cycle_ns, position; /* of the last cycle */
};

/* Another device, or other sizes: fill_frames is what is kept written ahead at most, period_frames of it at a time. The
 * position goes on where it was. */
void device_timing_init(struct device_timing *timing, uint32_t rate, uint32_t period_frames, uint32_t fill_frames,
                        uint32_t clock_id);

/* The device begins from nothing, with fill_frames - period_frames of silence. */
void device_timing_restart(struct device_timing *timing);

/* The cycle that asks for the next period. */
void device_timing_cycle(struct device_timing *timing, const struct device_moment *moment, struct pull_time *time);

/* The cycle of a device that takes whatever it gets: paced by CLOCK_MONOTONIC from `begun_ns` on. */
void device_timing_free_cycle(struct device_timing *timing, int64_t begun_ns, struct pull_time *time);

/* A period has been written. */
void device_timing_wrote(struct device_timing *timing);

/* Frames this run is ahead of its clock at now_ns, having begun at begun_ns. */
int64_t device_timing_ahead(const struct device_timing *timing, int64_t begun_ns, int64_t now_ns);

#endif
