/* SPDX-License-Identifier: MIT
 *
 * The pull allocates nothing, takes no lock and makes no system call, whatever becomes of the guest and the device; and
 * the traps that show it do work. The same traps stand in the whole program in tests/integration/test_rt_trap.py.
 */
#include "backends/backend.h"
#include "receiver/playout.h"
#include "tests/rt_trap.h"
#include "tests/unit/near.h"
#include "tests/unit/playout_rig.h"

#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void trapped_pull(void *playout, float *dst, uint32_t frames, const struct pull_time *time)
{
    rt_trap_enter();
    playout_pull(playout, dst, frames, time);
    rt_trap_leave();
}

static struct rig *new_rig(enum resampler_quality quality)
{
    const struct playout_params params = {.quality = quality};
    struct rig *rig = rig_new(&params);
    rig->pull = trapped_pull;
    return rig;
}

/* Each of them ends a program that calls it within a pull, none outside. Before any pull of this process: children do
 * not inherit the kernel's eye. */
static void traps_work(void **state)
{
    (void)state;
    const bool sees_system_calls = rt_trap_sees_system_calls();
    for (unsigned call = 0; rt_trap_name(call); call++) {
        const bool seen = sees_system_calls || strcmp(rt_trap_name(call), RT_TRAP_SYSTEM_CALL) != 0;
        for (int within = 0; within < 2; within++) {
            const pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                if (within)
                    rt_trap_enter();
                rt_trap_call(rt_trap_name(call));
                rt_trap_leave();
                _exit(0);
            }
            int status = -1;
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), within && seen ? RT_TRAP_STATUS : 0);
        }
    }
    assert_false(rt_trap_call("no such call"));
}

/* Everything that a stream goes through. */
static void whole_life(void **state)
{
    (void)state;
    for (int quality = RESAMPLER_FASTEST; quality <= RESAMPLER_BEST; quality++) {
        struct rig *rig = new_rig((enum resampler_quality)quality);
        rig->paused = true;
        rig_run(rig, 0.2); /* nothing yet */
        rig->paused = false;
        rig_run(rig, 15.0); /* start, and through the gears */
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        rig->stalled = true;
        rig_run(rig, 0.11); /* underrun */
        rig->stalled = false;
        rig_run(rig, 1.0);
        assert_int_equal(rig_stats(rig).underruns, 1);
        rig->guest_due_ns -= 60 * RIG_MS;
        rig_run(rig, 20.0); /* resync */
        assert_true(rig_stats(rig).resyncs > 0 || fabs(rig_trace(rig).error_s) < 2e-3);
        static const uint32_t quanta[] = {1024, 8192, 64, 1, 256};
        for (size_t i = 0; i < sizeof quanta / sizeof quanta[0]; i++) {
            rig->quantum = quanta[i];
            rig_run(rig, 0.5);
        }
        static const uint32_t rates[] = {44100, 96000, 192000, 48000};
        for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
            rig_set_rate(rig, rates[i]);
            rig_run(rig, 0.5);
            assert_int_equal(rig_stats(rig).device_rate, rates[i]);
        }
        rig->twice = true;
        rig_run(rig, 0.2);
        rig->clock_id++;
        rig->position = 0;
        rig->flags = PULL_DISCONTINUITY;
        rig_run(rig, 0.2); /* moved */
        rig->stopped = true;
        rig_run(rig, 0.3); /* an xrun */
        rig->stopped = false;
        rig_run(rig, 0.2);
        rig->keep = PULL_FREEWHEEL;
        rig_run(rig, 0.2);
        rig->keep = 0;
        playout_mute(rig->playout, true);
        rig_run(rig, 0.2);
        assert_true(playout_silent(rig->playout));
        playout_mute(rig->playout, false);
        rig->paused = true;
        rig_run(rig, 0.3);
        rig->paused = false;
        rig_run(rig, 3.0);
        assert_int_equal(rig_stats(rig).state, PLAYOUT_PLAYING);
        const struct pull_time none = {.rate = 0};
        trapped_pull(rig->playout, rig->out, 256, &none);
        rig_free(rig);
    }
}

struct counted {
    struct playout *playout;
    _Atomic unsigned pulls;
};

static void counted_pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct counted *counted = arg;
    trapped_pull(counted->playout, dst, frames, time);
    counted->pulls++;
}

/* A real thread of a real backend, a guest that sends in real time; how well it plays is not the question. */
static void real_thread(void **state)
{
    (void)state;
    struct rig *rig = new_rig(RESAMPLER_MEDIUM);
    struct counted counted = {.playout = rig->playout};
    const struct backend *null = backend_find("null");
    assert_non_null(null);
    const struct backend_context_params context_params = {.app_name = "test", .target = "period=128", .event_fd = -1};
    struct backend_stream_params params = {
        .name = "trap",
        .description = "trap",
        .channels = 2,
        .mask = 3,
        .source_rate = 48000,
        .pull = counted_pull,
        .arg = &counted,
    };
    struct backend_context *context = NULL;
    struct backend_stream *stream = NULL;
    assert_int_equal(null->context_open(&context, &context_params), 0);
    assert_int_equal(null->open(context, &params, &stream), 0);
    assert_int_equal(null->start(stream), 0);
    const struct timespec chunk = {.tv_nsec = 20 * RIG_MS};
    memset(rig->bytes, 1, sizeof rig->bytes);
    for (int i = 0; i < 150 && (i < 50 || counted.pulls < 200); i++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        const int64_t now_ns = now.tv_sec * RIG_SECOND + now.tv_nsec;
        const struct block block = {
            .format = *feed_format(rig->feed),
            .data = rig->bytes,
            .frames = rig->chunk,
            .chunk_frames = rig->chunk,
            .arrival_ns = now_ns,
        };
        feed_write(rig->feed, &block, now_ns);
        nanosleep(&chunk, NULL);
    }
    null->stop(stream);
    assert_true(counted.pulls > 0);
    null->close(stream);
    null->context_close(context);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traps_work),
        cmocka_unit_test(whole_life),
        cmocka_unit_test(real_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
