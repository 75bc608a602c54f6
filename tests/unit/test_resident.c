/* SPDX-License-Identifier: MIT */
#include "ringbuf/resident.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* KiB of this process that are locked. */
static long locked_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmLck: %ld", &kib) == 1)
            break;
    fclose(file);
    return kib;
}

static void zeroed_and_a_page_of_its_own(void **state)
{
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t sizes[] = {1, page - 1, page, page + 1, 100 * page};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *memory = resident_alloc(sizes[i]);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % page, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(memory[k], 0);
        memset(memory, 0xAA, sizes[i]); /* what comes here next is to be zero again */
        resident_free(memory, sizes[i]);
    }
    resident_free(NULL, 0);
    resident_free(NULL, 4711);
}

static void more_than_there_is(void **state)
{
    (void)state;
    assert_null(resident_alloc(SIZE_MAX));
    assert_null(resident_alloc(SIZE_MAX - 1));
}

/* Not with a limit of nothing (ulimit -l), nor with a sanitizer, which leaves mlock() out. */
static bool can_lock(size_t bytes)
{
    const long before = locked_kib();
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    const bool locked = mlock(memory, bytes) == 0 && locked_kib() > before;
    munmap(memory, bytes);
    return locked;
}

static void locked_as_long_as_it_is_used(void **state)
{
    (void)state;
    const size_t bytes = (size_t)48 << 10;
    if (!can_lock(bytes)) {
        print_message("skipped: this process can lock no memory\n");
        skip();
    }
    const long before = locked_kib();
    void *memory = resident_alloc(bytes);
    assert_int_equal(locked_kib() - before, 48);
    resident_free(memory, bytes);
    assert_int_equal(locked_kib(), before);
}

/* In a process of its own: what is given up stays so. */
static void unlocked_where_the_limit_is_reached(void **state)
{
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_MEMLOCK, &none) < 0)
            _exit(1);
        char *memory = resident_alloc(1 << 20);
        if (!memory)
            _exit(2);
        memset(memory, 1, 1 << 20);
        resident_free(memory, 1 << 20);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_and_a_page_of_its_own),
        cmocka_unit_test(more_than_there_is),
        cmocka_unit_test(locked_as_long_as_it_is_used),
        cmocka_unit_test(unlocked_where_the_limit_is_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
