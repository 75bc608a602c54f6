/* SPDX-License-Identifier: MIT */
#include "receiver/signal_gen.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SWEEP_HIGH_HZ      20000.0
#define SWEEP_FADE_SECONDS 0.005

static const double two_pi = 6.283185307179586476925286766559;

int signal_gen_init(struct signal_gen *gen, const struct signal_params *params)
{
    if (params->rate == 0 || params->rate > 1000000 || params->channels == 0 ||
        params->channels > SIGNAL_CHANNELS_MAX || !(params->level >= 0 && params->level <= 1))
        return -EINVAL;
    uint64_t step = 0;
    if (params->kind == SIGNAL_TONE || params->kind == SIGNAL_PER_CHANNEL) {
        unsigned highest = params->kind == SIGNAL_PER_CHANNEL ? params->channels : 1;
        if (!(params->hz * highest < params->rate / 2.0) || !(params->hz * SIGNAL_TONE_STEPS_PER_HZ >= 1))
            return -EINVAL;
        step = (uint64_t)llround(params->hz * SIGNAL_TONE_STEPS_PER_HZ);
    }
    if (params->kind == SIGNAL_IMPULSE &&
        (params->period_frames < SIGNAL_PERIOD_MIN || params->period_frames > SIGNAL_PERIOD_MAX))
        return -EINVAL;
    *gen = (struct signal_gen){.params = *params, .step_mhz = step};
    return 0;
}

/* The phase is a fraction num / den of a turn, kept in integers: exact however large the index is. */
static void fill_tone(const struct signal_gen *gen, float *dst, uint64_t first, uint32_t frames)
{
    const unsigned channels = gen->params.channels;
    const uint64_t den = (uint64_t)gen->params.rate * SIGNAL_TONE_STEPS_PER_HZ;
    uint64_t num = first % den * gen->step_mhz % den;
    for (uint32_t i = 0; i < frames; i++) {
        double angle = two_pi * (double)num / (double)den;
        float in_phase = (float)(gen->params.level * cos(angle));
        float quadrature = (float)(gen->params.level * sin(angle));
        for (unsigned c = 0; c < channels; c++)
            *dst++ = c % 2 ? quadrature : in_phase;
        num += gen->step_mhz;
        if (num >= den)
            num -= den;
    }
}

static void fill_per_channel(const struct signal_gen *gen, float *dst, uint64_t first, uint32_t frames)
{
    const unsigned channels = gen->params.channels;
    const uint64_t den = (uint64_t)gen->params.rate * SIGNAL_TONE_STEPS_PER_HZ;
    uint64_t num = first % den * gen->step_mhz % den;
    for (uint32_t i = 0; i < frames; i++) {
        for (unsigned c = 0; c < channels; c++) {
            uint64_t part = num * (c + 1) % den;
            *dst++ = (float)(gen->params.level * sin(two_pi * (double)part / (double)den));
        }
        num += gen->step_mhz;
        if (num >= den)
            num -= den;
    }
}

static void fill_sweep(const struct signal_gen *gen, float *dst, uint64_t first, uint32_t frames)
{
    const unsigned channels = gen->params.channels;
    const double rate = gen->params.rate;
    const uint64_t length = (uint64_t)gen->params.rate * SIGNAL_SWEEP_SECONDS;
    const double high = fmin(SWEEP_HIGH_HZ, 0.45 * rate);
    const double octaves = log(high / SIGNAL_SWEEP_LOW_HZ);
    const double turns = SIGNAL_SWEEP_LOW_HZ * SIGNAL_SWEEP_SECONDS / octaves;
    for (uint32_t i = 0; i < frames; i++) {
        uint64_t n = (first + i) % length;
        double phase = turns * expm1((double)n / (double)length * octaves);
        double from_end = fmin((double)n, (double)(length - n)) / rate;
        double gain = from_end < SWEEP_FADE_SECONDS ? from_end / SWEEP_FADE_SECONDS : 1;
        float value = (float)(gen->params.level * gain * sin(two_pi * (phase - floor(phase))));
        for (unsigned c = 0; c < channels; c++)
            *dst++ = value;
    }
}

uint32_t signal_gen_marker(uint32_t period_frames, uint64_t number)
{
    return period_frames / 4 + (uint32_t)(number % SIGNAL_IMPULSE_NUMBERS) * (period_frames / 64);
}

static void fill_impulse(const struct signal_gen *gen, float *dst, uint64_t first, uint32_t frames)
{
    const unsigned channels = gen->params.channels;
    const uint32_t period = gen->params.period_frames;
    memset(dst, 0, (size_t)frames * channels * sizeof *dst);
    for (uint32_t i = 0; i < frames; i++) {
        uint64_t number = (first + i) / period;
        uint32_t place = (uint32_t)((first + i) % period);
        double value = place == 0 ? 1 : place == signal_gen_marker(period, number) ? -0.5 : 0;
        for (unsigned c = 0; value != 0 && c < channels; c++)
            dst[(size_t)i * channels + c] = (float)(gen->params.level * value);
    }
}

void signal_gen_fill(const struct signal_gen *gen, float *dst, uint64_t first, uint32_t frames)
{
    switch (gen->params.kind) {
    case SIGNAL_TONE:
        fill_tone(gen, dst, first, frames);
        break;
    case SIGNAL_PER_CHANNEL:
        fill_per_channel(gen, dst, first, frames);
        break;
    case SIGNAL_SWEEP:
        fill_sweep(gen, dst, first, frames);
        break;
    case SIGNAL_IMPULSE:
        fill_impulse(gen, dst, first, frames);
        break;
    }
}
