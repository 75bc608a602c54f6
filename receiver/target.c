/* SPDX-License-Identifier: MIT */
#include "receiver/target.h"

#include <math.h>

#define NS_PER_MS      1e6
#define HALF_WINDOW_NS 30000000000
#define LOWER_AFTER_NS 60000000000
#define STALL_AGAIN_NS 60000000000
#define MARGIN_NS      (0.5 * NS_PER_MS)
#define LOWER_STEP_NS  (1.0 * NS_PER_MS)
#define OUTLIER        2.0

void target_init(struct target_hold *target, double initial_ns)
{
    *target = (struct target_hold){.hold_ns = initial_ns};
}

static void accept(struct target_hold *target, int64_t now_ns, double lateness_ns)
{
    if (lateness_ns > OUTLIER * target->hold_ns) {
        double worst_ns = lateness_ns;
        lateness_ns = 0.0;
        if (target->stall_ns > 0.0 && now_ns - target->stall_at_ns <= STALL_AGAIN_NS)
            lateness_ns = fmin(worst_ns, target->stall_ns);
        target->stall_ns = worst_ns;
        target->stall_at_ns = now_ns;
    }
    target->window_max_ns[0] = fmax(target->window_max_ns[0], lateness_ns);
    target->hold_ns = fmax(target->hold_ns, lateness_ns + MARGIN_NS);
}

static void lower_when_quiet(struct target_hold *target, int64_t now_ns)
{
    double enough_ns = fmax(target->window_max_ns[0], target->window_max_ns[1]) + MARGIN_NS;
    if (enough_ns > target->hold_ns - LOWER_STEP_NS)
        target->below_since_ns = now_ns;
    else if (now_ns - target->below_since_ns >= LOWER_AFTER_NS)
        target->hold_ns = enough_ns;
}

void target_update(struct target_hold *target, int64_t now_ns, double lateness_ns, enum clock_verdict verdict)
{
    if (target->window_start_ns == 0 || now_ns - target->window_start_ns >= HALF_WINDOW_NS) {
        if (target->window_start_ns == 0)
            target->below_since_ns = now_ns;
        target->window_start_ns = now_ns;
        target->window_max_ns[1] = target->window_max_ns[0];
        target->window_max_ns[0] = 0.0;
    }
    switch (verdict) {
    case CLOCK_REANCHORED: /* the line was wrong, not the arrivals */
        target->pending_ns = 0.0;
        break;
    case CLOCK_LATE:
        target->pending_ns = fmax(target->pending_ns, lateness_ns);
        break;
    case CLOCK_EARLY:
    case CLOCK_TRACKED:
        accept(target, now_ns, fmax(lateness_ns, target->pending_ns));
        target->pending_ns = 0.0;
        break;
    }
    lower_when_quiet(target, now_ns);
}
