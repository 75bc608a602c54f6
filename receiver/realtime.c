/* SPDX-License-Identifier: MIT */
#include "receiver/realtime.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#define RTTIME_USEC     100000 /* rtkit's usual limit is 200 ms; our threads sleep far more often */
#define REPLY_WAIT_USEC 5000000

/* Above the desktop's ordinary threads, below the sound server's own (88 for PipeWire, 20 for its clients). rtkit gives
 * 20 at most. */
static const int priorities[] = {[REALTIME_SOURCE] = 15, [REALTIME_DEVICE] = 20};

struct realtime {
    sd_event *event;
    const struct log *log;
    sd_bus *bus;       /* once it was needed */
    bool device_asked; /* a refusal is worth a line ... */
    bool told;         /* ... once */
};

int realtime_create(struct realtime **realtime, sd_event *event, const struct log *log)
{
    struct realtime *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->event = event;
    r->log = log;
    *realtime = r;
    return 0;
}

void realtime_free(struct realtime *realtime)
{
    if (!realtime)
        return;
    sd_bus_close_unref(realtime->bus);
    free(realtime);
}

static void tell_refused(struct realtime *realtime, const char *reason)
{
    const bool warn = realtime->device_asked && !realtime->told;
    realtime->told = realtime->told || realtime->device_asked;
    if (warn)
        log_line(
            realtime->log, LOG_LEVEL_WARNING,
            "No real-time priority for playing (%s): expect drop-outs when the computer is busy. Installing rtkit "
            "helps, or an rtprio limit for your user.",
            reason);
    else
        log_line(realtime->log, LOG_LEVEL_DEBUG, "No real-time priority: %s.", reason);
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct realtime *realtime = userdata;
    const sd_bus_error *failure = sd_bus_message_get_error(reply);
    if (failure)
        tell_refused(realtime, failure->message ? failure->message : failure->name);
    else
        log_line(realtime->log, LOG_LEVEL_DEBUG, "Real-time priority from rtkit.");
    return 0;
}

/* A thread that runs this long without sleeping is stopped by the kernel: the price of real time, asked by rtkit. */
static void limit_realtime(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_RTTIME, &limit) < 0)
        return;
    if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > 2 * RTTIME_USEC)
        limit.rlim_max = 2 * RTTIME_USEC;
    limit.rlim_cur = limit.rlim_max < RTTIME_USEC ? limit.rlim_max : RTTIME_USEC;
    setrlimit(RLIMIT_RTTIME, &limit);
}

static int connect_bus(struct realtime *realtime)
{
    if (realtime->bus && sd_bus_is_open(realtime->bus) > 0)
        return 0;
    sd_bus_close_unref(realtime->bus);
    realtime->bus = NULL;
    int e = sd_bus_open_system_with_description(&realtime->bus, "rtkit");
    if (e >= 0)
        e = sd_bus_set_method_call_timeout(realtime->bus, REPLY_WAIT_USEC);
    if (e >= 0)
        e = sd_bus_attach_event(realtime->bus, realtime->event, SD_EVENT_PRIORITY_IDLE);
    return e;
}

void realtime_request(struct realtime *realtime, pid_t tid, enum realtime_use use)
{
    struct sched_param param = {.sched_priority = priorities[use]};
    if (sched_setscheduler(tid, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) == 0) {
        log_line(realtime->log, LOG_LEVEL_DEBUG, "Real-time priority %d.", priorities[use]);
        return;
    }
    realtime->device_asked = realtime->device_asked || use == REALTIME_DEVICE;
    limit_realtime();
    int e = connect_bus(realtime);
    if (e >= 0)
        e = sd_bus_call_method_async(realtime->bus, NULL, "org.freedesktop.RealtimeKit1",
                                     "/org/freedesktop/RealtimeKit1", "org.freedesktop.RealtimeKit1",
                                     "MakeThreadRealtimeWithPID", on_reply, realtime, "ttu", (uint64_t)getpid(),
                                     (uint64_t)tid, (uint32_t)priorities[use]);
    if (e < 0)
        tell_refused(realtime, strerror(-e));
}
