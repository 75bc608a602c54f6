/* SPDX-License-Identifier: MIT
 *
 * A device that has to be written to behind the contract that asks: a thread that waits for room, pulls a period and
 * writes it. What ALSA and sndio have in common.
 *
 * All calls into the device's library come from that one thread, open and close included: a library that hangs, because
 * the server behind it does, holds up nobody else. What does not come back is left to itself.
 */
#ifndef EARSHOT_DEVICE_THREAD_H
#define EARSHOT_DEVICE_THREAD_H

#include "backends/backend.h"
#include "backends/device_timing.h"

#include <stdbool.h>
#include <stdint.h>

struct device; /* each backend's own */

/* What a device granted. */
struct device_grant {
    uint32_t rate, period_frames;
    uint32_t fill_frames; /* kept written ahead at most; at least two periods */
    char text[96];        /* for people: "48 kHz, 32 bit, 2 channels" */
};

/* All called from the device's thread. */
struct device_ops {
    int (*open)(struct device **device, const struct backend_stream_params *params, struct device_grant *grant);
    void (*close)(struct device *device);

    /* Begins from nothing, with fill_frames - period_frames of silence. `roomier`: with half as much again, as far
     * as the device goes along; *grant says how far. Any error is final. */
    int (*start)(struct device *device, bool roomier, struct device_grant *grant);
    void (*halt)(struct device *device); /* at once; what is queued is not played */

    /* Sleeps until there may be room, wake_fd is readable, or so long. Leaves wake_fd as it is. 0 or -errno. */
    int (*wait)(struct device *device, int wake_fd, int timeout_ms);

    /* 1: there is room for a period, and *moment says where the device stands. 0: not yet. -EPIPE: it ran dry, or was
     * suspended: start it again. Any other error: it is gone. */
    int (*look)(struct device *device, struct device_moment *moment);

    /* One period of the stream's channels, after look returned 1. 0, or errors as look has them. */
    int (*write)(struct device *device, const float *frames);
};

struct device_thread;

struct device_thread_params {
    const struct device_ops *ops;
    struct backend_stream_params *stream; /* period_ns is written back; strings are borrowed during the call only */
    int event_fd;
    uint32_t clock_id;
};

/* [main] Opens the device. -errno of the device's open; -EHOSTDOWN where it takes longer than BACKEND_TIMEOUT_MS. */
int device_thread_open(struct device_thread **thread, const struct device_thread_params *params);

/* [main] The contract's start, stop, state, info and close. close lets what is queued play out, a moment long. */
int device_thread_start(struct device_thread *thread);
void device_thread_stop(struct device_thread *thread);
enum backend_state device_thread_state(struct device_thread *thread);
void device_thread_info(struct device_thread *thread, struct backend_info *info);
void device_thread_close(struct device_thread *thread);

#endif
