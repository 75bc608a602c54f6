/* SPDX-License-Identifier: MIT
 *
 * The simulator: a guest, a poller or socket, and a device under a virtual clock around the production feed and
 * playout. No wall time, no sleeping, fixed seeds.
 */
#ifndef EARSHOT_SIM_H
#define EARSHOT_SIM_H

#include "receiver/playout.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_EVENTS 64

enum sim_event_kind {
    SIM_NONE,
    SIM_STALL,          /* the guest's driver is held up for value s, then catches up */
    SIM_PAUSE,          /* the guest plays nothing for value s: its frames stop */
    SIM_RESTART,        /* the guest's stream is opened anew: the ring's index starts over */
    SIM_PPM_STEP,       /* the guest's clock changes by value ppm */
    SIM_TICK,           /* the guest's timer tick becomes value s */
    SIM_QUANTUM,        /* the device asks for value frames from now on */
    SIM_DEVICE_XRUN,    /* the device skips value frames: we were not asked */
    SIM_DEVICE_STOP,    /* nobody asks for value s; the device's position goes on */
    SIM_DEVICE_MOVED,   /* another clock: new id, position from 0, its own ppm (value) */
    SIM_DEVICE_RATE,    /* the graph's rate becomes value */
    SIM_DEVICE_DOUBLED, /* asked twice for the same cycle */
};

struct sim_event {
    double at_s;
    enum sim_event_kind kind;
    double value;
};

struct sim_scenario {
    const char *name;
    enum source_kind kind;
    double seconds;
    double guest_ppm, device_ppm;
    uint32_t guest_rate, device_rate, quantum;
    double tick_s;          /* the guest's timer: 0.010 fires every 10 ms, 0.015625 every tick */
    double chunk_s;         /* shm */
    uint32_t packet_frames; /* udp */
    double delay_s;         /* uniform 0..delay_s, per delivery: the driver's work item */
    double tail_s;          /* mean of an exponential delay on top, at most 10 times that */
    double loss;            /* of packets */
    double reorder;         /* of bursts whose last packet comes with the next burst */
    double device_noise_s;  /* of the reported cycle time */
    bool device_coarse;
    struct playout_params playout;
    double tone_hz; /* 0: 1000 */
    struct sim_event events[SIM_EVENTS];
};

/* Everything in the units of the gates. */
struct sim_result {
    /* until the 1 s mean of the ratio is within 50 ppm for good, but for the slope that is meant to move the fill;
     * INFINITY: never */
    double lock_s;
    double arrived_s; /* after the first sound, where the target no longer moves fast */
    double mean_ppm;  /* |mean error of the ratio| over the last 120 s */
    double std_ppm;
    double fill_std_ms;   /* of the true fill over the last 120 s */
    double fill_max_ms;   /* largest distance from its mean */
    double fill_trend_ms; /* last hour's mean minus first's (runs over 2 h), else last 60 s minus the 60 s before */
    double pitch_steady;  /* cents, largest over the last 120 s */
    double pitch_10s;     /* cents, largest later than 10 s after the start, events excluded for 30 s */
    double pitch_event;   /* cents, largest in the 30 s after an event */
    double excess_ms;     /* fill above what the lateness seen, the quantum and the look-ahead need */
    double latency_ms;    /* mean true fill over the last 120 s */
    double target_ms;     /* target fill at the end */
    double target_max_ms; /* later than 20 s after the start */
    double underruns, resyncs, silence_s; /* silence after the first sound, pauses of the guest excluded */
    double late_underruns;                /* later than 2 s after any event */
    double excess_underruns;              /* more than packets were lost: each of those may cost one */
    double thd_n_db;                      /* of the last 2 s, where asked for */
    double heard_s;                       /* from a pause's end to the first sound, largest */
    double settled_s; /* from a pause's end until the fill is within 1 ms of the target for good, largest */
};

struct sim_options {
    uint64_t seed;
    bool thd;
    FILE *csv; /* one line every 100 ms; NULL: none */
};

void sim_run(const struct sim_scenario *scenario, const struct sim_options *options, struct sim_result *result);

/* 20 log10 of everything but the tone (within +-40 Hz) relative to the tone. */
double thd_n_db(const float *samples, size_t count, double rate_hz, double tone_hz);

#endif
