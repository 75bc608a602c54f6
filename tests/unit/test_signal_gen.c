/* SPDX-License-Identifier: MIT */
#include "receiver/signal_gen.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define FRAMES 512

static const double two_pi = 6.283185307179586476925286766559;

static struct signal_gen make(struct signal_params params)
{
    struct signal_gen gen;
    assert_int_equal(signal_gen_init(&gen, &params), 0);
    return gen;
}

static void assert_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.9f is not within %g of %.9f", a, tolerance, b);
}

static void tone_is_in_quadrature_on_every_pair(void **state)
{
    (void)state;
    struct signal_gen gen =
        make((struct signal_params){.kind = SIGNAL_TONE, .rate = 48000, .channels = 5, .hz = 1000, .level = 0.5});
    float out[FRAMES * 5];
    signal_gen_fill(&gen, out, 0, FRAMES);
    for (unsigned n = 0; n < FRAMES; n++)
        for (unsigned c = 0; c < 5; c++) {
            double angle = two_pi * n / 48.0;
            assert_near(out[n * 5 + c], 0.5 * (c % 2 ? sin(angle) : cos(angle)), 1e-7);
        }
}

/* 440 Hz at 48 kHz repeats every 1200 frames, whatever the index. */
static void tone_is_exact_at_large_indexes(void **state)
{
    (void)state;
    struct signal_gen gen =
        make((struct signal_params){.kind = SIGNAL_TONE, .rate = 48000, .channels = 2, .hz = 440, .level = 1});
    static const uint64_t periods[] = {1, 1000, 3456000 /* a day */, 1000000000000, UINT64_MAX / 1200 - 1};
    float expected[FRAMES * 2], out[FRAMES * 2];
    signal_gen_fill(&gen, expected, 7, FRAMES);
    for (size_t i = 0; i < sizeof periods / sizeof periods[0]; i++) {
        signal_gen_fill(&gen, out, periods[i] * 1200 + 7, FRAMES);
        assert_memory_equal(out, expected, sizeof out);
    }
}

static void a_frequency_in_millihertz_is_exact(void **state)
{
    (void)state;
    struct signal_gen gen =
        make((struct signal_params){.kind = SIGNAL_TONE, .rate = 44100, .channels = 2, .hz = 997.123, .level = 1});
    const uint64_t period = 44100u * 1000u;
    float expected[FRAMES * 2], out[FRAMES * 2];
    signal_gen_fill(&gen, expected, 0, FRAMES);
    signal_gen_fill(&gen, out, period * 12345, FRAMES);
    assert_memory_equal(out, expected, sizeof out);
    assert_near(out[2 * 300], cos(two_pi * 997.123 * 300 / 44100), 1e-6);
}

static void fill_does_not_depend_on_how_it_is_cut(void **state)
{
    (void)state;
    static const enum signal_kind kinds[] = {SIGNAL_TONE, SIGNAL_PER_CHANNEL, SIGNAL_SWEEP, SIGNAL_IMPULSE};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct signal_gen gen = make((struct signal_params){
            .kind = kinds[k], .rate = 48000, .channels = 2, .hz = 440, .period_frames = 100, .level = 1});
        const uint64_t first = 480000 - 100; /* across the sweep's end */
        float whole[FRAMES * 2], cut[FRAMES * 2];
        signal_gen_fill(&gen, whole, first, FRAMES);
        for (uint32_t n = 0; n < FRAMES; n += 32)
            signal_gen_fill(&gen, cut + (size_t)n * 2, first + n, 32);
        assert_memory_equal(cut, whole, sizeof whole);
    }
}

static void each_channel_has_its_own_tone(void **state)
{
    (void)state;
    struct signal_gen gen = make(
        (struct signal_params){.kind = SIGNAL_PER_CHANNEL, .rate = 48000, .channels = 8, .hz = 440, .level = 0.25});
    float out[FRAMES * 8];
    const uint64_t first = (uint64_t)48000 * 3600 * 24;
    signal_gen_fill(&gen, out, first, FRAMES);
    for (unsigned n = 0; n < FRAMES; n++)
        for (unsigned c = 0; c < 8; c++)
            assert_near(out[n * 8 + c], 0.25 * sin(two_pi * 440 * (c + 1) * n / 48000), 1e-6);
}

/* Frequency around `seconds`, from the distance of two rising zero crossings. */
static double sweep_hz(const struct signal_gen *gen, double seconds)
{
    enum { SPAN = 9600 };
    static float out[SPAN];
    signal_gen_fill(gen, out, (uint64_t)(seconds * 48000), SPAN);
    double first = -1;
    for (unsigned n = 1; n < SPAN; n++) {
        if (!(out[n - 1] < 0 && out[n] >= 0))
            continue;
        double at = n - 1 + out[n - 1] / (out[n - 1] - (double)out[n]);
        if (first >= 0)
            return 48000 / (at - first);
        first = at;
    }
    return 0;
}

static void sweep_is_exponential_and_faded(void **state)
{
    (void)state;
    struct signal_gen gen =
        make((struct signal_params){.kind = SIGNAL_SWEEP, .rate = 48000, .channels = 1, .level = 1});
    double middle = sqrt(20.0 * 20000.0);
    assert_near(sweep_hz(&gen, 5) / middle, 1, 0.03);
    assert_near(sweep_hz(&gen, 2.5) / (20 * pow(1000, 0.25)), 1, 0.05);
    assert_near(sweep_hz(&gen, 15) / middle, 1, 0.03); /* again */
    float ends[3];
    signal_gen_fill(&gen, ends, 480000 - 1, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_near(ends[i], 0, 0.005);
}

static void impulses_number_their_periods(void **state)
{
    (void)state;
    const uint32_t period = 256;
    struct signal_gen gen = make((struct signal_params){
        .kind = SIGNAL_IMPULSE, .rate = 48000, .channels = 2, .period_frames = period, .level = 1});
    uint32_t places[SIGNAL_IMPULSE_NUMBERS + 1];
    for (uint32_t j = 0; j <= SIGNAL_IMPULSE_NUMBERS; j++) {
        float out[256 * 2];
        signal_gen_fill(&gen, out, (uint64_t)j * period, period);
        unsigned nonzero = 0;
        for (uint32_t n = 0; n < period; n++) {
            assert_true(out[2 * n] == out[2 * n + 1]);
            if (out[2 * n] != 0) {
                nonzero++;
                places[j] = n;
            }
        }
        assert_int_equal(nonzero, 2);
        assert_true(out[0] == 1.0f);
        assert_true(out[2 * places[j]] == -0.5f);
        assert_int_equal(places[j], signal_gen_marker(period, j));
        assert_true(places[j] >= period / 4 && places[j] < 3 * period / 4);
        if (j > 0 && j < SIGNAL_IMPULSE_NUMBERS)
            assert_int_equal(places[j] - places[j - 1], period / 64);
    }
    assert_int_equal(places[SIGNAL_IMPULSE_NUMBERS], places[0]);
}

static void what_cannot_be_made_is_refused(void **state)
{
    (void)state;
    const struct signal_params good = {
        .kind = SIGNAL_PER_CHANNEL, .rate = 48000, .channels = 8, .hz = 2999, .period_frames = 64, .level = 1};
    struct signal_gen gen;
    assert_int_equal(signal_gen_init(&gen, &good), 0);
    struct signal_params bad[8];
    for (size_t i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].hz = 3000; /* the eighth channel would be at half the rate */
    bad[1].hz = 0;
    bad[2].hz = NAN;
    bad[3].channels = 0;
    bad[4].channels = 9;
    bad[5].level = 1.5;
    bad[6].rate = 0;
    bad[7].kind = SIGNAL_IMPULSE;
    bad[7].period_frames = 63;
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(signal_gen_init(&gen, &bad[i]), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tone_is_in_quadrature_on_every_pair),
        cmocka_unit_test(tone_is_exact_at_large_indexes),
        cmocka_unit_test(a_frequency_in_millihertz_is_exact),
        cmocka_unit_test(fill_does_not_depend_on_how_it_is_cut),
        cmocka_unit_test(each_channel_has_its_own_tone),
        cmocka_unit_test(sweep_is_exponential_and_faded),
        cmocka_unit_test(impulses_number_their_periods),
        cmocka_unit_test(what_cannot_be_made_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
