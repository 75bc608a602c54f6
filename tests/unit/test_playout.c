/* SPDX-License-Identifier: MIT */
#include "receiver/playout.h"
#include "tests/unit/playout_expect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct playout_params standard = {.quality = RESAMPLER_FASTEST};

static void assert_parts_sum(const struct playout_stats *stats)
{
    assert_int_equal(stats->guest_ns + stats->jitter_ns + stats->quantum_ns + stats->resampler_ns + stats->device_ns,
                     stats->total_ns);
}

static void bad_params(void **state)
{
    (void)state;
    static const struct playout_params rows[] = {
        {.latency_ns = -1}, {.max_latency_ns = -1}, {.quality = (enum resampler_quality)3}};
    struct rig *rig = rig_new(&standard);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct playout *playout = NULL;
        assert_int_equal(playout_create(&playout, rig->feed, &rows[i]), -EINVAL);
        assert_null(playout);
    }
    playout_destroy(NULL);
    rig_free(rig);
}

/* Whatever is asked for is filled to the last frame, and not a sample beyond. */
static void any_quantum(void **state)
{
    (void)state;
    static const uint32_t quanta[] = {1, 2, 3, 31, 64, 100, 256, 441, 1023, 1024, 1025, 2048, 4097, 8192};
    for (size_t i = 0; i < sizeof quanta / sizeof quanta[0]; i++) {
        struct rig *rig = rig_new(&standard);
        struct rig_ear ear;
        rig->quantum = quanta[i];
        rig_listen(rig, &ear);
        rig_run(rig, 3.0);
        for (uint32_t k = 2 * quanta[i]; k < 2 * RIG_FRAMES; k++)
            assert_true(isnan(rig->out[k])); /* untouched */
        assert_smooth(rig, &ear);
        assert_near(ear.peak, RIG_LEVEL * sqrt(1.0), 0.01);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        assert_int_equal(rig_stats(rig).underruns, 0);
        assert_int_equal(rig_stats(rig).quantum_frames, quanta[i]);
        rig_free(rig);
    }
}

static void silence_before_data(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&standard);
    struct rig_ear ear;
    rig_listen(rig, &ear);
    rig->paused = true;
    rig_run(rig, 2.0);
    assert_int_equal(ear.zero, ear.frames);
    assert_true(ear.frames > 90000);
    struct playout_stats stats = rig_stats(rig);
    assert_int_equal(stats.state, PLAYOUT_WAITING);
    assert_int_equal(stats.underruns, 0);
    assert_true(playout_silent(rig->playout));
    rig_free(rig);
}

/* The first sound comes where the fill has reached the target: not before, not after. */
static void starts_at_target(void **state)
{
    (void)state;
    for (int quality = RESAMPLER_FASTEST; quality <= RESAMPLER_BEST; quality++) {
        const struct playout_params params = {.quality = (enum resampler_quality)quality};
        struct rig *rig = rig_new(&params);
        struct rig_ear ear;
        rig_listen(rig, &ear);
        while (ear.first == UINT64_MAX)
            rig_run(rig, 0.001);
        struct playout_trace trace = rig_trace(rig);
        struct playout_stats stats = rig_stats(rig);
        assert_near(trace.fill_s, trace.target_s, 0.1e-3);
        assert_near(trace.target_s, (double)(stats.target_ns - stats.device_ns) * 1e-9, 1e-6);
        /* chunk + 18 ms, quantum, look-ahead */
        assert_near(trace.target_s, 0.038 + 256.0 / 48000.0 + resampler_lookahead(params.quality, 1.0) / 48000.0,
                    1e-3);
        rig_run(rig, 1.0);
        assert_smooth(rig, &ear);
        assert_int_equal(rig_stats(rig).dropped_frames, 0); /* from its very first frame */
        rig_free(rig);
    }
}

/* Locked to a guest off by 300 ppm on a device off by -200: its drift is told, the fill stands. */
static void follows(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&standard);
    struct rig_ear ear;
    rig->guest_ppm = 300.0;
    rig->device_ppm = -200.0;
    rig->delay_frames = 512;
    rig_run(rig, 60.0);
    rig_listen(rig, &ear);
    for (int i = 0; i < 60; i++) {
        rig_run(rig, 1.0);
        struct playout_stats stats = rig_stats(rig);
        assert_parts_sum(&stats);
        assert_true(stats.locked);
        assert_near(stats.drift_ppm, 500.0, 5.0);
        assert_near((double)(stats.total_ns - stats.target_ns), 0.0, 1.0e6);
        assert_near((double)stats.device_ns, 512e9 / 48000.0, 10.0);
        assert_int_equal(stats.guest_ns, 20 * RIG_MS);
    }
    assert_smooth(rig, &ear);
    assert_int_equal(ear.zero, 0);
    assert_near(rig_trace(rig).step, 1.0005, 5e-6);
    assert_int_equal(rig_stats(rig).underruns + rig_stats(rig).resyncs + rig_stats(rig).xrun_frames, 0);
    assert_int_equal(rig_stats(rig).device_rate, 48000);
    rig_free(rig);
}

/* A guest held up for longer than there is in hand: one drop-out, faded, however long it takes. */
static void underrun(void **state)
{
    (void)state;
    static const double seconds[] = {0.08, 0.1, 0.5};
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        struct rig *rig = rig_new_locked(&standard);
        struct rig_ear ear;
        rig_listen(rig, &ear);
        rig->stalled = true;
        rig_run(rig, seconds[i]);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_STARVED);
        assert_true(playout_silent(rig->playout));
        rig->stalled = false;
        rig_run(rig, 5.0);
        assert_smooth(rig, &ear);
        assert_true(ear.zero > 0);
        assert_int_equal(rig_stats(rig).underruns, 1);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        assert_near(rig_trace(rig).error_s, 0.0, 1e-3);
        rig_run(rig, 20.0);
        assert_int_equal(rig_stats(rig).underruns, 1);
        rig_free(rig);
    }
}

/* In the middle of a long pull: what sounded of it counts, and no more. */
static void ends_within_a_pull(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&standard);
    rig->quantum = RIG_FRAMES;
    rig_run(rig, 20.0);
    const struct playout_trace before = rig_trace(rig);
    const uint64_t counted = rig_stats(rig).frames;
    assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
    rig->stalled = true;
    rig_run(rig, 3.0);
    const struct playout_trace after = rig_trace(rig); /* of a silent pull: counted back by it */
    assert_int_equal(rig_stats(rig).state, PLAYOUT_STARVED);
    const double passed = after.position + RIG_FRAMES * after.step - before.position - RIG_FRAMES * before.step;
    assert_true(fmod(passed, RIG_FRAMES) > 1.0); /* not a whole pull */
    assert_near((double)(rig_stats(rig).frames - counted), passed, 3.0);
    rig_free(rig);
}

/* Frames that never came make every later one late: that costs one drop-out, not one more for each place where too
 * little is in hand to go on from. */
static void displaced(void **state)
{
    (void)state;
    for (int64_t missing_ms = 6; missing_ms <= 18; missing_ms += 3) {
        struct rig *rig = rig_new(&standard);
        rig->late_ns = 1 * RIG_MS;
        rig_run(rig, 40.0);
        const double before_s = rig_trace(rig).fill_s;
        rig->guest_due_ns += missing_ms * RIG_MS;
        rig_run(rig, 5.0);
        assert_int_equal(rig_stats(rig).underruns, 1);
        rig_run(rig, 20.0);
        assert_int_equal(rig_stats(rig).underruns, 1);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        assert_near(rig_trace(rig).fill_s, before_s, 4e-3);
        rig_free(rig);
    }
}

/* Nothing comes because nothing is played: that is no drop-out, and afterwards the first chunk is heard. */
static void pause(void **state)
{
    (void)state;
    static const double seconds[] = {0.2, 1.0, 30.0};
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        struct rig *rig = rig_new_locked(&standard);
        struct rig_ear ear;
        rig->paused = true;
        rig_run(rig, seconds[i]);
        assert_true(playout_silent(rig->playout));
        const uint64_t heard = rig_stats(rig).frames, dropped = rig_stats(rig).dropped_frames;
        rig->paused = false;
        rig_listen(rig, &ear);
        rig_run(rig, 5.0);
        struct playout_stats stats = rig_stats(rig);
        assert_smooth(rig, &ear);
        assert_int_equal(stats.underruns, 0);
        assert_int_equal(stats.resyncs, 0);
        /* all but the look-ahead's worth of the old end, which a fade had cut short */
        assert_true(stats.dropped_frames - dropped < 100);
        assert_true(stats.frames - heard > 5 * 48000 - 4800);
        rig_free(rig);
    }
}

/* A pause shorter than what is held ready: what was said before it is heard to its end, once, then silence of its length,
 * then what was said after it. */
static void pause_within_latency(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 250 * RIG_MS};
    static const double seconds[] = {0.13, 0.16, 0.19, 0.21};
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        struct rig *rig = rig_new_locked(&params);
        struct rig_ear ear;
        rig_listen(rig, &ear);
        rig->paused = true;
        rig_run(rig, seconds[i]);
        assert_false(playout_silent(rig->playout));
        rig->paused = false;
        rig_run(rig, 5.0);
        const struct playout_stats stats = rig_stats(rig);
        assert_smooth(rig, &ear);
        assert_int_equal(stats.underruns, 0);
        assert_int_equal(stats.resyncs, 0);
        assert_near((double)ear.zero / 48000.0, seconds[i], 0.03);
        assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 1e-3);
        rig_free(rig);
    }
}

/* A stall that is over before what is held ready is: nobody hears it. */
static void stall_within_latency(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 250 * RIG_MS};
    static const double known_s[] = {4.5, 6.7, 9.0, 40.0};
    for (size_t i = 0; i < 4 * sizeof known_s / sizeof known_s[0]; i++) {
        struct rig *rig = rig_new(&params);
        struct rig_ear ear;
        rig->late_ns = 2 * RIG_MS;
        rig->guest_ppm = 200.0;
        rig_run(rig, known_s[i / 4] + 0.007 * (double)(i % 4));
        rig_listen(rig, &ear);
        rig->stalled = true;
        rig_run(rig, 0.2);
        rig->stalled = false;
        rig_run(rig, 5.0);
        assert_smooth(rig, &ear);
        assert_int_equal(ear.zero, 0);
        assert_int_equal(rig_stats(rig).underruns + rig_stats(rig).resyncs, 0);
        rig_free(rig);
    }
}

/* The fill is far off all at once: a crossfade, counted once, and no step. */
static void resync(void **state)
{
    (void)state;
    for (int side = -1; side <= 1; side += 2) {
        const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 150 * RIG_MS};
        struct rig *rig = rig_new_locked(&params);
        struct rig_ear ear;
        rig_listen(rig, &ear);
        rig->delay_frames += side * -2400; /* the device's own latency changes by 50 ms: so must the fill */
        rig->delay_frames = rig->delay_frames < 0 ? 0 : rig->delay_frames;
        if (side > 0)
            rig->guest_due_ns -= 60 * RIG_MS; /* the guest is 60 ms ahead from now on */
        rig_run(rig, 30.0);
        assert_smooth(rig, &ear);
        assert_int_equal(rig_stats(rig).underruns, 0);
        assert_int_equal(ear.zero, 0);
        if (side > 0)
            assert_int_equal(rig_stats(rig).resyncs, 1);
        rig_free(rig);
    }
}

static void mute(void **state)
{
    (void)state;
    struct rig *rig = rig_new_locked(&standard);
    struct rig_ear ear;
    rig_listen(rig, &ear);
    assert_false(playout_silent(rig->playout));
    playout_mute(rig->playout, true);
    assert_false(playout_silent(rig->playout)); /* not yet */
    rig_run(rig, 0.012);
    assert_true(playout_silent(rig->playout));
    assert_true(ear.zero >= 256);
    rig_run(rig, 1.0);
    assert_true(ear.frames - ear.zero <= 512); /* 5 ms, to the end of a cycle */
    assert_smooth(rig, &ear);

    playout_mute(rig->playout, false);
    rig_run(rig, 0.1);
    assert_false(playout_silent(rig->playout));
    rig_run(rig, 5.0);
    assert_smooth(rig, &ear);
    assert_near(ear.peak, RIG_LEVEL, 0.01);
    assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 1e-3); /* from the target fill, not from a backlog */
    assert_int_equal(rig_stats(rig).underruns, 0);
    assert_int_equal(rig_stats(rig).resyncs, 0);
    rig_free(rig);

    rig = rig_new(&standard); /* nothing sounds: silent at once, and for as long as it is asked for */
    playout_mute(rig->playout, true);
    assert_true(playout_silent(rig->playout));
    rig_listen(rig, &ear);
    rig_run(rig, 1.0);
    assert_int_equal(ear.zero, ear.frames);
    rig_free(rig);
}

/* Muted for so long that the ring overflows: what is heard then is what the guest says then. */
static void nothing_stale(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&standard);
    struct rig_ear ear;
    playout_mute(rig->playout, true);
    rig->level = 0.9;
    rig_run(rig, 10.0);
    rig->level = 0.1;
    rig_run(rig, 10.0);
    playout_mute(rig->playout, false);
    rig_listen(rig, &ear);
    rig_run(rig, 5.0);
    assert_near(ear.peak, 0.1, 0.002);
    assert_true(ear.first - (rig->produced - ear.frames) < 48000 / 5);
    assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 1e-3);
    rig_free(rig);
}
/* Faster than real time: the loop holds still, nothing is learnt and nothing jumps. */
static void freewheel(void **state)
{
    (void)state;
    struct rig *rig = rig_new_locked(&standard);
    struct rig_ear ear;
    rig_listen(rig, &ear);
    const double step = rig_trace(rig).step;
    rig->keep = PULL_FREEWHEEL;
    for (int i = 0; i < 200; i++) {
        rig_run(rig, 0.005);
        assert_true(rig_trace(rig).step == step);
    }
    rig->keep = 0;
    rig_run(rig, 5.0);
    assert_smooth(rig, &ear);
    assert_int_equal(ear.zero, 0);
    assert_int_equal(rig_stats(rig).resyncs + rig_stats(rig).underruns, 0);
    assert_true(rig_stats(rig).locked);
    rig_free(rig);
}

/* What cannot be a device's is answered with silence, and does not disturb what comes after it. */
static void garbage(void **state)
{
    (void)state;
    static const uint32_t rates[] = {0, 1, 7999, 768001, UINT32_MAX};
    struct rig *rig = rig_new_locked(&standard);
    struct playout_stats stats;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const struct pull_time time = {
            .cycle_ns = llround(rig->cycle_ns), .position_frames = rig->position, .rate = rates[i], .clock_id = 7};
        memset(rig->out, 0xFF, sizeof rig->out);
        playout_pull(rig->playout, rig->out, 256, &time);
        for (unsigned k = 0; k < 512; k++)
            assert_true(rig->out[k] == 0.0f);
        assert_true(isnan(rig->out[512]));
        playout_get_stats(rig->playout, &stats);
        assert_int_equal(stats.device_rate, 48000);
    }
    const struct pull_time none = {
        .cycle_ns = llround(rig->cycle_ns), .position_frames = rig->position, .rate = 48000};
    memset(rig->out, 0xFF, sizeof rig->out);
    playout_pull(rig->playout, rig->out, 0, &none);
    assert_true(isnan(rig->out[0]));
    struct rig_ear ear;
    rig_listen(rig, &ear);
    rig_run(rig, 2.0);
    assert_smooth(rig, &ear);
    assert_int_equal(ear.zero, 0);

    /* Times and positions that leap: whatever is heard, it ends, and it recovers. */
    static const int64_t cycles[] = {0, INT64_MAX / 4, 1};
    static const int64_t positions[] = {0, INT64_MAX / 4, -(INT64_MAX / 4)};
    static const int64_t delays[] = {0, 1000 * 48000, -1000 * 48000};
    for (size_t i = 0; i < 9; i++) {
        const struct pull_time time = {.cycle_ns = cycles[i / 3],
                                       .position_frames = positions[i % 3],
                                       .rate = 48000,
                                       .delay_frames = delays[i % 3],
                                       .clock_id = 7};
        playout_pull(rig->playout, rig->out, 256, &time);
        for (unsigned k = 0; k < 512; k++)
            assert_true(fabsf(rig->out[k]) <= 1.0f);
    }
    rig_run(rig, 5.0);
    rig_listen(rig, &ear);
    rig_run(rig, 5.0);
    assert_int_equal(ear.zero, 0);
    assert_near(ear.peak, RIG_LEVEL, 0.01);
    assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 2e-3);
    rig_free(rig);
}

/* The device is there only 300 ms after the guest: its first chunk is heard, and the latency of that is soon gone. */
static void late_start(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&standard);
    struct rig_ear ear;
    rig->stopped = true;
    rig_run(rig, 0.3);
    rig->stopped = false;
    rig_listen(rig, &ear);
    rig_run(rig, 0.01);
    assert_true(rig_trace(rig).position < 1000.0); /* frames of the guest's: the beginning */
    assert_int_equal(rig_stats(rig).dropped_frames, 0);
    assert_true(ear.first - (rig->produced - ear.frames) < 512);
    rig_run(rig, 1.0);
    assert_true(rig_trace(rig).fill_s > 0.2); /* the tone is never quiet */
    rig_run(rig, 1.5);
    assert_near(rig_trace(rig).fill_s, rig_trace(rig).target_s, 2e-3);
    assert_smooth(rig, &ear);
    assert_int_equal(rig_stats(rig).resyncs + rig_stats(rig).underruns, 0);
    rig_free(rig);
}

static int64_t patience_ns(const struct rig *rig)
{
    int64_t last_arrival_ns = feed_idle_at_ns(rig->feed) - 120 * RIG_MS;
    return feed_patience_ns(rig->feed, last_arrival_ns);
}

/* Room for lateness is told of where -t leaves some, once all is steady, and only then; and not all of it. */
static void patience(void **state)
{
    (void)state;
    struct rig *rig = rig_new_locked(&standard);
    assert_int_equal(patience_ns(rig), 0); /* auto has none to spare */
    rig_free(rig);

    const struct playout_params roomy = {.quality = RESAMPLER_FASTEST, .latency_ns = 50 * RIG_MS};
    rig = rig_new(&roomy);
    rig_run(rig, 1.0);
    assert_int_equal(patience_ns(rig), 0);
    rig_run(rig, 19.0);
    const int64_t some_ns = patience_ns(rig);
    assert_in_range(some_ns, 5 * RIG_MS, (50 - 20) * RIG_MS / 2);
    playout_set_latency(rig->playout, 500 * RIG_MS, 0);
    rig_run(rig, 1.0);
    assert_int_equal(patience_ns(rig), 0); /* on the way */
    playout_set_latency(rig->playout, 40 * RIG_MS, 0);
    rig_run(rig, 8.0);
    rig->delay_frames -= 48 * 4; /* the device's part of the 40 ms shrinks: ours grows, but is not there yet */
    rig_run(rig, 1.0);
    assert_in_range(patience_ns(rig), 0, some_ns - 4 * RIG_MS);
    rig->delay_frames += 48 * 4;
    rig_run(rig, 10.0);
    assert_in_range(patience_ns(rig), 1, some_ns - 4 * RIG_MS);
    playout_set_latency(rig->playout, 0, 0);
    rig_run(rig, 0.1);
    assert_int_equal(patience_ns(rig), 0);
    rig_free(rig);

    const struct playout_params roomier = {.quality = RESAMPLER_FASTEST, .latency_ns = 70 * RIG_MS};
    rig = rig_new_locked(&roomier);
    assert_in_range(patience_ns(rig), some_ns + 19 * RIG_MS, some_ns + 21 * RIG_MS);
    rig_free(rig);

    const struct playout_params vast = {.quality = RESAMPLER_FASTEST, .latency_ns = 1000 * RIG_MS};
    rig = rig_new_locked(&vast);
    assert_int_equal(patience_ns(rig), 40 * RIG_MS);
    rig->paused = true;
    rig_run(rig, 1.5);
    assert_int_equal(patience_ns(rig), 0); /* what comes after a pause is wanted at once */
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_params),
        cmocka_unit_test(any_quantum),
        cmocka_unit_test(silence_before_data),
        cmocka_unit_test(starts_at_target),
        cmocka_unit_test(follows),
        cmocka_unit_test(underrun),
        cmocka_unit_test(ends_within_a_pull),
        cmocka_unit_test(displaced),
        cmocka_unit_test(pause),
        cmocka_unit_test(pause_within_latency),
        cmocka_unit_test(stall_within_latency),
        cmocka_unit_test(resync),
        cmocka_unit_test(mute),
        cmocka_unit_test(nothing_stale),
        cmocka_unit_test(freewheel),
        cmocka_unit_test(garbage),
        cmocka_unit_test(late_start),
        cmocka_unit_test(patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
