/* SPDX-License-Identifier: MIT
 *
 * What the files of the PulseAudio backend share. [main] is main's thread, which holds the main loop's lock around all
 * of this; [loop] is the main loop's own.
 */
#ifndef EARSHOT_PULSE_H
#define EARSHOT_PULSE_H

#include "backends/backend.h"
#include "backends/pulse_timing.h"

#include <pulse/pulseaudio.h>
#include <stdatomic.h>

/* What the server puts up where there is no sink, so that players have something to play to. */
#define PULSE_DUMMY_SINK "auto_null"

struct backend_context {
    pa_threaded_mainloop *loop;
    pa_context *context;
    struct backend_stream *streams; /* under the loop's lock */
    int event_fd;
    bool timed_out; /* under the loop's lock; of the wait that is going on */
    atomic_int state;
};

/* All of it under the loop's lock, but state and gate. */
struct backend_stream {
    struct backend_context *context;
    struct backend_stream *next;
    pa_stream *stream;
    pa_operation *cork, *timing, *sink; /* under way */
    pa_time_event *grace;               /* still without a device? */
    pa_time_event *settle;              /* then the sink's rate is looked at */
    char *name, *description, *target;
    pa_channel_map map;
    uint32_t frame_bytes;
    int64_t period_ns;
    uint32_t rate;       /* 0: not known yet */
    unsigned reconnects; /* since it was ready */
    bool ready;          /* connected, at the sink's rate */
    bool started;        /* by main */
    bool running;        /* the server has uncorked it */
    int error;           /* why it is not ready */
    atomic_int state;
    /* The gate: no pull begins while it is closed. Main closes it before it asks for the lock, which it might wait long
     * for where pulls are so slow that they follow each other without a pause. */
    atomic_bool open;

    struct pulse_clock clock;
    struct pulse_lead lead;
    int64_t written;       /* the queue's write index, frames */
    uint32_t queue_frames; /* what the queue holds when it is full */
    uint32_t period_frames;
    int64_t position;               /* of the device, as the next pull will tell it */
    int64_t last_ns, last_position; /* as the last one did */
    bool restarted;                 /* the next pull is the first since start, or the device's position jumped */

    void (*pull)(void *arg, float *dst, uint32_t frames, const struct pull_time *time);
    void *arg;
};

/* ---- pulse_probe.c ---- */

/* libpulse's error number as -errno; -EHOSTDOWN for all that says that there is no server. */
int pulse_error(int error);

/* A context that is not connected. NULL: no memory. [main] */
pa_context *pulse_context_new(pa_mainloop_api *api, const struct backend_context_params *params);

/* Begins to connect, and starts no server. -errno. [main] */
int pulse_context_connect(pa_context *context, const struct backend_context_params *params);

/* struct backend's probe. Waits one second at most. [main] */
int pulse_probe(const struct backend_context_params *params);

/* ---- pulse_stream.c ---- */

/* Main hears of a state that is new. [loop, main] */
void pulse_set_state(struct backend_context *context, atomic_int *state, enum backend_state value);

/* For an operation whose end nobody waits for. */
void pulse_forget(pa_operation *operation);

/* Begins to connect; `ready` or `error` tell how it ends, with a signal to who waits for it. [main] */
void pulse_stream_connect(struct backend_stream *stream);

/* Nothing of it is under way when this returns. Fine on one that is not connected. [loop, main] */
void pulse_stream_disconnect(struct backend_stream *stream);

/* Looks at the sink's rate, in a moment; where it is another one, the stream is made anew. [loop, main] */
void pulse_stream_check_rate(struct backend_stream *stream);

/* Corks it or lets it play; at once, or once it is ready. [main] */
void pulse_stream_set_started(struct backend_stream *stream, bool started);

#endif
