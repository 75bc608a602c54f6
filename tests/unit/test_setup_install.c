/* SPDX-License-Identifier: MIT
 *
 * `earshot setup` on computers that are not here: what it writes and leaves alone.
 */
#include "receiver/root_files.h"
#include "receiver/setup.h"
#include "tests/unit/setup_rig.h"

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

static char *read_config(struct rig *rig)
{
    static char text[4096];
    FILE *file = fopen(rig->config, "r");
    if (!file)
        return NULL;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

static void append_to_config(struct rig *rig, const char *line)
{
    FILE *file = fopen(rig->config, "a");
    assert_non_null(file);
    fputs(line, file);
    fclose(file);
}

#define RELOAD  "systemctl --user daemon-reload\n"
#define START   "systemctl --user reload-or-restart --no-block earshot.service\n"
#define ENABLE  "systemctl --user enable earshot.service\n"
#define REFRESH "systemctl --user try-reload-or-restart --no-block earshot.service\n"
#define DISABLE "systemctl --user disable --now --no-block earshot.service\n"

static void test_install_and_remove(void **state)
{
    struct rig *rig = *state;
    struct stat st;
    computer_run(rig, "setup win10 --shm 2M --dry-run --install");
    computer_says(rig, "--- /dev/null\n+++ ");
    computer_says(rig, "+shm = /dev/shm/scream-win10\n");
    computer_says(rig, "Would run: systemctl --user enable earshot.service\n");
    assert_null(read_config(rig));
    assert_string_equal(rig->calls, "");

    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 0);
    assert_non_null(strstr(read_config(rig), "\nshm = /dev/shm/scream-win10\n"));
    assert_string_equal(rig->calls, RELOAD ENABLE START);
    assert_int_equal(stat(rig->config, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);

    /* Again: nothing to write; the service is on now. */
    rig_command(rig, "systemctl --user is-enabled earshot.service", 0, "enabled\n");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 0);
    computer_says(rig, "is there already, as it should be.");
    assert_string_equal(rig->calls, RELOAD START);

    /* Another way: what setup wrote it may write anew. */
    computer_run(rig, "setup win10 --bridge virbr0 --dry-run");
    computer_says(rig, "\n-shm = /dev/shm/scream-win10\n");
    computer_says(rig, "\n+interface = virbr0\n");
    computer_run(rig, "setup win10 --bridge virbr0 --install");
    assert_non_null(strstr(read_config(rig), "\ninterface = virbr0\n"));
    assert_null(strstr(read_config(rig), "shm ="));
    computer_run(rig, "setup win10 --unicast --install");
    assert_non_null(strstr(read_config(rig), "\nunicast = yes\n"));

    computer_run(rig, "setup win10 --remove --dry-run");
    computer_says(rig, "+++ /dev/null\n");
    computer_says(rig, "-unicast = yes\n");
    computer_says(rig, "Would run");
    assert_non_null(read_config(rig));

    computer_run(rig, "setup win10 --remove");
    assert_int_equal(rig->status, 0);
    assert_null(read_config(rig));
    assert_string_equal(rig->calls, DISABLE);
    assert_int_equal(access(rig->config_dir, F_OK), -1);
    assert_int_equal(access(rig->state_dir, F_OK), -1);
    computer_says(rig, "REG DELETE");

    computer_run(rig, "setup win10 --remove");
    assert_int_equal(rig->status, 0);
    computer_says(rig, "win10.conf is not there.");
    assert_string_equal(rig->calls, REFRESH);
}

/* What root wrote is found, whoever said so, and of this VM's memory alone. */
static void test_remove_as_root(void **state)
{
    struct rig *rig = *state;
    struct root_lines lines;
    computer_run(rig, "setup win10 --remove");
    computer_says_not(rig, "sudo rm");
    root_files_own_memory(&lines, &rig->env, NULL, "/dev/shm/scream-win11");
    assert_non_null(strstr(lines.lines[0], "tee /etc/tmpfiles.d/earshot-scream-win11.conf"));
    rig_write(rig, "/etc/tmpfiles.d/earshot-scream-win11.conf", "");
    computer_run(rig, "setup win10 --remove");
    computer_says_not(rig, "sudo rm");
    root_files_own_memory(&lines, &rig->env, NULL, "/dev/shm/scream-win10");
    assert_non_null(strstr(lines.lines[0], "tee /etc/tmpfiles.d/earshot-scream-win10.conf"));
    rig_write(rig, "/etc/tmpfiles.d/earshot-scream-win10.conf", "");
    root_files_limits(&lines, &rig->env);
    assert_int_equal(lines.count, 1);
    assert_non_null(strstr(lines.lines[0], "tee " ROOT_FILES_LIMITS "    #"));
    rig_write(rig, ROOT_FILES_LIMITS, "");
    computer_run(rig, "setup win10 --remove");
    computer_says(rig,
                  "    sudo rm /etc/tmpfiles.d/earshot-scream-win10.conf\n    sudo rm " ROOT_FILES_LIMITS "    #");
    computer_says_not(rig, "win11");
}

/* Any file can be played: its name is for root's shell. */
static void test_strange_memory(void **state)
{
    struct rig *rig = *state;
    struct root_lines lines;
    root_files_own_memory(&lines, &rig->env, NULL, "/dev/shm/it's;x");
    assert_int_equal(lines.count, 2);
    assert_string_equal(lines.lines[0], "echo 'f /dev/shm/it'\\''s;x 0660 anna kvm -' | sudo tee "
                                        "'/etc/tmpfiles.d/earshot-it'\\''s;x.conf'");
    char path[600];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = 0;
    root_files_own_memory(&lines, &rig->env, NULL, path);
    assert_int_equal(lines.count, 0); /* nothing is better than half a command */
}

static void test_what_others_changed(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --shm 2M --install");
    append_to_config(rig, "latency = 30\n");
    char before[4096];
    strcpy(before, read_config(rig));

    computer_run(rig, "setup win10 --shm 4M --install"); /* the file's text would be the same but for the line */
    assert_int_equal(rig->status, 1);
    computer_says(rig, "was written or changed by somebody else, and is left alone.");
    computer_says(rig, "-latency = 30\n");
    assert_string_equal(read_config(rig), before);

    computer_run(rig, "setup win10 --remove");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "remove it yourself");
    assert_string_equal(read_config(rig), before);
    assert_string_equal(rig->calls, REFRESH); /* it still has something to play */

    /* The line taken out again, it is setup's as before. */
    before[strlen(before) - strlen("latency = 30\n")] = 0;
    FILE *file = fopen(rig->config, "w");
    fputs(before, file);
    fclose(file);
    computer_run(rig, "setup win10 --remove");
    assert_int_equal(rig->status, 0);
    assert_null(read_config(rig));
    assert_string_equal(rig->calls, DISABLE);
}

static void test_files_of_others(void **state)
{
    struct rig *rig = *state;
    rig_write(rig, "/home/.config/earshot/win10.conf", "shm = /dev/shm/mine\n");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    assert_string_equal(read_config(rig), "shm = /dev/shm/mine\n");

    /* A link is somebody's arrangement, also to nowhere. */
    unlink(rig->config);
    assert_int_equal(symlink("/nonexistent/dotfiles", rig->config), 0);
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    computer_run(rig, "setup win10 --remove");
    assert_int_equal(rig->status, 1);
    struct stat st;
    assert_int_equal(lstat(rig->config, &st), 0);
    unlink(rig->config);

    /* A directory in its place. */
    assert_int_equal(mkdir(rig->config, 0755), 0);
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
}

/* One file alone may want every sender of a network. */
static void test_files_together(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --bridge virbr0 --install");
    assert_int_equal(rig->status, 0);
    computer_run(rig, "setup win11 --shm 2M --install");
    assert_int_equal(rig->status, 0);
    computer_run(rig, "setup win12 --bridge virbr0 --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "Of all files together, the service will say:");
    computer_says(rig, "win12.conf: ");
    computer_says(rig, "A line from = ADDRESS in each of them");
    append_to_config(rig, "from = 192.168.122.50\n");
    computer_run(rig, "setup win12 --bridge virbr0 --install");
    assert_int_equal(rig->status, 0);
    computer_says_not(rig, "will say");
    /* Two names for one memory, and somebody's mistake. */
    rig_write(rig, "/home/.config/earshot/other.conf", "latncy = 5\n");
    computer_run(rig, "setup win12 --bridge virbr0 --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "other.conf:1: ");
}

/* The service belongs to all guests: it goes with the last, and only where setup brought it. */
static void test_service_of_several(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --shm 2M --install");
    rig_command(rig, "systemctl --user is-enabled earshot.service", 0, "enabled\n");
    computer_run(rig, "setup linux --unicast --install");
    assert_string_equal(rig->calls, RELOAD START);
    computer_run(rig, "setup win10 --remove");
    assert_string_equal(rig->calls, REFRESH);
    computer_run(rig, "setup linux --remove");
    assert_string_equal(rig->calls, DISABLE);

    /* Enabled by hand before: stays. */
    computer_run(rig, "setup win10 --shm 2M --install");
    computer_run(rig, "setup win10 --remove");
    assert_string_equal(rig->calls, REFRESH);
}

static void test_service_that_cannot(void **state)
{
    struct rig *rig = *state;
    rig_command(rig, "systemctl --user is-enabled earshot.service", 1, "masked\n");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "systemctl --user unmask earshot.service");
    assert_string_equal(rig->calls, RELOAD);

    /* No unit, no user manager, no systemd: no error, the file is what counts. */
    for (unsigned i = 0; i < 3; i++) {
        rig_command(rig, "systemctl --user is-enabled earshot.service", i == 2 ? -ENOENT : 1,
                    i == 0 ? "not-found\n" : "");
        computer_run(rig, "setup win10 --shm 2M --install");
        assert_int_equal(rig->status, 0);
        computer_says(rig, "There is no user service earshot.service here: start earshot with your desktop");
        assert_string_equal(rig->calls, RELOAD);
    }

    rig_command(rig, "systemctl --user is-enabled earshot.service", 1, "disabled\n");
    rig_command(rig, "systemctl --user enable", 1, "");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "The service could not be enabled.");
    rig_command(rig, "systemctl --user enable", 0, "");
    rig_command(rig, "systemctl --user reload-or-restart", 1, "");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "The service did not start.");
    rig_command(rig, "systemctl --user disable", 1, "");
    computer_run(rig, "setup win10 --remove");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "systemctl --user disable --now earshot.service");
}

static void test_with_sudo(void **state)
{
    struct rig *rig = *state;
    rig->env.is_root = true; /* and uid is the caller's */
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "Without sudo");
    assert_null(read_config(rig));
    assert_string_equal(rig->calls, "");
    computer_run(rig, "setup win10 --shm 2M"); /* it may look */
    assert_int_equal(rig->status, 0);
}

static void test_cannot_write(void **state)
{
    struct rig *rig = *state;
    rig_write(rig, "/home/.config", "a file");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 1);
    computer_says(rig, "win10.conf could not be written: Not a directory.");
}

static void test_where(void **state)
{
    struct rig *rig = *state;
    struct setup_options options = {.name = "win10", .way = SETUP_UNICAST, .dry_run = true};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct setup_params params = {.options = &options, .out = out, .env = &rig->env};
    setenv("HOME", "/nowhere/anna", 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_STATE_HOME");
    setup_run(&params);
    fflush(out);
    assert_non_null(strstr(text, "+++ /nowhere/anna/.config/earshot/win10.conf\n"));
    setenv("XDG_CONFIG_HOME", "/elsewhere", 1);
    setup_run(&params);
    fflush(out);
    assert_non_null(strstr(text, "+++ /elsewhere/earshot/win10.conf\n"));
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("HOME");
    assert_int_equal(setup_run(&params), 1);
    fclose(out);
    assert_non_null(strstr(text, "HOME is not set"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_install_and_remove, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_remove_as_root, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_strange_memory, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_what_others_changed, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_files_of_others, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_files_together, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_service_of_several, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_service_that_cannot, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_with_sudo, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_cannot_write, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_where, computer_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
