/* SPDX-License-Identifier: MIT
 *
 * libsamplerate with an exact position: which source frame the next output frame stands for, to a fraction, however
 * the ratio is ramped. Fed straight from a frame ring with no more than it needs.
 */
#ifndef EARSHOT_RESAMPLER_H
#define EARSHOT_RESAMPLER_H

#include "ringbuf/frame_ring.h"

#include <stdbool.h>
#include <stdint.h>

#include <samplerate.h>

enum resampler_quality { RESAMPLER_FASTEST, RESAMPLER_MEDIUM, RESAMPLER_BEST };

#define RESAMPLER_STEP_MAX   32.0 /* source frames per output frame */
#define RESAMPLER_FRAMES_MAX 1024 /* output frames of one call; fewer where step > 2, see resampler_slice() */

struct resampler {
    SRC_STATE *src;
    float *scratch; /* input that is not in one piece */
    unsigned channels;
    enum resampler_quality quality;
    double last_ratio; /* libsamplerate's own: where its next ramp begins; 0: no ramp, begins at its ratio */
    uint64_t base;     /* position = base + offset, offset in [0, 1) */
    double offset;
    uint64_t fed; /* the next source frame to feed */
};

/* [main] -ENOMEM. channels: 1..8. */
int resampler_init(struct resampler *rs, enum resampler_quality quality, unsigned channels);
void resampler_free(struct resampler *rs);

/* [any] Source frames beyond its position that a resampler must have been fed for one output frame, at `step`
 * source frames per output frame. */
double resampler_lookahead(enum resampler_quality quality, double step);

/* [rt] Output frames that one call may ask for at this step. */
uint32_t resampler_slice(double step);

/* [rt] The next output frame stands for `position`, give or take one frame. The filter is filled from the ring's
 * older frames, as far as they are still there; `spare` is room for RESAMPLER_FRAMES_MAX frames. */
void resampler_seek(struct resampler *rs, const struct frame_ring *ring, double position, double step, float *spare);

/* [rt] Is all there that resampler_run() will need? */
bool resampler_ready(const struct resampler *rs, const struct frame_ring *ring, uint32_t frames, double step);

/* [rt] `frames` output frames (<= resampler_slice(step)), the step ramped from the last one to `step`. Where the
 * ring ends early, what is missing is made by mirroring what came before: for a tail that is being faded out. */
void resampler_run(struct resampler *rs, const struct frame_ring *ring, float *dst, uint32_t frames, double step);

/* [rt] Position of the next output frame. */
static inline double resampler_position(const struct resampler *rs)
{
    return (double)rs->base + rs->offset;
}

#endif
