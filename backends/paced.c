/* SPDX-License-Identifier: MIT */
#include "backends/paced.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define NS_PER_S       1000000000
#define PACED_PRIORITY 60 /* SCHED_FIFO; below the threads of real sound servers */

struct paced_stream {
    struct paced *paced;
    struct paced_stream_params params;
    struct paced_stream *next;
    bool started;
    bool fresh; /* not pulled since it was started */
};

struct paced {
    struct paced_clock clock;
    float *buffer; /* of the thread: the longer period, any number of channels */
    pthread_t thread;
    bool running;         /* main's: there is a thread */
    pthread_mutex_t lock; /* of all below; never held during a pull */
    pthread_cond_t changed;
    bool stopping;
    struct paced_stream *streams;
    struct paced_stream *pulling;
};

/* ---- arithmetic ---- */

static double clock_rate(const struct paced_params *params)
{
    return params->rate * (1.0 + params->ppm * 1e-6);
}

int64_t paced_clock_time(const struct paced_clock *clock, int64_t position)
{
    /* A double holds the nanoseconds of three months exactly; after that the error is still under a microsecond. */
    return clock->origin_ns + llround((double)position * (double)NS_PER_S / clock_rate(&clock->params));
}

static int64_t clock_position(const struct paced_clock *clock, int64_t now_ns)
{
    return (int64_t)floor((double)(now_ns - clock->origin_ns) * clock_rate(&clock->params) / (double)NS_PER_S);
}

/* Uniform in [0, 1): splitmix64's step, for tests that want the same misbehaviour each time. */
static double clock_random(struct paced_clock *clock)
{
    uint64_t z = clock->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static uint32_t clock_period(const struct paced_clock *clock)
{
    const struct paced_params *params = &clock->params;
    const uint64_t turn = clock->cycle / params->hold_cycles;
    return turn % 2 == 1 && params->period[1] > 0 ? params->period[1] : params->period[0];
}

void paced_clock_start(struct paced_clock *clock, int64_t now_ns)
{
    const int64_t position = clock_position(clock, now_ns);
    if (position > clock->position)
        clock->position = position;
    clock->restarted = true;
}

void paced_clock_next(struct paced_clock *clock, int64_t now_ns, struct paced_cycle *cycle)
{
    const struct paced_params *params = &clock->params;
    const uint32_t period = clock_period(clock);
    bool jumped = clock->restarted;

    const int64_t late_ns = now_ns - paced_clock_time(clock, clock->position);
    if (late_ns > params->late_max_ns) {
        const int64_t missed = clock_position(clock, now_ns) - clock->position;
        clock->position += missed / period * period;
        jumped = missed / period > 0 || jumped;
    }
    const int64_t at_ns = paced_clock_time(clock, clock->position);
    clock->cycle++;
    *cycle = (struct paced_cycle){
        .wake_ns = at_ns + (int64_t)(clock_random(clock) * (double)params->jitter_ns),
        .frames = period,
        .pulls = params->double_every > 0 && clock->cycle % params->double_every == 0 ? 2 : 1,
        .time =
            {
                   .cycle_ns = at_ns + (int64_t)((clock_random(clock) * 2.0 - 1.0) * (double)params->noise_ns),
                   .position_frames = clock->position,
                   .rate = params->rate,
                   .delay_frames = params->delay_frames,
                   .clock_id = 1,
                   .flags = jumped ? PULL_DISCONTINUITY : 0,
                   },
    };
    clock->position += (int64_t)period * cycle->pulls;
    clock->restarted = false;
}

/* ---- thread ---- */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* A condition variable with a deadline is as sharp as clock_nanosleep, and stop() can end it. With the lock held. */
static bool wait_until(struct paced *paced, int64_t ns)
{
    const struct timespec deadline = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    int rc = 0;
    while (!paced->stopping && rc == 0)
        rc = pthread_cond_timedwait(&paced->changed, &paced->lock, &deadline);
    return !paced->stopping;
}

/* Without the lock: nobody closes a stream that is being pulled. */
static void pull(struct paced *paced, const struct paced_stream_params *stream, struct paced_cycle cycle, bool fresh)
{
    if (fresh)
        cycle.time.flags |= PULL_DISCONTINUITY;
    for (uint32_t i = 0; i < cycle.pulls; i++) {
        stream->pull(stream->pull_arg, paced->buffer, cycle.frames, &cycle.time);
        cycle.time.delay_frames += cycle.frames;
        cycle.time.flags = 0;
        if (stream->sink)
            stream->sink(stream->sink_arg, paced->buffer, cycle.frames);
    }
}

static void *run(void *arg)
{
    struct paced *paced = arg;
    struct paced_cycle cycle;

    pthread_mutex_lock(&paced->lock);
    paced_clock_start(&paced->clock, now_ns());
    for (;;) {
        paced_clock_next(&paced->clock, now_ns(), &cycle);
        if (!wait_until(paced, cycle.wake_ns))
            break;
        for (struct paced_stream *stream = paced->streams; stream; stream = stream->next) {
            if (!stream->started)
                continue;
            const bool fresh = stream->fresh;
            stream->fresh = false;
            paced->pulling = stream;
            pthread_mutex_unlock(&paced->lock);
            pull(paced, &stream->params, cycle, fresh);
            pthread_mutex_lock(&paced->lock);
            paced->pulling = NULL;
            if (!stream->started) /* stop() waits */
                pthread_cond_broadcast(&paced->changed);
        }
    }
    pthread_mutex_unlock(&paced->lock);
    return NULL;
}

int paced_create(struct paced **out, const struct paced_params *params)
{
    struct paced *paced = calloc(1, sizeof *paced);
    if (!paced)
        return -ENOMEM;
    paced->clock = (struct paced_clock){.params = *params, .origin_ns = now_ns(), .random = params->seed};
    const uint32_t longest = params->period[0] > params->period[1] ? params->period[0] : params->period[1];
    paced->buffer = calloc((size_t)longest * BACKEND_CHANNELS_MAX, sizeof *paced->buffer);
    if (!paced->buffer) {
        free(paced);
        return -ENOMEM;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&paced->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&paced->lock, NULL);
    *out = paced;
    return 0;
}

void paced_destroy(struct paced *paced)
{
    if (!paced)
        return;
    pthread_cond_destroy(&paced->changed);
    pthread_mutex_destroy(&paced->lock);
    free(paced->buffer);
    free(paced);
}

int paced_open(struct paced *paced, const struct paced_stream_params *params, struct paced_stream **out)
{
    struct paced_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    stream->paced = paced;
    stream->params = *params;
    pthread_mutex_lock(&paced->lock);
    stream->next = paced->streams;
    paced->streams = stream;
    pthread_mutex_unlock(&paced->lock);
    *out = stream;
    return 0;
}

static int start_thread(struct paced *paced)
{
    if (paced->running)
        return 0;
    paced->stopping = false;
    const int rc = pthread_create(&paced->thread, NULL, run, paced);
    if (rc != 0)
        return -rc;
    paced->running = true;
    pthread_setname_np(paced->thread, "earshot-device");
    if (paced->clock.params.realtime) {
        const struct sched_param priority = {.sched_priority = PACED_PRIORITY};
        pthread_setschedparam(paced->thread, SCHED_FIFO, &priority); /* where it may; it plays without as well */
    }
    return 0;
}

int paced_start(struct paced_stream *stream)
{
    struct paced *paced = stream->paced;
    if (stream->started)
        return 0;
    /* Before there is a thread: it is in the first cycle. */
    pthread_mutex_lock(&paced->lock);
    stream->started = stream->fresh = true;
    pthread_mutex_unlock(&paced->lock);
    const int rc = start_thread(paced);
    if (rc < 0)
        stream->started = false;
    return rc;
}

void paced_stop(struct paced_stream *stream)
{
    struct paced *paced = stream->paced;
    pthread_mutex_lock(&paced->lock);
    stream->started = false;
    while (paced->pulling == stream)
        pthread_cond_wait(&paced->changed, &paced->lock);
    bool last = true;
    for (const struct paced_stream *other = paced->streams; other; other = other->next)
        last = last && !other->started;
    if (last && paced->running) {
        paced->stopping = true;
        pthread_cond_broadcast(&paced->changed);
    }
    pthread_mutex_unlock(&paced->lock);
    if (last && paced->running) {
        pthread_join(paced->thread, NULL);
        paced->running = false;
    }
}

void paced_close(struct paced_stream *stream)
{
    if (!stream)
        return;
    paced_stop(stream);
    struct paced *paced = stream->paced;
    pthread_mutex_lock(&paced->lock);
    struct paced_stream **link = &paced->streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    pthread_mutex_unlock(&paced->lock);
    free(stream);
}
