/* SPDX-License-Identifier: MIT */
#include "receiver/source_lock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int take(const char *path, const char *name, char holder[64])
{
    return source_lock_take(path, name, holder, 64);
}

/* flock() is between open files, so one process can play both parts. */
static void test_lock(void **state)
{
    (void)state;
    char dir[] = "/tmp/earshot-lock-XXXXXX", ring[64], link_path[64], dotted[80], holder[64] = "", wanted[64];
    assert_non_null(mkdtemp(dir));
    setenv("XDG_RUNTIME_DIR", dir, 1);
    snprintf(ring, sizeof(ring), "%s/ring", dir);
    snprintf(link_path, sizeof(link_path), "%s/link", dir);
    snprintf(dotted, sizeof(dotted), "%s/../%s/ring", dir, strrchr(dir, '/') + 1);

    int first = take(ring, "win10", holder); /* before the ring exists */
    assert_true(first >= 0);
    assert_int_equal(take(ring, "other", holder), -EBUSY);
    snprintf(wanted, sizeof(wanted), "win10 (pid %d)", (int)getpid());
    assert_string_equal(holder, wanted);
    assert_int_equal(take(dotted, "other", holder), -EBUSY);
    FILE *file = fopen(ring, "we");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(symlink(ring, link_path), 0);
    assert_int_equal(take(ring, "other", holder), -EBUSY);
    assert_int_equal(take(link_path, "other", holder), -EBUSY);

    int another = take("/dev/shm/earshot-another", "win11", holder);
    assert_true(another >= 0);
    close(another);
    close(first);
    first = take(link_path, "other", holder);
    assert_true(first >= 0);
    assert_int_equal(take(ring, "x", holder), -EBUSY);
    assert_non_null(strstr(holder, "other (pid "));
    close(first);

    unsetenv("XDG_RUNTIME_DIR");
    assert_int_equal(take(ring, "x", holder), -ENOENT);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own directory */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lock)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
