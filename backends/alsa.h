/* SPDX-License-Identifier: MIT
 *
 * What the files of the ALSA backend share. All of it on the device's thread.
 */
#ifndef EARSHOT_ALSA_H
#define EARSHOT_ALSA_H

#include "backends/device_thread.h"
#include "backends/pcm_route.h"

#include <alsa/asoundlib.h>

#define ALSA_PERIODS       2 /* written ahead */
#define ALSA_PERIODS_BATCH 3 /* where the device says where it stands only at the end of a transfer */
#define ALSA_PERIODS_PULSE 4 /* where two more threads without real time are on the way */

/* What was negotiated. */
struct alsa_setup {
    uint32_t rate, period_frames, buffer_frames;
    uint32_t fill_frames; /* kept written ahead at most; the buffer may be larger than was asked for */
    unsigned channels;
    snd_pcm_format_t format;
    struct pcm_layout layout;
    struct pcm_route route;
    bool batch;
    /* PulseAudio's plug-in, whose delay is a guess: its library interpolates between what the server says now and then,
     * and is off by milliseconds for seconds. Only the room in its buffer is sure, and moves when it wakes us. */
    bool pulse;
    /* A card of the kernel's, which stamps its positions. The library asks a plug-in of its own kind for both until it
     * says the same twice, which one that moves at every look never does. */
    bool card;
};

/* Opens and negotiates. -EBUSY: somebody else has it; -ENODEV: there is no such device now; -EINVAL and other -errno
 * of the library. */
int alsa_open(snd_pcm_t **pcm, const struct backend_stream_params *params, struct alsa_setup *setup);

/* Negotiates again, with `extra` periods more than needed. Errors as the library has them. */
int alsa_configure(snd_pcm_t *pcm, const struct backend_stream_params *params, unsigned extra,
                   struct alsa_setup *setup);

/* "48 kHz, S32_LE, 2 channels, 2 periods of 256 frames". */
void alsa_describe(const struct alsa_setup *setup, char *text, size_t size);

/* The channels to ask for: enough for each speaker of the mask, as few as the device has, else what comes near. 0:
 * the device takes none. */
unsigned alsa_pick_channels(snd_pcm_t *pcm, snd_pcm_hw_params_t *hw, uint16_t mask);

/* After hw_params: orders the device's channels as the guest's where it lets us, and routes to what it has. */
int alsa_route(snd_pcm_t *pcm, uint16_t mask, struct alsa_setup *setup);

extern const struct device_ops alsa_device_ops;

#endif
