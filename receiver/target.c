/* SPDX-License-Identifier: MIT */
#include "receiver/target.h"

#include "receiver/arith.h"

#include <string.h>

#define NS_PER_MS       1e6
#define WINDOW_NS       30000000000
#define LOWER_AFTER_NS  60000000000
#define STALL_AGAIN_NS  60000000000
#define MARGIN_NS       (0.5 * NS_PER_MS)
#define STALL_MARGIN_NS (1.75 * NS_PER_MS)
#define USED_UP_NS      (0.1 * NS_PER_MS) /* so little margin left: raise */
#define LOWER_STEP_NS   (1.1 * NS_PER_MS)
#define AHEAD           0.5
#define STALL_NS        (10.0 * NS_PER_MS)
#define AHEAD_MAX_NS    (20.0 * NS_PER_MS)
#define OUTLIER         2.0

/* What was only assumed is replaced by what was seen, with a margin for what may not have been seen yet. */
static const struct lesson {
    int64_t after_ns;
    double margin_ns;
} lessons[TARGET_LESSONS] = {
    {3000000000,  1.25 * NS_PER_MS},
    {20000000000, 0.85 * NS_PER_MS},
    {60000000000, 0.85 * NS_PER_MS}
};

void target_init(struct target_hold *target, double initial_ns)
{
    *target = (struct target_hold){.hold_ns = initial_ns};
}

/* Far above the hold, or what goes beyond the guest's own chunk far above what usually does. */
static bool is_stall(const struct target_hold *target, double lateness_ns)
{
    double usual_ns = target->hold_ns - target->unit_ns;
    return lateness_ns > OUTLIER * target->hold_ns ||
           (target->unit_ns > 0.0 && lateness_ns - target->unit_ns > OUTLIER * usual_ns + STALL_NS);
}

static double seen_ns(const struct target_hold *target)
{
    double most_ns = 0.0;
    for (int i = 0; i < TARGET_WINDOWS; i++)
        most_ns = larger(most_ns, target->window_max_ns[i]);
    return most_ns;
}

static void accept(struct target_hold *target, int64_t now_ns, double lateness_ns)
{
    if (is_stall(target, lateness_ns)) {
        /* It may go on at another phase of its timer, which what was seen so far does not cover. */
        target->hold_ns = larger(target->hold_ns, seen_ns(target) + STALL_MARGIN_NS);
        double worst_ns = lateness_ns;
        lateness_ns = 0.0;
        if (target->stall_ns > 0.0 && now_ns - target->stall_at_ns <= STALL_AGAIN_NS)
            lateness_ns = larger(worst_ns, target->stall_ns);
        target->stall_ns = worst_ns;
        target->stall_at_ns = now_ns;
    }
    target->window_max_ns[0] = larger(target->window_max_ns[0], lateness_ns);
    if (lateness_ns > target->hold_ns - USED_UP_NS) /* what grows is met half-way ahead */
        target->hold_ns =
            lateness_ns + MARGIN_NS + AHEAD * smaller(larger(lateness_ns - target->hold_ns, 0.0), AHEAD_MAX_NS);
}

static void lower_when_quiet(struct target_hold *target, int64_t now_ns)
{
    const double most_ns = seen_ns(target);
    if (target->lessons < TARGET_LESSONS) {
        if (most_ns <= 0.0 || now_ns - target->since_ns < lessons[target->lessons].after_ns)
            return;
        target->hold_ns = most_ns + lessons[target->lessons].margin_ns;
        target->lessons++;
        target->below_since_ns = now_ns;
        if (target->lessons ==
            TARGET_LESSONS - 1) { /* seen from a line that was still moving: not for the last one */
            target->window_start_ns = now_ns;
            memset(target->window_max_ns, 0, sizeof target->window_max_ns);
        }
    }
    double enough_ns = most_ns + MARGIN_NS;
    if (enough_ns > target->hold_ns - LOWER_STEP_NS)
        target->below_since_ns = now_ns;
    else if (now_ns - target->below_since_ns >= LOWER_AFTER_NS)
        target->hold_ns = enough_ns;
}

void target_update(struct target_hold *target, int64_t now_ns, double lateness_ns, enum clock_verdict verdict)
{
    if (target->window_start_ns == 0 || now_ns - target->window_start_ns >= WINDOW_NS) {
        if (target->window_start_ns == 0)
            target->since_ns = now_ns;
        target->window_start_ns = now_ns;
        memmove(target->window_max_ns + 1, target->window_max_ns,
                sizeof target->window_max_ns - sizeof *target->window_max_ns);
        target->window_max_ns[0] = 0.0;
    }
    switch (verdict) {
    case CLOCK_REANCHORED: /* the line was wrong, not the arrivals */
        target->pending_ns = 0.0;
        break;
    case CLOCK_LATE:
        target->pending_ns = larger(target->pending_ns, lateness_ns);
        break;
    case CLOCK_EARLY:
    case CLOCK_TRACKED:
        accept(target, now_ns, larger(lateness_ns, target->pending_ns));
        target->pending_ns = 0.0;
        break;
    }
    lower_when_quiet(target, now_ns);
}
