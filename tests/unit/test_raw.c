/* SPDX-License-Identifier: MIT */
#include "backends/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FRAME 6u    /* stereo, 24 bit */
#define PIPE  8192u /* two pages; no whole number of frames */

static int open_pipe(void **state)
{
    static int fds[2]; /* cmocka hands on one pointer */
    signal(SIGPIPE, SIG_IGN);
    *state = fds;
    return pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[1], F_SETPIPE_SZ, PIPE) < 0;
}

static int close_pipe(void **state)
{
    const int *fds = *state;
    close(fds[0]);
    close(fds[1]);
    return 0;
}

static void test_bytes_pass_unchanged(void **state)
{
    const int *fds = *state;
    struct raw_writer writer;
    uint8_t sent[600], got[600];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 7);
    raw_init(&writer, fds[1]);
    assert_int_equal(raw_write(&writer, 1, sent, 300, FRAME), 0);
    assert_int_equal(raw_write(&writer, 1, sent + 300, 300, FRAME), 0);
    assert_int_equal(read(fds[0], got, sizeof got), 600);
    assert_memory_equal(got, sent, 600);
}

static void test_only_the_first_sender(void **state)
{
    const int *fds = *state;
    struct raw_writer writer;
    uint8_t got[64];
    raw_init(&writer, fds[1]);
    assert_int_equal(raw_write(&writer, 0, (const uint8_t *)"aaaaaa", 6, FRAME), 0); /* 0 is an id like any other */
    assert_int_equal(raw_write(&writer, 7, (const uint8_t *)"bbbbbb", 6, FRAME), 0);
    assert_int_equal(raw_write(&writer, 0, (const uint8_t *)"cccccc", 6, FRAME), 0);
    assert_int_equal(read(fds[0], got, sizeof got), 12);
    assert_memory_equal(got, "aaaaaacccccc", 12);
}

static void test_reader_gone(void **state)
{
    int *fds = *state;
    struct raw_writer writer;
    raw_init(&writer, fds[1]);
    close(fds[0]);
    assert_int_equal(raw_write(&writer, 1, (const uint8_t *)"aaaaaa", 6, FRAME), -EPIPE);
    fds[0] = dup(fds[1]);
}

static void test_a_reader_that_sleeps_gets_whole_frames(void **state)
{
    const int *fds = *state;
    struct raw_writer writer;
    static uint8_t sent[24000], got[32768];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i % FRAME);
    raw_init(&writer, fds[1]);
    /* PIPE bytes fit. The descriptor blocks: only poll can save us. */
    assert_int_equal(raw_write(&writer, 1, sent, sizeof sent, FRAME), -ETIMEDOUT);
    assert_int_equal(writer.dropped_bytes, sizeof sent - (PIPE + 4));
    assert_int_equal(raw_write(&writer, 1, sent, FRAME, FRAME), -ETIMEDOUT);
    assert_int_equal(writer.dropped_bytes, sizeof sent - (PIPE + 4) + FRAME);
    assert_int_equal(read(fds[0], got, sizeof got), PIPE);
    assert_int_equal(raw_write(&writer, 1, sent, 2 * FRAME, FRAME), 0);
    assert_int_equal(read(fds[0], got + PIPE, sizeof got - PIPE), 4 + 2 * FRAME);
    for (size_t i = 0; i < (PIPE + 4) + 2 * FRAME; i++)
        assert_int_equal(got[i], i % FRAME);
}

static void test_errors(void **state)
{
    const int *fds = *state;
    struct raw_writer writer;
    raw_init(&writer, fds[1]);
    assert_int_equal(raw_write(&writer, 1, (const uint8_t *)"aaaaa", 5, FRAME), -EINVAL);
    assert_int_equal(raw_write(&writer, 1, (const uint8_t *)"aaaaa", 5, 0), -EINVAL);
    assert_int_equal(raw_write(&writer, 1, (const uint8_t *)"", 0, RAW_FRAME_MAX + 1), -EINVAL);
    raw_init(&writer, fds[0]); /* not for writing */
    assert_true(raw_write(&writer, 1, (const uint8_t *)"aaaaaa", 6, FRAME) < 0);
    raw_init(&writer, 1000); /* not open */
    assert_int_equal(raw_write(&writer, 1, (const uint8_t *)"aaaaaa", 6, FRAME), -EBADF);
    const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full >= 0) {
        raw_init(&writer, full);
        assert_int_equal(raw_write(&writer, 1, (const uint8_t *)"aaaaaa", 6, FRAME), -ENOSPC);
        close(full);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_pass_unchanged, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(test_only_the_first_sender, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(test_reader_gone, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(test_a_reader_that_sleeps_gets_whole_frames, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(test_errors, open_pipe, close_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
