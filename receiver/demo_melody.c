/* SPDX-License-Identifier: MIT */
#include "receiver/demo_melody.h"

#include "receiver/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RATE         48000
#define STEP_FRAMES  12000 /* an eighth at 120 beats a minute */
#define STEPS        32
#define FRAMES       ((size_t)STEPS * STEP_FRAMES)
#define NOTE_FRAMES  72000 /* rings on over what follows */
#define HEADER_BYTES 44
#define LEVEL        0.09f

/* Semitones from A3, a step each; REST: none. Chords of A minor, F, C and G, taken apart. */
#define REST INT8_MIN
static const int8_t melody[STEPS] = {
    0,  7,  12, 15, 19, 15, 12, 7, -4, 3, 8,  12, 15, 12, 8,  3,
    -9, -2, 3,  7,  10, 7,  15, 7, -2, 5, 10, 14, 17, 14, 10, REST,
};
static const int8_t bass[STEPS / 8] = {-12, -16, -21, -14};

/* A plucked tone with a soft start: harmonics, of which the higher ones die earlier. Wraps around at the end, so that
 * the phrase's last notes ring into its first. */
static void add_note(float *frames, size_t start, int semitones, float gain, float pan)
{
    double hz = 220.0 * exp2(semitones / 12.0);
    for (size_t n = 0; n < NOTE_FRAMES; n++) {
        double t = (double)n / RATE, sum = 0;
        for (int h = 1; h <= 4; h++)
            sum += exp(-t * (2.2 + 1.6 * h)) / (h * h) * sin(2 * M_PI * hz * h * t);
        double attack = n < 240 ? (double)n / 240 : 1;
        double release = n > NOTE_FRAMES - 4800 ? (double)(NOTE_FRAMES - n) / 4800 : 1;
        float sample = gain * (float)(sum * attack * release);
        float *frame = frames + 2 * ((start + n) % FRAMES);
        frame[0] += sample * (1 - pan);
        frame[1] += sample * (1 + pan);
    }
}

static void put(uint8_t *at, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static void put_header(uint8_t *wav, uint32_t data_bytes)
{
    memcpy(wav, "RIFF", 4);
    put(wav + 4, HEADER_BYTES - 8 + data_bytes, 4);
    memcpy(wav + 8, "WAVEfmt ", 8);
    put(wav + 16, 16, 4);       /* size of what follows, up to "data" */
    put(wav + 20, 1, 2);        /* PCM */
    put(wav + 22, 2, 2);        /* channels */
    put(wav + 24, RATE, 4);     /* frames ... */
    put(wav + 28, RATE * 4, 4); /* ... and bytes per second */
    put(wav + 32, 4, 2);        /* bytes of a frame */
    put(wav + 34, 16, 2);       /* bits of a sample */
    memcpy(wav + 36, "data", 4);
    put(wav + 40, data_bytes, 4);
}

uint8_t *demo_melody_wav(size_t *bytes)
{
    float *frames = calloc(FRAMES * 2, sizeof(*frames));
    uint8_t *wav = malloc(HEADER_BYTES + FRAMES * 4);
    if (frames && wav) {
        for (size_t step = 0; step < STEPS; step++) {
            if (melody[step] != REST)
                add_note(frames, step * STEP_FRAMES, melody[step], LEVEL, step % 2 ? 0.4f : -0.4f);
            if (step % 8 == 0)
                add_note(frames, step * STEP_FRAMES, bass[step / 8], 1.6f * LEVEL, 0);
        }
        put_header(wav, FRAMES * 4);
        pcm_encode(wav + HEADER_BYTES, frames, FRAMES * 2, 16);
        *bytes = HEADER_BYTES + FRAMES * 4;
    } else {
        free(wav);
        wav = NULL;
    }
    free(frames);
    return wav;
}
