/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim.h"

#include <math.h>
#include <stdlib.h>

#define KAISER_BETA 20.0
#define NOTCH_HZ    40.0
#define PASSES      3

static double bessel_i0(double x)
{
    double sum = 1.0, term = 1.0;
    for (int k = 1; k < 100 && term > sum * 1e-18; k++) {
        term *= (x / (2.0 * k)) * (x / (2.0 * k));
        sum += term;
    }
    return sum;
}

/* The tone is shifted to 0 Hz and low-passed: that is the tone as it was played, slow drift of its phase included.
 * What is left of the signal without it is distortion and noise. The window's side lobes lie below -190 dB. */
double thd_n_db(const float *samples, size_t count, double rate_hz, double tone_hz)
{
    size_t half = (size_t)(rate_hz / NOTCH_HZ * sqrt(1.0 + KAISER_BETA * KAISER_BETA / (M_PI * M_PI)) / 2.0);
    size_t taps = 2 * half + 1;
    if (count <= (PASSES + 1) * taps)
        return NAN;
    double *window = malloc(taps * sizeof *window), *re = malloc(count * sizeof *re),
           *im = malloc(count * sizeof *im), *left = malloc(count * sizeof *left);
    double result = NAN;
    if (!window || !re || !im || !left)
        goto out;
    double total = 0.0;
    for (size_t i = 0; i < taps; i++) {
        double x = ((double)i - (double)half) / (double)half;
        window[i] = bessel_i0(KAISER_BETA * sqrt(fmax(1.0 - x * x, 0.0)));
        total += window[i];
    }
    /* Filtering what is left again and again flattens the pass band, where the tone moves by what the ratio does. */
    for (size_t i = 0; i < count; i++)
        left[i] = samples[i];
    size_t from = 0, to = count;
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t i = from; i < to; i++) {
            double angle = 2.0 * M_PI * fmod(tone_hz * (double)i / rate_hz, 1.0);
            re[i] = left[i] * cos(angle);
            im[i] = -left[i] * sin(angle);
        }
        from += half;
        to -= half;
        for (size_t i = from; i < to; i++) {
            double a = 0.0, b = 0.0;
            for (size_t k = 0; k < taps; k++) {
                a += window[k] * re[i + k - half];
                b += window[k] * im[i + k - half];
            }
            double angle = 2.0 * M_PI * fmod(tone_hz * (double)i / rate_hz, 1.0);
            left[i] -= 2.0 * (a * cos(angle) - b * sin(angle)) / total;
        }
    }
    double tone = 0.0, rest = 0.0;
    for (size_t i = from; i < to; i++) {
        tone += samples[i] * samples[i];
        rest += left[i] * left[i];
    }
    result = 10.0 * log10(rest / tone);
out:
    free(window);
    free(re);
    free(im);
    free(left);
    return result;
}
