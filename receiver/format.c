/* SPDX-License-Identifier: MIT */
#include "receiver/format.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The multiplier's range follows from PCM_RATE_MAX: 4 x 48000. */
#define RATE_BASE_BIT       0x80u
#define RATE_MULTIPLIER_MAX 4u

static const char *const speaker_names[PCM_SPEAKERS] = {
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL",
};

/* Layouts people have names for. The first row of a channel count is its default. */
static const struct layout {
    uint16_t mask;
    uint8_t channels;
    const char *name;
} layouts[] = {
    {0x0004, 1, "mono"  },
    {0x0001, 1, "mono"  },
    {0x0003, 2, "stereo"},
    {0x000b, 3, "2.1"   },
    {0x0007, 3, "3.0"   },
    {0x0033, 4, "quad"  },
    {0x0603, 4, "quad"  },
    {0x000f, 4, "3.1"   },
    {0x0107, 4, "4.0"   },
    {0x0037, 5, "5.0"   },
    {0x0607, 5, "5.0"   },
    {0x003f, 6, "5.1"   },
    {0x060f, 6, "5.1"   },
    {0x070f, 7, "6.1"   },
    {0x013f, 7, "6.1"   },
    {0x063f, 8, "7.1"   },
    {0x00ff, 8, "7.1"   },
};
#define LAYOUTS (sizeof layouts / sizeof layouts[0])

static unsigned mask_count(uint16_t mask)
{
    unsigned count = 0;
    for (; mask; mask &= (uint16_t)(mask - 1))
        count++;
    return count;
}

int pcm_format_parse(struct pcm_format *format, uint8_t rate_marker, uint8_t bits, uint8_t channels, uint16_t mask)
{
    uint32_t multiplier = rate_marker & ~RATE_BASE_BIT;
    if (multiplier < 1 || multiplier > RATE_MULTIPLIER_MAX)
        return -EINVAL;
    if (bits != 16 && bits != 24 && bits != 32)
        return -EINVAL;
    if (channels < 1 || channels > PCM_CHANNELS_MAX)
        return -EINVAL;
    *format = (struct pcm_format){
        .rate = multiplier * (rate_marker & RATE_BASE_BIT ? 44100u : 48000u),
        .bits = bits,
        .channels = channels,
        .mask = mask_count(mask) == channels ? mask : pcm_default_mask(channels),
    };
    return 0;
}

uint8_t pcm_rate_marker(uint32_t rate)
{
    for (uint8_t multiplier = 1; multiplier <= RATE_MULTIPLIER_MAX; multiplier++) {
        if (rate == 48000u * multiplier)
            return multiplier;
        if (rate == 44100u * multiplier)
            return (uint8_t)(RATE_BASE_BIT | multiplier);
    }
    return 0;
}

bool pcm_format_equal(const struct pcm_format *a, const struct pcm_format *b)
{
    return a->rate == b->rate && a->bits == b->bits && a->channels == b->channels && a->mask == b->mask;
}

uint32_t pcm_frame_bytes(const struct pcm_format *format)
{
    return format->bits / 8u * format->channels;
}

uint16_t pcm_default_mask(unsigned channels)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (layouts[i].channels == channels)
            return layouts[i].mask;
    return 0;
}

const char *pcm_speaker_name(unsigned bit)
{
    return bit < PCM_SPEAKERS ? speaker_names[bit] : NULL;
}

int pcm_channel_speaker(uint16_t mask, unsigned channel)
{
    for (int bit = 0; bit < PCM_SPEAKERS; bit++)
        if (mask & 1u << bit && channel-- == 0)
            return bit;
    return -1;
}

static char *describe(const struct pcm_format *format, const char *khz, const char *bit, char *out, size_t size)
{
    if (size == 0)
        return out;
    char channels[16];
    snprintf(channels, sizeof channels, "%u channel%s", (unsigned)format->channels, format->channels == 1 ? "" : "s");
    const char *layout = channels;
    for (size_t i = 0; i < LAYOUTS; i++)
        if (layouts[i].mask == format->mask)
            layout = layouts[i].name;
    snprintf(out, size, "%g%s%u%s %s", format->rate / 1000.0, khz, (unsigned)format->bits, bit, layout);
    return out;
}

char *pcm_format_describe(const struct pcm_format *format, char *out, size_t size)
{
    return describe(format, " kHz ", " bit", out, size);
}

char *pcm_format_abbreviate(const struct pcm_format *format, char *out, size_t size)
{
    return describe(format, "k/", "", out, size);
}

/* Loads through memcpy keep the loops plain enough for compilers to vectorise. */
static inline uint32_t load32(const uint8_t *src)
{
    uint32_t value;
    memcpy(&value, src, sizeof value);
    return le32toh(value);
}

static void decode16(float *restrict dst, const uint8_t *restrict src, size_t samples)
{
    for (size_t i = 0; i < samples; i++) {
        uint16_t value;
        memcpy(&value, src + 2 * i, sizeof value);
        dst[i] = (float)(int16_t)le16toh(value) * 0x1p-15f;
    }
}

static void decode24(float *restrict dst, const uint8_t *restrict src, size_t samples)
{
    /* Four samples are three words: each sample moves to the top of a word, which extends its sign for free. */
    size_t groups = samples / 4;
    for (size_t i = 0; i < groups; i++) {
        uint32_t a = load32(src + 12 * i);
        uint32_t b = load32(src + 12 * i + 4);
        uint32_t c = load32(src + 12 * i + 8);
        dst[4 * i] = (float)(int32_t)(a << 8) * 0x1p-31f;
        dst[4 * i + 1] = (float)(int32_t)(b << 16 | (a >> 24) << 8) * 0x1p-31f;
        dst[4 * i + 2] = (float)(int32_t)(c << 24 | (b >> 16) << 8) * 0x1p-31f;
        dst[4 * i + 3] = (float)(int32_t)(c & 0xffffff00u) * 0x1p-31f;
    }
    for (size_t i = groups * 4; i < samples; i++) {
        const uint8_t *p = src + 3 * i;
        dst[i] = (float)(int32_t)((uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24) * 0x1p-31f;
    }
}

static void decode32(float *restrict dst, const uint8_t *restrict src, size_t samples)
{
    /* Values above the last float below 2^31 would round up to 1.0. */
    const int32_t top = 0x7fffff80;
    for (size_t i = 0; i < samples; i++) {
        int32_t value = (int32_t)load32(src + 4 * i);
        value = value > top ? top : value;
        dst[i] = (float)value * 0x1p-31f;
    }
}

void pcm_decode(float *restrict dst, const uint8_t *restrict src, size_t samples, unsigned bits)
{
    if (bits == 16)
        decode16(dst, src, samples);
    else if (bits == 24)
        decode24(dst, src, samples);
    else
        decode32(dst, src, samples);
}

void pcm_encode(uint8_t *restrict dst, const float *restrict src, size_t samples, unsigned bits)
{
    const double scale = ldexp(1.0, (int)bits - 1);
    const size_t bytes = bits / 8;
    for (size_t i = 0; i < samples; i++) {
        double value = (double)src[i] * scale;
        if (!(value > -scale)) /* also what is not a number */
            value = isnan(value) ? 0.0 : -scale;
        if (value > scale - 1.0)
            value = scale - 1.0;
        uint32_t integer = (uint32_t)(int32_t)lrint(value);
        for (size_t byte = 0; byte < bytes; byte++)
            dst[i * bytes + byte] = (uint8_t)(integer >> 8 * byte);
    }
}
