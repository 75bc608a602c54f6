/* SPDX-License-Identifier: MIT
 *
 * The pull allocates nothing, takes no lock and makes no system call. This program's own malloc, free, lock and the
 * rest stand before the library's; between pull's entry and its return they end the program. Built without
 * sanitizers, which have wrappers of their own.
 */
#include "backends/backend.h"
#include "receiver/playout.h"
#include "tests/unit/near.h"
#include "tests/unit/playout_rig.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRAPPED 86 /* exit status */

static _Thread_local bool in_pull;

/* No printf: that would allocate. */
static void trap(const char *name)
{
    if (!in_pull)
        return;
    syscall(SYS_write, 2, "called within pull: ", 20);
    syscall(SYS_write, 2, name, strlen(name));
    syscall(SYS_write, 2, "\n", 1);
    syscall(SYS_exit_group, TRAPPED);
}

/* --- what stands before the library's --- */

/* glibc's own names for its allocator; dlsym itself may allocate. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *old);

void *malloc(size_t size)
{
    trap("malloc");
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    trap("calloc");
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    trap("realloc");
    return __libc_realloc(old, size);
}

void free(void *old)
{
    trap("free");
    __libc_free(old);
}

/* ISO C knows no conversion from dlsym()'s object pointer to a function's. */
#define NEXT(pointer, name)                                                                                          \
    do {                                                                                                             \
        if (!(pointer)) {                                                                                            \
            void *symbol = dlsym(RTLD_NEXT, name);                                                                   \
            memcpy(&(pointer), &symbol, sizeof symbol);                                                              \
        }                                                                                                            \
    } while (0)

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static int (*next)(pthread_mutex_t *);
    trap("pthread_mutex_lock");
    NEXT(next, "pthread_mutex_lock");
    return next(mutex);
}

int pthread_cond_signal(pthread_cond_t *cond)
{
    static int (*next)(pthread_cond_t *);
    trap("pthread_cond_signal");
    NEXT(next, "pthread_cond_signal");
    return next(cond);
}

ssize_t write(int fd, const void *data, size_t size)
{
    trap("write");
    return syscall(SYS_write, fd, data, size);
}

ssize_t read(int fd, void *data, size_t size)
{
    trap("read");
    return syscall(SYS_read, fd, data, size);
}

int nanosleep(const struct timespec *time, struct timespec *rest)
{
    trap("nanosleep");
    return (int)syscall(SYS_nanosleep, time, rest);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest)
{
    trap("clock_nanosleep");
    return syscall(SYS_clock_nanosleep, clock, flags, time, rest) == 0 ? 0 : errno;
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    static int (*next)(struct pollfd *, nfds_t, int);
    trap("poll");
    NEXT(next, "poll");
    return next(fds, count, timeout_ms);
}

/* --- the tests --- */

static void trapped_pull(void *playout, float *dst, uint32_t frames, const struct pull_time *time)
{
    in_pull = true;
    playout_pull(playout, dst, frames, time);
    in_pull = false;
}

static struct rig *new_rig(enum resampler_quality quality)
{
    const struct playout_params params = {.quality = quality};
    struct rig *rig = rig_new(&params);
    rig->pull = trapped_pull;
    return rig;
}

/* The traps themselves: each of them ends a program that calls it within a pull, none outside. */
enum forbidden { MALLOC, CALLOC, REALLOC, FREE, LOCK, SIGNAL, WRITE, READ, SLEEP, CLOCK_SLEEP, POLL, FORBIDDEN };

static void call(enum forbidden what)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    const struct timespec moment = {.tv_nsec = 1};
    char byte = 0;
    void *volatile memory = NULL; /* or the compiler would see that nobody needs it */
    switch (what) {
    case MALLOC:
        memory = malloc(10);
        break;
    case CALLOC:
        memory = calloc(10, 10);
        break;
    case REALLOC:
        memory = realloc(NULL, 10);
        break;
    case FREE:
        memory = __libc_malloc(10);
        free(memory);
        memory = NULL;
        break;
    case LOCK:
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        break;
    case SIGNAL:
        pthread_cond_signal(&cond);
        break;
    case WRITE:
        assert_int_equal(write(2, &byte, 0), 0);
        break;
    case READ:
        assert_int_equal(read(0, &byte, 0), 0);
        break;
    case SLEEP:
        nanosleep(&moment, NULL);
        break;
    case CLOCK_SLEEP:
        clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
        break;
    case POLL:
        poll(NULL, 0, 0);
        break;
    case FORBIDDEN:
        break;
    }
    __libc_free(memory);
}

static void traps_work(void **state)
{
    (void)state;
    for (int what = 0; what < 2 * FORBIDDEN; what++) {
        const bool within = what >= FORBIDDEN;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            in_pull = within;
            call((enum forbidden)(what % FORBIDDEN));
            in_pull = false;
            _exit(0);
        }
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), within ? TRAPPED : 0);
    }
}

/* Everything that a stream goes through. */
static void whole_life(void **state)
{
    (void)state;
    for (int quality = RESAMPLER_FASTEST; quality <= RESAMPLER_BEST; quality++) {
        struct rig *rig = new_rig((enum resampler_quality)quality);
        rig->paused = true;
        rig_run(rig, 0.2); /* nothing yet */
        rig->paused = false;
        rig_run(rig, 15.0); /* start, and through the gears */
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        rig->stalled = true;
        rig_run(rig, 0.11); /* underrun */
        rig->stalled = false;
        rig_run(rig, 1.0);
        assert_int_equal(rig_stats(rig).underruns, 1);
        rig->guest_due_ns -= 60 * RIG_MS;
        rig_run(rig, 20.0); /* resync */
        assert_true(rig_stats(rig).resyncs > 0 || fabs(rig_trace(rig).error_s) < 2e-3);
        static const uint32_t quanta[] = {1024, 8192, 64, 1, 256};
        for (size_t i = 0; i < sizeof quanta / sizeof quanta[0]; i++) {
            rig->quantum = quanta[i];
            rig_run(rig, 0.5);
        }
        static const uint32_t rates[] = {44100, 96000, 192000, 48000};
        for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
            rig_set_rate(rig, rates[i]);
            rig_run(rig, 0.5);
            assert_int_equal(rig_stats(rig).device_rate, rates[i]);
        }
        rig->twice = true;
        rig_run(rig, 0.2);
        rig->clock_id++;
        rig->position = 0;
        rig->flags = PULL_DISCONTINUITY;
        rig_run(rig, 0.2); /* moved */
        rig->stopped = true;
        rig_run(rig, 0.3); /* an xrun */
        rig->stopped = false;
        rig_run(rig, 0.2);
        rig->keep = PULL_FREEWHEEL;
        rig_run(rig, 0.2);
        rig->keep = 0;
        playout_mute(rig->playout, true);
        rig_run(rig, 0.2);
        assert_true(playout_silent(rig->playout));
        playout_mute(rig->playout, false);
        rig->paused = true;
        rig_run(rig, 0.3);
        rig->paused = false;
        rig_run(rig, 3.0);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        const struct pull_time none = {.rate = 0};
        trapped_pull(rig->playout, rig->out, 256, &none);
        rig_free(rig);
    }
}

struct counted {
    struct playout *playout;
    _Atomic unsigned pulls;
};

static void counted_pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct counted *counted = arg;
    trapped_pull(counted->playout, dst, frames, time);
    counted->pulls++;
}

/* A real thread of a real backend, a guest that sends in real time; how well it plays is not the question. */
static void real_thread(void **state)
{
    (void)state;
    struct rig *rig = new_rig(RESAMPLER_MEDIUM);
    struct counted counted = {.playout = rig->playout};
    const struct backend *null = backend_find("null");
    assert_non_null(null);
    const struct backend_context_params context_params = {.app_name = "test", .target = "period=128", .event_fd = -1};
    struct backend_stream_params params = {
        .name = "trap",
        .description = "trap",
        .channels = 2,
        .mask = 3,
        .source_rate = 48000,
        .pull = counted_pull,
        .arg = &counted,
    };
    struct backend_context *context = NULL;
    struct backend_stream *stream = NULL;
    assert_int_equal(null->context_open(&context, &context_params), 0);
    assert_int_equal(null->open(context, &params, &stream), 0);
    assert_int_equal(null->start(stream), 0);
    const struct timespec chunk = {.tv_nsec = 20 * RIG_MS};
    memset(rig->bytes, 1, sizeof rig->bytes);
    for (int i = 0; i < 150 && (i < 50 || counted.pulls < 200); i++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        const int64_t now_ns = now.tv_sec * RIG_SECOND + now.tv_nsec;
        const struct block block = {
            .format = *feed_format(rig->feed),
            .data = rig->bytes,
            .frames = rig->chunk,
            .chunk_frames = rig->chunk,
            .arrival_ns = now_ns,
        };
        feed_write(rig->feed, &block, now_ns);
        nanosleep(&chunk, NULL);
    }
    null->stop(stream);
    assert_true(counted.pulls > 0);
    null->close(stream);
    null->context_close(context);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traps_work),
        cmocka_unit_test(whole_life),
        cmocka_unit_test(real_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
