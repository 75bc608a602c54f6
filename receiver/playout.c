/* SPDX-License-Identifier: MIT */
#include "receiver/playout.h"

#include "receiver/arith.h"
#include "receiver/device_clock.h"
#include "receiver/rate.h"
#include "receiver/seqlock.h"
#include "ringbuf/resident.h"

#include <errno.h>
#include <math.h>
#include <sched.h>

#define NS_PER_S         1e9
#define MARGIN_S         0.2e-3
#define FLOOR_SPARE_S    1e-3
#define ACQUIRE_S        9.8
#define FADE_S           5e-3
#define CROSSFADE_S      10e-3
#define RESYNC_S         20e-3
#define SMALL_JUMP_S     1e-3
#define HISTORY_S        0.1
#define LATE_START_S     0.4 /* so much of what a guest said before we could play is still played */
#define CATCH_UP_ERROR_S 8e-3
#define CATCH_UP_S       2.0 /* and the lateness that comes of it is gone after this, or at the first quiet moment */
#define QUIET            0.001f
#define STATS_TRIES      1000
#define HURRIED_S        0.1e-3 /* so near to where it was told to go, the target moves at leisure again */
#define REGRANT_S        1.0 /* after another latency the server may grant another quantum: the old one does not count */
#define BREAK_MAX_S      1.0
#define PATIENCE_MAX_S   40e-3
#define UNSPENT_S        10e-3 /* of the spare time, at the most: for who is woken late */
#define MOVED_S          1.0   /* so long after a device is another one, or elsewhere, its delay may still change */
#define RATE_MIN         8000u
#define RATE_MAX         768000u

enum phase { WAITING, PLAYING, ENDING, STARVED };

struct playout {
    struct feed *feed;
    const struct frame_ring *ring;
    struct playout_params params;
    _Atomic int64_t asked_latency_ns, asked_max_latency_ns; /* by [main]; params has them from the next pull on */
    double source_rate;
    unsigned channels;

    struct device_clock device;
    struct feed_view view;
    uint64_t epoch, gaps; /* as last acted on */
    bool jump_due;        /* the device lost or gained time: go where the fill ought to be */
    bool rate_changed;    /* the device's nominal rate, since the last pull */
    double moved_s;       /* > 0: so recently the device became another one, or stood elsewhere */
    struct rate_loop loop;
    struct rate_target target;
    double step; /* source frames per device frame */

    enum phase phase;
    uint64_t resume_frame; /* while silent: the first frame not heard yet */
    bool tail; /* the guest has paused since, and what is heard is from before that: it is played to its end */
    bool starved_in_play; /* this silence is a drop-out unless the guest turns out to have paused */
    double acquire_s;     /* > 0: this guest is new, its target moves fast */
    bool measuring;       /* the guest is so new that only its rate is followed */
    bool hurry;           /* somebody asked for another latency and waits for it */
    double regrant_s;     /* > 0: for so long yet, only the present quantum counts */
    double catch_up_s;    /* > 0: knowingly late, for so long at most */
    double spare_s;       /* what --latency has beyond what auto would take; 0: there is none */
    struct resampler voice[2];
    unsigned current; /* which voice plays; the other one fades out while fade_left > 0 */
    uint32_t fade_left, fade_length;
    double gain; /* 0..1, linear in time; shaped when applied */
    atomic_bool mute, silent;

    float *spare; /* RESAMPLER_FRAMES_MAX frames */
    struct playout_trace trace;
    struct playout_stats stats;
    struct seqlock published;
};

static bool params_valid(const struct playout_params *params)
{
    return params->latency_ns >= 0 && params->max_latency_ns >= 0 && params->quality <= RESAMPLER_BEST;
}

static size_t spare_bytes(const struct playout *p)
{
    return (size_t)RESAMPLER_FRAMES_MAX * p->channels * sizeof *p->spare;
}

int playout_create(struct playout **playout, struct feed *feed, const struct playout_params *params)
{
    if (!params_valid(params))
        return -EINVAL;
    struct playout *p = resident_alloc(sizeof *p);
    if (!p)
        return -ENOMEM;
    p->feed = feed;
    p->ring = feed_ring(feed);
    p->params = *params;
    atomic_init(&p->asked_latency_ns, params->latency_ns);
    atomic_init(&p->asked_max_latency_ns, params->max_latency_ns);
    p->source_rate = feed_format(feed)->rate;
    p->channels = feed_format(feed)->channels;
    p->step = 1.0;
    p->acquire_s = ACQUIRE_S;
    atomic_init(&p->silent, true);
    int err = -ENOMEM;
    p->spare = resident_alloc(spare_bytes(p));
    if (!p->spare)
        goto fail;
    for (unsigned i = 0; i < 2; i++) {
        err = resampler_init(&p->voice[i], params->quality, p->channels);
        if (err < 0)
            goto fail;
    }
    *playout = p;
    return 0;
fail:
    playout_destroy(p);
    return err;
}

void playout_destroy(struct playout *playout)
{
    if (!playout)
        return;
    for (unsigned i = 0; i < 2; i++)
        resampler_free(&playout->voice[i]);
    resident_free(playout->spare, spare_bytes(playout));
    resident_free(playout, sizeof *playout);
}

static struct resampler *voice(struct playout *p)
{
    return &p->voice[p->current];
}

/* The source frame that the next output frame stands for. */
static double position(const struct playout *p)
{
    return resampler_position(&p->voice[p->current]);
}

static double frames_to_s(const struct playout *p, double frames)
{
    return frames / p->source_rate;
}

/* --- the target --- */

/* What [main] asks for meanwhile. */
static void take_latency(struct playout *p)
{
    int64_t latency_ns = atomic_load_explicit(&p->asked_latency_ns, memory_order_relaxed);
    int64_t max_latency_ns = atomic_load_explicit(&p->asked_max_latency_ns, memory_order_relaxed);
    if (latency_ns == p->params.latency_ns && max_latency_ns == p->params.max_latency_ns)
        return;
    p->params.latency_ns = latency_ns;
    p->params.max_latency_ns = max_latency_ns;
    p->hurry = true;
    p->regrant_s = REGRANT_S;
}

/* What the target fill is made of; returns where it ought to be, in seconds. */
static double target_goal(struct playout *p, const struct pull_time *time)
{
    struct playout_stats *stats = &p->stats;
    double guest_s = frames_to_s(p, p->view.chunk_frames);
    double quantum_s = device_clock_quantum_s(&p->device);
    double resampler_s = frames_to_s(p, resampler_lookahead(p->params.quality, p->step));
    double device_s = (double)p->device.delay_frames / time->rate;
    double hold_s = p->view.hold_ns / NS_PER_S;
    double auto_s = hold_s + quantum_s + resampler_s + MARGIN_S;
    double floor_s = guest_s + quantum_s + resampler_s + FLOOR_SPARE_S;

    double goal_s = auto_s;
    double asked_s = (double)p->params.latency_ns / NS_PER_S - device_s;
    stats->latency_infeasible = p->params.latency_ns > 0 && asked_s < floor_s;
    bool fixed = p->params.latency_ns > 0 && !stats->latency_infeasible;
    if (fixed)
        goal_s = asked_s;
    else if (p->params.max_latency_ns > 0)
        goal_s = larger(smaller(auto_s, (double)p->params.max_latency_ns / NS_PER_S - device_s), floor_s);
    /* On the way up only what is there already. */
    p->spare_s = fixed && !p->view.assumed ? larger(smaller(goal_s, p->target.fill_s) - auto_s, 0.0) : 0.0;
    stats->jitter_exceeds = !p->view.assumed && goal_s < auto_s - MARGIN_S;

    stats->guest_ns = nearest(guest_s * NS_PER_S);
    stats->quantum_ns = nearest(quantum_s * NS_PER_S);
    stats->resampler_ns = nearest(resampler_s * NS_PER_S);
    stats->device_ns = nearest(device_s * NS_PER_S);
    stats->target_ns = nearest((goal_s + device_s) * NS_PER_S);
    return goal_s;
}

/* --- playing --- */

static double ring_end(const struct playout *p)
{
    return (double)frame_ring_written(p->ring);
}

/* The last frame that this pull can start at and still be complete. */
static double latest_start(const struct playout *p, uint32_t frames)
{
    return ring_end(p) - frames * p->step - resampler_lookahead(p->params.quality, p->step) - 1.0;
}

/* Goes on at `position`, the old place fading out while the new one fades in. */
static void jump(struct playout *p, double place)
{
    if (p->fade_left > 0)
        return;
    place = larger(place, (double)frame_ring_released(p->ring));
    if (place > position(p))
        p->stats.dropped_frames += (uint64_t)(place - position(p));
    p->current ^= 1;
    resampler_seek(voice(p), p->ring, place, p->step, p->spare);
    p->fade_length = (uint32_t)(CROSSFADE_S * p->device.rate);
    p->fade_left = p->fade_length;
}

/* Nothing to be heard in the next `seconds`? */
static bool quiet_for(const struct playout *p, double seconds)
{
    if (seconds <= 0.0)
        return false;
    uint64_t from = (uint64_t)position(p);
    uint64_t end = from + (uint64_t)(seconds * p->source_rate);
    if (end > frame_ring_written(p->ring))
        return false;
    while (from < end) {
        size_t frames;
        const float *at = frame_ring_peek(p->ring, from, &frames);
        if (frames == 0)
            return false;
        if (frames > end - from)
            frames = (size_t)(end - from);
        for (size_t i = 0; i < frames * p->channels; i++)
            if (fabsf(at[i]) > QUIET)
                return false;
        from += frames;
    }
    return true;
}

/* The two clocks' periods, device over source, relative to nominal. */
static double clock_ratio(const struct playout *p)
{
    return p->device.clock.rate / (p->view.period_ns * p->source_rate / NS_PER_S);
}

static void begin(struct playout *p, double place, double error_s)
{
    resampler_seek(voice(p), p->ring, place, p->step, p->spare);
    p->phase = PLAYING;
    p->jump_due = false;
    p->fade_left = 0;
    p->tail = false;
    p->gain = 0.0;
    p->catch_up_s = error_s > CATCH_UP_ERROR_S || p->view.vague ? CATCH_UP_S : 0.0;
    p->epoch = p->view.epoch;
    if (p->starved_in_play && p->gaps == p->view.gaps)
        p->stats.underruns++;
    p->starved_in_play = false;
    p->gaps = p->view.gaps;
    rate_start(&p->loop, clock_ratio(p));
}

/* Silent: is there enough to start with? Returns the frames of silence before the first that sounds. */
static uint32_t try_start(struct playout *p, double line, double goal_s, uint32_t frames)
{
    /* Ran dry, and from what is in hand would do so again. */
    if (p->starved_in_play && p->view.unsure)
        return frames;
    p->target.fill_s = goal_s;
    double wanted = line - goal_s * p->source_rate;
    double late_start = LATE_START_S * p->source_rate;
    bool paused = p->gaps != p->view.gaps;
    double first = (double)p->resume_frame;
    if (paused)
        first = larger(first, (double)p->view.gap_frame);
    first = smaller(larger(first, wanted - late_start), ring_end(p));
    if (first > (double)p->resume_frame) {
        p->stats.dropped_frames += (uint64_t)first - p->resume_frame;
        p->resume_frame = (uint64_t)first;
        feed_release(p->feed, p->resume_frame);
    }
    double start = paused ? first : larger(first, wanted);
    double silence = whole_above(larger(start - wanted, 0.0) / p->step);
    if (silence >= frames || start > latest_start(p, frames - (uint32_t)silence))
        return frames;
    if (start > first)
        p->stats.dropped_frames += (uint64_t)(start - first);
    begin(p, start, frames_to_s(p, wanted - start));
    return (uint32_t)silence;
}

/* Playing: keeps the fill on its target. */
static void steer(struct playout *p, double line, double goal_s, const struct device_step *device)
{
    bool fixed = p->params.latency_ns > 0 && !p->stats.latency_infeasible;
    if (device->grown_s > 0.0 && !fixed)
        p->target.fill_s = larger(p->target.fill_s, goal_s);
    p->acquire_s -= device->elapsed_s;
    p->moved_s -= device->elapsed_s;
    double slope = 0.0;
    double fill_s = frames_to_s(p, line - position(p));
    p->measuring = p->loop.gear == 0;
    p->jump_due = p->jump_due || device->missed_s != 0.0 || device->grown_s > SMALL_JUMP_S;
    if (fixed && p->moved_s > 0.0 &&
        !p->hurry) { /* the delay may be another one, and the total is to be what it was */
        p->jump_due = p->jump_due || fabs(goal_s - p->target.fill_s) > SMALL_JUMP_S;
        p->target.fill_s = goal_s;
    }
    if (p->measuring) { /* the line still moves: follow its rate only, and go where somebody wants it afterwards */
        p->target.fill_s = p->hurry ? fill_s : goal_s;
    } else {
        /* From where we are to where we ought to be, without the loop's lag; but the device's jumps are no such way. */
        if (p->acquire_s > 0.0 && !p->jump_due && fabs(fill_s - goal_s) <= RESYNC_S)
            p->target.fill_s = fill_s;
        slope = rate_target_move(&p->target, goal_s, device->elapsed_s, p->acquire_s > 0.0 || p->hurry);
        p->hurry = p->hurry && (p->regrant_s > 0.0 || fabs(goal_s - p->target.fill_s) > HURRIED_S);
    }
    double error_s = fill_s - p->target.fill_s;

    if (p->epoch != p->view.epoch) {
        p->epoch = p->view.epoch;
        rate_shift(&p->loop, 1);
    }
    /* Going back to where the fill would be right would be to say again what has been heard. */
    p->tail = p->gaps != p->view.gaps && error_s < -RESYNC_S && position(p) < (double)p->view.gap_frame;
    double place = line - p->target.fill_s * p->source_rate;
    double nominal = p->source_rate / p->device.rate;
    if (p->rate_changed) { /* the other voice starts at the new ratio instead of gliding to it */
        p->rate_changed = false;
        p->step = nominal;
        p->jump_due = p->fade_left > 0; /* then it has to wait */
        jump(p, p->catch_up_s > 0.0 || p->tail ? position(p) : place);
    } else if (p->tail) {
        p->jump_due = false; /* silence follows, and a new start in the right place */
    } else if (p->jump_due && p->fade_left == 0) {
        p->jump_due = false;
        if (fabs(error_s) > SMALL_JUMP_S && p->catch_up_s <= 0.0)
            jump(p, place);
    } else if (p->catch_up_s > 0.0) {
        p->catch_up_s -= device->elapsed_s;
        if (p->catch_up_s <= 0.0 || (!p->view.vague && quiet_for(p, error_s + CROSSFADE_S))) {
            p->catch_up_s = 0.0;
            jump(p, place);
        }
    } else if (fabs(error_s) > RESYNC_S && p->fade_left == 0) {
        jump(p, place);
        p->stats.resyncs++;
    }
    p->trace.error_s = error_s;
    p->trace.slope = slope;
    error_s = frames_to_s(p, line - position(p)) - p->target.fill_s;
    if (p->measuring || p->tail || p->catch_up_s > 0.0 || fabs(error_s) > RESYNC_S)
        error_s = 0.0; /* nothing to go by yet, or a jump is due: bending the pitch would not help */
    p->step = nominal * rate_update(&p->loop, error_s, device->elapsed_s, clock_ratio(p), slope);
}

/* Spare time may be spent on waking up less often, for as long as the guest does not need it: feed.h. */
static int64_t patience_ns(const struct playout *p)
{
    bool steady = p->phase == PLAYING && p->acquire_s <= 0.0 && p->catch_up_s <= 0.0 && !p->hurry && !p->tail &&
                  !p->view.unsure && rate_locked(&p->loop) && fabs(p->trace.error_s) < SMALL_JUMP_S;
    return steady ? nearest(smaller(larger(p->spare_s / 2, p->spare_s - UNSPENT_S), PATIENCE_MAX_S) * NS_PER_S) : 0;
}

/* --- sound --- */

/* Smooth 0..1: no corner at either end. */
static float shape(double x)
{
    return (float)(x * x * (3.0 - 2.0 * x));
}

static void mix(struct playout *p, float *dst, const float *old, uint32_t frames)
{
    for (uint32_t i = 0; i < frames && p->fade_left > 0; i++, p->fade_left--) {
        float out = shape((double)p->fade_left / p->fade_length);
        for (unsigned c = 0; c < p->channels; c++) {
            float *at = &dst[(size_t)i * p->channels + c];
            *at = *at * (1.0f - out) + old[(size_t)i * p->channels + c] * out;
        }
    }
}

/* Fades towards silence or full level; returns false once silence is reached. */
static bool envelope(struct playout *p, float *dst, uint32_t frames, bool to_silence)
{
    if (!to_silence && p->gain >= 1.0)
        return true;
    double per_frame = (to_silence ? -1.0 : 1.0) / (FADE_S * p->device.rate);
    for (uint32_t i = 0; i < frames; i++) {
        float gain = shape(p->gain);
        for (unsigned c = 0; c < p->channels; c++)
            dst[(size_t)i * p->channels + c] *= gain;
        p->gain = larger(smaller(p->gain + per_frame, 1.0), 0.0);
    }
    return p->gain > 0.0;
}

static void fall_silent(struct playout *p)
{
    p->phase = STARVED;
    p->fade_left = 0;
    p->resume_frame = frame_ring_written(p->ring);
    uint64_t at = (uint64_t)position(p);
    if (at < p->resume_frame)
        p->resume_frame = at;
}

/* Is this slice the last of what was said before a pause? Then it fades. */
static bool tail_ends(const struct playout *p, uint32_t frames)
{
    return p->tail && position(p) + frames * p->step + FADE_S * p->source_rate >= (double)p->view.gap_frame;
}

/* One slice of sound; on running dry, or before a pause, it begins to end. */
static void sound(struct playout *p, float *dst, uint32_t frames, bool mute)
{
    if (p->phase == PLAYING && (!resampler_ready(voice(p), p->ring, frames, p->step) || tail_ends(p, frames))) {
        p->phase = ENDING;
        p->starved_in_play = true;
    }
    resampler_run(voice(p), p->ring, dst, frames, p->step);
    if (p->fade_left > 0) {
        resampler_run(&p->voice[p->current ^ 1], p->ring, p->spare, frames, p->step);
        mix(p, dst, p->spare, frames);
    }
    if (!envelope(p, dst, frames, mute || p->phase == ENDING))
        fall_silent(p);
}

static void publish(struct playout *p, double line)
{
    struct playout_stats *stats = &p->stats;
    bool sounding = p->phase == PLAYING || p->phase == ENDING;
    stats->state = sounding ? PLAYOUT_PLAYING : p->starved_in_play ? PLAYOUT_STARVED : PLAYOUT_WAITING;
    stats->locked = sounding && rate_locked(&p->loop);
    stats->drift_ppm = p->device.known && p->view.period_ns > 0.0 ? (clock_ratio(p) - 1.0) * 1e6 : 0.0;
    double fill_s = sounding ? frames_to_s(p, line - p->trace.position) : p->target.fill_s;
    stats->total_ns = nearest(fill_s * NS_PER_S) + stats->device_ns;
    stats->jitter_ns = stats->total_ns - stats->device_ns - stats->guest_ns - stats->quantum_ns - stats->resampler_ns;
    stats->device_rate = p->device.rate;
    stats->quantum_frames = p->device.frames;
    struct playout_stats copy = *stats;
    copy.dropped_frames += p->view.dropped_frames;
    seqlock_write(&p->published, &copy, sizeof copy);
}

void playout_pull(void *playout, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct playout *p = playout;
    if (time->rate < RATE_MIN || time->rate > RATE_MAX || frames == 0) {
        memset(dst, 0, (size_t)frames * p->channels * sizeof *dst);
        return;
    }
    take_latency(p);
    struct device_step device = device_clock_follow(&p->device, frames, time, p->regrant_s > 0.0);
    p->regrant_s -= device.elapsed_s;
    p->rate_changed = p->rate_changed || device.other_rate;
    p->jump_due = p->jump_due || device.other;
    if (p->phase == PLAYING && (device.other || time->flags & PULL_DISCONTINUITY))
        p->moved_s = MOVED_S;
    feed_read(p->feed, &p->view);
    bool mute = atomic_load_explicit(&p->mute, memory_order_relaxed);

    double line = 0.0;
    uint32_t silence = frames;
    if (p->view.time_ns != 0) {
        int64_t cycle_ns = device_clock_now_ns(&p->device);
        line = p->view.frame + (double)(cycle_ns - p->view.time_ns) / p->view.period_ns;
        double goal_s = target_goal(p, time);
        if (p->phase == PLAYING && device.missed_s > BREAK_MAX_S)
            fall_silent(p);
        if (p->phase == WAITING || p->phase == STARVED) {
            p->step =
                p->source_rate / time->rate * p->device.clock.rate * NS_PER_S / (p->view.period_ns * p->source_rate);
            if (!mute)
                silence = try_start(p, line, goal_s, frames);
        } else {
            if (p->phase == PLAYING && !(time->flags & PULL_FREEWHEEL))
                steer(p, line, goal_s, &device);
            silence = 0;
        }
    }
    if (device.missed_s > 0.0)
        p->stats.xrun_frames += (uint64_t)(device.missed_s * time->rate);

    memset(dst, 0, (size_t)silence * p->channels * sizeof *dst);
    p->trace.position = position(p) - silence * p->step;
    for (uint32_t done = silence; done < frames;) {
        float *at = dst + (size_t)done * p->channels;
        uint32_t slice = resampler_slice(p->step);
        if (slice > frames - done)
            slice = frames - done;
        if (p->phase == PLAYING || p->phase == ENDING) {
            sound(p, at, slice, mute);
            p->stats.frames += slice;
        } else {
            memset(at, 0, (size_t)slice * p->channels * sizeof *dst);
        }
        done += slice;
    }
    if (p->phase == PLAYING || p->phase == ENDING) {
        double keep = position(p) - HISTORY_S * p->source_rate;
        if (p->fade_left > 0)
            keep = smaller(keep, resampler_position(&p->voice[p->current ^ 1]) - HISTORY_S * p->source_rate);
        if (keep > 0.0)
            feed_release(p->feed, (uint64_t)keep);
    }
    atomic_store_explicit(&p->silent, p->phase == WAITING || p->phase == STARVED, memory_order_relaxed);
    p->trace.fill_s = frames_to_s(p, line - p->trace.position);
    p->trace.step = p->step;
    p->trace.target_s = p->target.fill_s;
    feed_set_patience(p->feed, patience_ns(p));
    publish(p, line);
}

void playout_mute(struct playout *playout, bool mute)
{
    atomic_store_explicit(&playout->mute, mute, memory_order_relaxed);
}

void playout_set_latency(struct playout *playout, int64_t latency_ns, int64_t max_latency_ns)
{
    atomic_store_explicit(&playout->asked_latency_ns, latency_ns, memory_order_relaxed);
    atomic_store_explicit(&playout->asked_max_latency_ns, max_latency_ns, memory_order_relaxed);
}

bool playout_silent(const struct playout *playout)
{
    return atomic_load_explicit(&playout->silent, memory_order_relaxed);
}

void playout_get_stats(const struct playout *playout, struct playout_stats *stats)
{
    for (int i = 0; i < STATS_TRIES; i++) { /* [rt] may have been interrupted in the middle of writing */
        if (seqlock_read(&playout->published, stats, sizeof *stats))
            return;
        sched_yield();
    }
    *stats = (struct playout_stats){0};
}

void playout_get_trace(const struct playout *playout, struct playout_trace *trace)
{
    *trace = playout->trace;
}
