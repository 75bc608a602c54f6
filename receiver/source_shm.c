/* SPDX-License-Identifier: MIT */
#include "receiver/poller.h"
#include "receiver/shm_file.h"
#include "receiver/shm_watch.h"
#include "receiver/source.h"
#include "ringbuf/scream_shm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000LL

#define HANDING_NS   (100 * MS) /* in which a guest hands over what it was held up with */
#define HURRY_NS     (1 * MS)
#define BACKLOG_NS   (300 * MS) /* older audio is not worth playing any more */
#define GAP_NS       (120 * MS) /* silence longer than this and than GAP_CHUNKS is a pause of the guest's */
#define GAP_CHUNKS   4
#define RETRY_NS     (500 * MS)   /* a file that is missing, or perhaps replaced, is looked for this often */
#define SETTLE_NS    (5 * MS)     /* who has made a file needs a moment to give it its size */
#define WATCH_NS     (100 * MS)   /* between two looks at what happens in its directory */
#define EMPTY_NS     (10000 * MS) /* and where a guest plays, what has happened is only thrown away */
#define IDLE_SLACK   8            /* a part of the time between two looks at a ring that nobody plays into */
#define CONFIRM_NS   (1 * MS)     /* until the second look at a new header */
#define NOMINAL_NS   (20 * MS)
#define LONG_IDLE_NS (3600000 * MS)
#define STALE_IDLE_NS                                                                                                \
    (8000 * MS)           /* a ring that was there: looked at every 8 ms until its first chunk, in case it is dead */
#define BLOCKS_PER_LOOK 2 /* the chunk that ends past the memory splits a backlog once */

struct source_shm {
    struct source base;
    char *path;
    uint64_t seed; /* of the poller's dither: the path's alone, so that a simulation can be repeated */
    struct sender sender;
    struct shm_file file;
    struct shm_watch watch;
    int64_t watch_ns; /* when to listen to it again; INT64_MAX: all the time */
    int64_t empty_ns; /* when to forget what it has gathered while a guest plays */
    int64_t check_ns; /* when to see whether the path still names this file */
    bool had_ring;    /* in this file */

    /* The stream that is played: the header as last seen, checked, and what follows from it. */
    bool open;
    struct scream_shm_header header;
    struct scream_shm_geometry geometry;
    struct pcm_format format;
    uint64_t bytes;
    int64_t look_ns, change_ns, arrival_ns; /* last look; last one that saw the index move; its newest chunk */
    unsigned pending_flags;                 /* for the next block */
    int64_t owed_ns, owed_until_ns;         /* what a guest that stood still may not have handed over yet */

    /* A header that wants a second look before it is believed. */
    bool candidate;
    struct scream_shm_header candidate_header;
    int64_t candidate_ns;
    /* Last look at this file that saw no stream, or another one: what is written later is fresh. -1: none. */
    int64_t before_ns;
    struct scream_shm_header refused; /* counted once, not at every look */

    struct poller poller;
    int64_t slack_ns; /* of the next look, while it plays */
    uint8_t *buffer;
    size_t buffer_bytes;
    uint32_t backlog_chunks; /* that fit into buffer */
    struct block blocks[BLOCKS_PER_LOOK];
    unsigned block_next, block_count;
};

static void set_state(struct source_shm *s, enum source_state state, const char *before, const char *after)
{
    struct source_status *status = &s->base.status;
    status->state = state;
    status->detail[0] = 0;
    if (state == SOURCE_LISTENING)
        return;
    int length = snprintf(status->detail, sizeof status->detail, "%s%.90s%s", before, s->path, after);
    if (length >= (int)sizeof status->detail)
        memcpy(status->detail + sizeof status->detail - 4, "...", 4);
}

static void set_failed(struct source_shm *s, int error)
{
    char text[80];
    if (error == -EMEDIUMTYPE)
        snprintf(text, sizeof text, " is neither a file nor a device that can be mapped");
    else
        snprintf(text, sizeof text, " cannot be read: %s", strerror(-error));
    set_state(s, SOURCE_FAILED, "", text);
}

static void close_stream(struct source_shm *s)
{
    s->open = false;
    s->candidate = false;
}

static void close_file(struct source_shm *s)
{
    close_stream(s);
    shm_file_close(&s->file);
}

static int open_file(struct source_shm *s, int64_t now_ns)
{
    shm_watch_open(&s->watch, s->path);
    int error = shm_file_open(&s->file, s->path);
    switch (error) {
    case 0:
        break;
    case -ENOENT:
    case -ENOTDIR:
        set_state(s, SOURCE_NO_FILE, "", " is not there yet: it comes when the VM starts");
        break;
    case -EACCES:
    case -EPERM:
        set_state(s, SOURCE_NO_ACCESS, "no permission to read ", ": earshot doctor prints the fix");
        break;
    default:
        set_failed(s, error);
    }
    s->before_ns = -1;
    s->had_ring = false;
    s->check_ns = now_ns + RETRY_NS;
    s->refused = (struct scream_shm_header){0};
    poller_init(&s->poller, (uint64_t)now_ns ^ s->seed, NOMINAL_NS, now_ns - LONG_IDLE_NS);
    return error;
}

/* A guest that plays holds on to its file, whatever its name is given to: seen when it stops. */
static bool is_playing(const struct source_shm *s, int64_t now_ns)
{
    return s->open && now_ns - s->change_ns < RETRY_NS;
}

/* A look that brought nothing. */
static void missed(struct source_shm *s, int64_t now_ns)
{
    poller_missed(&s->poller, now_ns);
    int64_t latest_ns = poller_next_ns(&s->poller, 0);
    s->slack_ns = 0;
    if (!is_playing(s, now_ns))
        s->base.slack_ns = (latest_ns - now_ns) / IDLE_SLACK;
    s->base.wake_ns = latest_ns - s->base.slack_ns;
}

/* The file got shorter than its header says, or has none at all. What it says next may be old. */
static void lost(struct source_shm *s, int error, int64_t now_ns)
{
    close_stream(s);
    s->before_ns = -1;
    if (error == -ENODATA) {
        set_state(s, SOURCE_EMPTY, "", " is empty: it fills when the VM starts");
        missed(s, now_ns);
        return;
    }
    set_failed(s, error);
    close_file(s);
    s->base.wake_ns = now_ns + RETRY_NS;
}

static void no_stream(struct source_shm *s, const struct scream_shm_header *header, int64_t now_ns)
{
    close_stream(s);
    s->before_ns = now_ns;
    if (s->had_ring) /* between two streams: nothing to tell */
        set_state(s, SOURCE_LISTENING, "", "");
    else if (header->magic == 0)
        set_state(s, SOURCE_NO_RING, "",
                  ": nothing has played in the guest yet, or its driver cannot use the memory");
    else
        set_state(s, SOURCE_NO_RING, "", " holds something else than Scream's sound");
    missed(s, now_ns);
}

static void refuse(struct source_shm *s, const struct scream_shm_header *header, const char *reason, int64_t now_ns)
{
    close_stream(s);
    s->before_ns = -1;
    if (!scream_shm_same_stream(&s->refused, header))
        s->base.counters.rejected++;
    s->refused = *header;
    char text[100];
    snprintf(text, sizeof text, " makes no sense: %s", reason);
    set_state(s, SOURCE_BAD_HEADER, "the ring in ", text);
    missed(s, now_ns);
}

/* Room for the backlog that may have to be read at once. It only ever grows, to some 6 MB at the very most. */
static int make_room(struct source_shm *s)
{
    int64_t chunks = BACKLOG_NS / s->geometry.chunk_ns;
    if (chunks > s->geometry.chunks / 2)
        chunks = s->geometry.chunks / 2;
    if (chunks < 1)
        chunks = 1;
    size_t bytes = (size_t)chunks * s->header.chunk_size;
    if (bytes > s->buffer_bytes) {
        uint8_t *buffer = realloc(s->buffer, bytes);
        if (!buffer)
            return -ENOMEM;
        s->buffer = buffer;
        s->buffer_bytes = bytes;
    }
    s->backlog_chunks = (uint32_t)chunks;
    return 0;
}

/* Copies `count` chunks from `first` on into the buffer and describes them as blocks. */
static int read_chunks(struct source_shm *s, uint32_t first, uint32_t count)
{
    const struct scream_shm_geometry *g = &s->geometry;
    size_t filled = 0;
    bool split = true;
    while (count > 0) {
        uint32_t run = g->usable > first ? g->usable - first : 0;
        if (run == 0) { /* the last chunk, where it ends past the memory */
            s->base.counters.dropped_frames += g->chunk_frames;
            s->pending_flags |= BLOCK_GAP;
            split = true;
            first = 0;
            count--;
            continue;
        }
        if (run > count)
            run = count;
        size_t bytes = (size_t)run * s->header.chunk_size;
        int error =
            shm_file_read(&s->file, scream_shm_chunk_at(&s->header, (uint16_t)first), s->buffer + filled, bytes);
        if (error < 0)
            return error;
        if (split) {
            s->blocks[s->block_count++] = (struct block){
                .sender = s->sender,
                .format = s->format,
                .data = s->buffer + filled,
                .chunk_frames = g->chunk_frames,
                .flags = s->pending_flags,
            };
            s->pending_flags = 0;
            split = false;
        }
        s->blocks[s->block_count - 1].frames += run * g->chunk_frames;
        filled += bytes;
        count -= run;
        first = (first + run) % g->chunks;
    }
    return 0;
}

static void drop(struct source_shm *s, uint32_t chunks)
{
    s->base.counters.dropped_frames += (uint64_t)chunks * s->geometry.chunk_frames;
    s->pending_flags |= BLOCK_GAP;
}

/* s->header is what a look at now_ns saw, `advance` what is new in it since the look at last_look_ns. */
static void take(struct source_shm *s, struct scream_shm_advance advance, int64_t last_look_ns, int64_t now_ns)
{
    const struct scream_shm_geometry *g = &s->geometry;
    s->look_ns = now_ns;
    if (advance.step == SCREAM_SHM_RESYNC)
        s->pending_flags |= BLOCK_RESYNC;
    if (advance.step != SCREAM_SHM_SAME)
        s->change_ns = now_ns;
    if (advance.stale > 0)
        drop(s, advance.stale);
    if (advance.count == 0) {
        missed(s, now_ns);
        return;
    }
    s->check_ns = now_ns + RETRY_NS;
    if (now_ns >= s->empty_ns) {
        s->empty_ns = now_ns + EMPTY_NS;
        shm_watch_happened(&s->watch, s->path);
    }

    struct poller_arrival arrival = poller_seen(&s->poller, now_ns, last_look_ns, advance.count);
    bool waited = arrival.untimed && arrival.coarse && s->slack_ns > 0;
    s->base.wake_ns = poller_next_ns(&s->poller, s->base.patience_ns);
    s->slack_ns = s->poller.slack_ns;
    /* A pause: even the oldest of the new chunks came long after the one before. */
    int64_t silence = arrival.arrival_ns - s->arrival_ns - (advance.count - 1) * g->chunk_ns;
    if (silence > GAP_NS && silence > GAP_CHUNKS * g->chunk_ns)
        s->pending_flags |= BLOCK_GAP;
    s->arrival_ns = arrival.arrival_ns;

    uint32_t first = advance.first, count = advance.count;
    if (count > s->backlog_chunks) {
        uint32_t stale = count - s->backlog_chunks;
        drop(s, stale);
        first = (first + stale) % g->chunks;
        count -= stale;
    }
    unsigned flags = s->pending_flags;
    s->block_next = s->block_count = 0;
    int error = read_chunks(s, first, count);
    uint8_t bytes[SCREAM_SHM_HEADER_BYTES];
    if (error == 0)
        error = shm_file_read_header(&s->file, bytes);
    if (error < 0) {
        s->block_count = 0;
        lost(s, error, now_ns);
        return;
    }
    struct scream_shm_header after;
    scream_shm_decode(&after, bytes);
    if (!scream_shm_intact(&s->header, &after, (uint16_t)count)) {
        s->block_count = 0;
        s->pending_flags = flags;
        drop(s, count);
        return;
    }
    for (unsigned i = 0; i < s->block_count; i++) {
        s->blocks[i].arrival_ns = arrival.arrival_ns;
        s->blocks[i].window_ns = arrival.window_ns;
        s->blocks[i].waited_ns = waited ? now_ns - arrival.arrival_ns : 0;
        s->blocks[i].flags |= (arrival.untimed ? BLOCK_UNTIMED : 0u) | (i + 1 < s->block_count ? BLOCK_MORE : 0u);
    }
}

/* How long the guest had handed over nothing at the last look; or how much it still owes of what it was held up with. */
static int64_t still_ns(const struct source_shm *s, int64_t now_ns)
{
    int64_t still = s->look_ns - s->change_ns;
    return now_ns < s->owed_until_ns && s->owed_ns > still ? s->owed_ns : still;
}

/* The index moved. A guest that was held up may be in the middle of handing over what it owes: the rest comes at once. */
static void settle(struct source_shm *s, uint32_t chunks, int64_t still, int64_t last_look_ns, int64_t now_ns)
{
    if (!s->open)
        return; /* lost meanwhile */
    if (now_ns >= s->owed_until_ns)
        s->owed_until_ns = now_ns + HANDING_NS;
    s->owed_ns = still + now_ns - last_look_ns - chunks * s->geometry.chunk_ns;
    if (s->owed_ns < s->geometry.chunk_ns)
        return;
    s->slack_ns = 0;
    if (s->base.wake_ns > now_ns + HURRY_NS)
        s->base.wake_ns = now_ns + HURRY_NS;
}

/* A header for the second time: from here on it is what plays. */
static void start_stream(struct source_shm *s, const struct scream_shm_header *header,
                         const struct scream_shm_geometry *geometry, uint64_t bytes, int64_t now_ns)
{
    static const struct scream_shm_header none;
    /* A header that was there when the file was opened may be a dead guest's: only what changes from now on counts. One
     * that appeared while we looked is fresh from its first chunk on. */
    bool fresh = s->before_ns >= 0;
    int64_t since_ns = fresh ? s->before_ns : s->candidate_ns;
    struct scream_shm_advance advance =
        scream_shm_advance(fresh ? &none : &s->candidate_header, header, geometry, now_ns - since_ns, 0);
    close_stream(s);
    s->header = *header;
    s->geometry = *geometry;
    s->bytes = bytes;
    if (pcm_format_parse(&s->format, header->sample_rate, header->sample_size, header->channels,
                         header->channel_map) < 0) {
        refuse(s, header, "its format is unknown", now_ns);
        return;
    }
    if (make_room(s) < 0) {
        lost(s, -ENOMEM, now_ns);
        return;
    }
    s->open = true;
    s->had_ring = true;
    s->change_ns = now_ns;
    s->owed_until_ns = 0;
    s->arrival_ns = now_ns; /* no gap: a stream begins */
    s->pending_flags = BLOCK_RESYNC;
    s->refused = (struct scream_shm_header){0};
    set_state(s, SOURCE_LISTENING, "", "");
    int64_t idle_ns = fresh ? 0 : STALE_IDLE_NS;
    poller_init(&s->poller, (uint64_t)now_ns ^ s->seed, geometry->chunk_ns, now_ns - idle_ns);
    take(s, advance, since_ns, now_ns);
}

static void look(struct source_shm *s, int64_t now_ns)
{
    s->base.counters.wakeups++;
    if (s->file.fd >= 0 && now_ns >= s->check_ns) {
        s->check_ns = now_ns + RETRY_NS;
        if (shm_file_replaced(&s->file, s->path))
            close_file(s);
    }
    if (s->file.fd < 0 && open_file(s, now_ns) < 0) {
        s->base.wake_ns = now_ns + RETRY_NS;
        return;
    }
    uint8_t bytes[SCREAM_SHM_HEADER_BYTES];
    int error = shm_file_read_header(&s->file, bytes);
    if (error < 0) {
        lost(s, error, now_ns);
        return;
    }
    struct scream_shm_header header;
    scream_shm_decode(&header, bytes);
    if (header.magic != SCREAM_SHM_MAGIC) {
        no_stream(s, &header, now_ns);
        return;
    }

    bool known = s->open && scream_shm_same_stream(&s->header, &header);
    int64_t size = known ? (int64_t)s->bytes : shm_file_size(&s->file);
    if (size < 0) {
        lost(s, (int)size, now_ns);
        return;
    }
    struct scream_shm_geometry geometry;
    char reason[80];
    if (!scream_shm_check(&geometry, &header, (uint64_t)size, reason, sizeof reason)) {
        refuse(s, &header, reason, now_ns);
        return;
    }
    if (known) {
        int64_t last_look_ns = s->look_ns, still = still_ns(s, now_ns);
        struct scream_shm_advance advance =
            scream_shm_advance(&s->header, &header, &s->geometry, now_ns - last_look_ns, still);
        s->candidate = false;
        s->before_ns = now_ns;
        s->header = header;
        take(s, advance, last_look_ns, now_ns);
        if (advance.step == SCREAM_SHM_ADVANCED)
            settle(s, advance.count, still, last_look_ns, now_ns);
        return;
    }
    if (s->candidate && scream_shm_same_stream(&s->candidate_header, &header)) {
        start_stream(s, &header, &geometry, (uint64_t)size, now_ns);
        return;
    }
    s->candidate = true;
    s->candidate_header = header;
    s->candidate_ns = now_ns;
    s->base.wake_ns = now_ns + CONFIRM_NS;
}

/* The first thing that happens is acted on nearly at once; where others' files come and go all the time, ten times a second. */
static void follow_watch(struct source_shm *s, int64_t now_ns)
{
    bool ready = s->base.watch_ready;
    if (shm_watch_happened(&s->watch, s->path) && !is_playing(s, now_ns))
        s->check_ns = s->base.wake_ns = now_ns + SETTLE_NS;
    s->watch_ns = ready ? now_ns + WATCH_NS : INT64_MAX;
    s->base.watch_ready = false;
}

/* FNV-1a. */
static uint64_t hash(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static int source_shm_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct source_shm *s = (struct source_shm *)source;
    source->slack_ns = s->slack_ns;
    if (source->watch_ready || now_ns >= s->watch_ns)
        follow_watch(s, now_ns);
    if (s->block_next == s->block_count && now_ns >= source->wake_ns)
        look(s, now_ns);
    if (s->block_next == s->block_count) {
        if (source->wake_ns > s->watch_ns)
            source->wake_ns = s->watch_ns;
        /* Each fd costs whoever waits for it, each time. */
        source->watch_fd = s->watch_ns != INT64_MAX || is_playing(s, now_ns) ? 0 : s->watch.fd;
        return 0;
    }
    *block = s->blocks[s->block_next++];
    source->counters.blocks++;
    return 1;
}

static void source_shm_close(struct source *source)
{
    struct source_shm *s = (struct source_shm *)source;
    close_file(s);
    shm_watch_close(&s->watch);
    free(s->buffer);
    free(s->path);
    free(s);
}

static const struct source_ops source_shm_ops = {
    .next = source_shm_next,
    .close = source_shm_close,
};

int source_shm_open(struct source **source, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (*name == 0)
        return -EINVAL;
    struct source_shm *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->path = strdup(path);
    if (!s->path) {
        free(s);
        return -ENOMEM;
    }
    s->base = (struct source){.ops = &source_shm_ops, .kind = SOURCE_SHM, .fd = -1, .wake_ns = 0};
    s->seed = hash(path);
    snprintf(s->sender.label, sizeof s->sender.label, "%s", name);
    s->file = SHM_FILE_CLOSED;
    s->watch = SHM_WATCH_CLOSED;
    s->watch_ns = INT64_MAX;
    s->before_ns = -1;
    set_state(s, SOURCE_LISTENING, "", ""); /* until the first look that finds a fault */
    *source = &s->base;
    return 0;
}
