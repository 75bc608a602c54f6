/* SPDX-License-Identifier: MIT
 *
 * PulseAudio's name for each speaker of the guest's mask. Any thread.
 */
#ifndef EARSHOT_PULSE_MAP_H
#define EARSHOT_PULSE_MAP_H

#include <pulse/channelmap.h>
#include <stdint.h>

/* mask has `channels` bits, at most 8. A single channel is MONO to PulseAudio: as FC it would be folded into both sides 3 dB
 * down. */
void pulse_map_fill(pa_channel_map *map, uint8_t channels, uint16_t mask);

#endif
