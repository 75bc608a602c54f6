/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim.h"

#include <math.h>
#include <stdlib.h>

#define KAISER_BETA 20.0
#define NOTCH_HZ    40.0

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
    if (count <= 2 * taps)
        return NAN;
    double *window = malloc(taps * sizeof *window), *re = malloc(count * sizeof *re),
           *im = malloc(count * sizeof *im);
    double result = NAN;
    if (!window || !re || !im)
        goto out;
    double total = 0.0;
    for (size_t i = 0; i < taps; i++) {
        double x = ((double)i - (double)half) / (double)half;
        window[i] = bessel_i0(KAISER_BETA * sqrt(fmax(1.0 - x * x, 0.0)));
        total += window[i];
    }
    for (size_t i = 0; i < count; i++) {
        double angle = 2.0 * M_PI * fmod(tone_hz * (double)i / rate_hz, 1.0);
        re[i] = samples[i] * cos(angle);
        im[i] = -samples[i] * sin(angle);
    }
    double tone = 0.0, rest = 0.0;
    for (size_t i = half; i + half < count; i++) {
        double a = 0.0, b = 0.0;
        for (size_t k = 0; k < taps; k++) {
            a += window[k] * re[i + k - half];
            b += window[k] * im[i + k - half];
        }
        double angle = 2.0 * M_PI * fmod(tone_hz * (double)i / rate_hz, 1.0);
        double played = 2.0 * (a * cos(angle) - b * sin(angle)) / total;
        tone += played * played;
        rest += (samples[i] - played) * (samples[i] - played);
    }
    result = 10.0 * log10(rest / tone);
out:
    free(window);
    free(re);
    free(im);
    return result;
}
