/* SPDX-License-Identifier: MIT
 *
 * --latency and --max-latency, as the pull keeps them.
 */
#include "receiver/playout.h"
#include "tests/unit/near.h"
#include "tests/unit/playout_rig.h"

#include <stdlib.h>

static const struct playout_params standard = {.quality = RESAMPLER_FASTEST};

static void assert_parts_sum(const struct playout_stats *stats)
{
    assert_int_equal(stats->guest_ns + stats->jitter_ns + stats->quantum_ns + stats->resampler_ns + stats->device_ns,
                     stats->total_ns);
}

/* --latency is the total from the chunk to the device. */
static void latency_asked(void **state)
{
    (void)state;
    static const int64_t asked_ms[] = {35, 60, 150};
    for (size_t i = 0; i < sizeof asked_ms / sizeof asked_ms[0]; i++) {
        const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = asked_ms[i] * RIG_MS};
        struct rig *rig = rig_new(&params);
        rig->delay_frames = 256;
        rig_run(rig, 30.0);
        struct playout_stats stats = rig_stats(rig);
        assert_parts_sum(&stats);
        assert_int_equal(stats.target_ns, asked_ms[i] * RIG_MS);
        assert_near((double)stats.total_ns, (double)(asked_ms[i] * RIG_MS), 0.5e6);
        assert_false(stats.latency_infeasible);
        assert_int_equal(stats.underruns, 0);
        rig_free(rig);
    }
}

static void latency_infeasible(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 26 * RIG_MS};
    struct rig *infeasible = rig_new_locked(&params), *plain = rig_new_locked(&standard);
    struct playout_stats stats = rig_stats(infeasible);
    assert_true(stats.latency_infeasible); /* 20 + 5.3 + 0.4 + 1 */
    assert_int_equal(stats.target_ns, rig_stats(plain).target_ns);
    assert_parts_sum(&stats);
    rig_free(infeasible);
    rig_free(plain);
}

/* Less than the guest's lateness needs: kept, and told. */
static void latency_too_short(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 30 * RIG_MS};
    struct rig *rig = rig_new(&params);
    rig->late_ns = 15 * RIG_MS;
    rig_run(rig, 40.0);
    struct playout_stats stats = rig_stats(rig);
    assert_true(stats.jitter_exceeds);
    assert_false(stats.latency_infeasible);
    assert_int_equal(stats.target_ns, 30 * RIG_MS);
    assert_parts_sum(&stats);
    rig_free(rig);
}

/* Before the guest has been seen for a while its lateness is only assumed: nothing to warn of. */
static void assumed_is_not_told(void **state)
{
    (void)state;
    const struct playout_params params = {.quality = RESAMPLER_FASTEST, .latency_ns = 40 * RIG_MS};
    struct rig *rig = rig_new(&params);
    for (int i = 0; i < 60; i++) {
        rig_run(rig, 0.1);
        assert_false(rig_stats(rig).jitter_exceeds);
    }
    assert_int_equal(rig_stats(rig).target_ns, 40 * RIG_MS);
    rig_free(rig);
}

/* --max-latency caps auto, whatever the guest's lateness or the quantum; but not below what cannot be done without. */
static void max_latency(void **state)
{
    (void)state;
    const struct playout_params capped = {.quality = RESAMPLER_FASTEST, .max_latency_ns = 40 * RIG_MS};
    struct rig *rig = rig_new(&capped);
    rig->late_ns = 30 * RIG_MS;
    rig_run(rig, 60.0);
    assert_int_equal(rig_stats(rig).target_ns, 40 * RIG_MS);
    assert_true(rig_stats(rig).jitter_exceeds);
    rig->quantum = 1024;
    rig_run(rig, 0.5);
    assert_near((double)rig_stats(rig).total_ns, 20e6 + 1046e9 / 48000.0 + 1e6, 2e6); /* that much it needs */
    rig_free(rig);

    const struct playout_params loose = {.quality = RESAMPLER_FASTEST, .max_latency_ns = 200 * RIG_MS};
    struct rig *free_one = rig_new_locked(&standard), *loose_one = rig_new_locked(&loose);
    assert_int_equal(rig_stats(loose_one).target_ns, rig_stats(free_one).target_ns);
    assert_false(rig_stats(loose_one).jitter_exceeds);
    rig_free(free_one);
    rig_free(loose_one);

    const struct playout_params tight = {.quality = RESAMPLER_FASTEST, .max_latency_ns = 1 * RIG_MS};
    rig = rig_new_locked(&tight);
    assert_near((double)rig_stats(rig).target_ns, 20e6 + 256e9 / 48000.0 + 22e9 / 48000.0 + 1e6, 0.2e6);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latency_asked),     cmocka_unit_test(latency_infeasible),
        cmocka_unit_test(latency_too_short), cmocka_unit_test(assumed_is_not_told),
        cmocka_unit_test(max_latency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
