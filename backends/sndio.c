/* SPDX-License-Identifier: MIT
 *
 * sndio: a sub-device of sndiod, or a raw device. Its server cannot tell us why something is not there, nor where its
 * speakers stand: channels are in the order that sound cards have.
 */
#include "backends/device_backend.h"
#include "backends/pcm_route.h"
#include "backends/registry.h"

#include <errno.h>
#include <poll.h>
#include <sndio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S     INT64_C(1000000000)
#define PERIOD_NS    (INT64_C(256) * NS_PER_S / 48000) /* where nothing else is wanted */
#define PERIODS      2                                 /* written ahead at least */
#define POLL_FDS_MAX 16

struct device {
    struct sio_hdl *handle;
    struct pcm_layout layout;
    struct pcm_route route;
    uint32_t rate, period_frames, fill_frames;
    int64_t beyond;       /* frames between what we fill and the ear */
    int64_t written;      /* frames since it was started */
    int64_t played;       /* as the device says ... */
    int64_t moved_ns;     /* ... at this time */
    unsigned char *raw;   /* a period as the device takes it */
    size_t pending_bytes; /* of it not taken yet, at its end */
    bool started, moved;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Called by sio_revents() and sio_write(). */
static void on_move(void *arg, int delta)
{
    struct device *device = arg;
    device->played += delta;
    device->moved = true;
    device->moved_ns = now_ns();
}

static size_t frame_bytes(const struct device *device)
{
    return (size_t)device->layout.bytes * device->route.out;
}

/* Everything but the size of a sample is left to the device, so that nobody but us converts rate or channels. Sizes of
 * 0 are the device's to choose, too. */
static bool exchange(struct device *device, struct sio_par *par, unsigned period)
{
    sio_initpar(par);
    par->bits = 24;
    par->bps = 4;
    par->sig = 1;
    par->le = SIO_LE_NATIVE;
    par->msb = 0;
    par->xrun = SIO_SYNC; /* its clock goes on without us */
    if (period > 0) {
        par->round = period;
        par->appbufsz = period * PERIODS;
    }
    return sio_setpar(device->handle, par) && sio_getpar(device->handle, par);
}

static int negotiate(struct device *device, const struct backend_stream_params *params)
{
    struct sio_par par;
    if (!exchange(device, &par, 0))
        return -ENODEV;
    const int64_t ns = params->period_ns > 0 ? params->period_ns : PERIOD_NS;
    unsigned wanted = (unsigned)((ns * par.rate + NS_PER_S / 2) / NS_PER_S);
    if (!exchange(device, &par, wanted))
        return -ENODEV;
    /* A server's block is what it is; of a single one there would be nothing left to play when it asks. */
    if (par.round > wanted && par.appbufsz < PERIODS * par.round) {
        wanted = par.round;
        if (!exchange(device, &par, wanted))
            return -ENODEV;
    }

    const bool words = par.bps == 2 || par.bps == 4;
    if (par.sig != 1 || par.bits > 8 * par.bps || par.bits < 8 || (!words && par.bps != 3) ||
        (par.bps != 1 && par.le != (par.bps == 3 ? 1 : SIO_LE_NATIVE)))
        return -EINVAL;
    device->layout = (struct pcm_layout){
        .bits = (uint8_t)par.bits,
        .bytes = (uint8_t)par.bps,
        .shift = (uint8_t)(par.msb ? 8 * par.bps - par.bits : 0),
    };
    uint8_t speakers[ROUTE_OUT_MAX];
    if (par.pchan > ROUTE_OUT_MAX)
        return -EINVAL;
    pcm_route_default_speakers(speakers, par.pchan);
    const int rc = pcm_route_init(&device->route, params->mask, speakers, par.pchan);
    if (rc < 0)
        return rc;
    /* Whole blocks of the device's, as near to what is wanted as its buffer allows. */
    const unsigned round = par.round > 0 && par.round <= par.appbufsz / PERIODS ? par.round : 1;
    unsigned period = (wanted + round / 2) / round * round;
    if (period < round)
        period = round;
    if (period > par.appbufsz / PERIODS)
        period = par.appbufsz / PERIODS;
    if (period == 0 || par.rate == 0)
        return -EINVAL;
    device->rate = par.rate;
    device->period_frames = period;
    device->fill_frames = par.appbufsz / period * period;
    device->beyond = par.bufsz > par.appbufsz ? (int64_t)(par.bufsz - par.appbufsz) : 0;
    return 0;
}

static void device_close(struct device *device)
{
    if (device->handle)
        sio_close(device->handle);
    free(device->raw);
    free(device);
}

static int device_open(struct device **out, const struct backend_stream_params *params, struct device_grant *grant)
{
    struct device *device = calloc(1, sizeof *device);
    if (!device)
        return -ENOMEM;
    device->handle = sio_open(params->target ? params->target : SIO_DEVANY, SIO_PLAY, 1);
    int rc = device->handle ? negotiate(device, params) : -ENODEV;
    if (rc == 0) {
        device->raw = calloc(device->period_frames, frame_bytes(device));
        rc = device->raw ? 0 : -ENOMEM;
    }
    if (rc < 0) {
        device_close(device);
        return rc;
    }
    sio_onmove(device->handle, on_move, device);
    *grant = (struct device_grant){
        .rate = device->rate, .period_frames = device->period_frames, .fill_frames = device->fill_frames};
    snprintf(grant->text, sizeof grant->text, "%g kHz, %u bit, %u channel%s, %u frames at a time, %u ahead",
             device->rate / 1000.0, device->layout.bits, device->route.out, device->route.out == 1 ? "" : "s",
             device->period_frames, device->fill_frames);
    *out = device;
    return 0;
}

/* 1: all of the period is written; 0: not yet; -ENODEV. */
static int flush(struct device *device)
{
    while (device->pending_bytes > 0) {
        const size_t from = device->period_frames * frame_bytes(device) - device->pending_bytes;
        const size_t wrote = sio_write(device->handle, device->raw + from, device->pending_bytes);
        if (wrote == 0)
            return sio_eof(device->handle) ? -ENODEV : 0;
        device->pending_bytes -= wrote;
    }
    return 1;
}

/* Until it plays, a device takes silence, as much as it likes: only then it says where it stands. */
static int prime(struct device *device)
{
    int rc = 1;
    while (rc == 1 && device->written + device->period_frames <= device->fill_frames + device->beyond) {
        device->written += device->period_frames;
        device->pending_bytes = device->period_frames * frame_bytes(device);
        rc = flush(device);
    }
    return rc < 0 ? rc : 0;
}

static void device_halt(struct device *device)
{
    if (device->started)
        sio_flush(device->handle);
    device->started = false;
    device->pending_bytes = 0;
}

/* It starts by itself once its buffer is full. */
static int device_start(struct device *device, bool roomier, struct device_grant *grant)
{
    (void)roomier, (void)grant; /* it never runs dry: it goes on without us */
    device_halt(device);
    device->written = device->played = 0;
    device->moved = false;
    memset(device->raw, 0, device->period_frames * frame_bytes(device));
    if (!sio_start(device->handle))
        return -ENODEV;
    device->started = true;
    return prime(device);
}

static int device_wait(struct device *device, int wake_fd, int timeout_ms)
{
    struct pollfd fds[1 + POLL_FDS_MAX] = {
        {.fd = wake_fd, .events = POLLIN}
    };
    if (sio_nfds(device->handle) > POLL_FDS_MAX)
        return -EINVAL;
    /* We go by what has been played, and are told of that in any case; room alone would wake us all the time. */
    const int count = sio_pollfd(device->handle, fds + 1, device->pending_bytes > 0 ? POLLOUT : 0);
    const int64_t period_ms = (int64_t)device->period_frames * 1000 / device->rate + 1;
    if (poll(fds, (nfds_t)count + 1, period_ms < timeout_ms ? (int)period_ms : timeout_ms) < 0 && errno != EINTR)
        return -errno;
    sio_revents(device->handle, fds + 1);
    return sio_eof(device->handle) ? -ENODEV : 0;
}

static int device_look(struct device *device, struct device_moment *moment)
{
    const int rc = flush(device);
    if (rc <= 0)
        return rc;
    if (!device->moved)
        return prime(device);
    const int64_t queued = device->written - device->played - device->beyond;
    if (queued + device->period_frames > device->fill_frames)
        return 0;
    *moment = (struct device_moment){
        .at_ns = device->moved_ns,
        .queued_frames = queued,
        .beyond_frames = device->beyond,
        .coarse = true,
    };
    return 1;
}

static int device_write(struct device *device, const float *frames)
{
    pcm_route_run(&device->route, &device->layout, device->raw, frames, device->period_frames);
    device->written += device->period_frames;
    device->pending_bytes = device->period_frames * frame_bytes(device);
    const int rc = flush(device);
    return rc < 0 ? rc : 0;
}

static const struct device_ops device_ops = {
    .open = device_open,
    .close = device_close,
    .start = device_start,
    .halt = device_halt,
    .wait = device_wait,
    .look = device_look,
    .write = device_write,
};

static int probe(const struct backend_context_params *params)
{
    return device_backend_probe(params, &device_ops);
}

static int context_open(struct backend_context **context, const struct backend_context_params *params)
{
    return device_backend_context_open(context, params, &device_ops);
}

const struct backend backend_sndio = {
    .name = "sndio",
    .title = "sndio",
    .target_help = "an audio device descriptor, such as snd/0",
    .holds_device = true,
    .own_period = true,
    .probe = probe,
    .context_open = context_open,
    .context_state = device_backend_context_state,
    .context_close = device_backend_context_close,
    .open = device_backend_open,
    .start = device_backend_start,
    .stop = device_backend_stop,
    .state = device_backend_state,
    .close = device_backend_close,
    .info = device_backend_info,
};
