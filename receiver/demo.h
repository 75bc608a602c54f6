/* SPDX-License-Identifier: MIT
 *
 * `earshot demo`: a simulated guest and a receiver in one. [main]
 */
#ifndef EARSHOT_DEMO_H
#define EARSHOT_DEMO_H

#include "receiver/log.h"
#include "receiver/options.h"

/* Plays options->seconds of a melody that a guest's double, a process of its own, writes into a ring in a private
 * file; where no sound server runs, records a few seconds to a WAV file in the current directory. Removes what it
 * made, but for that. 0: something was played or recorded; -errno, said in a line. Signals are blocked already. */
int demo_run(const struct options *options, const struct log *log);

#endif
