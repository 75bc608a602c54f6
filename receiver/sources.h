/* SPDX-License-Identifier: MIT
 *
 * The sources that a plan needs, alive: locked, opened, run by one thread, told about in lines, and taken out when a
 * later plan does not need them any more. Those that it still needs are left alone. [main]
 */
#ifndef EARSHOT_SOURCES_H
#define EARSHOT_SOURCES_H

#include "receiver/plan.h"
#include "receiver/source_thread.h"

struct sources;

struct sources_params {
    const struct source_sink *sink; /* of -o raw, or NULL */
    bool quiet;                     /* say nothing of what is waited for */
    const struct log *log;
};

/* -ENOMEM, -errno. */
int sources_create(struct sources **sources, const struct sources_params *params);

/* -errno of starting the thread. */
int sources_start(struct sources *sources);

/* Ends the thread: from here on no feed is written. */
void sources_stop(struct sources *sources);
void sources_destroy(struct sources *sources); /* NULL is fine */

/* From now on these. What goes is given `fade_ns` to fall silent; what is new comes after that, as it may want the same
 * port. -ENOMEM: some sources are missing. */
int sources_apply(struct sources *sources, const struct plan *plan, int64_t now_ns, int64_t fade_ns);

/* Opens, retries, removes and says what is due. Returns when to call again. */
int64_t sources_run(struct sources *sources, int64_t now_ns);

/* As source_thread's; what is about sources alone is taken care of here and not returned. */
int sources_fd(const struct sources *sources);
pid_t sources_tid(const struct sources *sources);
int sources_next_event(struct sources *sources, struct source_event *event);
void sources_forget(struct sources *sources, unsigned source, uint64_t sender);

struct source_view {
    enum source_kind kind;
    const char *where;                  /* the file, or the group and port */
    const struct source_status *status; /* NULL: none yet */
    const struct source_counters *counters;
    int plan; /* index of the plan's source; -1: not in it any more */
};

/* What an event's source is. False: unknown. */
bool sources_get(const struct sources *sources, unsigned source, struct source_view *view);

/* The one of the plan's source. False: there is none. */
bool sources_of_plan(const struct sources *sources, unsigned plan_source, struct source_view *view);

/* What the first one that waits for something waits for, or NULL. */
const char *sources_waiting(const struct sources *sources);

/* Has anything been said about one? */
bool sources_told(const struct sources *sources);

#endif
