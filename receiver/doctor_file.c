/* SPDX-License-Identifier: MIT */
#include "receiver/root_files.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MIB       ((uint64_t)1 << 20)
#define LINKS_MAX 8
#define REG_ADD   "REG ADD HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /t REG_DWORD"

/* The file, and what is known of the VM that has it. */
struct subject {
    const char *path;
    const struct doctor_ring *ring;
    const struct doctor_vm *vm; /* or NULL */
    const struct doctor_ivshmem *device;
    struct stat st; /* .st_nlink 0: cannot be looked at */
};

static const char *owner_name(uid_t uid, char out[32])
{
    const struct passwd *user = getpwuid(uid);
    if (user)
        snprintf(out, 32, "%.31s", user->pw_name);
    else
        snprintf(out, 32, "%u", (unsigned)uid);
    return out;
}

static const char *group_name(gid_t gid, char out[32])
{
    const struct group *group = getgrgid(gid);
    if (group)
        snprintf(out, 32, "%.31s", group->gr_name);
    else
        snprintf(out, 32, "%u", (unsigned)gid);
    return out;
}

/* The directory that keeps us from reaching `path`, links followed; that of the file where it is not to be told. */
static void find_closed(const char *path, unsigned links, char closed[DOCTOR_PATH_MAX])
{
    char target[DOCTOR_PATH_MAX], onward[2 * DOCTOR_PATH_MAX];
    struct stat st;
    size_t length = 0;
    do {
        size_t before = length;
        length += strspn(path + length, "/");
        length += strcspn(path + length, "/");
        snprintf(closed, DOCTOR_PATH_MAX, "%.*s", (int)length, path);
        bool failed = stat(closed, &st) < 0 && errno == EACCES;
        ssize_t bytes = failed ? readlink(closed, target, sizeof target - 1) : 0;
        snprintf(closed, DOCTOR_PATH_MAX, "%.*s", before ? (int)before : 1, before || *path == '/' ? path : ".");
        if (bytes > 0 && links > 0) {
            target[bytes] = 0;
            bool absolute = *target == '/';
            snprintf(onward, sizeof onward, "%s%s%s%s", absolute ? "" : closed, absolute ? "" : "/", target,
                     path + length);
            find_closed(onward, links - 1, closed);
        }
        if (failed)
            return;
    } while (path[length]);
}

/* Readable today, and after the next start of the VM. */
static void fix_permission(struct doctor *doctor, const struct subject *s)
{
    const char *user = doctor->env->user;
    struct doctor_quoted path = doctor_quote(s->path);
    if (S_ISCHR(s->st.st_mode)) {
        const char *slash = strrchr(s->path, '/');
        doctor_fix(doctor, "now:           sudo setfacl -m u:%s:rw %s", user, path.text);
        doctor_fix(doctor,
                   "for good:      echo 'KERNEL==\"%.40s\", OWNER=\"%s\", GROUP=\"kvm\", MODE=\"0660\"' | sudo tee "
                   "/etc/udev/rules.d/99-earshot.rules",
                   slash ? slash + 1 : s->path, user);
        return;
    }
    struct root_lines lines;
    root_files_own_memory(&lines, doctor->env, s->vm, s->path);
    doctor_fix(doctor, "now:           sudo setfacl -m u:%s:r %s", user, path.text);
    for (unsigned i = 0; i < lines.count; i++)
        doctor_fix(doctor, "%s%s", i == 0 ? "for good:      " : "and then:      ", lines.lines[i]);
}

static void say_failed(struct doctor *doctor, const struct subject *s)
{
    char owner[32], group[32], closed[DOCTOR_PATH_MAX];
    switch (s->ring->error) {
    case -ENOENT:
    case -ENOTDIR:
        if (s->vm) {
            doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL,
                       "%.100s was deleted while %s runs: it plays where nobody hears", s->path, s->vm->name);
            doctor_fix(doctor, "Shut the VM down, and start it again.");
        } else if (doctor->vm_fails) {
            doctor_say(doctor, DOCTOR_FILE, DOCTOR_SKIP, "%.100s is not there yet: it comes with the VM", s->path);
        } else {
            doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s is not there", s->path);
            doctor_fix(doctor, "ls -l /dev/shm    # is it called something else?");
        }
        break;
    case -EACCES:
    case -EPERM:
        if (!s->st.st_nlink) {
            find_closed(s->path, LINKS_MAX, closed);
            doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%s may not enter %.100s, on the way to %.100s",
                       doctor->env->user, closed, s->path);
            doctor_fix(doctor, "sudo setfacl -m u:%s:x %s", doctor->env->user, doctor_quote(closed).text);
            break;
        }
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%s may not read %.100s: it belongs to %s:%s, mode %04o",
                   doctor->env->user, s->path, owner_name(s->st.st_uid, owner), group_name(s->st.st_gid, group),
                   s->st.st_mode & 07777u);
        fix_permission(doctor, s);
        break;
    case -EMEDIUMTYPE:
    case -ENXIO: /* a socket */
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s is %s, not shared memory", s->path,
                   S_ISDIR(s->st.st_mode) ? "a directory" : "neither a file nor a memory device");
        doctor_fix(doctor, "earshot -m takes the file that QEMU's mem-path names, often below /dev/shm.");
        break;
    default:
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s cannot be read: %s", s->path, strerror(-s->ring->error));
    }
}

/* What the guest has to be told: its driver looks for a device of exactly so many MiB. */
static void say_never_written(struct doctor *doctor, const struct subject *s)
{
    unsigned long long mib = (s->vm && s->device->bytes ? s->device->bytes : s->ring->bytes) / MIB;
    doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL,
               "%.100s is all zero: nothing has played in the guest yet, or its driver cannot use the memory",
               s->path);
    doctor_fix(doctor,
               "Choose Scream as the output in Windows and play something. If that changes nothing, in Windows:");
    doctor_fix(doctor, "1. " REG_ADD " /d %llu /f", mib);
    doctor_fix(doctor,
               "   (%llu is the memory's size in MiB: another number and the driver does not look here), reboot;",
               mib);
    doctor_fix(doctor,
               "2. Device Manager, 'PCI standard RAM Controller': install the IVSHMEM driver of virtio-win, build");
    doctor_fix(doctor, "   0.1-161 or older: newer ones refuse to map the memory for Scream.");
}

static void say_still(struct doctor *doctor, const struct subject *s)
{
    if (!s->vm && doctor->sees_processes) {
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_SKIP, "%.100s holds the sound of a VM that has ended", s->path);
        return;
    }
    doctor_say(doctor, DOCTOR_FILE, DOCTOR_WARN,
               "%.100s: the guest has a stream open (%s) but nothing comes: is it paused, or does the VM hang?",
               s->path, s->ring->format);
    doctor_fix(doctor, "Play something in the guest and look again.");
}

/* Sizes, as far as they can be wrong without QEMU refusing to start. True: said. */
static bool check_size(struct doctor *doctor, const struct subject *s)
{
    uint64_t bytes = s->ring->bytes;
    if (S_ISCHR(s->st.st_mode) || s->ring->state == RING_PLAYING)
        return false;
    if (bytes == 0 && s->vm) {
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s was emptied while %s runs", s->path, s->vm->name);
        doctor_fix(doctor, "Shut the VM down and start it again; leave out what truncates the file (dd, truncate).");
    } else if (bytes == 0) {
        doctor_say(doctor, DOCTOR_FILE, doctor->vm_fails ? DOCTOR_SKIP : DOCTOR_FAIL,
                   "%.100s is empty: it fills when the VM starts", s->path);
    } else if (s->vm && bytes < s->device->bytes) { /* a larger one does no harm */
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s has %.4g MiB, but %s was given %.4g MiB", s->path,
                   (double)bytes / (double)MIB, s->vm->name, (double)s->device->bytes / (double)MIB);
        doctor_fix(doctor, "Shut the VM down, then: sudo rm %s    # QEMU makes it anew, in its size",
                   doctor_quote(s->path).text);
    } else if (bytes < MIB) {
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL,
                   "%.100s has %llu bytes: the driver's registry value counts whole MiB, 1 is the least", s->path,
                   (unsigned long long)bytes);
        doctor_fix(doctor,
                   "Give the device 2 MiB (libvirt: <size unit='M'>2</size>; QEMU: size=2M), and in Windows:");
        doctor_fix(doctor, REG_ADD " /d 2 /f");
    } else {
        return false;
    }
    return true;
}

/* Is what QEMU has mapped still the file of that name? True: no, and said. */
static bool check_replaced(struct doctor *doctor, const struct subject *s)
{
    char path[DOCTOR_PATH_MAX], line[1024];
    bool doubtful = s->vm && s->ring->state != RING_PLAYING;
    FILE *maps = doubtful ? fopen(doctor_path(doctor->env, path, "/proc/%d/maps", (int)s->vm->pid), "re") : NULL;
    if (doubtful && !maps)
        doctor_root_would(doctor, "whether the VM still has the file of that name");
    if (!maps)
        return false;
    bool other = false, same = false;
    while (fgets(line, sizeof line, maps)) {
        unsigned major_number, minor_number;
        unsigned long long inode;
        int name_at = 0;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%*s %*s %*s %x:%x %llu %n", &major_number, &minor_number, &inode, &name_at) < 3 ||
            !name_at || strncmp(line + name_at, s->path, strlen(s->path)) != 0)
            continue;
        const char *rest = line + name_at + strlen(s->path);
        if (inode == s->ring->inode && makedev(major_number, minor_number) == s->ring->device)
            same = true;
        else if (!*rest || !strcmp(rest, " (deleted)"))
            other = true;
    }
    fclose(maps);
    if (same || !other)
        return false;
    doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s is another file than the one %s has: somebody replaced it",
               s->path, s->vm->name);
    doctor_fix(doctor, "Shut the VM down and start it again.");
    return true;
}

void doctor_check_file(struct doctor *doctor, const struct options *options, const struct doctor_ring *ring)
{
    struct subject s = {.path = options->shm_path, .ring = ring};
    s.vm = doctor_vm_with(doctor, s.path, &s.device);
    if (stat(s.path, &s.st) < 0)
        s.st = (struct stat){0};
    if (ring->state == RING_FAILED) {
        say_failed(doctor, &s);
        return;
    }
    if (check_replaced(doctor, &s) || check_size(doctor, &s))
        return;
    doctor_say(doctor, DOCTOR_FILE, DOCTOR_OK, "%.100s can be read and has %.4g MiB", s.path,
               (double)ring->bytes / (double)MIB);
    switch (ring->state) {
    case RING_ALL_ZERO:
    case RING_SHORT:
        if (doctor->vm_fails)
            doctor_say(doctor, DOCTOR_FILE, DOCTOR_SKIP, "%.100s is all zero, as it is before a guest plays", s.path);
        else
            say_never_written(doctor, &s);
        break;
    case RING_CLOSED:
        if (doctor->vm_fails)
            break;
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_WARN, "The guest has played into %.100s before, but plays nothing now",
                   s.path);
        doctor_fix(doctor, "Play something in the guest and look again.");
        break;
    case RING_FOREIGN:
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "%.100s holds something else than Scream's sound", s.path);
        doctor_fix(doctor,
                   "It may be another program's memory (Looking Glass?). Which memory the sound's is, the VM's");
        doctor_fix(doctor, "XML says: virsh -c qemu:///system dumpxml NAME | grep -A3 '<shmem'");
        break;
    case RING_BAD_HEADER:
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_FAIL, "The ring in %.100s makes no sense: %s", s.path, ring->reason);
        doctor_fix(doctor, "Shut the VM down, then: sudo rm %s", doctor_quote(s.path).text);
        doctor_fix(doctor, "In Windows: " REG_ADD " /d %llu /f", (unsigned long long)(ring->bytes / MIB));
        break;
    case RING_STILL:
        say_still(doctor, &s);
        break;
    case RING_PLAYING:
        doctor_say(doctor, DOCTOR_FILE, DOCTOR_OK, "The guest plays into it: %s", ring->format);
        break;
    case RING_FAILED:
        break;
    }
}
