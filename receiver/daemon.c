/* SPDX-License-Identifier: MIT */
#include "receiver/daemon.h"

#include "backends/raw.h"
#include "receiver/output.h"
#include "receiver/realtime.h"
#include "receiver/source_report.h"
#include "receiver/source_thread.h"
#include "receiver/status.h"
#include "receiver/text.h"

#include <errno.h>
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
#define EVENTS_MAX   256              /* at a time */
#define LINE_MIN_NS  SECOND_NS        /* between two lines about one source ... */
#define LINE_MAX_NS  (60 * SECOND_NS) /* ... that keeps changing */

/* A source as main sees it. */
struct watched {
    enum source_kind kind;
    char where[STREAM_ADDRESS_MAX]; /* the file, or the group and port */
    char listening[STREAM_ADDRESS_MAX + 64];
    struct source_status status;
    bool known; /* a status has come */
    bool heard; /* a guest has played: from then on a ring without header is but a pause */
    struct source_status told;
    bool told_any;
    int64_t told_ns, line_gap_ns;
    struct source_report report;
};

struct guest {
    struct stream *stream;
    unsigned source;
    uint64_t sender;
};

struct daemon {
    const struct options *options;
    const struct log *log;
    const struct daemon_hooks *hooks;
    sd_event *event;
    sd_event_source *timer, *sources_io, *output_io;
    struct source_thread *sources;
    struct raw_writer raw;
    struct realtime *realtime;
    bool realtime_asked;
    struct output *output; /* NULL with -o raw */
    struct status_server *status;

    struct watched watched[SOURCE_THREAD_SOURCES_MAX];
    unsigned watched_count;
    struct guest guests[SOURCE_THREAD_FEEDS_MAX];
    unsigned guest_count;

    int64_t tick_at_ns, end_at_ns;
    bool stopping;
    int64_t stop_by_ns;
    struct feed *orphan; /* [src] writes it, but there is no memory to play it */
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
    char text[sizeof(d->notified)] = "Waiting for a guest";
    for (unsigned i = 0; i < d->watched_count; i++) {
        if (d->watched[i].known && d->watched[i].status.state != SOURCE_LISTENING && d->watched[i].status.detail[0])
            snprintf(text, sizeof(text), "%s", d->watched[i].status.detail);
    }
    if (d->guest_count)
        snprintf(text, sizeof(text), "%u guest%s", d->guest_count, d->guest_count == 1 ? "" : "s");
    if (d->output && !output_context(d->output))
        snprintf(text, sizeof(text), "Waiting for a sound server");
    if (!strcmp(text, d->notified))
        return;
    memcpy(d->notified, text, sizeof(text));
    sd_notifyf(0, "STATUS=%s", text);
}

/* One line when it changes; where it changes all the time, ever fewer. Returns when to look again. */
static int64_t tell_source(struct daemon *d, struct watched *w, int64_t now_ns)
{
    bool pause = w->heard && w->status.state == SOURCE_NO_RING;
    bool same = w->told_any && w->told.state == w->status.state && !strcmp(w->told.detail, w->status.detail);
    if (!w->known || pause || same)
        return INT64_MAX;
    if (w->told_any && now_ns < w->told_ns + w->line_gap_ns)
        return w->told_ns + w->line_gap_ns;

    bool calm = !w->told_any || now_ns - w->told_ns >= LINE_MAX_NS;
    w->line_gap_ns = calm ? LINE_MIN_NS : w->line_gap_ns * 2 < LINE_MAX_NS ? w->line_gap_ns * 2 : LINE_MAX_NS;
    w->told_ns = now_ns;
    w->told = w->status;
    w->told_any = true;
    if (w->status.state == SOURCE_LISTENING)
        log_line(d->log, LOG_LEVEL_INFO, "%s", w->listening);
    else
        log_line(d->log, w->status.state == SOURCE_NO_RING ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "%s",
                 w->status.detail);
    return INT64_MAX;
}

static struct guest *find_guest(struct daemon *d, unsigned source, uint64_t sender)
{
    for (unsigned i = 0; i < d->guest_count; i++) {
        if (d->guests[i].source == source && d->guests[i].sender == sender)
            return &d->guests[i];
    }
    return NULL;
}

static bool name_taken(const struct daemon *d, const char *name)
{
    for (unsigned i = 0; i < d->guest_count; i++) {
        if (!strcmp(stream_name(d->guests[i].stream), name))
            return true;
    }
    return false;
}

static struct guest *new_guest(struct daemon *d, const struct source_event *event)
{
    const struct options *options = d->options;
    const struct watched *w = &d->watched[event->source];
    if (d->guest_count == SOURCE_THREAD_FEEDS_MAX)
        return NULL;

    char name[STREAM_NAME_MAX];
    snprintf(name, sizeof(name), "%s", options->name ? options->name : event->sender.label);
    if (name_taken(d, name))
        snprintf(name, sizeof(name), "%.70s (%.47s)", options->name ? options->name : event->sender.label,
                 event->sender.label);

    struct stream_params params = {
        .name = name,
        .label = event->sender.label,
        .address = w->kind == SOURCE_SHM ? w->where : event->sender.label,
        .kind = w->kind,
        .target = options->target,
        .connect = options->connect,
        .no_connect = options->no_connect,
        .latency_above_chunk = options->latency_above_chunk,
        .playout = {.quality = options->quality,
                    .latency_ns = options->latency_ns,
                    .max_latency_ns = options->max_latency_ns},
    };
    struct guest *guest = &d->guests[d->guest_count];
    if (stream_create(&guest->stream, &params, d->output, d->log) < 0)
        return NULL;
    guest->source = event->source;
    guest->sender = event->sender.id;
    d->guest_count++;
    return guest;
}

static void feed_new(struct daemon *d, const struct source_event *event, int64_t now_ns)
{
    struct guest *guest = find_guest(d, event->source, event->sender.id);
    if (!guest)
        guest = new_guest(d, event);
    if (!guest) {
        d->orphan = event->feed;
        log_line(d->log, LOG_LEVEL_ERROR, "%s: out of memory.", event->sender.label);
        d->result = -ENOMEM;
        daemon_stop(d);
        return;
    }
    d->watched[event->source].heard = true;
    stream_set_feed(guest->stream, event->feed, event->chunk_ns, now_ns);
}

static void feed_gone(struct daemon *d, const struct source_event *event)
{
    struct guest *guest = find_guest(d, event->source, event->sender.id);
    if (!guest)
        return;
    log_line(d->log, LOG_LEVEL_INFO, "%s: gone.", event->sender.label);
    stream_destroy(guest->stream);
    *guest = d->guests[--d->guest_count];
}

static void handle_event(struct daemon *d, const struct source_event *event, int64_t now_ns)
{
    struct guest *guest;
    switch (event->type) {
    case SOURCE_EVENT_STATUS:
        d->watched[event->source].status = event->status;
        d->watched[event->source].known = true;
        break;
    case SOURCE_EVENT_COUNTERS:
        d->watched[event->source].report.counters = event->counters;
        break;
    case SOURCE_EVENT_FEED_NEW:
        feed_new(d, event, now_ns);
        break;
    case SOURCE_EVENT_FEED_IDLE:
    case SOURCE_EVENT_FEED_ACTIVE:
        guest = find_guest(d, event->source, event->sender.id);
        if (guest && stream_has_feed(guest->stream, event->feed))
            stream_set_idle(guest->stream, event->type == SOURCE_EVENT_FEED_IDLE, now_ns);
        break;
    case SOURCE_EVENT_FEED_GONE:
        feed_gone(d, event);
        break;
    case SOURCE_EVENT_FULL:
        log_line(d->log, LOG_LEVEL_WARNING, "%s: not played, there are %d senders already. --from chooses.",
                 event->sender.label, SOURCE_THREAD_FEEDS_MAX);
        break;
    case SOURCE_EVENT_SINK_CLOSED:
        if (event->error != -EPIPE) {
            log_line(d->log, LOG_LEVEL_ERROR, "Standard output: %s.", strerror(-event->error));
            d->result = event->error;
        }
        daemon_stop(d);
        break;
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t run_stopping(struct daemon *d, int64_t now_ns)
{
    bool silent = true;
    for (unsigned i = 0; i < d->guest_count; i++)
        silent = silent && stream_silent(d->guests[i].stream);
    if (silent || now_ns >= d->stop_by_ns)
        sd_event_exit(d->event, 0);
    return now_ns + FADE_POLL_NS;
}

static int64_t run_output(struct daemon *d, int64_t now_ns)
{
    if (!d->output)
        return INT64_MAX;
    if (output_check(d->output)) {
        for (unsigned i = 0; i < d->guest_count; i++)
            stream_drop(d->guests[i].stream);
        output_drop(d->output, now_ns);
    }
    return output_run(d->output, now_ns);
}

static void hint(struct daemon *d)
{
    if (d->hinted || !d->watched[0].told_any)
        return;
    d->hinted = true;
    if (d->output && !d->log->journal)
        log_line(d->log, LOG_LEVEL_INFO, "No sound? earshot doctor");
}

/* Whatever happened, look at everything: there is little of it, and it happens seldom. */
static void run(struct daemon *d)
{
    struct source_event event;
    unsigned events = 0;
    while (!d->stopping && events < EVENTS_MAX && source_thread_next_event(d->sources, &event) == 1) {
        handle_event(d, &event, clock_ns());
        events++;
    }

    int64_t now_ns = clock_ns(), wake_ns;
    if (d->stopping) {
        wake_ns = run_stopping(d, now_ns);
    } else {
        wake_ns = run_output(d, now_ns);
        if (events == EVENTS_MAX)
            wake_ns = now_ns;
        for (unsigned i = 0; i < d->guest_count; i++)
            wake_ns = earlier(wake_ns, stream_run(d->guests[i].stream, clock_ns()));
        /* Who runs this for a purpose knows what he listens to. */
        for (unsigned i = 0; i < d->watched_count && !d->hooks; i++) {
            struct watched *w = &d->watched[i];
            wake_ns = earlier(wake_ns, tell_source(d, w, now_ns));
            wake_ns = earlier(wake_ns, source_report_run(&w->report, w->where, d->log, now_ns));
        }
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
    if (!d->realtime_asked && source_thread_tid(d->sources)) {
        d->realtime_asked = true;
        realtime_request(&d->realtime, d->event, source_thread_tid(d->sources), d->log);
    }
    run(d);
    return 0;
}

static int on_output_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    (void)source;
    (void)fd;
    (void)revents;
    run(userdata);
    return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)source;
    struct daemon *d = userdata;
    if (info->ssi_signo == SIGHUP) {
        log_line(d->log, LOG_LEVEL_INFO, "SIGHUP: there is nothing to reload.");
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
    if (daemon->output_io)
        sd_event_source_set_enabled(daemon->output_io, SD_EVENT_OFF);
    for (unsigned i = 0; i < daemon->guest_count; i++)
        stream_fade(daemon->guests[i].stream);
}

/* A source that no guest has played on yet, or that cannot listen, is a line of its own. */
static bool is_entry(const struct daemon *d, unsigned source)
{
    if (d->watched[source].status.state == SOURCE_PORT_BUSY)
        return true;
    for (unsigned i = 0; i < d->guest_count; i++) {
        if (d->guests[i].source == source)
            return false;
    }
    return true;
}

unsigned daemon_collect(const struct daemon *daemon, struct stream_status *streams, unsigned max)
{
    unsigned count = 0;
    for (unsigned i = 0; i < daemon->guest_count && count < max; i++) {
        stream_get_status(daemon->guests[i].stream, &streams[count]);
        streams[count++].counters = daemon->watched[daemon->guests[i].source].report.counters;
    }
    for (unsigned i = 0; i < daemon->watched_count && count < max; i++) {
        const struct watched *w = &daemon->watched[i];
        if (!is_entry(daemon, i))
            continue;
        struct stream_status *entry = &streams[count++];
        const struct backend *backend = daemon->output ? output_backend(daemon->output) : NULL;
        const char *slash = w->kind == SOURCE_SHM ? strrchr(w->where, '/') : NULL;
        const char *name = daemon->options->name ? daemon->options->name : slash && slash[1] ? slash + 1 : w->where;
        *entry = (struct stream_status){
            .kind = w->kind, .backend = backend ? backend->name : "", .counters = w->report.counters};
        entry->state = w->status.state == SOURCE_PORT_BUSY ? STREAM_PORT_BUSY : STREAM_WAITING;
        text_copy(entry->name, sizeof(entry->name), name);
        text_copy(entry->address, sizeof(entry->address), w->where);
    }
    return count;
}

static unsigned collect(void *arg, struct stream_status *streams, unsigned max)
{
    return daemon_collect(arg, streams, max);
}

/* [src] A reader that is slow loses sound; only one that has left ends the program. */
static int write_raw(void *arg, const struct block *block)
{
    uint32_t frame_bytes = pcm_frame_bytes(&block->format);
    int r = raw_write(arg, block->sender.id, block->data, (size_t)block->frames * frame_bytes, frame_bytes);
    return r == -ETIMEDOUT ? 0 : r;
}

static int open_source(struct daemon *d)
{
    const struct options *options = d->options;
    struct watched *w = &d->watched[d->watched_count];
    struct source *source;
    int r;
    if (options->source == FROM_SHM) {
        r = source_shm_open(&source, options->shm_path);
        w->kind = SOURCE_SHM;
        text_copy(w->where, sizeof(w->where), options->shm_path);
        snprintf(w->listening, sizeof(w->listening), "Listening to %s.", options->shm_path);
    } else {
        bool multicast = options->source == FROM_MULTICAST;
        struct source_udp_params params = {.port = options->port,
                                           .group = multicast ? options->group : NULL,
                                           .interface = options->interface,
                                           .from = options->from_count ? options->from : NULL,
                                           .from_count = options->from_count};
        r = source_udp_open(&source, &params);
        w->kind = SOURCE_UDP;
        char where[64];
        snprintf(where, sizeof(where), "%s:%u", multicast ? options->group : "unicast", options->port);
        text_copy(w->where, sizeof(w->where), where);
        snprintf(w->listening, sizeof(w->listening), "Listening to %s%s on port %u%s%s.",
                 multicast ? "multicast " : "unicast", multicast ? options->group : "", options->port,
                 options->interface ? ", interface " : "", options->interface ? options->interface : "");
    }
    if (r < 0)
        return r;
    r = source_thread_add(d->sources, source);
    if (r >= 0)
        d->watched_count++;
    return r < 0 ? r : 0;
}

static int set_up(struct daemon *d)
{
    const struct options *options = d->options;
    int r = sd_event_default(&d->event);
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
    struct source_thread_params thread_params = {.sink = options->raw ? &sink : NULL};
    r = source_thread_create(&d->sources, &thread_params);
    if (r == 0)
        r = open_source(d);
    if (r == 0)
        r = sd_event_add_io(d->event, &d->sources_io, source_thread_fd(d->sources), EPOLLIN, on_source_event, d);
    if (r < 0)
        return r;

    if (!options->raw) {
        struct output_params params = {.backend =
                                           strcmp(options->backend, "auto") ? backend_find(options->backend) : NULL,
                                       .auto_choices = backend_list(),
                                       .server = options->server,
                                       .target = options->target,
                                       .log = d->log};
        r = output_create(&d->output, &params);
        if (r == 0)
            r = sd_event_add_io(d->event, &d->output_io, output_fd(d->output), EPOLLIN, on_output_event, d);
        if (r == 0)
            r = status_server_create(&d->status, d->event, collect, d, d->log);
        if (r < 0)
            return r;
    }
    r = source_thread_start(d->sources);
    if (r < 0)
        return r;
    sd_event_set_watchdog(d->event, true);
    sd_notify(0, "READY=1");
    return 0;
}

/* [src] ends first: whoever frees a feed after that frees it for good. */
static void tear_down(struct daemon *d)
{
    if (d->sources)
        source_thread_stop(d->sources);
    for (unsigned i = 0; i < d->guest_count; i++)
        stream_destroy(d->guests[i].stream);
    source_thread_destroy(d->sources);
    feed_destroy(d->orphan);
    output_destroy(d->output);
    status_server_destroy(d->status);
    realtime_free(d->realtime);
    sd_event_source_unref(d->timer);
    sd_event_source_unref(d->sources_io);
    sd_event_source_unref(d->output_io);
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
