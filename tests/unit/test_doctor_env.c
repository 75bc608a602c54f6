/* SPDX-License-Identifier: MIT
 *
 * The doctor's hands: commands that hang, that say much, or that are not there.
 */
#include "receiver/doctor_env.h"

#include <errno.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN(env, output, ...) (env).command((env).arg, (const char *const[]){__VA_ARGS__, NULL}, output)

static void test_command(void **state)
{
    (void)state;
    struct doctor_env env = doctor_env_here();
    char *output = NULL;
    assert_int_equal(
        RUN(env, &output, "sh", "-c", "echo $LC_ALL; echo hidden >&2; read -r line || echo nothing; exit 3"), 3);
    assert_string_equal(output, "C\nnothing\n");
    free(output);

    assert_int_equal(RUN(env, &output, "sh", "-c", "exit 0"), 0);
    assert_string_equal(output, "");
    free(output);
    assert_int_equal(RUN(env, &output, "no-such-program-of-earshot"), -ENOENT);
    assert_null(output);

    assert_int_equal(RUN(env, &output, "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"), 0);
    assert_int_equal(strlen(output), 300000);
    free(output);
}

/* Neither who says nothing nor who never stops talking holds it up for longer than the limit. */
static void test_command_hangs(void **state)
{
    (void)state;
    struct doctor_env env = doctor_env_here();
    char *output = NULL;
    assert_int_equal(RUN(env, &output, "sleep", "600"), -ETIMEDOUT);
    assert_null(output);
    assert_int_equal(RUN(env, &output, "sh", "-c", "exec >/dev/null; exec sleep 600"), -ETIMEDOUT);
    assert_null(output);
    assert_true(RUN(env, &output, "yes") < 0);
    assert_null(output);
}

/* nft and others lie where a user's PATH does not lead. */
static void test_sbin(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH") ? getenv("PATH") : "");
    struct doctor_env env = doctor_env_here();
    char *output = NULL;
    assert_int_equal(setenv("PATH", "/nowhere:/usr/bin:/bin", 1), 0);
    assert_int_equal(RUN(env, &output, "sh", "-c", "echo $PATH"), 0);
    assert_string_equal(output, "/nowhere:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin\n");
    free(output);
    assert_int_equal(unsetenv("PATH"), 0);
    assert_int_equal(RUN(env, &output, "sh", "-c", "exit 4"), 4);
    free(output);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
}

static void test_files(void **state)
{
    (void)state;
    char root[] = "/tmp/earshot-env-XXXXXX", file[64], text[8], path[DOCTOR_PATH_MAX];
    assert_non_null(mkdtemp(root));
    struct doctor_env env = {.root = root};
    snprintf(file, sizeof file, "%s/x", root);
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs("hello world\n", out);
    fclose(out);
    assert_int_equal(doctor_read(&env, text, sizeof text, "/%s", "x"), 7);
    assert_string_equal(text, "hello w");
    assert_int_equal(doctor_read(&env, text, sizeof text, "/y"), -ENOENT);
    assert_string_equal(text, "");
    assert_string_equal(doctor_path(&env, path, "/x"), file);
    assert_string_equal(doctor_path(&env, path, "/%0600d", 0), ""); /* no room */
    unlink(file);
    rmdir(root);
}

/* Whoever else is looked up later. */
static void test_user(void **state)
{
    (void)state;
    unsetenv("SUDO_UID"); /* who runs the tests by sudo */
    char name[64];
    const struct passwd *user = getpwuid(geteuid());
    snprintf(name, sizeof name, "%s", user ? user->pw_name : "YOU");
    struct doctor_env env = doctor_env_here();
    assert_int_equal(env.uid, geteuid());
    getpwuid(65534);
    getpwuid(1);
    assert_string_equal(env.user, name);
}

static void test_interfaces(void **state)
{
    (void)state;
    static struct doctor_interface interfaces[DOCTOR_INTERFACES_MAX];
    struct doctor_env env = doctor_env_here();
    int count = env.interfaces(env.arg, interfaces);
    bool found = false;
    for (int i = 0; i < count; i++)
        found = found || strcmp(interfaces[i].name, "lo") == 0;
    assert_true(found);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < i; k++)
            assert_string_not_equal(interfaces[i].name, interfaces[k].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command), cmocka_unit_test(test_command_hangs), cmocka_unit_test(test_sbin),
        cmocka_unit_test(test_user),    cmocka_unit_test(test_files),         cmocka_unit_test(test_interfaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
