/* SPDX-License-Identifier: MIT
 *
 * From the guest's log to the time each delivery's first frame is in the monitor, and which of it the machine's own
 * stalls excuse. Pure but for the two that read files.
 */
#ifndef EARSHOT_LATENCY_H
#define EARSHOT_LATENCY_H

#include "tests/integration/track.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line of `earshot guest --log`: "first_frame monotonic_ns frames". */
struct delivery {
    uint64_t first;
    int64_t published_ns;
    uint64_t frames;
};

struct deliveries {
    struct delivery *items;
    size_t count, capacity;
};

/* A time in which the machine did not run what was due. */
struct stall {
    int64_t from_ns, to_ns;
};

struct stalls {
    struct stall *items;
    size_t count, capacity;
};

struct latency_point {
    int64_t published_ns, heard_ns;
    bool judged; /* no stall near */
};

struct latencies {
    struct latency_point *points;
    size_t count;
};

/* Lines that start with # are comments; a last line without its end is left out. -errno, -EBADMSG, -ENOMEM. */
int deliveries_load(struct deliveries *deliveries, const char *path);
int deliveries_add(struct deliveries *deliveries, const struct delivery *delivery);
void deliveries_free(struct deliveries *deliveries);

/* "from_ns to_ns ..." a line; only those at least `least_ns` long. Adds to what is there. */
int stalls_load(struct stalls *stalls, const char *path, int64_t least_ns);
int stalls_add(struct stalls *stalls, int64_t from_ns, int64_t to_ns);
void stalls_free(struct stalls *stalls);

/* Adds a stall for each delivery more than `late_ns` later than the guest's clock (rate) has it; whatever is
 * earliest nearby is taken for in time. -ENOMEM. */
int stalls_of_guest(struct stalls *stalls, const struct deliveries *deliveries, double rate, int64_t late_ns);

/* Does a stall, made longer by these, touch [from_ns, to_ns]? */
bool stalls_near(const struct stalls *stalls, int64_t from_ns, int64_t to_ns, int64_t before_ns, int64_t after_ns);

/* Turns the track's positions, segment by segment, into the guest's frame numbers: the latency is within half a
 * period of the tone around expected_ns. Then finds every delivery's first frame in it. -ENOMEM. */
int latency_measure(struct latencies *latencies, struct track *track, const struct deliveries *deliveries,
                    const struct stalls *stalls, int64_t expected_ns);
void latencies_free(struct latencies *latencies);

struct latency_summary {
    size_t count;
    double median_ms, p1_ms, p99_ms, min_ms, max_ms;
    double trend_ms_per_min; /* least squares */
};

/* Of those published in [from_ns, to_ns); judged_only leaves out what is near a stall. -ENOMEM. */
int latency_summarise(struct latency_summary *summary, const struct latencies *latencies, int64_t from_ns,
                      int64_t to_ns, bool judged_only);

#endif
