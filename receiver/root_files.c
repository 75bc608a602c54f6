/* SPDX-License-Identifier: MIT */
#include "receiver/root_files.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void add(struct root_lines *lines, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(lines->lines[lines->count++], ROOT_LINE_MAX, format, args);
    va_end(args);
}

/* --- memory */

/* Field `index` of the line "KEY:..." or, with key_index 2, of "x:y:KEY:...". */
static bool lookup(const struct doctor_env *env, const char *path, unsigned key_index, const char *key,
                   unsigned index, char *out, size_t size)
{
    char full[DOCTOR_PATH_MAX], line[1024];
    FILE *file = fopen(doctor_path(env, full, "%s", path), "re");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *fields[4] = {NULL}, *rest = line;
        for (unsigned i = 0; i < 4 && rest; i++)
            fields[i] = strsep(&rest, ":\n");
        found = fields[key_index] && fields[index] && strcmp(fields[key_index], key) == 0;
        if (found)
            snprintf(out, size, "%s", fields[index]);
    }
    if (file)
        fclose(file);
    return found;
}

/* The group that QEMU's processes have. Returns out. */
static const char *qemu_group(const struct doctor_env *env, const struct doctor_vm *vm, char out[32])
{
    static const char *const users[] = {"libvirt-qemu", "qemu"};
    char gid[16] = "";
    if (vm && vm->gid)
        snprintf(gid, sizeof gid, "%u", (unsigned)vm->gid);
    for (unsigned i = 0; !*gid && i < sizeof users / sizeof *users; i++)
        lookup(env, "/etc/passwd", 0, users[i], 3, gid, sizeof gid);
    if (!*gid || !lookup(env, "/etc/group", 2, gid, 0, out, 32))
        snprintf(out, 32, "%s", *gid ? gid : "kvm");
    return out;
}

void root_files_tmpfiles(const char *memory, char out[DOCTOR_PATH_MAX])
{
    const char *slash = strrchr(memory, '/');
    if (snprintf(out, DOCTOR_PATH_MAX, "/etc/tmpfiles.d/earshot-%s.conf", slash ? slash + 1 : memory) >=
        DOCTOR_PATH_MAX)
        *out = 0;
}

void root_files_own_memory(struct root_lines *lines, const struct doctor_env *env, const struct doctor_vm *vm,
                           const char *memory)
{
    char group[32], text[DOCTOR_PATH_MAX], conf[DOCTOR_PATH_MAX], mode[8];
    lines->count = 0;
    root_files_tmpfiles(memory, conf);
    /* Once it is there for good, the file has to be writable for QEMU, which no longer makes it. */
    if (!*conf || snprintf(text, sizeof text, "f %s 0660 %s %s -", memory, env->user, qemu_group(env, vm, group)) >=
                      (int)sizeof text)
        return;
    struct doctor_quoted quoted_conf = doctor_quote(conf), quoted_memory = doctor_quote(memory);
    add(lines, "echo %s | sudo tee %s", doctor_quote(text).text, quoted_conf.text);
    add(lines, "sudo systemd-tmpfiles --create %s    # while the VM is off", quoted_conf.text);
    if (doctor_read(env, mode, sizeof mode, "/sys/fs/selinux/enforce") >= 0) {
        add(lines, "sudo semanage fcontext -a -t svirt_tmpfs_t %s", quoted_memory.text);
        add(lines, "sudo restorecon -v %s", quoted_memory.text);
    }
}

/* --- limits */

void root_files_limits(struct root_lines *lines, const struct doctor_env *env)
{
    lines->count = 0;
    add(lines,
        "printf '%%s\\n' '%s - rtprio 95' '%s - memlock 262144' | sudo tee " ROOT_FILES_LIMITS
        "    # real time; log in anew",
        env->user, env->user);
}
