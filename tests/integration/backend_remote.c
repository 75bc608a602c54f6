/* SPDX-License-Identifier: MIT
 *
 * Any backend behind the contract, at the end of a pipe: reads a command a line, answers with a line. Test scripts
 * start and stop servers and devices around it, and judge what it answers.
 *
 *   context [SERVER]      probe [SERVER]      context-state      context-close
 *   open NAME CHANNELS MASK PERIOD_US TARGET|- connect|no-connect|PATTERN     -> ok INDEX GRANTED_US
 *   start I   stop I   state I   close I      stats I (since the last stats)     dump I (the last pulls)
 *   called I              latency I US (as main tells it)
 *   slow US (each pull takes so much longer)
 *   event                                     counts what the eventfd got
 *
 * Channel c of each stream carries the constant (c + 1) / 16.
 */
#include "backends/backend.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STREAMS_MAX 16
#define LOG_PULLS   4096
#define PRIORITY    20 /* of a thread that has none of its own, as main asks for it */

struct pull_record {
    int64_t at_ns;
    struct pull_time time;
    uint32_t frames;
};

struct remote;

struct remote_stream {
    const struct remote *remote;
    struct backend_stream *stream;
    unsigned channels;
    atomic_bool inside;  /* a pull is running */
    atomic_bool stopped; /* stop() has returned: no pull may come */
    _Atomic uint64_t pulls, violations, overlaps;
    atomic_int policy; /* SCHED_*, of the thread that pulls */
    struct pull_record log[LOG_PULLS];
    uint64_t seen; /* pulls already reported */
};

struct remote {
    const struct backend *backend;
    struct backend_context *context;
    struct remote_stream streams[STREAMS_MAX];
    unsigned count;
    int event_fd;
    _Atomic long slow_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* [rt] */
static void pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct remote_stream *s = arg;
    if (atomic_exchange(&s->inside, true))
        atomic_fetch_add(&s->overlaps, 1);
    if (atomic_load(&s->stopped))
        atomic_fetch_add(&s->violations, 1);
    for (uint32_t i = 0; i < frames; i++) {
        for (unsigned c = 0; c < s->channels; c++)
            *dst++ = (float)(c + 1) / 16.0f;
    }
    const uint64_t pulls = atomic_load(&s->pulls);
    if (pulls == 0) {
        struct sched_param param;
        int policy = -1;
        pthread_getschedparam(pthread_self(), &policy, &param);
        atomic_store(&s->policy, policy);
    }
    s->log[pulls % LOG_PULLS] = (struct pull_record){.at_ns = now_ns(), .time = *time, .frames = frames};
    const struct timespec slow = {.tv_nsec = atomic_load(&s->remote->slow_ns)};
    if (slow.tv_nsec > 0)
        nanosleep(&slow, NULL);
    atomic_store(&s->pulls, pulls + 1);
    atomic_store(&s->inside, false);
}

static void answer(int rc)
{
    if (rc < 0)
        printf("error %s\n", strerrorname_np(-rc));
    else
        printf("ok\n");
}

static const char *state_name(enum backend_state state)
{
    return state == BACKEND_OK ? "ok" : state == BACKEND_NO_DEVICE ? "no-device" : "lost";
}

static void print_stats(struct remote_stream *s)
{
    const uint64_t pulls = atomic_load(&s->pulls);
    uint64_t from = s->seen;
    if (pulls - from > LOG_PULLS - 16)
        from = pulls - (LOG_PULLS - 16);
    uint64_t frames = 0, discontinuities = 0, unflagged = 0;
    uint32_t shortest = UINT32_MAX, longest = 0;
    const struct pull_record *first = &s->log[(from > 0 ? from - 1 : 0) % LOG_PULLS];
    int64_t delay_min = INT64_MAX, delay_max = INT64_MIN, late_max = 0;
    for (uint64_t i = from; i < pulls; i++) {
        const struct pull_record *r = &s->log[i % LOG_PULLS];
        frames += r->frames;
        shortest = r->frames < shortest ? r->frames : shortest;
        longest = r->frames > longest ? r->frames : longest;
        delay_min = r->time.delay_frames < delay_min ? r->time.delay_frames : delay_min;
        delay_max = r->time.delay_frames > delay_max ? r->time.delay_frames : delay_max;
        late_max = r->at_ns - r->time.cycle_ns > late_max ? r->at_ns - r->time.cycle_ns : late_max;
        /* A device that asks twice in one cycle is where it was; then it goes on from there by one period. */
        if (r->time.position_frames == first->time.position_frames && r->time.cycle_ns == first->time.cycle_ns)
            continue;
        if (r->time.flags & PULL_DISCONTINUITY)
            discontinuities++;
        else if (r->time.position_frames != first->time.position_frames + (int64_t)first->frames)
            unflagged++;
        first = r;
    }
    const struct pull_record *last = &s->log[(pulls > 0 ? pulls - 1 : 0) % LOG_PULLS];
    printf("pulls=%llu frames=%llu min=%u max=%u discontinuities=%llu unflagged=%llu rate=%u clock=%u "
           "delay_min=%lld delay_max=%lld late_max_us=%lld position=%lld cycle_ns=%lld policy=%d violations=%llu "
           "overlaps=%llu\n",
           (unsigned long long)(pulls - s->seen), (unsigned long long)frames, shortest == UINT32_MAX ? 0 : shortest,
           longest, (unsigned long long)discontinuities, (unsigned long long)unflagged, pulls ? last->time.rate : 0,
           pulls ? last->time.clock_id : 0, (long long)(delay_min == INT64_MAX ? 0 : delay_min),
           (long long)(delay_max == INT64_MIN ? 0 : delay_max), (long long)(late_max / 1000),
           (long long)(pulls ? last->time.position_frames : 0), (long long)(pulls ? last->time.cycle_ns : 0),
           atomic_load(&s->policy), (unsigned long long)atomic_load(&s->violations),
           (unsigned long long)atomic_load(&s->overlaps));
    s->seen = pulls;
}

/* Pulls of note: those whose size, clock, rate or flags differ from the one before. */
static void dump(const struct remote_stream *s)
{
    const uint64_t pulls = atomic_load(&s->pulls);
    for (uint64_t i = pulls > LOG_PULLS - 16 ? pulls - (LOG_PULLS - 16) : 0; i < pulls; i++) {
        const struct pull_record *r = &s->log[i % LOG_PULLS];
        const struct pull_record *b = i > 0 ? &s->log[(i - 1) % LOG_PULLS] : r;
        if (i > 0 && r->time.flags == 0 && r->frames == b->frames && r->time.clock_id == b->time.clock_id &&
            r->time.rate == b->time.rate && r->time.delay_frames == b->time.delay_frames)
            continue;
        printf("#%llu frames=%u rate=%u clock=%u flags=%u delay=%lld dpos=%lld dns=%lld late_us=%lld\n",
               (unsigned long long)i, r->frames, r->time.rate, r->time.clock_id, r->time.flags,
               (long long)r->time.delay_frames, (long long)(r->time.position_frames - b->time.position_frames),
               (long long)(r->time.cycle_ns - b->time.cycle_ns), (long long)((r->at_ns - r->time.cycle_ns) / 1000));
    }
    printf("ok\n");
}

enum open_word { NAME, CHANNELS, MASK, PERIOD_US, TARGET, CONNECT, OPEN_WORDS };

static void open_stream(struct remote *remote, char *line)
{
    char *words[OPEN_WORDS], *rest = NULL;
    unsigned count = 0;
    for (char *word = strtok_r(line, " \n", &rest); word && count < OPEN_WORDS; word = strtok_r(NULL, " \n", &rest))
        words[count++] = word;
    if (remote->count == STREAMS_MAX || count != OPEN_WORDS) {
        answer(-EINVAL);
        return;
    }
    const unsigned channels = (unsigned)strtoul(words[CHANNELS], NULL, 10);
    struct remote_stream *s = &remote->streams[remote->count];
    *s = (struct remote_stream){.remote = remote, .channels = channels, .policy = -1};
    atomic_store(&s->stopped, true);
    struct backend_stream_params params = {
        .name = words[NAME],
        .description = words[NAME],
        .target = strcmp(words[TARGET], "-") == 0 ? NULL : words[TARGET],
        .no_connect = strcmp(words[CONNECT], "no-connect") == 0,
        .connect = strstr(words[CONNECT], "connect") ? NULL : words[CONNECT],
        .channels = (uint8_t)channels,
        .mask = (uint16_t)strtoul(words[MASK], NULL, 16),
        .source_rate = 48000,
        .period_ns = strtoll(words[PERIOD_US], NULL, 10) * 1000,
        .pull = pull,
        .arg = s,
    };
    const int rc = remote->backend->open(remote->context, &params, &s->stream);
    if (rc < 0) {
        answer(rc);
        return;
    }
    struct backend_info info = {0};
    if (remote->backend->info)
        remote->backend->info(s->stream, &info);
    if (info.thread) /* as main does; it plays without as well, where nothing else runs */
        sched_setscheduler(info.thread, SCHED_FIFO, &(struct sched_param){.sched_priority = PRIORITY});
    printf("ok %u %lld\n", remote->count++, (long long)(params.period_ns / 1000));
}

static void on_stream(struct remote *remote, const char *command, unsigned index, long number)
{
    struct remote_stream *s = index < remote->count ? &remote->streams[index] : NULL;
    if (!s || (!s->stream && strcmp(command, "stats") != 0)) {
        answer(-ENOENT);
    } else if (strcmp(command, "start") == 0) {
        atomic_store(&s->stopped, false);
        answer(remote->backend->start(s->stream));
    } else if (strcmp(command, "stop") == 0) {
        const int64_t before = now_ns();
        remote->backend->stop(s->stream);
        atomic_store(&s->stopped, true);
        if (atomic_load(&s->inside))
            atomic_fetch_add(&s->violations, 1);
        printf("ok %lld\n", (long long)((now_ns() - before) / 1000));
    } else if (strcmp(command, "state") == 0) {
        printf("%s\n", state_name(remote->backend->state(s->stream)));
    } else if (strcmp(command, "close") == 0) {
        const int64_t before = now_ns();
        remote->backend->close(s->stream);
        s->stream = NULL;
        atomic_store(&s->stopped, true);
        printf("ok %lld\n", (long long)((now_ns() - before) / 1000));
    } else if (strcmp(command, "stats") == 0) {
        print_stats(s);
    } else if (strcmp(command, "dump") == 0) {
        dump(s);
    } else if (strcmp(command, "called") == 0 && remote->backend->called) {
        printf("%s\n", remote->backend->called(s->stream));
    } else if (strcmp(command, "latency") == 0 && remote->backend->tell_latency) {
        remote->backend->tell_latency(s->stream, number * 1000);
        answer(0);
    } else {
        answer(-EINVAL);
    }
}

static void run_command(struct remote *remote, char *line)
{
    char command[32], argument[256] = "";
    int at = 0;
    if (sscanf(line, "%31s%n", command, &at) != 1)
        return;
    sscanf(line + at, "%255s", argument);
    const struct backend_context_params params = {
        .app_name = "Earshot",
        .server = *argument ? argument : NULL,
        .event_fd = remote->event_fd,
    };
    if (strcmp(command, "context") == 0) {
        answer(remote->backend->context_open(&remote->context, &params));
    } else if (strcmp(command, "probe") == 0) {
        answer(remote->backend->probe(&params));
    } else if (strcmp(command, "slow") == 0) {
        atomic_store(&remote->slow_ns, strtol(argument, NULL, 10) * 1000);
        answer(0);
    } else if (strcmp(command, "event") == 0) {
        uint64_t events = 0;
        if (read(remote->event_fd, &events, sizeof events) < 0)
            events = 0;
        printf("%llu\n", (unsigned long long)events);
    } else if (strcmp(command, "context-close") == 0) {
        remote->backend->context_close(remote->context);
        remote->context = NULL;
        remote->count = 0;
        answer(0);
    } else if (!remote->context) {
        answer(-EINVAL);
    } else if (strcmp(command, "context-state") == 0) {
        printf("%s\n", state_name(remote->backend->context_state(remote->context)));
    } else if (strcmp(command, "open") == 0) {
        open_stream(remote, line + at);
    } else {
        long number = 0;
        sscanf(line + at, "%*s %ld", &number);
        on_stream(remote, command, (unsigned)strtoul(argument, NULL, 10), number);
    }
}

int main(int argc, char **argv)
{
    struct remote *remote = calloc(1, sizeof *remote);
    if (!remote || argc != 2 || !(remote->backend = backend_find(argv[1]))) {
        fprintf(stderr, "usage: backend_remote BACKEND\n");
        free(remote);
        return 2;
    }
    remote->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    char line[512];
    while (fgets(line, sizeof line, stdin)) {
        run_command(remote, line);
        fflush(stdout);
    }
    for (unsigned i = 0; i < remote->count; i++)
        remote->backend->close(remote->streams[i].stream);
    remote->backend->context_close(remote->context);
    close(remote->event_fd);
    free(remote);
    return 0;
}
