/* SPDX-License-Identifier: MIT */
#include "tests/integration/capture_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 65536 /* of one record: more than any quantum, and a guard against a damaged file */

/* Room for `needed` items; doubled, so that appending stays linear. NULL: none. */
static void *grow(void *array, size_t *capacity, size_t needed, size_t item)
{
    if (needed <= *capacity)
        return array;
    size_t larger = *capacity ? *capacity * 2 : 4096;
    while (larger < needed)
        larger *= 2;
    void *grown = realloc(array, larger * item);
    if (grown)
        *capacity = larger;
    return grown;
}

int capture_append(struct capture *capture, const struct capture_record *record, const float *samples)
{
    struct capture_cycle *cycles =
        grow(capture->cycles, &capture->cycle_capacity, capture->cycle_count + 1, sizeof *cycles);
    if (!cycles)
        return -ENOMEM;
    capture->cycles = cycles;

    size_t frame_bytes = capture->channels * sizeof(float);
    float *all = grow(capture->samples, &capture->frame_capacity, capture->frames + record->frames, frame_bytes);
    if (!all && record->frames)
        return -ENOMEM;
    capture->samples = all;
    if (record->frames)
        memcpy(all + capture->frames * capture->channels, samples, record->frames * frame_bytes);
    cycles[capture->cycle_count++] = (struct capture_cycle){.record = *record, .first = capture->frames};
    capture->frames += record->frames;
    return 0;
}

int capture_load(struct capture *capture, const char *path)
{
    *capture = (struct capture){0};
    float *samples = NULL;
    FILE *file = fopen(path, "rbe");
    if (!file)
        return -errno;

    int result = -EBADMSG;
    struct capture_header header;
    if (fread(&header, sizeof header, 1, file) != 1 || header.magic != CAPTURE_MAGIC || header.channels < 1 ||
        header.channels > CAPTURE_CHANNELS_MAX)
        goto out;
    capture->channels = header.channels;

    result = -ENOMEM;
    samples = malloc(FRAMES_MAX * header.channels * sizeof *samples);
    if (!samples)
        goto out;
    result = 0;
    struct capture_record record;
    while (result == 0 && fread(&record, sizeof record, 1, file) == 1) {
        if (record.frames > FRAMES_MAX || record.rate == 0 || record.rate > 1000000) {
            result = -EBADMSG;
            break;
        }
        size_t count = (size_t)record.frames * header.channels;
        if (fread(samples, sizeof *samples, count, file) != count)
            break;
        result = capture_append(capture, &record, samples);
    }
out:
    free(samples);
    fclose(file);
    if (result != 0)
        capture_free(capture);
    return result;
}

void capture_free(struct capture *capture)
{
    free(capture->samples);
    free(capture->cycles);
    *capture = (struct capture){0};
}
