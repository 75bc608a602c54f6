/* SPDX-License-Identifier: MIT
 *
 * PulseAudio's times as the contract wants them: from now and then a look at where the server plays, and from requests
 * that come when they like, a device that takes period after period. Pure arithmetic; any thread, one at a time.
 */
#ifndef EARSHOT_PULSE_TIMING_H
#define EARSHOT_PULSE_TIMING_H

#include <stdbool.h>
#include <stdint.h>

/* What to ask the server for, in frames. */
struct pulse_buffer {
    uint32_t total;   /* tlength: all that is buffered, in the server's queue and in the sink */
    uint32_t request; /* minreq: the least it asks for at once, and what pull is asked for */
};

/* With PA_STREAM_ADJUST_LATENCY the sink's own buffer becomes (total - 2 * request) / 2 (PulseAudio's
 * protocol-native.c, fix_playback_buffer_attr). A quarter of the total is the sink's, so much is what it takes at once
 * and what is asked for at once, and two quarters are the time that a request and its answer may be under way. A caller
 * who wants a latency takes half of what it has left for the period; the total is 4/3 of that, two thirds of what is
 * left, and the rest is for the guest's lateness.
 * In steps of half a millisecond: servers count in microseconds, and what a null sink's block loses by that is how much
 * too fast it runs. At least 32 frames are asked for, at most a quarter of a second. */
void pulse_buffer_choose(struct pulse_buffer *buffer, int64_t period_ns, uint32_t rate);

/* The line through the server's answers: which frame is heard when. Between two answers, 0.1 s, it goes on at the
 * nominal rate. The clock filter behind it takes care of the rest. */
struct pulse_clock {
    uint32_t rate;
    int64_t at_ns;       /* CLOCK_MONOTONIC of the last answer; 0: none yet */
    double frame;        /* heard then; numbered as written */
    unsigned doubts;     /* answers in a row that were off the line ... */
    double least_late_s; /* ... and by how much that one was that was held up least; < 0: late */
};

enum pulse_verdict {
    PULSE_TAKEN,
    PULSE_DOUBTED, /* off the line: the server was held up as it answered, or the device was. Ask again. */
    PULSE_JUMPED,  /* taken; it goes on elsewhere, or begins: a step, which says nothing about the clock's rate */
};

/* Forgets the line. */
void pulse_clock_reset(struct pulse_clock *clock, uint32_t rate);

enum pulse_verdict pulse_clock_answer(struct pulse_clock *clock, int64_t at_ns, double frame);

/* When `frame` is heard, CLOCK_MONOTONIC. Only where at_ns != 0. */
int64_t pulse_clock_heard_ns(const struct pulse_clock *clock, int64_t frame);

/* The frame that is heard at ns, CLOCK_MONOTONIC. Only where at_ns != 0. */
int64_t pulse_clock_frame(const struct pulse_clock *clock, int64_t ns);

/* How long before it is heard a period is asked for at most: what counts as the device's delay. A request that comes
 * later than that is a callback that comes late. */
struct pulse_lead {
    int64_t frames;
    int64_t seen[2]; /* the most, in this window and in the one before */
    int64_t window_ns;
};

/* `frames` ahead of its being heard something is asked for now. True where lead->frames changed. */
bool pulse_lead_follow(struct pulse_lead *lead, int64_t frames, uint32_t rate, int64_t now_ns);

#endif
