/* SPDX-License-Identifier: MIT
 *
 * The device's thread against a device that does as it is told. Nothing here measures time: the device has room when
 * the test gives it some.
 */
#include "backends/device_thread.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PERIOD   64
#define FILL     128
#define MS_NS    INT64_C(1000000)
#define LIMIT_MS 10000 /* every wait ends, also where the thread does not do its part */

/* Shared between the test and the device's thread: one device at a time. */
struct fake {
    atomic_int open_error, look_error, start_error;
    atomic_bool open_hangs, close_hangs;
    atomic_int room;     /* periods it will still take */
    atomic_bool endless; /* it takes whatever it gets */
    atomic_int starts, roomier, halts, closes, opens;
    atomic_int written, sounding; /* periods; of which not silent */
    atomic_int pulls, pulls_after_stop;
    atomic_bool stopped;
    atomic_int fill;
    int event_fd;
};

static struct fake fake;

struct device {
    int64_t queued;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void nap(void)
{
    const struct timespec ms = {.tv_nsec = MS_NS};
    nanosleep(&ms, NULL);
}

static bool reached(atomic_int *value, int wanted)
{
    const int64_t end = now_ns() + LIMIT_MS * MS_NS;
    while (atomic_load(value) < wanted && now_ns() < end)
        nap();
    return atomic_load(value) >= wanted;
}

static int fake_open(struct device **device, const struct backend_stream_params *params, struct device_grant *grant)
{
    assert_string_equal(params->name, "guest");
    atomic_fetch_add(&fake.opens, 1);
    while (atomic_load(&fake.open_hangs))
        nap();
    if (atomic_load(&fake.open_error) < 0)
        return atomic_load(&fake.open_error);
    *device = calloc(1, sizeof **device);
    *grant = (struct device_grant){.rate = 48000, .period_frames = PERIOD, .fill_frames = FILL, .text = "fake"};
    atomic_store(&fake.fill, FILL);
    return 0;
}

static void fake_close(struct device *device)
{
    while (atomic_load(&fake.close_hangs))
        nap();
    free(device);
    atomic_fetch_add(&fake.closes, 1);
}

static int fake_start(struct device *device, bool roomier, struct device_grant *grant)
{
    atomic_fetch_add(&fake.starts, 1);
    if (roomier) {
        atomic_fetch_add(&fake.roomier, 1);
        grant->fill_frames += PERIOD;
        atomic_store(&fake.fill, (int)grant->fill_frames);
    }
    device->queued = atomic_load(&fake.fill) - PERIOD;
    return atomic_load(&fake.start_error);
}

static void fake_halt(struct device *device)
{
    (void)device;
    atomic_fetch_add(&fake.halts, 1);
}

static int fake_wait(struct device *device, int wake_fd, int timeout_ms)
{
    (void)device;
    assert_true(timeout_ms > 0);
    struct pollfd fd = {.fd = wake_fd, .events = POLLIN};
    poll(&fd, 1, 1);
    return 0;
}

static int fake_look(struct device *device, struct device_moment *moment)
{
    const int error = atomic_exchange(&fake.look_error, 0);
    if (error < 0)
        return error;
    if (!atomic_load(&fake.endless) && atomic_load(&fake.room) <= 0)
        return 0;
    atomic_fetch_sub(&fake.room, 1);
    *moment = (struct device_moment){.at_ns = now_ns(), .queued_frames = device->queued};
    return 1;
}

static int fake_write(struct device *device, const float *frames)
{
    (void)device;
    if (frames[0] != 0.0f)
        atomic_fetch_add(&fake.sounding, 1);
    atomic_fetch_add(&fake.written, 1);
    return 0;
}

static const struct device_ops ops = {
    .open = fake_open,
    .close = fake_close,
    .start = fake_start,
    .halt = fake_halt,
    .wait = fake_wait,
    .look = fake_look,
    .write = fake_write,
};

static void pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    assert_ptr_equal(arg, &fake);
    assert_int_equal(time->rate, 48000);
    if (atomic_load(&fake.stopped))
        atomic_fetch_add(&fake.pulls_after_stop, 1);
    for (uint32_t i = 0; i < 2 * frames; i++)
        dst[i] = 0.5f;
    atomic_fetch_add(&fake.pulls, 1);
}

static int open_device(struct device_thread **thread)
{
    char name[] = "guest"; /* gone when open returns */
    struct backend_stream_params params = {
        .name = name,
        .channels = 2,
        .mask = 3,
        .source_rate = 48000,
        .pull = pull,
        .arg = &fake,
    };
    const struct device_thread_params device = {
        .ops = &ops, .stream = &params, .event_fd = fake.event_fd, .clock_id = 1};
    const int rc = device_thread_open(thread, &device);
    if (rc == 0)
        assert_int_equal(params.period_ns, INT64_C(1000000000) * PERIOD / 48000);
    return rc;
}

static int reset(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fake.event_fd < 0;
}

static int clean(void **state)
{
    (void)state;
    close(fake.event_fd);
    return 0;
}

static void plays_and_stops(void **state)
{
    (void)state;
    struct device_thread *thread;
    assert_int_equal(open_device(&thread), 0);
    struct backend_info info;
    device_thread_info(thread, &info);
    assert_string_equal(info.text, "fake");
    assert_true(info.thread > 0 && info.thread != getpid());
    assert_int_equal(atomic_load(&fake.starts), 0);

    atomic_store(&fake.room, 10);
    assert_int_equal(device_thread_start(thread), 0);
    assert_true(reached(&fake.written, 10));
    assert_int_equal(atomic_load(&fake.pulls), 10);
    assert_int_equal(atomic_load(&fake.sounding), 10);

    /* What was pulled is played out behind silence, and only then it halts. */
    device_thread_stop(thread);
    atomic_store(&fake.stopped, true);
    atomic_store(&fake.room, 100);
    assert_true(reached(&fake.halts, 1));
    assert_int_equal(atomic_load(&fake.written), 10 + FILL / PERIOD);
    assert_int_equal(atomic_load(&fake.sounding), 10);
    assert_int_equal(atomic_load(&fake.pulls_after_stop), 0);

    atomic_store(&fake.stopped, false);
    atomic_store(&fake.room, 5);
    assert_int_equal(device_thread_start(thread), 0);
    assert_true(reached(&fake.pulls, 15));
    assert_int_equal(atomic_load(&fake.starts), 2);
    assert_int_equal(device_thread_state(thread), BACKEND_OK);
    device_thread_close(thread);
    assert_int_equal(atomic_load(&fake.closes), 1);
}

static void open_fails(void **state)
{
    (void)state;
    struct device_thread *thread = NULL;
    atomic_store(&fake.open_error, -EBUSY);
    assert_int_equal(open_device(&thread), -EBUSY);
    assert_null(thread);
    assert_int_equal(atomic_load(&fake.closes), 0);
    device_thread_close(NULL);
}

static void runs_dry(void **state)
{
    (void)state;
    struct device_thread *thread;
    assert_int_equal(open_device(&thread), 0);
    atomic_store(&fake.room, 3);
    assert_int_equal(device_thread_start(thread), 0);
    assert_true(reached(&fake.pulls, 3));
    atomic_store(&fake.look_error, -EPIPE);
    assert_true(reached(&fake.starts, 2));
    atomic_store(&fake.room, 3);
    assert_true(reached(&fake.pulls, 6));
    assert_int_equal(device_thread_state(thread), BACKEND_OK);
    device_thread_close(thread);
}

static void expect_lost(struct device_thread *thread)
{
    struct pollfd fd = {.fd = fake.event_fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, LIMIT_MS), 1);
    assert_int_equal(device_thread_state(thread), BACKEND_LOST);
    assert_int_equal(device_thread_start(thread), -EHOSTDOWN);
    device_thread_stop(thread);
    device_thread_close(thread);
    assert_int_equal(atomic_load(&fake.closes), 1);
}

static void unplugged(void **state)
{
    (void)state;
    struct device_thread *thread;
    assert_int_equal(open_device(&thread), 0);
    atomic_store(&fake.room, 3);
    assert_int_equal(device_thread_start(thread), 0);
    assert_true(reached(&fake.pulls, 3));
    atomic_store(&fake.look_error, -ENODEV);
    expect_lost(thread);
}

/* A device that cannot be started, and one that runs dry as soon as it is: neither is tried for ever. */
static void never_starts(void **state)
{
    (void)state;
    struct device_thread *thread;
    assert_int_equal(open_device(&thread), 0);
    atomic_store(&fake.start_error, -EIO);
    assert_int_equal(device_thread_start(thread), 0);
    expect_lost(thread);
}

/* Nothing happens for a second, two fills and a bit. */
static void stands_still(void **state)
{
    (void)state;
    struct device_thread *thread;
    assert_int_equal(open_device(&thread), 0);
    assert_int_equal(device_thread_start(thread), 0);
    expect_lost(thread);
}

/* It is paced, or the processor would be ours. */
static void takes_everything(void **state)
{
    (void)state;
    struct device_thread *thread;
    assert_int_equal(open_device(&thread), 0);
    atomic_store(&fake.endless, true);
    const int64_t begun_ns = now_ns();
    assert_int_equal(device_thread_start(thread), 0);
    assert_true(reached(&fake.pulls, 200));
    device_thread_stop(thread);
    /* Two fills and 20 ms ahead of time at most, and what was in flight. */
    const int64_t frames = (int64_t)atomic_load(&fake.pulls) * PERIOD;
    assert_true(frames <= (now_ns() - begun_ns) * 48000 / 1000000000 + 2 * FILL + 960 + 2 * PERIOD);
    device_thread_close(thread);
}

/* A library that hangs in open or close holds up nobody, and cleans up behind itself when it comes back. */
static void hangs(void **state)
{
    (void)state;
    struct device_thread *thread = NULL;
    atomic_store(&fake.open_hangs, true);
    assert_int_equal(open_device(&thread), -EHOSTDOWN);
    atomic_store(&fake.open_hangs, false);
    assert_true(reached(&fake.closes, 1));

    assert_int_equal(open_device(&thread), 0);
    atomic_store(&fake.close_hangs, true);
    device_thread_close(thread);
    assert_int_equal(atomic_load(&fake.closes), 1);
    atomic_store(&fake.close_hangs, false);
    assert_true(reached(&fake.closes, 2));
    nap(); /* its last few instructions */
}

static void rejects(void **state)
{
    (void)state;
    struct device_thread *thread;
    static const struct {
        uint8_t channels;
        uint16_t mask;
    } wrong[] = {
        {0, 0     },
        {2, 7     },
        {9, 0x01ff},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct backend_stream_params params = {
            .name = "guest", .channels = wrong[i].channels, .mask = wrong[i].mask, .pull = pull, .arg = &fake};
        const struct device_thread_params device = {.ops = &ops, .stream = &params, .event_fd = fake.event_fd};
        assert_int_equal(device_thread_open(&thread, &device), -EINVAL);
    }
    assert_int_equal(atomic_load(&fake.opens), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(plays_and_stops), TEST(open_fails),       TEST(runs_dry), TEST(unplugged), TEST(never_starts),
        TEST(stands_still),    TEST(takes_everything), TEST(hangs),    TEST(rejects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
