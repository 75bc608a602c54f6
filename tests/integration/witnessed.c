/* SPDX-License-Identifier: MIT
 *
 * The program, which writes down when each pull was asked of it, into the file that EARSHOT_PULLS names (pulls.h): an
 * array in shared memory, for a pull makes no system calls. EARSHOT_PULLS_FAULT=N spoils every Nth pull with sound: it
 * is thrown away and pulled again, which is a fault of the program's and has to be found as one.
 */
#include "tests/integration/pull_wrap.h"
#include "tests/integration/pulls.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RECORDS_MAX ((size_t)1 << 18)

static struct pull_record *records;
static atomic_size_t count;
static unsigned fault_every;
static _Atomic unsigned sounding;
static _Thread_local int policy = -1;

__attribute__((constructor)) static void prepare(void)
{
    const char *path = getenv("EARSHOT_PULLS"), *fault = getenv("EARSHOT_PULLS_FAULT");
    const size_t bytes = RECORDS_MAX * sizeof *records;
    const int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        fprintf(stderr, "earshot-witnessed: EARSHOT_PULLS=%s: %s\n", path ? path : "", strerror(errno));
        _exit(2);
    }
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    records = mapped == MAP_FAILED ? NULL : mapped;
    fault_every = fault ? (unsigned)atoi(fault) : 0;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void pull_wrapped(pull_function *pull, void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    const int64_t entered_ns = now_ns();
    if (policy < 0)
        policy = sched_getscheduler(0);
    pull(arg, dst, frames, time);
    if (fault_every && frames > 0 && dst[0] != 0.0f &&
        atomic_fetch_add(&sounding, 1) % fault_every == fault_every - 1)
        pull(arg, dst, frames, time);
    const size_t at = atomic_fetch_add(&count, 1);
    if (!records || at >= RECORDS_MAX)
        return;
    const int scheduled = policy & ~SCHED_RESET_ON_FORK;
    records[at] = (struct pull_record){.entered_ns = entered_ns,
                                       .left_ns = now_ns(),
                                       .cycle_ns = time->cycle_ns,
                                       .stream = (uint64_t)(uintptr_t)arg,
                                       .frames = frames,
                                       .rate = time->rate,
                                       .realtime = scheduled == SCHED_FIFO || scheduled == SCHED_RR};
}
