/* SPDX-License-Identifier: MIT
 *
 * What the demo's guest plays. Pure, any thread.
 */
#ifndef EARSHOT_DEMO_MELODY_H
#define EARSHOT_DEMO_MELODY_H

#include <stddef.h>
#include <stdint.h>

/* A phrase that can be repeated without a seam, as a WAV file of 48 kHz, 16 bit, stereo. To be freed; NULL: out of
 * memory. */
uint8_t *demo_melody_wav(size_t *bytes);

#endif
