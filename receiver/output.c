/* SPDX-License-Identifier: MIT */
#include "receiver/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BACKOFF_MIN_NS INT64_C(100000000)
#define BACKOFF_MAX_NS INT64_C(1000000000)
#define LAST_RESORT_NS INT64_C(10000000000) /* a session's server may come this much later than we */
#define STABLE_NS      INT64_C(5000000000)  /* a connection that lasted this long starts the back-off anew */

struct output {
    struct output_params params;
    const struct backend *backend;
    struct backend_context *context;
    int event_fd;
    int64_t retry_ns; /* next attempt; 0: at once */
    int64_t alone_ns; /* of auto: since when no server with a mixer has been there; 0: one is */
    int64_t opened_ns;
    unsigned failures;
    int told_error; /* what the last line was about; 0: all is well */
    bool was_open;
};

int64_t output_backoff_ns(unsigned failures)
{
    int64_t ns = BACKOFF_MIN_NS;
    while (failures-- && ns < BACKOFF_MAX_NS)
        ns *= 2;
    return ns < BACKOFF_MAX_NS ? ns : BACKOFF_MAX_NS;
}

int output_create(struct output **output, const struct output_params *params)
{
    struct output *o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    o->params = *params;
    o->backend = params->backend;
    o->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (o->event_fd < 0) {
        int r = -errno;
        free(o);
        return r;
    }
    *output = o;
    return 0;
}

void output_destroy(struct output *output)
{
    if (!output)
        return;
    if (output->backend)
        output->backend->context_close(output->context);
    close(output->event_fd);
    free(output);
}

static struct backend_context_params context_params(const struct output *output)
{
    return (struct backend_context_params){.app_name = "Earshot",
                                           .server = output->params.server,
                                           .target = output->params.target,
                                           .event_fd = output->event_fd};
}

static void tell_failure(struct output *output, int error)
{
    if (output->told_error == error)
        return;
    output->told_error = error;
    const struct log *log = output->params.log;
    const char *title = output->backend ? output->backend->title : NULL;
    if (error == -EHOSTDOWN && title)
        log_line(log, LOG_LEVEL_WARNING, "%s is not running: waiting for it.", title);
    else if (error == -EHOSTDOWN)
        log_line(log, LOG_LEVEL_WARNING, "No sound server is running: waiting for one.");
    else if (error == -ENODEV)
        log_line(log, LOG_LEVEL_WARNING, "%s has no output device: waiting for one.",
                 title ? title : "The sound server");
    else
        log_line(log, LOG_LEVEL_WARNING, "%s: %s. Trying again.", title ? title : "Sound server", strerror(-error));
}

/* The first server that has a real sink; where none with a mixer has been there for a while, the first last resort. A
 * mixer without a sink is one that waits for it: taking the device from under it helps nobody. Once made, the choice
 * stays: another server would be another mixer. */
static int choose(struct output *output, int64_t now_ns)
{
    int r = -EHOSTDOWN;
    const struct backend *resort = NULL;
    struct backend_context_params params = context_params(output);
    bool mixer = false;
    if (output->alone_ns == 0)
        output->alone_ns = now_ns;
    for (const struct backend *const *b = output->params.auto_choices; *b; b++) {
        if (!(*b)->for_auto)
            continue;
        bool waits = (*b)->last_resort && now_ns - output->alone_ns < LAST_RESORT_NS;
        int probed = waits ? -EHOSTDOWN : (*b)->probe(&params);
        if (probed == 0 && (*b)->last_resort) {
            resort = resort ? resort : *b;
        } else if (probed == 0) {
            output->backend = *b;
            return 0;
        }
        if (probed == -ENODEV && !(*b)->last_resort)
            r = -ENODEV;
        mixer = mixer || (probed == -ENODEV && (*b)->has_mixer);
    }
    if (mixer)
        output->alone_ns = 0;
    if (!resort || mixer)
        return r;
    output->backend = resort;
    return 0;
}

/* One line when it plays, the first time with the reason why through this. */
static void tell_choice(const struct output *output)
{
    const struct log *log = output->params.log;
    const char *title = output->backend->title;
    if (output->was_open)
        log_line(log, LOG_LEVEL_INFO, "%s is back.", title);
    else if (output->params.backend)
        log_line(log, LOG_LEVEL_INFO, "Playing through %s.", title);
    else if (output->backend->last_resort)
        log_line(log, LOG_LEVEL_INFO, "Playing through %s: no sound server has appeared within %d s.", title,
                 (int)(LAST_RESORT_NS / 1000000000));
    else
        log_line(log, LOG_LEVEL_INFO, "Playing through %s: it is running and has an output device.", title);
}

int64_t output_run(struct output *output, int64_t now_ns)
{
    if (output->context)
        return INT64_MAX;
    if (now_ns < output->retry_ns)
        return output->retry_ns;

    int r = 0;
    if (!output->backend)
        r = choose(output, now_ns);
    if (r == 0) {
        struct backend_context_params params = context_params(output);
        r = output->backend->context_open(&output->context, &params);
        if (r < 0)
            output->context = NULL;
    }
    if (r < 0) {
        tell_failure(output, r);
        output->retry_ns = now_ns + output_backoff_ns(output->failures++);
        int64_t resort_ns = output->alone_ns + LAST_RESORT_NS;
        if (!output->backend && now_ns < resort_ns && output->retry_ns > resort_ns)
            output->retry_ns = resort_ns;
        return output->retry_ns;
    }

    tell_choice(output);
    output->was_open = true;
    output->told_error = 0;
    output->opened_ns = now_ns;
    return INT64_MAX;
}

int output_fd(const struct output *output)
{
    return output->event_fd;
}

bool output_check(struct output *output)
{
    uint64_t count;
    while (read(output->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    return output->context && output->backend->context_state(output->context) == BACKEND_LOST;
}

void output_drop(struct output *output, int64_t now_ns)
{
    if (!output->context)
        return;
    output->backend->context_close(output->context);
    output->context = NULL;
    if (now_ns - output->opened_ns >= STABLE_NS)
        output->failures = 0;
    output->retry_ns = now_ns + output_backoff_ns(output->failures++);
    output->told_error = -EHOSTDOWN;
    log_line(output->params.log, LOG_LEVEL_WARNING, "%s is gone: waiting for it.", output->backend->title);
}

struct backend_context *output_context(const struct output *output)
{
    return output->context;
}

const struct backend *output_backend(const struct output *output)
{
    return output->backend;
}
