/* SPDX-License-Identifier: MIT */
#include "backends/device_timing.h"

#include <math.h>

#define NS_PER_S     1e9
#define BEYOND_OFF_S 1e-3 /* what lies behind the buffer counts anew only where it is off by this ... */
#define BEYOND_S     0.05 /* ... for so long: a delay that moves would look like a clock that does */
#define SETTLE_S     0.3  /* but at once while a device is only getting under way, as servers are */

void device_timing_init(struct device_timing *timing, uint32_t rate, uint32_t period_frames, uint32_t fill_frames,
                        uint32_t clock_id)
{
    timing->rate = rate;
    timing->period_frames = period_frames;
    timing->fill_frames = fill_frames;
    timing->clock_id = clock_id;
    device_timing_restart(timing);
}

void device_timing_restart(struct device_timing *timing)
{
    timing->written = (int64_t)timing->fill_frames - timing->period_frames;
    timing->begun = false;
}

static int64_t frames_to_ns(const struct device_timing *timing, int64_t frames)
{
    return llround((double)frames * NS_PER_S / timing->rate);
}

/* Frames into this run: where the device stood when it had room for the next period. */
static int64_t cycle_place(const struct device_timing *timing)
{
    return timing->written - ((int64_t)timing->fill_frames - timing->period_frames);
}

static bool settled(const struct device_timing *timing)
{
    return (double)timing->written > SETTLE_S * timing->rate;
}

/* Returns true where the delay has changed for good. */
static bool follow_beyond(struct device_timing *timing, int64_t beyond)
{
    if (!timing->begun) {
        timing->beyond = beyond;
        timing->off_sum = timing->off_cycles = 0;
        return false;
    }
    const double limit = BEYOND_OFF_S * timing->rate;
    if (fabs((double)(beyond - timing->beyond)) <= limit) {
        timing->off_sum = timing->off_cycles = 0;
        return false;
    }
    timing->off_sum += beyond;
    timing->off_cycles++;
    if (settled(timing) && (double)timing->off_cycles * timing->period_frames < BEYOND_S * timing->rate)
        return false;
    const int64_t mean = timing->off_sum / timing->off_cycles;
    timing->off_sum = timing->off_cycles = 0;
    if (fabs((double)(mean - timing->beyond)) <= limit)
        return false;
    timing->beyond = mean;
    return true;
}

static void set_cycle(struct device_timing *timing, struct pull_time *time, int64_t cycle_ns)
{
    const int64_t place = cycle_place(timing);
    if (!timing->begun) {
        /* The device's clock went on while it stood still. */
        timing->origin = -place;
        if (timing->known)
            timing->origin +=
                timing->position + llround((double)(cycle_ns - timing->cycle_ns) * timing->rate / NS_PER_S);
        time->flags |= PULL_DISCONTINUITY;
    }
    timing->begun = timing->known = true;
    timing->cycle_ns = time->cycle_ns = cycle_ns;
    timing->position = time->position_frames = timing->origin + place;
}

void device_timing_cycle(struct device_timing *timing, const struct device_moment *moment, struct pull_time *time)
{
    const bool moved = follow_beyond(timing, moment->beyond_frames);
    const int64_t delay = (int64_t)timing->fill_frames - timing->period_frames + timing->beyond;
    const int64_t ahead = moment->queued_frames + (moment->estimated ? moment->beyond_frames : timing->beyond);
    *time = (struct pull_time){
        .rate = timing->rate,
        .delay_frames = delay,
        .clock_id = timing->clock_id,
        .flags = (moved && moment->estimated ? PULL_DISCONTINUITY : 0u) |
                 (moment->estimated || moment->coarse ? PULL_COARSE : 0u),
    };
    const int64_t cycle_ns = moment->at_ns - frames_to_ns(timing, delay - ahead);
    const int64_t off_ns = cycle_ns - timing->cycle_ns - frames_to_ns(timing, timing->period_frames);
    if (moment->estimated && !settled(timing) && fabs((double)off_ns) > BEYOND_OFF_S * NS_PER_S)
        time->flags |= PULL_DISCONTINUITY;
    set_cycle(timing, time, cycle_ns);
}

void device_timing_free_cycle(struct device_timing *timing, int64_t begun_ns, struct pull_time *time)
{
    *time = (struct pull_time){.rate = timing->rate, .clock_id = timing->clock_id};
    set_cycle(timing, time, begun_ns + frames_to_ns(timing, cycle_place(timing)));
}

void device_timing_wrote(struct device_timing *timing)
{
    timing->written += timing->period_frames;
}

int64_t device_timing_ahead(const struct device_timing *timing, int64_t begun_ns, int64_t now_ns)
{
    return cycle_place(timing) - llround((double)(now_ns - begun_ns) * timing->rate / NS_PER_S);
}
