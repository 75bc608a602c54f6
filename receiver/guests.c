/* SPDX-License-Identifier: MIT */
#include "receiver/guests.h"

#include "receiver/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POLL_NS  INT64_C(5000000)     /* while a stream fades */
#define RETRY_NS INT64_C(10000000000) /* there was no memory */

struct guest {
    unsigned source;
    uint64_t sender;
    struct config *config; /* NULL: nobody plays it */
    struct output *output;
    struct stream *stream; /* NULL: it cannot be played, or shall not */
    struct feed *feed;     /* without a stream: [src] writes it until it is told to forget it */
    pid_t thread;          /* that real time has been asked for */
    bool leaving, forgotten;
    int64_t leave_by_ns;
};

/* What a plan's configuration plays through, connected before its guest is heard. */
struct connected {
    struct config *config;
    struct output *output;
};

struct guests {
    struct outputs *outputs;
    struct sources *sources;
    struct realtime *realtime;
    const struct log *log;
    const struct plan *plan;
    struct connected connected[CONFIGS_MAX];
    unsigned connected_count;
    struct guest guests[SOURCE_THREAD_FEEDS_MAX];
    unsigned count;
};

int guests_create(struct guests **guests, struct outputs *outputs, struct sources *sources, struct realtime *realtime,
                  const struct log *log)
{
    struct guests *g = calloc(1, sizeof(*g));
    if (!g)
        return -ENOMEM;
    *g = (struct guests){.outputs = outputs, .sources = sources, .realtime = realtime, .log = log};
    *guests = g;
    return 0;
}

static void disconnect(struct guests *g, struct connected *connected)
{
    outputs_give_back(g->outputs, connected->output);
    config_unref(connected->config);
}

static void remove_guest(struct guests *g, struct guest *guest)
{
    stream_destroy(guest->stream);
    feed_destroy(guest->feed);
    if (guest->output)
        outputs_give_back(g->outputs, guest->output);
    config_unref(guest->config);
    *guest = g->guests[--g->count];
}

void guests_destroy(struct guests *guests)
{
    if (!guests)
        return;
    while (guests->count)
        remove_guest(guests, &guests->guests[guests->count - 1]);
    for (unsigned i = 0; i < guests->connected_count; i++)
        disconnect(guests, &guests->connected[i]);
    free(guests);
}

static struct guest *find_guest(struct guests *g, unsigned source, uint64_t sender)
{
    for (unsigned i = 0; i < g->count; i++) {
        if (g->guests[i].source == source && g->guests[i].sender == sender)
            return &g->guests[i];
    }
    return NULL;
}

static struct config *player_of(const struct guests *g, unsigned source, uint64_t sender)
{
    struct source_view view;
    if (!sources_get(g->sources, source, &view) || view.plan < 0)
        return NULL;
    return plan_find_player(g->plan, (unsigned)view.plan, sender);
}

int guests_apply(struct guests *guests, const struct plan *plan, int64_t now_ns, int64_t fade_ns)
{
    struct connected before[CONFIGS_MAX];
    unsigned before_count = guests->connected_count;
    int r = 0;
    memcpy(before, guests->connected, sizeof(before));
    guests->plan = plan;
    guests->connected_count = 0;
    /* First the new ones, so that an output which both name stays. */
    for (unsigned i = 0; guests->outputs && i < plan->player_count; i++) {
        struct connected *connected = &guests->connected[guests->connected_count];
        int taken = outputs_take(guests->outputs, plan->players[i].config, &connected->output);
        if (taken < 0) {
            r = taken;
            continue;
        }
        connected->config = config_ref(plan->players[i].config);
        guests->connected_count++;
    }
    for (unsigned i = 0; i < before_count; i++)
        disconnect(guests, &before[i]);

    for (unsigned i = 0; i < guests->count; i++) {
        struct guest *guest = &guests->guests[i];
        if (guest->leaving || player_of(guests, guest->source, guest->sender) == guest->config)
            continue;
        guest->leaving = true;
        guest->leave_by_ns = now_ns + fade_ns;
        if (guest->stream)
            stream_fade(guest->stream);
    }
    return r;
}

static bool name_taken(const struct guests *g, const char *name)
{
    for (unsigned i = 0; i < g->count; i++) {
        if (g->guests[i].stream && !strcmp(stream_name(g->guests[i].stream), name))
            return true;
    }
    return false;
}

/* What the configuration is called belongs to the first sender that it names, or else to the first that is heard. */
static void choose_name(const struct guests *g, const struct config *config, const struct sender *sender,
                        char name[STREAM_NAME_MAX])
{
    const struct options *options = &config->options;
    const char *own = config_stream_name(config);
    bool first = options->from_count == 0 || options->from[0] == sender->id;
    snprintf(name, STREAM_NAME_MAX, "%s", own ? own : sender->label);
    if (!first || name_taken(g, name))
        snprintf(name, STREAM_NAME_MAX, "%.70s (%.47s)", own ? own : sender->label, sender->label);
}

static int make_stream(struct guests *g, struct guest *guest, const struct sender *sender)
{
    struct source_view view;
    if (!g->outputs || !sources_get(g->sources, guest->source, &view))
        return -ENODEV;
    int r = outputs_take(g->outputs, guest->config, &guest->output);
    if (r < 0)
        return r;
    const struct options *options = &guest->config->options;
    char name[STREAM_NAME_MAX];
    choose_name(g, guest->config, sender, name);
    struct stream_params params = {
        .name = name,
        .label = *guest->config->name ? name : sender->label,
        .address = view.kind == SOURCE_SHM ? view.where : sender->label,
        .kind = view.kind,
        .target = options->target,
        .connect = options->connect,
        .no_connect = options->no_connect,
        .latency_above_chunk = options->latency_above_chunk,
        .playout = {.quality = options->quality,
                    .latency_ns = options->latency_ns,
                    .max_latency_ns = options->max_latency_ns},
    };
    return stream_create(&guest->stream, &params, guest->output, g->log);
}

static struct guest *new_guest(struct guests *g, const struct source_event *event, int64_t now_ns)
{
    struct guest *guest = &g->guests[g->count];
    struct config *config = player_of(g, event->source, event->sender.id);
    *guest = (struct guest){.source = event->source, .sender = event->sender.id};
    int r = 0;
    if (config) {
        guest->config = config_ref(config);
        r = make_stream(g, guest, &event->sender);
    }
    if (r < 0) {
        guest->stream = NULL;
        guest->leave_by_ns = now_ns + RETRY_NS;
        log_line(g->log, LOG_LEVEL_ERROR, "%s: cannot be played: %s. Trying again.", event->sender.label,
                 strerror(-r));
    }
    /* Without a configuration: claimed by nobody since the last plan, and the source does not know yet. */
    guest->leaving = !guest->stream;
    g->count++;
    return guest;
}

static void feed_new(struct guests *g, const struct source_event *event, int64_t now_ns)
{
    struct guest *guest = find_guest(g, event->source, event->sender.id);
    if (!guest)
        guest = new_guest(g, event, now_ns); /* [src] has no more feeds than there is room for here */
    if (guest->stream) {
        stream_set_feed(guest->stream, event->feed, event->chunk_ns, now_ns);
        return;
    }
    feed_destroy(guest->feed);
    guest->feed = event->feed;
}

static void feed_gone(struct guests *g, const struct source_event *event)
{
    struct guest *guest = find_guest(g, event->source, event->sender.id);
    if (!guest)
        return;
    if (!guest->leaving)
        log_line(g->log, LOG_LEVEL_INFO, "%s: gone.", event->sender.label);
    remove_guest(g, guest);
}

void guests_event(struct guests *guests, const struct source_event *event, int64_t now_ns)
{
    struct guest *guest;
    switch (event->type) {
    case SOURCE_EVENT_FEED_NEW:
        feed_new(guests, event, now_ns);
        break;
    case SOURCE_EVENT_FEED_IDLE:
    case SOURCE_EVENT_FEED_ACTIVE:
        guest = find_guest(guests, event->source, event->sender.id);
        if (guest && guest->stream && stream_has_feed(guest->stream, event->feed))
            stream_set_idle(guest->stream, event->type == SOURCE_EVENT_FEED_IDLE, now_ns);
        break;
    case SOURCE_EVENT_FEED_GONE:
        feed_gone(guests, event);
        break;
    case SOURCE_EVENT_FULL:
        log_line(guests->log, LOG_LEVEL_WARNING,
                 "%s: not played, there are %d senders already that nobody asked for. --from says whom to play.",
                 event->sender.label, SOURCE_THREAD_STRANGERS_MAX);
        break;
    default:
        break;
    }
}

static void drop(void *arg, struct output *output)
{
    struct guests *g = arg;
    for (unsigned i = 0; i < g->count; i++) {
        if (g->guests[i].stream && g->guests[i].output == output)
            stream_drop(g->guests[i].stream);
    }
}

/* Gone once it is silent, or when its time is up. */
static int64_t run_leaving(struct guests *g, struct guest *guest, int64_t now_ns)
{
    if (guest->forgotten)
        return INT64_MAX;
    if (now_ns < guest->leave_by_ns && !(guest->stream && stream_silent(guest->stream)))
        return now_ns + POLL_NS < guest->leave_by_ns ? now_ns + POLL_NS : guest->leave_by_ns;
    sources_forget(g->sources, guest->source, guest->sender);
    guest->forgotten = true;
    return INT64_MAX;
}

static void ask_realtime(struct guests *g, struct guest *guest)
{
    const pid_t thread = stream_thread(guest->stream);
    if (thread && thread != guest->thread)
        realtime_request(g->realtime, thread, REALTIME_DEVICE);
    guest->thread = thread;
}

int64_t guests_run(struct guests *guests, int64_t now_ns)
{
    int64_t wake_ns = guests->outputs ? outputs_run(guests->outputs, now_ns, drop, guests) : INT64_MAX;
    for (unsigned i = 0; i < guests->count; i++) {
        struct guest *guest = &guests->guests[i];
        int64_t next_ns = INT64_MAX;
        if (guest->leaving) {
            next_ns = run_leaving(guests, guest, now_ns);
        } else if (guest->stream) {
            next_ns = stream_run(guest->stream, now_ns);
            ask_realtime(guests, guest);
        }
        wake_ns = next_ns < wake_ns ? next_ns : wake_ns;
    }
    return wake_ns;
}

void guests_fade(struct guests *guests)
{
    for (unsigned i = 0; i < guests->count; i++) {
        if (guests->guests[i].stream)
            stream_fade(guests->guests[i].stream);
    }
}

bool guests_silent(const struct guests *guests)
{
    for (unsigned i = 0; i < guests->count; i++) {
        if (guests->guests[i].stream && !stream_silent(guests->guests[i].stream))
            return false;
    }
    return true;
}

unsigned guests_count(const struct guests *guests)
{
    unsigned count = 0;
    for (unsigned i = 0; i < guests->count; i++)
        count += guests->guests[i].stream && !guests->guests[i].leaving;
    return count;
}

static bool has_guest(const struct guests *g, const struct config *config)
{
    for (unsigned i = 0; i < g->count; i++) {
        if (g->guests[i].config == config && g->guests[i].stream)
            return true;
    }
    return false;
}

static void describe_waiting(const struct guests *g, const struct plan_player *player, struct stream_status *entry)
{
    struct source_view view = {.where = ""};
    sources_of_plan(g->sources, player->source, &view);
    const char *slash = view.kind == SOURCE_SHM ? strrchr(view.where, '/') : NULL;
    const char *name = config_stream_name(player->config);
    if (!name)
        name = slash && slash[1] ? slash + 1 : view.where;
    const struct backend *backend = NULL;
    for (unsigned i = 0; i < g->connected_count; i++) {
        if (g->connected[i].config == player->config)
            backend = output_backend(g->connected[i].output);
    }
    *entry = (struct stream_status){.kind = view.kind, .backend = backend ? backend->name : ""};
    if (view.counters)
        entry->counters = *view.counters;
    bool busy = view.status && view.status->state == SOURCE_PORT_BUSY;
    entry->state = busy ? STREAM_PORT_BUSY : STREAM_WAITING;
    text_copy(entry->name, sizeof(entry->name), name);
    text_copy(entry->address, sizeof(entry->address), view.where);
}

static struct guest *find_stream(struct guests *g, const char *name)
{
    for (unsigned i = 0; i < g->count; i++) {
        if (g->guests[i].stream && !g->guests[i].leaving && !strcmp(stream_name(g->guests[i].stream), name))
            return &g->guests[i];
    }
    return NULL;
}

static bool is_waited_for(const struct guests *g, const char *name)
{
    for (unsigned i = 0; g->plan && i < g->plan->player_count; i++) {
        struct stream_status entry;
        if (has_guest(g, g->plan->players[i].config))
            continue;
        describe_waiting(g, &g->plan->players[i], &entry);
        if (!strcmp(entry.name, name))
            return true;
    }
    return false;
}

int guests_tune(struct guests *guests, const char *name, const char *key, const char *value, int64_t now_ns,
                const char **file, char error[OPTABLE_ERROR_MAX])
{
    struct guest *guest = find_stream(guests, name);
    if (!guest && is_waited_for(guests, name)) {
        snprintf(error, OPTABLE_ERROR_MAX, "%.100s has not been heard yet: play something in the guest first", name);
        return -EAGAIN;
    }
    if (!guest) {
        snprintf(error, OPTABLE_ERROR_MAX, "no stream is called %.100s", name);
        return -ENOENT;
    }
    struct options options;
    options_init(&options);
    stream_get_latency(guest->stream, &options.latency_ns, &options.max_latency_ns);
    int r = options_tune(&options, key, value, error);
    if (r < 0)
        return r;
    stream_tune(guest->stream, options.latency_ns, options.max_latency_ns, now_ns);
    *file = guest->config->path;
    return 0;
}

unsigned guests_collect(const struct guests *guests, struct stream_status *streams, unsigned max)
{
    unsigned count = 0;
    for (unsigned i = 0; i < guests->count && count < max; i++) {
        const struct guest *guest = &guests->guests[i];
        struct source_view view;
        if (!guest->stream)
            continue;
        stream_get_status(guest->stream, &streams[count]);
        if (sources_get(guests->sources, guest->source, &view))
            streams[count].counters = *view.counters;
        count++;
    }
    for (unsigned i = 0; guests->plan && i < guests->plan->player_count && count < max; i++) {
        const struct plan_player *player = &guests->plan->players[i];
        if (!has_guest(guests, player->config))
            describe_waiting(guests, player, &streams[count++]);
    }
    return count;
}
