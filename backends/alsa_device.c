/* SPDX-License-Identifier: MIT
 *
 * A PCM as the device's thread drives it: non-blocking, woken by poll when a period's room is free.
 */
#include "backends/alsa.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S      INT64_C(1000000000)
#define STAMP_AGE_NS  NS_PER_S        /* an older time stamp is none */
#define BRACKET_NS    INT64_C(200000) /* a delay that was longer in coming is asked for again */
#define BRACKET_TRIES 3
#define BEYOND_LOOKS  16 /* the driver's own delay is asked for once in so many looks */
#define POLL_FDS_MAX  16

struct device {
    snd_pcm_t *pcm;
    struct backend_stream_params params;
    struct alsa_setup setup;
    unsigned extra;     /* periods more than usual */
    unsigned char *raw; /* a period as the device takes it */
    uint32_t pending;   /* frames of it not taken yet, at its end */
    int64_t beyond;
    unsigned looks;
};

/* The library writes to standard error what the caller is told anyway, once a second where a device is waited for. */
static void silent(const char *file, int line, const char *function, int error, const char *format, va_list arg)
{
    (void)file, (void)line, (void)function, (void)error, (void)format, (void)arg;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void tell_grant(const struct alsa_setup *setup, struct device_grant *grant)
{
    grant->rate = setup->rate;
    grant->period_frames = setup->period_frames;
    grant->fill_frames = setup->fill_frames;
    alsa_describe(setup, grant->text, sizeof grant->text);
}

static void *new_buffer(const struct alsa_setup *setup)
{
    return calloc((size_t)setup->period_frames * setup->channels, setup->layout.bytes);
}

static void device_close(struct device *device)
{
    if (device->pcm)
        snd_pcm_close(device->pcm);
    free(device->raw);
    free(device);
    snd_lib_error_set_local(NULL);
}

static int device_open(struct device **out, const struct backend_stream_params *params, struct device_grant *grant)
{
    struct device *device = calloc(1, sizeof *device);
    if (!device)
        return -ENOMEM;
    snd_lib_error_set_local(silent);
    device->params = *params;
    int rc = alsa_open(&device->pcm, params, &device->setup);
    if (rc == 0) {
        device->raw = new_buffer(&device->setup);
        rc = device->raw ? 0 : -ENOMEM;
    } else {
        device->pcm = NULL;
    }
    if (rc < 0) {
        device_close(device);
        return rc;
    }
    tell_grant(&device->setup, grant);
    *out = device;
    return 0;
}

/* With half as much again. Where that does not work, as before: it did once. */
static int enlarge(struct device *device, struct device_grant *grant)
{
    struct alsa_setup setup;
    const unsigned periods = device->setup.fill_frames / device->setup.period_frames;
    const unsigned extra = device->extra + (periods + 1) / 2;
    snd_pcm_hw_free(device->pcm);
    int rc = alsa_configure(device->pcm, &device->params, extra, &setup);
    if (rc >= 0)
        device->extra = extra;
    else
        rc = alsa_configure(device->pcm, &device->params, device->extra, &setup);
    if (rc < 0)
        return rc;
    device->setup = setup;
    unsigned char *raw = new_buffer(&setup);
    if (!raw)
        return -ENOMEM;
    free(device->raw);
    device->raw = raw;
    tell_grant(&setup, grant);
    return 0;
}

/* Negative errors of the PCM, in the thread's words. */
static int verdict(struct device *device, int error)
{
    if (error == -ESTRPIPE) {
        /* Suspended. What cannot resume begins anew. */
        error = snd_pcm_resume(device->pcm);
        if (error == -EAGAIN)
            return 0;
        return error == 0 ? 0 : -EPIPE;
    }
    return error == -EAGAIN || error == -EINTR ? 0 : error;
}

/* The rest of a period that the device did not take at once. 1: all of it is written. */
static int flush(struct device *device)
{
    const struct alsa_setup *setup = &device->setup;
    while (device->pending > 0) {
        const size_t done = (size_t)(setup->period_frames - device->pending) * setup->channels * setup->layout.bytes;
        const snd_pcm_sframes_t wrote = snd_pcm_writei(device->pcm, device->raw + done, device->pending);
        if (wrote <= 0)
            return verdict(device, (int)wrote);
        device->pending -= (uint32_t)wrote;
    }
    return 1;
}

static int write_silence(struct device *device, uint32_t frames)
{
    const struct alsa_setup *setup = &device->setup;
    memset(device->raw, 0, (size_t)setup->period_frames * setup->channels * setup->layout.bytes);
    while (frames > 0) {
        device->pending = frames < setup->period_frames ? frames : setup->period_frames;
        frames -= device->pending;
        const int rc = flush(device);
        if (rc != 1)
            return rc < 0 ? rc : -EIO; /* an empty buffer has room */
    }
    return 0;
}

static int device_start(struct device *device, bool roomier, struct device_grant *grant)
{
    snd_pcm_drop(device->pcm);
    int rc = roomier ? enlarge(device, grant) : 0;
    if (rc >= 0)
        rc = snd_pcm_prepare(device->pcm);
    if (rc >= 0)
        rc = write_silence(device, device->setup.fill_frames - device->setup.period_frames);
    if (rc >= 0)
        rc = snd_pcm_start(device->pcm);
    if (rc < 0)
        return rc == -EPIPE ? -EIO : rc;
    device->pending = 0;
    device->looks = 0;
    snd_pcm_avail(device->pcm); /* or the first time stamp would be of another time */
    return 0;
}

static void device_halt(struct device *device)
{
    device->pending = 0;
    snd_pcm_drop(device->pcm);
}

static int device_wait(struct device *device, int wake_fd, int timeout_ms)
{
    struct pollfd fds[1 + POLL_FDS_MAX] = {
        {.fd = wake_fd, .events = POLLIN}
    };
    const int count = snd_pcm_poll_descriptors(device->pcm, fds + 1, POLL_FDS_MAX);
    if (count < 0)
        return count;
    const int ready = poll(fds, (nfds_t)count + 1, timeout_ms);
    if (ready < 0 && errno != EINTR)
        return -errno;
    if (ready <= 0)
        return 0;
    /* Some plug-ins acknowledge what woke us in there. What is wrong, look() sees. */
    unsigned short events;
    const int rc = snd_pcm_poll_descriptors_revents(device->pcm, fds + 1, (unsigned)count, &events);
    return rc < 0 ? verdict(device, rc) == -EPIPE ? 0 : verdict(device, rc) : 0;
}

static int check_state(snd_pcm_t *pcm)
{
    switch (snd_pcm_state(pcm)) {
    case SND_PCM_STATE_XRUN:
    case SND_PCM_STATE_SETUP:
        return -EPIPE;
    case SND_PCM_STATE_SUSPENDED:
        return -ESTRPIPE;
    case SND_PCM_STATE_OPEN:
    case SND_PCM_STATE_DISCONNECTED:
        return -ENODEV;
    default:
        return 0;
    }
}

/* How long until what is written now is heard, and at which time that was so. */
static int read_delay(struct device *device, int64_t *at_ns, snd_pcm_sframes_t *delay)
{
    for (int i = 0; i < BRACKET_TRIES; i++) {
        const int64_t before = now_ns();
        const int rc = snd_pcm_delay(device->pcm, delay);
        const int64_t after = now_ns();
        if (rc < 0)
            return rc;
        *at_ns = before + (after - before) / 2;
        if (after - before < BRACKET_NS)
            break;
    }
    return 0;
}

/* From the device's time stamp, and what it says is beyond its buffer. False where there is none. */
static bool read_stamp(struct device *device, struct device_moment *moment)
{
    snd_pcm_uframes_t avail;
    snd_htimestamp_t stamp;
    const int64_t asked_ns = now_ns();
    if (snd_pcm_htimestamp(device->pcm, &avail, &stamp) < 0)
        return false;
    moment->at_ns = (int64_t)stamp.tv_sec * NS_PER_S + stamp.tv_nsec;
    /* A plug-in that has none gives the time of day, which says nothing of its device. */
    if (moment->at_ns >= asked_ns || moment->at_ns < asked_ns - STAMP_AGE_NS)
        return false;
    moment->queued_frames = (int64_t)device->setup.buffer_frames - (int64_t)avail;
    if (device->looks++ % BEYOND_LOOKS == 0) {
        /* This asks the hardware again, after the stamp. */
        snd_pcm_sframes_t delay, room;
        int64_t at_ns;
        if (read_delay(device, &at_ns, &delay) == 0 && (room = snd_pcm_avail_update(device->pcm)) >= 0)
            device->beyond = (int64_t)delay - ((int64_t)device->setup.buffer_frames - room);
        if (device->beyond < 0)
            device->beyond = 0;
    }
    moment->beyond_frames = device->beyond;
    moment->estimated = false;
    moment->coarse = device->setup.batch;
    return true;
}

static int device_look(struct device *device, struct device_moment *moment)
{
    const struct alsa_setup *setup = &device->setup;
    int rc = check_state(device->pcm);
    if (rc < 0)
        return verdict(device, rc);
    rc = flush(device);
    if (rc <= 0)
        return rc;
    const snd_pcm_sframes_t avail = snd_pcm_avail_update(device->pcm);
    if (avail < 0)
        return verdict(device, (int)avail);
    const int64_t queued = (int64_t)setup->buffer_frames - avail;
    if (queued + setup->period_frames > setup->fill_frames)
        return 0;
    if (setup->card && read_stamp(device, moment))
        return 1;
    snd_pcm_sframes_t delay;
    rc = read_delay(device, &moment->at_ns, &delay);
    if (rc < 0)
        return verdict(device, rc);
    moment->queued_frames = queued;
    moment->beyond_frames = delay - queued;
    moment->estimated = !device->setup.pulse;
    moment->coarse = true;
    return 1;
}

static int device_write(struct device *device, const float *frames)
{
    const struct alsa_setup *setup = &device->setup;
    pcm_route_run(&setup->route, &setup->layout, device->raw, frames, setup->period_frames);
    device->pending = setup->period_frames;
    const int rc = flush(device);
    return rc < 0 ? rc : 0;
}

const struct device_ops alsa_device_ops = {
    .open = device_open,
    .close = device_close,
    .start = device_start,
    .halt = device_halt,
    .wait = device_wait,
    .look = device_look,
    .write = device_write,
};
