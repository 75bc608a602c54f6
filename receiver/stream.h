/* SPDX-License-Identifier: MIT
 *
 * One guest's stream: its feed, the playout that reads it, the backend's stream that pulls from the playout, and
 * what to do when any of them changes or fails. [main]
 *
 * A format change is stop, rebuild, start. The backend's stream is opened with the first feed, never before, and is
 * kept across format changes that keep the channels, so that mixers and patch bays keep theirs. Time comes in as an
 * argument (CLOCK_MONOTONIC).
 */
#ifndef EARSHOT_STREAM_H
#define EARSHOT_STREAM_H

#include "receiver/feed.h"
#include "receiver/log.h"
#include "receiver/output.h"
#include "receiver/playout.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STREAM_NAME_MAX    128
#define STREAM_ADDRESS_MAX 256

enum stream_state {
    STREAM_WAITING,   /* for the guest's first sound */
    STREAM_STARTING,  /* filling up */
    STREAM_PLAYING,   /* */
    STREAM_IDLE,      /* the guest is silent; corked */
    STREAM_STARVED,   /* ran dry; starts again by itself */
    STREAM_NO_SERVER, /* nothing to play through, or the server has no device */
    STREAM_PORT_BUSY, /* of a source: another program has the port */
};

/* "waiting", "starting", ... as status prints it. */
const char *stream_state_name(enum stream_state state);

struct stream_params {
    const char *name;    /* in mixers; unique */
    const char *label;   /* at the start of messages: the sender's address or the file's name */
    const char *address; /* the sender's, or the file's path */
    enum source_kind kind;
    const char *target; /* sink, device or file; or NULL */
    const char *connect;
    bool no_connect;
    bool latency_above_chunk; /* playout.latency_ns comes on top of the guest's chunk */
    struct playout_params playout;
};

struct stream_status {
    char name[STREAM_NAME_MAX];
    char address[STREAM_ADDRESS_MAX];
    enum stream_state state;
    enum source_kind kind;
    struct pcm_format format;        /* rate 0: none yet */
    const char *backend;             /* "" while none is chosen */
    struct playout_stats stats;      /* counters since the stream exists */
    struct source_counters counters; /* of its source, which other streams may share; the daemon's to fill in */
};

struct stream;

/* Copies the strings that tell who it is, borrows target, connect, output and log. -ENOMEM. */
int stream_create(struct stream **stream, const struct stream_params *params, struct output *output,
                  const struct log *log);

/* Stops, and frees the feed too: [src] must have let go of it. NULL is fine. */
void stream_destroy(struct stream *stream);

/* A feed in a new format, which the stream owns from now on. chunk_ns: what the guest delivers at once. */
void stream_set_feed(struct stream *stream, struct feed *feed, int64_t chunk_ns, int64_t now_ns);

/* The feed fell silent, or goes on. */
void stream_set_idle(struct stream *stream, bool idle, int64_t now_ns);

/* Does what is due. Returns when it wants to be called again; INT64_MAX: not by itself. Call it after each of the
 * others, and when output_fd() was readable. */
int64_t stream_run(struct stream *stream, int64_t now_ns);

/* The server is lost: closes the backend's stream, and waits for output_context(). */
void stream_drop(struct stream *stream);

/* Another --latency and --max-latency, in all from the guest's chunk to the device, until the stream ends; as
 * playout_set_latency(). Where it cannot be had with the present period, the backend is asked for a shorter
 * one, if it can do that. */
void stream_tune(struct stream *stream, int64_t latency_ns, int64_t max_latency_ns, int64_t now_ns);

/* What holds now; 0: auto, no cap. */
void stream_get_latency(const struct stream *stream, int64_t *latency_ns, int64_t *max_latency_ns);

/* Fades out for good, ahead of stream_destroy(). */
void stream_fade(struct stream *stream);
bool stream_silent(const struct stream *stream);

/* The thread that plays it, where that needs main to get it a real-time priority; else 0. */
pid_t stream_thread(const struct stream *stream);

/* Is this the feed that the stream plays, or is about to? */
bool stream_has_feed(const struct stream *stream, const struct feed *feed);

/* How many times a source of this kind and address may be looked for: the identity of its sender. */
const char *stream_name(const struct stream *stream);

void stream_get_status(const struct stream *stream, struct stream_status *status);

/* The period to ask a backend for: the one it likes, or half of what `latency_ns` leaves after the guest's chunk
 * and a millisecond (one period is waited for in the ring, one in the device), but not under 64 frames; where that
 * does not fit the latency cannot be had, and is played as auto. A buffer that is the stream's own gets an eighth a
 * period, up to 1024 frames at 48 kHz, where that is more: what lies in the device is not lost when this computer holds
 * its thread up. latency_ns 0: auto. */
int64_t stream_period_ns(const struct backend *backend, int64_t latency_ns, int64_t chunk_ns);

#endif
