/* SPDX-License-Identifier: MIT
 *
 * A Linux guest's virtual sound card: an output in its own PulseAudio, or in the one that PipeWire has, made the default
 * and recorded. One thread, the caller's.
 *
 * Through libpulse alone, because both servers speak its protocol, and so do mixers in both. What it takes for short
 * periods is there in both, too: PipeWire's lets each client ask for less than its usual 5.3 ms.
 */
#ifndef EARSHOT_GUEST_CAPTURE_H
#define EARSHOT_GUEST_CAPTURE_H

#include "receiver/format.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_CAPTURE_TITLE "Host (Earshot)" /* what the output is called in mixers */

struct guest_capture_params {
    struct pcm_format format;
    uint32_t piece_frames;        /* how much the server is to hand over at a time; it may be more, or less */
    const sigset_t *stop_signals; /* blocked; any of them ends it */
    bool quiet;                   /* say nothing but what is wrong */

    /* The next bytes of the stream, 1 or more, not always whole frames. Anything but 0 ends it. */
    int (*deliver)(void *arg, const uint8_t *pcm, size_t bytes);
    /* What comes now does not continue what was delivered: another server, or the same one anew. */
    void (*restart)(void *arg);
    void *arg;
};

/* Makes the output, waiting for a server where there is none, and delivers what it plays until a signal comes: 0, or
 * what deliver() returned. Makes it anew when the server goes and comes. At the end the output is gone, and the default
 * one is what it was. -errno. The calling
 * thread gets a real-time priority, where it may have one. */
int guest_capture_run(const struct guest_capture_params *params);

#endif
