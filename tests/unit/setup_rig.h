/* SPDX-License-Identifier: MIT
 *
 * Computers for `earshot setup`: the doctor's, without a VM that runs and without a firewall.
 */
#ifndef EARSHOT_TESTS_SETUP_RIG_H
#define EARSHOT_TESTS_SETUP_RIG_H

#include "tests/unit/doctor_rig.h"

/* The head of /proc/self/limits. */
#define LIMITS "Limit                     Soft Limit           Hard Limit           Units\n"

/* A desktop with libvirt, a systemd user manager that has the unit, and no firewall; no VM runs. rig_teardown() ends
 * it. */
int computer_setup(void **state);

/* "setup ...", as on the command line; leaves rig->text, status and calls. */
void computer_run(struct rig *rig, const char *line);

/* What it printed has this in it, or has not. */
void computer_says(const struct rig *rig, const char *part);
void computer_says_not(const struct rig *rig, const char *part);

#endif
