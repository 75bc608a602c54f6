/* SPDX-License-Identifier: MIT */
#include "receiver/plan.h"

#include <arpa/inet.h>
#include <string.h>

static enum source_kind kind_of(const struct options *options)
{
    return options->source == FROM_SHM ? SOURCE_SHM : options->source == FROM_PCAP ? SOURCE_PCAP : SOURCE_UDP;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

bool plan_same_source(const struct config *a, const struct config *b)
{
    const struct options *x = &a->options, *y = &b->options;
    if (x->source != y->source)
        return false;
    if (x->source == FROM_SHM)
        return !strcmp(x->shm_path, y->shm_path);
    return x->port == y->port && same_text(x->interface, y->interface) &&
           (x->source != FROM_MULTICAST || !strcmp(x->group, y->group));
}

int plan_find_source(const struct plan *plan, const struct config *config)
{
    for (unsigned i = 0; i < plan->source_count; i++) {
        if (plan_same_source(plan->sources[i].config, config))
            return (int)i;
    }
    return -1;
}

static const char *title(const struct config *config)
{
    return *config->path ? config->path : "the command line";
}

static bool claims(const struct config *config, uint64_t sender)
{
    for (unsigned i = 0; i < config->options.from_count; i++) {
        if (config->options.from[i] == sender)
            return true;
    }
    return false;
}

/* The earlier configuration that claims this sender of the source, or all that nobody else does. */
static const struct config *find_claim(const struct plan *plan, unsigned source, bool others, uint64_t sender)
{
    for (unsigned i = 0; i < plan->player_count; i++) {
        const struct plan_player *player = &plan->players[i];
        if (player->source == source &&
            (others ? player->config->options.from_count == 0 : claims(player->config, sender)))
            return player->config;
    }
    return NULL;
}

static void claim(struct plan *plan, unsigned source, const struct config *config, const struct log *log)
{
    struct source_senders *senders = &plan->sources[source].senders;
    for (unsigned i = 0; i < config->options.from_count; i++) {
        uint32_t address = config->options.from[i];
        const struct config *other = find_claim(plan, source, false, address);
        char text[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &address, text, sizeof(text));
        if (other)
            log_line(log, LOG_LEVEL_WARNING, "%s: from = %s: %s has that one already.", title(config), text,
                     title(other));
        else if (senders->count == SOURCE_SENDERS_MAX)
            log_line(log, LOG_LEVEL_WARNING, "%s: from = %s: left out, %d is the most for one port.", title(config),
                     text, SOURCE_SENDERS_MAX);
        else
            senders->from[senders->count++] = address;
    }
    senders->others = senders->others || config->options.from_count == 0;
}

/* One port cannot be had twice, unless each listens to an address of its own. */
static void warn_port(const struct plan *plan, const struct config *config, const struct log *log)
{
    const struct options *options = &config->options;
    for (unsigned i = 0; i < plan->source_count; i++) {
        const struct options *other = &plan->sources[i].config->options;
        bool apart = options->source == FROM_UNICAST && other->source == FROM_UNICAST && options->interface &&
                     other->interface;
        if (plan->sources[i].kind != SOURCE_UDP || options->port != other->port || apart)
            continue;
        log_line(log, LOG_LEVEL_WARNING,
                 "%s: port %u is %s's, which listens elsewhere: make their interface, group and unicast the same, or "
                 "choose another port.",
                 title(config), options->port, title(plan->sources[i].config));
        return;
    }
}

/* Mixers, status and tune know a stream by its name alone. Which of two gets it depends on who is heard first. */
static void warn_name(const struct plan *plan, const struct config *config, const struct log *log)
{
    const char *name = config_stream_name(config);
    for (unsigned i = 0; name && i < plan->player_count; i++) {
        const struct config *other = plan->players[i].config;
        if (!same_text(config_stream_name(other), name))
            continue;
        log_line(
            log, LOG_LEVEL_WARNING,
            "%s: is called %.100s, as %s is: give one of them another name = NAME, or they may swap names at the "
            "next start.",
            title(config), name, title(other));
        return;
    }
}

static void add(struct plan *plan, struct config *config, const struct log *log)
{
    int found = plan_find_source(plan, config);
    enum source_kind kind = kind_of(&config->options);
    const struct config *other = NULL;
    if (found >= 0 && kind == SOURCE_SHM)
        other = plan->sources[found].config;
    else if (found >= 0 && config->options.from_count == 0)
        other = find_claim(plan, (unsigned)found, true, 0);
    if (other) {
        log_line(log, LOG_LEVEL_WARNING, "%s: not played, %s plays the same%s.", title(config), title(other),
                 kind == SOURCE_SHM ? "" : ": from = ADDRESS chooses a guest");
        return;
    }
    if (found < 0 && plan->source_count == PLAN_SOURCES_MAX) {
        log_line(log, LOG_LEVEL_WARNING, "%s: not played, %d sources are the most there can be.", title(config),
                 PLAN_SOURCES_MAX);
        return;
    }
    if (found < 0) {
        if (kind == SOURCE_UDP)
            warn_port(plan, config, log);
        found = (int)plan->source_count++;
        plan->sources[found] = (struct plan_source){.config = config, .kind = kind};
    }
    claim(plan, (unsigned)found, config, log);
    warn_name(plan, config, log);
    plan->players[plan->player_count++] =
        (struct plan_player){.config = config_ref(config), .source = (unsigned)found};
}

void plan_make(struct plan *plan, const struct config_set *set, const struct log *log)
{
    *plan = (struct plan){.player_count = 0};
    for (unsigned i = 0; i < set->count; i++)
        add(plan, set->configs[i], log);
}

void plan_free(struct plan *plan)
{
    for (unsigned i = 0; i < plan->player_count; i++)
        config_unref(plan->players[i].config);
    *plan = (struct plan){.player_count = 0};
}

struct config *plan_find_player(const struct plan *plan, unsigned source, uint64_t sender)
{
    struct config *rest = NULL;
    for (unsigned i = 0; i < plan->player_count; i++) {
        const struct plan_player *player = &plan->players[i];
        if (player->source != source)
            continue;
        if (plan->sources[source].kind == SOURCE_SHM || claims(player->config, sender))
            return player->config;
        if (player->config->options.from_count == 0)
            rest = player->config;
    }
    return rest;
}
