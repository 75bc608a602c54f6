/* SPDX-License-Identifier: MIT
 *
 * Connecting to PulseAudio, and asking it whether it has anything to play to. [main]
 */
#include "backends/pulse.h"

#include <errno.h>
#include <string.h>

#define PROBE_TIMEOUT_USEC (1000 * PA_USEC_PER_MSEC)

int pulse_error(int error)
{
    switch (error) {
    case PA_OK:
        return 0;
    case PA_ERR_ACCESS:
    case PA_ERR_AUTHKEY:
        return -EACCES;
    case PA_ERR_NOENTITY:
        return -ENODEV;
    case PA_ERR_INVALID:
    case PA_ERR_INVALIDSERVER:
        return -EINVAL;
    case PA_ERR_BUSY:
        return -EBUSY;
    case PA_ERR_TOOLARGE:
        return -ENOSPC;
    default:
        return -EHOSTDOWN;
    }
}

pa_context *pulse_context_new(pa_mainloop_api *api, const struct backend_context_params *params)
{
    pa_proplist *proplist = pa_proplist_new();
    if (!proplist)
        return NULL;
    pa_proplist_sets(proplist, PA_PROP_APPLICATION_NAME, params->app_name);
    pa_context *context = pa_context_new_with_proplist(api, params->app_name, proplist);
    pa_proplist_free(proplist);
    return context;
}

int pulse_context_connect(pa_context *context, const struct backend_context_params *params)
{
    if (pa_context_connect(context, params->server, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
        return pulse_error(pa_context_errno(context));
    return 0;
}

struct probe {
    bool done, sink;
};

static void on_sink(pa_context *context, const pa_sink_info *info, int end, void *arg)
{
    struct probe *probe = arg;
    (void)context;
    if (end)
        probe->done = true;
    else if (strcmp(info->name, PULSE_DUMMY_SINK) != 0)
        probe->sink = true;
}

static void on_timeout(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    (void)api, (void)event, (void)when;
    *(bool *)arg = true;
}

/* Runs the loop in the caller's thread until the server has listed its sinks. */
static int look(pa_mainloop *loop, pa_context *context)
{
    struct probe probe = {0};
    bool late = false;
    int rc = -EHOSTDOWN;
    pa_operation *list = NULL;
    pa_time_event *limit = pa_context_rttime_new(context, pa_rtclock_now() + PROBE_TIMEOUT_USEC, on_timeout, &late);

    while (!late && !probe.done) {
        const pa_context_state_t state = pa_context_get_state(context);
        if (!PA_CONTEXT_IS_GOOD(state)) {
            rc = pulse_error(pa_context_errno(context));
            break;
        }
        if (state == PA_CONTEXT_READY && !list)
            list = pa_context_get_sink_info_list(context, on_sink, &probe);
        if (pa_mainloop_iterate(loop, 1, NULL) < 0)
            break;
    }
    if (list) {
        pa_operation_cancel(list);
        pa_operation_unref(list);
    }
    if (limit)
        pa_mainloop_get_api(loop)->time_free(limit);
    if (!probe.done)
        return rc;
    return probe.sink ? 0 : -ENODEV;
}

int pulse_probe(const struct backend_context_params *params)
{
    int rc = -ENOMEM;
    pa_context *context = NULL;
    pa_mainloop *loop = pa_mainloop_new();
    if (!loop)
        return rc;
    context = pulse_context_new(pa_mainloop_get_api(loop), params);
    if (context) {
        rc = pulse_context_connect(context, params);
        if (rc == 0)
            rc = look(loop, context);
        pa_context_disconnect(context);
        pa_context_unref(context);
    }
    pa_mainloop_free(loop);
    return rc;
}
