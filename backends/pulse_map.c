/* SPDX-License-Identifier: MIT */
#include "backends/pulse_map.h"

#include "receiver/format.h"

void pulse_map_fill(pa_channel_map *map, uint8_t channels, uint16_t mask)
{
    static const pa_channel_position_t speakers[PCM_SPEAKERS] = {
        PA_CHANNEL_POSITION_FRONT_LEFT,
        PA_CHANNEL_POSITION_FRONT_RIGHT,
        PA_CHANNEL_POSITION_FRONT_CENTER,
        PA_CHANNEL_POSITION_LFE,
        PA_CHANNEL_POSITION_REAR_LEFT,
        PA_CHANNEL_POSITION_REAR_RIGHT,
        PA_CHANNEL_POSITION_FRONT_LEFT_OF_CENTER,
        PA_CHANNEL_POSITION_FRONT_RIGHT_OF_CENTER,
        PA_CHANNEL_POSITION_REAR_CENTER,
        PA_CHANNEL_POSITION_SIDE_LEFT,
        PA_CHANNEL_POSITION_SIDE_RIGHT,
        PA_CHANNEL_POSITION_TOP_CENTER,
        PA_CHANNEL_POSITION_TOP_FRONT_LEFT,
        PA_CHANNEL_POSITION_TOP_FRONT_CENTER,
        PA_CHANNEL_POSITION_TOP_FRONT_RIGHT,
        PA_CHANNEL_POSITION_TOP_REAR_LEFT,
    };
    pa_channel_map_init(map);
    map->channels = channels;
    for (unsigned channel = 0; channel < channels; channel++)
        map->map[channel] = speakers[pcm_channel_speaker(mask, channel)];
    if (channels == 1 && mask == 1u << 2)
        map->map[0] = PA_CHANNEL_POSITION_MONO;
}
