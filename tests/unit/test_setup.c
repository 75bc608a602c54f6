/* SPDX-License-Identifier: MIT
 *
 * `earshot setup` on computers that are not here: what it prints on each, and what it writes and leaves alone.
 */
#include "receiver/options.h"
#include "receiver/setup.h"
#include "tests/unit/doctor_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
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

#define PID    7000
#define LIMITS "Limit                     Soft Limit           Hard Limit           Units\n"

struct computer {
    struct rig *rig;
    struct doctor_env env;
    struct rig_command commands[24]; /* the last that fits answers; none: -ENOENT */
    unsigned command_count;
    char calls[4096]; /* what changes something, a line each */
    char config_dir[128], config[160], state_dir[128];
    char *text;
    int status;
};

static void answer(struct computer *c, const char *line, int status, const char *output)
{
    assert_true(c->command_count < sizeof c->commands / sizeof *c->commands);
    c->commands[c->command_count++] = (struct rig_command){line, status, output};
}

static int run_command(void *arg, const char *const *argv, char **output)
{
    struct computer *c = arg;
    char line[512] = "";
    for (; *argv; argv++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", line[0] ? " " : "", *argv);
    if (strncmp(line, "systemctl", 9) == 0 && !strstr(line, "is-enabled"))
        snprintf(c->calls + strlen(c->calls), sizeof c->calls - strlen(c->calls), "%s\n", line);
    if (strncmp(line, "sudo", 4) == 0 || strstr(line, "virsh edit") || strstr(line, "virsh define"))
        fail_msg("it must not: %s", line);
    for (unsigned i = c->command_count; i-- > 0;) {
        if (strncmp(line, c->commands[i].line, strlen(c->commands[i].line)) != 0)
            continue;
        if (c->commands[i].status >= 0)
            *output = strdup(c->commands[i].output);
        return c->commands[i].status;
    }
    return -ENOENT;
}

static int list_interfaces(void *arg, struct doctor_interface *interfaces)
{
    const struct computer *c = arg;
    memcpy(interfaces, c->rig->interfaces, (size_t)c->rig->interface_count * sizeof *interfaces);
    return c->rig->interface_count;
}

static int ask_rtkit(void *arg)
{
    return ((const struct computer *)arg)->rig->rtkit;
}

/* A desktop with libvirt, a systemd user manager that has the unit, and no firewall; no VM runs. */
static int set_up(void **state)
{
    struct computer *c = calloc(1, sizeof *c);
    void *rig = NULL;
    if (!c || rig_setup(&rig) != 0)
        return -1;
    c->rig = rig;
    rig_remove(c->rig, "/proc/4242"); /* the rig's own VM */
    c->env = c->rig->env;
    c->env.arg = c;
    c->env.command = run_command;
    c->env.interfaces = list_interfaces;
    c->env.rtkit = ask_rtkit;
    snprintf(c->config_dir, sizeof c->config_dir, "%s/home/.config/earshot", c->rig->root);
    snprintf(c->config, sizeof c->config, "%s/win10.conf", c->config_dir);
    snprintf(c->state_dir, sizeof c->state_dir, "%s/home/.local/state/earshot", c->rig->root);
    answer(c, "systemctl --user", 0, "");
    answer(c, "systemctl --user is-enabled earshot.service", 1, "disabled\n");
    answer(c, "nft list ruleset", 0, "");
    rig_write(c->rig, "/etc/passwd",
              "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:108:Libvirt Qemu:/var/lib/libvirt:/bin/false\n");
    rig_write(c->rig, "/etc/group", "root:x:0:\nkvm:x:108:\nqemu:x:107:qemu\n");
    rig_write(c->rig, "/proc/self/limits",
              LIMITS "Max realtime priority     95                   95                   \n");
    *state = c;
    return 0;
}

static int tear_down(void **state)
{
    struct computer *c = *state;
    void *rig = c->rig;
    rig_teardown(&rig);
    free(c->text);
    free(c);
    return 0;
}

/* "setup ...", as on the command line. */
static void run(struct computer *c, const char *line)
{
    char words[256], error[OPTABLE_ERROR_MAX], *argv[16] = {(char[]){"earshot"}};
    int argc = 1, rest;
    struct options options;
    enum options_command command;
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word && argc < 15; word = strtok(NULL, " "))
        argv[argc++] = word;
    if (options_parse(&options, &command, argc, argv, &rest, error) != 0 || command != COMMAND_SETUP)
        fail_msg("%s: %s", line, error);
    free(c->text);
    size_t size;
    FILE *out = open_memstream(&c->text, &size);
    assert_non_null(out);
    c->calls[0] = 0;
    struct setup_params params = {.options = &options.setup,
                                  .config_dir = c->config_dir,
                                  .state_dir = c->state_dir,
                                  .out = out,
                                  .env = &c->env};
    c->status = setup_run(&params);
    fclose(out);
}

static void expect(const struct computer *c, const char *part)
{
    if (!strstr(c->text, part))
        fail_msg("wanted: %s\nin:\n%s", part, c->text);
}

static void expect_not(const struct computer *c, const char *part)
{
    if (strstr(c->text, part))
        fail_msg("not wanted: %s\nin:\n%s", part, c->text);
}

/* --- shared memory */

static void test_unknown_vm(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --shm 2M");
    assert_int_equal(c->status, 0);
    expect(c, "by shared memory: /dev/shm/scream-win10, 2 MiB.\n");
    expect(c, "No VM called win10 runs");
    expect(c, "    <shmem name='scream-win10'>\n"
              "      <model type='ivshmem-plain'/>\n"
              "      <size unit='M'>2</size>\n"
              "    </shmem>\n");
    expect(c, "    -object memory-backend-file,id=scream,share=on,mem-path=/dev/shm/scream-win10,size=2M\n"
              "    -device ivshmem-plain,memdev=scream\n");
    expect(c,
           "REG ADD HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /t REG_DWORD /d 2 /f\n");
    expect(c, "PCI standard RAM Controller");
    expect(c, "Is Secure Boot on");
    expect_not(c, "as root"); /* by default QEMU's file is readable, and nothing is to be done */
    assert_string_equal(c->calls, "");
    assert_int_equal(access(c->config, F_OK), -1);
}

/* What is not known may be anybody's: no size that anything has. */
static void test_unknown_vm_avoids_every_size(void **state)
{
    struct computer *c = *state;
    rig_qemu(c->rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nguest=other\n-object\nmemory-backend-file,id=lg,share=on,"
             "mem-path=/dev/shm/lg,size=2M\n-device\nivshmem-plain,memdev=lg");
    char path[256];
    rig_write(c->rig, "/dev/shm/something", "");
    snprintf(path, sizeof path, "%s/dev/shm/something", c->rig->root);
    assert_int_equal(truncate(path, 4 << 20), 0);
    run(c, "setup win10 --shm 2M");
    expect(c, "scream-win10, 8 MiB.\n");
    expect(c, "Not 2 MiB, because that is the size of /dev/shm/lg");
    expect(c, "<size unit='M'>8</size>");
    expect(c, "/v UseIVSHMEM /t REG_DWORD /d 8 /f");
}

#define LOOKING_GLASS                                                                                                \
    "-object\n{\"qom-type\":\"memory-backend-file\",\"id\":\"shmmem-shmem0\",\"mem-path\":\"/dev/shm/"               \
    "looking-glass\","                                                                                               \
    "\"size\":33554432,\"share\":true}\n-device\n{\"driver\":\"ivshmem-plain\",\"id\":\"shmem0\",\"memdev\":"        \
    "\"shmmem-shmem0\",\"bus\":\"pcie.0\",\"addr\":\"0x1e\"}"

/* Run by hand: the arguments alone, with a slot that is free. */
static void test_running_without_libvirt(void **state)
{
    struct computer *c = *state;
    rig_qemu(c->rig, PID,
             "/usr/bin/qemu-system-x86_64\n-machine\nq35,accel=kvm\n-name\nwin10\n-device\nvirtio-net-pci,netdev=n,"
             "bus=pcie.0,addr=1d.0x0\n" LOOKING_GLASS);
    run(c, "setup win10 --shm 32M");
    expect(c, "Not 32 MiB, because that is the size of /dev/shm/looking-glass");
    expect(c, "size=64M\n");
    expect(c, "-device ivshmem-plain,memdev=scream,bus=pcie.0,addr=0x1c\n");
    expect(c, "QEMU's arguments");
    expect_not(c, "<shmem");
    expect_not(c, "No VM called");

    run(c, "setup win10 --shm 2M");
    expect(c, "scream-win10, 2 MiB.\n");
}

/* On i440fx the bus is another, and a device on a bridge behind it takes no slot of it. */
static void test_slot_on_i440fx(void **state)
{
    struct computer *c = *state;
    rig_qemu(c->rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-device\ne1000,bus=pci.1,addr=0x1e\n-device\nVGA,addr=0x2");
    run(c, "setup win10 --shm 2M");
    expect(c, "memdev=scream,bus=pci.0,addr=0x1e\n");
}

static const char domain[] =
    "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
    "  <name>win10</name>\n  <os firmware='efi'>\n    <firmware>\n      <feature enabled='yes' name='secure-boot'/>\n"
    "    </firmware>\n  </os>\n  <devices>\n"
    "    <interface type='network'>\n      <mac address='52:54:00:11:22:33'/>\n      <source network='default'/>\n"
    "      <model type='e1000e'/>\n    </interface>\n"
    "    <shmem name='lg&amp;x'>\n      <model type='ivshmem-plain'/>\n      <size unit='M'>2</size>\n    </shmem>\n"
    "  </devices>\n  <qemu:commandline>\n    <qemu:arg value='-device'/>\n"
    "    <qemu:arg value='{&quot;driver&quot;:&quot;ivshmem-plain&quot;,&quot;memdev&quot;:&quot;kvmfr&quot;}'/>\n"
    "    <qemu:arg value='-object'/>\n    <qemu:arg value='{&quot;qom-type&quot;:&quot;memory-backend-file&quot;,"
    "&quot;id&quot;:&quot;kvmfr&quot;,&quot;mem-path&quot;:&quot;/dev/kvmfr0&quot;,&quot;size&quot;:4194304,"
    "&quot;share&quot;:true}'/>\n  </qemu:commandline>\n</domain>\n";

/* Off, but libvirt knows what it has: as <shmem>, and as arguments for QEMU. */
static void test_defined_in_libvirt(void **state)
{
    struct computer *c = *state;
    answer(c, "virsh -r -c qemu:///system dumpxml --inactive win10", 0, domain);
    run(c, "setup win10 --shm 2M");
    expect(c, "scream-win10, 8 MiB.\n");
    expect(c, "Not 2 MiB, because that is the size of /dev/shm/lg&x,");
    expect(c, "sudo virsh edit win10, among the <devices>");
    expect(c, "libvirt finds a free slot");
    expect_not(c, "-device");
    expect_not(c, "No VM called");
    expect(c, "This VM has firmware with Secure Boot: turn that off.");
    /* Another VM's sizes, and files, do not matter now. */
    rig_qemu(c->rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nguest=other\n-object\nmemory-backend-file,id=lg,"
             "mem-path=/dev/shm/x,size=8M\n-device\nivshmem-plain,memdev=lg");
    run(c, "setup win10 --shm 8M");
    expect(c, "scream-win10, 8 MiB.\n");
}

/* It has what it needs: it is used as it is. */
static void test_device_there_already(void **state)
{
    struct computer *c = *state;
    rig_qemu(c->rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nguest=win10\n-drive\nfile=/var/lib/libvirt/images/a\n" LOOKING_GLASS
             "\n-object\nmemory-backend-file,id=s,share=on,mem-path=/dev/shm/scream-ivshmem,size=4M\n-device\n"
             "ivshmem-plain,memdev=s");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 0);
    expect(c,
           "by shared memory: /dev/shm/scream-ivshmem, 4 MiB.\nNot 2 MiB, because the VM has this device already.");
    expect(c, "win10 has the device already: nothing to do there.");
    expect_not(c, "<shmem");
    expect(c, "/d 4 /f");
    FILE *file = fopen(c->config, "r");
    char text[1024] = "";
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "\nshm = /dev/shm/scream-ivshmem\n"));
}

/* Anybody may run something that looks like a QEMU; what it says must not get into a command for root. */
static void test_hostile_arguments(void **state)
{
    struct computer *c = *state;
    rig_qemu(
        c->rig, PID,
        "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-object\nmemory-backend-file,id=s,mem-path=/dev/shm/scream'; "
        "reboot #,size=4M\n-device\nivshmem-plain,memdev=s\n-object\nmemory-backend-file,id=t,mem-path=/dev/shm/"
        "../scream,size=2M\n-device\nivshmem-plain,memdev=t");
    run(c, "setup win10 --shm 2M --tmpfiles");
    expect_not(c, "reboot #");
    expect_not(c, "..");
    expect(c, "echo 'f /dev/shm/scream-win10 0660 anna ");
}

static void test_stale_file(void **state)
{
    struct computer *c = *state;
    char path[256];
    rig_write(c->rig, "/dev/shm/scream-win10", "");
    run(c, "setup win10 --shm 2M");
    expect_not(c, "sudo rm"); /* empty: QEMU sizes it */
    snprintf(path, sizeof path, "%s/dev/shm/scream-win10", c->rig->root);
    assert_int_equal(truncate(path, 4 << 20), 0);
    run(c, "setup win10 --shm 2M");
    expect(c, "is there in another size (4 MiB)");
    expect(c, "    sudo rm /dev/shm/scream-win10    # while the VM is off\n");
    run(c, "setup win10 --shm 4M");
    expect_not(c, "sudo rm");
}

static void test_names(void **state)
{
    struct computer *c = *state;
    answer(c, "virsh -r -c qemu:///system dumpxml --inactive it's", 0, domain);
    run(c, "setup it's --shm 16M");
    expect(c, "/dev/shm/scream-it_s");
    expect(c, "earshot setup 'it'\\''s' --shm 16M --install");
    expect(c, "sudo virsh edit 'it'\\''s'");
}

static void test_tmpfiles(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --shm 2M --tmpfiles");
    expect(c, "This computer, as root:\n\n"
              "    echo 'f /dev/shm/scream-win10 0660 anna kvm -' | sudo tee "
              "/etc/tmpfiles.d/earshot-scream-win10.conf\n"
              "    sudo systemd-tmpfiles --create /etc/tmpfiles.d/earshot-scream-win10.conf");
    expect_not(c, "semanage");

    /* Fedora: another user, and SELinux. */
    rig_write(c->rig, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nqemu:x:107:107:qemu user:/:/sbin/nologin\n");
    rig_write(c->rig, "/sys/fs/selinux/enforce", "1");
    run(c, "setup win10 --shm 2M --tmpfiles");
    expect(c, "0660 anna qemu -'");
    expect(c, "    sudo semanage fcontext -a -t svirt_tmpfs_t /dev/shm/scream-win10\n"
              "    sudo restorecon -v /dev/shm/scream-win10\n");

    /* No such user anywhere: the usual group. */
    rig_write(c->rig, "/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    run(c, "setup win10 --shm 2M --tmpfiles");
    expect(c, "0660 anna kvm -'");

    /* A running VM's own group is the best answer. */
    rig_qemu(c->rig, PID, "/usr/bin/qemu-system-x86_64\n-name\nguest=win10");
    rig_write(c->rig, "/proc/7000/status", "Name:\tqemu\nUid:\t107\t107\t107\t107\nGid:\t107\t107\t107\t107\n");
    run(c, "setup win10 --shm 2M --tmpfiles");
    expect(c, "0660 anna qemu -'");
}

static void test_limits(void **state)
{
    struct computer *c = *state;
    rig_write(c->rig, "/proc/self/limits",
              LIMITS "Max realtime priority     0                    0                    \n");
    run(c, "setup win10 --shm 2M");
    expect_not(c, "rtprio"); /* rtkit gives it */
    c->rig->rtkit = 0;
    run(c, "setup win10 --shm 2M");
    expect(c, "    printf '%s\\n' 'anna - rtprio 95' 'anna - memlock 262144' | sudo tee "
              "/etc/security/limits.d/95-earshot.conf");
    c->rig->rtkit = -ENOENT;
    run(c, "setup win10 --shm 2M");
    expect(c, "rtprio 95");
    rig_write(c->rig, "/etc/security/limits.d/95-earshot.conf", "");
    run(c, "setup win10 --shm 2M");
    expect_not(c, "rtprio"); /* done, and to come with the next login */
    rig_remove(c->rig, "/etc/security");
    rig_write(c->rig, "/proc/self/limits",
              LIMITS "Max realtime priority     0                    unlimited            \n");
    run(c, "setup win10 --shm 2M");
    expect_not(c, "rtprio"); /* the soft limit is earshot's to raise */
}

/* --- network */

static void test_bridge(void **state)
{
    struct computer *c = *state;
    answer(c, "virsh -r -c qemu:///system dumpxml --inactive win10", 0, domain);
    answer(c, "virsh -r -c qemu:///system net-list --name", 0, "default\n\n");
    answer(c, "virsh -r -c qemu:///system net-list --all --name", 0, "lab\ndefault\n\n");
    answer(c, "virsh -r -c qemu:///system net-dumpxml --inactive lab", 0,
           "<network><bridge name='virbr7'/></network>");
    answer(c, "virsh -r -c qemu:///system net-dumpxml --inactive default", 0,
           "<network>\n  <name>default</name>\n  <bridge name='virbr0' stp='on' delay='0'/>\n</network>\n");
    run(c, "setup win10 --bridge virbr0");
    assert_int_equal(c->status, 0);
    expect(c, "win10 has a network card on virbr0 already, which will do");
    expect(c, "    <interface type='network'>\n      <source network='default'/>\n      <model type='virtio'/>\n"
              "    </interface>\n");
    expect(c, "REG DELETE HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /f\n");
    expect(c, "nftables has no rule that stops UDP port 4010");
    expect_not(c, "as root");

    /* Not started. */
    answer(c, "virsh -r -c qemu:///system net-list --name", 0, "\n");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "    sudo virsh net-autostart default\n    sudo virsh net-start default\n");

    /* A bridge of one's own. */
    rig_write(c->rig, "/sys/class/net/br0/bridge/stp_state", "0\n");
    run(c, "setup win10 --bridge br0");
    expect(c, "    <interface type='bridge'>\n      <source bridge='br0'/>\n      <model type='virtio'/>\n");
    expect_not(c, "which will do");
    expect_not(c, "is no bridge");
}

static void test_bridge_with_virtio(void **state)
{
    struct computer *c = *state;
    answer(c, "virsh -r -c qemu:///system dumpxml --inactive win10", 0,
           "<domain><devices><interface type='bridge'><source bridge='virbr0'/><model type='virtio'/></interface>"
           "</devices></domain>");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "win10 has a virtio network card on virbr0 already: nothing to do there.");
    expect_not(c, "<interface");
}

static void test_bridge_that_is_none(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --bridge br9");
    expect(c, "There is no interface br9 now.");
    rig_write(c->rig, "/sys/class/net/macvtap0/address", "x\n");
    run(c, "setup win10 --bridge macvtap0");
    expect(c, "macvtap0 is no bridge: with macvtap");
}

static void test_bridge_without_libvirt(void **state)
{
    struct computer *c = *state;
    rig_qemu(c->rig, PID, "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-M\nq35");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "    -netdev bridge,id=scream,br=virbr0\n"
              "    -device virtio-net-pci,netdev=scream,bus=pcie.0,addr=0x1e\n");
    expect(c, "    echo 'allow virbr0' | sudo tee -a /etc/qemu/bridge.conf\n");
    rig_write(c->rig, "/etc/qemu/bridge.conf", "allow virbr0\n");
    run(c, "setup win10 --bridge virbr0");
    expect_not(c, "bridge.conf");
}

static void test_firewalls(void **state)
{
    struct computer *c = *state;
    rig_write(c->rig, "/etc/ufw/ufw.conf", "# ufw\nENABLED=yes\n");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "    sudo ufw allow in on virbr0 to any port 4010 proto udp\n");
    rig_remove(c->rig, "/etc/ufw");

    answer(
        c, "nft list ruleset", 0,
        "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "    sudo nft insert rule inet filter input iifname virbr0 udp dport 4010 accept");

    answer(c, "nft list ruleset", 1, "");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "Only root can look at the firewall's rules here");
    expect(c, "UDP port 4010 in by virbr0.");

    /* firewalld. Before the bridge is there it is in no zone; libvirt will put it into its own. */
    answer(c, "firewall-cmd --state", 0, "running\n");
    answer(c, "firewall-cmd --get-zone-of-interface=virbr0", 2, "");
    answer(c, "firewall-cmd --get-default-zone", 0, "public\n");
    answer(c, "firewall-cmd --info-zone=public", 0, "public\n  target: default\n  ports: \n  rich rules: \n");
    answer(c, "firewall-cmd --info-zone=libvirt", 0,
           "libvirt (active)\n  target: ACCEPT\n  ports: \n  rich rules: \n\trule priority=\"32767\" reject\n");
    run(c, "setup win10 --bridge virbr0");
    expect(c, "    sudo firewall-cmd --zone=libvirt --add-port=4010/udp\n"
              "    sudo firewall-cmd --permanent --zone=libvirt --add-port=4010/udp\n");
    run(c, "setup win10 --bridge br0");
    expect(c, "--zone=public --add-port");
    answer(c, "firewall-cmd --info-zone=libvirt", 0, "libvirt (active)\n  target: ACCEPT\n  ports: 4010/udp\n");
    run(c, "setup win10 --bridge virbr0");
    expect_not(c, "add-port");
    expect(c, "firewalld lets UDP port 4010 in (zone libvirt).");
}

static void test_unicast(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --unicast");
    expect(c, "    REG ADD HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UnicastIPv4 /t REG_SZ /d "
              "192.168.122.1 /f\n");
    expect(c, "/v UnicastPort /t REG_DWORD /d 4010 /f\n");
    expect(c, "/v UseIVSHMEM /f\n");
    expect(c, "it has also 192.168.1.5 (enp5s0).");

    /* QEMU's own network: the host has one address there, whatever its interfaces are called, and no firewall. */
    rig_write(c->rig, "/etc/ufw/ufw.conf", "\nENABLED=yes\n");
    rig_qemu(c->rig, PID, "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-netdev\nuser,id=n\n-device\ne1000,netdev=n");
    run(c, "setup win10 --unicast");
    expect(c, "/d 10.0.2.2 /f\n");
    expect_not(c, "it has also");
    expect_not(c, "ufw");

    c->rig->interface_count = 0;
    rig_remove(c->rig, "/proc/7000");
    run(c, "setup win10 --unicast");
    expect(c, "/d ADDRESS-OF-THIS-COMPUTER /f");
    expect(c, "sudo ufw allow 4010/udp");
}

/* --- what it writes */

static char *read_config(struct computer *c)
{
    static char text[4096];
    FILE *file = fopen(c->config, "r");
    if (!file)
        return NULL;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

static void append_to_config(struct computer *c, const char *line)
{
    FILE *file = fopen(c->config, "a");
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
    struct computer *c = *state;
    struct stat st;
    run(c, "setup win10 --shm 2M --dry-run --install");
    expect(c, "--- /dev/null\n+++ ");
    expect(c, "+shm = /dev/shm/scream-win10\n");
    expect(c, "Would run: systemctl --user enable earshot.service\n");
    assert_null(read_config(c));
    assert_string_equal(c->calls, "");

    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 0);
    assert_non_null(strstr(read_config(c), "\nshm = /dev/shm/scream-win10\n"));
    assert_string_equal(c->calls, RELOAD ENABLE START);
    assert_int_equal(stat(c->config, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);

    /* Again: nothing to write; the service is on now. */
    answer(c, "systemctl --user is-enabled earshot.service", 0, "enabled\n");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 0);
    expect(c, "is there already, as it should be.");
    assert_string_equal(c->calls, RELOAD START);

    /* Another way: what setup wrote it may write anew. */
    run(c, "setup win10 --bridge virbr0 --dry-run");
    expect(c, "\n-shm = /dev/shm/scream-win10\n");
    expect(c, "\n+interface = virbr0\n");
    run(c, "setup win10 --bridge virbr0 --install");
    assert_non_null(strstr(read_config(c), "\ninterface = virbr0\n"));
    assert_null(strstr(read_config(c), "shm ="));
    run(c, "setup win10 --unicast --install");
    assert_non_null(strstr(read_config(c), "\nunicast = yes\n"));

    run(c, "setup win10 --remove --dry-run");
    expect(c, "+++ /dev/null\n");
    expect(c, "-unicast = yes\n");
    expect(c, "Would run");
    assert_non_null(read_config(c));

    run(c, "setup win10 --remove");
    assert_int_equal(c->status, 0);
    assert_null(read_config(c));
    assert_string_equal(c->calls, DISABLE);
    assert_int_equal(access(c->config_dir, F_OK), -1);
    assert_int_equal(access(c->state_dir, F_OK), -1);
    expect(c, "REG DELETE");

    run(c, "setup win10 --remove");
    assert_int_equal(c->status, 0);
    expect(c, "win10.conf is not there.");
    assert_string_equal(c->calls, REFRESH);
}

static void test_what_others_changed(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --shm 2M --install");
    append_to_config(c, "latency = 30\n");
    char before[4096];
    strcpy(before, read_config(c));

    run(c, "setup win10 --shm 4M --install"); /* the file's text would be the same but for the line */
    assert_int_equal(c->status, 1);
    expect(c, "was written or changed by somebody else, and is left alone.");
    expect(c, "-latency = 30\n");
    assert_string_equal(read_config(c), before);

    run(c, "setup win10 --remove");
    assert_int_equal(c->status, 1);
    expect(c, "remove it yourself");
    assert_string_equal(read_config(c), before);
    assert_string_equal(c->calls, REFRESH); /* it still has something to play */

    /* The line taken out again, it is setup's as before. */
    before[strlen(before) - strlen("latency = 30\n")] = 0;
    FILE *file = fopen(c->config, "w");
    fputs(before, file);
    fclose(file);
    run(c, "setup win10 --remove");
    assert_int_equal(c->status, 0);
    assert_null(read_config(c));
    assert_string_equal(c->calls, DISABLE);
}

static void test_files_of_others(void **state)
{
    struct computer *c = *state;
    rig_write(c->rig, "/home/.config/earshot/win10.conf", "shm = /dev/shm/mine\n");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    assert_string_equal(read_config(c), "shm = /dev/shm/mine\n");

    /* A link is somebody's arrangement, also to nowhere. */
    unlink(c->config);
    assert_int_equal(symlink("/nonexistent/dotfiles", c->config), 0);
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    run(c, "setup win10 --remove");
    assert_int_equal(c->status, 1);
    struct stat st;
    assert_int_equal(lstat(c->config, &st), 0);
    unlink(c->config);

    /* A directory in its place. */
    assert_int_equal(mkdir(c->config, 0755), 0);
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
}

/* One file alone may want every sender of a network. */
static void test_files_together(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --bridge virbr0 --install");
    assert_int_equal(c->status, 0);
    run(c, "setup win11 --shm 2M --install");
    assert_int_equal(c->status, 0);
    run(c, "setup win12 --bridge virbr0 --install");
    assert_int_equal(c->status, 1);
    expect(c, "Of all files together, the service will say:");
    expect(c, "win12.conf: ");
    expect(c, "A line from = ADDRESS in each of them");
    append_to_config(c, "from = 192.168.122.50\n");
    run(c, "setup win12 --bridge virbr0 --install");
    assert_int_equal(c->status, 0);
    expect_not(c, "will say");
    /* Two names for one memory, and somebody's mistake. */
    rig_write(c->rig, "/home/.config/earshot/other.conf", "latncy = 5\n");
    run(c, "setup win12 --bridge virbr0 --install");
    assert_int_equal(c->status, 1);
    expect(c, "other.conf:1: ");
}

/* The service belongs to all guests: it goes with the last, and only where setup brought it. */
static void test_service_of_several(void **state)
{
    struct computer *c = *state;
    run(c, "setup win10 --shm 2M --install");
    answer(c, "systemctl --user is-enabled earshot.service", 0, "enabled\n");
    run(c, "setup linux --unicast --install");
    assert_string_equal(c->calls, RELOAD START);
    run(c, "setup win10 --remove");
    assert_string_equal(c->calls, REFRESH);
    run(c, "setup linux --remove");
    assert_string_equal(c->calls, DISABLE);

    /* Enabled by hand before: stays. */
    run(c, "setup win10 --shm 2M --install");
    run(c, "setup win10 --remove");
    assert_string_equal(c->calls, REFRESH);
}

static void test_service_that_cannot(void **state)
{
    struct computer *c = *state;
    answer(c, "systemctl --user is-enabled earshot.service", 1, "masked\n");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    expect(c, "systemctl --user unmask earshot.service");
    assert_string_equal(c->calls, RELOAD);

    /* No unit, no user manager, no systemd: no error, the file is what counts. */
    for (unsigned i = 0; i < 3; i++) {
        answer(c, "systemctl --user is-enabled earshot.service", i == 2 ? -ENOENT : 1, i == 0 ? "not-found\n" : "");
        run(c, "setup win10 --shm 2M --install");
        assert_int_equal(c->status, 0);
        expect(c, "There is no user service earshot.service here: start earshot with your desktop");
        assert_string_equal(c->calls, RELOAD);
    }

    answer(c, "systemctl --user is-enabled earshot.service", 1, "disabled\n");
    answer(c, "systemctl --user enable", 1, "");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    expect(c, "The service could not be enabled.");
    answer(c, "systemctl --user enable", 0, "");
    answer(c, "systemctl --user reload-or-restart", 1, "");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    expect(c, "The service did not start.");
    answer(c, "systemctl --user disable", 1, "");
    run(c, "setup win10 --remove");
    assert_int_equal(c->status, 1);
    expect(c, "systemctl --user disable --now earshot.service");
}

static void test_with_sudo(void **state)
{
    struct computer *c = *state;
    c->env.is_root = true; /* and uid is the caller's */
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    expect(c, "Without sudo");
    assert_null(read_config(c));
    assert_string_equal(c->calls, "");
    run(c, "setup win10 --shm 2M"); /* it may look */
    assert_int_equal(c->status, 0);
}

static void test_cannot_write(void **state)
{
    struct computer *c = *state;
    rig_write(c->rig, "/home/.config", "a file");
    run(c, "setup win10 --shm 2M --install");
    assert_int_equal(c->status, 1);
    expect(c, "win10.conf could not be written: Not a directory.");
}

static void test_where(void **state)
{
    struct computer *c = *state;
    struct setup_options options = {.name = "win10", .way = SETUP_UNICAST, .dry_run = true};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct setup_params params = {.options = &options, .out = out, .env = &c->env};
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

/* --- its options */

static void test_options(void **state)
{
    static const struct {
        const char *line, *error; /* NULL: good */
    } cases[] = {
        {"setup win10 --shm 2M",                         NULL                                  },
        {"setup win10 --shm=2",                          NULL                                  },
        {"setup --shm 64MiB win10 --install --dry-run",  NULL                                  },
        {"setup win10 --remove",                         NULL                                  },
        {"setup win10 --shm 4M --shm 2M",                NULL                                  },
        {"setup",                                        "for which VM?"                       },
        {"setup --shm 2M",                               "for which VM?"                       },
        {"setup win10",                                  "which way?"                          },
        {"setup win10 win11 --unicast",                  "one word too many"                   },
        {"setup win10 --shm",                            "--shm"                               },
        {"setup win10 --shm 3M",                         "a power of two in MiB from 1 to 1024"},
        {"setup win10 --shm 0",                          "a power of two"                      },
        {"setup win10 --shm 2048M",                      "a power of two"                      },
        {"setup win10 --shm 2G",                         "a power of two"                      },
        {"setup win10 --shm M",                          "a power of two"                      },
        {"setup win10 --shm 99999999999999999999M",      "a power of two"                      },
        {"setup win10 --bridge virbr0;reboot",           "a bridge's name"                     },
        {"setup win10 --bridge averylongnameforabridge", "a bridge's name"                     },
        {"setup win10 --shm 2M --unicast",               "only one of"                         },
        {"setup win10 --unicast --remove --install",     "not both"                            },
        {"setup win10 --unicast --tmpfiles",             "needs --shm"                         },
        {"setup a/b --unicast",                          "may have up to 64 characters"        },
        {"setup .hidden --unicast",                      "neither . nor - first"               },
        {"setup -- -x --unicast",                        "one word too many"                   },
        {"setup a\tb --unicast",                         "no /"                                },
        {"run --install",                                "--install"                           },
        {"status --bridge virbr0",                       "--bridge"                            },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[256], error[OPTABLE_ERROR_MAX] = "", *argv[16] = {(char[]){"earshot"}};
        int argc = 1, rest;
        struct options options;
        enum options_command command;
        snprintf(words, sizeof words, "%s", cases[i].line);
        for (char *word = strtok(words, " "); word && argc < 15; word = strtok(NULL, " "))
            argv[argc++] = word;
        int r = options_parse(&options, &command, argc, argv, &rest, error);
        if (cases[i].error ? r != -EINVAL || !strstr(error, cases[i].error) : r != 0)
            fail_msg("%s: %d, %s", cases[i].line, r, error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test_setup_teardown(test_unknown_vm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_vm_avoids_every_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_running_without_libvirt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slot_on_i440fx, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defined_in_libvirt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_device_there_already, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_arguments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stale_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tmpfiles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_with_virtio, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_that_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_without_libvirt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_firewalls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unicast, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_install_and_remove, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_others_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service_of_several, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service_that_cannot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_with_sudo, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cannot_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_where, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
