/* SPDX-License-Identifier: MIT
 *
 * A device that is heard by nobody and misbehaves as -d tells it to: for trying things, and for the tests.
 */
#include "backends/paced.h"
#include "backends/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 8192
#define US_MAX     1000000

/* All the streams that want the same device play on one, as they would on hardware. */
struct device {
    struct paced_params params;
    struct paced *paced;
    unsigned streams;
    struct device *next;
};

struct backend_context {
    struct paced_params params;
    struct device *devices;
};

struct backend_stream {
    struct backend_context *context;
    struct device *device;
    struct paced_stream *paced;
};

enum null_key { RATE, PERIOD, HOLD, PPM, JITTER, NOISE, DOUBLE, DELAY, SEED };

/* The keys of -d, all integers. */
static const struct {
    const char *name;
    enum null_key key;
    long min, max;
} keys[] = {
    {"rate",   RATE,   8000,   384000    },
    {"period", PERIOD, 1,      FRAMES_MAX},
    {"hold",   HOLD,   1,      1000000   },
    {"ppm",    PPM,    -50000, 50000     },
    {"jitter", JITTER, 0,      US_MAX    },
    {"noise",  NOISE,  0,      US_MAX    },
    {"double", DOUBLE, 0,      1000000   },
    {"delay",  DELAY,  0,      FRAMES_MAX},
    {"seed",   SEED,   0,      1000000   },
};

static void set_key(struct paced_params *params, enum null_key key, long value)
{
    switch (key) {
    case RATE:
        params->rate = (uint32_t)value;
        break;
    case PERIOD:
        params->period[0] = (uint32_t)value;
        params->period[1] = 0;
        break;
    case HOLD:
        params->hold_cycles = (uint32_t)value;
        break;
    case PPM:
        params->ppm = (double)value;
        break;
    case JITTER:
        params->jitter_ns = value * 1000;
        break;
    case NOISE:
        params->noise_ns = value * 1000;
        break;
    case DOUBLE:
        params->double_every = (uint32_t)value;
        break;
    case DELAY:
        params->delay_frames = (uint32_t)value;
        break;
    case SEED:
        params->seed = (uint32_t)value;
        break;
    }
}

/* A decimal number within [min, max] that ends at one of `ends` or the string's end. */
static int parse_number(const char **text, long min, long max, const char *ends, long *value)
{
    char *end;
    if (**text != '-' && (**text < '0' || **text > '9'))
        return -EINVAL; /* strtol would take blanks and a plus */
    errno = 0;
    *value = strtol(*text, &end, 10);
    if (errno != 0 || end == *text || *value < min || *value > max || (*end != '\0' && !strchr(ends, *end)))
        return -EINVAL;
    *text = end;
    return 0;
}

/* "rate=48000,period=64/4096,ppm=-300" */
static int parse_target(struct paced_params *params, const char *text)
{
    while (*text != '\0') {
        const size_t length = strcspn(text, "=");
        size_t i = 0;
        while (i < sizeof keys / sizeof keys[0] &&
               (strlen(keys[i].name) != length || strncmp(keys[i].name, text, length) != 0))
            i++;
        if (i == sizeof keys / sizeof keys[0] || text[length] != '=')
            return -EINVAL;
        text += length + 1;
        long value;
        if (parse_number(&text, keys[i].min, keys[i].max, keys[i].key == PERIOD ? ",/" : ",", &value) < 0)
            return -EINVAL;
        set_key(params, keys[i].key, value);
        if (*text == '/') {
            text++;
            if (parse_number(&text, keys[i].min, keys[i].max, ",", &value) < 0)
                return -EINVAL;
            params->period[1] = (uint32_t)value;
        }
        if (*text == ',' && *++text == '\0')
            return -EINVAL;
    }
    return 0;
}

static int null_check_target(const char *target)
{
    struct paced_params params = {0};
    return parse_target(&params, target);
}

static int null_probe(const struct backend_context_params *params)
{
    (void)params;
    return 0;
}

static int null_context_open(struct backend_context **out, const struct backend_context_params *params)
{
    const struct paced_params standard = {
        .rate = 48000, .hold_cycles = 50, .realtime = true, .period = {0}, .seed = 1};
    struct backend_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->params = standard;
    if (params->target && parse_target(&context->params, params->target) < 0) {
        free(context);
        return -EINVAL;
    }
    *out = context;
    return 0;
}

static enum backend_state null_context_state(struct backend_context *context)
{
    (void)context;
    return BACKEND_OK;
}

static void null_context_close(struct backend_context *context)
{
    free(context);
}

/* Without a period of its own the device grants what is asked for. */
static uint32_t granted_period(int64_t period_ns, uint32_t rate)
{
    const int64_t frames = period_ns > 0 ? period_ns * rate / 1000000000 : 256;
    return frames < 16 ? 16 : frames > FRAMES_MAX ? FRAMES_MAX : (uint32_t)frames;
}

static bool same(const struct paced_params *a, const struct paced_params *b)
{
    return a->rate == b->rate && a->period[0] == b->period[0] && a->period[1] == b->period[1] &&
           a->hold_cycles == b->hold_cycles && a->ppm == b->ppm && a->jitter_ns == b->jitter_ns &&
           a->noise_ns == b->noise_ns && a->double_every == b->double_every && a->delay_frames == b->delay_frames &&
           a->seed == b->seed;
}

/* The device of these parameters, for one stream more. */
static int use_device(struct backend_context *context, const struct paced_params *params, struct device **out)
{
    struct device *device = context->devices;
    while (device && !same(&device->params, params))
        device = device->next;
    if (!device) {
        device = calloc(1, sizeof *device);
        if (!device)
            return -ENOMEM;
        device->params = *params;
        const int rc = paced_create(&device->paced, params);
        if (rc < 0) {
            free(device);
            return rc;
        }
        device->next = context->devices;
        context->devices = device;
    }
    device->streams++;
    *out = device;
    return 0;
}

static void leave_device(struct backend_context *context, struct device *device)
{
    if (--device->streams > 0)
        return;
    struct device **link = &context->devices;
    while (*link != device)
        link = &(*link)->next;
    *link = device->next;
    paced_destroy(device->paced);
    free(device);
}

static int null_open(struct backend_context *context, struct backend_stream_params *params,
                     struct backend_stream **out)
{
    struct paced_params wanted = context->params;
    if (params->channels == 0 || params->channels > BACKEND_CHANNELS_MAX ||
        (params->target && parse_target(&wanted, params->target) < 0))
        return -EINVAL;
    if (wanted.period[0] == 0)
        wanted.period[0] = granted_period(params->period_ns, wanted.rate);
    const uint32_t longest = wanted.period[1] > wanted.period[0] ? wanted.period[1] : wanted.period[0];
    /* Late by two periods (and no less than 20 ms, which any machine is now and then): a real device has run dry. */
    wanted.late_max_ns = wanted.jitter_ns + (int64_t)longest * 2 * 1000000000 / wanted.rate;
    if (wanted.late_max_ns < 20000000)
        wanted.late_max_ns = 20000000;

    struct backend_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    stream->context = context;
    int rc = use_device(context, &wanted, &stream->device);
    if (rc < 0)
        goto fail;
    const struct paced_stream_params paced = {.pull = params->pull, .pull_arg = params->arg};
    rc = paced_open(stream->device->paced, &paced, &stream->paced);
    if (rc < 0)
        goto fail_device;
    params->period_ns = (int64_t)wanted.period[0] * 1000000000 / wanted.rate;
    *out = stream;
    return 0;

fail_device:
    leave_device(context, stream->device);
fail:
    free(stream);
    return rc;
}

static int null_start(struct backend_stream *stream)
{
    return paced_start(stream->paced);
}

static void null_stop(struct backend_stream *stream)
{
    paced_stop(stream->paced);
}

static enum backend_state null_state(struct backend_stream *stream)
{
    (void)stream;
    return BACKEND_OK;
}

static void null_close(struct backend_stream *stream)
{
    if (!stream)
        return;
    paced_close(stream->paced);
    leave_device(stream->context, stream->device);
    free(stream);
}

const struct backend backend_null = {
    .name = "null",
    .title = "no device",
    .target_help = "rate=HZ,period=FRAMES[/FRAMES],hold=CYCLES,ppm=N,jitter=US,noise=US,double=CYCLES,"
                   "delay=FRAMES,seed=N (each may be left out)",
    .check_target = null_check_target,
    .probe = null_probe,
    .context_open = null_context_open,
    .context_state = null_context_state,
    .context_close = null_context_close,
    .open = null_open,
    .start = null_start,
    .stop = null_stop,
    .state = null_state,
    .close = null_close,
};
