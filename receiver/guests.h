/* SPDX-License-Identifier: MIT
 *
 * The senders that are heard, each with a stream of its own, as the configuration that plays it says. [main]
 */
#ifndef EARSHOT_GUESTS_H
#define EARSHOT_GUESTS_H

#include "receiver/outputs.h"
#include "receiver/realtime.h"
#include "receiver/sources.h"
#include "receiver/stream.h"

struct guests;

/* outputs may be NULL: nothing is played (-o raw). The rest is borrowed, too. -ENOMEM. */
int guests_create(struct guests **guests, struct outputs *outputs, struct sources *sources, struct realtime *realtime,
                  const struct log *log);

/* After sources_stop(). NULL is fine. */
void guests_destroy(struct guests *guests);

/* From now on this plan, which is borrowed until the next one. Who is played by the same configuration as before plays
 * on; the others fade within fade_ns and begin anew. -ENOMEM: not all can be played. After sources_apply(). */
int guests_apply(struct guests *guests, const struct plan *plan, int64_t now_ns, int64_t fade_ns);

void guests_event(struct guests *guests, const struct source_event *event, int64_t now_ns);

/* Does what is due. Returns when to call again. */
int64_t guests_run(struct guests *guests, int64_t now_ns);

/* `key` = `value` for the stream of that name, as options_tune() has it, until the stream ends. *file: the configuration
 * file that would keep it, "" for the command line; valid until the next plan. 0, -ENOENT (no stream is called so),
 * -EAGAIN (it has not been heard yet) or -EINVAL, each with a line in `error`. */
int guests_tune(struct guests *guests, const char *name, const char *key, const char *value, int64_t now_ns,
                const char **file, char error[OPTABLE_ERROR_MAX]);

/* Fades all out for good. */
void guests_fade(struct guests *guests);
bool guests_silent(const struct guests *guests);

/* How many are heard. */
unsigned guests_count(const struct guests *guests);

/* Copies what all streams do, and a line for each configuration that has none. */
unsigned guests_collect(const struct guests *guests, struct stream_status *streams, unsigned max);

#endif
