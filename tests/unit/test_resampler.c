/* SPDX-License-Identifier: MIT
 *
 * Whether what comes out is what stands at resampler_position(), by what libsamplerate really does.
 */
#include "receiver/resampler.h"
#include "tests/unit/near.h"

#include <stdlib.h>
#include <string.h>

#define RING_FRAMES 16384
#define OUT_MAX     RESAMPLER_FRAMES_MAX

static const enum resampler_quality qualities[] = {RESAMPLER_FASTEST, RESAMPLER_MEDIUM, RESAMPLER_BEST};
#define QUALITIES (sizeof qualities / sizeof qualities[0])

/* A ring into which a tone is written as it is needed, another phase in each channel. */
struct bench {
    struct frame_ring ring;
    struct resampler rs;
    double cycles_per_frame; /* of the tone; 0: silence */
    double level;
    uint64_t impulse; /* instead of the tone: one frame of `level`; 0: none */
    float out[OUT_MAX * 8], spare[OUT_MAX * 8];
};

static struct bench *bench_new(enum resampler_quality quality, unsigned channels, double cycles_per_frame)
{
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    bench->cycles_per_frame = cycles_per_frame;
    bench->level = 0.5;
    assert_int_equal(frame_ring_init(&bench->ring, RING_FRAMES, channels), 0);
    assert_int_equal(resampler_init(&bench->rs, quality, channels), 0);
    return bench;
}

static void bench_free(struct bench *bench)
{
    resampler_free(&bench->rs);
    frame_ring_free(&bench->ring);
    free(bench);
}

static double truth(const struct bench *bench, double position, unsigned channel)
{
    return bench->level * sin(2.0 * M_PI * bench->cycles_per_frame * position + 0.7 * channel);
}

static void write_until(struct bench *bench, uint64_t end)
{
    struct frame_ring *ring = &bench->ring;
    while (frame_ring_written(ring) < end) {
        size_t room;
        uint64_t at = frame_ring_written(ring);
        float *to = frame_ring_reserve(ring, &room);
        assert_true(room > 0);
        if (room > end - at)
            room = (size_t)(end - at);
        for (size_t i = 0; i < room * ring->channels; i++) {
            uint64_t frame = at + i / ring->channels;
            to[i] = (float)(bench->impulse > 0 ? frame == bench->impulse ? bench->level : 0.0
                                               : truth(bench, (double)frame, (unsigned)(i % ring->channels)));
        }
        frame_ring_commit(ring, room);
    }
}

/* Runs with all there that is needed and the past released; no more is written than needed, so wraps cut anywhere. */
static void run(struct bench *bench, uint32_t frames, double step)
{
    const double keep = resampler_position(&bench->rs) - 2000.0;
    if (keep > 0.0)
        frame_ring_release(&bench->ring, (uint64_t)keep);
    while (!resampler_ready(&bench->rs, &bench->ring, frames, step))
        write_until(bench, frame_ring_written(&bench->ring) + 7);
    resampler_run(&bench->rs, &bench->ring, bench->out, frames, step);
}

/* Largest difference between what came out and the tone at the positions it stands for. */
static double worst(const struct bench *bench, double from, double step, uint32_t frames)
{
    double most = 0.0;
    for (uint32_t i = 0; i < frames; i++)
        for (unsigned c = 0; c < bench->ring.channels; c++)
            most = fmax(most, fabs(bench->out[i * bench->ring.channels + c] - truth(bench, from + i * step, c)));
    return most;
}

/* At a constant step every output frame is the tone at position + i * step, in every quality, for all pairs of rates. */
static void tone_position(void **state)
{
    (void)state;
    static const double rates[] = {44100.0, 48000.0, 96000.0, 192000.0};
    for (size_t k = 0; k < QUALITIES * 16; k++) {
        const double step = rates[k % 4] / rates[k / 4 % 4];
        struct bench *bench = bench_new(qualities[k / 16], 1, 0.02 / fmax(step, 1.0));
        for (int i = 0; i < 60; i++) {
            double from = resampler_position(&bench->rs);
            uint32_t frames = resampler_slice(step) < 256 ? resampler_slice(step) : 256;
            run(bench, frames, step);
            if (from > 1000.0)
                assert_true(worst(bench, from, step, frames) < 2e-4);
            assert_near(resampler_position(&bench->rs), from + frames * step, 1e-6);
        }
        bench_free(bench);
    }
}

/* An impulse peaks where its frame stands. */
static void impulse_position(void **state)
{
    (void)state;
    for (size_t k = 0; k < QUALITIES; k++) {
        struct bench *bench = bench_new(qualities[k], 1, 0.0);
        bench->impulse = 3000;
        const double step = 0.5;
        double peak = 0.0, at = 0.0;
        while (resampler_position(&bench->rs) < 3500.0) {
            double from = resampler_position(&bench->rs);
            run(bench, 100, step);
            for (unsigned i = 0; i < 100; i++)
                if (bench->out[i] > peak) {
                    peak = bench->out[i];
                    at = from + i * step;
                }
        }
        assert_true(peak > 0.4);
        assert_near(at, 3000.0, 0.01);
        bench_free(bench);
    }
}

/* Ramped from call to call by as much as rate control ever does: the position stays true for a minute. */
static void ramps(void **state)
{
    (void)state;
    for (size_t k = 0; k < QUALITIES; k++) {
        struct bench *bench = bench_new(qualities[k], 2, 0.02);
        double last_step = 1.0;
        for (int i = 0; i < 12000; i++) {
            const double step = 1.0 + 0.003 * sin(i * 0.01) + 0.001 * sin(i * 1.3);
            const double from = resampler_position(&bench->rs);
            const uint32_t frames = i % 5 == 0 ? 1 + (uint32_t)i % 700 : 240;
            run(bench, frames, step);
            if (from > 1000.0 && frames > 0)
                for (unsigned c = 0; c < 2; c++)
                    assert_near(bench->out[c], truth(bench, from, c), 3e-4);
            const double passed = resampler_position(&bench->rs) - from;
            assert_true(passed >= frames * fmin(step, last_step) * (1.0 - 0.005) &&
                        passed <= frames * fmax(step, last_step) * (1.0 + 0.005));
            last_step = step;
        }
        assert_true(resampler_position(&bench->rs) > 50.0 * RING_FRAMES); /* the ring went round often */
        bench_free(bench);
    }
}

/* A step that changes by much within one call: position and samples still agree afterwards. */
static void large_ramps(void **state)
{
    (void)state;
    static const double steps[][2] = {
        {1.0,             0.5            },
        {0.5,             1.0            },
        {48000.0 / 44100, 1.0            },
        {1.0,             48000.0 / 44100},
        {2.0,             0.5            },
        {192.0 / 44.1,    1.0            }
    };
    for (size_t k = 0; k < QUALITIES * (sizeof steps / sizeof steps[0]); k++) {
        const double *row = steps[k / QUALITIES];
        struct bench *bench = bench_new(qualities[k % QUALITIES], 1, 0.01 / fmax(fmax(row[0], row[1]), 1.0));
        for (int i = 0; i < 20; i++)
            run(bench, 200, row[0]);
        for (int i = 0; i < 30; i++) {
            double from = resampler_position(&bench->rs);
            run(bench, 200, row[1]);
            assert_near(bench->out[0], truth(bench, from, 0), 1e-3);
            for (int n = 1; n < 200; n++) /* nothing missing in between either */
                assert_true(fabsf(bench->out[n] - bench->out[n - 1]) < 0.5 * 2.0 * M_PI * 0.0101);
        }
        bench_free(bench);
    }
}

static void all_channels(void **state)
{
    (void)state;
    for (unsigned channels = 1; channels <= 8; channels++) {
        struct bench *bench = bench_new(RESAMPLER_FASTEST, channels, 0.02);
        for (int i = 0; i < 200; i++) {
            double from = resampler_position(&bench->rs);
            run(bench, 256, 44100.0 / 48000.0);
            if (from > 1000.0)
                assert_true(worst(bench, from, 44100.0 / 48000.0, 256) < 2e-4);
        }
        bench_free(bench);
    }
}

/* With history the first frame after a seek is as good as any; the place is the one asked for, give or take one. */
static void seek_with_history(void **state)
{
    (void)state;
    static const double places[] = {1000.0, 1234.567, 5000.999, 9000.0};
    static const double steps[] = {1.0, 44100.0 / 48000.0, 192.0 / 44.1};
    for (size_t k = 0; k < QUALITIES * 12; k++) {
        const double step = steps[k % 3], place = places[k / 3 % 4];
        struct bench *bench = bench_new(qualities[k / 12], 2, 0.02 / fmax(step, 1.0));
        write_until(bench, 15000);
        resampler_seek(&bench->rs, &bench->ring, place, step, bench->spare);
        const double from = resampler_position(&bench->rs);
        assert_near(from, place, fmax(step, 1.0));
        assert_true(resampler_ready(&bench->rs, &bench->ring, 256, step));
        resampler_run(&bench->rs, &bench->ring, bench->out, 256, step);
        assert_true(worst(bench, from, step, 256) < 2e-4);
        bench_free(bench);
    }
}

/* Without it the place is right all the same, and the sound after the filter's length. */
static void seek_without_history(void **state)
{
    (void)state;
    for (size_t k = 0; k < QUALITIES; k++) {
        struct bench *bench = bench_new(qualities[k], 1, 0.02);
        write_until(bench, 8000);
        frame_ring_release(&bench->ring, 4000);
        resampler_seek(&bench->rs, &bench->ring, 4000.0, 1.0, bench->spare);
        assert_near(resampler_position(&bench->rs), 4000.0, 1.0);
        run(bench, 500, 1.0);
        const double from = resampler_position(&bench->rs);
        run(bench, 256, 1.0);
        assert_true(worst(bench, from, 1.0, 256) < 2e-4);

        /* Nothing is left of the step it ran at before. */
        const double place = resampler_position(&bench->rs);
        resampler_seek(&bench->rs, &bench->ring, place, 0.5, bench->spare);
        assert_near(resampler_position(&bench->rs), place, 1.0);
        const double again = resampler_position(&bench->rs);
        run(bench, 256, 0.5);
        assert_true(worst(bench, again, 0.5, 256) < 2e-4);

        /* Before what is still there: where that begins. */
        resampler_seek(&bench->rs, &bench->ring, 10.0, 1.0, bench->spare);
        assert_near(resampler_position(&bench->rs), (double)frame_ring_released(&bench->ring), 1.0);
        bench_free(bench);
    }
}

/* Where the ring ends the sound is mirrored: no step, and nothing but silence where there was nothing. */
static void tail(void **state)
{
    (void)state;
    for (size_t k = 0; k < QUALITIES; k++) {
        struct bench *bench = bench_new(qualities[k], 2, 0.005);
        write_until(bench, 4000);
        resampler_seek(&bench->rs, &bench->ring, 3900.0, 1.0, bench->spare);
        assert_false(resampler_ready(&bench->rs, &bench->ring, 512, 1.0));
        const double from = resampler_position(&bench->rs);
        resampler_run(&bench->rs, &bench->ring, bench->out, 512, 1.0);
        assert_near(resampler_position(&bench->rs), from + 512.0, 1e-6);
        for (unsigned i = 0; i < 50; i++)
            assert_near(bench->out[2 * i], truth(bench, from + i, 0), 1e-3);
        for (unsigned i = 2; i < 2 * 512; i++) /* a corner, but no step */
            assert_true(fabsf(bench->out[i] - bench->out[i - 2]) < 0.5f * 2.0f * 3.15f * 0.0051f);
        for (unsigned i = 220; i < 250; i++)
            assert_near(bench->out[2 * i], truth(bench, 2.0 * 3999.5 - (from + i), 0), 5e-3);
        bench_free(bench);

        bench = bench_new(qualities[k], 2, 0.005);
        resampler_seek(&bench->rs, &bench->ring, 0.0, 1.0, bench->spare);
        memset(bench->out, 0xFF, sizeof bench->out);
        resampler_run(&bench->rs, &bench->ring, bench->out, 512, 1.0);
        for (unsigned i = 0; i < 2 * 512; i++)
            assert_true(bench->out[i] == 0.0f);
        bench_free(bench);
    }
}

/* It needs what it says it needs, and not much more: latency is made of this. */
static void lookahead(void **state)
{
    (void)state;
    static const double at_one[] = {20.0, 46.0, 143.0};
    for (size_t k = 0; k < QUALITIES; k++) {
        double frames = resampler_lookahead(qualities[k], 1.0);
        assert_true(frames >= at_one[k] && frames <= at_one[k] + 4.0);
        assert_near(resampler_lookahead(qualities[k], 0.25), frames, 2.0);
        assert_near(resampler_lookahead(qualities[k], 4.0), 4.0 * frames, 0.05 * 4.0 * frames + 10.0);
    }
    for (double step = 0.05; step < RESAMPLER_STEP_MAX; step *= 1.1) {
        assert_true(resampler_slice(step) >= 1 && resampler_slice(step) <= RESAMPLER_FRAMES_MAX);
        assert_true(resampler_slice(step) * step <= 2048.0 || resampler_slice(step) == 1);
    }
}

/* One frame a call, two, and many: the same sound. */
static void any_call_size(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 3, 17, 64, 1000, RESAMPLER_FRAMES_MAX};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        struct bench *bench = bench_new(RESAMPLER_MEDIUM, 1, 0.02);
        for (uint32_t done = 0; done < 6000; done += sizes[k]) {
            double from = resampler_position(&bench->rs);
            run(bench, sizes[k], 0.997);
            if (from > 1000.0)
                assert_true(worst(bench, from, 0.997, sizes[k]) < 2e-4);
        }
        bench_free(bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tone_position),
        cmocka_unit_test(impulse_position),
        cmocka_unit_test(ramps),
        cmocka_unit_test(large_ramps),
        cmocka_unit_test(all_channels),
        cmocka_unit_test(seek_with_history),
        cmocka_unit_test(seek_without_history),
        cmocka_unit_test(tail),
        cmocka_unit_test(lookahead),
        cmocka_unit_test(any_call_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
