/* SPDX-License-Identifier: MIT */
#include "receiver/sources.h"

#include "receiver/source_lock.h"
#include "receiver/source_report.h"
#include "receiver/stream.h"
#include "receiver/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS   INT64_C(1000000000)
#define RETRY_NS    SECOND_NS        /* somebody else plays it, or there is no memory */
#define LINE_MIN_NS SECOND_NS        /* between two lines about one source ... */
#define LINE_MAX_NS (60 * SECOND_NS) /* ... that keeps changing */

/* While sources go, those that come wait: twice as many may be known. */
#define ENTRIES_MAX (2 * PLAN_SOURCES_MAX)

struct entry {
    struct config *config; /* says where; NULL: free */
    enum source_kind kind;
    struct source_senders senders;
    char where[STREAM_ADDRESS_MAX]; /* the file, or the group and port */
    char listening[STREAM_ADDRESS_MAX + 64];
    int plan;       /* -1: leaves */
    int number;     /* source_thread's; -1: not open */
    int lock;       /* -1: none */
    int64_t due_ns; /* not open: when to try; leaves: when to take it out */
    bool removed;   /* source_thread knows */

    struct source_status status;
    bool known; /* a status has come */
    bool heard; /* a guest has played: from then on a ring without header is but a pause */
    struct source_status told;
    bool told_any;
    int64_t told_ns, line_gap_ns;
    struct source_report report;
};

struct sources {
    struct source_thread *thread;
    bool quiet, recorder;
    const struct log *log;
    struct entry entries[ENTRIES_MAX];
    unsigned count; /* entries from here on are free */
    int by_number[SOURCE_THREAD_SOURCES_MAX];
};

int sources_create(struct sources **sources, const struct sources_params *params)
{
    struct sources *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->quiet = params->quiet;
    s->recorder = params->sink != NULL;
    s->log = params->log;
    struct source_thread_params thread_params = {.sink = params->sink};
    int r = source_thread_create(&s->thread, &thread_params);
    if (r < 0) {
        free(s);
        return r;
    }
    *sources = s;
    return 0;
}

int sources_start(struct sources *sources)
{
    return source_thread_start(sources->thread);
}

void sources_stop(struct sources *sources)
{
    source_thread_stop(sources->thread);
}

static void free_entry(struct entry *entry)
{
    if (entry->lock >= 0 && entry->config)
        close(entry->lock);
    config_unref(entry->config);
    *entry = (struct entry){.number = -1, .lock = -1};
}

void sources_destroy(struct sources *sources)
{
    if (!sources)
        return;
    source_thread_destroy(sources->thread);
    for (unsigned i = 0; i < sources->count; i++)
        free_entry(&sources->entries[i]);
    free(sources);
}

static void describe(struct entry *entry, const struct options *options)
{
    if (entry->kind == SOURCE_SHM) {
        text_copy(entry->where, sizeof(entry->where), options->shm_path);
        snprintf(entry->listening, sizeof(entry->listening), "Listening to %s.", options->shm_path);
        return;
    }
    if (entry->kind == SOURCE_PCAP) {
        snprintf(entry->where, sizeof(entry->where), "%s:%u", options->interface, options->port);
        snprintf(entry->listening, sizeof(entry->listening), "Capturing packets to port %u on %s.", options->port,
                 options->interface);
        return;
    }
    bool multicast = options->source == FROM_MULTICAST;
    snprintf(entry->where, sizeof(entry->where), "%s:%u", multicast ? options->group : "unicast", options->port);
    snprintf(entry->listening, sizeof(entry->listening), "Listening to %s%s on port %u%s%s.",
             multicast ? "multicast " : "unicast", multicast ? options->group : "", options->port,
             options->interface ? ", interface " : "", options->interface ? options->interface : "");
}

static bool same_senders(const struct source_senders *a, const struct source_senders *b)
{
    return a->others == b->others && a->count == b->count && !memcmp(a->from, b->from, a->count * sizeof(*a->from));
}

static void add_entry(struct sources *s, const struct plan_source *source, int plan, int64_t now_ns)
{
    struct entry *entry = s->entries;
    while (entry < s->entries + ENTRIES_MAX && entry->config)
        entry++;
    if (entry == s->entries + ENTRIES_MAX) { /* reloaded faster than sources can go */
        log_line(s->log, LOG_LEVEL_ERROR, "Too many sources at once: reload again.");
        return;
    }
    if (entry == s->entries + s->count)
        s->count++;
    *entry = (struct entry){.config = config_ref(source->config),
                            .kind = source->kind,
                            .senders = source->senders,
                            .plan = plan,
                            .number = -1,
                            .lock = -1,
                            .due_ns = now_ns};
    describe(entry, &source->config->options);
}

int sources_apply(struct sources *sources, const struct plan *plan, int64_t now_ns, int64_t fade_ns)
{
    bool there[PLAN_SOURCES_MAX] = {false};
    int r = 0;
    for (unsigned i = 0; i < sources->count; i++) {
        struct entry *entry = &sources->entries[i];
        if (!entry->config || entry->removed)
            continue;
        bool left = entry->plan < 0;
        entry->plan = plan_find_source(plan, entry->config);
        if (entry->plan < 0 && entry->number < 0) {
            free_entry(entry);
        } else if (entry->plan < 0 && !left) {
            entry->due_ns = now_ns + fade_ns;
        } else if (entry->plan >= 0) {
            const struct source_senders *senders = &plan->sources[entry->plan].senders;
            there[entry->plan] = true;
            if (same_senders(&entry->senders, senders))
                continue;
            entry->senders = *senders;
            if (entry->number >= 0 &&
                source_thread_set_senders(sources->thread, (unsigned)entry->number, senders) < 0)
                r = -ENOMEM;
        }
    }
    for (unsigned i = 0; i < plan->source_count; i++) {
        if (!there[i])
            add_entry(sources, &plan->sources[i], (int)i, now_ns);
    }
    return r;
}

/* What [src] cannot say, as it does not have the source yet. */
static void set_status(struct entry *entry, enum source_state state, const char *text)
{
    entry->known = true;
    entry->status.state = state;
    text_copy(entry->status.detail, sizeof(entry->status.detail), text);
}

/* One player for a ring; who only records does not disturb another. */
static int take_lock(struct sources *s, struct entry *entry)
{
    const struct options *options = &entry->config->options;
    if (entry->kind != SOURCE_SHM || s->recorder || !strcmp(options->backend, "wav") || entry->lock >= 0)
        return 0;
    const char *name = config_stream_name(entry->config);
    char holder[96], text[160];
    int r = source_lock_take(options->shm_path, name ? name : "earshot", holder, sizeof(holder));
    if (r == -EBUSY) {
        snprintf(text, sizeof(text), "%.48s is played by %.80s", options->shm_path, holder);
        set_status(entry, SOURCE_TAKEN, text);
        return r;
    }
    if (r < 0)
        log_line(s->log, LOG_LEVEL_DEBUG, "%s: cannot be locked: %s.", entry->where, strerror(-r));
    entry->lock = r < 0 ? -1 : r;
    return 0;
}

/* -ENOSYS: not in this build, which the options do not let through. */
static int open_pcap(struct source **source, const struct options *options)
{
#ifdef EARSHOT_PCAP
    return source_pcap_open(source,
                            &(struct source_pcap_params){.port = options->port, .interface = options->interface});
#else
    (void)source;
    (void)options;
    return -ENOSYS;
#endif
}

static int open_source(const struct entry *entry, struct source **source)
{
    const struct options *options = &entry->config->options;
    if (entry->kind == SOURCE_SHM)
        return source_shm_open(source, options->shm_path);
    if (entry->kind == SOURCE_PCAP)
        return open_pcap(source, options);
    struct source_udp_params params = {.port = options->port,
                                       .group = options->source == FROM_MULTICAST ? options->group : NULL,
                                       .interface = options->interface};
    return source_udp_open(source, &params);
}

static void try_open(struct sources *s, struct entry *entry, int64_t now_ns)
{
    struct source *source;
    entry->due_ns = now_ns + RETRY_NS;
    if (take_lock(s, entry) < 0)
        return;
    int r = open_source(entry, &source);
    if (r == 0) {
        if (source->ops->set_senders)
            source->ops->set_senders(source, &entry->senders);
        r = source_thread_add(s->thread, source);
    }
    if (r >= 0) {
        entry->number = r;
        s->by_number[r] = (int)(entry - s->entries);
        return;
    }
    char text[160];
    snprintf(text, sizeof(text), "cannot listen as %.60s wants: %.60s",
             *entry->config->name ? entry->config->name : "the command line", strerror(-r));
    set_status(entry, SOURCE_FAILED, text);
}

/* One line when it changes; where it changes all the time, ever fewer. Returns when to look again. */
static int64_t tell(struct sources *s, struct entry *entry, int64_t now_ns)
{
    bool pause = entry->heard && entry->status.state == SOURCE_NO_RING;
    bool same = entry->told_any && entry->told.state == entry->status.state &&
                !strcmp(entry->told.detail, entry->status.detail);
    if (s->quiet || !entry->known || pause || same)
        return INT64_MAX;
    if (entry->told_any && now_ns < entry->told_ns + entry->line_gap_ns)
        return entry->told_ns + entry->line_gap_ns;

    bool calm = !entry->told_any || now_ns - entry->told_ns >= LINE_MAX_NS;
    int64_t next_ns = entry->line_gap_ns * 2 < LINE_MAX_NS ? entry->line_gap_ns * 2 : LINE_MAX_NS;
    entry->line_gap_ns = calm ? LINE_MIN_NS : next_ns;
    entry->told_ns = now_ns;
    entry->told = entry->status;
    entry->told_any = true;
    enum source_state state = entry->status.state;
    if (state == SOURCE_LISTENING)
        log_line(s->log, LOG_LEVEL_INFO, "%s", entry->listening);
    else
        log_line(s->log, state == SOURCE_NO_RING ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "%s", entry->status.detail);
    return INT64_MAX;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t sources_run(struct sources *sources, int64_t now_ns)
{
    int64_t wake_ns = INT64_MAX;
    bool leaving = false;
    for (unsigned i = 0; i < sources->count; i++) {
        struct entry *entry = &sources->entries[i];
        if (!entry->config || entry->plan >= 0)
            continue;
        leaving = true;
        if (!entry->removed && now_ns >= entry->due_ns) {
            entry->removed = source_thread_remove(sources->thread, (unsigned)entry->number) == 0;
            entry->due_ns = now_ns + RETRY_NS;
        }
        if (!entry->removed)
            wake_ns = earlier(wake_ns, entry->due_ns);
    }
    for (unsigned i = 0; i < sources->count; i++) {
        struct entry *entry = &sources->entries[i];
        if (!entry->config || entry->plan < 0)
            continue;
        if (entry->number < 0 && !leaving && now_ns >= entry->due_ns)
            try_open(sources, entry, now_ns);
        if (entry->number < 0 && !leaving)
            wake_ns = earlier(wake_ns, entry->due_ns);
        wake_ns = earlier(wake_ns, tell(sources, entry, now_ns));
        if (!sources->quiet)
            wake_ns = earlier(wake_ns, source_report_run(&entry->report, entry->where, sources->log, now_ns));
    }
    return wake_ns;
}

int sources_fd(const struct sources *sources)
{
    return source_thread_fd(sources->thread);
}

pid_t sources_tid(const struct sources *sources)
{
    return source_thread_tid(sources->thread);
}

int sources_next_event(struct sources *sources, struct source_event *event)
{
    while (source_thread_next_event(sources->thread, event) == 1) {
        struct entry *entry = &sources->entries[sources->by_number[event->source]];
        if (event->type == SOURCE_EVENT_STATUS) {
            entry->status = event->status;
            entry->known = true;
        } else if (event->type == SOURCE_EVENT_COUNTERS) {
            entry->report.counters = event->counters;
        } else if (event->type == SOURCE_EVENT_REMOVED) {
            free_entry(entry);
        } else {
            entry->heard = entry->heard || event->type == SOURCE_EVENT_FEED_NEW;
            return 1;
        }
    }
    return 0;
}

void sources_forget(struct sources *sources, unsigned source, uint64_t sender)
{
    source_thread_forget(sources->thread, source, sender);
}

static void fill_view(const struct entry *entry, struct source_view *view)
{
    *view = (struct source_view){.kind = entry->kind,
                                 .where = entry->where,
                                 .status = entry->known ? &entry->status : NULL,
                                 .counters = &entry->report.counters,
                                 .plan = entry->plan};
}

bool sources_get(const struct sources *sources, unsigned source, struct source_view *view)
{
    const struct entry *entry = &sources->entries[sources->by_number[source]];
    if (!entry->config || entry->number != (int)source)
        return false;
    fill_view(entry, view);
    return true;
}

bool sources_of_plan(const struct sources *sources, unsigned plan_source, struct source_view *view)
{
    for (unsigned i = 0; i < sources->count; i++) {
        const struct entry *entry = &sources->entries[i];
        if (!entry->config || entry->plan != (int)plan_source)
            continue;
        fill_view(entry, view);
        return true;
    }
    return false;
}

const char *sources_waiting(const struct sources *sources)
{
    for (unsigned i = 0; i < sources->count; i++) {
        const struct entry *entry = &sources->entries[i];
        bool pause = entry->heard && entry->status.state == SOURCE_NO_RING;
        if (entry->config && entry->plan >= 0 && entry->known && !pause && entry->status.state != SOURCE_LISTENING)
            return entry->status.detail;
    }
    return NULL;
}

bool sources_told(const struct sources *sources)
{
    for (unsigned i = 0; i < sources->count; i++) {
        if (sources->entries[i].told_any)
            return true;
    }
    return false;
}
