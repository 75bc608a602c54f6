/* SPDX-License-Identifier: MIT
 *
 * The pull, and devices that change: their period, their rate, their place in time.
 */
#include "receiver/playout.h"
#include "tests/unit/playout_expect.h"

static const struct playout_params standard = {.quality = RESAMPLER_FASTEST};

static void quantum_change(void **state)
{
    (void)state;
    static const struct playout_params rows[] = {
        {.quality = RESAMPLER_FASTEST},
        { .quality = RESAMPLER_FASTEST,    .latency_ns = 5 * RIG_MS}  /* plays as auto */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig *rig = rig_new_locked(&rows[i]);
        struct rig_ear ear;
        const double before_s = rig_trace(rig).target_s;
        rig_listen(rig, &ear);
        rig->quantum = 384; /* a little: what is in hand lasts until the target is raised, which is at once */
        rig_run(rig, 0.05);
        assert_near(rig_trace(rig).target_s - before_s, 128.0 / 48000.0, 1e-3);
        assert_int_equal(rig_stats(rig).underruns, 0);
        rig->quantum = 1024;
        rig_run(rig, 1.0);
        assert_near(rig_trace(rig).target_s - before_s, 768.0 / 48000.0, 1.5e-3);
        assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 1e-3);
        rig->quantum = 256;
        rig_run(rig, 20.0);
        rig->quantum = 1024; /* still remembered: nothing to change */
        rig_run(rig, 20.0);
        assert_smooth(rig, &ear);
        assert_true(rig_stats(rig).underruns <= 1);
        assert_true(rig_stats(rig).locked);
        rig_free(rig);
    }
}

/* The graph changes its rate while it plays, up and down: no step, no drop-out, the same fill. */
static void rate_change(void **state)
{
    (void)state;
    static const uint32_t rates[] = {44100, 48000, 96000, 44100, 96000, 48000, 192000, 48000};
    for (int quality = RESAMPLER_FASTEST; quality <= RESAMPLER_BEST; quality++) {
        const struct playout_params params = {.quality = (enum resampler_quality)quality, .latency_ns = 80 * RIG_MS};
        struct rig *rig = rig_new_locked(&params);
        for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
            struct rig_ear ear;
            const double slope = rig_slope(rig);
            const double before_s = rig_trace(rig).fill_s;
            rig_listen(rig, &ear);
            rig_set_rate(rig, rates[i]);
            rig_run(rig, 1.0);
            const double most = fmax(slope, rig_slope(rig)) * 1.03 + FADES;
            if (!(ear.worst <= most))
                print_error("to %u, quality %d: a step of %g at %llu\n", rates[i], quality, ear.worst,
                            (unsigned long long)(ear.at - (rig->produced - ear.frames)));
            assert_true(ear.worst <= most);
            assert_int_equal(ear.zero, 0);
            assert_int_equal(rig_stats(rig).underruns, 0);
            assert_int_equal(rig_stats(rig).device_rate, rates[i]);
            assert_near(rig_trace(rig).fill_s, before_s, 1e-3);
            assert_near(rig_trace(rig).step, 48000.0 / rates[i], 48000.0 / rates[i] * 100e-6);
        }
        rig_free(rig);
    }
}

/* Changes within one crossfade, of which the last ones take a while. */
static void rate_change_twice(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 80 * RIG_MS};
    struct rig *rig = rig_new_locked(&params);
    struct rig_ear ear;
    const double before_s = rig_trace(rig).fill_s;
    rig_listen(rig, &ear);
    rig->quantum = 64;
    rig_set_rate(rig, 44100);
    rig_run(rig, 0.004);
    rig_set_rate(rig, 96000);
    rig_run(rig, 0.004);
    rig_set_rate(rig, 48000);
    rig->cycle_ns += 8e6;
    rig_run(rig, 0.004);
    rig_set_rate(rig, 44100);
    rig->cycle_ns += 8e6;
    rig_run(rig, 2.0);
    assert_true(ear.worst <= RIG_LEVEL * 2.0 * M_PI * RIG_HZ / 44100.0 * 1.03 + FADES);
    assert_near(rig_trace(rig).fill_s, before_s, 1e-3);
    assert_int_equal(rig_stats(rig).underruns, 0);
    rig_free(rig);
}

struct watch {
    struct rig *rig;
    double worst_s;
};

static void watch_error(void *arg, uint64_t at, const float *samples, uint32_t frames)
{
    (void)at;
    (void)samples;
    (void)frames;
    struct watch *watch = arg;
    watch->worst_s = fmax(watch->worst_s, fabs(rig_trace(watch->rig).error_s));
}

/* Asked twice in one cycle, now and then: at most the first time is a surprise. */
static void doubled_pull(void **state)
{
    (void)state;
    struct rig *rig = rig_new_locked(&standard);
    struct rig_ear ear;
    rig_listen(rig, &ear);
    for (int i = 0; i < 20; i++) {
        rig->twice = true;
        rig_run(rig, 1.0);
    }
    assert_smooth(rig, &ear);
    assert_true(rig_stats(rig).underruns <= 1);
    assert_int_equal(rig_stats(rig).resyncs, 0);
    assert_int_equal(rig_stats(rig).xrun_frames, 0);
    assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 1e-3);

    /* The second one is heard after the first: nothing is amiss, nothing to correct. */
    struct watch watch = {.rig = rig};
    rig->tap = watch_error;
    rig->tap_arg = &watch;
    rig->twice = true;
    rig_run(rig, 1.0);
    assert_true(watch.worst_s < 0.5e-3);
    rig_free(rig);
}

/* The device goes on without asking: the frames are counted, the latency is as before. */
static void device_gap(void **state)
{
    (void)state;
    static const double seconds[] = {0.03, 0.3, 3.0};
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        struct rig *rig = rig_new_locked(&standard);
        const double before_s = rig_trace(rig).fill_s;
        rig->stopped = true;
        rig_run(rig, seconds[i]);
        rig->stopped = false;
        rig_run(rig, 2.0);
        assert_near((double)rig_stats(rig).xrun_frames, seconds[i] * 48000.0, 513.0);
        assert_near(rig_trace(rig).fill_s, before_s, 1.5e-3);
        assert_int_equal(rig_stats(rig).underruns, 0);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        rig_free(rig);
    }
}

/* Moved to another device: its position and phase have nothing to do with the old one's. */
static void device_moved(void **state)
{
    (void)state;
    struct rig *rig = rig_new_locked(&standard);
    struct rig_ear ear;
    rig_listen(rig, &ear);
    const double before_s = rig_trace(rig).fill_s;
    rig->clock_id++;
    rig->position = -5000000;
    rig->cycle_ns += 2e6;
    rig->device_ppm = -400.0;
    rig->flags = PULL_DISCONTINUITY;
    rig_run(rig, 30.0);
    assert_smooth(rig, &ear);
    assert_int_equal(ear.zero, 0);
    assert_near(rig_trace(rig).fill_s, before_s, 1.5e-3);
    assert_near(rig_stats(rig).drift_ppm, 400.0, 20.0);
    assert_int_equal(rig_stats(rig).underruns, 0);
    rig_free(rig);
}

/* Moved while the guest is new and its target still moves: the time that the change took is skipped, not kept. */
static void device_moved_early(void **state)
{
    (void)state;
    static const struct playout_params rows[] = {
        {.quality = RESAMPLER_FASTEST},
        { .quality = RESAMPLER_FASTEST,   .latency_ns = 80 * RIG_MS}
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig *rig = rig_new(&rows[i]);
        struct rig_ear ear;
        rig_run(rig, 5.0);
        const double before_s = rig_trace(rig).fill_s;
        rig_listen(rig, &ear);
        rig->clock_id++;
        rig->cycle_ns += 10e6;
        rig->flags = PULL_DISCONTINUITY;
        rig_run(rig, 0.1);
        assert_near(rig_trace(rig).fill_s, before_s, 1e-3);
        assert_smooth(rig, &ear);
        assert_int_equal(ear.zero, 0);
        rig_free(rig);
    }
}

/* Moved to a device that takes longer: the total is what was asked for, at once and not in minutes. */
static void device_moved_to_longer_delay(void **state)
{
    (void)state;
    static const struct {
        double played_s;
        int64_t delay_frames; /* of the device that it moves to; 480 before */
        int64_t told_frames;  /* and what it says in its first cycles */
    } rows[] = {
        {5.0,  960, 960},
        {20.0, 960, 960},
        {20.0, 96,  96 },
        {20.0, 960, 0  },
        {20.0, 480, 0  }
    };
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 80 * RIG_MS};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig *rig = rig_new(&params);
        struct rig_ear ear;
        rig->delay_frames = 480;
        rig_run(rig, rows[i].played_s);
        rig_listen(rig, &ear);
        rig->clock_id++;
        rig->cycle_ns += 3e6;
        rig->delay_frames = rows[i].told_frames;
        rig->flags = PULL_DISCONTINUITY;
        rig_run(rig, 0.05);
        rig->delay_frames = rows[i].delay_frames;
        rig_run(rig, 0.1);
        assert_near((double)rig_stats(rig).total_ns / 1e6, 80.0, 1.0);
        assert_smooth(rig, &ear);
        assert_int_equal(rig_stats(rig).underruns, 0);
        rig_run(rig, 20.0);
        assert_near((double)rig_stats(rig).total_ns / 1e6, 80.0, 0.3);
        rig_free(rig);
    }
}

/* The same device asks earlier than before, as PulseAudio may: each cycle a bit before, each delay as much longer. What
 * is heard when stays as it is, so nothing has to be done. */
static void device_asks_earlier(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 80 * RIG_MS};
    for (int64_t frames = -240; frames <= 240; frames += 480) {
        struct rig *rig = rig_new(&params);
        rig->delay_frames = 480;
        rig_run(rig, 20.0);
        const double place = rig_trace(rig).position;
        const uint64_t produced = rig->produced;
        rig->delay_frames += frames;
        rig->position -= frames;
        rig->cycle_ns -= (double)frames * 1e9 / rig->rate;
        rig->flags = PULL_DISCONTINUITY;
        rig_run(rig, 1.0);
        assert_near(rig_trace(rig).position - place, (double)(rig->produced - produced), 10.0);
        assert_near((double)rig_stats(rig).total_ns / 1e6, 80.0, 0.3);
        rig_free(rig);
    }
}

/* A stream that begins has not moved: a delay that goes up and down from the first pull on, as that of ALSA's plug-in for
 * PulseAudio, is not jumped after. */
static void device_wobbles(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 80 * RIG_MS};
    struct rig *rig = rig_new(&params);
    rig->flags = PULL_DISCONTINUITY;
    for (unsigned i = 0; i < 300; i++) {
        const double place = rig_trace(rig).position;
        const uint64_t produced = rig->produced;
        const bool playing = i > 0 && rig_stats(rig).state == PLAYOUT_PLAYING;
        rig->delay_frames = i % 2 ? 480 : 480 + 192;
        rig_run(rig, 0.02);
        if (playing)
            assert_near(rig_trace(rig).position - place, (double)(rig->produced - produced), 10.0);
    }
    assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
    assert_int_equal(rig_stats(rig).resyncs, 0);
    assert_int_equal(rig_stats(rig).underruns, 0);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantum_change),      cmocka_unit_test(rate_change),
        cmocka_unit_test(rate_change_twice),   cmocka_unit_test(doubled_pull),
        cmocka_unit_test(device_gap),          cmocka_unit_test(device_moved),
        cmocka_unit_test(device_moved_early),  cmocka_unit_test(device_moved_to_longer_delay),
        cmocka_unit_test(device_asks_earlier), cmocka_unit_test(device_wobbles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
