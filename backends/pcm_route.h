/* SPDX-License-Identifier: MIT
 *
 * From the guest's channels as floats to a device's channels as it wants its samples: for devices without a server in
 * front of them that would do it. Pure functions, any thread, also [rt].
 */
#ifndef EARSHOT_PCM_ROUTE_H
#define EARSHOT_PCM_ROUTE_H

#include "backends/backend.h"

#include <stdbool.h>
#include <stdint.h>

#define ROUTE_OUT_MAX 64
#define ROUTE_NOWHERE 0xff /* a channel without a known speaker: it stays silent */

/* One sample: an integer of `bits` in `bytes`, `shift` bits above the lowest; or a float. Words are in the machine's
 * byte order, three bytes are little-endian. */
struct pcm_layout {
    uint8_t bits;  /* 8..32 */
    uint8_t bytes; /* 2, 3 or 4 */
    uint8_t shift; /* 0 or 8 * bytes - bits */
    bool is_float; /* 4 bytes; bits and shift mean nothing */
};

struct pcm_route {
    unsigned in, out;
    bool plain;                                      /* each output is one input as it is, or silent */
    uint8_t from[ROUTE_OUT_MAX];                     /* where plain: the input, or ROUTE_NOWHERE */
    float gain[ROUTE_OUT_MAX][BACKEND_CHANNELS_MAX]; /* else */
};

/* The guest's `mask` (format.h) to a device whose channel c is speakers[c], a bit number of the mask or ROUTE_NOWHERE.
 * What has no speaker of its own goes to the nearest that there are: back to side, centre to both fronts (3 dB down; at
 * full level where the guest has but that channel), left to left; the bass channel is left out. -EINVAL where `out` is
 * 0 or too large. */
int pcm_route_init(struct pcm_route *route, uint16_t mask, const uint8_t *speakers, unsigned out);

/* Does each of the mask's speakers have a channel of its own? */
bool pcm_route_complete(uint16_t mask, const uint8_t *speakers, unsigned out);

/* The order that devices have which name none: fronts, backs, centre, bass, sides. */
void pcm_route_default_speakers(uint8_t *speakers, unsigned out);

/* [rt] `src` has route->in channels, dst room for frames * route->out * layout->bytes. Integers round
 * to nearest and saturate; floats pass as they are. */
void pcm_route_run(const struct pcm_route *route, const struct pcm_layout *layout, void *dst, const float *src,
                   uint32_t frames);

#endif
