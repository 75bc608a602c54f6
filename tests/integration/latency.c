/* SPDX-License-Identifier: MIT */
#include "tests/integration/latency.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEIGHBOURS      250       /* deliveries on each side among which the earliest is in time */
#define STALL_BEFORE_NS 5000000   /* what a stall excuses: a little before it ... */
#define LATE_LEAST_S    0.05      /* a delivery so much later than due is a pause */
#define STALL_AFTER_NS  100000000 /* ... and what follows from it */

static int grow(void **array, size_t *capacity, size_t count, size_t item)
{
    if (count < *capacity)
        return 0;
    size_t larger = *capacity ? *capacity * 2 : 256;
    void *grown = realloc(*array, larger * item);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *capacity = larger;
    return 0;
}

int deliveries_add(struct deliveries *deliveries, const struct delivery *delivery)
{
    void *items = deliveries->items;
    if (grow(&items, &deliveries->capacity, deliveries->count, sizeof *deliveries->items) != 0)
        return -ENOMEM;
    deliveries->items = items;
    deliveries->items[deliveries->count++] = *delivery;
    return 0;
}

void deliveries_free(struct deliveries *deliveries)
{
    free(deliveries->items);
    *deliveries = (struct deliveries){0};
}

int stalls_add(struct stalls *stalls, int64_t from_ns, int64_t to_ns)
{
    void *items = stalls->items;
    if (grow(&items, &stalls->capacity, stalls->count, sizeof *stalls->items) != 0)
        return -ENOMEM;
    stalls->items = items;
    stalls->items[stalls->count++] = (struct stall){from_ns, to_ns};
    return 0;
}

void stalls_free(struct stalls *stalls)
{
    free(stalls->items);
    *stalls = (struct stalls){0};
}

/* Calls `line` for each whole line that is no comment. */
static int each_line(const char *path, int (*line)(void *arg, const char *text), void *arg)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    char text[256];
    int result = 0;
    while (result == 0 && fgets(text, sizeof text, file)) {
        if (text[0] != '#' && strchr(text, '\n'))
            result = line(arg, text);
    }
    fclose(file);
    return result;
}

static int delivery_line(void *arg, const char *text)
{
    struct delivery delivery;
    if (sscanf(text, "%" SCNu64 " %" SCNd64 " %" SCNu64, &delivery.first, &delivery.published_ns, &delivery.frames) !=
        3)
        return -EBADMSG;
    return deliveries_add(arg, &delivery);
}

int deliveries_load(struct deliveries *deliveries, const char *path)
{
    *deliveries = (struct deliveries){0};
    int result = each_line(path, delivery_line, deliveries);
    if (result != 0)
        deliveries_free(deliveries);
    return result;
}

struct stall_reader {
    struct stalls *stalls;
    int64_t least_ns;
};

static int stall_line(void *arg, const char *text)
{
    const struct stall_reader *reader = arg;
    int64_t from_ns, to_ns;
    if (sscanf(text, "%" SCNd64 " %" SCNd64, &from_ns, &to_ns) != 2)
        return -EBADMSG;
    return to_ns - from_ns >= reader->least_ns ? stalls_add(reader->stalls, from_ns, to_ns) : 0;
}

int stalls_load(struct stalls *stalls, const char *path, int64_t least_ns)
{
    return each_line(path, stall_line, &(struct stall_reader){stalls, least_ns});
}

/* When its last frame was due, but for a constant. */
static int64_t offset_ns(const struct delivery *delivery, double rate)
{
    return delivery->published_ns - llround((double)(delivery->first + delivery->frames) / rate * 1e9);
}

int stalls_of_guest(struct stalls *stalls, const struct deliveries *deliveries, double rate, int64_t late_ns)
{
    for (size_t i = 0; i < deliveries->count; i++) {
        size_t from = i < NEIGHBOURS ? 0 : i - NEIGHBOURS;
        size_t to = i + NEIGHBOURS < deliveries->count ? i + NEIGHBOURS : deliveries->count - 1;
        int64_t earliest = INT64_MAX;
        for (size_t k = from; k <= to; k++) {
            int64_t offset = offset_ns(&deliveries->items[k], rate);
            if (offset < earliest)
                earliest = offset;
        }
        const struct delivery *delivery = &deliveries->items[i];
        int64_t late = offset_ns(delivery, rate) - earliest;
        if (late > late_ns && stalls_add(stalls, delivery->published_ns - late, delivery->published_ns) != 0)
            return -ENOMEM;
    }
    return 0;
}

bool stalls_near(const struct stalls *stalls, int64_t from_ns, int64_t to_ns, int64_t before_ns, int64_t after_ns)
{
    for (size_t i = 0; i < stalls->count; i++) {
        const struct stall *stall = &stalls->items[i];
        if (stall->from_ns - before_ns <= to_ns && stall->to_ns + after_ns >= from_ns)
            return true;
    }
    return false;
}

/* The guest frame that was due at a time, by the delivery before it. NAN: none there. */
static double frame_published(const struct deliveries *deliveries, double rate, int64_t at_ns)
{
    size_t low = 0, high = deliveries->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (deliveries->items[middle].published_ns <= at_ns)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NAN;
    const struct delivery *delivery = &deliveries->items[low - 1];
    double since_s = (double)(at_ns - delivery->published_ns) / 1e9;
    if (since_s > (double)delivery->frames / rate + LATE_LEAST_S)
        return NAN; /* in a pause, or the log ends here */
    /* Measured is a delivery's first frame: at its publication that one counts as due. */
    return (double)delivery->first + fmin(since_s * rate, (double)delivery->frames);
}

/* Gives the windows [begin, end) of one segment the guest's frame numbers. False where the log says nothing. */
static bool place_segment(struct track *track, const struct deliveries *deliveries, size_t begin, size_t end,
                          int64_t expected_ns)
{
    double period = track->params.source_rate / track->params.hz, due = NAN;
    /* From its end: what is heard at its start may be older than what is due. */
    size_t at = end;
    while (isnan(due) && at-- > begin)
        due = frame_published(deliveries, track->params.source_rate, track->windows[at].time_ns - expected_ns);
    if (isnan(due))
        return false;
    double shift = period * nearbyint((due - track->windows[at].position) / period);
    for (size_t i = begin; i < end; i++)
        track->windows[i].position += shift;
    return true;
}

static int64_t time_of(const struct track_window *w, double position)
{
    double part = (position - w[0].position) / (w[1].position - w[0].position);
    return w[0].time_ns + llround(part * (double)(w[1].time_ns - w[0].time_ns));
}

/* The deliveries heard in the windows [begin, end), from *next on. */
static void hear_segment(struct latencies *latencies, const struct track *track, const struct deliveries *deliveries,
                         const struct stalls *stalls, size_t begin, size_t end, size_t *next)
{
    size_t k = *next;
    for (size_t i = begin; i + 1 < end; i++) {
        const struct track_window *w = &track->windows[i];
        while (k < deliveries->count && (double)deliveries->items[k].first < w[0].position)
            k++;
        for (; k < deliveries->count && (double)deliveries->items[k].first < w[1].position; k++) {
            int64_t published_ns = deliveries->items[k].published_ns;
            int64_t heard_ns = time_of(w, (double)deliveries->items[k].first);
            latencies->points[latencies->count++] =
                (struct latency_point){published_ns, heard_ns,
                                       !stalls_near(stalls, published_ns, heard_ns, STALL_BEFORE_NS, STALL_AFTER_NS)};
        }
    }
    *next = k;
}

int latency_measure(struct latencies *latencies, struct track *track, const struct deliveries *deliveries,
                    const struct stalls *stalls, int64_t expected_ns)
{
    *latencies = (struct latencies){.points = malloc((deliveries->count + 1) * sizeof *latencies->points)};
    if (!latencies->points)
        return -ENOMEM;
    size_t next = 0;
    for (size_t begin = 0, end; begin < track->window_count; begin = end) {
        end = begin + 1;
        if (!track->windows[begin].tone)
            continue;
        while (end < track->window_count && track->windows[end].tone &&
               track->windows[end].segment == track->windows[begin].segment)
            end++;
        if (place_segment(track, deliveries, begin, end, expected_ns))
            hear_segment(latencies, track, deliveries, stalls, begin, end, &next);
    }
    return 0;
}

void latencies_free(struct latencies *latencies)
{
    free(latencies->points);
    *latencies = (struct latencies){0};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int latency_summarise(struct latency_summary *summary, const struct latencies *latencies, int64_t from_ns,
                      int64_t to_ns, bool judged_only)
{
    *summary = (struct latency_summary){0};
    double *sorted = malloc((latencies->count + 1) * sizeof *sorted);
    if (!sorted)
        return -ENOMEM;
    size_t count = 0;
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (size_t i = 0; i < latencies->count; i++) {
        const struct latency_point *point = &latencies->points[i];
        if ((judged_only && !point->judged) || point->published_ns < from_ns || point->published_ns >= to_ns)
            continue;
        double x = (double)(point->published_ns - latencies->points[0].published_ns) / 60e9;
        double y = (double)(point->heard_ns - point->published_ns) / 1e6;
        sorted[count++] = y;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    if (count > 0) {
        double n = (double)count, spread = n * sxx - sx * sx;
        qsort(sorted, count, sizeof *sorted, compare);
        *summary = (struct latency_summary){.count = count,
                                            .median_ms = sorted[count / 2],
                                            .p1_ms = sorted[count / 100],
                                            .p99_ms = sorted[count - 1 - count / 100],
                                            .min_ms = sorted[0],
                                            .max_ms = sorted[count - 1],
                                            .trend_ms_per_min = spread > 0 ? (n * sxy - sx * sy) / spread : 0};
    }
    free(sorted);
    return 0;
}
