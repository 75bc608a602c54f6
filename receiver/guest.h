/* SPDX-License-Identifier: MIT
 *
 * `earshot guest`: the driver's double, for trying a host without a virtual machine, and for the tests.
 */
#ifndef EARSHOT_GUEST_H
#define EARSHOT_GUEST_H

/* [main] argv[0] is the command's name, options start at argv[1]. Plays until SIGINT or SIGTERM, the input's end or
 * --seconds; both signals are blocked meanwhile and as before afterwards. Returns the exit status: 0, 1 for a
 * failure, 2 for wrong options; said in one line on stderr. The calling thread is left with real-time priority, where
 * it may have it. */
int guest_run(int argc, char **argv);

#endif
