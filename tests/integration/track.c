/* SPDX-License-Identifier: MIT */
#include "tests/integration/track.h"

#include <complex.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TURN            6.283185307179586
#define WINDOW_S        0.0025
#define TONE_LOW        0.97 /* of the level: what still counts as the whole tone */
#define TONE_HIGH       1.03
#define SILENCE         0.01
#define CLICK           0.02 /* second difference, of the level */
#define NEAR_WINDOWS    4    /* steps so close are one */
#define SLOPE_WINDOWS   40   /* over which the drift before a step is taken */
#define DRIFT_LEAST_S   1.0
#define LEVEL_BLOCK_S   0.1
#define EVENTS_MAX      100000
#define LOSS_NEAR_NS    20000000
#define SEGMENT_NONE    UINT32_MAX
#define FIRST_TONE_PART 0.2 /* of the loudest window: candidates for the level */

struct window_shape {
    double low, high; /* of the amplitude, sample by sample */
    double corner;    /* largest second difference */
};

static int64_t frames_ns(double frames, double rate)
{
    return llround(frames / rate * 1e9);
}

static void *more(void *array, size_t count, size_t *capacity, size_t item)
{
    if (count < *capacity)
        return array;
    size_t larger = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(array, larger * item);
    if (grown)
        *capacity = larger;
    return grown;
}

static int add_event(struct track *track, const struct track_event *event)
{
    if (track->event_count >= EVENTS_MAX)
        return 0;
    struct track_event *events = more(track->events, track->event_count, &track->event_capacity, sizeof *events);
    if (!events)
        return -ENOMEM;
    track->events = events;
    events[track->event_count++] = *event;
    return 0;
}

static int add_loss(struct track *track, int64_t at_ns, int64_t frames)
{
    struct track_loss *losses = more(track->losses, track->loss_count, &track->loss_capacity, sizeof *losses);
    if (!losses)
        return -ENOMEM;
    track->losses = losses;
    losses[track->loss_count++] = (struct track_loss){at_ns, frames};
    return 0;
}

/* The phase at the window's centre, and how whole the tone is in it. */
static double measure(const struct track_params *params, const struct capture *capture, size_t first, size_t count,
                      double turns_per_frame, double *level, struct window_shape *shape)
{
    const float *at = capture->samples + first * capture->channels + params->first_channel;
    double complex step = cexp(-I * TURN * turns_per_frame);
    double complex rotor = cexp(I * TURN * turns_per_frame * (double)(count - 1) / 2);
    double complex sum = 0, before = 0, earlier = 0;
    *shape = (struct window_shape){.low = INFINITY};
    for (size_t i = 0; i < count; i++, at += capture->channels) {
        double complex z = (double)at[0] + I * (double)at[1];
        double amplitude = cabs(z);
        shape->low = fmin(shape->low, amplitude);
        shape->high = fmax(shape->high, amplitude);
        if (i >= 2)
            shape->corner = fmax(shape->corner, cabs(z - 2 * before + earlier));
        sum += z * rotor;
        rotor *= step;
        earlier = before;
        before = z;
    }
    *level = cabs(sum) / (double)count;
    return carg(sum) / TURN;
}

/* Positions continue the window before: by frames within a run, by time from run to run. */
static void unwrap(const struct track *track, struct track_window *window, const struct track_window *before,
                   double advance)
{
    double period = track->params.source_rate / track->params.hz;
    double expected = before->position + advance;
    window->position += period * nearbyint((expected - window->position) / period);
}

static bool continues(const struct capture_record *before, const struct capture_record *after)
{
    return after->clock_id == before->clock_id && after->rate == before->rate &&
           after->position == before->position + before->frames;
}

/* All windows of one run of cycles [begin, end). */
static void track_run(struct track *track, const struct capture *capture, size_t begin, size_t end, unsigned run,
                      struct window_shape *shapes)
{
    const struct track_params *params = &track->params;
    const struct capture_cycle *cycle = &capture->cycles[begin];
    double rate = cycle->record.rate, period = params->source_rate / params->hz;
    size_t size = (size_t)(rate * WINDOW_S);
    size_t limit = capture->cycles[end - 1].first + capture->cycles[end - 1].record.frames;
    bool first_of_run = true;

    for (size_t first = cycle->first; first + size <= limit; first += size) {
        double centre = (double)first + (double)(size - 1) / 2;
        while (centre >= (double)(cycle->first + cycle->record.frames))
            cycle++;
        int64_t time_ns = cycle->record.cycle_ns + frames_ns(centre - (double)cycle->first, rate);
        if (time_ns < params->from_ns || time_ns > params->to_ns)
            continue;
        struct track_window *window = &track->windows[track->window_count];
        *window = (struct track_window){
            .time_ns = time_ns, .length_s = (double)size / rate, .run = run, .segment = SEGMENT_NONE};
        window->position = period * measure(params, capture, first, size, params->hz / rate, &window->level,
                                            &shapes[track->window_count]);
        if (track->window_count > 0) {
            const struct track_window *before = window - 1;
            double advance = first_of_run ? (double)(time_ns - before->time_ns) / 1e9 * params->source_rate
                                          : window->length_s * params->source_rate;
            unwrap(track, window, before, advance);
        }
        first_of_run = false;
        track->window_count++;
    }
}

/* So late, by its time or by that of the cycle before, that the sink may have gone on to the next one: what was read is
 * then that one's. */
static bool read_late(const struct capture_record *before, const struct capture_record *after)
{
    const int64_t half_ns = frames_ns(before->frames / 2.0, before->rate);
    return before->read_ns && after->read_ns &&
           (after->read_ns - before->read_ns > 3 * half_ns || after->read_ns - after->cycle_ns > half_ns);
}

/* Notes a loss, unless nobody looks at that time. */
static int note_loss(struct track *track, int64_t at_ns, int64_t frames)
{
    return at_ns < track->params.from_ns || at_ns > track->params.to_ns ? 0 : add_loss(track, at_ns, frames);
}

static int split_runs(struct track *track, const struct capture *capture, struct window_shape *shapes)
{
    unsigned run = 0;
    size_t begin = 0;
    for (size_t i = 1; i <= capture->cycle_count; i++) {
        const struct capture_record *before = &capture->cycles[i - 1].record;
        if (i < capture->cycle_count && continues(before, &capture->cycles[i].record)) {
            const struct capture_record *here = &capture->cycles[i].record;
            if (read_late(before, here) && note_loss(track, here->cycle_ns, 0) != 0)
                return -ENOMEM;
            continue;
        }
        track_run(track, capture, begin, i, run++, shapes);
        if (i == capture->cycle_count)
            break;
        const struct capture_record *after = &capture->cycles[i].record;
        bool same_clock = after->clock_id == before->clock_id && after->rate == before->rate;
        int64_t missing = same_clock ? (int64_t)(after->position - before->position) - before->frames : 0;
        if (note_loss(track, after->cycle_ns, missing) != 0)
            return -ENOMEM;
        begin = i;
    }
    return 0;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The tone's level: the median of all windows that are loud. */
static int find_level(struct track *track)
{
    double *levels = malloc((track->window_count + 1) * sizeof *levels), loudest = 0;
    if (!levels)
        return -ENOMEM;
    size_t count = 0;
    for (size_t i = 0; i < track->window_count; i++)
        loudest = fmax(loudest, track->windows[i].level);
    for (size_t i = 0; i < track->window_count; i++) {
        if (track->windows[i].level > loudest * FIRST_TONE_PART)
            levels[count++] = track->windows[i].level;
    }
    qsort(levels, count, sizeof *levels, compare_doubles);
    track->level = count ? levels[count / 2] : 0;
    free(levels);
    return 0;
}

static void mark_tone(struct track *track, const struct window_shape *shapes)
{
    unsigned segment = 0;
    for (size_t i = 0; i < track->window_count; i++) {
        struct track_window *window = &track->windows[i];
        window->tone =
            track->level > 0 && shapes[i].low > track->level * TONE_LOW && shapes[i].high < track->level * TONE_HIGH;
        if (!window->tone)
            continue;
        if (i > 0 && (!window[-1].tone || window[-1].run != window->run))
            segment++;
        window->segment = segment;
    }
}

/* Position ahead of what the clock alone explains, against window `origin`. */
static double gained(const struct track *track, size_t i, size_t origin)
{
    const struct track_window *window = &track->windows[i], *from = &track->windows[origin];
    double elapsed = window->run == from->run ? (double)(i - origin) * window->length_s
                                              : (double)(window->time_ns - from->time_ns) / 1e9;
    return window->position - from->position - elapsed * track->params.source_rate;
}

/* Frames per window that the position drifts before window i. */
static double slope_before(const struct track *track, size_t i)
{
    size_t from = i;
    while (from > 0 && i - from < SLOPE_WINDOWS && track->windows[from - 1].segment == track->windows[i].segment)
        from--;
    return i - from < SLOPE_WINDOWS / 4 ? 0 : gained(track, i, from) / (double)(i - from);
}

static bool near_loss(const struct track *track, int64_t from_ns, int64_t to_ns)
{
    for (size_t i = 0; i < track->loss_count; i++) {
        int64_t at_ns = track->losses[i].at_ns, after_ns = track->params.loss_after_ns;
        if (at_ns >= from_ns - (after_ns ? after_ns : LOSS_NEAR_NS) && at_ns <= to_ns + LOSS_NEAR_NS)
            return true;
    }
    return false;
}

/* What windows i-2, i-1 and i+1, i+2 say of window i, from either side, must agree. */
static bool steps_at(const struct track *track, size_t i)
{
    if (i < 2 || i + 2 >= track->window_count)
        return false;
    const struct track_window *w = &track->windows[i];
    for (int k = -2; k <= 2; k++) {
        if (!w[k].tone || w[k].segment != w->segment)
            return false;
    }
    double step = (2 * w[1].position - w[2].position) - (2 * w[-1].position - w[-2].position);
    return fabs(step) > track->params.step_frames;
}

static int find_steps(struct track *track)
{
    for (size_t i = 0; i < track->window_count; i++) {
        if (!steps_at(track, i))
            continue;
        size_t last = i;
        for (size_t k = i + 1; k < track->window_count && k <= last + NEAR_WINDOWS; k++) {
            if (steps_at(track, k))
                last = k;
        }
        double slope = slope_before(track, i - 1);
        struct track_event event = {.kind = TRACK_STEP,
                                    .from_ns = track->windows[i - 1].time_ns,
                                    .to_ns = track->windows[last + 1].time_ns,
                                    .frames = gained(track, last + 1, i - 1) - slope * (double)(last + 2 - i)};
        event.near_loss = near_loss(track, event.from_ns, event.to_ns);
        if (fabs(event.frames) > track->params.step_frames && add_event(track, &event) != 0)
            return -ENOMEM;
        i = last;
    }
    return 0;
}

/* Between the first and the last window with tone: where it is not whole, and where a run ends. */
static int find_dips(struct track *track)
{
    size_t before = SIZE_MAX;
    for (size_t i = 0; i < track->window_count; i++) {
        if (!track->windows[i].tone)
            continue;
        bool run_ends = before != SIZE_MAX && track->windows[before].run != track->windows[i].run;
        if (before != SIZE_MAX && (before + 1 < i || run_ends)) {
            struct track_event event = {.kind = before + 1 < i ? TRACK_DIP : TRACK_STEP,
                                        .from_ns = track->windows[before].time_ns,
                                        .to_ns = track->windows[i].time_ns};
            event.frames = gained(track, i, before) -
                           slope_before(track, before) * (double)(event.to_ns - event.from_ns) / 1e9 / WINDOW_S;
            for (size_t k = before + 1; k < i; k++) {
                if (track->windows[k].level < track->level * SILENCE)
                    event.silent_ns += frames_ns(WINDOW_S, 1);
            }
            event.near_loss = run_ends || near_loss(track, event.from_ns, event.to_ns);
            bool matters = event.kind == TRACK_DIP || fabs(event.frames) > track->params.step_frames;
            if (matters && add_event(track, &event) != 0)
                return -ENOMEM;
        }
        before = i;
    }
    return 0;
}

static bool is_told(const struct track *track, int64_t from_ns, int64_t to_ns)
{
    for (size_t i = 0; i < track->event_count; i++) {
        if (track->events[i].from_ns <= to_ns && track->events[i].to_ns >= from_ns)
            return true;
    }
    return false;
}

/* Corners that no step and no dip explains. */
static int find_clicks(struct track *track, const struct window_shape *shapes)
{
    for (size_t i = 1; i + 1 < track->window_count; i++) {
        const struct track_window *window = &track->windows[i];
        if (!window->tone || shapes[i].corner <= track->level * CLICK)
            continue;
        struct track_event event = {.kind = TRACK_CLICK, .from_ns = window[-1].time_ns, .to_ns = window[1].time_ns};
        event.near_loss = near_loss(track, event.from_ns, event.to_ns);
        if (!is_told(track, event.from_ns, event.to_ns) && add_event(track, &event) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int compare_events(const void *a, const void *b)
{
    const struct track_event *x = a, *y = b;
    return (x->from_ns > y->from_ns) - (x->from_ns < y->from_ns);
}

int track_make(struct track *track, const struct capture *capture, const struct track_params *params)
{
    *track = (struct track){.params = *params};
    if (capture->channels < params->first_channel + 2 || !(params->hz > 0) || !(params->source_rate > 0))
        return -EINVAL;

    int result = -ENOMEM;
    size_t most = 1;
    for (size_t i = 0; i < capture->cycle_count; i++)
        most += (size_t)((double)capture->cycles[i].record.frames / capture->cycles[i].record.rate / WINDOW_S) + 2;
    struct window_shape *shapes = malloc(most * sizeof *shapes);
    track->windows = malloc(most * sizeof *track->windows);
    if (!shapes || !track->windows)
        goto out;
    result = split_runs(track, capture, shapes);
    if (result == 0)
        result = find_level(track);
    if (result != 0)
        goto out;
    mark_tone(track, shapes);
    result = find_steps(track);
    if (result == 0)
        result = find_dips(track);
    if (result == 0)
        result = find_clicks(track, shapes);
    if (track->event_count)
        qsort(track->events, track->event_count, sizeof *track->events, compare_events);
out:
    free(shapes);
    if (result != 0)
        track_free(track);
    return result;
}

void track_free(struct track *track)
{
    free(track->windows);
    free(track->events);
    free(track->losses);
    *track = (struct track){0};
}

double track_drift_ppm(const struct track *track, int64_t from_ns, int64_t to_ns)
{
    /* From window to window within segments. The ratio keeps within 1 %: what deviates by 2 is a step. */
    double advanced = 0, elapsed = 0;
    for (size_t i = 1; i < track->window_count; i++) {
        const struct track_window *window = &track->windows[i];
        if (window->time_ns < from_ns || window->time_ns > to_ns || !window->tone ||
            window[-1].segment != window->segment)
            continue;
        double frames = window->position - window[-1].position,
               nominal = window->length_s * track->params.source_rate;
        if (fabs(frames - nominal) > nominal * 0.02)
            continue;
        advanced += frames;
        elapsed += nominal;
    }
    return elapsed < DRIFT_LEAST_S * track->params.source_rate ? NAN : (advanced / elapsed - 1) * 1e6;
}

/* One block's part: x(i) times a Hann window against the tone. */
static double complex tone_part(double sample, double part, double turns)
{
    return sample * 2 * (0.5 - 0.5 * cos(TURN * part)) * cexp(-I * TURN * turns);
}

double track_tone_level(const struct capture *capture, unsigned channel, double hz, int64_t from_ns, int64_t to_ns)
{
    /* Of blocks short enough that a drifting clock turns no phase to speak of in one. */
    double complex sum = 0;
    double *levels = NULL, level = 0;
    size_t in_block = 0, blocks = 0, room = 0;
    for (size_t i = 0; i < capture->cycle_count; i++) {
        const struct capture_record *record = &capture->cycles[i].record;
        if (record->cycle_ns < from_ns || record->cycle_ns > to_ns)
            continue;
        size_t size = (size_t)(record->rate * LEVEL_BLOCK_S);
        const float *at = capture->samples + capture->cycles[i].first * capture->channels + channel;
        for (uint32_t k = 0; k < record->frames; k++, at += capture->channels) {
            double n = (double)in_block++;
            sum += tone_part((double)*at, n / (double)size, hz / record->rate * n);
            if (in_block < size)
                continue;
            double *larger = more(levels, blocks, &room, sizeof *levels);
            if (!larger)
                break;
            levels = larger;
            levels[blocks++] = 2 * cabs(sum) / (double)size;
            in_block = 0;
            sum = 0;
        }
    }
    /* What a stalled machine tore is in few of them. */
    if (blocks > 0) {
        qsort(levels, blocks, sizeof *levels, compare_doubles);
        level = levels[blocks / 2];
    }
    free(levels);
    return level;
}
