/* SPDX-License-Identifier: MIT
 *
 * `earshot doctor`: why there is no sound. Walks the way from the machine to the ear and says which of its links is
 * broken, and what mends it. It only looks: no receiver, guest or sound server notices. [main]
 */
#ifndef EARSHOT_DOCTOR_H
#define EARSHOT_DOCTOR_H

#include "receiver/doctor_env.h"
#include "receiver/options.h"

#include <stdbool.h>
#include <stdio.h>

struct doctor_params {
    const struct options *const *sources; /* what is to be played: the command line's, or one for each config */
    unsigned source_count;                /* at least 1 */
    bool verbose;                         /* print every check, not only what is broken or may be */
    FILE *out;
    FILE *progress;               /* a terminal to draw on while a check takes its time; or NULL */
    const struct doctor_env *env; /* NULL: this computer */
};

/* Prints what is wrong, first what is broken first on the way. Returns the exit status: 1 where something is broken. */
int doctor_run(const struct doctor_params *params);

#endif
