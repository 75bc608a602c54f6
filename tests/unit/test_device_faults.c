/* SPDX-License-Identifier: MIT
 *
 * What devices do to a pull, in a table: the null backend's device, under a virtual clock, on the real playout.
 */
#include "tests/unit/near.h"
#include "tests/unit/playout_rig.h"

#include <stdlib.h>

#define SETTLE_S 25.0
#define LISTEN_S 20.0
#define FADES    0.0035 /* what fades and crossfades may add to a tone's slope */

/* clang-format off */
static const struct row {
    const char *title;
    struct paced_params device; /* rate 48000, period 256 where it is 0 */
    double guest_ppm;
    unsigned stall_every; /* cycles */
    int64_t stall_ms;
    /* What comes of it, once there was time to get used to it. */
    double ppm_error;  /* of the drift */
    double latency_ms; /* how far the total may be from its target */
    bool xruns;        /* time that the device went on without us is counted */
} rows[] = {
    {.title = "on time", .ppm_error = 1, .latency_ms = 0.3},
    {.title = "callbacks up to 4 ms late", .device = {.jitter_ns = 4 * RIG_MS}, .ppm_error = 1, .latency_ms = 0.3},
    {.title = "callbacks up to 3 periods late", .device = {.jitter_ns = 16 * RIG_MS}, .ppm_error = 1,
     .latency_ms = 0.3},
    {.title = "a callback 15 ms late each second", .stall_every = 188, .stall_ms = 15, .ppm_error = 1,
     .latency_ms = 0.3},
    {.title = "a callback so late that the device went on, each 5 s", .stall_every = 938, .stall_ms = 60,
     .ppm_error = 2, .latency_ms = 1.0, .xruns = true},
    {.title = "each callback doubled", .device = {.double_every = 1}, .ppm_error = 1, .latency_ms = 0.3},
    {.title = "each seventh callback doubled", .device = {.double_every = 7}, .ppm_error = 1, .latency_ms = 0.3},
    {.title = "one callback in a thousand doubled", .device = {.double_every = 1000}, .ppm_error = 1,
     .latency_ms = 0.3},
    {.title = "2000 ppm fast", .device = {.ppm = 2000}, .ppm_error = 5, .latency_ms = 0.3},
    {.title = "2000 ppm slow", .device = {.ppm = -2000}, .ppm_error = 5, .latency_ms = 0.3},
    {.title = "2000 ppm fast, the guest as slow", .device = {.ppm = 2000}, .guest_ppm = -2000, .ppm_error = 10,
     .latency_ms = 0.3},
    {.title = "periods of 64 and 4096 frames in turn", .device = {.period = {64, 4096}, .hold_cycles = 50},
     .ppm_error = 2, .latency_ms = 0.5},
    {.title = "periods of 64 and 4096 frames, each time", .device = {.period = {64, 4096}, .hold_cycles = 1},
     .ppm_error = 2, .latency_ms = 0.5},
    {.title = "a clock that is wrong by up to 1 ms", .device = {.noise_ns = RIG_MS}, .ppm_error = 12,
     .latency_ms = 1.0},
    {.title = "all of it", .guest_ppm = -500, .ppm_error = 12, .latency_ms = 1.0,
     .device = {.period = {64, 4096}, .hold_cycles = 50, .ppm = 2000, .jitter_ns = 4 * RIG_MS,
                .noise_ns = RIG_MS / 10, .double_every = 9, .delay_frames = 512}},
};
/* clang-format on */

/* As null_open() completes them. */
static struct paced_params complete(const struct row *row)
{
    struct paced_params device = row->device;
    device.rate = 48000;
    device.seed = 1;
    if (device.period[0] == 0)
        device.period[0] = 256;
    if (device.hold_cycles == 0)
        device.hold_cycles = 50;
    const uint32_t longest = device.period[1] > device.period[0] ? device.period[1] : device.period[0];
    device.late_max_ns = device.jitter_ns + longest * 2 * RIG_SECOND / device.rate;
    if (device.late_max_ns < 20 * RIG_MS)
        device.late_max_ns = 20 * RIG_MS;
    return device;
}

static bool expect(bool holds, const struct row *row, const char *what, double seen, double wanted)
{
    if (!holds)
        print_error("%s: %s: %g, not %g\n", row->title, what, seen, wanted);
    return holds;
}

static bool survives(const struct row *row)
{
    const struct playout_params params = {.quality = RESAMPLER_FASTEST};
    const struct paced_params device = complete(row);
    struct rig *rig = rig_new(&params);
    rig->guest_ppm = row->guest_ppm;
    rig->stall_every = row->stall_every;
    rig->stall_ns = row->stall_ms * RIG_MS;
    rig_attach(rig, &device);
    rig_run(rig, SETTLE_S);
    const struct playout_stats before = rig_stats(rig);

    struct rig_ear ear;
    rig_listen(rig, &ear);
    double apart_ms = 0.0;
    for (unsigned i = 0; i < (unsigned)LISTEN_S; i++) {
        rig_run(rig, 1.0);
        const struct playout_stats now = rig_stats(rig);
        if (now.xrun_frames == before.xrun_frames || i + 1 == (unsigned)LISTEN_S)
            apart_ms = fmax(apart_ms, fabs((double)(now.total_ns - now.target_ns)) / 1e6);
    }
    const struct playout_stats after = rig_stats(rig);
    const double drift = ((1.0 + row->guest_ppm * 1e-6) / (1.0 + device.ppm * 1e-6) - 1.0) * 1e6;
    const double smooth = rig_slope(rig) * 1.03 + FADES;
    const int64_t parts = after.guest_ns + after.jitter_ns + after.quantum_ns + after.resampler_ns + after.device_ns;

    bool good = true;
    good &= expect(after.state == PLAYOUT_PLAYING, row, "state", after.state, PLAYOUT_PLAYING);
    good &= expect(after.locked, row, "locked", after.locked, true);
    good &= expect(before.underruns <= 1, row, "drop-outs at first", (double)before.underruns, 1);
    good &= expect(after.underruns == before.underruns, row, "drop-outs",
                   (double)(after.underruns - before.underruns), 0);
    good &= expect(after.resyncs == before.resyncs, row, "resyncs", (double)(after.resyncs - before.resyncs), 0);
    good &= expect((after.xrun_frames != before.xrun_frames) == row->xruns, row, "xrun frames",
                   (double)(after.xrun_frames - before.xrun_frames), row->xruns);
    good &= expect(fabs(after.drift_ppm - drift) <= row->ppm_error, row, "drift", after.drift_ppm, drift);
    good &= expect(apart_ms <= row->latency_ms, row, "ms off its target", apart_ms, row->latency_ms);
    good &= expect(ear.worst <= smooth, row, "step", ear.worst, smooth);
    good &= expect(ear.peak >= RIG_LEVEL * 0.99 && ear.peak <= RIG_LEVEL * 1.01, row, "level", ear.peak, RIG_LEVEL);
    good &= expect(parts == after.total_ns, row, "sum of the parts", (double)parts, (double)after.total_ns);
    rig_free(rig);
    return good;
}

static void faults(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        failed += !survives(&rows[i]);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
