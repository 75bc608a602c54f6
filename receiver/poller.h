/* SPDX-License-Identifier: MIT
 *
 * When to look at a shared-memory ring, and when what a look found became available. Pure arithmetic: all times come
 * in as arguments (CLOCK_MONOTONIC), so the simulator drives the same code. No memory, no lock; one thread, any.
 *
 * A look every 1 ms, the first of them dithered evenly by as much, finds a chunk 0.5 ms late on average, whatever the
 * guest's clock does; without dither they would beat against it. The looks in between are saved by sleeping until
 * shortly before the next chunk is due. Once the guest's pace is known, half of the chunks, chosen at random, are not
 * timed at all: one look, when they are surely there, is enough to fetch them. Where whoever hears it has room for
 * lateness, that goes for most chunks, and such a look may come later still, with others.
 */
#ifndef EARSHOT_POLLER_H
#define EARSHOT_POLLER_H

#include <stdbool.h>
#include <stdint.h>

struct poller {
    uint64_t random;
    double period_ns;                     /* per chunk, estimated */
    double nominal_ns;                    /* per chunk, as the format has it */
    double early_ns;                      /* how much earlier than predicted chunks have come lately */
    double late_ns;                       /* how much later */
    double usual_early_ns, usual_late_ns; /* the same without what happens now and then */
    int64_t phase_ns;                     /* smoothed arrival of the newest chunk */
    int64_t seen_ns;                      /* look that last saw a chunk; before the first: the start */
    int64_t look_ns;                      /* last look */
    unsigned paced;                       /* chunks timed since the prediction began */
    int64_t slack_ns;                     /* the look that next() named may come so much later */
    bool tracking;                        /* phase_ns predicts the next chunk */
    bool patient;                         /* there was room for lateness when the next look was planned */
    bool relaxed;                         /* the next chunk is only fetched, not timed */
    bool stepping;                        /* looks follow each other evenly until it is there */
};

struct poller_arrival {
    int64_t arrival_ns; /* when the newest chunk is believed to have become complete: never after the look */
    int64_t window_ns;  /* width of the interval before the look in which it must have */
    bool coarse;        /* the look came after a sleep: arrival_ns is a guess from the prediction or the window */
    bool untimed;       /* it was meant to come late: arrival_ns says nothing about the guest's clock */
};

/* `seed`: any number, another for each ring. period_ns: a chunk's playing time, > 0. Idle time counts from now_ns. */
void poller_init(struct poller *poller, uint64_t seed, int64_t period_ns, int64_t now_ns);

/* A look at now_ns found `chunks` (> 0) new ones; the look before it, at last_look_ns, had not. */
struct poller_arrival poller_seen(struct poller *poller, int64_t now_ns, int64_t last_look_ns, uint32_t chunks);

/* A look at now_ns found nothing new. */
void poller_missed(struct poller *poller, int64_t now_ns);

/* When to look next, after seen() or missed(). Draws from the dither: call once per look. At least 0.5 ms after the
 * last look; a guest that is silent for 30 s is looked at every 110 ms. patience_ns: the lateness that there is room
 * for; 0: none. */
int64_t poller_next_ns(struct poller *poller, int64_t patience_ns);

#endif
