/* SPDX-License-Identifier: MIT
 *
 * Opening a PCM and agreeing with it on everything. What the device cannot do it need not do: the nearest it grants is
 * what is used.
 */
#include "backends/alsa.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PERIOD_NS      (INT64_C(256) * 1000000000 / 48000) /* where nothing else is wanted */
#define PERIOD_MIN     16u
#define NATIVE_MODE    (SND_PCM_NO_AUTO_RESAMPLE | SND_PCM_NO_AUTO_CHANNELS | SND_PCM_NO_AUTO_FORMAT)
#define PLUG_NAME_MAX  256
#define DEFAULT_DEVICE "default"

/* The formats we can write, those that lose least first. */
static const struct {
    snd_pcm_format_t format;
    struct pcm_layout layout;
} formats[] = {
    {SND_PCM_FORMAT_FLOAT,   {.bytes = 4, .is_float = true}},
    {SND_PCM_FORMAT_S32,     {.bits = 32, .bytes = 4}      },
    {SND_PCM_FORMAT_S24,     {.bits = 24, .bytes = 4}      },
    {SND_PCM_FORMAT_S24_3LE, {.bits = 24, .bytes = 3}      },
    {SND_PCM_FORMAT_S16,     {.bits = 16, .bytes = 2}      },
};
#define FORMATS (sizeof formats / sizeof formats[0])

static int pick_format(snd_pcm_t *pcm, snd_pcm_hw_params_t *hw, struct alsa_setup *setup)
{
    for (size_t i = 0; i < FORMATS; i++) {
        if (snd_pcm_hw_params_test_format(pcm, hw, formats[i].format) < 0)
            continue;
        setup->format = formats[i].format;
        setup->layout = formats[i].layout;
        return snd_pcm_hw_params_set_format(pcm, hw, setup->format);
    }
    return -EINVAL;
}

/* How much of the sizes we ask for; devices whose rules contradict each other refuse some of it. */
enum asking { PERIOD_AND_BUFFER, BUFFER_AND_PERIOD, BUFFER_ONLY, NOTHING, ASKINGS };

static int ask_sizes(snd_pcm_t *pcm, snd_pcm_hw_params_t *hw, enum asking asking, snd_pcm_uframes_t period,
                     unsigned periods)
{
    snd_pcm_uframes_t buffer = period * periods;
    int rc = 0;
    if (asking == PERIOD_AND_BUFFER) {
        rc = snd_pcm_hw_params_set_period_size_near(pcm, hw, &period, NULL);
        buffer = period * periods;
    }
    if (rc >= 0 && asking != NOTHING)
        rc = snd_pcm_hw_params_set_buffer_size_near(pcm, hw, &buffer);
    if (rc >= 0 && asking == BUFFER_AND_PERIOD)
        rc = snd_pcm_hw_params_set_period_size_near(pcm, hw, &period, NULL);
    return rc;
}

static snd_pcm_uframes_t wanted_period(const struct backend_stream_params *params, unsigned rate)
{
    const int64_t ns = params->period_ns > 0 ? params->period_ns : PERIOD_NS;
    const int64_t frames = (ns * rate + 500000000) / 1000000000;
    return frames < PERIOD_MIN ? PERIOD_MIN : (snd_pcm_uframes_t)frames;
}

/* Periods to be written ahead. */
static unsigned ahead(const struct alsa_setup *setup)
{
    return setup->pulse ? ALSA_PERIODS_PULSE : setup->batch ? ALSA_PERIODS_BATCH : ALSA_PERIODS;
}

/* Sets hw; what it granted is in `setup` when it returns 0. */
static int hw_params(snd_pcm_t *pcm, const struct backend_stream_params *params, unsigned extra,
                     struct alsa_setup *setup)
{
    snd_pcm_hw_params_t *any, *hw;
    snd_pcm_hw_params_alloca(&any);
    snd_pcm_hw_params_alloca(&hw);
    int rc = snd_pcm_hw_params_any(pcm, any);
    /* The device's own rate: our resampler is to be the only one. */
    if (rc >= 0)
        rc = snd_pcm_hw_params_set_rate_resample(pcm, any, 0);
    if (rc >= 0)
        rc = snd_pcm_hw_params_set_access(pcm, any, SND_PCM_ACCESS_RW_INTERLEAVED);
    if (rc >= 0)
        rc = pick_format(pcm, any, setup);
    if (rc < 0)
        return rc;
    setup->channels = alsa_pick_channels(pcm, any, params->mask);
    if (setup->channels == 0)
        return -EINVAL;
    rc = snd_pcm_hw_params_set_channels(pcm, any, setup->channels);
    unsigned rate = params->source_rate;
    if (rc >= 0)
        rc = snd_pcm_hw_params_set_rate_near(pcm, any, &rate, NULL);
    if (rc < 0)
        return rc;
    setup->rate = rate;

    for (int asking = 0; asking < ASKINGS; asking++) {
        setup->batch = false;
        for (int again = 0; again < 2; again++) {
            const unsigned periods = ahead(setup) + extra;
            snd_pcm_hw_params_copy(hw, any);
            rc = ask_sizes(pcm, hw, (enum asking)asking, wanted_period(params, rate), periods);
            if (rc >= 0)
                rc = snd_pcm_hw_params(pcm, hw);
            /* Only now it is known for what kind of device. */
            if (rc < 0 || setup->batch || !snd_pcm_hw_params_is_batch(hw))
                break;
            setup->batch = true;
            snd_pcm_hw_free(pcm);
        }
        if (rc >= 0)
            break;
    }
    if (rc < 0)
        return rc;
    snd_pcm_uframes_t period = 0, buffer = 0;
    rc = snd_pcm_hw_params_get_period_size(hw, &period, NULL);
    if (rc >= 0)
        rc = snd_pcm_hw_params_get_buffer_size(hw, &buffer);
    if (rc < 0)
        return rc;
    /* A device with a single period would have nothing left to play when it asks. */
    if (period > buffer / 2)
        period = buffer / 2;
    if (period == 0)
        return -EINVAL;
    const snd_pcm_uframes_t fill = period * (ahead(setup) + extra);
    setup->period_frames = (uint32_t)period;
    setup->buffer_frames = (uint32_t)buffer;
    setup->fill_frames = (uint32_t)(fill < buffer ? fill : buffer);
    return 0;
}

static int sw_params(snd_pcm_t *pcm, const struct alsa_setup *setup)
{
    snd_pcm_sw_params_t *sw;
    snd_pcm_uframes_t boundary;
    snd_pcm_sw_params_alloca(&sw);
    int rc = snd_pcm_sw_params_current(pcm, sw);
    if (rc >= 0)
        rc = snd_pcm_sw_params_get_boundary(sw, &boundary);
    if (rc >= 0) /* we start it */
        rc = snd_pcm_sw_params_set_start_threshold(pcm, sw, boundary);
    if (rc >= 0)
        rc = snd_pcm_sw_params_set_stop_threshold(pcm, sw, setup->buffer_frames);
    if (rc >= 0)
        rc = snd_pcm_sw_params_set_avail_min(pcm, sw,
                                             setup->buffer_frames - setup->fill_frames + setup->period_frames);
    if (rc < 0)
        return rc;
    /* Where there are none of these, the delay and our own clock have to do. */
    snd_pcm_sw_params_set_tstamp_mode(pcm, sw, SND_PCM_TSTAMP_ENABLE);
    snd_pcm_sw_params_set_tstamp_type(pcm, sw, SND_PCM_TSTAMP_TYPE_MONOTONIC);
    return snd_pcm_sw_params(pcm, sw);
}

/* A plug-in says its name when it is asked to print what it is. */
static bool is_pulse(snd_pcm_t *pcm)
{
    snd_output_t *out;
    char *text;
    bool is = false;
    if (snd_output_buffer_open(&out) < 0)
        return false;
    if (snd_pcm_dump(pcm, out) >= 0 && snd_output_putc(out, 0) >= 0 && snd_output_buffer_string(out, &text) > 0)
        is = strstr(text, "PulseAudio") != NULL;
    snd_output_close(out);
    return is;
}

/* Behind all plug-ins is a card. */
static bool is_card(snd_pcm_t *pcm)
{
    snd_pcm_info_t *info;
    snd_pcm_info_alloca(&info);
    return snd_pcm_info(pcm, info) >= 0 && snd_pcm_info_get_card(info) >= 0;
}

int alsa_configure(snd_pcm_t *pcm, const struct backend_stream_params *params, unsigned extra,
                   struct alsa_setup *setup)
{
    struct alsa_setup next = {.pulse = is_pulse(pcm), .card = is_card(pcm)};
    int rc = hw_params(pcm, params, extra, &next);
    if (rc >= 0)
        rc = alsa_route(pcm, params->mask, &next);
    if (rc >= 0)
        rc = sw_params(pcm, &next);
    if (rc < 0)
        return rc;
    *setup = next;
    return 0;
}

/* "default", or any name as a parameter of a plug: commas and colons in it are not the plug's. */
static int quote(char *out, size_t size, const char *name)
{
    if (strpbrk(name, "\"\\"))
        return -EINVAL;
    const int length = snprintf(out, size, "plug:{SLAVE=\"%s\"}", name);
    return length > 0 && (size_t)length < size ? 0 : -ENAMETOOLONG;
}

int alsa_open(snd_pcm_t **pcm, const struct backend_stream_params *params, struct alsa_setup *setup)
{
    const char *name = params->target ? params->target : DEFAULT_DEVICE;
    char plug[PLUG_NAME_MAX];
    /* As it is; then with what the name's own plug does; then with a plug before it, which takes everything. */
    const struct {
        const char *name;
        int mode;
    } ways[] = {
        {name, NATIVE_MODE},
        {name, 0          },
        {plug, 0          },
    };
    int first_error = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (ways[i].name == plug && quote(plug, sizeof plug, name) < 0)
            break;
        snd_pcm_t *opened;
        int rc = snd_pcm_open(&opened, ways[i].name, SND_PCM_STREAM_PLAYBACK, SND_PCM_NONBLOCK | ways[i].mode);
        if (rc >= 0) {
            rc = alsa_configure(opened, params, 0, setup);
            if (rc >= 0) {
                *pcm = opened;
                return 0;
            }
            snd_pcm_close(opened);
        } else if (i == 0) {
            return rc == -ENOENT || rc == -ENXIO ? -ENODEV : rc == -EAGAIN ? -EBUSY : rc;
        }
        first_error = first_error ? first_error : rc;
    }
    return first_error;
}

void alsa_describe(const struct alsa_setup *setup, char *text, size_t size)
{
    snprintf(text, size, "%g kHz, %s, %u channel%s, %u frames at a time, %u ahead", setup->rate / 1000.0,
             snd_pcm_format_name(setup->format), setup->channels, setup->channels == 1 ? "" : "s",
             setup->period_frames, setup->fill_frames);
}
