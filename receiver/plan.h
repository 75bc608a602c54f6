/* SPDX-License-Identifier: MIT
 *
 * Who plays what: from configurations to the sources they need, and from a sender to the configuration that plays it.
 * Configurations that share port, group and interface share a source. `from` claims senders; one without `from` gets
 * all that nobody claims; where there is none, they are ignored. [main]
 */
#ifndef EARSHOT_PLAN_H
#define EARSHOT_PLAN_H

#include "receiver/config.h"
#include "receiver/source.h"

#define PLAN_SOURCES_MAX 64

struct plan_source {
    struct config *config; /* the first one that asks for it, and says where it is */
    enum source_kind kind;
    struct source_senders senders;
};

struct plan_player {
    struct config *config;
    unsigned source; /* of the plan */
};

/* Holds a reference to each configuration. */
struct plan {
    struct plan_player players[CONFIGS_MAX];
    unsigned player_count;
    struct plan_source sources[PLAN_SOURCES_MAX];
    unsigned source_count;
};

/* What contradicts an earlier configuration is left out, and said in a line; one of the same name is played, and said. */
void plan_make(struct plan *plan, const struct config_set *set, const struct log *log);
void plan_free(struct plan *plan);

/* Are they the same ring, or the same port, group and interface? */
bool plan_same_source(const struct config *a, const struct config *b);

/* The source of `plan` that is the same; -1: none. */
int plan_find_source(const struct plan *plan, const struct config *config);

/* Who plays this sender of plan->sources[source]; NULL: nobody. */
struct config *plan_find_player(const struct plan *plan, unsigned source, uint64_t sender);

#endif
