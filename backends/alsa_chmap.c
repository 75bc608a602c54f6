/* SPDX-License-Identifier: MIT
 *
 * Speakers: ALSA's names and orders for them.
 */
#include "backends/alsa.h"

#include <errno.h>
#include <stdlib.h>

/* ALSA's position of each bit of the mask (format.h). */
static const unsigned positions[] = {
    SND_CHMAP_FL,  SND_CHMAP_FR,  SND_CHMAP_FC,  SND_CHMAP_LFE, SND_CHMAP_RL, SND_CHMAP_RR,
    SND_CHMAP_FLC, SND_CHMAP_FRC, SND_CHMAP_RC,  SND_CHMAP_SL,  SND_CHMAP_SR, SND_CHMAP_TC,
    SND_CHMAP_TFL, SND_CHMAP_TFC, SND_CHMAP_TFR, SND_CHMAP_TRL,
};
#define SPEAKERS (sizeof positions / sizeof positions[0])

static uint8_t speaker_of(unsigned position)
{
    position &= SND_CHMAP_POSITION_MASK;
    if (position == SND_CHMAP_MONO)
        position = SND_CHMAP_FC;
    for (uint8_t bit = 0; bit < SPEAKERS; bit++)
        if (positions[bit] == position)
            return bit;
    return ROUTE_NOWHERE;
}

/* Writes ROUTE_OUT_MAX speakers at most. */
static void read_map(const snd_pcm_chmap_t *map, uint8_t *speakers)
{
    for (unsigned c = 0; c < map->channels && c < ROUTE_OUT_MAX; c++)
        speakers[c] = speaker_of(map->pos[c]);
}

/* Does the device have a map of so many channels with a place for all? Without any map, the usual order counts. */
static bool complete(snd_pcm_chmap_query_t **maps, uint16_t mask, unsigned channels)
{
    uint8_t speakers[ROUTE_OUT_MAX];
    if (__builtin_popcount(mask) == 1)
        return true; /* both fronts are better than a centre among many */
    if (!maps) {
        pcm_route_default_speakers(speakers, channels);
        return pcm_route_complete(mask, speakers, channels);
    }
    for (snd_pcm_chmap_query_t **map = maps; *map; map++) {
        if ((*map)->map.channels != channels)
            continue;
        read_map(&(*map)->map, speakers);
        /* One whose channels may take any order is judged by what it has, not by where. */
        if ((*map)->type == SND_CHMAP_TYPE_VAR || pcm_route_complete(mask, speakers, channels))
            return true;
    }
    return false;
}

unsigned alsa_pick_channels(snd_pcm_t *pcm, snd_pcm_hw_params_t *hw, uint16_t mask)
{
    const unsigned wanted = (unsigned)__builtin_popcount(mask);
    snd_pcm_chmap_query_t **maps = snd_pcm_query_chmaps(pcm);
    unsigned chosen = 0, nearest = 0;
    for (unsigned channels = wanted; channels <= ROUTE_OUT_MAX && !chosen; channels++) {
        if (snd_pcm_hw_params_test_channels(pcm, hw, channels) < 0)
            continue;
        nearest = nearest ? nearest : channels;
        if (complete(maps, mask, channels))
            chosen = channels;
    }
    for (unsigned channels = wanted; channels-- > 1 && !nearest;) {
        if (snd_pcm_hw_params_test_channels(pcm, hw, channels) == 0)
            nearest = channels;
    }
    if (maps)
        snd_pcm_free_chmaps(maps);
    return chosen ? chosen : nearest;
}

/* Some plug-ins whose map is fixed take another one without a word, and go on as before: only who says so is asked. */
static bool takes_orders(snd_pcm_t *pcm, unsigned channels)
{
    bool takes = false;
    snd_pcm_chmap_query_t **maps = snd_pcm_query_chmaps(pcm);
    for (snd_pcm_chmap_query_t **map = maps; map && *map; map++)
        takes = takes || ((*map)->map.channels == channels && (*map)->type != SND_CHMAP_TYPE_FIXED);
    if (maps)
        snd_pcm_free_chmaps(maps);
    return takes;
}

/* The guest's own order, where the device has as many channels. */
static void ask_order(snd_pcm_t *pcm, uint16_t mask, unsigned channels)
{
    if (__builtin_popcount(mask) != (int)channels || !takes_orders(pcm, channels))
        return;
    snd_pcm_chmap_t *map = malloc(sizeof *map + channels * sizeof map->pos[0]);
    if (!map)
        return; /* it plays in the device's order */
    map->channels = 0;
    for (unsigned bit = 0; bit < SPEAKERS; bit++)
        if (mask & 1u << bit)
            map->pos[map->channels++] = positions[bit];
    if (channels == 1)
        map->pos[0] = SND_CHMAP_MONO;
    snd_pcm_set_chmap(pcm, map); /* what came of it is read below */
    free(map);
}

int alsa_route(snd_pcm_t *pcm, uint16_t mask, struct alsa_setup *setup)
{
    uint8_t speakers[ROUTE_OUT_MAX];
    ask_order(pcm, mask, setup->channels);
    pcm_route_default_speakers(speakers, setup->channels);
    snd_pcm_chmap_t *map = snd_pcm_get_chmap(pcm);
    if (map && map->channels == setup->channels) {
        uint8_t named[ROUTE_OUT_MAX];
        bool any = false;
        read_map(map, named);
        for (unsigned c = 0; c < setup->channels; c++)
            any = any || named[c] != ROUTE_NOWHERE;
        for (unsigned c = 0; c < setup->channels && any; c++)
            speakers[c] = named[c];
    }
    free(map);
    return pcm_route_init(&setup->route, mask, speakers, setup->channels);
}
