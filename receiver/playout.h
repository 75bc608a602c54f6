/* SPDX-License-Identifier: MIT
 *
 * The pull: a feed's frames through rate control and resampler into the backend's buffer.
 */
#ifndef EARSHOT_PLAYOUT_H
#define EARSHOT_PLAYOUT_H

#include "backends/backend.h"
#include "receiver/feed.h"

#include <stdbool.h>
#include <stdint.h>

enum playout_quality { PLAYOUT_FASTEST, PLAYOUT_MEDIUM, PLAYOUT_BEST };

struct playout_params {
    enum playout_quality quality;
    int64_t latency_ns;     /* --latency: from the guest's chunk to the device; 0: auto */
    int64_t max_latency_ns; /* --max-latency: caps auto; 0: none */
};

enum playout_state {
    PLAYOUT_WAITING, /* nothing to play yet, or not enough: silence */
    PLAYOUT_PLAYING,
    PLAYOUT_STARVED, /* ran dry; starts again at its target */
};

/* A consistent picture, taken at the last pull. */
struct playout_stats {
    enum playout_state state;
    bool locked;
    bool latency_infeasible; /* --latency is below what chunk + quantum + resampler + 1 ms need: plays as auto */
    bool jitter_exceeds;     /* --latency is kept, but the guest's lateness exceeds what it leaves */
    double drift_ppm;        /* the guest's clock against the device's; > 0: the guest is faster */
    /* The five parts sum to total. Nanoseconds. */
    int64_t total_ns, guest_ns, jitter_ns, quantum_ns, resampler_ns, device_ns;
    int64_t target_ns; /* total that the loop steers to */
    uint64_t underruns, resyncs, dropped_frames, xrun_frames, frames;
    uint32_t device_rate, quantum_frames;
};

struct playout;

/* [main] Reads `feed`, which must outlive it. -ENOMEM, -EINVAL. Allocates all that pull will ever need. */
int playout_create(struct playout **playout, struct feed *feed, const struct playout_params *params);
void playout_destroy(struct playout *playout);

/* [rt] Exactly `frames` interleaved frames of the feed's channels into dst. `playout` is a struct playout. */
void playout_pull(void *playout, float *dst, uint32_t frames, const struct pull_time *time);

/* [main] Fade to silence within 5 ms and stay there (true), or play again from the target fill (false). */
void playout_mute(struct playout *playout, bool mute);
/* [main] True once a requested fade has reached silence, or nothing was sounding. */
bool playout_silent(const struct playout *playout);

/* [main] */
void playout_get_stats(const struct playout *playout, struct playout_stats *stats);

#endif
