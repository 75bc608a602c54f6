/* SPDX-License-Identifier: MIT */
#include "receiver/guest_timing.h"

#include <errno.h>
#include <math.h>

#define SECOND_NS 1000000000

int guest_timing_init(struct guest_timing *timing, const struct guest_timing_params *params)
{
    if (params->rate == 0 || params->frame_bytes == 0 || params->unit_bytes == 0 || params->burst_units == 0 ||
        !(fabs(params->ppm) <= 100000) || params->jitter_ns < 0 || params->tick_ns < 0 ||
        params->pause_every_ns < 0 || params->pause_ns < 0 || (params->pause_ns > 0 && params->pause_every_ns == 0))
        return -EINVAL;
    *timing = (struct guest_timing){.params = *params, .random = params->seed};
    return 0;
}

/* splitmix64: any seed will do. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t guest_timing_frames(const struct guest_timing *timing, uint64_t units)
{
    return units * timing->params.unit_bytes / timing->params.frame_bytes;
}

int64_t guest_timing_duration_ns(uint64_t frames, uint32_t rate)
{
    uint64_t rest = frames % rate * SECOND_NS;
    return (int64_t)(frames / rate * SECOND_NS + (rest + rate - 1) / rate);
}

/* Guest's time at which so much audio has been played, pauses included; and back. */
static int64_t guest_of_audio(const struct guest_timing_params *params, int64_t audio_ns)
{
    if (params->pause_ns == 0 || audio_ns <= 0)
        return audio_ns;
    return audio_ns + (audio_ns - 1) / params->pause_every_ns * params->pause_ns;
}

static int64_t audio_of_guest(const struct guest_timing_params *params, int64_t guest_ns)
{
    if (params->pause_ns == 0)
        return guest_ns;
    int64_t cycle_ns = params->pause_every_ns + params->pause_ns;
    int64_t within = guest_ns % cycle_ns;
    if (within > params->pause_every_ns)
        within = params->pause_every_ns;
    return guest_ns / cycle_ns * params->pause_every_ns + within;
}

/* Host's time: written as a small correction, so that a double is exact enough for months. */
static int64_t host_of_guest(const struct guest_timing_params *params, int64_t guest_ns)
{
    return guest_ns - llround((double)guest_ns * (params->ppm / (1e6 + params->ppm)));
}

/* Guest's time at which unit number `units` - 1 is complete: it may end within a frame, which is played as a whole. */
static int64_t complete_at(const struct guest_timing_params *params, uint64_t units)
{
    uint64_t frames = (units * params->unit_bytes + params->frame_bytes - 1) / params->frame_bytes;
    return guest_of_audio(params, guest_timing_duration_ns(frames, params->rate));
}

static uint64_t units_at(const struct guest_timing_params *params, int64_t guest_ns)
{
    uint64_t audio_ns = (uint64_t)audio_of_guest(params, guest_ns);
    uint64_t frames = audio_ns / SECOND_NS * params->rate + audio_ns % SECOND_NS * params->rate / SECOND_NS;
    return frames * params->frame_bytes / params->unit_bytes;
}

/* The first time at or after guest_ns at which the driver's timer fires. */
static int64_t timer_at_or_after(const struct guest_timing_params *params, int64_t guest_ns)
{
    int64_t due = guest_ns > params->tick_ns ? (guest_ns - params->tick_ns) / GUEST_TIMER_NS * GUEST_TIMER_NS : 0;
    int64_t fires;
    do {
        due += GUEST_TIMER_NS;
        fires = (due + params->tick_ns - 1) / params->tick_ns * params->tick_ns;
    } while (fires < guest_ns);
    return fires;
}

void guest_timing_next(struct guest_timing *timing, struct guest_delivery *delivery)
{
    const struct guest_timing_params *params = &timing->params;
    uint64_t units = params->burst_units;
    int64_t guest_ns = complete_at(params, timing->next_unit + units);
    if (params->tick_ns > 0) {
        guest_ns = timer_at_or_after(params, guest_ns);
        uint64_t complete = units_at(params, guest_ns) - timing->next_unit;
        units = complete / params->burst_units * params->burst_units;
    }
    int64_t at_ns = host_of_guest(params, guest_ns);
    if (params->jitter_ns > 0)
        at_ns += (int64_t)(random_next(&timing->random) % ((uint64_t)params->jitter_ns + 1));
    if (at_ns < timing->last_ns)
        at_ns = timing->last_ns;
    *delivery = (struct guest_delivery){.at_ns = at_ns, .first_unit = timing->next_unit, .units = (uint32_t)units};
    timing->next_unit += units;
    timing->last_ns = at_ns;
}
