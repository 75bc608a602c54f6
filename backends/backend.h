/* SPDX-License-Identifier: MIT
 *
 * The one contract between Earshot and everything it can play through. Pull only: the backend asks, from its own
 * real-time thread, for exactly as many frames as it needs.
 *
 * Everything but pull is called by [main]. A context is one connection to a sound server and carries any number of
 * streams. Errors are -errno. A server that is not there or goes away is -EHOSTDOWN or BACKEND_LOST: main closes
 * the streams and the context and tries again later; no function waits longer than BACKEND_TIMEOUT_MS.
 */
#ifndef EARSHOT_BACKEND_H
#define EARSHOT_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BACKEND_CHANNELS_MAX 8
#define BACKEND_TIMEOUT_MS   3000

enum pull_flags {
    PULL_DISCONTINUITY = 1 << 0, /* the device's position or clock is not the last one continued */
    PULL_FREEWHEEL = 1 << 1,     /* faster than real time: hold the loop still */
    PULL_COARSE = 1 << 2,        /* position or cycle_ns is only good to about a millisecond (PulseAudio, USB) */
};

/* Where the device stands as it asks. All of it from the device, nothing counted by the backend. A device may ask twice
 * in one cycle: cycle_ns and position_frames are then the same, and delay_frames more by what it has already got. */
struct pull_time {
    int64_t cycle_ns;        /* CLOCK_MONOTONIC of the cycle that asks */
    int64_t position_frames; /* the device's own position at cycle_ns, in frames of `rate`; any origin */
    uint32_t rate;           /* the device's frames per second; may differ from call to call */
    int64_t delay_frames;    /* from cycle_ns until the first frame of this buffer is heard, at `rate` */
    uint32_t clock_id;       /* another id = another device's clock */
    unsigned flags;          /* enum pull_flags */
};

struct backend_context_params {
    const char *app_name; /* "Earshot" */
    const char *server;   /* --server, or NULL for the default one */
    const char *target;   /* -d: null and wav are configured by it; or NULL */
    int event_fd;         /* eventfd (main's): 1 is written to it when any state changes outside pull */
};

struct backend_stream_params {
    const char *name;        /* node/client/stream name, unique and stable: the mixer remembers it */
    const char *description; /* what people read in a mixer */
    const char *target;      /* sink, device or file; NULL: the default */
    const char *connect;     /* --connect pattern, or NULL */
    bool no_connect;         /* -c: link nothing */
    uint8_t channels;        /* 1..8 */
    uint16_t mask;           /* popcount == channels; lowest bit is the first interleaved channel (format.h) */
    uint32_t source_rate;    /* the guest's; a hint for backends with no rate of their own */
    int64_t period_ns;       /* wanted; open() writes what was granted, as far as it is known by then */

    /* [rt] Fills dst with exactly `frames` interleaved float frames. Never called concurrently for one stream. */
    void (*pull)(void *arg, float *dst, uint32_t frames, const struct pull_time *time);
    void *arg;
};

enum backend_state {
    BACKEND_OK,
    BACKEND_NO_DEVICE, /* the server is there, but has nothing to play to; heals by itself */
    BACKEND_LOST,      /* close and open again */
};

/* What a stream got from its device, as far as it is known after open(). */
struct backend_info {
    char text[96]; /* for people, with -v: "48 kHz, 32 bit, 2 channels"; or empty */
    pid_t thread;  /* that pulls and has no real-time priority unless main gets it one; 0: none such */
};

struct backend_context; /* each backend's own */
struct backend_stream;

struct backend {
    const char *name;  /* for -o */
    const char *title; /* for people: "PipeWire" */
    /* What -d may be, for --help and for the line that reports -EINVAL of open or context_open: "a file". */
    const char *target_help;
    bool needs_target;                       /* -o wav needs -d FILE */
    int (*check_target)(const char *target); /* -EINVAL: -d can never be that. NULL: only open can tell */
    bool for_auto;                           /* `auto` considers it */
    bool has_mixer; /* a server that has this computer's devices, or is about to: `auto` takes no last resort then */
    bool last_resort;  /* `auto` takes it once no server with a mixer has been there for a while */
    bool holds_device; /* while a stream is open nobody else can play: main closes it after a while of silence */
    bool own_period;   /* a stream's period is a buffer of its own, and lasts from open to close */
    int64_t period_ns; /* to ask for where --latency leaves room for it; 0: 256 frames at 48 kHz */

    /* Is a server with a real sink reachable now? 0, or -EHOSTDOWN (no server), -ENODEV (no sink). Logs nothing. */
    int (*probe)(const struct backend_context_params *params);

    int (*context_open)(struct backend_context **context, const struct backend_context_params *params);
    enum backend_state (*context_state)(struct backend_context *context);
    void (*context_close)(struct backend_context *context); /* after its streams; NULL is fine */

    int (*open)(struct backend_context *context, struct backend_stream_params *params,
                struct backend_stream **stream);
    int (*start)(struct backend_stream *stream); /* from now on pull is called; again after stop */
    void (*stop)(struct backend_stream *stream); /* corked: stays visible in mixers; on return no pull is running */
    enum backend_state (*state)(struct backend_stream *stream);
    void (*close)(struct backend_stream *stream); /* also after a failed start; NULL is fine */

    /* What the server calls the stream, where that need not be its name; valid until close. NULL: it is. */
    const char *(*called)(struct backend_stream *stream);
    /* How old the sound is when pull hands it over, for servers that tell other programs. May be NULL. */
    void (*tell_latency)(struct backend_stream *stream, int64_t latency_ns);
    /* Wants a shorter period from now on, without closing; what comes of it is seen in pull. NULL: only open() can. */
    void (*ask_period)(struct backend_stream *stream, int64_t period_ns);
    /* What it got, and who pulls. May be NULL: there is nothing to say. */
    void (*info)(struct backend_stream *stream, struct backend_info *info);
};

/* NULL-terminated, in the order `auto` prefers. Which are there depends on the build. */
const struct backend *const *backend_list(void);

/* NULL where that name is unknown or not built in. */
const struct backend *backend_find(const char *name);

#endif
