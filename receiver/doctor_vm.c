/* SPDX-License-Identifier: MIT */
#include "receiver/doctor_check.h"
#include "receiver/text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#define CMDLINE_MAX ((size_t)256 << 10)
#define MIB         ((uint64_t)1 << 20)
#define DEFAULT_MIB 2

/* --- QEMU's arguments: "name,key=value,..." with commas doubled inside values, or JSON */

static bool json_value(const char *text, const char *key, char *out, size_t size)
{
    struct json_object *root = json_tokener_parse(text), *value = doctor_member(root, key);
    const char *string = value ? json_object_get_string(value) : NULL;
    if (string)
        snprintf(out, size, "%s", string);
    json_object_put(root);
    return string != NULL;
}

bool doctor_qemu_value(const char *text, const char *implied, const char *key, char *out, size_t size)
{
    if (*text == '{')
        return json_value(text, key, out, size);
    size_t key_length = strlen(key);
    for (bool first = true; *text; first = false) {
        size_t name = strcspn(text, "=,");
        bool bare = text[name] != '=';
        bool wanted = name == key_length && strncmp(text, key, name) == 0;
        if (first && bare && strcmp(implied, key) == 0) {
            wanted = true;
            name = 0;
        } else if (wanted && bare) {
            snprintf(out, size, "on");
            return true;
        } else if (!bare) {
            name++;
        }
        text += name;
        size_t to = 0;
        for (; *text && (*text != ',' || text[1] == ','); text++) {
            if (*text == ',')
                text++;
            if (to + 1 < size && wanted)
                out[to++] = *text;
        }
        if (wanted) {
            out[to] = 0;
            return true;
        }
        text += *text == ',';
    }
    return false;
}

static uint64_t parse_bytes(const char *text, uint64_t unit)
{
    char *end;
    double number = strtod(text, &end);
    static const char suffixes[] = "BKMGT";
    const char *suffix = *end ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
    for (ptrdiff_t i = suffix ? suffix - suffixes : 0; i > 0; i--)
        number *= 1024;
    if (!suffix)
        number *= (double)unit;
    return number > 0 && number < 1e18 ? (uint64_t)number : 0;
}

static bool is_on(const char *value)
{
    return !strcmp(value, "on") || !strcmp(value, "yes") || !strcmp(value, "true") || !strcmp(value, "y");
}

/* The next argument after `at`, or NULL. */
static const char *next_argument(const char *cmdline, size_t length, const char *at)
{
    at += strlen(at) + 1;
    return at < cmdline + length ? at : NULL;
}

static bool is_option(const char *argument, const char *name)
{
    if (*argument != '-')
        return false;
    argument += argument[1] == '-' ? 2 : 1;
    return strcmp(argument, name) == 0;
}

/* The memory object of that id. */
static void find_memory(struct doctor_ivshmem *device, const char *id, const char *cmdline, size_t length)
{
    for (const char *a = cmdline; a; a = next_argument(cmdline, length, a)) {
        const char *value = is_option(a, "object") ? next_argument(cmdline, length, a) : NULL;
        char found[128], text[DOCTOR_PATH_MAX];
        if (!value || !doctor_qemu_value(value, "qom-type", "id", found, sizeof found) || strcmp(found, id) != 0)
            continue;
        if (doctor_qemu_value(value, "qom-type", "mem-path", text, sizeof text))
            memcpy(device->path, text, sizeof text);
        if (doctor_qemu_value(value, "qom-type", "size", text, sizeof text))
            device->bytes = parse_bytes(text, 1);
        device->shared = doctor_qemu_value(value, "qom-type", "share", text, sizeof text) && is_on(text);
    }
}

static void add_device(struct doctor_vm *vm, const char *value, const char *cmdline, size_t length)
{
    char driver[64], text[DOCTOR_PATH_MAX];
    if (!doctor_qemu_value(value, "driver", "driver", driver, sizeof driver) || strncmp(driver, "ivshmem", 7) != 0 ||
        vm->device_count == DOCTOR_DEVICES_MAX)
        return;
    struct doctor_ivshmem *device = &vm->devices[vm->device_count++];
    *device = (struct doctor_ivshmem){.shared = true};
    if (doctor_qemu_value(value, "driver", "memdev", text, sizeof text)) {
        find_memory(device, text, cmdline, length);
    } else if (doctor_qemu_value(value, "driver", "shm", text, sizeof text)) { /* before QEMU 6 */
        snprintf(device->path, sizeof device->path, "/dev/shm/%.400s", text);
        if (doctor_qemu_value(value, "driver", "size", text, sizeof text))
            device->bytes = parse_bytes(text, MIB);
    }
}

bool doctor_vm_parse(struct doctor_vm *vm, const char *cmdline, size_t length)
{
    memset(vm, 0, sizeof *vm);
    if (!length || cmdline[length - 1])
        return false;
    const char *slash = strrchr(cmdline, '/');
    const char *program = slash ? slash + 1 : cmdline;
    if (strncmp(program, "qemu-system-", 12) != 0 && strcmp(program, "qemu-kvm") != 0 && strcmp(program, "kvm") != 0)
        return false;
    for (const char *a = cmdline; a; a = next_argument(cmdline, length, a)) {
        const char *value = next_argument(cmdline, length, a);
        if (value && is_option(a, "device"))
            add_device(vm, value, cmdline, length);
        else if (value && is_option(a, "name"))
            doctor_qemu_value(value, "guest", "guest", vm->name, sizeof vm->name);
    }
    text_clean(vm->name);
    return true;
}

/* --- processes */

/* The first number after `key` at a line's beginning. */
static bool status_number(const char *status, const char *key, unsigned long *number)
{
    for (const char *line = status; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, strlen(key)) == 0) {
            *number = strtoul(line + strlen(key), NULL, 10);
            return true;
        }
    }
    return false;
}

/* One that plays: not another doctor, and not the guest's double. */
static bool is_receiver(const char *cmdline, size_t length)
{
    static const char *const others[] = {"doctor", "status", "guest", "demo", "setup", "tune"};
    const char *argument = next_argument(cmdline, length, cmdline);
    for (unsigned i = 0; argument && i < sizeof others / sizeof *others; i++) {
        if (!strcmp(argument, others[i]))
            return false;
    }
    return true;
}

/* One that was started in another session (or in a test) is not the one that is asked about. */
static bool is_of_session(const struct doctor_env *env, const char *pid)
{
    static const char key[] = "XDG_RUNTIME_DIR=";
    char text[32768];
    ssize_t length = doctor_read(env, text, sizeof text, "/proc/%s/environ", pid);
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(text + at) + 1) {
        if (strncmp(text + at, key, sizeof key - 1) == 0)
            return strcmp(text + at + sizeof key - 1, env->runtime_dir) == 0;
    }
    return true;
}

/* By its name, or, called `scream`, by its program. */
static bool is_earshot(const struct doctor_env *env, const char *pid)
{
    char comm[32], path[DOCTOR_PATH_MAX], program[DOCTOR_PATH_MAX];
    if (doctor_read(env, comm, sizeof comm, "/proc/%s/comm", pid) > 0 && !strcmp(comm, "earshot"))
        return true;
    ssize_t length = readlink(doctor_path(env, path, "/proc/%s/exe", pid), program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    const char *slash = strrchr(program, '/');
    return slash && !strcmp(slash, "/earshot");
}

static void look_at(struct doctor *doctor, const char *pid, char *cmdline)
{
    char status[4096];
    unsigned long uid, gid;
    ssize_t length = doctor_read(doctor->env, cmdline, CMDLINE_MAX, "/proc/%s/cmdline", pid);
    if (length <= 0 || doctor_read(doctor->env, status, sizeof status, "/proc/%s/status", pid) < 0 ||
        !status_number(status, "Uid:", &uid) || !status_number(status, "Gid:", &gid))
        return;
    struct doctor_vm *vm = &doctor->vms[doctor->vm_count];
    if (doctor->vm_count < DOCTOR_VMS_MAX && doctor_vm_parse(vm, cmdline, (size_t)length)) {
        vm->pid = (pid_t)strtol(pid, NULL, 10);
        vm->gid = (gid_t)gid;
        if (!vm->name[0])
            snprintf(vm->name, sizeof vm->name, "QEMU (pid %.16s)", pid);
        doctor->vm_count++;
    }
    if (uid == doctor->env->uid && doctor->earshot_count < DOCTOR_EARSHOTS_MAX &&
        is_receiver(cmdline, (size_t)length) && is_earshot(doctor->env, pid) && is_of_session(doctor->env, pid))
        doctor->earshots[doctor->earshot_count++] = (pid_t)strtol(pid, NULL, 10);
}

void doctor_look_at_processes(struct doctor *doctor)
{
    char path[DOCTOR_PATH_MAX], *cmdline = malloc(CMDLINE_MAX);
    DIR *proc = opendir(doctor_path(doctor->env, path, "/proc"));
    if (proc && cmdline) {
        for (const struct dirent *entry = readdir(proc); entry; entry = readdir(proc)) {
            if (isdigit((unsigned char)entry->d_name[0]))
                look_at(doctor, entry->d_name, cmdline);
        }
    }
    if (proc)
        closedir(proc);
    free(cmdline);
    /* With hidepid one sees one's own alone. */
    struct stat st;
    doctor->sees_processes = stat(doctor_path(doctor->env, path, "/proc/1/cmdline"), &st) == 0;
}

bool doctor_same_file(const char *a, const char *b)
{
    struct stat first, second;
    if (!strcmp(a, b))
        return true;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

const struct doctor_vm *doctor_vm_with(const struct doctor *doctor, const char *path,
                                       const struct doctor_ivshmem **device)
{
    for (unsigned i = 0; i < doctor->vm_count; i++) {
        const struct doctor_vm *vm = &doctor->vms[i];
        for (unsigned k = 0; k < vm->device_count; k++) {
            if (vm->devices[k].path[0] && doctor_same_file(vm->devices[k].path, path)) {
                *device = &vm->devices[k];
                return vm;
            }
        }
    }
    return NULL;
}

/* --- the check */

static void add_block(struct doctor *doctor, const char *path)
{
    const char *name = strncmp(path, "/dev/shm/", 9) == 0 && !strchr(path + 9, '/') ? path + 9 : NULL;
    if (name) {
        doctor_fix(doctor, "libvirt: virsh edit, among the <devices>, then shut the VM down and start it again:");
        doctor_fix(doctor, "  <shmem name='%.100s'><model type='ivshmem-plain'/><size unit='M'>%d</size></shmem>",
                   name, DEFAULT_MIB);
        doctor_fix(doctor, "QEMU's own command line:");
    }
    doctor_fix(doctor, "  -object memory-backend-file,id=scream,share=on,mem-path=%.200s,size=%dM", path,
               DEFAULT_MIB);
    doctor_fix(doctor, "  -device ivshmem-plain,memdev=scream");
}

static enum doctor_verdict missing(struct doctor *doctor)
{
    doctor->vm_fails = true;
    return doctor->another_plays ? DOCTOR_WARN : DOCTOR_FAIL;
}

/* VMs run, but none has this file. Names those that have another. */
static void say_other_memory(struct doctor *doctor, const char *path)
{
    bool said = false;
    for (unsigned i = 0; i < doctor->vm_count; i++) {
        const struct doctor_vm *vm = &doctor->vms[i];
        for (unsigned k = 0; k < vm->device_count; k++) {
            const struct doctor_ivshmem *device = &vm->devices[k];
            if (!device->path[0])
                continue;
            if (!said)
                doctor_say(doctor, DOCTOR_VM, missing(doctor),
                           "No running VM has the shared memory %.100s: %s has %.100s", path, vm->name, device->path);
            said = true;
            doctor_fix(doctor, "earshot -m %s    # %s, %llu MiB", doctor_quote(device->path).text, vm->name,
                       (unsigned long long)(device->bytes / MIB));
        }
    }
    if (said)
        return;
    doctor_say(doctor, DOCTOR_VM, missing(doctor),
               "%s runs%s, but without shared memory (an ivshmem device with a file)", doctor->vms[0].name,
               doctor->vm_count > 1 ? " and is not alone" : "");
    add_block(doctor, path);
}

static void check_device(struct doctor *doctor, const struct doctor_vm *vm, const struct doctor_ivshmem *device,
                         const struct doctor_ring *ring)
{
    /* What was written to it ever, somebody wrote who found it and shares it. */
    bool doubtful = ring->state == RING_ALL_ZERO;
    unsigned same_size = 0;
    for (unsigned i = 0; i < vm->device_count; i++)
        same_size += vm->devices[i].bytes == device->bytes;
    doctor->vm_fails = doubtful && (!device->shared || same_size > 1);
    if (!device->shared && doubtful) {
        doctor_say(doctor, DOCTOR_VM, DOCTOR_FAIL, "%s keeps its memory %.100s to itself: share=on is missing",
                   vm->name, device->path);
        doctor_fix(doctor, "-object memory-backend-file,id=...,share=on,mem-path=%.200s,size=%lluM", device->path,
                   (unsigned long long)(device->bytes / MIB));
    } else if (same_size > 1 && doubtful) {
        doctor_say(doctor, DOCTOR_VM, DOCTOR_FAIL,
                   "%s has %u ivshmem devices of %llu MiB: the driver takes the first one it finds", vm->name,
                   same_size, (unsigned long long)(device->bytes / MIB));
        doctor_fix(doctor,
                   "Give the one for the sound a size of its own, for instance %llu MiB, delete the file while "
                   "the VM is off, and in Windows:",
                   (unsigned long long)(device->bytes / MIB * 2));
        doctor_fix(doctor,
                   "REG ADD HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /t REG_DWORD /d "
                   "%llu /f",
                   (unsigned long long)(device->bytes / MIB * 2));
    } else {
        doctor_say(doctor, DOCTOR_VM, DOCTOR_OK, "%s runs and has %llu MiB of shared memory in %.100s", vm->name,
                   (unsigned long long)(device->bytes / MIB), device->path);
    }
}

void doctor_check_vm(struct doctor *doctor, const struct options *options, const struct doctor_ring *ring)
{
    const struct doctor_ivshmem *device;
    const struct doctor_vm *vm = doctor_vm_with(doctor, options->shm_path, &device);
    doctor->vm_fails = false;
    if (vm) {
        check_device(doctor, vm, device, ring);
    } else if (ring->state == RING_PLAYING) {
        doctor_say(doctor, DOCTOR_VM, DOCTOR_OK, "Something that is no QEMU of this computer plays into %.100s",
                   options->shm_path);
    } else if (!doctor->sees_processes) {
        doctor_say(doctor, DOCTOR_VM, DOCTOR_SKIP, "Other people's processes are hidden: no telling which VM runs");
        doctor_root_would(doctor, "which VMs run");
    } else if (doctor->vm_count == 0) {
        doctor_say(doctor, DOCTOR_VM, missing(doctor), "No VM is running (no QEMU was found)");
        doctor_fix(doctor, "virsh -c qemu:///system list --all    # names them");
        doctor_fix(doctor, "virsh -c qemu:///system start NAME");
    } else {
        say_other_memory(doctor, options->shm_path);
    }
}
