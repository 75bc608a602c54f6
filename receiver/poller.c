/* SPDX-License-Identifier: MIT */
#include "receiver/poller.h"

#include "receiver/arith.h"

#define MS 1000000.0

#define POLL_NS      (1.0 * MS)
#define LEAD_NS      (1.0 * MS) /* and up to one POLL_NS of dither: 1.5 ms on average */
#define COARSE_NS    (2.0 * MS) /* windows wider than this were slept through */
#define IDLE_LOOK_NS (110.0 * MS)
#define IDLE_FULL_NS (30000.0 * MS)

/* Gains of the phase and the period. Only wake-ups hang on them; the clock filter has its own. */
#define PHASE_GAIN  0.15
#define PERIOD_GAIN 0.01
/* Clocks are off by 2000 ppm at worst. */
#define PERIOD_TOLERANCE 0.005
/* Of the earliness and lateness seen, per chunk: halves in 2.8 s of 20 ms chunks. */
#define SPREAD_DECAY 0.995
/* One chunk stretches what is usual by no more than this: it takes a pattern to make it. */
#define USUAL_GROWTH  1.2
#define USUAL_STEP_NS (0.05 * MS)

/* Once this many chunks have told the pace of a guest that is this even, only some are still watched closely. One whose
 * timer ticks coarsely comes in a pattern that averages out only where all of it is seen. */
#define DITHER_ROOM_NS  (4.0 * MS)
#define EVEN_CHUNKS     50
#define PACE_CHUNKS     500
#define PACE_SPREAD_NS  (3.0 * MS)
#define EVEN_LEAD_NS    (0.5 * MS)
#define RELAXED_LEAD_NS (1.0 * MS) /* late_ns is the end of a window, and most chunks come before it */
#define RELAXED_SHARE   0.4
#define PATIENT_NS      (2.0 * MS)
#define PATIENT_SHARE   0.85 /* the ratio is steady within 6 ppm instead of 3: a hundredth of a cent */

void poller_init(struct poller *poller, uint64_t seed, int64_t period_ns, int64_t now_ns)
{
    *poller = (struct poller){
        .random = seed * 2 + 1, /* xorshift's state must not be 0 */
        .period_ns = (double)period_ns,
        .nominal_ns = (double)period_ns,
        .seen_ns = now_ns,
        .look_ns = now_ns,
    };
}

/* Uniform in [0, 1). */
static double dither(struct poller *poller)
{
    uint64_t x = poller->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    poller->random = x;
    return (double)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 11) * 0x1p-53;
}

static double clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* Learns from an arrival that was seen sharply, `error` after its prediction. */
static void track(struct poller *poller, double error, uint32_t chunks)
{
    double limit = poller->nominal_ns / 4;
    if (poller->patient)
        limit = smaller(limit, poller->usual_early_ns + poller->usual_late_ns + POLL_NS);
    double bounded = clamp(error, -limit, limit);
    poller->phase_ns += (int64_t)(chunks * poller->period_ns + PHASE_GAIN * bounded);
    poller->period_ns =
        clamp(poller->period_ns + PERIOD_GAIN * bounded / chunks, poller->nominal_ns * (1 - PERIOD_TOLERANCE),
              poller->nominal_ns * (1 + PERIOD_TOLERANCE));
}

/* A decaying maximum of how far off the prediction chunks have been, to one side. */
static void remember(double *spread_ns, double off_ns, double limit_ns)
{
    *spread_ns = clamp(off_ns, *spread_ns * SPREAD_DECAY, limit_ns);
}

static void remember_usual(double *usual_ns, double off_ns, double limit_ns)
{
    remember(usual_ns, smaller(off_ns, *usual_ns * USUAL_GROWTH + USUAL_STEP_NS), limit_ns);
}

struct poller_arrival poller_seen(struct poller *poller, int64_t now_ns, int64_t last_look_ns, uint32_t chunks)
{
    double window = now_ns > last_look_ns ? (double)(now_ns - last_look_ns) : 0;
    bool coarse = window > COARSE_NS;
    /* Where the prediction lies, seen from now; a guest that paused or restarted is far off it. */
    double predicted = (double)(poller->phase_ns - now_ns) + chunks * poller->period_ns;
    bool predictable = poller->tracking && predicted > -window - poller->nominal_ns && predicted < poller->nominal_ns;
    /* One that was fetched when it was expected; a late one is news. */
    double slack = coarse ? (double)poller->slack_ns : 0.0;
    bool untimed = predictable && poller->relaxed && predicted > -PACE_SPREAD_NS - slack;
    double arrival;
    if (!coarse) {
        arrival = -window / 2;
    } else if (predictable) {
        arrival = clamp(predicted, -window, -POLL_NS / 2);
    } else {
        /* A guest at its own pace needed all but the first chunk's time after the last look, and the chunk that follows
         * is not here yet. */
        double rest = window - (chunks - 1) * poller->nominal_ns;
        if (rest > 0)
            window = smaller(rest, poller->nominal_ns);
        arrival = -window / 2;
    }

    if (predictable) {
        /* Before now for certain; by how much more only a look nearby can tell. */
        double early = coarse ? predicted + POLL_NS : predicted;
        remember(&poller->early_ns, early, poller->nominal_ns);
        remember_usual(&poller->usual_early_ns, early, poller->nominal_ns);
        remember_usual(&poller->usual_late_ns, untimed ? 0.0 : arrival - predicted, poller->nominal_ns);
        if (!untimed) {
            remember(&poller->late_ns, arrival - predicted, poller->nominal_ns);
            poller->paced += poller->paced < PACE_CHUNKS;
        }
        track(poller, untimed ? 0.0 : arrival - predicted, chunks);
    } else {
        poller->paced = 0;
        poller->phase_ns = now_ns + (int64_t)arrival;
        poller->early_ns = poller->late_ns = poller->usual_early_ns = poller->usual_late_ns = 0;
    }
    poller->tracking = predictable || !coarse; /* a guess after a long sleep is no base for the next sleep */
    poller->seen_ns = now_ns;
    poller->look_ns = now_ns;
    return (struct poller_arrival){
        .arrival_ns = now_ns + (int64_t)arrival,
        .window_ns = (int64_t)window,
        .coarse = coarse,
        .untimed = untimed,
    };
}

void poller_missed(struct poller *poller, int64_t now_ns)
{
    poller->look_ns = now_ns;
}

/* The first sleep after a chunk; negative where the next one may be there already. */
static double sleep_until_due(struct poller *poller, double random, double patience)
{
    double due = (double)(poller->phase_ns - poller->look_ns) + poller->period_ns;
    /* Room for all of the dither, be the last chunk's look as late as it may. */
    poller->stepping = poller->period_ns > poller->early_ns + DITHER_ROOM_NS;
    poller->patient = patience >= PATIENT_NS;
    double spread =
        poller->patient ? poller->usual_early_ns + poller->usual_late_ns : poller->early_ns + poller->late_ns;
    bool even = poller->stepping && poller->paced >= EVEN_CHUNKS && spread < PACE_SPREAD_NS;
    double share = poller->patient ? PATIENT_SHARE : RELAXED_SHARE;
    poller->relaxed = even && poller->paced >= PACE_CHUNKS && dither(poller) < share;
    if (poller->relaxed && poller->patient) {
        poller->slack_ns = (int64_t)smaller(patience - RELAXED_LEAD_NS, poller->period_ns / 4);
        return due + poller->usual_late_ns;
    }
    if (poller->relaxed)
        return due + poller->late_ns - RELAXED_LEAD_NS;
    if (even && poller->patient) /* the few that come before it tell no time */
        return due - poller->usual_early_ns - random * POLL_NS;
    return due - poller->early_ns - (even ? EVEN_LEAD_NS : LEAD_NS) - random * POLL_NS;
}

int64_t poller_next_ns(struct poller *poller, int64_t patience_ns)
{
    poller->slack_ns = 0;
    double random = dither(poller);
    double idle = (double)(poller->look_ns - poller->seen_ns) / IDLE_FULL_NS;
    double interval = clamp(IDLE_LOOK_NS * idle * idle, POLL_NS, IDLE_LOOK_NS);
    double wait = interval + (random - 0.5) * POLL_NS;
    if (poller->tracking && poller->look_ns == poller->seen_ns) {
        double sleep = sleep_until_due(poller, random, (double)patience_ns);
        if (sleep > wait)
            wait = sleep;
        else
            poller->slack_ns = 0;
    } else if (poller->tracking && !poller->stepping) {
        double due = (double)(poller->phase_ns - poller->look_ns) + poller->period_ns;
        double sleep = due - poller->early_ns - LEAD_NS - random * POLL_NS;
        if (sleep > wait)
            wait = sleep;
    } else if (poller->stepping && interval <= POLL_NS) {
        wait = POLL_NS; /* the first look was dithered evenly over one step, so all that follow are */
    }
    return poller->look_ns + (int64_t)wait;
}
