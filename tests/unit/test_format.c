/* SPDX-License-Identifier: MIT */
#include "receiver/format.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_marker(void **state)
{
    (void)state;
    for (unsigned marker = 0; marker < 256; marker++) {
        struct pcm_format format;
        unsigned multiplier = marker & 0x7f;
        int result = pcm_format_parse(&format, (uint8_t)marker, 16, 2, 3);
        if (multiplier < 1 || multiplier > 4) {
            assert_int_equal(result, -EINVAL);
            continue;
        }
        assert_int_equal(result, 0);
        assert_int_equal(format.rate, multiplier * (marker & 0x80 ? 44100 : 48000));
        assert_int_equal(pcm_rate_marker(format.rate), marker);
    }
    assert_int_equal(pcm_rate_marker(0), 0);
    assert_int_equal(pcm_rate_marker(22050), 0);
    assert_int_equal(pcm_rate_marker(5 * 48000), 0);
}

static void bits_and_channels(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 256; bits++)
        for (unsigned channels = 0; channels < 256; channels++) {
            struct pcm_format format = {.rate = 1};
            bool valid = (bits == 16 || bits == 24 || bits == 32) && channels >= 1 && channels <= 8;
            int result = pcm_format_parse(&format, 1, (uint8_t)bits, (uint8_t)channels, 0);
            assert_int_equal(result, valid ? 0 : -EINVAL);
            if (valid)
                assert_int_equal(pcm_frame_bytes(&format), bits * channels / 8);
            else
                assert_int_equal(format.rate, 1);
        }
}

static unsigned count_bits(unsigned value)
{
    unsigned count = 0;
    for (; value; value >>= 1)
        count += value & 1;
    return count;
}

static void every_mask(void **state)
{
    (void)state;
    for (unsigned channels = 1; channels <= 8; channels++) {
        assert_int_equal(count_bits(pcm_default_mask(channels)), channels);
        for (unsigned mask = 0; mask <= 0xffff; mask++) {
            struct pcm_format format;
            assert_int_equal(pcm_format_parse(&format, 1, 16, (uint8_t)channels, (uint16_t)mask), 0);
            assert_int_equal(format.mask, count_bits(mask) == channels ? mask : pcm_default_mask(channels));
        }
    }
    assert_int_equal(pcm_default_mask(0), 0);
    assert_int_equal(pcm_default_mask(9), 0);
    assert_int_equal(pcm_default_mask(2), 0x3);
    assert_int_equal(pcm_default_mask(4), 0x33);
    assert_int_equal(pcm_default_mask(5), 0x37);
    assert_int_equal(pcm_default_mask(6), 0x3f);
    assert_int_equal(pcm_default_mask(8), 0x63f);
}

static void speakers_in_order(void **state)
{
    (void)state;
    static const char *const side51[] = {"FL", "FR", "FC", "LFE", "SL", "SR"};
    for (unsigned channel = 0; channel < 6; channel++)
        assert_string_equal(pcm_speaker_name((unsigned)pcm_channel_speaker(0x60f, channel)), side51[channel]);
    assert_int_equal(pcm_channel_speaker(0x60f, 6), -1);
    assert_int_equal(pcm_channel_speaker(0, 0), -1);
    assert_string_equal(pcm_speaker_name(15), "TBL");
    assert_null(pcm_speaker_name(16));
}

static void described(void **state)
{
    (void)state;
    static const struct {
        uint8_t marker, bits, channels;
        uint16_t mask;
        const char *text, *brief;
    } rows[] = {
        {0x01, 16, 2, 0x0003, "48 kHz 16 bit stereo",      "48k/16 stereo"     },
        {0x81, 24, 6, 0x003f, "44.1 kHz 24 bit 5.1",       "44.1k/24 5.1"      },
        {0x84, 32, 8, 0x063f, "176.4 kHz 32 bit 7.1",      "176.4k/32 7.1"     },
        {0x02, 16, 1, 0x0003, "96 kHz 16 bit mono",        "96k/16 mono"       },
        {0x04, 16, 6, 0xfc00, "192 kHz 16 bit 6 channels", "192k/16 6 channels"},
        {0x01, 16, 1, 0x0100, "48 kHz 16 bit 1 channel",   "48k/16 1 channel"  },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pcm_format format;
        char text[64];
        assert_int_equal(pcm_format_parse(&format, rows[i].marker, rows[i].bits, rows[i].channels, rows[i].mask), 0);
        assert_string_equal(pcm_format_describe(&format, text, sizeof text), rows[i].text);
        assert_string_equal(pcm_format_abbreviate(&format, text, sizeof text), rows[i].brief);
        char small[8];
        memset(small, 'x', sizeof small);
        pcm_format_describe(&format, small, sizeof small);
        assert_int_equal(small[7], 0);
    }
}

static void equality(void **state)
{
    (void)state;
    const struct pcm_format a = {48000, 16, 2, 3};
    struct pcm_format b = a;
    assert_true(pcm_format_equal(&a, &b));
    b.rate = 44100;
    assert_false(pcm_format_equal(&a, &b));
    b = a;
    b.bits = 24;
    assert_false(pcm_format_equal(&a, &b));
    b = a;
    b.channels = 1;
    assert_false(pcm_format_equal(&a, &b));
    b = a;
    b.mask = 0x30;
    assert_false(pcm_format_equal(&a, &b));
}

static void decodes_known_values(void **state)
{
    (void)state;
    float out[9];
    const uint8_t s16[] = {0x00, 0x00, 0xff, 0x7f, 0x00, 0x80, 0x01, 0x00, 0xff, 0xff};
    pcm_decode(out, s16, 5, 16);
    const float want16[] = {0.0f, 32767.0f / 32768, -1.0f, 1.0f / 32768, -1.0f / 32768};
    assert_memory_equal(out, want16, sizeof want16);

    /* Five: one whole group of four, and one alone. */
    const uint8_t s24[] = {0, 0, 0, 0xff, 0xff, 0x7f, 0, 0, 0x80, 1, 0, 0, 0xff, 0xff, 0xff};
    pcm_decode(out, s24, 5, 24);
    const float want24[] = {0.0f, 8388607.0f / 8388608, -1.0f, 1.0f / 8388608, -1.0f / 8388608};
    assert_memory_equal(out, want24, sizeof want24);

    const uint8_t s32[] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0x80, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    pcm_decode(out, s32, 5, 32);
    const float want32[] = {0.0f, 0x1.fffffep-1f, -1.0f, 0x1p-31f, -0x1p-31f};
    assert_memory_equal(out, want32, sizeof want32);
}

/* Every position within the groups of the 24-bit loop, at every misalignment. */
static void decodes_each_position(void **state)
{
    (void)state;
    for (unsigned bits = 16; bits <= 32; bits += 8)
        for (size_t samples = 0; samples < 40; samples++)
            for (size_t shift = 0; shift < 4; shift++) {
                size_t bytes = bits / 8;
                uint8_t *data = malloc(shift + samples * bytes + 1);
                float *out = malloc((samples + 1) * sizeof *out);
                assert_non_null(data);
                assert_non_null(out);
                for (size_t i = 0; i < samples * bytes; i++)
                    data[shift + i] = (uint8_t)(i * 73 + shift * 11 + samples);
                out[samples] = 7.0f;
                pcm_decode(out, data + shift, samples, bits);
                for (size_t i = 0; i < samples; i++) {
                    uint32_t word = 0;
                    for (size_t byte = 0; byte < bytes; byte++)
                        word |= (uint32_t)data[shift + i * bytes + byte] << (32 - bits + 8 * byte);
                    assert_true(fabs((double)out[i] - (int32_t)word / 2147483648.0) < 1e-7);
                }
                assert_true(out[samples] == 7.0f);
                free(data);
                free(out);
            }
}

static void encode_inverts(void **state)
{
    (void)state;
    for (unsigned bits = 16; bits <= 32; bits += 8) {
        uint8_t data[32 * 4], back[32 * 4];
        float samples[32];
        size_t bytes = bits / 8, count = 32;
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(i * 37 + 5);
        if (bits == 32) /* a float carries 24 bits */
            for (size_t i = 0; i < count; i++)
                data[4 * i] = 0;
        pcm_decode(samples, data, count, bits);
        pcm_encode(back, samples, count, bits);
        assert_memory_equal(back, data, count * bytes);
    }
}

static void encode_saturates(void **state)
{
    (void)state;
    const float in[] = {1.0f, 2.0f, -1.0f, -3.0f, NAN, INFINITY, -INFINITY, 0.4f / 32768, 0.6f / 32768};
    const int16_t want[] = {32767, 32767, -32768, -32768, 0, 32767, -32768, 0, 1};
    uint8_t out[2 * 9];
    pcm_encode(out, in, 9, 16);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal((int16_t)(out[2 * i] | out[2 * i + 1] << 8), want[i]);
    uint8_t wide[4];
    pcm_encode(wide, in, 1, 32);
    assert_int_equal(wide[3], 0x7f);
    assert_int_equal(wide[0], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_marker),
        cmocka_unit_test(bits_and_channels),
        cmocka_unit_test(every_mask),
        cmocka_unit_test(speakers_in_order),
        cmocka_unit_test(described),
        cmocka_unit_test(equality),
        cmocka_unit_test(decodes_known_values),
        cmocka_unit_test(decodes_each_position),
        cmocka_unit_test(encode_inverts),
        cmocka_unit_test(encode_saturates),
    };
    return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
