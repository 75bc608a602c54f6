/* SPDX-License-Identifier: MIT
 *
 * earshot-stalls: a real-time ticker on each core that logs its own lateness. What it cannot do in time nobody could:
 * a glitch near one of its entries is the machine's, not the program's.
 *
 * With a niceness the tickers are ordinary threads of that niceness: what they cannot do in time, a sound server that
 * has no real-time priority could not either. Both may write into one file.
 *
 * One line for each tick more than 1 ms late: "due_ns woke_ns cpu", CLOCK_MONOTONIC. Runs until SIGTERM.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS  INT64_C(1000000)
#define LATE_NS  INT64_C(1000000)
#define CPUS_MAX 64
#define PRIORITY 95 /* above the sound server's 88 */

struct ticker {
    pthread_t thread;
    int cpu;
    FILE *log; /* shared: stdio locks it */
    const atomic_bool *ended;
    const char *nice; /* ordinary threads; or NULL */
    int error;        /* of asking for SCHED_FIFO */
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void *ticker_run(void *arg)
{
    struct ticker *ticker = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)ticker->cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    if (ticker->nice)
        ticker->error = setpriority(PRIO_PROCESS, (id_t)gettid(), atoi(ticker->nice)) == 0 ? 0 : errno;
    else
        ticker->error = pthread_setschedparam(pthread_self(), SCHED_FIFO, &(struct sched_param){PRIORITY});
    prctl(PR_SET_TIMERSLACK, 1UL);

    int64_t due = now_ns() + TICK_NS;
    while (!atomic_load(ticker->ended)) {
        struct timespec until = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        int64_t woke = now_ns();
        if (woke - due > LATE_NS) {
            fprintf(ticker->log, "%" PRId64 " %" PRId64 " %d\n", due, woke, ticker->cpu);
            due = woke;
        }
        due += TICK_NS;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct ticker tickers[CPUS_MAX];
    if ((argc != 2 && argc != 3) || argv[1][0] == '-') {
        fputs("Usage: earshot-stalls FILE [NICENESS]\n", stderr);
        return 2;
    }
    FILE *log = fopen(argv[1], "ae");
    cpu_set_t allowed;
    if (!log || sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        fprintf(stderr, "earshot-stalls: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    setvbuf(log, NULL, _IOLBF, 4096);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    atomic_bool ended = false;
    int count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < CPUS_MAX; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &allowed))
            continue;
        tickers[count] = (struct ticker){.cpu = cpu, .log = log, .ended = &ended, .nice = argc == 3 ? argv[2] : NULL};
        if (pthread_create(&tickers[count].thread, NULL, ticker_run, &tickers[count]) == 0)
            count++;
    }
    int number;
    sigwait(&signals, &number);
    atomic_store(&ended, true);
    for (int i = 0; i < count; i++) {
        pthread_join(tickers[i].thread, NULL);
        if (tickers[i].error)
            fprintf(stderr, "earshot-stalls: cpu %d: no such priority: %s\n", tickers[i].cpu,
                    strerror(tickers[i].error));
    }
    return fclose(log) == 0 && count > 0 ? 0 : 1;
}
