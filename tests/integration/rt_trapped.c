/* SPDX-License-Identifier: MIT
 *
 * The program, with each pull between rt_trap_enter() and rt_trap_leave(), in whichever thread calls it. At the end a
 * line says how often that was. EARSHOT_RT_TRAP=malloc puts that call (rt_trap_name) into a pull.
 */
#include "tests/integration/pull_wrap.h"
#include "tests/rt_trap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define FAULT_PULL 20 /* with sound in it: the one that the fault is put into */

static _Atomic unsigned pulls, sounding;
static const char *fault;

__attribute__((constructor)) static void prepare(void)
{
    fault = getenv("EARSHOT_RT_TRAP");
}

void pull_wrapped(pull_function *pull, void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    rt_trap_enter();
    if (fault && atomic_load(&sounding) >= FAULT_PULL)
        rt_trap_call(fault);
    pull(arg, dst, frames, time);
    rt_trap_leave();
    bool sounds = false;
    for (uint32_t i = 0; i < frames * pull_wrap_channels() && !sounds; i++)
        sounds = dst[i] != 0.0f;
    atomic_fetch_add(&pulls, 1);
    atomic_fetch_add(&sounding, sounds ? 1 : 0);
}

__attribute__((destructor)) static void report(void)
{
    fprintf(stderr, "rt_trap: %u pulls, %u with sound; %s\n", pulls, sounding,
            rt_trap_sees_system_calls() ? "no system call would have gone unseen"
                                        : "not every system call is seen here");
}
