/* SPDX-License-Identifier: MIT */
#include "tests/sim/soak.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* After a fault has ended and until the next one begins: */
#define SOUND_S    1.0 /* there is sound again, */
#define YOUNG_S    5.0 /* of a stream, in which it goes to where what was seen of the guest wants it */
#define QUIET_S    2.0 /* no more drop-outs come of it, */
#define LATENCY_MS 1.0
/* the loop has the latency within LATENCY_MS of its target: also while it follows a line that is paid back, by up to
 * slope / (e w) = 1.5 ms behind, of which 27 s are the most that was seen; */
#define LATENCY_S 30.0
/* A displacement of the guest shows in two averages over 2 s, and is paid back by 500 ppm, at most what is within 4 sigma,
 * 18 ms with a timer of 15.6 ms (clock.c). */
#define PAID_BACK_S (2.0 * 2.0 + 4.0 * 0.0156 / sqrt(12.0) / 500e-6)
/* and so it is in truth: the guest's line is where the guest is. What is less than 3 ms is not paid back; against a rate
 * that changes by 100 ppm meanwhile it is within LATENCY_MS after 67 s of the loop of 0.0065 Hz with the gains
 * sqrt(2) w dt and w^2 dt: 2.75 / w. */
#define TRUE_S (PAID_BACK_S + 2.75 / (2.0 * M_PI * 0.0065))

/* At any time: */
/* Above target: LATE_START_S, and BREAK_MAX_S of a device that is away meanwhile; RESYNC_S once that is caught up. */
#define FILL_MS      (400.0 + 1000.0 + 25.0)
#define CAUGHT_UP_S  3.5 /* SOUND_S and CATCH_UP_S, and a crossfade */
#define CAUGHT_UP_MS 25.0
#define TARGET_MS    (2000.0 + 200.0) /* the longest stall there is, twice in a minute, and what belongs to a target */
#define RATIO_LIMIT  0.0101           /* off nominal: rate.c's limit */
#define LEVEL_MAX    (SOAK_LEVEL * 1.5) /* a lost packet is a step, and the resampler rings at it */
#define STEP_SPARE   0.004              /* between two samples, above the tone's own slope, while nothing happens */
/* A target's slowest way to its goal: rate_target_move(). */
#define FALL_PPM     100e-6
#define FALL_FAR_PPM 450e-6
#define FALL_TIME_S  100.0

#define STALE_CHUNKS 20  /* of a stream that ended and began unseen: what it may have written in the time */
#define SHOWN        20  /* violations that are printed */
#define ASKED_S      0.2 /* the longest period there is, and more */

struct of_kind {
    unsigned times, clean; /* clean: followed by TRUE_S without another */
    uint64_t underruns;
    double sound_s, settled_s, true_s; /* worst */
};

struct soak_check {
    struct soak *s;
    unsigned violations, shown;
    const char *told; /* the last one that was printed, and in the wake of which fault */
    double told_at_s;

    enum soak_fault_kind kind; /* the last fault */
    double value, at_s, end_s; /* end_s: of all so far */
    bool any_fault, heard;     /* heard: since end_s */
    double off_s, true_off_s;  /* last time the latency was off; its own opinion, and the truth */
    struct of_kind kinds[SOAK_FAULTS];

    /* this playout */
    bool known, playing; /* known: its device, since the first pull */
    struct playout_stats before;
    uint64_t feed_dropped, gaps, written;
    double expected;        /* position of the next pull if it goes on */
    double resume, skipped; /* while silent: the first frame not heard, and what was dropped of what follows */
    bool resume_known;
    float last[PCM_CHANNELS_MAX];
    double pulled_s, began_s;

    double skew_frames; /* guest's frame number minus ring position */
    bool skew_known;
    double goal_s, goal_due_s; /* when the target must have reached it */

    /* all of them */
    double played, repeated, dropped, fill_max_s, target_max_s;
    uint64_t underruns, resyncs, xruns, ring_dropped, pulls;
};

struct soak_check *check_new(struct soak *s)
{
    struct soak_check *c = calloc(1, sizeof *c);
    if (c)
        c->s = s;
    return c;
}

__attribute__((format(printf, 2, 3))) static void violated(struct soak_check *c, const char *format, ...)
{
    const struct soak *s = c->s;
    /* Once for each fault: it may be in every pull from then on. */
    bool again = c->told == format && c->told_at_s == c->at_s;
    c->violations++;
    c->told = format;
    c->told_at_s = c->at_s;
    if (again || c->shown++ >= SHOWN)
        return;
    printf("VIOLATED %s seed %" PRIu64 " at %.3f s: ", s->params->kind == SOURCE_SHM ? "shm" : "udp", s->params->seed,
           s->now_s);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    if (c->any_fault)
        printf("; last fault: %s %g at %.3f s, over at %.3f s", soak_fault_name(c->kind), c->value, c->at_s,
               c->end_s);
    printf("\n");
}

/* --- faults */

static void close_fault(struct soak_check *c)
{
    if (!c->any_fault || c->s->now_s - c->end_s < TRUE_S)
        return;
    struct of_kind *of = &c->kinds[c->kind];
    of->clean++;
    of->settled_s = fmax(of->settled_s, c->off_s - c->end_s);
    of->true_s = fmax(of->true_s, c->true_off_s - c->end_s);
}

void check_fault(struct soak_check *c, enum soak_fault_kind kind, double value, double end_s)
{
    close_fault(c);
    if (c->s->params->verbose)
        printf("%.3f s: %s %g\n", c->s->now_s, soak_fault_name(kind), value);
    c->kind = kind;
    c->value = value;
    c->at_s = c->s->now_s;
    c->end_s = fmax(c->end_s, end_s);
    c->any_fault = true;
    c->heard = false;
    c->off_s = c->true_off_s = c->end_s;
    c->kinds[kind].times++;
}

static double since_fault(const struct soak_check *c)
{
    return c->s->now_s - c->end_s;
}

/* --- what comes in */

void check_source(struct soak_check *c)
{
    struct soak *s = c->s;
    struct soak_count *n = &s->count;
    const struct source_counters *counters = s->source ? &s->source->counters : &s->counters;
    int64_t left = (int64_t)(n->sent + n->twice + n->stale - n->lost - n->refused - n->fed -
                             counters->dropped_frames - s->wire.frames);
    if (s->source && s->guest.fresh && left < 0 && -left <= STALE_CHUNKS * (int64_t)s->guest.unit_frames) {
        n->stale += (uint64_t)-left;
        left = 0;
    }
    s->guest.fresh = s->guest.fresh && s->guest.delivered == 0;
    /* UDP: one packet of a new stream waits for a second one. */
    if (left != 0 && (s->source || left != s->guest.unit_frames))
        violated(c,
                 "frames sent %" PRIu64 " and doubled %" PRIu64 " are not those lost %" PRIu64 ", refused %" PRIu64
                 ", dropped %" PRIu64 " and fed %" PRIu64 ": %" PRId64 " are left",
                 n->sent, n->twice, n->lost, n->refused, counters->dropped_frames, n->fed, left);
    if (counters->rejected > 0 && s->source)
        violated(c, "%" PRIu64 " headers rejected", counters->rejected);
    if (since_fault(c) > SOUND_S && s->now_s - c->pulled_s > ASKED_S && s->now_s > SOUND_S)
        violated(c, "nobody has asked for %.3f s", s->now_s - c->pulled_s);

    const struct feed *feed = s->next_feed ? s->next_feed : s->feed;
    c->skew_known = feed && left == 0 && s->wire.count == 0;
    if (c->skew_known)
        c->skew_frames = (double)s->guest.delivered - (double)frame_ring_written(feed_ring(feed));
}

/* --- the playout's account of frames */

void check_begin(struct soak_check *c)
{
    c->known = c->playing = false;
    c->before = (struct playout_stats){0};
    c->feed_dropped = c->gaps = c->written = 0;
    c->resume = c->skipped = 0.0;
    c->resume_known = true;
    c->goal_s = -1.0;
    c->pulled_s = c->began_s = c->s->now_s;
}

void check_retire(struct soak_check *c)
{
    c->underruns += c->before.underruns;
    c->resyncs += c->before.resyncs;
    c->xruns += c->before.xrun_frames;
    c->ring_dropped += c->feed_dropped;
}

/* What was passed over is what dropped_frames says; what was given back is what frames says. */
static void check_frames(struct soak_check *c, const struct playout_stats *now, const struct playout_trace *trace,
                         uint32_t frames, uint64_t feed_dropped)
{
    uint64_t given = now->frames - c->before.frames;
    double dropped =
        (double)(now->dropped_frames - c->before.dropped_frames) - (double)(feed_dropped - c->feed_dropped);
    bool playing = now->state == PLAYOUT_PLAYING;
    double spare = 3.0 + 4.0 * trace->step;

    if (given > frames || (playing && c->playing && given != frames) || (!playing && !c->playing && given != 0))
        violated(c, "%" PRIu64 " frames counted in a pull of %" PRIu32, given, frames);
    if (dropped < -0.5)
        violated(c, "dropped frames fall by %.0f", -dropped);
    c->dropped += dropped;
    c->played += (double)given * trace->step;
    /* Sound that ends within a pull gets no further; silence before it, and a silent pull, the trace counts back. */
    double standing = trace->position + (double)(c->playing && given > 0 ? given : frames) * trace->step;
    if (c->playing && given > 0) {
        double moved = trace->position - c->expected;
        if (fabs(fmax(moved, 0.0) - dropped) > spare)
            violated(c, "moved by %.1f frames, dropped %.1f", moved, dropped);
        c->repeated += fmax(-moved, 0.0);
        c->skipped = 0.0;
        c->resume_known = false;
    } else if (given > 0) {
        double from = trace->position + (double)(frames - given) * trace->step;
        c->skipped += dropped;
        if (c->resume_known && fabs(from - c->resume - c->skipped) > spare)
            violated(c, "begins at frame %.1f, after %.1f, with %.1f dropped", from, c->resume, c->skipped);
        c->skipped = 0.0;
        c->resume_known = false;
    } else if (c->playing) { /* broken off before this pull */
        c->resume = fmin(standing, (double)frame_ring_written(feed_ring(c->s->feed)));
        c->resume_known = true;
        c->skipped = dropped;
    } else {
        c->skipped += dropped;
        if (!c->resume_known)
            c->resume = fmin(standing, (double)c->written);
        c->resume_known = true;
    }
    c->expected = standing;
    if (playing && c->expected > (double)frame_ring_written(feed_ring(c->s->feed)) + spare &&
        since_fault(c) > QUIET_S)
        violated(c, "plays frame %.0f of %" PRIu64, c->expected, frame_ring_written(feed_ring(c->s->feed)));
}

static void check_events(struct soak_check *c, const struct playout_stats *now, uint64_t gaps, uint32_t frames,
                         double missed_frames)
{
    uint64_t underruns = now->underruns - c->before.underruns, resyncs = now->resyncs - c->before.resyncs;
    double xruns = (double)now->xrun_frames - (double)c->before.xrun_frames;
    if (now->underruns < c->before.underruns || underruns > 1 || (underruns == 1 && c->playing))
        violated(c, "underruns go from %" PRIu64 " to %" PRIu64, c->before.underruns, now->underruns);
    bool young = c->s->now_s - c->began_s < YOUNG_S;
    if ((underruns > 0 || (resyncs > 0 && !young)) && since_fault(c) > QUIET_S)
        violated(c, "%s, and nothing had happened", underruns ? "a drop-out" : "a resync");
    if (underruns > 0 && gaps != c->gaps)
        violated(c, "a pause of the guest's counts as a drop-out");
    if (c->any_fault)
        c->kinds[c->kind].underruns += underruns;
    /* What is less than half a period is noise. */
    double expected = c->known && (xruns > 0.0 || missed_frames > 0.6 * frames) ? missed_frames : 0.0;
    if (fabs(xruns - expected) > 2.0 + 0.1 * frames + 0.01 * expected)
        violated(c, "the device went on alone for %.0f frames, %.0f are counted", missed_frames, xruns);
}

/* --- the latency */

/* How long a target that is so far off may need: from where it goes by FALL_FAR_PPM, nearer by what is missing over
 * FALL_TIME_S, and at the end by FALL_PPM. */
static double target_due_s(double off_s)
{
    double slow_s = FALL_PPM * FALL_TIME_S, far_s = FALL_FAR_PPM * FALL_TIME_S;
    return fmax(off_s - far_s, 0.0) / FALL_FAR_PPM + FALL_TIME_S * log(fmin(fmax(off_s, slow_s), far_s) / slow_s) +
           fmin(off_s, slow_s) / FALL_PPM;
}

static void check_target(struct soak_check *c, const struct playout_trace *trace, const struct playout_stats *now)
{
    double goal_s = (double)(now->target_ns - now->device_ns) / 1e9, off_s = trace->target_s - goal_s;
    if (trace->target_s * 1e3 > TARGET_MS || trace->target_s < 0.0 || !isfinite(trace->target_s))
        violated(c, "target %.1f ms", trace->target_s * 1e3);
    c->target_max_s = fmax(c->target_max_s, trace->target_s);
    if (c->goal_s < 0.0 || fabs(goal_s - c->goal_s) > 1e-4 || fabs(off_s) <= LATENCY_MS / 1e3) {
        c->goal_s = goal_s;
        c->goal_due_s = c->s->now_s + LATENCY_S + target_due_s(fabs(off_s));
    }
    if (c->s->now_s > fmax(c->goal_due_s, c->end_s + LATENCY_S))
        violated(c, "the target stays %.2f ms away from where it is to go", off_s * 1e3);
}

static void check_latency(struct soak_check *c, const struct playout_trace *trace)
{
    const struct soak *s = c->s;
    const double rate = feed_format(s->feed)->rate;
    double above_s = trace->fill_s - trace->target_s;
    c->fill_max_s = fmax(c->fill_max_s, trace->fill_s);
    if (above_s * 1e3 > (since_fault(c) > CAUGHT_UP_S && c->s->now_s - c->began_s > YOUNG_S ? CAUGHT_UP_MS : FILL_MS))
        violated(c, "fill %.1f ms, target %.1f ms", trace->fill_s * 1e3, trace->target_s * 1e3);
    if (fabs(above_s) * 1e3 > LATENCY_MS) {
        c->off_s = s->now_s;
        if (since_fault(c) > LATENCY_S)
            violated(c, "latency %.2f ms off its target of %.2f", above_s * 1e3, trace->target_s * 1e3);
    }
    if (s->next_feed || !s->guest.open || !c->skew_known || s->guest.behind_count < 200)
        return;
    double line = soak_guest_frames(s, s->now_s) - c->skew_frames - s->guest.behind_frames;
    double true_s = (line - trace->position) / rate - trace->target_s;
    if (fabs(true_s) * 1e3 > LATENCY_MS) {
        c->true_off_s = s->now_s;
        if (since_fault(c) > TRUE_S)
            violated(c, "the guest is %.2f ms off the target of %.2f, by its own line %.2f", true_s * 1e3,
                     trace->target_s * 1e3, above_s * 1e3);
    }
}

static void check_samples(struct soak_check *c, uint32_t frames, bool calm)
{
    const unsigned channels = feed_format(c->s->feed)->channels;
    double steepest = SOAK_LEVEL * 2.0 * M_PI * SOAK_HZ / c->s->device.rate + STEP_SPARE, step = 0.0, level = 0.0;
    const float *at = c->s->out;
    for (uint32_t i = 0; i < frames; i++)
        for (unsigned k = 0; k < channels; k++, at++) {
            double now = (double)*at;
            if (!(fabs(now) <= LEVEL_MAX)) { /* NaN, too */
                violated(c, "sample %u of %u is %g", i, frames, now);
                return;
            }
            level = fmax(level, fabs(now));
            step = fmax(step, fabs(now - (double)c->last[k]));
            c->last[k] = *at;
        }
    if (calm && (step > steepest || (frames >= c->s->device.rate / 100 && level < 0.9 * SOAK_LEVEL)))
        violated(c, "a step of %.4f, level %.3f, and nothing had happened", step, level);
}

static void check_stats(struct soak_check *c, const struct playout_stats *now, const struct playout_trace *trace)
{
    int64_t sum = now->guest_ns + now->jitter_ns + now->quantum_ns + now->resampler_ns + now->device_ns;
    if (sum != now->total_ns)
        violated(c, "the parts of the latency sum to %" PRId64 ", not %" PRId64 " ns", sum, now->total_ns);
    double nominal = (double)feed_format(c->s->feed)->rate / c->s->device.rate;
    if (!(fabs(trace->step / nominal - 1.0) <= RATIO_LIMIT))
        violated(c, "ratio %.6f times nominal", trace->step / nominal);
    if (!isfinite(trace->position) || !isfinite(trace->fill_s) || !isfinite(now->drift_ppm))
        violated(c, "position %g, fill %g, drift %g", trace->position, trace->fill_s, now->drift_ppm);
    if (frame_ring_written(feed_ring(c->s->feed)) - frame_ring_released(feed_ring(c->s->feed)) >
        feed_ring(c->s->feed)->capacity_frames)
        violated(c, "the ring holds more than it can");
}

void check_pull(struct soak_check *c, uint32_t frames, double missed_frames)
{
    const struct soak *s = c->s;
    struct playout_trace trace;
    struct playout_stats now;
    struct feed_view view;
    playout_get_trace(s->playout, &trace);
    playout_get_stats(s->playout, &now);
    feed_read(s->feed, &view);
    bool playing = now.state == PLAYOUT_PLAYING, going_on = playing && c->playing;

    c->pulls++;
    c->pulled_s = s->now_s;
    if (view.time_ns != 0) {
        check_stats(c, &now, &trace);
        check_frames(c, &now, &trace, frames, view.dropped_frames);
        check_events(c, &now, view.gaps, frames, missed_frames);
    }
    if (going_on) {
        check_target(c, &trace, &now);
        check_latency(c, &trace);
    }
    check_samples(c, frames, going_on && since_fault(c) > LATENCY_S);
    if (playing && !c->heard && since_fault(c) >= 0.0 && !s->next_feed) {
        c->heard = true;
        c->kinds[c->kind].sound_s = fmax(c->kinds[c->kind].sound_s, since_fault(c));
    }
    if (!playing && since_fault(c) > SOUND_S && s->now_s > SOUND_S)
        violated(c, "no sound");
    if (view.dropped_frames > c->feed_dropped && since_fault(c) > SOUND_S)
        violated(c, "the ring is full");
    if (playing)
        c->gaps = view.gaps;
    c->before = now;
    c->known = true;
    c->playing = playing;
    c->feed_dropped = view.dropped_frames;
    c->written = frame_ring_written(feed_ring(s->feed));
}

unsigned check_finish(struct soak_check *c)
{
    const struct soak *s = c->s;
    const struct soak_count *n = &s->count;
    close_fault(c);
    printf("%s seed %" PRIu64 ", %.0f s, %" PRIu64 " pulls: %u violations. Underruns %" PRIu64 ", resyncs %" PRIu64
           "; latency at most %.0f ms, target %.0f ms\n",
           s->params->kind == SOURCE_SHM ? "shm" : "udp", s->params->seed, s->now_s, c->pulls, c->violations,
           c->underruns, c->resyncs, c->fill_max_s * 1e3, c->target_max_s * 1e3);
    printf("  frames: sent %" PRIu64 ", doubled %" PRIu64 ", lost %" PRIu64 ", refused %" PRIu64
           ", dropped by the source %" PRIu64 ", fed %" PRIu64 ", dropped by the ring %" PRIu64
           ", by the playout %.0f, played %.0f, repeated %.0f\n",
           n->sent, n->twice, n->lost, n->refused, (s->source ? &s->source->counters : &s->counters)->dropped_frames,
           n->fed, c->ring_dropped, c->dropped, c->played, c->repeated);
    printf("  %-50s %5s %5s %9s %9s %9s %9s\n", "fault", "times", "clean", "underruns", "sound s", "latency s",
           "truth s");
    for (unsigned i = 0; i < SOAK_FAULTS; i++) {
        const struct of_kind *of = &c->kinds[i];
        if (of->times > 0)
            printf("  %-50s %5u %5u %9" PRIu64 " %9.2f %9.2f %9.2f\n", soak_fault_name((enum soak_fault_kind)i),
                   of->times, of->clean, of->underruns, of->sound_s, of->settled_s, of->true_s);
    }
    unsigned violations = c->violations;
    free(c);
    return violations;
}
