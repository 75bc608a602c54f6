/* SPDX-License-Identifier: MIT
 *
 * Another latency while it plays.
 */
#include "receiver/playout.h"
#include "tests/unit/near.h"
#include "tests/unit/playout_rig.h"

static const struct playout_params standard = {.quality = RESAMPLER_FASTEST};

/* Lets so many seconds pass and holds that the fill goes nowhere faster than it may: no jump, however well faded. */
static void move(struct rig *rig, double seconds)
{
    double before_s = rig_trace(rig).fill_s;
    for (unsigned i = 0; i < seconds * 10.0; i++) {
        rig_run(rig, 0.1);
        double fill_s = rig_trace(rig).fill_s;
        if (!(fabs(fill_s - before_s) < 0.1 * 3300e-6))
            fail_msg("moved by %g ms in 0.1 s", (fill_s - before_s) * 1e3);
        before_s = fill_s;
    }
}

/* Another latency while it plays: the target has it at once, what is heard within 3.3 s for 10 ms, and nobody hears how. */
static void tuned(void **state)
{
    (void)state;
    static const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 60 * RIG_MS};
    static const struct {
        int64_t latency_ns, max_latency_ns, target_ns; /* target 0: what auto found before */
        double seconds;
    } rows[] = {
        {40 * RIG_MS, 0,           40 * RIG_MS, 9.0 },
        {90 * RIG_MS, 0,           90 * RIG_MS, 19.0},
        {0,           0,           0,           25.0},
        {35 * RIG_MS, 30 * RIG_MS, 35 * RIG_MS, 5.0 },
    };
    struct rig *rig = rig_new_locked(&params);
    struct rig_ear ear;
    rig->late_ns = 5 * RIG_MS;
    rig->delay_frames = 128;
    rig_run(rig, 1.0);
    rig_listen(rig, &ear);
    const struct playout_stats before = rig_stats(rig);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        playout_set_latency(rig->playout, rows[i].latency_ns, rows[i].max_latency_ns);
        rig_run(rig, 0.05);
        int64_t target_ns = rig_stats(rig).target_ns;
        if (rows[i].target_ns)
            assert_int_equal(target_ns, rows[i].target_ns);
        else
            assert_in_range(target_ns, 33 * RIG_MS, 60 * RIG_MS);
        move(rig, rows[i].seconds);
        struct playout_stats stats = rig_stats(rig);
        assert_near((double)(stats.total_ns - stats.target_ns), 0.0, 0.3e6);
        assert_true(stats.locked);
        assert_int_equal(stats.resyncs, before.resyncs);
        assert_int_equal(stats.dropped_frames, before.dropped_frames);
    }
    assert_true(ear.worst <= rig_slope(rig) * 1.03);
    playout_set_latency(rig->playout, 0, 31 * RIG_MS); /* less than its lateness needs */
    rig_run(rig, 0.05);
    assert_int_equal(rig_stats(rig).target_ns, 31 * RIG_MS);
    assert_true(rig_stats(rig).jitter_exceeds);
    rig_free(rig);
}

/* While it is still finding out what there is, a wish is no reason to jump either. */
static void tuned_early(void **state)
{
    (void)state;
    static const double at_s[] = {0.5, 2.9, 3.1, 8.0};
    for (size_t i = 0; i < sizeof at_s / sizeof at_s[0]; i++) {
        struct rig *rig = rig_new(&standard);
        rig_run(rig, at_s[i]);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        playout_set_latency(rig->playout, 90 * RIG_MS, 0);
        move(rig, 24.0);
        struct playout_stats stats = rig_stats(rig);
        assert_near((double)(stats.total_ns - 90 * RIG_MS), 0.0, 0.3e6);
        assert_int_equal(stats.resyncs, 0);
        assert_int_equal(stats.underruns, 0);
        rig_free(rig);
    }
}

/* The shorter quantum that a server grants for it counts at once, not after the half minute that others count for. */
static void tuned_quantum(void **state)
{
    (void)state;
    static const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 60 * RIG_MS};
    struct rig *rig = rig_new_locked(&params);
    playout_set_latency(rig->playout, 24 * RIG_MS, 0);
    rig_run(rig, 0.1);
    assert_true(rig_stats(rig).latency_infeasible);
    rig->quantum = 64;
    rig_run(rig, 0.1);
    assert_false(rig_stats(rig).latency_infeasible);
    assert_int_equal(rig_stats(rig).target_ns, 24 * RIG_MS);
    move(rig, 14.0);
    assert_near((double)rig_stats(rig).total_ns, 24e6, 0.3e6);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tuned),
        cmocka_unit_test(tuned_early),
        cmocka_unit_test(tuned_quantum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
