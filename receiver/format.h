/* SPDX-License-Identifier: MIT
 *
 * PCM formats and channel masks: one table for all sources and all backends. Pure functions, any thread.
 */
#ifndef EARSHOT_FORMAT_H
#define EARSHOT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCM_CHANNELS_MAX 8
#define PCM_SPEAKERS     16
#define PCM_RATE_MIN     44100
#define PCM_RATE_MAX     192000

/* What a guest says it sends. Always made by pcm_format_parse(), so a struct pcm_format that exists is valid. */
struct pcm_format {
    uint32_t rate;    /* frames per second, 44100..192000 */
    uint8_t bits;     /* 16, 24 (packed in three bytes) or 32; signed integer, little-endian */
    uint8_t channels; /* 1..8 */
    uint16_t mask;    /* speakers, bit n = pcm_speaker_name(n); popcount == channels (see pcm_format_parse) */
};

/* The guest's four fields, checked. A mask whose popcount is not `channels` (0, 0xFFFF and 0x0003 all occur) is
 * replaced by the default layout of that many channels. Returns 0, or -EINVAL and leaves *format alone. */
int pcm_format_parse(struct pcm_format *format, uint8_t rate_marker, uint8_t bits, uint8_t channels, uint16_t mask);

/* The rate as the driver writes it: bit 7 = 44100 base, bits 0-6 = multiplier. 0 where it cannot be written. */
uint8_t pcm_rate_marker(uint32_t rate);

bool pcm_format_equal(const struct pcm_format *a, const struct pcm_format *b);

/* Bytes of one frame: one sample of each channel. */
uint32_t pcm_frame_bytes(const struct pcm_format *format);

/* Default speaker mask of 1..8 channels; 0 otherwise. */
uint16_t pcm_default_mask(unsigned channels);

/* "FL", "FR", "FC", "LFE", ... for bit 0..15 of the mask; NULL beyond. */
const char *pcm_speaker_name(unsigned bit);

/* The mask's bit number of the channel'th interleaved channel (lowest bit first); -1 where there is none. */
int pcm_channel_speaker(uint16_t mask, unsigned channel);

/* "48 kHz 16 bit stereo", "44.1 kHz 24 bit 5.1"; always terminated. Returns out. */
char *pcm_format_describe(const struct pcm_format *format, char *out, size_t size);
/* "48k/16 stereo", "44.1k/24 5.1"; likewise. */
char *pcm_format_abbreviate(const struct pcm_format *format, char *out, size_t size);

/* Packed little-endian integers to floats in [-1, 1). `bits` is 16, 24 or 32. Reads samples * bits / 8 bytes. */
void pcm_decode(float *restrict dst, const uint8_t *restrict src, size_t samples, unsigned bits);

/* The inverse, for the guest's double: rounds to nearest, saturates. */
void pcm_encode(uint8_t *restrict dst, const float *restrict src, size_t samples, unsigned bits);

#endif
