/* SPDX-License-Identifier: MIT */
#include "tests/integration/pull_wrap.h"

#include <stdatomic.h>

static const struct backend *real;
static struct backend wrapped; /* `real`, but for open() */
static _Atomic(pull_function *) real_pull;
static _Atomic unsigned channels;

static void pull_through(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    pull_wrapped(atomic_load(&real_pull), arg, dst, frames, time);
}

static int open_wrapped(struct backend_context *context, struct backend_stream_params *params,
                        struct backend_stream **stream)
{
    pull_function *pull = params->pull;
    atomic_store(&real_pull, pull); /* the same for all streams: they differ in `arg` */
    atomic_store(&channels, params->channels);
    params->pull = pull_through;
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
        wrapped.open = open_wrapped;
    }
    return &wrapped;
}

unsigned pull_wrap_channels(void)
{
    return atomic_load(&channels);
}
