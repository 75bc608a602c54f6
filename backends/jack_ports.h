/* SPDX-License-Identifier: MIT
 *
 * Which of our ports goes to which of JACK's. Pure functions, any thread.
 */
#ifndef EARSHOT_JACK_PORTS_H
#define EARSHOT_JACK_PORTS_H

#include "backends/backend.h"

#define JACK_PORTS_NAME_MAX 8
#define JACK_PORTS_PEERS    2 /* a single channel is heard on both sides */

/* "FL", "LFE", "RL", ...: the speaker of the channel'th interleaved channel, as JACK programs write it (rear, where
 * format.h says back). */
void jack_ports_name(char name[JACK_PORTS_NAME_MAX], uint16_t mask, unsigned channel);

/* Chooses for each channel the target, or targets, it is to be connected to: peers[channel][] are indexes into
 * `targets` ("client:port"), or -1.
 *
 * Targets whose names end in a speaker ("...:playback_FL", as PipeWire's do) get that speaker's channel; RL and SL, and
 * RR and SR, stand in for each other where a layout has but one pair. Others ("system:playback_1") are taken in order.
 * A single channel goes to the first two. */
void jack_ports_match(int peers[BACKEND_CHANNELS_MAX][JACK_PORTS_PEERS], uint8_t channels, uint16_t mask,
                      const char *const *targets, unsigned count);

#endif
