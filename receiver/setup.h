/* SPDX-License-Identifier: MIT
 *
 * `earshot setup`: says what this computer and a VM need so that the VM is heard, and does the user's part of it. It
 * writes below the home directory alone, calls nothing as root and edits no VM. [main]
 */
#ifndef EARSHOT_SETUP_H
#define EARSHOT_SETUP_H

#include "receiver/doctor_env.h"
#include "receiver/setup_options.h"

#include <stdio.h>

struct setup_params {
    const struct setup_options *options;
    const char *config_dir; /* where the configuration file goes: ~/.config/earshot; NULL: from the environment */
    const char *state_dir;  /* where setup remembers what it did: ~/.local/state/earshot; NULL likewise */
    FILE *out;
    const struct doctor_env *env; /* NULL: this computer */
};

/* Returns the exit status: 1 where something could not be done or was left alone. */
int setup_run(const struct setup_params *params);

#endif
