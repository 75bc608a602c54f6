/* SPDX-License-Identifier: MIT
 *
 * The device's side of playout: its clock, as far as pulls tell of it, what was missed between two pulls, and how much
 * it asks for at a time. All of it is [rt].
 */
#ifndef EARSHOT_DEVICE_CLOCK_H
#define EARSHOT_DEVICE_CLOCK_H

#include "backends/backend.h"
#include "receiver/clock.h"

#include <stdbool.h>
#include <stdint.h>

/* Zero at first. */
struct device_clock {
    struct clock_filter clock; /* at the last cycle: CLOCK_MONOTONIC against the device's frames */
    bool known;                /* it was pulled before */
    uint32_t clock_id, rate;
    int64_t cycle_ns, position, delay_frames;
    int64_t queued_frames; /* given in this cycle already: heard before what this pull gives */
    uint32_t frames;       /* of the last pull */
    double quantum_max_s[2];
    double quantum_window_s; /* age of the current half window */
    unsigned asked_again;    /* pulls beyond one a cycle in it */
};

/* What came to pass between the last pull and this one. */
struct device_step {
    double elapsed_s; /* >= 0; 0: the first pull, or a second one in the same cycle */
    double missed_s;  /* that the device played without us: an xrun, a stopped client, a moved sink */
    double grown_s;   /* by so much the quantum grew */
    bool other;       /* another clock, or another nominal rate */
    bool other_rate;
};

/* Once a pull. `forget`: only this pull's quantum counts, not those before. time->rate and frames are > 0. */
struct device_step device_clock_follow(struct device_clock *device, uint32_t frames, const struct pull_time *time,
                                       bool forget);

/* CLOCK_MONOTONIC, smoothed, at which the device starts to read what this pull gives, its delay apart. */
int64_t device_clock_now_ns(const struct device_clock *device);

/* The largest quantum of the last 30 to 60 s. */
double device_clock_quantum_s(const struct device_clock *device);

#endif
