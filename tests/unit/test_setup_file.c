/* SPDX-License-Identifier: MIT */
#include "receiver/setup_file.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char directory[64], path[128];
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    strcpy(place->directory, "/tmp/earshot-setup-XXXXXX");
    if (!mkdtemp(place->directory))
        return -1;
    snprintf(place->path, sizeof place->path, "%s/file", place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    unlink(place->path);
    rmdir(place->path);
    int r = rmdir(place->directory); /* fails where something was left */
    free(place);
    return r;
}

static enum setup_file_owner look(const struct place *place)
{
    enum setup_file_owner owner;
    char *text;
    assert_int_equal(setup_file_look(place->path, &owner, &text), 0);
    free(text);
    return owner;
}

static void write_marked(const struct place *place, const char *body)
{
    char *text = setup_file_mark(body);
    assert_non_null(text);
    assert_int_equal(setup_file_write(place->path, text), 0);
    free(text);
}

/* Every single byte of it matters. */
static void test_owner(void **state)
{
    const struct place *place = *state;
    assert_int_equal(look(place), SETUP_FILE_ABSENT);
    write_marked(place, "shm = /dev/shm/a\n");
    assert_int_equal(look(place), SETUP_FILE_OURS);

    enum setup_file_owner owner;
    char *text;
    setup_file_look(place->path, &owner, &text);
    for (size_t i = 0; i < strlen(text); i++) {
        text[i] ^= 1;
        assert_int_equal(setup_file_write(place->path, text), 0);
        if (look(place) != SETUP_FILE_FOREIGN)
            fail_msg("byte %zu changed, and not noticed", i);
        text[i] ^= 1;
    }
    for (size_t length = strlen(text); length-- > 0;) {
        text[length] = 0;
        assert_int_equal(setup_file_write(place->path, text), 0);
        assert_int_equal(look(place), SETUP_FILE_FOREIGN);
    }
    free(text);
    write_marked(place, "");
    assert_int_equal(look(place), SETUP_FILE_OURS);
}

static void test_what_is_no_file(void **state)
{
    const struct place *place = *state;
    assert_int_equal(mkfifo(place->path, 0600), 0); /* opening that would wait */
    assert_int_equal(look(place), SETUP_FILE_FOREIGN);
    unlink(place->path);
    assert_int_equal(symlink("nowhere", place->path), 0);
    assert_int_equal(look(place), SETUP_FILE_FOREIGN);
    unlink(place->path);
    assert_int_equal(mkdir(place->path, 0700), 0);
    assert_int_equal(look(place), SETUP_FILE_FOREIGN);
}

static void test_too_large(void **state)
{
    const struct place *place = *state;
    FILE *file = fopen(place->path, "w");
    enum setup_file_owner owner;
    char *text;
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), SETUP_FILE_MAX), 0);
    fclose(file);
    assert_int_equal(setup_file_look(place->path, &owner, &text), -EFBIG);
    assert_null(text);
    assert_int_equal(owner, SETUP_FILE_FOREIGN);
}

/* All or nothing, and no half of it left about: teardown wants an empty directory. */
static void test_write(void **state)
{
    const struct place *place = *state;
    char path[256];
    assert_int_equal(mkdir(place->path, 0700), 0);
    assert_int_equal(setup_file_write(place->path, "x"), -EISDIR);
    snprintf(path, sizeof path, "%s/a/b", place->path);
    assert_int_equal(setup_file_write(path, "x"), 0);
    unlink(path);
    snprintf(path, sizeof path, "%s/a", place->path);
    assert_int_equal(rmdir(path), 0);
}

static void check_diff(const char *before, const char *after, const char *expected)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    setup_file_diff(out, "f", before, after);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void test_diff(void **state)
{
    (void)state;
    check_diff(NULL, "a\nb\n", "--- /dev/null\n+++ f\n@@ -0,0 +1,2 @@\n+a\n+b\n");
    check_diff("a\nb\n", NULL, "--- f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n");
    check_diff("a\nb\nc\n", "a\nx\ny\nc\n", "--- f\n+++ f\n@@ -1,3 +1,4 @@\n a\n-b\n+x\n+y\n c\n");
    check_diff("a\na\n", "a\n", "--- f\n+++ f\n@@ -1,2 +1,1 @@\n a\n-a\n");
    check_diff("a\nb", "a\nb\n", "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n");
    check_diff("", "a\n", "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n");
    check_diff("a\n", "a\n", "--- f\n+++ f\n@@ -1,1 +1,1 @@\n a\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_write, set_up, tear_down),
        cmocka_unit_test(test_diff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
