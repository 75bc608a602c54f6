/* SPDX-License-Identifier: MIT */
#include "receiver/daemon.h"

#include "backends/raw.h"
#include "receiver/guests.h"
#include "receiver/realtime.h"
#include "receiver/status.h"
#include "receiver/text.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#define MS_NS        INT64_C(1000000)
#define SECOND_NS    INT64_C(1000000000)
#define FADE_NS      (200 * MS_NS)
#define FADE_POLL_NS (5 * MS_NS)
#define EVENTS_MAX   256 /* at a time */

struct daemon {
    const struct options *options;
    const struct log *log;
    const struct daemon_hooks *hooks;
    sd_event *event;
    sd_event_source *timer, *sources_io;
    struct raw_writer raw;
    struct realtime *realtime;
    bool realtime_asked;
    struct status_server *status;

    struct config_set configs;
    struct plan *plan;
    struct sources *sources;
    struct outputs *outputs; /* NULL with -o raw */
    struct guests *guests;

    int64_t tick_at_ns, end_at_ns;
    bool stopping;
    int64_t stop_by_ns;
    bool hinted;
    char notified[256];
    int result;
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static const int handled_signals[] = {SIGINT, SIGTERM, SIGHUP};

int daemon_block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof(handled_signals) / sizeof(*handled_signals); i++)
        sigaddset(&set, handled_signals[i]);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0)
        return -errno;
    return 0;
}

/* What systemctl status shows. */
static void notify(struct daemon *d)
{
    char text[sizeof(d->notified)];
    unsigned guests = guests_count(d->guests);
    const char *waiting = sources_waiting(d->sources);
    int length = snprintf(text, sizeof(text), "%u guest%s", guests, guests == 1 ? "" : "s");
    if (d->outputs && outputs_wait(d->outputs))
        snprintf(text, sizeof(text), "Waiting for a sound server");
    else if (!guests)
        snprintf(text, sizeof(text), "%s", waiting ? waiting : "Waiting for a guest");
    else if (waiting)
        snprintf(text + length, sizeof(text) - (size_t)length, "; %s", waiting);
    length = (int)strlen(text);
    if (d->configs.bad)
        snprintf(text + length, sizeof(text) - (size_t)length, "; %u bad configuration file%s", d->configs.bad,
                 d->configs.bad == 1 ? "" : "s");
    if (!strcmp(text, d->notified))
        return;
    memcpy(d->notified, text, sizeof(text));
    sd_notifyf(0, "STATUS=%s", text);
}

static void handle_event(struct daemon *d, const struct source_event *event, int64_t now_ns)
{
    if (event->type != SOURCE_EVENT_SINK_CLOSED) {
        guests_event(d->guests, event, now_ns);
        return;
    }
    if (event->error != -EPIPE) {
        log_line(d->log, LOG_LEVEL_ERROR, "Standard output: %s.", strerror(-event->error));
        d->result = event->error;
    }
    daemon_stop(d);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t run_stopping(struct daemon *d, int64_t now_ns)
{
    if (guests_silent(d->guests) || now_ns >= d->stop_by_ns)
        sd_event_exit(d->event, 0);
    return now_ns + FADE_POLL_NS;
}

static void hint(struct daemon *d)
{
    if (d->hinted || !sources_told(d->sources))
        return;
    d->hinted = true;
    if (d->outputs && !d->log->journal)
        log_line(d->log, LOG_LEVEL_INFO, "No sound? earshot doctor");
}

/* Whatever happened, look at everything: there is little of it, and it happens seldom. */
static void run(struct daemon *d)
{
    struct source_event event;
    unsigned events = 0;
    while (!d->stopping && events < EVENTS_MAX && sources_next_event(d->sources, &event) == 1) {
        handle_event(d, &event, clock_ns());
        events++;
    }

    int64_t now_ns = clock_ns(), wake_ns;
    if (d->stopping) {
        wake_ns = run_stopping(d, now_ns);
    } else {
        wake_ns = earlier(sources_run(d->sources, now_ns), guests_run(d->guests, now_ns));
        if (events == EVENTS_MAX)
            wake_ns = now_ns;
        notify(d);
        hint(d);
    }
    if (d->hooks && d->hooks->tick && now_ns >= d->tick_at_ns) {
        d->hooks->tick(d->hooks->arg, d);
        d->tick_at_ns = now_ns + d->hooks->tick_ns;
    }
    if (now_ns >= d->end_at_ns)
        daemon_stop(d);
    wake_ns = earlier(earlier(wake_ns, d->tick_at_ns), d->stopping ? now_ns + FADE_POLL_NS : d->end_at_ns);

    sd_event_source_set_enabled(d->timer, wake_ns == INT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
    if (wake_ns != INT64_MAX)
        sd_event_source_set_time(d->timer, (uint64_t)wake_ns / 1000 + 1);
}

/* The plan that the configurations make, in place of the one before. The set is this function's from here on. */
static int apply(struct daemon *d, struct config_set *configs, int64_t fade_ns)
{
    struct plan *plan = malloc(sizeof(*plan));
    if (!plan) {
        config_set_free(configs);
        return -ENOMEM;
    }
    plan_make(plan, configs, d->log);
    int64_t now_ns = clock_ns();
    int r = sources_apply(d->sources, plan, now_ns, fade_ns), guests = guests_apply(d->guests, plan, now_ns, fade_ns);
    if (d->plan)
        plan_free(d->plan);
    free(d->plan);
    d->plan = plan;
    config_set_free(&d->configs);
    d->configs = *configs;
    return r < 0 ? r : guests;
}

static void reload(struct daemon *d)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, (uint64_t)clock_ns() / 1000);
    struct config_set configs;
    int r = config_load(&configs, d->options, &d->configs, d->log);
    unsigned bad = configs.bad;
    if (r == 0)
        r = apply(d, &configs, FADE_NS);
    if (r < 0)
        log_line(d->log, LOG_LEVEL_ERROR, "Cannot do what the configuration says: %s.", strerror(-r));
    else
        log_line(d->log, LOG_LEVEL_INFO, "The configuration was read again%s.", bad ? ", as far as it is good" : "");
    sd_notify(0, "READY=1");
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source;
    (void)usec;
    run(userdata);
    return 0;
}

static int on_source_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    (void)source;
    (void)fd;
    (void)revents;
    struct daemon *d = userdata;
    if (!d->realtime_asked && sources_tid(d->sources)) {
        d->realtime_asked = true;
        realtime_request(d->realtime, sources_tid(d->sources), REALTIME_SOURCE);
    }
    run(d);
    return 0;
}

static void on_output_event(void *arg)
{
    run(arg);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)source;
    struct daemon *d = userdata;
    if (info->ssi_signo == SIGHUP) {
        if (!d->stopping)
            reload(d);
        run(d);
        return 0;
    }
    if (d->stopping)
        sd_event_exit(d->event, 0);
    daemon_stop(d);
    run(d);
    return 0;
}

void daemon_stop(struct daemon *daemon)
{
    if (daemon->stopping)
        return;
    daemon->stopping = true;
    daemon->stop_by_ns = clock_ns() + FADE_NS;
    sd_notify(0, "STOPPING=1");
    /* Nobody reads these any more. */
    sd_event_source_set_enabled(daemon->sources_io, SD_EVENT_OFF);
    if (daemon->outputs)
        outputs_silence(daemon->outputs);
    guests_fade(daemon->guests);
}

unsigned daemon_collect(const struct daemon *daemon, struct stream_status *streams, unsigned max)
{
    return guests_collect(daemon->guests, streams, max);
}

static unsigned collect(void *arg, struct stream_status *streams, unsigned max)
{
    return daemon_collect(arg, streams, max);
}

static int tune(void *arg, const char *name, const char *key, const char *value, const char **file,
                char error[OPTABLE_ERROR_MAX])
{
    struct daemon *d = arg;
    int r = guests_tune(d->guests, name, key, value, clock_ns(), file, error);
    if (r == 0) {
        char shown[STREAM_NAME_MAX];
        log_line(d->log, LOG_LEVEL_INFO, "%s: %s = %s, until earshot is started again.",
                 text_copy(shown, sizeof(shown), name), key, value);
        run(d); /* a device that is to be opened anew for it has begun to fade */
    }
    return r;
}

/* [src] A reader that is slow loses sound; only one that has left ends the program. */
static int write_raw(void *arg, const struct block *block)
{
    uint32_t frame_bytes = pcm_frame_bytes(&block->format);
    int r = raw_write(arg, block->sender.id, block->data, (size_t)block->frames * frame_bytes, frame_bytes);
    return r == -ETIMEDOUT ? 0 : r;
}

static int set_up(struct daemon *d)
{
    const struct options *options = d->options;
    int r = sd_event_default(&d->event);
    if (r >= 0)
        r = realtime_create(&d->realtime, d->event, d->log);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < sizeof(handled_signals) / sizeof(*handled_signals); i++) {
        r = sd_event_add_signal(d->event, NULL, handled_signals[i], on_signal, d);
        if (r < 0)
            return r;
    }
    r = sd_event_add_time(d->event, &d->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, d);
    if (r < 0)
        return r;

    raw_init(&d->raw, STDOUT_FILENO);
    struct source_sink sink = {.write = write_raw, .arg = &d->raw};
    bool raw = options->raw;
    /* Who runs this for a purpose knows what he listens to. */
    struct sources_params params = {.sink = raw ? &sink : NULL, .quiet = d->hooks != NULL, .log = d->log};
    r = sources_create(&d->sources, &params);
    if (r == 0)
        r = sd_event_add_io(d->event, &d->sources_io, sources_fd(d->sources), EPOLLIN, on_source_event, d);
    if (r >= 0 && !raw)
        r = outputs_create(&d->outputs, d->event, on_output_event, d, d->log);
    if (r >= 0)
        r = guests_create(&d->guests, d->outputs, d->sources, d->realtime, d->log);
    if (r >= 0 && !raw)
        r = status_server_create(&d->status, d->event,
                                 &(struct status_handlers){.collect = collect, .tune = tune, .arg = d}, d->log);
    if (r < 0)
        return r;

    struct config_set configs;
    r = config_load(&configs, options, NULL, d->log);
    if (r == 0 && configs.count == 0 && options->config_count > 0) {
        d->result = -EINVAL; /* each has been reported */
        return sd_event_exit(d->event, 0);
    }
    if (r == 0)
        r = apply(d, &configs, 0);
    if (r == 0)
        r = sources_start(d->sources);
    if (r < 0)
        return r;
    sources_run(d->sources, clock_ns());
    sd_event_set_watchdog(d->event, true);
    sd_notify(0, "READY=1");
    return 0;
}

/* [src] ends first: whoever frees a feed after that frees it for good. */
static void tear_down(struct daemon *d)
{
    if (d->sources)
        sources_stop(d->sources);
    guests_destroy(d->guests);
    sources_destroy(d->sources);
    outputs_destroy(d->outputs);
    if (d->plan)
        plan_free(d->plan);
    free(d->plan);
    config_set_free(&d->configs);
    status_server_destroy(d->status);
    realtime_free(d->realtime);
    sd_event_source_unref(d->timer);
    sd_event_source_unref(d->sources_io);
    sd_event_unref(d->event);
}

int daemon_run(const struct options *options, const struct log *log, const struct daemon_hooks *hooks)
{
    struct daemon *d = calloc(1, sizeof(*d));
    if (!d) {
        log_line(log, LOG_LEVEL_ERROR, "Out of memory.");
        return -ENOMEM;
    }
    *d = (struct daemon){.options = options, .log = log, .hooks = hooks};
    d->tick_at_ns = hooks && hooks->tick ? clock_ns() : INT64_MAX;
    d->end_at_ns = hooks && hooks->run_ns ? clock_ns() + hooks->run_ns : INT64_MAX;

    int r = set_up(d);
    if (r == 0)
        r = sd_event_loop(d->event);
    if (r < 0)
        log_line(log, LOG_LEVEL_ERROR, "Cannot run: %s.", strerror(-r));
    if (r == 0)
        r = d->result;
    tear_down(d);
    free(d);
    return r;
}
