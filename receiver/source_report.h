/* SPDX-License-Identifier: MIT
 *
 * What a source counts, as lines for people: strangers and garbage once, losses now and then, each with what to do
 * about it. Time comes in as an argument. [main]
 */
#ifndef EARSHOT_SOURCE_REPORT_H
#define EARSHOT_SOURCE_REPORT_H

#include "receiver/log.h"
#include "receiver/source.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: nothing has happened and nothing has been said. */
struct source_report {
    struct source_counters counters; /* the latest, set by who gets them */
    bool rejected_told, ignored_told, fragments_told, buffer_told;
    uint32_t unjoined_told;
    uint64_t lost_told;
    int64_t lost_told_ns, lost_gap_ns;
};

/* Says what is new, and what is due. `where` begins each line. Returns when to call again; INT64_MAX: when the
 * counters change. */
int64_t source_report_run(struct source_report *report, const char *where, const struct log *log, int64_t now_ns);

#endif
