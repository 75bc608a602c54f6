/* SPDX-License-Identifier: MIT
 *
 * `earshot tune`: asks the processes that run to change a stream. [main]
 */
#ifndef EARSHOT_TUNE_H
#define EARSHOT_TUNE_H

/* settings: KEY=VALUE each, checked (options.h). Prints what came of it and how to keep it. Returns the exit status. */
int tune_client(const char *name, char *const *settings, unsigned count);

#endif
