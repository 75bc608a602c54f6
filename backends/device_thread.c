/* SPDX-License-Identifier: MIT
 *
 * Threads: [main] sets what is wanted and writes wake_fd; the device's thread does it. `open` and `busy` are the gate
 * around the pull. The lock guards what is said at the beginning and at the end, and is never held during a pull.
 */
#include "backends/device_thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS       INT64_C(1000000)
#define NS_PER_S        INT64_C(1000000000)
#define PULL_FRAMES_MAX 8192u
#define STOP_POLL_NS    100000
#define WAIT_MS         200
#define NO_PROGRESS_NS  NS_PER_S /* a device that asks for nothing for so long is opened again */
#define TAIL_MAX_NS     (500 * NS_PER_MS)
/* A device that runs dry so often has too little room, unless it was so late that a little more would not have helped. */
#define DRY_TIMES     3
#define DRY_WINDOW_NS (15 * NS_PER_S)
#define DRY_APART_NS  NS_PER_S
#define DRY_FILLS     3
#define FILL_MAX_NS   (100 * NS_PER_MS)
/* One that runs dry again and again as soon as it is started takes more at a time than there is room for, as a server's
 * plug-in may; or it is broken. */
#define SHORT_RUN_NS      (100 * NS_PER_MS)
#define SHORT_RUNS_ROOM   2
#define SHORT_RUNS_MAX    20
#define SHORT_FILL_MAX_NS (500 * NS_PER_MS)
/* A device so far ahead of time has no clock. */
#define AHEAD_NS (20 * NS_PER_MS)

struct device_thread {
    const struct device_ops *ops;
    struct backend_stream_params params;
    char *name, *target; /* copies for params: open may outlive its caller */
    int event_fd, wake_fd;
    uint32_t clock_id;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool opened, ended, abandoned; /* under the lock */
    int open_error;                /* under the lock */
    struct device_grant grant;     /* under the lock once it is open */

    atomic_int state; /* enum backend_state */
    atomic_int tid;
    atomic_bool open, busy; /* the gate; open: it should play */
    atomic_bool quit;

    /* The device's thread alone. */
    struct device *device;
    struct device_timing timing;
    float *buffer;
    bool running, unpaced;
    int64_t begun_ns;    /* of this run */
    int64_t progress_ns; /* when it last asked */
    int64_t tail_frames; /* of silence still to be written before it may be halted */
    int64_t tail_until_ns;
    unsigned short_runs, dry;
    int64_t dry_since_ns, dry_last_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void signal_fd(int fd)
{
    const uint64_t one = 1;
    /* An eventfd write fails only when the counter is full: then its reader is about to look anyway. */
    if (write(fd, &one, sizeof one) < 0)
        return;
}

static void destroy(struct device_thread *t)
{
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t->buffer);
    free(t->name);
    free(t->target);
    free(t);
}

/* ---- the device's thread ---- */

static void set_lost(struct device_thread *t)
{
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->state, (int)BACKEND_LOST);
    if (!t->abandoned)
        signal_fd(t->event_fd); /* of somebody who may be gone by then */
    pthread_mutex_unlock(&t->lock);
}

static void halt(struct device_thread *t)
{
    if (t->running)
        t->ops->halt(t->device);
    t->running = false;
}

/* 0 or -errno. */
static int begin(struct device_thread *t, bool roomier)
{
    struct device_grant grant = t->grant;
    const int rc = t->ops->start(t->device, roomier, &grant);
    if (rc < 0)
        return rc;
    if (roomier) {
        if (grant.period_frames > t->grant.period_frames) {
            float *larger = realloc(t->buffer, (size_t)grant.period_frames * t->params.channels * sizeof *larger);
            if (!larger)
                return -ENOMEM;
            t->buffer = larger;
        }
        pthread_mutex_lock(&t->lock);
        t->grant = grant;
        pthread_mutex_unlock(&t->lock);
        device_timing_init(&t->timing, grant.rate, grant.period_frames, grant.fill_frames, t->clock_id);
    } else {
        device_timing_restart(&t->timing);
    }
    t->running = true;
    t->begun_ns = t->progress_ns = now_ns();
    return 0;
}

static int64_t fill_ns(const struct device_thread *t)
{
    return (int64_t)t->grant.fill_frames * NS_PER_S / t->grant.rate;
}

/* It ran dry, and not for the first time. */
static bool runs_dry_often(struct device_thread *t, int64_t now)
{
    if (now - t->progress_ns > DRY_FILLS * fill_ns(t) || now - t->dry_last_ns < DRY_APART_NS)
        return false;
    if (t->dry == 0 || now - t->dry_since_ns > DRY_WINDOW_NS) {
        t->dry = 0;
        t->dry_since_ns = now;
    }
    t->dry_last_ns = now;
    if (++t->dry < DRY_TIMES)
        return false;
    t->dry = 0;
    return true;
}

static int begin_again(struct device_thread *t)
{
    const int64_t now = now_ns();
    const bool often = runs_dry_often(t, now) && fill_ns(t) < FILL_MAX_NS;
    t->short_runs = now - t->begun_ns < SHORT_RUN_NS ? t->short_runs + 1 : 0;
    if (t->short_runs > SHORT_RUNS_MAX)
        return -EIO;
    return begin(t, often || (t->short_runs >= SHORT_RUNS_ROOM && fill_ns(t) < SHORT_FILL_MAX_NS));
}

/* The gate is open: pull. Else silence, while a tail is due. */
static void fill_buffer(struct device_thread *t, struct pull_time *time)
{
    const uint32_t channels = t->params.channels;
    const uint32_t frames = t->timing.period_frames;
    /* Sequentially consistent on both sides: either stop() sees busy, or this sees the gate closed. */
    atomic_store(&t->busy, true);
    if (atomic_load(&t->open)) {
        for (uint32_t done = 0; done < frames;) {
            const uint32_t slice = frames - done < PULL_FRAMES_MAX ? frames - done : PULL_FRAMES_MAX;
            t->params.pull(t->params.arg, t->buffer + (size_t)done * channels, slice, time);
            done += slice;
            time->delay_frames += slice;
            time->flags &= ~(unsigned)PULL_DISCONTINUITY;
        }
        atomic_store(&t->busy, false);
        t->tail_frames = t->grant.fill_frames;
        t->tail_until_ns = now_ns() + TAIL_MAX_NS;
        return;
    }
    atomic_store(&t->busy, false);
    memset(t->buffer, 0, (size_t)frames * channels * sizeof *t->buffer);
    t->tail_frames -= frames;
}

/* Writes as long as the device asks. Returns 1 where it wrote something, 0 where there was no room, or -errno. */
static int serve(struct device_thread *t)
{
    int wrote = 0;
    for (;;) {
        struct device_moment moment;
        const int room = t->ops->look(t->device, &moment);
        if (room <= 0)
            return room < 0 ? room : wrote;
        const int64_t now = now_ns();
        const int64_t ahead_ns = 2 * fill_ns(t) + AHEAD_NS;
        const int64_t ahead = device_timing_ahead(&t->timing, t->begun_ns, now);
        if (ahead * NS_PER_S / t->timing.rate > ahead_ns)
            t->unpaced = true;
        if (t->unpaced && ahead > 0)
            return wrote;
        struct pull_time time;
        if (t->unpaced)
            device_timing_free_cycle(&t->timing, t->begun_ns, &time);
        else
            device_timing_cycle(&t->timing, &moment, &time);
        fill_buffer(t, &time);
        t->progress_ns = now;
        const int rc = t->ops->write(t->device, t->buffer);
        if (rc < 0)
            return rc;
        device_timing_wrote(&t->timing);
        wrote = 1;
        if (!atomic_load(&t->open) && t->tail_frames <= 0)
            return wrote;
    }
}

static void rest(const struct device_thread *t, int64_t ns)
{
    struct pollfd fd = {.fd = t->wake_fd, .events = POLLIN};
    const struct timespec timeout = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    ppoll(&fd, 1, ns < 0 ? NULL : &timeout, NULL);
}

static void clear_wake(const struct device_thread *t)
{
    uint64_t count;
    while (read(t->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

static int wait_for_room(struct device_thread *t, bool idle)
{
    const int64_t period_ns = (int64_t)t->timing.period_frames * NS_PER_S / t->timing.rate;
    if (t->unpaced) {
        const int64_t ahead = device_timing_ahead(&t->timing, t->begun_ns, now_ns());
        rest(t, ahead > 0 ? ahead * NS_PER_S / t->timing.rate + 1 : period_ns / 4);
        return 0;
    }
    /* A device that wakes us for nothing must not have the processor for itself. */
    if (idle)
        rest(t, period_ns / 4);
    return t->ops->wait(t->device, t->wake_fd, WAIT_MS);
}

/* Plays until told otherwise. 0, or -errno: the device is gone. */
static int play(struct device_thread *t)
{
    bool idle = false;
    int rc = t->running ? 0 : begin(t, false);
    while (rc >= 0) {
        const bool wanted = atomic_load(&t->open);
        if (!wanted && (t->tail_frames <= 0 || now_ns() > t->tail_until_ns))
            return 0;
        rc = serve(t);
        if (rc == -EPIPE) {
            rc = begin_again(t);
            continue;
        }
        if (rc < 0)
            return rc;
        if (now_ns() - t->progress_ns > NO_PROGRESS_NS + 2 * fill_ns(t))
            return -ENODEV;
        const bool served = rc > 0;
        rc = wait_for_room(t, idle && !served);
        idle = !served;
        clear_wake(t);
    }
    return rc;
}

static void work(struct device_thread *t)
{
    while (!atomic_load(&t->quit)) {
        if (atomic_load(&t->open) && atomic_load(&t->state) == BACKEND_OK) {
            t->unpaced = false;
            const int rc = play(t);
            halt(t);
            if (rc < 0)
                set_lost(t);
            continue;
        }
        rest(t, -1);
        clear_wake(t);
    }
}

static void *run(void *arg)
{
    struct device_thread *t = arg;
    struct device_grant grant = {0};

    atomic_store(&t->tid, gettid());
    int rc = t->ops->open(&t->device, &t->params, &grant);
    if (rc == 0) {
        t->buffer = calloc((size_t)grant.period_frames * t->params.channels, sizeof *t->buffer);
        rc = t->buffer ? 0 : -ENOMEM;
        device_timing_init(&t->timing, grant.rate, grant.period_frames, grant.fill_frames, t->clock_id);
    } else {
        t->device = NULL;
    }
    pthread_mutex_lock(&t->lock);
    t->grant = grant;
    t->open_error = rc;
    t->opened = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);

    if (rc == 0)
        work(t);
    if (t->device)
        t->ops->close(t->device);
    pthread_mutex_lock(&t->lock);
    t->ended = true;
    const bool abandoned = t->abandoned;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    if (abandoned)
        destroy(t);
    return NULL;
}

/* ---- [main] ---- */

/* Waits for *flag, which the lock guards, BACKEND_TIMEOUT_MS at most. Under the lock. */
static bool wait_flag(struct device_thread *t, const bool *flag)
{
    const int64_t ns = now_ns() + BACKEND_TIMEOUT_MS * NS_PER_MS;
    const struct timespec deadline = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    int rc = 0;
    while (!*flag && rc == 0)
        rc = pthread_cond_timedwait(&t->changed, &t->lock, &deadline);
    return *flag;
}

void device_thread_close(struct device_thread *t)
{
    if (!t)
        return;
    device_thread_stop(t);
    atomic_store(&t->quit, true);
    signal_fd(t->wake_fd);
    pthread_mutex_lock(&t->lock);
    const bool ended = wait_flag(t, &t->ended);
    t->abandoned = !ended;
    if (!ended) /* it hangs: it frees what is its own when it comes back */
        pthread_detach(t->thread);
    pthread_mutex_unlock(&t->lock);
    if (ended) {
        pthread_join(t->thread, NULL);
        destroy(t);
    }
}

static struct device_thread *create(const struct device_thread_params *params)
{
    struct device_thread *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->ops = params->ops;
    t->params = *params->stream;
    t->event_fd = params->event_fd;
    t->clock_id = params->clock_id;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&t->lock, NULL);
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->name = strdup(t->params.name);
    t->target = t->params.target ? strdup(t->params.target) : NULL;
    if (t->wake_fd < 0 || !t->name || (t->params.target && !t->target)) {
        destroy(t);
        return NULL;
    }
    t->params.name = t->params.description = t->name;
    t->params.target = t->target;
    t->params.connect = NULL;
    return t;
}

int device_thread_open(struct device_thread **out, const struct device_thread_params *params)
{
    if (params->stream->channels == 0 || params->stream->channels > BACKEND_CHANNELS_MAX ||
        __builtin_popcount(params->stream->mask) != params->stream->channels)
        return -EINVAL;
    struct device_thread *t = create(params);
    if (!t)
        return -ENOMEM;
    const int created = pthread_create(&t->thread, NULL, run, t);
    if (created != 0) {
        destroy(t);
        return -created;
    }
    pthread_setname_np(t->thread, "earshot-device");
    pthread_mutex_lock(&t->lock);
    const int rc = wait_flag(t, &t->opened) ? t->open_error : -EHOSTDOWN;
    if (rc == 0)
        params->stream->period_ns = (int64_t)t->grant.period_frames * NS_PER_S / t->grant.rate;
    const bool hangs = !t->opened;
    if (hangs) {
        t->abandoned = true;
        atomic_store(&t->quit, true);
        pthread_detach(t->thread);
    }
    pthread_mutex_unlock(&t->lock);
    if (hangs)
        return rc;
    if (rc < 0) {
        pthread_join(t->thread, NULL);
        destroy(t);
        return rc;
    }
    *out = t;
    return 0;
}

int device_thread_start(struct device_thread *t)
{
    if (atomic_load(&t->state) == BACKEND_LOST)
        return -EHOSTDOWN;
    atomic_store(&t->open, true);
    signal_fd(t->wake_fd);
    return 0;
}

/* First the gate; the thread finds it closed when it comes round, and lets what is queued play out. */
void device_thread_stop(struct device_thread *t)
{
    atomic_store(&t->open, false);
    while (atomic_load(&t->busy)) {
        const struct timespec poll = {.tv_nsec = STOP_POLL_NS};
        nanosleep(&poll, NULL);
    }
}

enum backend_state device_thread_state(struct device_thread *t)
{
    return (enum backend_state)atomic_load(&t->state);
}

void device_thread_info(struct device_thread *t, struct backend_info *info)
{
    info->thread = atomic_load(&t->tid);
    pthread_mutex_lock(&t->lock);
    memcpy(info->text, t->grant.text, sizeof t->grant.text);
    pthread_mutex_unlock(&t->lock);
}
