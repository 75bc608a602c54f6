/* SPDX-License-Identifier: MIT
 *
 * `earshot setup` on computers that are not here: what it prints on each.
 */
#include "tests/unit/parsed.h"
#include "tests/unit/setup_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PID 7000

/* --- shared memory */

static void test_unknown_vm(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --shm 2M");
    assert_int_equal(rig->status, 0);
    computer_says(rig, "by shared memory: /dev/shm/scream-win10, 2 MiB.\n");
    computer_says(rig, "No VM called win10 runs");
    computer_says(rig, "    <shmem name='scream-win10'>\n"
                       "      <model type='ivshmem-plain'/>\n"
                       "      <size unit='M'>2</size>\n"
                       "    </shmem>\n");
    computer_says(rig, "    -object memory-backend-file,id=scream,share=on,mem-path=/dev/shm/scream-win10,size=2M\n"
                       "    -device ivshmem-plain,memdev=scream\n");
    computer_says(
        rig,
        "REG ADD HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /t REG_DWORD /d 2 /f\n");
    computer_says(rig, "PCI standard RAM Controller");
    computer_says(rig, "Is Secure Boot on");
    computer_says_not(rig, "as root"); /* by default QEMU's file is readable, and nothing is to be done */
    assert_string_equal(rig->calls, "");
    assert_int_equal(access(rig->config, F_OK), -1);
}

/* What is not known may be anybody's: no size that anything has. */
static void test_unknown_vm_avoids_every_size(void **state)
{
    struct rig *rig = *state;
    rig_qemu(rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nguest=other\n-object\nmemory-backend-file,id=lg,share=on,"
             "mem-path=/dev/shm/lg,size=2M\n-device\nivshmem-plain,memdev=lg");
    char path[256];
    rig_write(rig, "/dev/shm/something", "");
    snprintf(path, sizeof path, "%s/dev/shm/something", rig->root);
    assert_int_equal(truncate(path, 4 << 20), 0);
    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "scream-win10, 8 MiB.\n");
    computer_says(rig, "Not 2 MiB, because that is the size of /dev/shm/lg");
    computer_says(rig, "<size unit='M'>8</size>");
    computer_says(rig, "/v UseIVSHMEM /t REG_DWORD /d 8 /f");
}

#define LOOKING_GLASS                                                                                                \
    "-object\n{\"qom-type\":\"memory-backend-file\",\"id\":\"shmmem-shmem0\",\"mem-path\":\"/dev/shm/"               \
    "looking-glass\","                                                                                               \
    "\"size\":33554432,\"share\":true}\n-device\n{\"driver\":\"ivshmem-plain\",\"id\":\"shmem0\",\"memdev\":"        \
    "\"shmmem-shmem0\",\"bus\":\"pcie.0\",\"addr\":\"0x1e\"}"

/* Run by hand: the arguments alone, with a slot that is free. */
static void test_running_without_libvirt(void **state)
{
    struct rig *rig = *state;
    rig_qemu(rig, PID,
             "/usr/bin/qemu-system-x86_64\n-machine\nq35,accel=kvm\n-name\nwin10\n-device\nvirtio-net-pci,netdev=n,"
             "bus=pcie.0,addr=1d.0x0\n" LOOKING_GLASS);
    computer_run(rig, "setup win10 --shm 32M");
    computer_says(rig, "Not 32 MiB, because that is the size of /dev/shm/looking-glass");
    computer_says(rig, "size=64M\n");
    computer_says(rig, "-device ivshmem-plain,memdev=scream,bus=pcie.0,addr=0x1c\n");
    computer_says(rig, "QEMU's arguments");
    computer_says_not(rig, "<shmem");
    computer_says_not(rig, "No VM called");

    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "scream-win10, 2 MiB.\n");
}

/* On i440fx the bus is another, and a device on a bridge behind it takes no slot of it. */
static void test_slot_on_i440fx(void **state)
{
    struct rig *rig = *state;
    rig_qemu(rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-device\ne1000,bus=pci.1,addr=0x1e\n-device\nVGA,addr=0x2");
    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "memdev=scream,bus=pci.0,addr=0x1e\n");
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
    struct rig *rig = *state;
    rig_command(rig, "virsh -r -c qemu:///system dumpxml --inactive win10", 0, domain);
    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "scream-win10, 8 MiB.\n");
    computer_says(rig, "Not 2 MiB, because that is the size of /dev/shm/lg&x,");
    computer_says(rig, "sudo virsh edit win10, among the <devices>");
    computer_says(rig, "libvirt finds a free slot");
    computer_says_not(rig, "-device");
    computer_says_not(rig, "No VM called");
    computer_says(rig, "This VM has firmware with Secure Boot: turn that off.");
    /* Another VM's sizes, and files, do not matter now. */
    rig_qemu(rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nguest=other\n-object\nmemory-backend-file,id=lg,"
             "mem-path=/dev/shm/x,size=8M\n-device\nivshmem-plain,memdev=lg");
    computer_run(rig, "setup win10 --shm 8M");
    computer_says(rig, "scream-win10, 8 MiB.\n");
}

/* It has what it needs: it is used as it is. */
static void test_device_there_already(void **state)
{
    struct rig *rig = *state;
    rig_qemu(rig, PID,
             "/usr/bin/qemu-system-x86_64\n-name\nguest=win10\n-drive\nfile=/var/lib/libvirt/images/a\n" LOOKING_GLASS
             "\n-object\nmemory-backend-file,id=s,share=on,mem-path=/dev/shm/scream-ivshmem,size=4M\n-device\n"
             "ivshmem-plain,memdev=s");
    computer_run(rig, "setup win10 --shm 2M --install");
    assert_int_equal(rig->status, 0);
    computer_says(
        rig, "by shared memory: /dev/shm/scream-ivshmem, 4 MiB.\nNot 2 MiB, because the VM has this device already.");
    computer_says(rig, "win10 has the device already: nothing to do there.");
    computer_says_not(rig, "<shmem");
    computer_says(rig, "/d 4 /f");
    FILE *file = fopen(rig->config, "r");
    char text[1024] = "";
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "\nshm = /dev/shm/scream-ivshmem\n"));
}

/* Anybody may run something that looks like a QEMU; what it says must not get into a command for root. */
static void test_hostile_arguments(void **state)
{
    struct rig *rig = *state;
    rig_qemu(
        rig, PID,
        "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-object\nmemory-backend-file,id=s,mem-path=/dev/shm/scream'; "
        "reboot #,size=4M\n-device\nivshmem-plain,memdev=s\n-object\nmemory-backend-file,id=t,mem-path=/dev/shm/"
        "../scream,size=2M\n-device\nivshmem-plain,memdev=t");
    computer_run(rig, "setup win10 --shm 2M --tmpfiles");
    computer_says_not(rig, "reboot #");
    computer_says_not(rig, "..");
    computer_says(rig, "echo 'f /dev/shm/scream-win10 0660 anna ");
}

static void test_stale_file(void **state)
{
    struct rig *rig = *state;
    char path[256];
    rig_write(rig, "/dev/shm/scream-win10", "");
    computer_run(rig, "setup win10 --shm 2M");
    computer_says_not(rig, "sudo rm"); /* empty: QEMU sizes it */
    snprintf(path, sizeof path, "%s/dev/shm/scream-win10", rig->root);
    assert_int_equal(truncate(path, 4 << 20), 0);
    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "is there in another size (4 MiB)");
    computer_says(rig, "    sudo rm /dev/shm/scream-win10    # while the VM is off\n");
    computer_run(rig, "setup win10 --shm 4M");
    computer_says_not(rig, "sudo rm");
}

static void test_names(void **state)
{
    struct rig *rig = *state;
    rig_command(rig, "virsh -r -c qemu:///system dumpxml --inactive it's", 0, domain);
    computer_run(rig, "setup it's --shm 16M");
    computer_says(rig, "/dev/shm/scream-it_s");
    computer_says(rig, "earshot setup 'it'\\''s' --shm 16M --install");
    computer_says(rig, "sudo virsh edit 'it'\\''s'");
}

static void test_tmpfiles(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --shm 2M --tmpfiles");
    computer_says(rig, "This computer, as root:\n\n"
                       "    echo 'f /dev/shm/scream-win10 0660 anna kvm -' | sudo tee "
                       "/etc/tmpfiles.d/earshot-scream-win10.conf\n"
                       "    sudo systemd-tmpfiles --create /etc/tmpfiles.d/earshot-scream-win10.conf");
    computer_says_not(rig, "semanage");

    /* Fedora: another user, and SELinux. */
    rig_write(rig, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nqemu:x:107:107:qemu user:/:/sbin/nologin\n");
    rig_write(rig, "/sys/fs/selinux/enforce", "1");
    computer_run(rig, "setup win10 --shm 2M --tmpfiles");
    computer_says(rig, "0660 anna qemu -'");
    computer_says(rig, "    sudo semanage fcontext -a -t svirt_tmpfs_t /dev/shm/scream-win10\n"
                       "    sudo restorecon -v /dev/shm/scream-win10\n");

    /* No such user anywhere: the usual group. */
    rig_write(rig, "/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    computer_run(rig, "setup win10 --shm 2M --tmpfiles");
    computer_says(rig, "0660 anna kvm -'");

    /* A running VM's own group is the best answer. */
    rig_qemu(rig, PID, "/usr/bin/qemu-system-x86_64\n-name\nguest=win10");
    rig_write(rig, "/proc/7000/status", "Name:\tqemu\nUid:\t107\t107\t107\t107\nGid:\t107\t107\t107\t107\n");
    computer_run(rig, "setup win10 --shm 2M --tmpfiles");
    computer_says(rig, "0660 anna qemu -'");
}

static void test_limits(void **state)
{
    struct rig *rig = *state;
    rig_write(rig, "/proc/self/limits",
              LIMITS "Max realtime priority     0                    0                    \n");
    computer_run(rig, "setup win10 --shm 2M");
    computer_says_not(rig, "rtprio"); /* rtkit gives it */
    rig->rtkit = 0;
    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "    printf '%s\\n' 'anna - rtprio 95' 'anna - memlock 262144' | sudo tee "
                       "/etc/security/limits.d/95-earshot.conf");
    rig->rtkit = -ENOENT;
    computer_run(rig, "setup win10 --shm 2M");
    computer_says(rig, "rtprio 95");
    rig_write(rig, "/etc/security/limits.d/95-earshot.conf", "");
    computer_run(rig, "setup win10 --shm 2M");
    computer_says_not(rig, "rtprio"); /* done, and to come with the next login */
    rig_remove(rig, "/etc/security");
    rig_write(rig, "/proc/self/limits",
              LIMITS "Max realtime priority     0                    unlimited            \n");
    computer_run(rig, "setup win10 --shm 2M");
    computer_says_not(rig, "rtprio"); /* the soft limit is earshot's to raise */
}

/* --- network */

static void test_bridge(void **state)
{
    struct rig *rig = *state;
    rig_command(rig, "virsh -r -c qemu:///system dumpxml --inactive win10", 0, domain);
    rig_command(rig, "virsh -r -c qemu:///system net-list --name", 0, "default\n\n");
    rig_command(rig, "virsh -r -c qemu:///system net-list --all --name", 0, "lab\ndefault\n\n");
    rig_command(rig, "virsh -r -c qemu:///system net-dumpxml --inactive lab", 0,
                "<network><bridge name='virbr7'/></network>");
    rig_command(rig, "virsh -r -c qemu:///system net-dumpxml --inactive default", 0,
                "<network>\n  <name>default</name>\n  <bridge name='virbr0' stp='on' delay='0'/>\n</network>\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    assert_int_equal(rig->status, 0);
    computer_says(rig, "win10 has a network card on virbr0 already, which will do");
    computer_says(rig,
                  "    <interface type='network'>\n      <source network='default'/>\n      <model type='virtio'/>\n"
                  "    </interface>\n");
    computer_says(rig, "REG DELETE HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /f\n");
    computer_says(rig, "nftables has no rule that stops UDP port 4010");
    computer_says_not(rig, "as root");

    /* Not started. */
    rig_command(rig, "virsh -r -c qemu:///system net-list --name", 0, "\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "    sudo virsh net-autostart default\n    sudo virsh net-start default\n");

    /* A bridge of one's own. */
    rig_write(rig, "/sys/class/net/br0/bridge/stp_state", "0\n");
    computer_run(rig, "setup win10 --bridge br0");
    computer_says(rig, "    <interface type='bridge'>\n      <source bridge='br0'/>\n      <model type='virtio'/>\n");
    computer_says_not(rig, "which will do");
    computer_says_not(rig, "is no bridge");
}

static void test_bridge_with_virtio(void **state)
{
    struct rig *rig = *state;
    rig_command(
        rig, "virsh -r -c qemu:///system dumpxml --inactive win10", 0,
        "<domain><devices><interface type='bridge'><source bridge='virbr0'/><model type='virtio'/></interface>"
        "</devices></domain>");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "win10 has a virtio network card on virbr0 already: nothing to do there.");
    computer_says_not(rig, "<interface");
}

static void test_bridge_that_is_none(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --bridge br9");
    computer_says(rig, "There is no interface br9 now.");
    rig_write(rig, "/sys/class/net/macvtap0/address", "x\n");
    computer_run(rig, "setup win10 --bridge macvtap0");
    computer_says(rig, "macvtap0 is no bridge: with macvtap");
}

static void test_bridge_without_libvirt(void **state)
{
    struct rig *rig = *state;
    rig_qemu(rig, PID, "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-M\nq35");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "    -netdev bridge,id=scream,br=virbr0\n"
                       "    -device virtio-net-pci,netdev=scream,bus=pcie.0,addr=0x1e\n");
    computer_says(rig, "    echo 'allow virbr0' | sudo tee -a /etc/qemu/bridge.conf\n");
    rig_write(rig, "/etc/qemu/bridge.conf", "allow virbr0\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says_not(rig, "bridge.conf");
}

static void test_firewalls(void **state)
{
    struct rig *rig = *state;
    rig_write(rig, "/etc/ufw/ufw.conf", "# ufw\nENABLED=yes\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "    sudo ufw allow in on virbr0 to any port 4010 proto udp\n");
    rig_remove(rig, "/etc/ufw");

    rig_command(
        rig, "nft list ruleset", 0,
        "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "    sudo nft insert rule inet filter input iifname virbr0 udp dport 4010 accept");

    rig_command(rig, "nft list ruleset", 1, "");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "Only root can look at the firewall's rules here");
    computer_says(rig, "UDP port 4010 in by virbr0.");

    /* firewalld. Before the bridge is there it is in no zone; libvirt will put it into its own. */
    rig_command(rig, "firewall-cmd --state", 0, "running\n");
    rig_command(rig, "firewall-cmd --get-zone-of-interface=virbr0", 2, "");
    rig_command(rig, "firewall-cmd --get-default-zone", 0, "public\n");
    rig_command(rig, "firewall-cmd --info-zone=public", 0, "public\n  target: default\n  ports: \n  rich rules: \n");
    rig_command(rig, "firewall-cmd --info-zone=libvirt", 0,
                "libvirt (active)\n  target: ACCEPT\n  ports: \n  rich rules: \n\trule priority=\"32767\" reject\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says(rig, "    sudo firewall-cmd --zone=libvirt --add-port=4010/udp\n"
                       "    sudo firewall-cmd --permanent --zone=libvirt --add-port=4010/udp\n");
    computer_run(rig, "setup win10 --bridge br0");
    computer_says(rig, "--zone=public --add-port");
    rig_command(rig, "firewall-cmd --info-zone=libvirt", 0,
                "libvirt (active)\n  target: ACCEPT\n  ports: 4010/udp\n");
    computer_run(rig, "setup win10 --bridge virbr0");
    computer_says_not(rig, "add-port");
    computer_says(rig, "firewalld lets UDP port 4010 in (zone libvirt).");
}

static void test_unicast(void **state)
{
    struct rig *rig = *state;
    computer_run(rig, "setup win10 --unicast");
    computer_says(
        rig, "    REG ADD HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UnicastIPv4 /t REG_SZ /d "
             "192.168.122.1 /f\n");
    computer_says(rig, "/v UnicastPort /t REG_DWORD /d 4010 /f\n");
    computer_says(rig, "/v UseIVSHMEM /f\n");
    computer_says(rig, "it has also 192.168.1.5 (enp5s0).");

    /* QEMU's own network: the host has one address there, whatever its interfaces are called, and no firewall. */
    rig_write(rig, "/etc/ufw/ufw.conf", "\nENABLED=yes\n");
    rig_qemu(rig, PID, "/usr/bin/qemu-system-x86_64\n-name\nwin10\n-netdev\nuser,id=n\n-device\ne1000,netdev=n");
    computer_run(rig, "setup win10 --unicast");
    computer_says(rig, "/d 10.0.2.2 /f\n");
    computer_says_not(rig, "it has also");
    computer_says_not(rig, "ufw");

    rig->interface_count = 0;
    rig_remove(rig, "/proc/7000");
    computer_run(rig, "setup win10 --unicast");
    computer_says(rig, "/d ADDRESS-OF-THIS-COMPUTER /f");
    computer_says(rig, "sudo ufw allow 4010/udp");
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
        struct parsed p;
        parse(&p, "earshot %s", cases[i].line);
        if (cases[i].error ? p.result != -EINVAL || !strstr(p.error, cases[i].error) : p.result != 0)
            fail_msg("%s: %d, %s", cases[i].line, p.result, p.error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test_setup_teardown(test_unknown_vm, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_unknown_vm_avoids_every_size, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_running_without_libvirt, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_slot_on_i440fx, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_defined_in_libvirt, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_device_there_already, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_hostile_arguments, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_stale_file, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_names, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_tmpfiles, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_limits, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_bridge, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_bridge_with_virtio, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_bridge_that_is_none, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_bridge_without_libvirt, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_firewalls, computer_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_unicast, computer_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
