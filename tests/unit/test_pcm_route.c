/* SPDX-License-Identifier: MIT */
#include "backends/pcm_route.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Bits of the mask. */
enum { FL, FR, FC, LFE, BL, BR, FLC, FRC, BC, SL, SR, TC };
#define NONE ROUTE_NOWHERE

static const struct pcm_layout floats = {.bytes = 4, .is_float = true};

/* Plays (c + 1) / 16 on each of the guest's channels; what each of the device's then carries. */
static void route(uint16_t mask, const uint8_t *speakers, unsigned out, float *heard)
{
    struct pcm_route r;
    float guest[BACKEND_CHANNELS_MAX];
    for (unsigned c = 0; c < BACKEND_CHANNELS_MAX; c++)
        guest[c] = (float)(c + 1) / 16.0f;
    assert_int_equal(pcm_route_init(&r, mask, speakers, out), 0);
    pcm_route_run(&r, &floats, heard, guest, 1);
}

static void expect(uint16_t mask, const uint8_t *speakers, unsigned out, const double *sixteenths)
{
    float heard[ROUTE_OUT_MAX];
    route(mask, speakers, out, heard);
    for (unsigned c = 0; c < out; c++) {
        if (fabs((double)heard[c] * 16 - sixteenths[c]) > 1e-5)
            fail_msg("mask %x, channel %u: %g, not %g", mask, c, (double)heard[c] * 16, sixteenths[c]);
    }
}

static void own_speakers(void **state)
{
    (void)state;
    static const uint8_t alsa[] = {FL, FR, BL, BR, FC, LFE, SL, SR};
    static const uint8_t guests[] = {FL, FR, FC, LFE, BL, BR, SL, SR};
    static const double same[] = {1, 2, 3, 4, 5, 6, 7, 8};
    expect(0x63f, guests, 8, same);
    expect(0x63f, alsa, 8, (const double[]){1, 2, 5, 6, 3, 4, 7, 8});
    expect(0x3f, alsa, 6, (const double[]){1, 2, 5, 6, 3, 4});
    expect(0x33, alsa, 4, (const double[]){1, 2, 3, 4});
    expect(0x3, alsa, 2, same);
    /* Channels that the guest does not have are silent, as are those that nobody knows. */
    expect(0x3, alsa, 8, (const double[]){1, 2, 0, 0, 0, 0, 0, 0});
    expect(0x3, (const uint8_t[]){NONE, FR, NONE, FL}, 4, (const double[]){0, 2, 0, 1});
}

static void other_speakers(void **state)
{
    (void)state;
    static const uint8_t alsa[] = {FL, FR, BL, BR, FC, LFE, SL, SR};
    static const uint8_t sides[] = {FL, FR, FC, LFE, SL, SR};
    const double half = 0.70710678;
    /* 5.1 with sides where there are backs, and the other way round. */
    expect(0x60f, alsa, 6, (const double[]){1, 2, 5, 6, 3, 4});
    expect(0x3f, sides, 6, (const double[]){1, 2, 3, 4, 5, 6});
    /* Mono is as loud as it was on both fronts, and on a single speaker. */
    expect(0x4, alsa, 2, (const double[]){1, 1});
    expect(0x4, (const uint8_t[]){FC}, 1, (const double[]){1});
    expect(0x3, (const uint8_t[]){FC}, 1, (const double[]){1.5});
    /* To stereo; the bass is left out. */
    expect(0x3f, alsa, 2, (const double[]){1 + half * 3 + half * 5, 2 + half * 3 + half * 6});
    expect(0x33, alsa, 2, (const double[]){1 + half * 3, 2 + half * 4});
    /* 7.1 on 5.1: the sides join the backs. */
    expect(0x63f, alsa, 6, (const double[]){1, 2, 5 + 7, 6 + 8, 3, 4});
    /* A centre is not pulled to the only front there is. */
    expect(0x4, (const uint8_t[]){FL, NONE}, 2, (const double[]){0, 0});
}

/* No speaker of any mask is lost but the bass, wherever there are two fronts. */
static void nothing_lost(void **state)
{
    (void)state;
    static const uint8_t stereo[] = {FL, FR};
    for (uint8_t bit = 0; bit < 16; bit++) {
        float heard[2];
        route((uint16_t)(1u << bit), stereo, 2, heard);
        if (bit == LFE)
            assert_true(heard[0] == 0.0f && heard[1] == 0.0f);
        else
            assert_true(heard[0] + heard[1] > 0.0f);
    }
}

static void defaults(void **state)
{
    (void)state;
    uint8_t speakers[ROUTE_OUT_MAX];
    pcm_route_default_speakers(speakers, 8);
    assert_memory_equal(speakers, ((uint8_t[]){FL, FR, BL, BR, FC, LFE, SL, SR}), 8);
    assert_true(pcm_route_complete(0x63f, speakers, 8));
    assert_false(pcm_route_complete(0x63f, speakers, 6));
    pcm_route_default_speakers(speakers, 1);
    assert_int_equal(speakers[0], FC);
    pcm_route_default_speakers(speakers, 3);
    assert_int_equal(speakers[2], FC);
    pcm_route_default_speakers(speakers, 10);
    assert_int_equal(speakers[9], NONE);
    struct pcm_route r;
    assert_int_equal(pcm_route_init(&r, 3, speakers, 0), -EINVAL);
    assert_int_equal(pcm_route_init(&r, 3, speakers, ROUTE_OUT_MAX + 1), -EINVAL);
}

/* One channel through a layout, as an integer of the layout's bytes. */
static int32_t written(const struct pcm_layout *layout, float value)
{
    static const uint8_t mono[] = {FC};
    struct pcm_route r;
    uint8_t bytes[4 + 1] = {[4] = 0x5a};
    assert_int_equal(pcm_route_init(&r, 0x4, mono, 1), 0);
    bytes[layout->bytes] = 0x5a;
    pcm_route_run(&r, layout, bytes, &value, 1);
    assert_int_equal(bytes[layout->bytes], 0x5a); /* not a byte further */
    int32_t word = 0;
    int16_t half;
    switch (layout->bytes) {
    case 2:
        memcpy(&half, bytes, sizeof half);
        return half;
    case 3:
        return (int32_t)((uint32_t)bytes[0] << 8 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 24) >> 8;
    default:
        memcpy(&word, bytes, sizeof word);
        return word;
    }
}

static void integers(void **state)
{
    (void)state;
    static const struct {
        struct pcm_layout layout;
        int32_t top;
    } layouts[] = {
        {{.bits = 16, .bytes = 2},              INT16_MAX    },
        {{.bits = 24, .bytes = 3},              0x7fffff     },
        {{.bits = 24, .bytes = 4},              0x7fffff     },
        {{.bits = 32, .bytes = 4},              INT32_MAX    },
        {{.bits = 24, .bytes = 4, .shift = 8},  0x7fffff << 8},
        {{.bits = 16, .bytes = 4, .shift = 16}, 0x7fff << 16 },
    };
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const struct pcm_layout *layout = &layouts[i].layout;
        const int32_t one = 1 << layout->shift;
        const int32_t top = layouts[i].top, bottom = -top - one;
        assert_int_equal(written(layout, 0.0f), 0);
        assert_int_equal(written(layout, 0.5f), (top >> 1) + (one + 1) / 2);
        assert_int_equal(written(layout, -0.5f), -((top >> 1) + (one + 1) / 2));
        assert_int_equal(written(layout, -1.0f), bottom);
        assert_int_equal(written(layout, 1.0f), top);
        assert_int_equal(written(layout, 7.5f), top);
        assert_int_equal(written(layout, -7.5f), bottom);
        assert_int_equal(written(layout, INFINITY), top);
        assert_int_equal(written(layout, -INFINITY), bottom);
        assert_int_equal(written(layout, NAN), 0);
        assert_true(written(layout, 0.99999994f) > 0); /* the last float below 1 */
        assert_true(written(layout, -0.99999994f) < 0);
    }
    /* To nearest, and what came in as 16 bit leaves as it came. */
    const struct pcm_layout s16 = {.bits = 16, .bytes = 2};
    assert_int_equal(written(&s16, 0.6f / 32768), 1);
    assert_int_equal(written(&s16, -0.6f / 32768), -1);
    for (int32_t value = INT16_MIN; value <= INT16_MAX; value++)
        assert_int_equal(written(&s16, (float)value / 32768), value);
}

/* What a wide loop makes of many is what becomes of each by itself, the odd ones at the end included. */
static void many_are_as_one(void **state)
{
    (void)state;
    static const uint8_t stereo[] = {FL, FR}, swapped[] = {FR, NONE, FL};
    static const struct pcm_layout layouts[] = {
        {.bits = 16,  .bytes = 2},
        {.bits = 24,           .bytes = 3},
        {.bits = 20,.bytes = 3, .shift = 4},
        {.bits = 32,  .bytes = 4},
        {.bits = 24, .bytes = 4, .shift = 8},
        {
         .is_float = true,
         .bytes = 4,
         }
    };
    enum { FRAMES = 101 };
    float in[2 * FRAMES];
    uint32_t random = 1;
    for (unsigned i = 0; i < 2 * FRAMES; i++) {
        random = random * 1664525u + 1013904223u;
        in[i] = (float)(int32_t)random / 0x1p31f * (i % 7 == 0 ? 2.0f : i % 5 == 0 ? 1e-5f : 1.0f);
    }
    in[7] = NAN;
    for (size_t k = 0; k < sizeof layouts / sizeof layouts[0]; k++) {
        const struct pcm_layout *layout = &layouts[k];
        for (unsigned out = 2; out <= 3; out++) {
            uint8_t at_once[4 * 3 * FRAMES], one[4 * 3];
            struct pcm_route r;
            assert_int_equal(pcm_route_init(&r, 3, out == 2 ? stereo : swapped, out), 0);
            pcm_route_run(&r, layout, at_once, in, FRAMES);
            for (unsigned i = 0; i < FRAMES; i++) {
                pcm_route_run(&r, layout, one, in + 2 * i, 1);
                assert_memory_equal(at_once + (size_t)i * out * layout->bytes, one, (size_t)out * layout->bytes);
                for (unsigned c = 0; c < out && !layout->is_float; c++) {
                    float value = out == 2 ? in[2 * i + c] : c == 1 ? 0.0f : in[2 * i + (c == 0)];
                    const double scale = ldexp(1.0, layout->bits - 1);
                    double wanted = isnan(value) ? 0.0 : fmax(fmin(rint(value * scale), scale - 1.0), -scale);
                    int32_t word = 0;
                    memcpy((uint8_t *)&word + 4 - layout->bytes, one + c * layout->bytes, layout->bytes);
                    word >>= 32 - 8 * layout->bytes;
                    assert_int_equal(word >> layout->shift, (int32_t)wanted);
                }
            }
        }
    }
}

static void floats_pass(void **state)
{
    (void)state;
    static const uint8_t mono[] = {FC};
    struct pcm_route r;
    const float in[] = {0.1f, -2.0f, 1.5f};
    float out[3];
    assert_int_equal(pcm_route_init(&r, 0x4, mono, 1), 0);
    pcm_route_run(&r, &floats, out, in, 3);
    assert_memory_equal(in, out, sizeof in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_speakers), cmocka_unit_test(other_speakers), cmocka_unit_test(nothing_lost),
        cmocka_unit_test(defaults),     cmocka_unit_test(integers),       cmocka_unit_test(many_are_as_one),
        cmocka_unit_test(floats_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
