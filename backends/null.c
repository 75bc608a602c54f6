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

struct backend_context {
    struct paced_params params;
};

struct backend_stream {
    struct paced *paced;
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

static int null_open(struct backend_context *context, struct backend_stream_params *params,
                     struct backend_stream **out)
{
    struct paced_params device = context->params;
    if (params->channels == 0 || params->channels > BACKEND_CHANNELS_MAX ||
        (params->target && parse_target(&device, params->target) < 0))
        return -EINVAL;
    if (device.period[0] == 0)
        device.period[0] = granted_period(params->period_ns, device.rate);
    const uint32_t longest = device.period[1] > device.period[0] ? device.period[1] : device.period[0];
    /* Late by two periods (and no less than 20 ms, which any machine is now and then): a real device has run dry. */
    device.late_max_ns = device.jitter_ns + (int64_t)longest * 2 * 1000000000 / device.rate;
    if (device.late_max_ns < 20000000)
        device.late_max_ns = 20000000;
    device.channels = params->channels;
    device.pull = params->pull;
    device.pull_arg = params->arg;

    struct backend_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    const int rc = paced_create(&stream->paced, &device);
    if (rc < 0) {
        free(stream);
        return rc;
    }
    params->period_ns = (int64_t)device.period[0] * 1000000000 / device.rate;
    *out = stream;
    return 0;
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
    paced_destroy(stream->paced);
    free(stream);
}

const struct backend backend_null = {
    .name = "null",
    .title = "no device",
    .target_help = "rate=HZ,period=FRAMES[/FRAMES],hold=CYCLES,ppm=N,jitter=US,noise=US,double=CYCLES,"
                   "delay=FRAMES,seed=N (each may be left out)",
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
