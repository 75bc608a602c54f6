/* SPDX-License-Identifier: MIT */
#include "receiver/realtime.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

/* Above the desktop's ordinary threads, below the sound server's own (88 for PipeWire, 20 for its clients). */
#define PRIORITY        15
#define RTTIME_USEC     100000 /* rtkit's usual limit is 200 ms; source threads sleep far more often */
#define REPLY_WAIT_USEC 5000000

struct realtime {
    sd_bus *bus;
    sd_bus_slot *slot;
    const struct log *log;
};

void realtime_free(struct realtime *realtime)
{
    if (!realtime)
        return;
    sd_bus_slot_unref(realtime->slot);
    sd_bus_close_unref(realtime->bus);
    free(realtime);
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct realtime *realtime = userdata;
    const sd_bus_error *failure = sd_bus_message_get_error(reply);
    if (failure)
        log_line(realtime->log, LOG_LEVEL_DEBUG, "No real-time priority: %s.",
                 failure->message ? failure->message : failure->name);
    else
        log_line(realtime->log, LOG_LEVEL_DEBUG, "Real-time priority %d from rtkit.", PRIORITY);
    sd_bus_close(sd_bus_message_get_bus(reply));
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

int realtime_request(struct realtime **realtime, sd_event *event, pid_t tid, const struct log *log)
{
    *realtime = NULL;
    struct sched_param param = {.sched_priority = PRIORITY};
    if (sched_setscheduler(tid, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) == 0) {
        log_line(log, LOG_LEVEL_DEBUG, "Real-time priority %d.", PRIORITY);
        return 0;
    }

    struct realtime *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->log = log;
    limit_realtime();
    int e = sd_bus_open_system_with_description(&r->bus, "rtkit");
    if (e >= 0)
        e = sd_bus_set_method_call_timeout(r->bus, REPLY_WAIT_USEC);
    if (e >= 0)
        e = sd_bus_call_method_async(r->bus, &r->slot, "org.freedesktop.RealtimeKit1",
                                     "/org/freedesktop/RealtimeKit1", "org.freedesktop.RealtimeKit1",
                                     "MakeThreadRealtimeWithPID", on_reply, r, "ttu", (uint64_t)getpid(),
                                     (uint64_t)tid, (uint32_t)PRIORITY);
    if (e >= 0)
        e = sd_bus_attach_event(r->bus, event, SD_EVENT_PRIORITY_IDLE);
    if (e < 0) {
        log_line(log, LOG_LEVEL_DEBUG, "No real-time priority: %s.", strerror(-e));
        realtime_free(r);
        return 0;
    }
    *realtime = r;
    return 0;
}
