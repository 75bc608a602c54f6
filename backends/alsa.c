/* SPDX-License-Identifier: MIT
 *
 * ALSA: any PCM. What it is asked is in alsa_params.c and alsa_chmap.c, how it is driven in alsa_device.c.
 */
#include "backends/alsa.h"

#include "backends/device_backend.h"
#include "backends/registry.h"

static int probe(const struct backend_context_params *params)
{
    return device_backend_probe(params, &alsa_device_ops);
}

static int context_open(struct backend_context **context, const struct backend_context_params *params)
{
    return device_backend_context_open(context, params, &alsa_device_ops);
}

const struct backend backend_alsa = {
    .name = "alsa",
    .title = "ALSA",
    .target_help = "the name of a PCM device (aplay -L lists them)",
    .for_auto = true,
    .last_resort = true,
    .holds_device = true,
    .own_period = true,
    .probe = probe,
    .context_open = context_open,
    .context_state = device_backend_context_state,
    .context_close = device_backend_context_close,
    .open = device_backend_open,
    .start = device_backend_start,
    .stop = device_backend_stop,
    .state = device_backend_state,
    .close = device_backend_close,
    .info = device_backend_info,
};
