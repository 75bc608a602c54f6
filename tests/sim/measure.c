/* SPDX-License-Identifier: MIT */
#include "tests/sim/measure.h"

#include <math.h>
#include <stdlib.h>

#define STEADY_S        120.0
#define AFTER_EVENT_S   30.0
#define CSV_EVERY_S     0.1
#define THD_S           2.0
#define LEARNT_S        20.0
#define LOCK_PPM        50.0
#define HURRY_SLOPE     301e-6 /* more than a target that is followed at leisure moves by */
#define UNDERRUN_NEAR_S 2.0

struct sums {
    double n, sum, squares, min, max;
};

static void sums_add(struct sums *s, double x)
{
    s->min = s->n > 0.0 ? fmin(s->min, x) : x;
    s->max = s->n > 0.0 ? fmax(s->max, x) : x;
    s->n += 1.0;
    s->sum += x;
    s->squares += x * x;
}

static double sums_mean(const struct sums *s)
{
    return s->n > 0.0 ? s->sum / s->n : NAN;
}

static double sums_std(const struct sums *s)
{
    double mean = sums_mean(s);
    return sqrt(fmax(s->squares / s->n - mean * mean, 0.0));
}

struct measure {
    const struct sim_scenario *scenario;
    const struct sim_options *options;
    struct sim_result result;
    struct sums ratio, fill, late_half, early_half, first_hour, last_hour, second;
    double offset_ms; /* fills are summed relative to the first one, for precision */
    bool has_offset;
    double lateness_max_s, quantum_s;
    double event_s, pause_end_s;
    bool any_event, resuming;
    double first_sound_s, unlocked_s, second_start_s, unsettled_s;
    uint64_t underruns;
    double csv_s;
    float *tail;
    size_t tail_size, tail_count;
};

struct measure *measure_new(const struct sim_scenario *scenario, const struct sim_options *options)
{
    struct measure *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->scenario = scenario;
    m->options = options;
    m->first_sound_s = -1.0;
    m->event_s = -1e9;
    if (options->thd) {
        m->tail_size = (size_t)(THD_S * scenario->device_rate);
        m->tail = calloc(m->tail_size, sizeof *m->tail);
    }
    if (options->csv)
        fprintf(options->csv, "t_s,fill_ms,target_ms,ratio_ppm,slope_ppm,error_ms,state\n");
    return m;
}

void measure_arrival(struct measure *m, double t_s, double behind)
{
    if (t_s > m->scenario->seconds - STEADY_S)
        m->lateness_max_s = fmax(m->lateness_max_s, behind / m->scenario->guest_rate);
}

void measure_event(struct measure *m, const struct sim_event *event)
{
    m->any_event = true;
    m->event_s = event->at_s;
    if (event->kind == SIM_PAUSE) {
        m->pause_end_s = event->at_s + event->value;
        m->event_s = m->pause_end_s;
        m->unsettled_s = m->pause_end_s;
        m->resuming = true;
    }
}

static void lock_time(struct measure *m, double t_s, double ppm)
{
    if (m->any_event)
        return;
    sums_add(&m->second, ppm);
    if (t_s - m->second_start_s < 1.0)
        return;
    if (fabs(sums_mean(&m->second)) > LOCK_PPM)
        m->unlocked_s = t_s;
    m->second = (struct sums){0};
    m->second_start_s = t_s;
}

static void steady(struct measure *m, const struct measure_pull *pull, double ppm, double fill_ms)
{
    double left_s = m->scenario->seconds - pull->t_s;
    double since_s = pull->t_s - m->first_sound_s;
    if (!m->has_offset) {
        m->has_offset = true;
        m->offset_ms = fill_ms;
    }
    double fill = fill_ms - m->offset_ms;
    if (m->scenario->seconds > 7200.0) {
        if (since_s > 600.0 && since_s <= 4200.0)
            sums_add(&m->first_hour, fill);
        if (left_s <= 3600.0)
            sums_add(&m->last_hour, fill);
    }
    if (left_s > STEADY_S)
        return;
    sums_add(&m->ratio, ppm);
    sums_add(&m->fill, fill);
    sums_add(left_s > STEADY_S / 2 ? &m->early_half : &m->late_half, fill);
    m->quantum_s = fmax(m->quantum_s, pull->quantum_s);
}

void measure_pull(struct measure *m, const struct measure_pull *pull)
{
    struct sim_result *r = &m->result;
    bool sounding = pull->stats->state == PLAYOUT_PLAYING;
    double t_s = pull->t_s;
    double ppm = (pull->trace->step / pull->ratio - 1.0) * 1e6;
    double fill_ms = (pull->produced - pull->trace->position) / m->scenario->guest_rate * 1e3;

    if (m->tail && t_s > m->scenario->seconds - THD_S - 0.1)
        for (uint32_t i = 0; i < pull->frames && m->tail_count < m->tail_size; i++)
            m->tail[m->tail_count++] = pull->out[i];
    if (m->options->csv && t_s >= m->csv_s) {
        m->csv_s = t_s + CSV_EVERY_S;
        fprintf(m->options->csv, "%.3f,%.4f,%.4f,%.3f,%.3f,%.4f,%d\n", t_s, sounding ? fill_ms : NAN,
                pull->trace->target_s * 1e3, sounding ? ppm : NAN, pull->trace->slope * 1e6,
                pull->trace->error_s * 1e3, (int)pull->stats->state);
    }

    r->target_ms = pull->trace->target_s * 1e3;
    if (t_s > LEARNT_S)
        r->target_max_ms = fmax(r->target_max_ms, r->target_ms);
    if (pull->stats->underruns > m->underruns) {
        if (t_s - m->event_s > UNDERRUN_NEAR_S)
            r->late_underruns += (double)(pull->stats->underruns - m->underruns);
        m->underruns = pull->stats->underruns;
    }
    r->underruns = (double)pull->stats->underruns;
    r->resyncs = (double)pull->stats->resyncs;
    if (!sounding) {
        if (m->first_sound_s >= 0.0 && !pull->guest_silent)
            r->silence_s += pull->quantum_s;
        return;
    }
    if (m->first_sound_s < 0.0)
        m->first_sound_s = m->second_start_s = t_s;
    if (pull->guest_silent)
        return;
    if (m->resuming) {
        m->resuming = false;
        r->heard_s = fmax(r->heard_s, t_s - m->pause_end_s);
    }
    if (m->pause_end_s > 0.0 && t_s < m->event_s + AFTER_EVENT_S && fabs(pull->trace->error_s) > 1e-3) {
        m->unsettled_s = t_s;
        r->settled_s = fmax(r->settled_s, t_s - m->pause_end_s);
    }
    lock_time(m, t_s, ppm + pull->trace->slope * 1e6);
    if (!m->any_event && fabs(pull->trace->slope) > HURRY_SLOPE)
        r->arrived_s = t_s - m->first_sound_s;

    double cents = fabs(1200.0 * log2(1.0 + ppm * 1e-6));
    if (t_s < m->event_s + AFTER_EVENT_S)
        r->pitch_event = fmax(r->pitch_event, cents);
    else if (t_s > m->first_sound_s + 10.0)
        r->pitch_10s = fmax(r->pitch_10s, cents);
    if (t_s > m->scenario->seconds - STEADY_S)
        r->pitch_steady = fmax(r->pitch_steady, cents);
    steady(m, pull, ppm, fill_ms);
}

void measure_finish(struct measure *m, struct sim_result *result)
{
    struct sim_result *r = &m->result;
    r->lock_s = m->first_sound_s < 0.0 ? INFINITY : fmax(m->unlocked_s - m->first_sound_s, 0.0);
    r->mean_ppm = fabs(sums_mean(&m->ratio));
    r->std_ppm = sums_std(&m->ratio);
    r->fill_std_ms = sums_std(&m->fill);
    r->fill_max_ms = fmax(m->fill.max - sums_mean(&m->fill), sums_mean(&m->fill) - m->fill.min);
    r->latency_ms = sums_mean(&m->fill) + m->offset_ms;
    r->fill_trend_ms = m->last_hour.n > 0.0 ? sums_mean(&m->last_hour) - sums_mean(&m->first_hour)
                                            : sums_mean(&m->late_half) - sums_mean(&m->early_half);
    double ahead_s = resampler_lookahead(m->scenario->playout.quality,
                                         (double)m->scenario->guest_rate / m->scenario->device_rate) /
                     m->scenario->guest_rate;
    r->excess_ms = r->latency_ms - (m->lateness_max_s + m->quantum_s + ahead_s) * 1e3;
    double tone_hz = (m->scenario->tone_hz > 0.0 ? m->scenario->tone_hz : 1000.0) *
                     (1.0 + m->scenario->guest_ppm * 1e-6) / (1.0 + m->scenario->device_ppm * 1e-6);
    r->thd_n_db = m->tail ? thd_n_db(m->tail, m->tail_count, m->scenario->device_rate, tone_hz) : NAN;
    *result = *r;
    free(m->tail);
    free(m);
}
