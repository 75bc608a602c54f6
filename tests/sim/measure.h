/* SPDX-License-Identifier: MIT
 *
 * What the gates are judged by, gathered while a simulation runs. The truth comes from the simulation, never from the
 * code under test's own opinion, but for its counters.
 */
#ifndef EARSHOT_SIM_MEASURE_H
#define EARSHOT_SIM_MEASURE_H

#include "tests/sim/sim.h"

struct measure;

struct measure_pull {
    double t_s;
    double produced; /* frames the guest has made by now, less those that were lost on the way */
    double ratio;    /* true source frames per device frame */
    double quantum_s;
    uint32_t frames, rate;
    bool guest_silent;
    const struct playout_trace *trace;
    const struct playout_stats *stats;
    const float *out;
};

struct measure *measure_new(const struct sim_scenario *scenario, const struct sim_options *options);

/* Frames became readable at t_s, when the guest was `behind` frames further than what was there before. */
void measure_arrival(struct measure *measure, double t_s, double behind);
void measure_event(struct measure *measure, const struct sim_event *event);
void measure_pull(struct measure *measure, const struct measure_pull *pull);

/* Frees it. */
void measure_finish(struct measure *measure, struct sim_result *result);

#endif
