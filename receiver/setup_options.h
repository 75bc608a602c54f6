/* SPDX-License-Identifier: MIT
 *
 * What `earshot setup` was asked for, and the checks of its rows in the table of options.c. [main]
 */
#ifndef EARSHOT_SETUP_OPTIONS_H
#define EARSHOT_SETUP_OPTIONS_H

#include "receiver/optable.h"

#include <stdbool.h>

#define SETUP_NAME_MAX 64
#define SETUP_MIB_MAX  1024

enum setup_way { SETUP_NONE, SETUP_SHM, SETUP_BRIDGE, SETUP_UNICAST };

/* Strings point into argv. */
struct setup_options {
    const char *name; /* the VM's */
    enum setup_way way;
    bool several_ways;
    unsigned mib; /* of SETUP_SHM: a power of two from 1 to SETUP_MIB_MAX */
    const char *bridge;
    bool install, remove, dry_run, tmpfiles;
};

/* For the table: target is a struct options. */
int setup_set_shm(void *target, const char *value);
int setup_set_bridge(void *target, const char *value);
int setup_set_unicast(void *target, const char *value);
int setup_set_install(void *target, const char *value);
int setup_set_remove(void *target, const char *value);
int setup_set_dry_run(void *target, const char *value);
int setup_set_tmpfiles(void *target, const char *value);

/* What the options must be together. 0, or -EINVAL with a line in `error`. */
int setup_options_check(const struct setup_options *options, char error[OPTABLE_ERROR_MAX]);

#endif
