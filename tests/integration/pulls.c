/* SPDX-License-Identifier: MIT */
#include "tests/integration/pulls.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_S    INT64_C(1000000000)
#define STREAMS_MAX 64
#define SLOW_PART   50                 /* a program that is slow more often is slow itself */
#define STOPPED_NS  INT64_C(250000000) /* who is not asked for so long is corked, or the server has been stopped */

static int64_t period_ns(const struct pull_record *record)
{
    return NS_PER_S * record->frames / record->rate;
}

/* Is it the program that takes long, rather than the machine that interrupts it now and then? */
static bool is_slow(const struct pull_record *records, size_t count)
{
    size_t slow = 0;
    for (size_t i = 0; i < count; i++)
        slow += records[i].left_ns - records[i].entered_ns > period_ns(&records[i]) / 4;
    return slow > count / SLOW_PART;
}

int pulls_late(struct stalls *late, const struct pull_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (records[i].entered_ns == 0)
            count = i;
    }
    if (is_slow(records, count))
        return 0;
    const struct pull_record *last[STREAMS_MAX];
    size_t streams = 0;
    for (size_t i = 0; i < count; i++) {
        const struct pull_record *now = &records[i];
        size_t k = 0;
        while (k < streams && last[k]->stream != now->stream)
            k++;
        if (k == streams && streams == STREAMS_MAX)
            continue;
        if (k == streams) {
            streams++;
        } else {
            const int64_t since_ns = now->left_ns - last[k]->entered_ns;
            const int64_t half_ns = period_ns(last[k]) / 2;
            const bool is_late = since_ns > 3 * half_ns || now->left_ns - now->cycle_ns > half_ns;
            if (now->realtime && is_late && since_ns < STOPPED_NS &&
                stalls_add(late, last[k]->entered_ns, now->left_ns) != 0)
                return -ENOMEM;
        }
        last[k] = now;
    }
    return 0;
}

int pulls_load(struct stalls *late, const char *path)
{
    FILE *file = fopen(path, "rbe");
    if (!file)
        return -errno;
    struct pull_record *records = NULL;
    size_t count = 0, capacity = 0;
    int result = 0;
    for (;;) {
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 4096;
            struct pull_record *grown = realloc(records, capacity * sizeof *records);
            if (!grown) {
                result = -ENOMEM;
                break;
            }
            records = grown;
        }
        if (fread(&records[count], sizeof *records, 1, file) != 1 || records[count].entered_ns == 0)
            break;
        count++;
    }
    if (result == 0)
        result = pulls_late(late, records, count);
    free(records);
    fclose(file);
    return result;
}
