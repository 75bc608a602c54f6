/* SPDX-License-Identifier: MIT */
#include "receiver/source_wait.h"

#include "receiver/source_thread.h"

#include <poll.h>
#include <time.h>

#define MS_NS      INT64_C(1000000)
#define SECOND_NS  INT64_C(1000000000)
#define BUSY_NS    (10 * MS_NS) /* without sleep; then one is due, for the kernel's real-time limit and for others */
#define NAP_NS     (MS_NS / 10)
#define GATHER_NS  (MS_NS / 2)
#define MIN_NS     (MS_NS / 20) /* a source that wants to wake in the past gets this */
#define FRUITLESS  16           /* times a readable fd brought nothing */
#define PENALTY_NS (2 * MS_NS)
#define DEAF_NS    (50 * MS_NS)  /* a word from main, and what watch_fd has to say, may wait so long ... */
#define HEARD_NS   (250 * MS_NS) /* ... and are listened to so often */

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static int64_t watch_from_ns(const struct source_input *input)
{
    int64_t rest_ns = input->source->rest_ns;
    return input->ignore_fd_until_ns > rest_ns ? input->ignore_fd_until_ns : rest_ns;
}

/* When a source has to be called at the latest. */
static int64_t latest_ns(const struct source *source)
{
    return source->wake_ns == INT64_MAX ? INT64_MAX : source->wake_ns + source->slack_ns;
}

/* Waking up costs far more than looking at a ring. Where others are due within half a millisecond, all wait for the last
 * of them: of 16 rings, 1000 wake-ups a second instead of 1700. */
static int64_t gather(const struct source_input *inputs, unsigned count, int64_t wake_ns)
{
    int64_t together_ns = wake_ns;
    for (unsigned i = 0; i < count; i++) {
        int64_t due_ns = inputs[i].source->wake_ns;
        if (due_ns > together_ns && due_ns - wake_ns <= GATHER_NS)
            together_ns = due_ns;
    }
    return together_ns;
}

bool source_wait(struct source_wait *wait, struct source_input *inputs, unsigned count, int wake_fd, int64_t wake_ns,
                 bool more)
{
    struct pollfd fds[2 * SOURCE_THREAD_SOURCES_MAX + 1];
    bool *marks[2 * SOURCE_THREAD_SOURCES_MAX + 1];
    nfds_t watched = 0;
    fds[watched++] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    int64_t now_ns = clock_ns();
    bool deaf = !more && now_ns - wait->heard_ns < HEARD_NS;
    for (unsigned i = 0; i < count; i++) {
        struct source_input *input = &inputs[i];
        int64_t watch_ns = watch_from_ns(input);
        bool ignore = input->source->fd < 0 || now_ns < watch_ns;
        input->readable = false;
        if (!ignore) {
            deaf = false;
            marks[watched] = &input->readable;
            fds[watched++] = (struct pollfd){.fd = input->source->fd, .events = POLLIN};
        }
        if (input->source->fd >= 0 && ignore && watch_ns < wake_ns)
            wake_ns = watch_ns;
        if (latest_ns(input->source) < wake_ns)
            wake_ns = latest_ns(input->source);
        if (input->source->watch_fd > 0) {
            input->source->watch_ready = false;
            marks[watched] = &input->source->watch_ready;
            fds[watched++] = (struct pollfd){.fd = input->source->watch_fd, .events = POLLIN};
        }
    }

    wake_ns = gather(inputs, count, wake_ns);
    int64_t left_ns = wake_ns - now_ns < MIN_NS ? MIN_NS : wake_ns - now_ns;
    if (more)
        left_ns = 0;
    struct timespec timeout = {.tv_sec = left_ns / SECOND_NS, .tv_nsec = left_ns % SECOND_NS};
    int ready = 0;
    if (deaf && left_ns <= DEAF_NS) { /* sleeping takes a sixth less time than polling */
        clock_nanosleep(CLOCK_MONOTONIC, 0, &timeout, NULL);
    } else {
        ready = ppoll(fds, watched, wake_ns == INT64_MAX && !more ? NULL : &timeout, NULL);
        wait->heard_ns = now_ns;
    }
    int64_t after_ns = clock_ns();
    if (after_ns - now_ns >= MIN_NS) {
        wait->awake_since_ns = after_ns;
    } else if (after_ns - wait->awake_since_ns > BUSY_NS) {
        struct timespec nap = {.tv_nsec = NAP_NS};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
        wait->awake_since_ns = clock_ns();
    }
    for (nfds_t i = 1; i < watched && ready > 0; i++)
        *marks[i] = fds[i].revents != 0;
    return ready > 0 && fds[0].revents;
}

bool source_input_due(const struct source_input *input, int64_t now_ns)
{
    const struct source *source = input->source;
    return input->more || input->readable || source->watch_ready || source->wake_ns <= now_ns ||
           (source->rest_ns > 0 && source->rest_ns <= now_ns);
}

void source_input_ran(struct source_input *input, bool blocks, int64_t now_ns)
{
    input->fruitless = input->readable && !blocks ? input->fruitless + 1 : 0;
    if (input->fruitless >= FRUITLESS) {
        input->ignore_fd_until_ns = now_ns + PENALTY_NS;
        input->fruitless = FRUITLESS - 1;
    }
}
