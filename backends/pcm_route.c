/* SPDX-License-Identifier: MIT */
#include "backends/pcm_route.h"

#include <errno.h>
#include <string.h>

/* Bits of the mask, as format.h names them. */
enum speaker { FL, FR, FC, LFE, BL, BR, FLC, FRC, BC, SL, SR, TC, TFL, TFC, TFR, TBL, SPEAKERS };

#define HALF_POWER   0.70710678f
#define NONE         ROUTE_NOWHERE
#define BLOCK_FRAMES 16

/* Where a speaker's sound goes that is not there: as the first of its rows says of which all speakers are. */
static const struct fallback {
    uint8_t speaker, to, also;
    float gain;
} fallbacks[] = {
    {FL,  FLC, NONE, 1.0f      },
    {FL,  FC,  NONE, 0.5f      },
    {FR,  FRC, NONE, 1.0f      },
    {FR,  FC,  NONE, 0.5f      },
    {FC,  FL,  FR,   HALF_POWER},
    {FC,  FLC, FRC,  HALF_POWER},
    {BL,  SL,  NONE, 1.0f      },
    {BL,  BC,  NONE, HALF_POWER},
    {BL,  FL,  NONE, HALF_POWER},
    {BL,  FC,  NONE, 0.5f      },
    {BR,  SR,  NONE, 1.0f      },
    {BR,  BC,  NONE, HALF_POWER},
    {BR,  FR,  NONE, HALF_POWER},
    {BR,  FC,  NONE, 0.5f      },
    {FLC, FL,  NONE, 1.0f      },
    {FLC, FC,  NONE, 0.5f      },
    {FRC, FR,  NONE, 1.0f      },
    {FRC, FC,  NONE, 0.5f      },
    {BC,  BL,  BR,   HALF_POWER},
    {BC,  SL,  SR,   HALF_POWER},
    {BC,  FL,  FR,   0.5f      },
    {BC,  FC,  NONE, 0.5f      },
    {SL,  BL,  NONE, 1.0f      },
    {SL,  BC,  NONE, HALF_POWER},
    {SL,  FL,  NONE, HALF_POWER},
    {SL,  FC,  NONE, 0.5f      },
    {SR,  BR,  NONE, 1.0f      },
    {SR,  BC,  NONE, HALF_POWER},
    {SR,  FR,  NONE, HALF_POWER},
    {SR,  FC,  NONE, 0.5f      },
    {TC,  FL,  FR,   0.5f      },
    {TC,  FC,  NONE, 0.5f      },
    {TFL, FL,  NONE, HALF_POWER},
    {TFL, FC,  NONE, 0.5f      },
    {TFC, FC,  NONE, HALF_POWER},
    {TFC, FL,  FR,   0.5f      },
    {TFR, FR,  NONE, HALF_POWER},
    {TFR, FC,  NONE, 0.5f      },
    {TBL, BL,  NONE, HALF_POWER},
    {TBL, SL,  NONE, HALF_POWER},
    {TBL, FL,  NONE, 0.5f      },
    {TBL, FC,  NONE, 0.5f      },
};

static int find(const uint8_t *speakers, unsigned out, unsigned speaker)
{
    for (unsigned c = 0; c < out; c++)
        if (speakers[c] == speaker)
            return (int)c;
    return -1;
}

bool pcm_route_complete(uint16_t mask, const uint8_t *speakers, unsigned out)
{
    for (unsigned bit = 0; bit < SPEAKERS; bit++)
        if (mask & 1u << bit && find(speakers, out, bit) < 0)
            return false;
    return true;
}

void pcm_route_default_speakers(uint8_t *speakers, unsigned out)
{
    static const uint8_t order[] = {FL, FR, BL, BR, FC, LFE, SL, SR};
    for (unsigned c = 0; c < out; c++)
        speakers[c] = c < sizeof order ? order[c] : NONE;
    if (out == 1 || out == 3)
        speakers[out - 1] = FC;
    if (out == 7)
        speakers[6] = BC;
}

/* Everywhere at once or nowhere: half of a centre would be off it. */
static bool place(struct pcm_route *route, const uint8_t *speakers, unsigned channel, const struct fallback *row)
{
    const int to = find(speakers, route->out, row->to);
    const int also = row->also == NONE ? to : find(speakers, route->out, row->also);
    if (to < 0 || also < 0)
        return false;
    /* A guest's only channel is not to become quieter. */
    route->gain[to][channel] = route->gain[also][channel] = route->in == 1 ? 1.0f : row->gain;
    return true;
}

static void place_channel(struct pcm_route *route, const uint8_t *speakers, unsigned channel, uint8_t speaker)
{
    const struct fallback own = {speaker, speaker, NONE, 1.0f};
    bool placed = place(route, speakers, channel, &own);
    for (size_t i = 0; i < sizeof fallbacks / sizeof fallbacks[0] && !placed; i++)
        placed = fallbacks[i].speaker == speaker && place(route, speakers, channel, &fallbacks[i]);
}

int pcm_route_init(struct pcm_route *route, uint16_t mask, const uint8_t *speakers, unsigned out)
{
    if (out == 0 || out > ROUTE_OUT_MAX)
        return -EINVAL;
    *route = (struct pcm_route){.out = out, .in = (unsigned)__builtin_popcount(mask)};
    unsigned channel = 0;
    for (uint8_t bit = 0; bit < SPEAKERS && channel < BACKEND_CHANNELS_MAX; bit++)
        if (mask & 1u << bit)
            place_channel(route, speakers, channel++, bit);
    route->plain = true;
    for (unsigned c = 0; c < out; c++) {
        unsigned inputs = 0;
        route->from[c] = NONE;
        for (unsigned i = 0; i < route->in; i++) {
            if (route->gain[c][i] == 0.0f)
                continue;
            route->from[c] = (uint8_t)i;
            route->plain = route->plain && ++inputs == 1 && route->gain[c][i] == 1.0f;
        }
    }
    return 0;
}

static float sum(const struct pcm_route *route, unsigned channel, const float *src)
{
    float value = 0.0f;
    for (unsigned i = 0; i < route->in; i++)
        value += route->gain[channel][i] * src[i];
    return value;
}

/* To nearest, within the range of `scale` (2^(bits - 1)); not a number is silence. Without calls or branches, so that
 * compilers make wide loops of it: so far above zero a double has no room for fractions, and its low bits are the integer
 * that the sum was rounded to. Products with powers of two are exact. */
static inline uint32_t quantize(float sample, double scale)
{
    double value = sample == sample ? (double)sample * scale : 0.0;
    value = value > scale - 1.0 ? scale - 1.0 : value;
    value = value < -scale ? -scale : value;
    value += 0x1.8p52;
    uint64_t word;
    memcpy(&word, &value, sizeof word);
    return (uint32_t)word;
}

static void store16(uint8_t *restrict dst, const float *restrict src, size_t samples, double scale, unsigned shift)
{
    for (size_t i = 0; i < samples; i++) {
        const uint16_t word = (uint16_t)(quantize(src[i], scale) << shift);
        memcpy(dst + 2 * i, &word, sizeof word);
    }
}

static void store24(uint8_t *restrict dst, const float *restrict src, size_t samples, double scale, unsigned shift)
{
    for (size_t i = 0; i < samples; i++) {
        const uint32_t word = quantize(src[i], scale) << shift;
        dst[3 * i] = (uint8_t)word;
        dst[3 * i + 1] = (uint8_t)(word >> 8);
        dst[3 * i + 2] = (uint8_t)(word >> 16);
    }
}

static void store32(uint8_t *restrict dst, const float *restrict src, size_t samples, double scale, unsigned shift)
{
    for (size_t i = 0; i < samples; i++) {
        const uint32_t word = quantize(src[i], scale) << shift;
        memcpy(dst + 4 * i, &word, sizeof word);
    }
}

static void store(const struct pcm_layout *layout, uint8_t *dst, const float *src, size_t samples)
{
    if (layout->is_float) { /* a mixer behind it may turn it down: it clips, if anybody */
        memcpy(dst, src, samples * sizeof *src);
        return;
    }
    const double scale = (double)(1u << (layout->bits - 1));
    if (layout->bytes == 2)
        store16(dst, src, samples, scale, layout->shift);
    else if (layout->bytes == 3)
        store24(dst, src, samples, scale, layout->shift);
    else
        store32(dst, src, samples, scale, layout->shift);
}

/* Is each output the input of its number? */
static bool is_straight(const struct pcm_route *route)
{
    bool straight = route->plain && route->in == route->out;
    for (unsigned c = 0; c < route->out && straight; c++)
        straight = route->from[c] == c;
    return straight;
}

void pcm_route_run(const struct pcm_route *route, const struct pcm_layout *layout, void *dst, const float *src,
                   uint32_t frames)
{
    if (is_straight(route)) {
        store(layout, dst, src, (size_t)frames * route->out);
        return;
    }
    float block[BLOCK_FRAMES * ROUTE_OUT_MAX];
    uint8_t *at = dst;
    for (uint32_t done = 0; done < frames;) {
        const uint32_t piece = frames - done < BLOCK_FRAMES ? frames - done : BLOCK_FRAMES;
        float *to = block;
        for (uint32_t i = 0; i < piece; i++, src += route->in)
            for (unsigned c = 0; c < route->out; c++) {
                if (!route->plain)
                    *to++ = sum(route, c, src);
                else
                    *to++ = route->from[c] == NONE ? 0.0f : src[route->from[c]];
            }
        store(layout, at, block, (size_t)piece * route->out);
        at += (size_t)piece * route->out * layout->bytes;
        done += piece;
    }
}
