/* SPDX-License-Identifier: MIT */
#include "receiver/outputs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct shared_output {
    struct shared_output *next;
    struct output *output;
    struct config *config; /* whose strings the output borrows */
    sd_event_source *io;
    struct outputs *outputs;
    unsigned users;
};

struct outputs {
    struct shared_output *first;
    sd_event *event;
    void (*changed)(void *arg);
    void *arg;
    const struct log *log;
};

int outputs_create(struct outputs **outputs, sd_event *event, void (*changed)(void *arg), void *arg,
                   const struct log *log)
{
    struct outputs *o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    *o = (struct outputs){.event = event, .changed = changed, .arg = arg, .log = log};
    *outputs = o;
    return 0;
}

static void free_output(struct shared_output *shared)
{
    sd_event_source_unref(shared->io);
    output_destroy(shared->output);
    config_unref(shared->config);
    free(shared);
}

void outputs_destroy(struct outputs *outputs)
{
    if (!outputs)
        return;
    for (struct shared_output *shared = outputs->first, *next; shared; shared = next) {
        next = shared->next;
        free_output(shared);
    }
    free(outputs);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

/* What no mixer stands behind is configured by its target, down to the device itself. */
static bool same_output(const struct options *a, const struct options *b)
{
    const struct backend *backend = strcmp(a->backend, "auto") ? backend_find(a->backend) : NULL;
    bool own_device = backend && !backend->for_auto;
    return !strcmp(a->backend, b->backend) && same_text(a->server, b->server) &&
           (!own_device || same_text(a->target, b->target));
}

static int on_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    (void)source;
    (void)fd;
    (void)revents;
    struct shared_output *shared = userdata;
    shared->outputs->changed(shared->outputs->arg);
    return 0;
}

int outputs_take(struct outputs *outputs, struct config *config, struct output **output)
{
    const struct options *options = &config->options;
    struct shared_output **end = &outputs->first;
    for (; *end; end = &(*end)->next) {
        if (!same_output(&(*end)->config->options, options))
            continue;
        (*end)->users++;
        *output = (*end)->output;
        return 0;
    }

    struct shared_output *shared = calloc(1, sizeof(*shared));
    if (!shared)
        return -ENOMEM;
    shared->outputs = outputs;
    shared->users = 1;
    shared->config = config_ref(config);
    struct output_params params = {.backend =
                                       strcmp(options->backend, "auto") ? backend_find(options->backend) : NULL,
                                   .auto_choices = backend_list(),
                                   .server = options->server,
                                   .target = options->target,
                                   .log = outputs->log};
    int r = output_create(&shared->output, &params);
    if (r == 0)
        r = sd_event_add_io(outputs->event, &shared->io, output_fd(shared->output), EPOLLIN, on_event, shared);
    if (r < 0) {
        free_output(shared);
        return r;
    }
    *end = shared;
    *output = shared->output;
    return 0;
}

void outputs_give_back(struct outputs *outputs, struct output *output)
{
    struct shared_output **at = &outputs->first;
    while (*at && (*at)->output != output)
        at = &(*at)->next;
    if (!*at || --(*at)->users > 0)
        return;
    struct shared_output *shared = *at;
    *at = shared->next;
    free_output(shared);
}

int64_t outputs_run(struct outputs *outputs, int64_t now_ns, void (*drop)(void *arg, struct output *output),
                    void *arg)
{
    int64_t wake_ns = INT64_MAX;
    for (struct shared_output *shared = outputs->first; shared; shared = shared->next) {
        if (output_check(shared->output)) {
            drop(arg, shared->output);
            output_drop(shared->output, now_ns);
        }
        int64_t next_ns = output_run(shared->output, now_ns);
        wake_ns = next_ns < wake_ns ? next_ns : wake_ns;
    }
    return wake_ns;
}

bool outputs_wait(const struct outputs *outputs)
{
    for (const struct shared_output *shared = outputs->first; shared; shared = shared->next) {
        if (!output_context(shared->output))
            return true;
    }
    return false;
}

void outputs_silence(struct outputs *outputs)
{
    for (struct shared_output *shared = outputs->first; shared; shared = shared->next)
        sd_event_source_set_enabled(shared->io, SD_EVENT_OFF);
}
