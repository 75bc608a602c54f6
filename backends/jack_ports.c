/* SPDX-License-Identifier: MIT */
#include "backends/jack_ports.h"

#include "receiver/format.h"

#include <stdio.h>
#include <string.h>

void jack_ports_name(char name[JACK_PORTS_NAME_MAX], uint16_t mask, unsigned channel)
{
    const int bit = pcm_channel_speaker(mask, channel);
    snprintf(name, JACK_PORTS_NAME_MAX, "%s", bit < 0 ? "?" : pcm_speaker_name((unsigned)bit));
    for (char *c = name; *c; c++) {
        if (*c == 'B')
            *c = 'R';
    }
}

/* What follows the last '_' or ':'. */
static const char *ending(const char *port)
{
    const char *last = port;
    for (const char *c = port; *c; c++) {
        if (*c == '_' || *c == ':')
            last = c + 1;
    }
    return last;
}

static int find(const char *speaker, const char *const *targets, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!strcmp(ending(targets[i]), speaker))
            return (int)i;
    }
    return -1;
}

/* The other pair behind the listener, or NULL. */
static const char *stand_in(const char *speaker)
{
    static const char *const pairs[][2] = {
        {"RL", "SL"},
        {"RR", "SR"},
        {"SL", "RL"},
        {"SR", "RR"},
    };
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        if (!strcmp(pairs[i][0], speaker))
            return pairs[i][1];
    }
    return NULL;
}

void jack_ports_match(int peers[BACKEND_CHANNELS_MAX][JACK_PORTS_PEERS], uint8_t channels, uint16_t mask,
                      const char *const *targets, unsigned count)
{
    char names[BACKEND_CHANNELS_MAX][JACK_PORTS_NAME_MAX];
    const char *own[BACKEND_CHANNELS_MAX];
    bool named = false;

    for (unsigned c = 0; c < channels; c++) {
        jack_ports_name(names[c], mask, c);
        own[c] = names[c];
        peers[c][0] = find(names[c], targets, count);
        peers[c][1] = -1;
        named = named || peers[c][0] >= 0;
    }
    if (channels == 1) {
        for (int i = 0; i < JACK_PORTS_PEERS; i++)
            peers[0][i] = (unsigned)i < count ? i : -1;
        return;
    }
    for (unsigned c = 0; c < channels; c++) {
        const char *other = stand_in(names[c]);
        if (!named)
            peers[c][0] = c < count ? (int)c : -1;
        else if (peers[c][0] < 0 && other && find(other, own, channels) < 0)
            peers[c][0] = find(other, targets, count);
    }
}
