/* SPDX-License-Identifier: MIT
 *
 * The pull: a feed's frames through rate control and resampler into the backend's buffer.
 */
#ifndef EARSHOT_PLAYOUT_H
#define EARSHOT_PLAYOUT_H

#include "backends/backend.h"
#include "receiver/feed.h"
#include "receiver/resampler.h"

#include <stdbool.h>
#include <stdint.h>

struct playout_params {
    enum resampler_quality quality;
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
/* [main] Another --latency and --max-latency, as in playout_params. The fill goes there at up to 3000 ppm, which nobody
 * hears: 10 ms take 3.3 s. */
void playout_set_latency(struct playout *playout, int64_t latency_ns, int64_t max_latency_ns);

/* [main] True once a requested fade has reached silence, or nothing was sounding. */
bool playout_silent(const struct playout *playout);

/* [main] The picture as of the last pull. */
void playout_get_stats(const struct playout *playout, struct playout_stats *stats);

/* What the loop did in the last pull, for the simulator. */
struct playout_trace {
    double position; /* source frame that the next output frame stands for */
    double fill_s;   /* line minus position at that pull's cycle time, before it */
    double error_s;  /* fill minus target */
    double step;     /* source frames per device frame */
    double target_s;
    double slope; /* of the target, s per s: what part of the step is meant to move the fill */
};

/* [rt] Between pulls, by the thread that pulls. */
void playout_get_trace(const struct playout *playout, struct playout_trace *trace);

#endif
