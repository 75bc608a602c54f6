/* SPDX-License-Identifier: MIT
 *
 * Real-time scheduling for threads of this process that no sound server has given it to. [main]
 */
#ifndef EARSHOT_REALTIME_H
#define EARSHOT_REALTIME_H

#include "receiver/log.h"

#include <sys/types.h>

#include <systemd/sd-event.h>

enum realtime_use {
    REALTIME_SOURCE, /* reads guests: without it all is well but on a busy machine */
    REALTIME_DEVICE, /* writes to a device: without it expect drop-outs */
};

struct realtime;

/* `event` and `log` are borrowed. -ENOMEM. */
int realtime_create(struct realtime **realtime, sd_event *event, const struct log *log);

/* Asks for SCHED_FIFO for thread `tid`: directly, else from rtkit over the system bus, whose answer arrives through
 * the event loop. Never waits. Where neither grants it the thread keeps its scheduling: for a device's thread one line
 * says so, once, for a source's one with -v. */
void realtime_request(struct realtime *realtime, pid_t tid, enum realtime_use use);

/* Forgets requests under way; NULL is fine. */
void realtime_free(struct realtime *realtime);

#endif
