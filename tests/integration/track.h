/* SPDX-License-Identifier: MIT
 *
 * Where playback stands, from a captured quadrature tone (one channel cos, the next sin): its phase gives the position
 * in the source modulo the tone's period, at any resampling ratio, and every frame skipped or doubled is a step.
 *
 * The phase is taken over short windows. Within a run of captured frames that follow each other without loss windows
 * are compared by frames, across runs by time. Pure functions, any thread.
 */
#ifndef EARSHOT_TRACK_H
#define EARSHOT_TRACK_H

#include "tests/integration/capture_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct track_params {
    double hz;          /* the tone's; a period should be longer than the latencies to tell apart */
    double source_rate; /* frames per second in which positions are told: the guest's */
    unsigned first_channel;
    double step_frames;     /* what counts as a step */
    int64_t loss_after_ns;  /* how long a loss of the capture's explains what is heard; 0: 20 ms */
    int64_t from_ns, to_ns; /* frames outside are not looked at */
};

struct track_window {
    int64_t time_ns; /* of its centre */
    double position; /* source frame at its centre; whole periods are a guess until latency_place() */
    double length_s;
    double level; /* of the tone */
    unsigned run;
    unsigned segment; /* windows with tone throughout, no loss between */
    bool tone;        /* the tone at its full level, nothing else */
};

enum track_event_kind {
    TRACK_STEP,  /* position gained (> 0: frames skipped) within a sounding tone */
    TRACK_DIP,   /* the tone was missing or not whole; `frames` gained over it against the clock */
    TRACK_CLICK, /* a corner in the waveform at unchanged position */
};

struct track_event {
    enum track_event_kind kind;
    int64_t from_ns, to_ns;
    double frames;
    int64_t silent_ns; /* of a dip: below a hundredth of the level */
    bool near_loss;    /* the capture lost frames here: not the program's */
};

struct track_loss {
    int64_t at_ns;
    int64_t frames; /* missing by the graph's position; 0: another rate or driver, or it was read late */
};

struct track {
    struct track_params params;
    struct track_window *windows;
    size_t window_count;
    struct track_event *events; /* in order of time */
    size_t event_count, event_capacity;
    struct track_loss *losses;
    size_t loss_count, loss_capacity;
    double level; /* of the tone; 0: there is none */
};

/* -ENOMEM, -EINVAL. */
int track_make(struct track *track, const struct capture *capture, const struct track_params *params);
void track_free(struct track *track);

/* The guest's clock against the graph's between two times, in ppm, from the windows with tone; steps and dips are
 * left out. NAN where there is less than a second of them. */
double track_drift_ppm(const struct track *track, int64_t from_ns, int64_t to_ns);

/* Level of a sine of `hz` in one channel between two times: the median of blocks of 0.1 s. */
double track_tone_level(const struct capture *capture, unsigned channel, double hz, int64_t from_ns, int64_t to_ns);

#endif
