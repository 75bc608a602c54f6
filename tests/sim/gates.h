/* SPDX-License-Identifier: MIT
 *
 * Which scenarios are simulated and what each must reach.
 */
#ifndef EARSHOT_SIM_GATES_H
#define EARSHOT_SIM_GATES_H

#include "tests/sim/sim.h"

#include <stddef.h>

#define GATES_MAX 16

/* One bound on one field of struct sim_result; judged on the worst seed. */
struct gate {
    const char *name; /* with its unit; NULL ends the list */
    size_t field;     /* offsetof in struct sim_result, a double */
    double min, max;
};

struct trial {
    char name[64];
    struct sim_scenario scenario;
    bool long_run; /* only with --long */
    bool thd;
    bool quick; /* in the short matrix that ctest runs */
    struct gate gates[GATES_MAX];
};

/* Fills `trials`; returns how many there are. seconds: length of the ordinary runs. */
size_t gates_list(struct trial *trials, size_t max, double seconds);

#endif
