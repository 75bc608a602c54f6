/* SPDX-License-Identifier: MIT
 *
 * Real-time scheduling for the threads that read sources. [main]
 */
#ifndef EARSHOT_REALTIME_H
#define EARSHOT_REALTIME_H

#include "receiver/log.h"

#include <sys/types.h>

#include <systemd/sd-event.h>

struct realtime;

/* Asks for SCHED_FIFO for thread `tid` of this process: directly, else from rtkit over the system bus, whose answer
 * arrives through `event`. Never waits. Where neither grants it the thread keeps its scheduling, and a line with -v
 * says so. *realtime may be set to NULL: there is nothing to wait for. -ENOMEM. */
int realtime_request(struct realtime **realtime, sd_event *event, pid_t tid, const struct log *log);

/* Forgets a request under way; NULL is fine. */
void realtime_free(struct realtime *realtime);

#endif
