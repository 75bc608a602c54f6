/* SPDX-License-Identifier: MIT */
#include "tests/rt_trap.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/lib-names.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* <linux/prctl.h> of 5.11, also where the headers are older than the kernel. */
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON           1
#endif

/* 1: in a pull. The kernel reads it at each system call of the thread. */
static _Thread_local volatile char in_pull;

/* ---- the end ---- */

/* No printf: that would allocate. */
static void say(const char *text)
{
    syscall(SYS_write, 2, text, strlen(text));
}

static _Noreturn void end(const char *name, const char *which)
{
    in_pull = 0;
    say("called within pull: ");
    say(name);
    say(which);
    say("\n");
    for (;;)
        syscall(SYS_exit_group, RT_TRAP_STATUS);
}

static void trap(const char *name)
{
    if (in_pull)
        end(name, "");
}

static void on_system_call(int signal, siginfo_t *info, void *context)
{
    char text[16] = {0};
    char *digit = text + sizeof text - 1;
    (void)signal;
    (void)context;
    for (int number = info->si_syscall; number > 0; number /= 10)
        *--digit = (char)('0' + number % 10);
    *--digit = ' ';
    end(RT_TRAP_SYSTEM_CALL, digit);
}

/* ---- the pull ---- */

static bool watch_system_calls(void)
{
    struct sigaction action = {.sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    sigaction(SIGSYS, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0L, 0L, &in_pull) == 0;
}

void rt_trap_enter(void)
{
    static _Thread_local bool begun;
    if (!begun) {
        begun = true;
        watch_system_calls();
    }
    in_pull = 1;
}

void rt_trap_leave(void)
{
    in_pull = 0;
}

bool rt_trap_sees_system_calls(void)
{
    return watch_system_calls();
}

/* ---- what stands before the library's ---- */

/* glibc's own names for its allocator; dlsym itself may allocate. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
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

void *aligned_alloc(size_t alignment, size_t size)
{
    trap("aligned_alloc");
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    trap("posix_memalign");
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
        return EINVAL;
    void *new = __libc_memalign(alignment, size);
    if (!new)
        return ENOMEM;
    *memory = new;
    return 0;
}

void free(void *old)
{
    trap("free");
    __libc_free(old);
}

/* The C library's own. Not RTLD_NEXT, which finds condition variables of another layout in a glibc before 2.36. */
static void *next_symbol(_Atomic(void *) *symbol, const char *name)
{
    void *found = atomic_load_explicit(symbol, memory_order_relaxed);
    if (!found) {
        found = dlsym(dlopen(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD), name);
        atomic_store_explicit(symbol, found, memory_order_relaxed);
    }
    return found;
}

/* ISO C knows no conversion from dlsym()'s object pointer to a function's. */
#define WRAP(type, name, parameters, arguments)                                                                      \
    type name parameters                                                                                             \
    {                                                                                                                \
        static _Atomic(void *) symbol;                                                                               \
        type(*next) parameters;                                                                                      \
        trap(#name);                                                                                                 \
        memcpy(&next, &(void *){next_symbol(&symbol, #name)}, sizeof next);                                          \
        return next arguments;                                                                                       \
    }

WRAP(int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
WRAP(int, pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
WRAP(int, pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
WRAP(int, pthread_cond_signal, (pthread_cond_t * cond), (cond))
WRAP(int, pthread_cond_broadcast, (pthread_cond_t * cond), (cond))
WRAP(int, sem_wait, (sem_t * semaphore), (semaphore))
WRAP(int, sem_post, (sem_t * semaphore), (semaphore))
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
WRAP(int, nanosleep, (const struct timespec *time, struct timespec *rest), (time, rest))
WRAP(int, clock_nanosleep, (clockid_t clock, int flags, const struct timespec *time, struct timespec *rest),
     (clock, flags, time, rest))
WRAP(int, poll, (struct pollfd * fds, nfds_t count, int timeout_ms), (fds, count, timeout_ms))

/* ---- calling them ---- */

/* Or the compiler would see that nobody needs the memory. Freed past the trap: this is about one call each. */
static void give_back(void *volatile memory)
{
    __libc_free(memory);
}

static void call_system(void)
{
    syscall(SYS_getppid);
}

static void call_malloc(void)
{
    give_back(malloc(10));
}

static void call_calloc(void)
{
    give_back(calloc(10, 10));
}

static void call_realloc(void)
{
    give_back(realloc(NULL, 10));
}

static void call_aligned_alloc(void)
{
    give_back(aligned_alloc(64, 64));
}

static void call_posix_memalign(void)
{
    void *memory;
    if (posix_memalign(&memory, 64, 64) == 0)
        give_back(memory);
}

static void call_free(void)
{
    free(__libc_malloc(10));
}

static void call_mutex(void)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
}

static void call_rdlock(void)
{
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    pthread_rwlock_rdlock(&lock);
}

static void call_wrlock(void)
{
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    pthread_rwlock_wrlock(&lock);
}

static void call_signal(void)
{
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    pthread_cond_signal(&cond);
}

static void call_broadcast(void)
{
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    pthread_cond_broadcast(&cond);
}

static void call_sem_wait(void)
{
    sem_t semaphore;
    sem_init(&semaphore, 0, 1);
    sem_wait(&semaphore);
}

static void call_sem_post(void)
{
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    sem_post(&semaphore);
}

static void call_write(void)
{
    if (write(2, "", 0) != 0)
        abort();
}

static void call_read(void)
{
    if (read(-1, NULL, 0) == 0)
        abort();
}

static void call_nanosleep(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1}, NULL);
}

static void call_clock_nanosleep(void)
{
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 1}, NULL);
}

static void call_poll(void)
{
    poll(NULL, 0, 0);
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {
    {RT_TRAP_SYSTEM_CALL,      call_system         },
    {"malloc",                 call_malloc         },
    {"calloc",                 call_calloc         },
    {"realloc",                call_realloc        },
    {"aligned_alloc",          call_aligned_alloc  },
    {"posix_memalign",         call_posix_memalign },
    {"free",                   call_free           },
    {"pthread_mutex_lock",     call_mutex          },
    {"pthread_rwlock_rdlock",  call_rdlock         },
    {"pthread_rwlock_wrlock",  call_wrlock         },
    {"pthread_cond_signal",    call_signal         },
    {"pthread_cond_broadcast", call_broadcast      },
    {"sem_wait",               call_sem_wait       },
    {"sem_post",               call_sem_post       },
    {"write",                  call_write          },
    {"read",                   call_read           },
    {"nanosleep",              call_nanosleep      },
    {"clock_nanosleep",        call_clock_nanosleep},
    {"poll",                   call_poll           },
};

const char *rt_trap_name(unsigned call)
{
    return call < sizeof calls / sizeof calls[0] ? calls[call].name : NULL;
}

bool rt_trap_call(const char *name)
{
    for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            calls[i].call();
            return true;
        }
    }
    return false;
}
