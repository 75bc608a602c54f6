/* SPDX-License-Identifier: MIT
 *
 * Test signals. A sample depends on nothing but the frame's index, at any index: an analyser computes what it should
 * have heard, after hours as after seconds. Pure functions, any thread.
 */
#ifndef EARSHOT_SIGNAL_GEN_H
#define EARSHOT_SIGNAL_GEN_H

#include <stdint.h>

#define SIGNAL_CHANNELS_MAX      8
#define SIGNAL_SWEEP_SECONDS     10
#define SIGNAL_SWEEP_LOW_HZ      20.0
#define SIGNAL_IMPULSE_NUMBERS   32 /* periods are numbered modulo this */
#define SIGNAL_PERIOD_MIN        64
#define SIGNAL_PERIOD_MAX        (1u << 24)
#define SIGNAL_TONE_STEPS_PER_HZ 1000 /* frequencies are whole millihertz, so that periods are exact */

enum signal_kind {
    /* Quadrature: even channels cos(2 pi hz n / rate), odd channels sin(...). */
    SIGNAL_TONE,
    /* Channel k, from 0, is sin(2 pi hz (k + 1) n / rate): which speaker is which can be told. */
    SIGNAL_PER_CHANNEL,
    /* 20 Hz to 20 kHz (0.45 rate where that is less), exponential, in SIGNAL_SWEEP_SECONDS, over and over, with
     * 5 ms of fade at each end; the same on every channel. */
    SIGNAL_SWEEP,
    /* Period j, from 0: one sample of `level` at frame j * period, and one of -level / 2 that numbers the period, at
     * signal_gen_marker(period, j) frames after it. All else is 0; the same on every channel. */
    SIGNAL_IMPULSE,
};

struct signal_params {
    enum signal_kind kind;
    uint32_t rate; /* frames per second */
    uint8_t channels;
    double hz;              /* TONE, PER_CHANNEL: rounded to a millihertz */
    uint32_t period_frames; /* IMPULSE */
    double level;           /* peak, 0..1 */
};

struct signal_gen {
    struct signal_params params;
    uint64_t step_mhz; /* TONE, PER_CHANNEL */
};

/* -EINVAL: hz is not between 0.001 and half the rate (of the highest channel), or period_frames, channels, rate or
 * level is out of range. */
int signal_gen_init(struct signal_gen *gen, const struct signal_params *params);

/* `frames` interleaved frames from index `first` on. */
void signal_gen_fill(const struct signal_gen *gen, float *dst, uint64_t first, uint32_t frames);

/* Where in period `number` the marker lies: period / 4 + (number mod 32) * period / 64, in frames from its start. */
uint32_t signal_gen_marker(uint32_t period_frames, uint64_t number);

#endif
