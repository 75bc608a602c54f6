/* SPDX-License-Identifier: MIT
 *
 * The pull allocates nothing, takes no lock and makes no system call. Whoever links this has malloc, free, locks and the
 * rest of its own before the library's; between a pull's entry and its return they end the program, and so does, where
 * the kernel can tell (Linux 5.11, x86), any system call at all. Not beside sanitizers, which have wrappers of their own.
 */
#ifndef EARSHOT_RT_TRAP_H
#define EARSHOT_RT_TRAP_H

#include <stdbool.h>

#define RT_TRAP_STATUS 86 /* exit status of a program that was ended; a line on stderr says by what */

/* [rt] The calling thread is in a pull from here to there. A child that was forked enters for itself. */
void rt_trap_enter(void);
void rt_trap_leave(void);

/* [any] Whether the kernel tells of every system call, or only those are seen that rt_trap_name has. */
bool rt_trap_sees_system_calls(void);

/* [any] What is trapped, from 0 on, then NULL; the first is a system call that nobody wraps. */
const char *rt_trap_name(unsigned call);
#define RT_TRAP_SYSTEM_CALL "system call"

/* [any] Calls that one, to show that the traps work. False: there is no such name. */
bool rt_trap_call(const char *name);

#endif
