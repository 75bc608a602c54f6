/* SPDX-License-Identifier: MIT */
#include "tests/unit/setup_rig.h"

#include "receiver/setup.h"
#include "tests/unit/parsed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int computer_setup(void **state)
{
    int r = rig_setup(state);
    if (r != 0)
        return r;
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4242"); /* the rig's own VM */
    snprintf(rig->config_dir, sizeof rig->config_dir, "%s/home/.config/earshot", rig->root);
    snprintf(rig->config, sizeof rig->config, "%s/win10.conf", rig->config_dir);
    snprintf(rig->state_dir, sizeof rig->state_dir, "%s/home/.local/state/earshot", rig->root);
    rig_command(rig, "systemctl --user", 0, "");
    rig_command(rig, "systemctl --user is-enabled earshot.service", 1, "disabled\n");
    rig_command(rig, "nft list ruleset", 0, "");
    rig_write(rig, "/etc/passwd",
              "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:108:Libvirt Qemu:/var/lib/libvirt:/bin/false\n");
    rig_write(rig, "/etc/group", "root:x:0:\nkvm:x:108:\nqemu:x:107:qemu\n");
    rig_write(rig, "/proc/self/limits",
              LIMITS "Max realtime priority     95                   95                   \n");
    return 0;
}

void computer_run(struct rig *rig, const char *line)
{
    struct parsed p;
    parse(&p, "earshot %s", line);
    if (p.result != 0 || p.command != COMMAND_SETUP)
        fail_msg("%s: %s", line, p.error);
    free(rig->text);
    size_t size;
    FILE *out = open_memstream(&rig->text, &size);
    assert_non_null(out);
    rig->calls[0] = 0;
    struct setup_params params = {.options = &p.options.setup,
                                  .config_dir = rig->config_dir,
                                  .state_dir = rig->state_dir,
                                  .out = out,
                                  .env = &rig->env};
    rig->status = setup_run(&params);
    fclose(out);
}

void computer_says(const struct rig *rig, const char *part)
{
    if (!strstr(rig->text, part))
        fail_msg("wanted: %s\nin:\n%s", part, rig->text);
}

void computer_says_not(const struct rig *rig, const char *part)
{
    if (strstr(rig->text, part))
        fail_msg("not wanted: %s\nin:\n%s", part, rig->text);
}
