/* SPDX-License-Identifier: MIT */
#include "backends/pulse_timing.h"

#include <math.h>

#define NS_PER_S       INT64_C(1000000000)
#define QUARTER_MIN    32
#define QUARTER_MAX_NS (NS_PER_S / 4)
#define STEP_NS        (NS_PER_S / 2000)
#define DOUBT_S        0.3e-3
#define DOUBTS_MAX     3
#define LEAD_WINDOW_NS (10 * NS_PER_S)
#define LEAD_MARGIN    2000 /* parts of a second: 0.5 ms */
#define LEAD_LOWER     667  /* 1.5 ms: what is not worth the disturbance */

void pulse_buffer_choose(struct pulse_buffer *buffer, int64_t period_ns, uint32_t rate)
{
    int64_t quarter_ns = period_ns / 3;
    if (quarter_ns > QUARTER_MAX_NS)
        quarter_ns = QUARTER_MAX_NS;
    if (quarter_ns >= 2 * STEP_NS)
        quarter_ns -= quarter_ns % STEP_NS;
    uint32_t frames = (uint32_t)((quarter_ns * rate + NS_PER_S / 2) / NS_PER_S);
    if (frames < QUARTER_MIN)
        frames = QUARTER_MIN;
    *buffer = (struct pulse_buffer){.total = 4 * frames, .request = frames};
}

void pulse_clock_reset(struct pulse_clock *clock, uint32_t rate)
{
    *clock = (struct pulse_clock){.rate = rate};
}

static double line_at(const struct pulse_clock *clock, int64_t ns)
{
    return clock->frame + (double)(ns - clock->at_ns) * clock->rate / (double)NS_PER_S;
}

enum pulse_verdict pulse_clock_answer(struct pulse_clock *clock, int64_t at_ns, double frame)
{
    bool jumped = clock->at_ns == 0;
    if (!jumped) {
        const double off_s = (frame - line_at(clock, at_ns)) / clock->rate;
        if (fabs(off_s) > DOUBT_S) {
            if (clock->doubts == 0 || off_s > clock->least_late_s)
                clock->least_late_s = off_s;
            if (clock->doubts++ < DOUBTS_MAX)
                return PULSE_DOUBTED;
            frame = line_at(clock, at_ns) + clock->least_late_s * clock->rate;
            jumped = true;
        }
    }
    clock->at_ns = at_ns;
    clock->frame = frame;
    clock->doubts = 0;
    return jumped ? PULSE_JUMPED : PULSE_TAKEN;
}

int64_t pulse_clock_heard_ns(const struct pulse_clock *clock, int64_t frame)
{
    return clock->at_ns + llround(((double)frame - clock->frame) * (double)NS_PER_S / clock->rate);
}

int64_t pulse_clock_frame(const struct pulse_clock *clock, int64_t ns)
{
    return llround(line_at(clock, ns));
}

bool pulse_lead_follow(struct pulse_lead *lead, int64_t frames, uint32_t rate, int64_t now_ns)
{
    const int64_t before = lead->frames, margin = rate / LEAD_MARGIN;
    if (now_ns - lead->window_ns >= LEAD_WINDOW_NS) {
        if (lead->window_ns != 0 && lead->seen[1] != 0) {
            const int64_t most = lead->seen[0] > lead->seen[1] ? lead->seen[0] : lead->seen[1];
            if (lead->frames > most + margin + rate / LEAD_LOWER)
                lead->frames = most + margin;
        }
        lead->seen[1] = lead->seen[0];
        lead->seen[0] = 0;
        lead->window_ns = now_ns;
    }
    if (frames > lead->seen[0])
        lead->seen[0] = frames;
    if (frames > lead->frames)
        lead->frames = frames + margin;
    return lead->frames != before;
}
