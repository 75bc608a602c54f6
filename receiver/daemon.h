/* SPDX-License-Identifier: MIT
 *
 * `earshot run`: the event loop, and everything that lives in it. [main]
 */
#ifndef EARSHOT_DAEMON_H
#define EARSHOT_DAEMON_H

#include "receiver/log.h"
#include "receiver/options.h"
#include "receiver/stream.h"

#include <stdint.h>

struct daemon;

/* For who runs a daemon for a purpose of his own. */
struct daemon_hooks {
    void (*tick)(void *arg, struct daemon *daemon); /* every tick_ns, from the loop */
    void *arg;
    int64_t tick_ns;
    int64_t run_ns; /* ends by itself after that; 0: never */
};

/* Blocks the signals that the loop takes and ignores SIGPIPE: before any thread exists. 0 or -errno. */
int daemon_block_signals(void);

/* Plays until SIGINT, SIGTERM, or the reader of `-o raw` leaves. A source or server that is missing is waited for.
 * hooks may be NULL. 0, or -errno where it cannot run at all, said in a line. */
int daemon_run(const struct options *options, const struct log *log, const struct daemon_hooks *hooks);

/* For hooks: a copy of what all streams do (and of sources without one); ends the loop. */
unsigned daemon_collect(const struct daemon *daemon, struct stream_status *streams, unsigned max);
void daemon_stop(struct daemon *daemon);

#endif
