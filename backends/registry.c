/* SPDX-License-Identifier: MIT */
#include "backends/registry.h"

#include <stddef.h>
#include <string.h>

static const struct backend *const backends[] = {
#ifdef EARSHOT_PIPEWIRE
    &backend_pipewire,
#endif
#ifdef EARSHOT_PULSE
    &backend_pulse,
#endif
#ifdef EARSHOT_JACK
    &backend_jack,
#endif
#ifdef EARSHOT_ALSA
    &backend_alsa,
#endif
#ifdef EARSHOT_SNDIO
    &backend_sndio,
#endif
#ifdef EARSHOT_WAV
    &backend_wav,
#endif
    &backend_null,     NULL,
};

const struct backend *const *backend_list(void)
{
    return backends;
}

const struct backend *backend_find(const char *name)
{
    for (const struct backend *const *backend = backends; *backend; backend++) {
        if (strcmp((*backend)->name, name) == 0)
            return *backend;
    }
    return NULL;
}
