/* SPDX-License-Identifier: MIT
 *
 * What the two files of the JACK backend share: jack.c has the contract and the worker, jack_client.c one guest's
 * client.
 *
 * Threads: [worker] makes every call that talks to the server, because these wait for it without a limit and may not
 * be made from its callbacks; [main] asks for them and waits for as long as the contract lets it. [notify] is the
 * library's own thread for callbacks: it sets atomics and wakes the worker. [rt] is the client's process thread.
 */
#ifndef EARSHOT_JACK_CLIENT_H
#define EARSHOT_JACK_CLIENT_H

#include "backends/jack_ports.h"

#include <jack/jack.h>
#include <pthread.h>
#include <stdatomic.h>

#define JCLIENT_PULL_FRAMES 8192 /* at most, in one pull */

struct backend_context {
    char *server; /* or NULL */
    int event_fd;
    uint32_t clock_id;
    atomic_int state; /* enum backend_state */
    pthread_t worker;

    pthread_mutex_t lock; /* of all that follows, and of the streams' marks; never held in a call to the library */
    pthread_cond_t changed;
    struct backend_stream *streams;
    int look;    /* what the worker saw first: 0, -EHOSTDOWN, -ENODEV; 1: it still looks */
    bool stuck;  /* the worker did not come back in time, and has not yet */
    bool ending; /* ... once the streams are gone */
    bool ended;  /* the worker touches nothing any more */
    bool orphan; /* main has left: the worker frees the context */
};

/* Where the server's clock stood when it last asked. [rt] */
struct cycle {
    jack_nframes_t frames, period;
    uint32_t rate;
    int64_t position;
    /* The server counts no frames while it is late, and its filter takes seconds to get over it: what was left out is
     * told by the time at which cycles begin, measured from the earliest of the last few. */
    int64_t pace_ns, pace_position, least_late_ns;
    unsigned pace_cycles;
};

struct backend_stream {
    struct backend_context *context;
    struct backend_stream *next;
    char *name, *target, *connect; /* the latter two or NULL */
    uint8_t channels;
    uint16_t mask;
    bool no_connect;
    void (*pull)(void *arg, float *dst, uint32_t frames, const struct pull_time *time);
    void *arg;

    /* Marks, under the context's lock: what is to be done. */
    bool opened, closing, connect_due, tell_due;
    int64_t again_ns; /* connect_due once more at this time; 0: no */
    int error;        /* of opening */

    /* [worker], but for [rt] and [notify] once the client is active */
    jack_client_t *client;
    jack_port_t *ports[BACKEND_CHANNELS_MAX];
    char *peers[BACKEND_CHANNELS_MAX][JACK_PORTS_PEERS]; /* each connected once; whoever undoes it has his reasons */
    char called[64];

    atomic_int state; /* enum backend_state */
    _Atomic uint32_t rate, period, playback_frames, own_frames;
    atomic_bool freewheel;

    /* The gate: pull runs only while `open`, and `busy` is set around it (see stream_stop). */
    atomic_bool open, busy;
    atomic_bool restarted; /* the next pull is the first since start */

    struct cycle last; /* [rt] */
    float *buffer;     /* [rt] JCLIENT_PULL_FRAMES frames */
};

/* [worker] Is there a server, and one with outputs? 0, -EHOSTDOWN, -ENODEV. */
int jclient_look(const struct backend_context *context);

/* [worker] Opens and activates the client, connects its ports. -EHOSTDOWN; -EIO: the server does not want us. */
int jclient_open(struct backend_stream *stream);

/* [worker] Connects the ports that belong to others and are not connected yet; updates state and latency. */
void jclient_connect(struct backend_stream *stream);

/* [worker] Closes the client, if there is one, and frees the stream. */
void jclient_free(struct backend_stream *stream);

/* [main, notify] Sets a mark and wakes the worker. */
void jclient_ask(struct backend_stream *stream, bool *mark);

/* [any but rt] `state` is the stream's or the context's; main hears of a change. */
void jclient_set_state(struct backend_context *context, atomic_int *state, enum backend_state value);

#endif
