/* SPDX-License-Identifier: MIT
 *
 * What setup tells people to do: as root, to the VM, in the guest. Everything stands in blocks that can be pasted
 * whole. [main]
 */
#ifndef EARSHOT_SETUP_GUIDE_H
#define EARSHOT_SETUP_GUIDE_H

#include "receiver/setup_host.h"
#include "receiver/setup_options.h"

#include <stdio.h>

struct setup_guide {
    FILE *out;
    struct setup_host *host;
    const struct setup_options *options;
    struct setup_memory memory; /* of SETUP_SHM */
    unsigned step;
};

/* The title of the next numbered step. */
void setup_guide_step(struct setup_guide *guide, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What was decided about the memory, where it is not just what was asked for. */
void setup_guide_memory(struct setup_guide *guide);

/* The steps; each prints nothing where nothing is to be done. */
void setup_guide_root(struct setup_guide *guide);
void setup_guide_vm(struct setup_guide *guide);
void setup_guide_windows(struct setup_guide *guide);

/* How to undo what they had people do. */
void setup_guide_undo(struct setup_guide *guide);

#endif
