/* SPDX-License-Identifier: MIT
 *
 * What earshot-capture writes and earshot-analyse reads: a sink's monitor, cycle by cycle, each with the graph's own
 * time and position. Native byte order: both run on one machine. Frame i of a cycle counts as at cycle_ns + i / rate.
 */
#ifndef EARSHOT_CAPTURE_FILE_H
#define EARSHOT_CAPTURE_FILE_H

#include <stddef.h>
#include <stdint.h>

#define CAPTURE_MAGIC        UINT64_C(0x3250414354534145) /* "EASTCAP2" */
#define CAPTURE_CHANNELS_MAX 8

struct capture_header {
    uint64_t magic;
    uint32_t channels;
    uint32_t zero;
};

/* Followed by frames * channels floats. */
struct capture_record {
    int64_t cycle_ns;  /* CLOCK_MONOTONIC of the graph's cycle */
    uint64_t position; /* the graph's position at cycle_ns, in frames of `rate` */
    uint32_t frames;
    uint32_t rate;
    uint32_t quantum;
    uint32_t clock_id; /* another id = another driver */
    int64_t read_ns;   /* CLOCK_MONOTONIC at which the capture got it; 0: it has no cycles to be late for */
};

struct capture_cycle {
    struct capture_record record;
    size_t first; /* frame number in samples */
};

struct capture {
    unsigned channels;
    float *samples; /* interleaved */
    size_t frames, frame_capacity;
    struct capture_cycle *cycles;
    size_t cycle_count, cycle_capacity;
};

/* Reads a whole file; a record that the end cuts off is left out. -errno, -EBADMSG: no capture. */
int capture_load(struct capture *capture, const char *path);
void capture_free(struct capture *capture);

/* Appends one cycle, for made-up captures. -ENOMEM. */
int capture_append(struct capture *capture, const struct capture_record *record, const float *samples);

#endif
