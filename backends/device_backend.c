/* SPDX-License-Identifier: MIT */
#include "backends/device_backend.h"

#include <errno.h>
#include <stdlib.h>

struct backend_context {
    const struct device_ops *ops;
    int event_fd;
    uint32_t clock_id; /* of the last stream */
};

struct backend_stream {
    struct device_thread *thread;
};

/* Only opening it says whether there is something behind a name. Somebody else's device is a device. */
int device_backend_probe(const struct backend_context_params *params, const struct device_ops *ops)
{
    struct backend_stream_params stream = {
        .name = params->app_name,
        .target = params->target,
        .channels = 2,
        .mask = 3,
        .source_rate = 48000,
    };
    struct device_thread *thread;
    const struct device_thread_params device = {.ops = ops, .stream = &stream, .event_fd = -1};
    const int rc = device_thread_open(&thread, &device);
    if (rc == 0)
        device_thread_close(thread);
    return rc == 0 || rc == -EBUSY ? 0 : rc == -ENOMEM ? rc : -ENODEV;
}

int device_backend_context_open(struct backend_context **out, const struct backend_context_params *params,
                                const struct device_ops *ops)
{
    struct backend_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->ops = ops;
    context->event_fd = params->event_fd;
    *out = context;
    return 0;
}

enum backend_state device_backend_context_state(struct backend_context *context)
{
    (void)context;
    return BACKEND_OK;
}

void device_backend_context_close(struct backend_context *context)
{
    free(context);
}

int device_backend_open(struct backend_context *context, struct backend_stream_params *params,
                        struct backend_stream **out)
{
    struct backend_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    const struct device_thread_params device = {
        .ops = context->ops,
        .stream = params,
        .event_fd = context->event_fd,
        .clock_id = ++context->clock_id,
    };
    const int rc = device_thread_open(&stream->thread, &device);
    if (rc < 0) {
        free(stream);
        return rc;
    }
    *out = stream;
    return 0;
}

int device_backend_start(struct backend_stream *stream)
{
    return device_thread_start(stream->thread);
}

void device_backend_stop(struct backend_stream *stream)
{
    device_thread_stop(stream->thread);
}

enum backend_state device_backend_state(struct backend_stream *stream)
{
    return device_thread_state(stream->thread);
}

void device_backend_close(struct backend_stream *stream)
{
    if (!stream)
        return;
    device_thread_close(stream->thread);
    free(stream);
}

void device_backend_info(struct backend_stream *stream, struct backend_info *info)
{
    device_thread_info(stream->thread, info);
}
