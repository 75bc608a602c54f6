/* SPDX-License-Identifier: MIT */
#include "receiver/setup_guide.h"

#include "receiver/root_files.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MIB            ((uint64_t)1 << 20)
#define KEY            "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options"
#define POLICY         "HKLM\\SYSTEM\\CurrentControlSet\\Control\\CI\\Policy"
#define USER_NET_HOST  "10.0.2.2" /* https://www.qemu.org/docs/master/system/devices/net.html */
#define BRIDGE_HELPER  "/etc/qemu/bridge.conf"
#define SCREAM_RELEASE "https://github.com/duncanthrax/scream/releases"

void setup_guide_step(struct setup_guide *guide, const char *format, ...)
{
    va_list args;
    fprintf(guide->out, "\n%u. ", ++guide->step);
    va_start(args, format);
    vfprintf(guide->out, format, args);
    va_end(args);
    fputs(":\n\n", guide->out);
}

__attribute__((format(printf, 2, 3))) static void line(const struct setup_guide *guide, const char *format, ...)
{
    va_list args;
    fputs("    ", guide->out);
    va_start(args, format);
    vfprintf(guide->out, format, args);
    va_end(args);
    fputc('\n', guide->out);
}

__attribute__((format(printf, 2, 3))) static void note(const struct setup_guide *guide, const char *format, ...)
{
    va_list args;
    fputc('\n', guide->out);
    va_start(args, format);
    vfprintf(guide->out, format, args);
    va_end(args);
    fputc('\n', guide->out);
}

void setup_guide_memory(struct setup_guide *guide)
{
    const struct setup_memory *memory = &guide->memory;
    FILE *out = guide->out;
    fprintf(out, "%s's sound comes by shared memory: %s, %u MiB.\n", guide->options->name, memory->path, memory->mib);
    if (memory->other[0])
        fprintf(
            out,
            "Not %u MiB, because that is the size of %s, and the driver in the guest takes the first device of the\n"
            "size that it is told.\n",
            guide->options->mib, memory->other);
    else if (memory->mib != guide->options->mib)
        fprintf(out, "Not %u MiB, because the VM has this device already.\n", guide->options->mib);
    if (!guide->host->vm && !guide->host->xml)
        fprintf(out, "No VM called %s runs, and libvirt knows none: what it has besides could not be looked at.\n",
                guide->options->name);
}

/* --- as root */

static void print_lines(const struct root_lines *lines, FILE *root)
{
    for (unsigned i = 0; i < lines->count; i++)
        fprintf(root, "%s\n", lines->lines[i]);
}

/* What the doctor would say of the firewall, as far as it is a command. */
static void root_firewall(const struct setup_guide *guide, const char *interface, FILE *root)
{
    struct doctor *doctor = &guide->host->doctor;
    doctor->finding_count = 0;
    doctor_check_firewall(doctor, interface, SCREAM_UDP_PORT, false);
    for (unsigned i = 0; i < doctor->finding_count; i++) {
        const struct doctor_finding *finding = &doctor->findings[i];
        if (finding->verdict == DOCTOR_OK)
            note(guide, "%s.", finding->text);
        else
            fprintf(root, "%s%s", finding->fix, finding->fix[0] ? "\n" : "");
    }
    if (!doctor->finding_count && doctor->root_would[0])
        note(guide,
             "Only root can look at the firewall's rules here: if there are any, they have to let UDP port %d in"
             "%s%s.",
             SCREAM_UDP_PORT, *interface ? " by " : "", interface);
}

static void root_bridge(const struct setup_guide *guide, FILE *root)
{
    const struct setup_host *host = guide->host;
    const char *bridge = guide->options->bridge;
    char path[DOCTOR_PATH_MAX], network[64] = "", text[4096];
    bool active = false;
    snprintf(path, sizeof path, "/sys/class/net/%s", bridge);
    bool exists = setup_host_has(host, path);
    snprintf(path, sizeof path, "/sys/class/net/%s/bridge", bridge);
    if (setup_host_network(host, bridge, network, &active) && !active) {
        struct doctor_quoted quoted = doctor_quote(network);
        fprintf(root, "sudo virsh net-autostart %s\n", quoted.text);
        fprintf(root, "sudo virsh net-start %s\n", quoted.text);
    } else if (!exists) {
        note(guide, "There is no interface %s now. Earshot waits until there is.", bridge);
    } else if (!setup_host_has(host, path)) {
        note(guide,
             "%s is no bridge: with macvtap or a passed-through card this computer does not hear the VM's packets.\n"
             "A second network card on a bridge, virbr0 for instance, is the cure.",
             bridge);
    }
    root_firewall(guide, bridge, root);
    if (host->vm && !host->libvirt &&
        (doctor_read(host->env, text, sizeof text, BRIDGE_HELPER) < 0 ||
         (!strstr(text, bridge) && !strstr(text, "allow all"))))
        fprintf(root, "echo 'allow %s' | sudo tee -a " BRIDGE_HELPER "\n", bridge);
}

void setup_guide_root(struct setup_guide *guide)
{
    char *text = NULL;
    size_t size = 0;
    struct root_lines lines = {.count = 0};
    FILE *root = open_memstream(&text, &size);
    if (!root)
        return;
    switch (guide->options->way) {
    case SETUP_SHM:
        if (guide->memory.stale_bytes) {
            note(guide, "%s is there in another size (%.4g MiB): QEMU would refuse to start.", guide->memory.path,
                 (double)guide->memory.stale_bytes / (double)MIB);
            fprintf(root, "sudo rm %s    # while the VM is off\n", guide->memory.path);
        }
        if (guide->options->tmpfiles)
            root_files_own_memory(&lines, guide->host->env, guide->host->vm, guide->memory.path);
        print_lines(&lines, root);
        break;
    case SETUP_BRIDGE:
        root_bridge(guide, root);
        break;
    case SETUP_UNICAST:
        if (!setup_host_user_network(guide->host))
            root_firewall(guide, "", root);
        break;
    case SETUP_NONE:
        break;
    }
    if (setup_host_limits_low(guide->host) && !setup_host_has(guide->host, ROOT_FILES_LIMITS)) {
        root_files_limits(&lines, guide->host->env);
        print_lines(&lines, root);
    }
    fclose(root);
    if (text && *text) {
        setup_guide_step(guide, "This computer, as root");
        char *rest = NULL;
        for (const char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest))
            line(guide, "%s", l);
    }
    free(text);
}

/* --- the VM */

static void step_vm(struct setup_guide *guide)
{
    if (guide->host->libvirt || !guide->host->vm)
        setup_guide_step(guide,
                         "The VM: sudo virsh edit %s, among the <devices>; then shut it down and start it anew",
                         doctor_quote(guide->options->name).text);
    else
        setup_guide_step(guide, "The VM: QEMU's arguments, then shut it down and start it anew");
}

static bool wants_xml(const struct setup_guide *guide)
{
    return guide->host->libvirt || !guide->host->vm;
}

/* Of a VM that nobody has heard of both are said. */
static bool wants_arguments(const struct setup_guide *guide)
{
    return !guide->host->libvirt;
}

/* ",bus=pcie.0,addr=0x1e", or nothing where QEMU is to choose. */
static const char *slot_text(const struct setup_guide *guide, char out[40])
{
    char bus[16];
    unsigned slot;
    out[0] = 0;
    if (setup_host_slot(guide->host, bus, &slot))
        snprintf(out, 40, ",bus=%s,addr=0x%x", bus, slot);
    return out;
}

static void between(const struct setup_guide *guide)
{
    if (wants_xml(guide) && wants_arguments(guide))
        fputs("\n   or, for QEMU without libvirt, its arguments:\n\n", guide->out);
}

static void vm_memory(struct setup_guide *guide)
{
    const struct setup_memory *memory = &guide->memory;
    char slot[40];
    if (memory->present) {
        note(guide, "%s has the device already: nothing to do there.", guide->options->name);
        return;
    }
    step_vm(guide);
    if (wants_xml(guide)) {
        line(guide, "<shmem name='%s'>", strrchr(memory->path, '/') + 1);
        line(guide, "  <model type='ivshmem-plain'/>");
        line(guide, "  <size unit='M'>%u</size>", memory->mib);
        line(guide, "</shmem>");
        fputs("\n   No <address>: libvirt finds a free slot.\n", guide->out);
    }
    between(guide);
    if (wants_arguments(guide)) {
        line(guide, "-object memory-backend-file,id=scream,share=on,mem-path=%s,size=%uM", memory->path, memory->mib);
        line(guide, "-device ivshmem-plain,memdev=scream%s", slot_text(guide, slot));
    }
}

static void vm_nic(struct setup_guide *guide)
{
    const char *bridge = guide->options->bridge;
    char network[64] = "", slot[40];
    bool active;
    bool has_network = setup_host_network(guide->host, bridge, network, &active);
    if (setup_host_has_nic(guide->host, bridge, network, "virtio")) {
        note(guide, "%s has a virtio network card on %s already: nothing to do there.", guide->options->name, bridge);
        return;
    }
    if (setup_host_has_nic(guide->host, bridge, network, NULL))
        note(guide, "%s has a network card on %s already, which will do; a virtio one takes the VM less time.",
             guide->options->name, bridge);
    step_vm(guide);
    if (wants_xml(guide)) {
        line(guide, "<interface type='%s'>", has_network ? "network" : "bridge");
        line(guide, "  <source %s='%s'/>", has_network ? "network" : "bridge", has_network ? network : bridge);
        line(guide, "  <model type='virtio'/>");
        line(guide, "</interface>");
    }
    between(guide);
    if (wants_arguments(guide)) {
        line(guide, "-netdev bridge,id=scream,br=%s", bridge);
        line(guide, "-device virtio-net-pci,netdev=scream%s", slot_text(guide, slot));
    }
}

void setup_guide_vm(struct setup_guide *guide)
{
    if (guide->options->way == SETUP_SHM)
        vm_memory(guide);
    else if (guide->options->way == SETUP_BRIDGE)
        vm_nic(guide);
}

/* --- in the guest */

/* Bridges first: most VMs are behind one. */
static void windows_unicast(const struct setup_guide *guide)
{
    struct doctor_interface interfaces[DOCTOR_INTERFACES_MAX];
    const struct setup_host *host = guide->host;
    char address[INET_ADDRSTRLEN] = "", others[256] = "", path[DOCTOR_PATH_MAX];
    int count = host->env->interfaces(host->env->arg, interfaces);
    if (setup_host_user_network(host)) {
        strcpy(address, USER_NET_HOST);
        count = 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < count; i++) {
            char text[INET_ADDRSTRLEN];
            snprintf(path, sizeof path, "/sys/class/net/%.15s/bridge", interfaces[i].name);
            if (interfaces[i].flags & IFF_LOOPBACK || !interfaces[i].address ||
                setup_host_has(host, path) != (pass == 0))
                continue;
            inet_ntop(AF_INET, &interfaces[i].address, text, sizeof text);
            size_t used = strlen(others);
            if (!*address)
                strcpy(address, text);
            else
                snprintf(others + used, sizeof others - used, "%s%s (%.15s)", used ? ", " : "", text,
                         interfaces[i].name);
        }
    }
    line(guide, "REG ADD " KEY " /v UnicastIPv4 /t REG_SZ /d %s /f", *address ? address : "ADDRESS-OF-THIS-COMPUTER");
    line(guide, "REG ADD " KEY " /v UnicastPort /t REG_DWORD /d %d /f", SCREAM_UDP_PORT);
    line(guide, "REG DELETE " KEY " /v UseIVSHMEM /f");
    if (*others)
        fprintf(guide->out, "\n   The address is the one by which the VM reaches this computer; it has also %s.\n",
                others);
}

void setup_guide_windows(struct setup_guide *guide)
{
    FILE *out = guide->out;
    setup_guide_step(guide, "Windows, in the VM, in a command prompt as administrator");
    switch (guide->options->way) {
    case SETUP_SHM:
        line(guide, "REG ADD " KEY " /v UseIVSHMEM /t REG_DWORD /d %u /f", guide->memory.mib);
        fprintf(out,
                "\n   (%u is the memory's size in MiB.) In Device Manager, give \"PCI standard RAM Controller\" the "
                "IVSHMEM\n"
                "   driver of the virtio-win disk, build 0.1-161 or older: newer ones refuse to map the memory for "
                "Scream.\n",
                guide->memory.mib);
        break;
    case SETUP_BRIDGE:
        line(guide, "REG DELETE " KEY " /v UseIVSHMEM /f");
        line(guide, "REG DELETE " KEY " /v UnicastIPv4 /f");
        fputs("\n   \"Unable to find\" is as good. The virtio card wants the NetKVM driver of the virtio-win disk.\n",
              out);
        break;
    case SETUP_UNICAST:
        windows_unicast(guide);
        break;
    case SETUP_NONE:
        break;
    }
    fprintf(out,
            "\n   The driver itself: " SCREAM_RELEASE "\n"
            "   %s Windows refuses it while Secure Boot is on; or, in\n"
            "   Windows 10, REG ADD " POLICY " /v UpgradedSystem /t REG_DWORD /d 1 /f\n"
            "   A driver you built yourself also wants bcdedit /set testsigning on. Then reboot, and choose Scream "
            "as the\n"
            "   output.\n",
            setup_host_secure_boot(guide->host) ? "This VM has firmware with Secure Boot: turn that off."
                                                : "Is Secure Boot on in the VM's firmware? Turn it off:");
}

void setup_guide_undo(struct setup_guide *guide)
{
    char path[DOCTOR_PATH_MAX];
    root_files_tmpfiles(guide->memory.path, path);
    bool tmpfiles = *path && setup_host_has(guide->host, path),
         limits = setup_host_has(guide->host, ROOT_FILES_LIMITS);
    if (tmpfiles || limits) {
        setup_guide_step(guide, "This computer, as root");
        if (tmpfiles)
            line(guide, "sudo rm %s", doctor_quote(path).text);
        if (limits)
            line(guide, "sudo rm " ROOT_FILES_LIMITS "    # real time, also for other guests");
    }
    setup_guide_step(guide, "The VM and Windows, where you changed them");
    line(guide, "sudo virsh edit %s    # take out the <shmem> or <interface> you put in",
         doctor_quote(guide->options->name).text);
    line(guide, "REG DELETE " KEY " /v UseIVSHMEM /f");
    line(guide, "REG DELETE " KEY " /v UnicastIPv4 /f");
    fputs("\n   What you let in through a firewall stays open, too.\n", guide->out);
}
