/* SPDX-License-Identifier: MIT
 *
 * JACK, through one client per guest: to patch bays, and to what remembers connections for people, a client with its
 * ports is what a program is, so a guest that is to be named, patched and remembered by itself has to be one. A
 * context is but the thread that speaks with the server for all of them.
 *
 * Where the server hangs, so does the worker; it goes on as soon as the server does. A server that dies wakes it, too.
 */
#include "backends/jack_client.h"
#include "backends/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S         INT64_C(1000000000)
#define MS_NS            INT64_C(1000000)
#define STOP_POLL_NS     100000
#define STACK_BYTES      (512 * 1024)
#define PROBE_TIMEOUT_MS 1000
#define NAME_MAX_BYTES   48 /* as the server's own name grows longer, it takes less than it says */
#define SETTLE_NS        (50 * MS_NS)

/* ---- the worker ---- */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static struct timespec to_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* The next stream that something is to be done for: names have to be free before they are taken. NULL: none before
 * *wake_ns. Under the lock. */
static struct backend_stream *find_work(struct backend_context *context, int64_t *wake_ns)
{
    const int64_t here_ns = now_ns();
    *wake_ns = INT64_MAX;
    for (struct backend_stream *s = context->streams; s; s = s->next) {
        if (s->closing)
            return s;
    }
    for (struct backend_stream *s = context->streams; s; s = s->next) {
        const bool again = s->again_ns != 0 && here_ns >= s->again_ns;
        if (!s->opened || (s->error == 0 && (s->connect_due || s->tell_due || again)))
            return s;
        if (s->again_ns != 0 && s->again_ns < *wake_ns)
            *wake_ns = s->again_ns;
    }
    return NULL;
}

static void unlink_stream(struct backend_stream *s)
{
    struct backend_stream **link = &s->context->streams;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
}

/* Under the lock, which it lets go of meanwhile. */
static void work(struct backend_stream *s)
{
    struct backend_context *context = s->context;
    const bool open = !s->opened;
    const bool lost = atomic_load(&s->state) == BACKEND_LOST;
    const bool reconnect = (s->connect_due || s->again_ns != 0) && !lost, tell = s->tell_due && !lost;
    int error = 0;

    if (s->closing) {
        unlink_stream(s);
        pthread_mutex_unlock(&context->lock);
        jclient_free(s);
        pthread_mutex_lock(&context->lock);
        return;
    }
    /* What the server tells of is in effect a period or two later: then there is another look. */
    const int64_t periods_ns = 2 * NS_PER_S * atomic_load(&s->period) / (atomic_load(&s->rate) + 1);
    s->again_ns = s->connect_due ? now_ns() + SETTLE_NS + periods_ns : 0;
    s->connect_due = s->tell_due = false;
    pthread_mutex_unlock(&context->lock);
    if (open) {
        error = jclient_open(s);
        if (error == -EHOSTDOWN)
            jclient_set_state(context, &context->state, BACKEND_LOST);
    }
    if (reconnect)
        jclient_connect(s);
    if (tell)
        jack_recompute_total_latencies(s->client);
    pthread_mutex_lock(&context->lock);
    if (open) {
        s->opened = true;
        s->error = error;
    }
}

static void context_free(struct backend_context *context)
{
    if (context->event_fd >= 0)
        close(context->event_fd);
    pthread_cond_destroy(&context->changed);
    pthread_mutex_destroy(&context->lock);
    free(context->server);
    free(context);
}

static void *run_worker(void *arg)
{
    struct backend_context *context = arg;
    pthread_setname_np(pthread_self(), "earshot-jack");
    const int seen = jclient_look(context);

    pthread_mutex_lock(&context->lock);
    context->look = seen;
    pthread_cond_broadcast(&context->changed);
    while (context->streams || !context->ending) {
        int64_t wake_ns;
        struct backend_stream *s = find_work(context, &wake_ns);
        if (s) {
            work(s);
            context->stuck = false;
            pthread_cond_broadcast(&context->changed);
        } else if (wake_ns != INT64_MAX) {
            const struct timespec wake = to_timespec(wake_ns);
            pthread_cond_timedwait(&context->changed, &context->lock, &wake);
        } else {
            pthread_cond_wait(&context->changed, &context->lock);
        }
    }
    context->ended = true;
    const bool orphan = context->orphan;
    pthread_cond_broadcast(&context->changed);
    pthread_mutex_unlock(&context->lock);
    if (orphan)
        context_free(context);
    return NULL;
}

/* ---- the contract, [main] ---- */

static struct timespec deadline_after(int64_t ms)
{
    return to_timespec(now_ns() + ms * MS_NS);
}

/* Under the lock. False once the time is over. */
static bool wait_change(struct backend_context *context, const struct timespec *deadline)
{
    return pthread_cond_timedwait(&context->changed, &context->lock, deadline) == 0;
}

/* A worker that does not come back is left behind: it ends by itself when the server goes on or dies. */
static void leave(struct backend_context *context)
{
    const struct timespec deadline = deadline_after(BACKEND_TIMEOUT_MS);
    pthread_mutex_lock(&context->lock);
    context->ending = true;
    pthread_cond_broadcast(&context->changed);
    while (!context->ended && !context->stuck && wait_change(context, &deadline))
        ;
    const bool ended = context->ended;
    context->orphan = !ended;
    pthread_t worker = context->worker;
    pthread_mutex_unlock(&context->lock);
    if (ended) {
        pthread_join(worker, NULL);
        context_free(context);
    } else {
        pthread_detach(worker);
    }
}

static void context_close(struct backend_context *context)
{
    if (context)
        leave(context);
}

static int start_worker(struct backend_context *context)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return -rc;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    rc = pthread_create(&context->worker, &attr, run_worker, context);
    pthread_attr_destroy(&attr);
    return -rc;
}

static int context_create(struct backend_context **out, const struct backend_context_params *params)
{
    struct backend_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&context->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&context->lock, NULL);
    context->event_fd = -1;
    context->look = 1;

    int rc = -ENOMEM;
    if (params->server && !(context->server = strdup(params->server)))
        goto fail;
    /* One of our own: a worker that is left behind may outlive main's. */
    if (params->event_fd >= 0 && (context->event_fd = fcntl(params->event_fd, F_DUPFD_CLOEXEC, 0)) < 0) {
        rc = -errno;
        goto fail;
    }
    /* Every connection is another server, as far as anybody can tell, and its clock another one. */
    context->clock_id = (uint32_t)(now_ns() / MS_NS);
    rc = start_worker(context);
    if (rc < 0)
        goto fail;
    *out = context;
    return 0;

fail:
    context_free(context);
    return rc;
}

/* What the worker sees first. */
static int await_look(struct backend_context *context, int timeout_ms)
{
    const struct timespec deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&context->lock);
    while (context->look > 0 && wait_change(context, &deadline))
        ;
    context->stuck = context->look > 0;
    const int seen = context->stuck ? -EHOSTDOWN : context->look;
    pthread_mutex_unlock(&context->lock);
    return seen;
}

static int context_open(struct backend_context **out, const struct backend_context_params *params)
{
    struct backend_context *context;
    int rc = context_create(&context, params);
    if (rc < 0)
        return rc;
    rc = await_look(context, BACKEND_TIMEOUT_MS);
    if (rc == -EHOSTDOWN) {
        context_close(context);
        return rc;
    }
    *out = context;
    return 0;
}

static int jack_probe(const struct backend_context_params *params)
{
    struct backend_context *context;
    const struct backend_context_params quiet = {.server = params->server, .event_fd = -1};
    int rc = context_create(&context, &quiet);
    if (rc < 0)
        return rc;
    rc = await_look(context, PROBE_TIMEOUT_MS);
    context_close(context);
    return rc;
}

static enum backend_state context_state(struct backend_context *context)
{
    return (enum backend_state)atomic_load(&context->state);
}

static void stream_stop(struct backend_stream *s)
{
    /* The client stays active, and silent: to be deactivated is to lose one's connections. Pull takes no lock and
     * makes no system call, so what is waited for here is at most one pull that has already begun. */
    atomic_store(&s->open, false);
    while (atomic_load(&s->busy)) {
        const struct timespec poll = {.tv_nsec = STOP_POLL_NS};
        nanosleep(&poll, NULL);
    }
}

/* Nobody waits for it: the gate is closed, and the worker does what it is asked for in its order. */
static void stream_close(struct backend_stream *s)
{
    if (!s)
        return;
    stream_stop(s);
    jclient_ask(s, &s->closing);
}

static char *copy(const char *text, bool *failed)
{
    char *made = text ? strdup(text) : NULL;
    *failed = *failed || (text && !made);
    return made;
}

/* A name may not have a colon in it. */
static char *client_name(const char *name, bool *failed)
{
    char *made = copy(name, failed);
    if (!made)
        return NULL;
    const int told = jack_client_name_size() - 1;
    size_t longest = told > 0 && told < NAME_MAX_BYTES ? (size_t)told : NAME_MAX_BYTES;
    if (strlen(made) > longest) {
        while (longest > 0 && ((unsigned char)made[longest] & 0xC0u) == 0x80u) /* not within a character */
            longest--;
        made[longest] = '\0';
    }
    for (char *c = made; *c; c++) {
        if (*c == ':')
            *c = '-';
    }
    return made;
}

static struct backend_stream *stream_new(struct backend_context *context, const struct backend_stream_params *params)
{
    struct backend_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    bool failed = false;
    s->context = context;
    s->name = client_name(params->name, &failed);
    s->target = copy(params->target, &failed);
    s->connect = copy(params->connect, &failed);
    s->channels = params->channels;
    s->mask = params->mask;
    s->no_connect = params->no_connect;
    s->pull = params->pull;
    s->arg = params->arg;
    const size_t samples = (size_t)JCLIENT_PULL_FRAMES * params->channels;
    s->buffer = malloc(samples * sizeof *s->buffer);
    if (failed || !s->buffer) {
        jclient_free(s);
        return NULL;
    }
    memset(s->buffer, 0, samples * sizeof *s->buffer); /* page faults now, not in the callback */
    return s;
}

/* What it is asked for then would only queue up behind what it hangs in, once for each try. */
static bool is_stuck(struct backend_context *context)
{
    pthread_mutex_lock(&context->lock);
    const bool stuck = context->stuck;
    pthread_mutex_unlock(&context->lock);
    return stuck;
}

static int stream_open(struct backend_context *context, struct backend_stream_params *params,
                       struct backend_stream **out)
{
    if (params->channels == 0 || params->channels > BACKEND_CHANNELS_MAX ||
        __builtin_popcount(params->mask) != params->channels)
        return -EINVAL;
    if (context_state(context) != BACKEND_OK || is_stuck(context))
        return -EHOSTDOWN;
    struct backend_stream *s = stream_new(context, params);
    if (!s)
        return -ENOMEM;

    int rc = -EHOSTDOWN;
    const struct timespec deadline = deadline_after(BACKEND_TIMEOUT_MS);
    pthread_mutex_lock(&context->lock);
    s->next = context->streams;
    context->streams = s;
    pthread_cond_broadcast(&context->changed);
    while (!s->opened && wait_change(context, &deadline))
        ;
    if (s->opened)
        rc = s->error;
    else
        context->stuck = true;
    if (rc < 0) {
        s->closing = true;
        pthread_cond_broadcast(&context->changed);
    }
    pthread_mutex_unlock(&context->lock);
    if (rc < 0)
        return rc;
    params->period_ns = atomic_load(&s->period) * NS_PER_S / atomic_load(&s->rate);
    *out = s;
    return 0;
}

static int stream_start(struct backend_stream *s)
{
    if (context_state(s->context) != BACKEND_OK || atomic_load(&s->state) == BACKEND_LOST)
        return -EHOSTDOWN;
    atomic_store(&s->restarted, true);
    atomic_store(&s->open, true);
    return 0;
}

static enum backend_state stream_state(struct backend_stream *s)
{
    return (enum backend_state)atomic_load(&s->state);
}

static const char *stream_called(struct backend_stream *s)
{
    return s->called;
}

/* The server asks every client anew when one's latency changes: not for the sake of less than a millisecond. */
static void stream_tell_latency(struct backend_stream *s, int64_t latency_ns)
{
    const int64_t rate = atomic_load(&s->rate);
    const int64_t frames = latency_ns > 0 ? latency_ns * rate / NS_PER_S : 0;
    const int64_t apart = frames - (int64_t)atomic_load(&s->own_frames);
    if (apart < rate / 1000 && apart > -rate / 1000)
        return;
    atomic_store(&s->own_frames, (uint32_t)frames);
    jclient_ask(s, &s->tell_due);
}

const struct backend backend_jack = {
    .name = "jack",
    .title = "JACK",
    .target_help = "the name of a client with inputs",
    .for_auto = true,
    .probe = jack_probe,
    .context_open = context_open,
    .context_state = context_state,
    .context_close = context_close,
    .open = stream_open,
    .start = stream_start,
    .stop = stream_stop,
    .state = stream_state,
    .close = stream_close,
    .called = stream_called,
    .tell_latency = stream_tell_latency,
};
