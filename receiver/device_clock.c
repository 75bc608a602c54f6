/* SPDX-License-Identifier: MIT */
#include "receiver/device_clock.h"

#include "receiver/arith.h"

#include <math.h>

#define NS_PER_S       1e9
#define DEVICE_DLL_HZ  0.05
#define COARSE_DLL_HZ  0.02
#define COARSE_SIGMA_S 1e-3
#define DEVICE_SIGMA_S 0.05e-3
#define QUANTUM_KEEP_S 30.0 /* half of the time that a quantum counts */
#define ASKED_OFTEN    3    /* times in that */
#define FRESH_ID_SIGMA 300e-6
#define SAME_ID_SIGMA  50e-6

/* A second time in one cycle: the device stands where it stood, what it gets now is heard after what it got then. */
static bool asked_again(const struct device_clock *device, const struct pull_time *time)
{
    return device->known && time->clock_id == device->clock_id && time->rate == device->rate &&
           time->position_frames == device->position && time->delay_frames > device->delay_frames;
}

/* Device frames that passed between the last pull's end and this one without us. Told by the device's position where
 * that goes on, else by time. What is less than half a period is noise. */
static double missed_frames(const struct device_clock *device, const struct pull_time *time)
{
    double by_time = (double)(time->cycle_ns - device->cycle_ns) / NS_PER_S * device->rate - device->frames;
    double by_position = (double)(time->position_frames - device->position) - device->frames;
    bool same = time->clock_id == device->clock_id && time->rate == device->rate;
    double missed = same && fabs(by_position - by_time) < 0.05 * device->rate ? by_position : by_time;
    return fabs(missed) >= 0.5 * device->frames ? missed : 0.0;
}

/* The first pull, or the first at this nominal rate. */
static void begin_clock(struct device_clock *device, const struct pull_time *time)
{
    double rate = device->known ? device->clock.rate : 1.0;
    bool coarse = time->flags & PULL_COARSE;
    clock_init(&device->clock, time->rate, coarse ? COARSE_DLL_HZ : DEVICE_DLL_HZ,
               coarse ? COARSE_SIGMA_S : DEVICE_SIGMA_S);
    clock_update(&device->clock, time->cycle_ns, time->position_frames, 0);
    device->clock.rate = rate;
}

static void follow_clock(struct device_clock *device, const struct pull_time *time, struct device_step *step)
{
    step->other_rate = device->known && time->rate != device->rate;
    step->other = step->other_rate || (device->known && time->clock_id != device->clock_id);
    if (asked_again(device, time)) {
        device->queued_frames = time->delay_frames - device->delay_frames;
        return;
    }
    if (device->known) {
        step->missed_s = missed_frames(device, time) / device->rate;
        step->elapsed_s = larger((double)device->frames / device->rate + step->missed_s, 0.0);
    }
    if (!device->known || step->other_rate)
        begin_clock(device, time);
    else if (step->other || step->missed_s != 0.0 || time->flags & PULL_DISCONTINUITY ||
             time->position_frames <= device->position)
        clock_anchor(&device->clock, time->cycle_ns, time->position_frames, 0,
                     step->other ? FRESH_ID_SIGMA : SAME_ID_SIGMA);
    else
        clock_update(&device->clock, time->cycle_ns, time->position_frames, 0);
    device->known = true;
    device->clock_id = time->clock_id;
    device->rate = time->rate;
    device->cycle_ns = time->cycle_ns;
    device->position = time->position_frames;
    device->delay_frames = time->delay_frames;
    device->queued_frames = 0;
    device->frames = 0;
}

static void follow_quantum(struct device_clock *device, uint32_t frames, struct device_step *step, bool forget)
{
    double before = device_clock_quantum_s(device);
    if (forget)
        device->quantum_max_s[0] = device->quantum_max_s[1] = 0.0;
    device->quantum_window_s += step->elapsed_s;
    if (device->quantum_window_s >= QUANTUM_KEEP_S) {
        device->quantum_max_s[1] = device->quantum_max_s[0];
        device->quantum_max_s[0] = 0.0;
        device->quantum_window_s = 0.0;
        device->asked_again = 0;
    }
    /* A device that often asks twice in a cycle needs so much in each; one that did it once has had a hiccup. */
    uint32_t needed = device->asked_again >= ASKED_OFTEN ? device->frames : frames;
    double quantum_s = (double)needed / device->rate;
    device->quantum_max_s[0] = larger(device->quantum_max_s[0], quantum_s);
    step->grown_s = before > 0.0 ? larger(quantum_s - before, 0.0) : 0.0;
}

struct device_step device_clock_follow(struct device_clock *device, uint32_t frames, const struct pull_time *time,
                                       bool forget)
{
    struct device_step step = {0};
    follow_clock(device, time, &step);
    if (device->queued_frames > 0)
        device->asked_again++;
    device->frames += frames;
    follow_quantum(device, frames, &step, forget);
    return step;
}

int64_t device_clock_now_ns(const struct device_clock *device)
{
    double queued_ns = (double)device->queued_frames * device->clock.nominal_ns;
    return device->clock.origin_ns + nearest(device->clock.x_ns + queued_ns);
}

double device_clock_quantum_s(const struct device_clock *device)
{
    return larger(device->quantum_max_s[0], device->quantum_max_s[1]);
}
