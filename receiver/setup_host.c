/* SPDX-License-Identifier: MIT */
#include "receiver/setup_host.h"

#include "receiver/text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CMDLINE_MAX ((size_t)256 << 10)
#define MIB         ((uint64_t)1 << 20)
#define MIB_MAX     1024
#define SLOT_LAST   0x1e /* 0x1f is Q35's own */
#define SLOT_FIRST  3
#define RTPRIO_MIN  20 /* Earshot asks for 15 */

/* --- libvirt's XML, as libvirt writes it: attributes in single quotes, no comments among what is looked for */

struct span {
    const char *begin, *end;
};

/* The next element of that name in `in`, which then begins behind it. */
static bool next_element(struct span *in, const char *name, struct span *element)
{
    size_t length = strlen(name);
    for (const char *at = in->begin; at && at < in->end; at++) {
        at = memchr(at, '<', (size_t)(in->end - at));
        if (!at || (size_t)(in->end - at) < length + 2)
            return false;
        if (strncmp(at + 1, name, length) != 0 || !strchr(" >/", at[length + 1]))
            continue;
        const char *tag_end = memchr(at, '>', (size_t)(in->end - at));
        if (!tag_end)
            return false;
        char closing[72];
        snprintf(closing, sizeof closing, "</%.60s>", name);
        const char *end = tag_end[-1] == '/' ? tag_end + 1 : strstr(tag_end, closing);
        *element = (struct span){at, end && end <= in->end ? end : in->end};
        in->begin = element->end;
        return true;
    }
    return false;
}

static bool find_element(struct span in, const char *name, struct span *element)
{
    return next_element(&in, name, element);
}

static const char *decode(const char *at, char *c)
{
    static const struct {
        const char *entity;
        char c;
    } entities[] = {
        {"&quot;", '"' },
        {"&apos;", '\''},
        {"&amp;",  '&' },
        {"&lt;",   '<' },
        {"&gt;",   '>' }
    };
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
        size_t length = strlen(entities[i].entity);
        if (strncmp(at, entities[i].entity, length) == 0) {
            *c = entities[i].c;
            return at + length;
        }
    }
    *c = *at;
    return at + 1;
}

/* An attribute of the element's own tag; "" where it has none. The bytes written. */
static size_t attribute(struct span element, const char *name, char *out, size_t size)
{
    char wanted[40];
    snprintf(wanted, sizeof wanted, " %.30s='", name);
    out[0] = 0;
    const char *tag_end = memchr(element.begin, '>', (size_t)(element.end - element.begin));
    const char *at = strstr(element.begin, wanted);
    if (!at || !tag_end || at > tag_end)
        return 0;
    size_t to = 0;
    for (at += strlen(wanted); *at && *at != '\'' && to + 1 < size;)
        at = decode(at, &out[to++]);
    out[to] = 0;
    return to;
}

static struct span whole(const char *xml)
{
    return (struct span){xml, xml + strlen(xml)};
}

/* <shmem> elements, and what <qemu:commandline> adds: that is QEMU's own language. */
static void find_defined(struct setup_host *host)
{
    char *arguments = malloc(CMDLINE_MAX);
    size_t length = 0;
    struct span in = whole(host->xml), element, part;
    if (arguments) {
        length += (size_t)snprintf(arguments, CMDLINE_MAX, "qemu-system-") + 1;
        while (next_element(&in, "qemu:arg", &element) && length + 1 < CMDLINE_MAX)
            length += attribute(element, "value", arguments + length, CMDLINE_MAX - length) + 1;
        doctor_vm_parse(&host->defined, arguments, length);
    }
    free(arguments);
    in = whole(host->xml);
    while (next_element(&in, "shmem", &element) && host->defined.device_count < DOCTOR_DEVICES_MAX) {
        struct doctor_ivshmem *device = &host->defined.devices[host->defined.device_count++];
        char name[200];
        *device = (struct doctor_ivshmem){.shared = true, .bytes = 4 * MIB}; /* libvirt's default */
        attribute(element, "name", name, sizeof name);
        snprintf(device->path, sizeof device->path, "/dev/shm/%s", name);
        if (find_element(element, "size", &part)) {
            const char *number = strchr(part.begin, '>');
            char unit[8];
            attribute(part, "unit", unit, sizeof unit);
            unsigned shift = *unit == 'K' ? 10 : *unit == 'G' ? 30 : *unit == 'M' ? 20 : 0;
            device->bytes = number ? (uint64_t)strtoull(number + 1, NULL, 10) << shift : 0;
        }
    }
}

/* --- looking */

static void read_cmdline(struct setup_host *host)
{
    host->cmdline = malloc(CMDLINE_MAX);
    ssize_t length = host->cmdline
                         ? doctor_read(host->env, host->cmdline, CMDLINE_MAX, "/proc/%d/cmdline", (int)host->vm->pid)
                         : 0;
    if (length <= 0) {
        free(host->cmdline);
        host->cmdline = NULL;
        return;
    }
    host->cmdline_bytes = (size_t)length;
}

/* Read-only, which asks nobody for a password. */
static char *virsh(const struct setup_host *host, const char *command, const char *option, const char *argument)
{
    char *output = NULL;
    const char *argv[] = {"virsh", "-r", "-c", "qemu:///system", command, option, argument, NULL};
    if (host->env->command(host->env->arg, argv, &output) != 0) {
        free(output);
        return NULL;
    }
    return output;
}

static const char *next_argument(const struct setup_host *host, const char *at)
{
    at += strlen(at) + 1;
    return at < host->cmdline + host->cmdline_bytes ? at : NULL;
}

static bool cmdline_has(const struct setup_host *host, const char *part)
{
    for (const char *a = host->cmdline; a; a = next_argument(host, a)) {
        if (strstr(a, part))
            return true;
    }
    return false;
}

int setup_host_look(struct setup_host *host, const struct doctor_env *env, const char *name)
{
    *host = (struct setup_host){.env = env, .name = name, .doctor = {.env = env}};
    host->doctor.vms = calloc(DOCTOR_VMS_MAX, sizeof *host->doctor.vms);
    host->doctor.findings = calloc(DOCTOR_FINDINGS_MAX, sizeof *host->doctor.findings);
    if (!host->doctor.vms || !host->doctor.findings)
        return -ENOMEM;
    doctor_look_at_processes(&host->doctor);
    for (unsigned i = 0; i < host->doctor.vm_count && !host->vm; i++) {
        if (strcmp(host->doctor.vms[i].name, name) == 0)
            host->vm = &host->doctor.vms[i];
    }
    if (host->vm)
        read_cmdline(host);
    host->xml = virsh(host, "dumpxml", "--inactive", name);
    if (host->xml)
        find_defined(host);
    host->libvirt = host->xml || cmdline_has(host, "/libvirt/");
    return 0;
}

void setup_host_free(struct setup_host *host)
{
    free(host->doctor.vms);
    free(host->doctor.findings);
    free(host->cmdline);
    free(host->xml);
}

bool setup_host_has(const struct setup_host *host, const char *path)
{
    char full[DOCTOR_PATH_MAX];
    struct stat st;
    return stat(doctor_path(host->env, full, "%s", path), &st) == 0;
}

/* --- shared memory */

static bool is_for_sound(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return strstr(name, "scream") || strstr(name, "earshot");
}

/* What must not have the same size. Sizes of files count only where it is not known what the VM has. */
struct others {
    uint64_t bytes[256];
    char paths[256][64];
    unsigned count;
};

static void add_other(struct others *others, const char *path, uint64_t bytes)
{
    if (!bytes || is_for_sound(path) || others->count == sizeof others->bytes / sizeof *others->bytes)
        return;
    others->bytes[others->count] = bytes;
    snprintf(others->paths[others->count++], sizeof *others->paths, "%.63s", *path ? path : "another ivshmem device");
    text_clean(others->paths[others->count - 1]);
}

static void add_devices(struct others *others, const struct doctor_vm *vm)
{
    for (unsigned i = 0; i < vm->device_count; i++)
        add_other(others, vm->devices[i].path, vm->devices[i].bytes);
}

static void add_files(struct others *others, const struct setup_host *host)
{
    char path[DOCTOR_PATH_MAX];
    DIR *dir = opendir(doctor_path(host->env, path, "/dev/shm"));
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        struct stat st;
        if (stat(doctor_path(host->env, path, "/dev/shm/%s", entry->d_name), &st) == 0 && S_ISREG(st.st_mode))
            add_other(others, path + strlen(host->env->root), (uint64_t)st.st_size);
    }
    if (dir)
        closedir(dir);
}

static const char *taken(const struct others *others, unsigned mib)
{
    for (unsigned i = 0; i < others->count; i++) {
        if (others->bytes[i] == mib * MIB)
            return others->paths[i];
    }
    return NULL;
}

/* It is to be pasted into root's shell, and anybody may run a process that looks like a QEMU. */
static bool is_plain(const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+/";
    return strncmp(path, "/dev/", 5) == 0 && strspn(path, plain) == strlen(path) && !strstr(path, "/..");
}

/* The VM's own device for sound: the one of that size, or the first. */
static const struct doctor_ivshmem *sound_device(const struct doctor_vm *vm, unsigned mib)
{
    const struct doctor_ivshmem *found = NULL;
    for (unsigned i = 0; vm && i < vm->device_count; i++) {
        const struct doctor_ivshmem *device = &vm->devices[i];
        if (is_for_sound(device->path) && is_plain(device->path) && device->bytes >= MIB &&
            (!found || (found->bytes != mib * MIB && device->bytes == mib * MIB)))
            found = device;
    }
    return found;
}

static void name_file(const struct setup_host *host, char path[DOCTOR_PATH_MAX])
{
    int length = snprintf(path, DOCTOR_PATH_MAX, "/dev/shm/scream-");
    for (const char *c = host->name; *c; c++)
        path[length++] = (char)(isalnum((unsigned char)*c) || strchr("._-+", *c) ? *c : '_');
    path[length] = 0;
}

void setup_host_memory(const struct setup_host *host, unsigned mib, struct setup_memory *memory)
{
    struct others others = {.count = 0};
    *memory = (struct setup_memory){.mib = mib};
    bool known = host->vm || host->xml;
    add_devices(&others, &host->defined);
    if (host->vm)
        add_devices(&others, host->vm);
    for (unsigned i = 0; !known && i < host->doctor.vm_count; i++)
        add_devices(&others, &host->doctor.vms[i]);
    if (!known)
        add_files(&others, host);

    const struct doctor_ivshmem *own = sound_device(host->xml ? &host->defined : host->vm, mib);
    if (!own)
        own = sound_device(host->vm, mib);
    if (own) {
        snprintf(memory->path, sizeof memory->path, "%s", own->path);
        mib = memory->mib = (unsigned)(own->bytes / MIB);
    } else {
        name_file(host, memory->path);
    }
    const char *other = taken(&others, mib);
    if (other)
        snprintf(memory->other, sizeof memory->other, "%s", other);
    while (taken(&others, memory->mib) && memory->mib < MIB_MAX)
        memory->mib *= 2;
    memory->present = own && !other;

    char path[DOCTOR_PATH_MAX];
    struct stat st;
    if (!memory->present && stat(doctor_path(host->env, path, "%s", memory->path), &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_size && (uint64_t)st.st_size != memory->mib * MIB)
        memory->stale_bytes = (uint64_t)st.st_size;
}

bool setup_host_slot(const struct setup_host *host, char bus[16], unsigned *slot)
{
    bool q35 = false, used[32] = {false};
    for (const char *a = host->cmdline; a; a = next_argument(host, a)) {
        const char *value = next_argument(host, a);
        if (value && (!strcmp(a, "-machine") || !strcmp(a, "-M")) && strstr(value, "q35"))
            q35 = true;
    }
    strcpy(bus, q35 ? "pcie.0" : "pci.0");
    for (const char *a = host->cmdline; a; a = next_argument(host, a)) {
        const char *value = !strcmp(a, "-device") ? next_argument(host, a) : NULL;
        char text[32];
        if (!value || (doctor_qemu_value(value, "driver", "bus", text, sizeof text) && strcmp(text, bus) != 0) ||
            !doctor_qemu_value(value, "driver", "addr", text, sizeof text))
            continue;
        unsigned long number = strtoul(text, NULL, 16);
        if (number < sizeof used)
            used[number] = true;
    }
    /* From the end: QEMU gives the devices that name no slot the first ones. */
    for (*slot = SLOT_LAST; *slot >= SLOT_FIRST && used[*slot]; --*slot)
        ;
    return host->cmdline && !host->libvirt && *slot >= SLOT_FIRST;
}

/* --- limits */

bool setup_host_limits_low(const struct setup_host *host)
{
    static const char key[] = "Max realtime priority";
    char text[4096], hard[32];
    if ((host->env->is_root && host->env->uid == 0) ||
        doctor_read(host->env, text, sizeof text, "/proc/self/limits") < 0)
        return false;
    const char *line = strstr(text, key);
    if (!line || sscanf(line + sizeof key - 1, "%*s %31s", hard) != 1 || strcmp(hard, "unlimited") == 0 ||
        strtol(hard, NULL, 10) >= RTPRIO_MIN)
        return false;
    return host->env->rtkit(host->env->arg) != 1;
}

/* --- networks */

bool setup_host_network(const struct setup_host *host, const char *bridge, char network[64], bool *active)
{
    char *names = virsh(host, "net-list", "--all", "--name"), *rest = NULL;
    bool found = false;
    for (char *name = names ? strtok_r(names, "\n", &rest) : NULL; name && !found;
         name = strtok_r(NULL, "\n", &rest)) {
        name += strspn(name, " ");
        name[strcspn(name, " ")] = 0;
        char *xml = *name ? virsh(host, "net-dumpxml", "--inactive", name) : NULL, is[32];
        struct span element;
        found = xml && find_element(whole(xml), "bridge", &element) && attribute(element, "name", is, sizeof is) &&
                strcmp(is, bridge) == 0;
        if (found)
            snprintf(network, 64, "%s", name);
        free(xml);
    }
    free(names);
    if (found) {
        char *running = virsh(host, "net-list", "--name", NULL);
        *active = false;
        rest = NULL;
        for (char *name = running ? strtok_r(running, " \n", &rest) : NULL; name; name = strtok_r(NULL, " \n", &rest))
            *active = *active || strcmp(name, network) == 0;
        free(running);
    }
    return found;
}

bool setup_host_has_nic(const struct setup_host *host, const char *bridge, const char *network, const char *model)
{
    if (!host->xml)
        return false;
    struct span in = whole(host->xml), nic, part;
    while (next_element(&in, "interface", &nic)) {
        char on[64] = "", of[64] = "", is[32] = "";
        if (find_element(nic, "source", &part)) {
            attribute(part, "bridge", on, sizeof on);
            attribute(part, "network", of, sizeof of);
        }
        if (find_element(nic, "model", &part))
            attribute(part, "type", is, sizeof is);
        if ((strcmp(on, bridge) == 0 || (*network && strcmp(of, network) == 0)) && (!model || !strcmp(is, model)))
            return true;
    }
    return false;
}

bool setup_host_user_network(const struct setup_host *host)
{
    struct span in, nic;
    for (const char *a = host->cmdline; a; a = next_argument(host, a)) {
        const char *value = next_argument(host, a);
        char type[16];
        if (value && (!strcmp(a, "-netdev") || !strcmp(a, "-nic")) &&
            doctor_qemu_value(value, "type", "type", type, sizeof type) && !strcmp(type, "user"))
            return true;
    }
    in = host->xml ? whole(host->xml) : (struct span){"", ""};
    while (next_element(&in, "interface", &nic)) {
        char type[16];
        if (attribute(nic, "type", type, sizeof type) && !strcmp(type, "user"))
            return true;
    }
    return false;
}

bool setup_host_secure_boot(const struct setup_host *host)
{
    static const char *const marks[] = {"secboot", ".ms.fd", "secure='yes'", "enabled='yes' name='secure-boot'"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (cmdline_has(host, marks[i]) || (host->xml && strstr(host->xml, marks[i])))
            return true;
    }
    return false;
}
