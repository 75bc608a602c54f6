/* SPDX-License-Identifier: MIT
 *
 * Laid around the program's own main(): the pull of the first backend that is looked up - by -o - runs between
 * rt_trap_enter() and rt_trap_leave(), in whichever thread calls it. The linker sends backend_find() here (--wrap).
 * At the end a line says how often that was. EARSHOT_RT_TRAP=malloc puts that call (rt_trap_name) into a pull.
 */
#include "backends/backend.h"
#include "tests/rt_trap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define FAULT_PULL 20 /* with sound in it: the one that the fault is put into */

typedef void pull_function(void *arg, float *dst, uint32_t frames, const struct pull_time *time);

static const struct backend *real;
static struct backend wrapped; /* `real`, but for open() */
static _Atomic(pull_function *) real_pull;
static _Atomic unsigned channels, pulls, sounding;
static const char *fault;

static void trapped_pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    pull_function *pull = atomic_load(&real_pull);
    rt_trap_enter();
    if (fault && atomic_load(&sounding) >= FAULT_PULL)
        rt_trap_call(fault);
    pull(arg, dst, frames, time);
    rt_trap_leave();
    bool sounds = false;
    for (uint32_t i = 0; i < frames * atomic_load(&channels) && !sounds; i++)
        sounds = dst[i] != 0.0f;
    atomic_fetch_add(&pulls, 1);
    atomic_fetch_add(&sounding, sounds ? 1 : 0);
}

static int trapped_open(struct backend_context *context, struct backend_stream_params *params,
                        struct backend_stream **stream)
{
    pull_function *pull = params->pull;
    atomic_store(&real_pull, pull); /* the same for all streams: they differ in `arg` */
    atomic_store(&channels, params->channels);
    params->pull = trapped_pull;
    const int rc = real->open(context, params, stream);
    params->pull = pull;
    return rc;
}

const struct backend *__real_backend_find(const char *name);
const struct backend *__wrap_backend_find(const char *name);

const struct backend *__wrap_backend_find(const char *name)
{
    const struct backend *found = __real_backend_find(name);
    if (!found || (real && found != real))
        return found;
    if (!real) {
        real = found;
        wrapped = *found;
        wrapped.open = trapped_open;
        fault = getenv("EARSHOT_RT_TRAP");
    }
    return &wrapped;
}

__attribute__((destructor)) static void report(void)
{
    fprintf(stderr, "rt_trap: %u pulls, %u with sound; %s\n", pulls, sounding,
            rt_trap_sees_system_calls() ? "no system call would have gone unseen"
                                        : "not every system call is seen here");
}
