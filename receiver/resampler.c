/* SPDX-License-Identifier: MIT */
#include "receiver/resampler.h"

#include "receiver/arith.h"
#include "ringbuf/resident.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* A filter's half length in source frames at step <= 1 (libsamplerate 0.2: coeff_half_len / index_inc). */
struct filter {
    int converter;
    double half_frames;
};

static const struct filter filters[] = {
    [RESAMPLER_FASTEST] = {SRC_SINC_FASTEST,        (2464.0 + 2.0) / 128.0   },
    [RESAMPLER_MEDIUM] = {SRC_SINC_MEDIUM_QUALITY, (22438.0 + 2.0) / 491.0  },
    [RESAMPLER_BEST] = {SRC_SINC_BEST_QUALITY,   (340239.0 + 2.0) / 2381.0},
};

#define SLICE_INPUT_FRAMES 2048.0
#define SMALL_RAMP         1e-4
#define SCRATCH_FRAMES     8192 /* a slice's input and the longest look-ahead: 2048 + 144 * 32 */

static size_t scratch_bytes(const struct resampler *rs)
{
    return (size_t)SCRATCH_FRAMES * rs->channels * sizeof *rs->scratch;
}

int resampler_init(struct resampler *rs, enum resampler_quality quality, unsigned channels)
{
    *rs = (struct resampler){.channels = channels, .quality = quality};
    int err;
    rs->src = src_new(filters[quality].converter, (int)channels, &err);
    rs->scratch = resident_alloc(scratch_bytes(rs));
    if (!rs->src || !rs->scratch) {
        resampler_free(rs);
        return -ENOMEM;
    }
    return 0;
}

void resampler_free(struct resampler *rs)
{
    if (rs->src)
        src_delete(rs->src);
    resident_free(rs->scratch, scratch_bytes(rs));
    rs->src = NULL;
    rs->scratch = NULL;
}

/* libsamplerate wants more than this many frames in hand, beyond the one it stands at. */
double resampler_lookahead(enum resampler_quality quality, double step)
{
    return whole_above(filters[quality].half_frames * larger(step * (1.0 + 0.01), 1.0)) + 2.0;
}

uint32_t resampler_slice(double step)
{
    double frames = smaller(SLICE_INPUT_FRAMES / step, RESAMPLER_FRAMES_MAX);
    return frames < 1.0 ? 1 : (uint32_t)frames;
}

/* Source frames up to which must be fed for `frames` outputs. */
static uint64_t need_end(const struct resampler *rs, uint32_t frames, double step)
{
    double most = rs->last_ratio > 0.0 ? larger(step, 1.0 / rs->last_ratio) : step; /* of the ramp's two ends */
    double end = rs->offset + frames * most + resampler_lookahead(rs->quality, most) + 1.0;
    return rs->base + (uint64_t)whole_above(end);
}

bool resampler_ready(const struct resampler *rs, const struct frame_ring *ring, uint32_t frames, double step)
{
    return frame_ring_written(ring) >= need_end(rs, frames, step);
}

/* Copies [from, from + frames) to scratch; mirrors about the ring's end what is beyond it. */
static const float *gather(struct resampler *rs, const struct frame_ring *ring, uint64_t from, size_t frames)
{
    const size_t frame_bytes = rs->channels * sizeof(float);
    uint64_t end = frame_ring_written(ring), oldest = frame_ring_released(ring);
    size_t done = 0;
    while (done < frames) {
        size_t piece;
        const float *at = frame_ring_peek(ring, from + done, &piece);
        if (piece == 0)
            break;
        if (piece > frames - done)
            piece = frames - done;
        memcpy(rs->scratch + done * rs->channels, at, piece * frame_bytes);
        done += piece;
    }
    for (; done < frames; done++) {
        uint64_t beyond = from + done - end;
        size_t one;
        const float *at = beyond < end - oldest ? frame_ring_peek(ring, end - 1 - beyond, &one) : NULL;
        if (at)
            memcpy(rs->scratch + done * rs->channels, at, frame_bytes);
        else
            memset(rs->scratch + done * rs->channels, 0, frame_bytes);
    }
    return rs->scratch;
}

/* Source frames that `frames` outputs pass, their ratio rising from `first` to `last` in equal steps. */
static double passed(double first, double last, uint32_t frames)
{
    double mean = 0.5 * (first + last);
    if (fabs(last - first) < SMALL_RAMP * mean)
        return frames / mean; /* to 1e-9 of itself */
    double sum = 0.0;
    for (uint32_t i = 0; i < frames; i++)
        sum += 1.0 / (first + i * (last - first) / (frames - 1.0));
    return sum;
}

void resampler_run(struct resampler *rs, const struct frame_ring *ring, float *dst, uint32_t frames, double step)
{
    double ratio = 1.0 / step;
    uint64_t end = need_end(rs, frames, step);
    size_t need = end > rs->fed ? (size_t)(end - rs->fed) : 0;
    if (need > SCRATCH_FRAMES)
        need = SCRATCH_FRAMES;
    size_t piece = 0;
    const float *in = frame_ring_peek(ring, rs->fed, &piece);
    if (piece < need)
        in = gather(rs, ring, rs->fed, need);

    SRC_DATA data = {
        .data_in = in ? in : rs->scratch,
        .data_out = dst,
        .input_frames = (long)need,
        .output_frames = (long)frames,
        .src_ratio = ratio,
    };
    if (rs->last_ratio == 0.0)
        rs->last_ratio = ratio;
    long made = src_process(rs->src, &data) == 0 ? data.output_frames_gen : 0;
    if (made < (long)frames)
        memset(dst + (size_t)made * rs->channels, 0, (size_t)((long)frames - made) * rs->channels * sizeof *dst);
    rs->fed += (uint64_t)data.input_frames_used;

    /* libsamplerate's output i is made at last + i * (ratio - last) / frames, and the last of these is its next
     * starting point. */
    double per_frame = (ratio - rs->last_ratio) / frames;
    double last = rs->last_ratio + per_frame * (frames - 1.0);
    rs->offset += passed(rs->last_ratio, last, frames);
    rs->last_ratio = last;
    double whole = whole_below(rs->offset);
    rs->base += (uint64_t)whole;
    rs->offset -= whole;
}

void resampler_seek(struct resampler *rs, const struct frame_ring *ring, double position, double step, float *spare)
{
    src_reset(rs->src);
    double history = whole_above(resampler_lookahead(rs->quality, step));
    double oldest = (double)frame_ring_released(ring);
    double from = larger(larger(whole_below(position) - history, oldest), 0.0);
    rs->base = (uint64_t)from;
    rs->offset = 0.0;
    rs->fed = rs->base;
    rs->last_ratio = 0.0;
    double ahead = whole_below((position - from) / step);
    while (ahead >= 1.0) {
        uint32_t frames = (uint32_t)smaller(ahead, resampler_slice(step));
        resampler_run(rs, ring, spare, frames, step);
        ahead -= frames;
    }
}
