/* SPDX-License-Identifier: MIT
 *
 * The network between a guest and its host, broken one way at a time.
 */
#include "ringbuf/scream_shm.h"
#include "tests/unit/doctor_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HEARD                                                                                                        \
    "[{\"name\":\"192.168.122.50\",\"state\":\"playing\",\"source\":{\"kind\":\"udp\",\"address\":\"192.168.122."    \
    "50\"},"                                                                                                         \
    "\"format\":{\"rate\":48000},\"latency_ms\":{\"total\":40.0},\"underruns\":0}]"

/* Healthy, and a guest is heard. */
static int setup(void **state)
{
    if (rig_setup(state) < 0)
        return -1;
    struct rig *rig = *state;
    rig_network(rig);
    rig->streams = HEARD;
    rig->options.interface = "virbr0";
    return 0;
}

/* What stands there while nobody is heard, and nothing is known to be broken. */
static void expect_silence(struct rig *rig)
{
    rig_expect_warning(rig, "Earshot listens, and has heard no guest yet", "In Windows: is Scream the output");
    if (!strstr(rig->text, "\nNothing is broken. 1 to look at. "))
        fail_msg("more than silence:\n%s", rig->text);
}

static void unheard(struct rig *rig)
{
    rig_network(rig);
}

static void test_healthy(void **state)
{
    struct rig *rig = *state;
    rig_expect_healthy(rig);
    rig->options.interface = NULL;
    rig_expect_healthy(rig);
    rig->options.interface = "192.168.122.1";
    rig_expect_healthy(rig);
    rig->options.interface = NULL; /* what would be suspicious in silence is not while there is sound */
    rig->interfaces[3] = (struct doctor_interface){.name = "macvtap0", .flags = IFF_UP | IFF_MULTICAST};
    rig->interface_count = 4;
    rig_write(rig, "/proc/sys/net/ipv4/conf/all/rp_filter", "1\n");
    rig_remove(rig, "/proc/4242");
    rig_expect_healthy(rig);
    rig->interface_count = 3;
    rig->options.interface = "192.168.122.1";
    rig_run(rig, true);
    assert_non_null(strstr(rig->text, "ok    Packets of 192.168.122.50 reach the running earshot\n"));
    assert_non_null(strstr(rig->text, "ok    UDP port 4010 is earshot (pid 4343)'s\n"));

    unheard(rig);
    expect_silence(rig);
    rig_run(rig, true);
    assert_non_null(strstr(rig->text, "ok    virbr0 is a member of the group 239.255.77.77\n"));
    assert_non_null(strstr(rig->text, "ok    rp_filter lets packets in by virbr0\n"));
    assert_non_null(strstr(rig->text, "With sudo it also sees: packets on the wire"));
}

static void test_heard_before(void **state)
{
    struct rig *rig = *state;
    rig->streams = "[{\"name\":\"192.168.122.50\",\"state\":\"idle\",\"source\":{\"kind\":\"udp\",\"address\":"
                   "\"192.168.122.50\"},\"format\":{\"rate\":48000}}]";
    rig_expect_warning(rig, "Earshot listens, and hears a guest no longer that it has heard before", "In Windows");
    rig_write(rig, "/proc/net/igmp", ""); /* the reason */
    rig_expect(rig, "The running earshot has not joined the group 239.255.77.77 on virbr0", "restart earshot");
}

/* What the receiver itself has counted. */
static void test_unplayed(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
#define WAITING(counts)                                                                                              \
    "[{\"name\":\"x\",\"state\":\"waiting\",\"source\":{\"kind\":\"udp\",\"address\":\"239.255.77.77:4010\"," counts \
    "},\"format\":{\"rate\":0}}]"
    rig->streams = WAITING("\"ignored_packets\":70,\"rejected_packets\":0");
    rig_run(rig, false);
    assert_non_null(
        strstr(rig->text, "warn  70 packets came from senders that --from leaves out\n      Is the VM's"));
    assert_null(strstr(rig->text, "not Scream's"));
    rig->streams = WAITING("\"ignored_packets\":0,\"rejected_packets\":5");
    rig_run(rig, false);
    assert_non_null(strstr(rig->text, "warn  5 packets came that are not Scream's\n      Another program"));
    assert_null(strstr(rig->text, "leaves out"));
}

static void test_no_interface(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->options.interface = "virbr7";
    rig_expect(rig, "There is no network interface virbr7", "net-start default");
    rig->options.interface = "br0";
    rig_expect(rig, "There is no network interface br0", "These there are: lo enp5s0 virbr0");
    rig->options.interface = "10.0.0.1";
    rig_expect(rig, "There is no network interface 10.0.0.1", "These there are:");
    rig->options.interface = NULL;
    rig->interface_count = 1;
    rig_expect(rig, "No network interface is up that a guest could send to", "net-start default");
}

static void test_interface_down(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->interfaces[2].flags = IFF_MULTICAST;
    rig_expect(rig, "virbr0 is down", "sudo ip link set virbr0 up");
    rig->interfaces[2].flags = IFF_UP | IFF_MULTICAST;
    rig_expect(rig, "virbr0 has no connection", "cable");
}

static void test_bridge_without_vm(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_remove(rig, "/sys/class/net/virbr0/brif/vnet3");
    rig_write(rig, "/sys/class/net/virbr0/brif/virbr0-nic", "");
    rig_expect(rig, "No VM is connected to virbr0", "domiflist NAME");
}

static void test_no_multicast(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->interfaces[2].flags = IFF_UP | IFF_RUNNING;
    rig_expect(rig, "virbr0 cannot do multicast", "sudo ip link set virbr0 multicast on");
}

static void test_macvtap(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->interfaces[3] = (struct doctor_interface){.name = "vm-nic", .flags = IFF_UP | IFF_RUNNING | IFF_MULTICAST};
    rig->interface_count = 4;
    rig_write(rig, "/sys/class/net/vm-nic/macvtap/tap7/dev", "1:1\n");
    rig->options.interface = "vm-nic";
    rig_write(rig, "/proc/net/igmp", "4\tvm-nic : 1 V3\n\t\t\t\t4D4DFFEF     1 0:00000000\t\t0\n");
    rig_expect(rig, "vm-nic: a VM that is connected by macvtap cannot be heard",
               "attach-interface NAME network default");

    /* Named otherwise, it is somebody else's. */
    rig->options.interface = "virbr0";
    rig_write(rig, "/proc/net/igmp", "3\tvirbr0 : 1 V3\n\t\t\t\t4D4DFFEF     1 0:00000000\t\t0\n");
    expect_silence(rig);
    rig->options.interface = NULL;
    rig_expect_warning(rig, "vm-nic: a VM that is connected by macvtap", "attach-interface");
    rig_remove(rig, "/sys/class/net/virbr0/brif"); /* nor is there another way */
    rig_expect(rig, "vm-nic: a VM that is connected by macvtap", "attach-interface");
}

/* A container's bridge is no VM's: what its firewall or filter does is nobody's concern. */
static void test_containers(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->options.interface = NULL;
    rig->interfaces[3] = (struct doctor_interface){.name = "docker0", .flags = IFF_UP | IFF_RUNNING | IFF_MULTICAST};
    rig->interface_count = 4;
    rig_write(rig, "/sys/class/net/docker0/bridge/stp_state", "0\n");
    rig_write(rig, "/sys/class/net/docker0/brif/veth12/port_no", "0x1\n");
    expect_silence(rig);
    rig_write(rig, "/sys/class/net/docker0/brif/tap0/port_no", "0x2\n"); /* now it is */
    rig_write(rig, "/sys/class/net/tap0/tun_flags", "0x1002\n");
    rig_expect(rig, "The kernel (rp_filter = 2) drops what comes in by docker0: it has no address", "sudo sysctl");
}

static void test_rp_filter(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->interfaces[2].address = 0;
    rig_expect(rig, "The kernel (rp_filter = 2) drops what comes in by virbr0: it has no address",
               "sudo sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.virbr0.rp_filter=0");
    rig_write(rig, "/proc/sys/net/ipv4/conf/all/rp_filter", "0\n");
    rig_write(rig, "/proc/sys/net/ipv4/conf/virbr0/rp_filter", "0\n");
    expect_silence(rig);
}

static void test_rp_filter_route(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->options.from[0] = inet_addr("192.168.122.50");
    rig->options.from_count = 1;
    rig_write(rig, "/proc/sys/net/ipv4/conf/all/rp_filter", "1\n");
    expect_silence(rig);
    rig->options.from[0] = inet_addr("192.168.9.50");
    rig_expect(rig,
               "The kernel (rp_filter = 1) drops what comes in by virbr0: the route to 192.168.9.50 leads to enp5s0",
               "sudo sysctl");
    rig_write(rig, "/proc/sys/net/ipv4/conf/all/rp_filter", "2\n"); /* loose */
    expect_silence(rig);
}

static void test_port(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->holder = "scream (pid 999)";
    rig_expect(rig, "UDP port 4010 is taken by scream (pid 999)", "kill 999");
    rig->holder = "scream (pid 4343)"; /* the name of old unit files, for an earshot */
    rig_write(rig, "/proc/4343/comm", "scream\n");
    char link[128];
    snprintf(link, sizeof link, "%s/proc/4343/exe", rig->root);
    assert_int_equal(symlink("/usr/bin/earshot", link), 0);
    expect_silence(rig);
    rig->holder = NULL; /* another user's, or in a container */
    rig_remove(rig, "/proc/4343");
    rig_expect(rig, "UDP port 4010 is taken by a program of another user", "sudo ss -ulpn 'sport = :4010'");
}

/* A free port is no fault; that no earshot runs is. */
static void test_not_running(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_write(rig, "/proc/net/udp", "   sl  local_address\n");
    rig_remove(rig, "/proc/4343");
    rig_write(rig, "/proc/net/igmp", "");
    rig_expect(rig, "No earshot is running", "systemctl --user enable --now earshot");
    assert_non_null(strstr(rig->text, "\n1 broken"));
}

static void test_membership(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_write(rig, "/proc/net/igmp",
              "3\tvirbr0    :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
              "9\tvirbr1    :     1      V3\n\t\t\t\t4D4DFFEF     1 0:00000000\t\t0\n");
    rig_expect(rig, "The running earshot has not joined the group 239.255.77.77 on virbr0",
               "systemctl --user restart");
    rig->options.source = FROM_UNICAST; /* joins nothing */
    expect_silence(rig);
}

static void test_memory_instead(void **state)
{
    struct rig *rig = *state;
    rig_shm(rig);
    unheard(rig);
    char arguments[400];
    snprintf(arguments, sizeof arguments,
             "kvm\n-name\nwin10\n-object\nmemory-backend-file,id=s,share=on,mem-path=%s,size=2M\n-device\n"
             "ivshmem-plain,memdev=s",
             rig->ring);
    rig_qemu(rig, 4242, arguments);
    rig_expect(rig, "win10 plays into its shared memory, not to the network", "earshot -m ");
    assert_non_null(
        strstr(rig->text, "REG DELETE HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM"));
}

static void wire(struct rig *rig, unsigned packets, const char *sender, const char *interface)
{
    rig->wire_result = 0;
    rig->wire = (struct doctor_wire){.count = 1};
    rig->wire.senders[0] = (struct doctor_sender){.packets = packets, .address = inet_addr(sender)};
    strcpy(rig->wire.senders[0].interface, interface);
}

static void test_wire(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    wire(rig, 166, "192.168.122.50", "virbr0");
    rig_expect(rig, "166 packets a second come from 192.168.122.50 by virbr0, but earshot gets none",
               "sudo nft insert rule");
    wire(rig, 166, "192.168.1.60", "enp5s0");
    rig_expect(rig, "166 packets a second come from 192.168.1.60 by enp5s0",
               "-i virbr0 listens elsewhere: take -i enp5s0");
    rig->options.from[0] = inet_addr("192.168.122.50");
    rig->options.from_count = 1;
    rig_expect_warning(rig, "Packets come from 192.168.1.60 by enp5s0, which --from leaves out", "add 192.168.1.60");
    /* Another source's guest is none of this one's business. */
    rig->streams =
        "[{\"name\":\"192.168.1.60\",\"state\":\"playing\",\"source\":{\"kind\":\"udp\",\"address\":"
        "\"192.168.1.60\"},\"format\":{\"rate\":48000}},{\"name\":\"win10\",\"state\":\"waiting\",\"source\":"
        "{\"kind\":\"udp\",\"address\":\"239.255.77.77:4010\"},\"format\":{\"rate\":0}}]";
    rig_expect_warning(rig, "No other packet for port 4010 came within a second", "In Windows");
    rig->wire.count = 0;
    rig_expect_warning(rig, "No packet for port 4010 came within a second", "UseIVSHMEM");
}

/* Without rights the kernel's own counters must do. */
static void test_counters(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig->multicast_grows = 9; /* what goes on in any network */
    expect_silence(rig);
    rig_write(rig, "/proc/net/netstat", "IpExt: InMcastPkts\nIpExt: 1000\n");
    rig->multicast_grows = 50;
    rig_expect_warning(rig, "166 multicast packets a second come in, and none reaches earshot",
                       "sudo earshot doctor");
}

#define ZONE(target, ports, rules)                                                                                   \
    "libvirt (active)\n  target: " target "\n  interfaces: virbr0\n  services: dns ssh\n  ports: " ports             \
    "\n  protocols: icmp\n  forward-ports: \n  source-ports: \n  rich rules: \n" rules

static void test_firewalld(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_command(rig, "firewall-cmd --state", 0, "running\n");
    rig_command(rig, "firewall-cmd --get-zone-of-interface=virbr0", 0, "libvirt\n");
    rig_command(rig, "firewall-cmd --info-zone=libvirt", 0, ZONE("ACCEPT", "", "\trule priority=\"32767\" reject\n"));
    rig_expect(rig, "firewalld does not let UDP port 4010 in by virbr0 (zone libvirt)",
               "sudo firewall-cmd --permanent --zone=libvirt --add-port=4010/udp");
    rig_command(rig, "firewall-cmd --info-zone=libvirt", 0,
                ZONE("ACCEPT", "53/udp 4000-4010/udp 1-9/tcp", "\trule priority=\"32767\" reject\n"));
    expect_silence(rig);
    rig_command(rig, "firewall-cmd --info-zone=libvirt", 0, ZONE("ACCEPT", "", ""));
    expect_silence(rig);
    rig_command(rig, "firewall-cmd --info-zone=libvirt", 0, ZONE("default", "4010/tcp", ""));
    rig_expect(rig, "firewalld does not let UDP port 4010 in", "--zone=libvirt --add-port=4010/udp");
    rig->streams = HEARD; /* whatever it says: there is sound */
    rig_expect_healthy(rig);
}

static void test_firewalld_default_zone(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_command(rig, "firewall-cmd --state", 0, "running\n");
    rig_command(rig, "firewall-cmd --get-zone-of-interface", 2, "no zone\n");
    rig_command(rig, "firewall-cmd --get-default-zone", 0, "public\n");
    rig_command(rig, "firewall-cmd --info-zone=public", 0, ZONE("default", "", ""));
    rig_expect(rig, "firewalld does not let UDP port 4010 in by virbr0 (zone public)", "--zone=public");
    rig_command(rig, "firewall-cmd --info-zone=public", 253, "");
    expect_silence(rig);
    assert_non_null(strstr(rig->text, "firewalld's rules"));
    rig_command(rig, "firewall-cmd --state", 252, "not running\n");
    expect_silence(rig);
}

static void test_ufw(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_write(rig, "/etc/ufw/ufw.conf", "# /etc/ufw/ufw.conf\nENABLED=no\n");
    expect_silence(rig);
    rig_write(rig, "/etc/ufw/ufw.conf", "# /etc/ufw/ufw.conf\nENABLED=yes\n");
    rig_write(rig, "/etc/default/ufw", "IPV6=yes\nDEFAULT_INPUT_POLICY=\"DROP\"\n");
    rig_write(rig, "/etc/ufw/user.rules",
              "*filter\n### tuple ### allow udp 4010 0.0.0.0/0 any 0.0.0.0/0 in_wlan0\n"
              "### tuple ### allow tcp 4010 0.0.0.0/0 any 0.0.0.0/0 in\n"
              "### tuple ### deny udp 4010 0.0.0.0/0 any 0.0.0.0/0 in\n");
    rig_expect(rig, "ufw does not let UDP port 4010 in by virbr0",
               "sudo ufw allow in on virbr0 to any port 4010 proto udp");
    rig_write(rig, "/etc/ufw/user.rules", "### tuple ### allow udp 53,4000:4020 0.0.0.0/0 any 0.0.0.0/0 in_virbr0\n");
    expect_silence(rig);
    rig_remove(rig, "/etc/ufw/user.rules"); /* as users find it */
    rig_run(rig, false);
    assert_int_equal(rig->status, 0);
    assert_non_null(strstr(rig->text, "warn  ufw is on: does it let UDP port 4010 in by virbr0?"));
    assert_non_null(strstr(rig->text, "ufw's rules"));
    rig_write(rig, "/etc/default/ufw", "IPV6=yes\nDEFAULT_INPUT_POLICY=\"ACCEPT\"\n");
    expect_silence(rig);
}

#define NFT(policy, rules)                                                                                           \
    "table ip nat {\n\tchain POSTROUTING {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t}\n}\n" \
    "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy " policy ";\n" rules   \
    "\t}\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"

static void test_nft(void **state)
{
    static const char rules[] =
        NFT("drop", "\t\tct state established,related accept\n\t\ttcp dport { 22, 4010 } accept\n");
    struct rig *rig = *state;
    unheard(rig);
    rig_command(rig, "nft list ruleset", 0, rules);
    rig_run(rig, false);
    assert_int_equal(rig->status, 0);
    assert_non_null(strstr(rig->text, "warn  nftables' rules in inet filter, chain input, may stop UDP port 4010\n"));
    wire(rig, 166, "192.168.122.50", "virbr0"); /* and evidently does */
    rig_expect(rig, "nftables' rules in inet filter, chain input, stop UDP port 4010",
               "sudo nft insert rule inet filter input iifname virbr0 udp dport 4010 accept");
    assert_non_null(strstr(rig->text, "\n1 broken"));
    rig->wire_result = -EPERM;
    rig_command(rig, "nft list ruleset", 0, NFT("drop", "\t\tudp dport { 53, 4000-4010 } accept\n"));
    expect_silence(rig);
    rig_command(rig, "nft list ruleset", 0, NFT("drop", "\t\tiifname \"virbr0\" accept\n"));
    expect_silence(rig);
    rig_command(rig, "nft list ruleset", 0, NFT("accept", ""));
    expect_silence(rig);
    rig_command(rig, "nft list ruleset", 0, NFT("accept", "\t\tcounter packets 5 bytes 20 reject\n"));
    rig_run(rig, false);
    assert_non_null(strstr(rig->text, "warn  nftables' rules in inet filter"));
    rig_command(rig, "nft list ruleset", 1, "");
    expect_silence(rig);
    assert_non_null(strstr(rig->text, "the firewall's rules"));
}

static void test_iptables(void **state)
{
    struct rig *rig = *state;
    unheard(rig);
    rig_command(rig, "iptables -S INPUT", 0,
                "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 4010 -j ACCEPT\n");
    rig_run(rig, false);
    assert_non_null(strstr(rig->text,
                           "warn  iptables' INPUT rules may stop UDP port 4010\n      sudo iptables -I INPUT -i "
                           "virbr0 -p udp --dport 4010 -j ACCEPT"));
    rig_command(rig, "iptables -S INPUT", 0, "-P INPUT DROP\n-A INPUT -p udp -m udp --dport 4010 -j ACCEPT\n");
    expect_silence(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_healthy, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_heard_before, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_unplayed, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_interface, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_interface_down, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_bridge_without_vm, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_multicast, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_macvtap, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_containers, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_rp_filter, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_rp_filter_route, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_port, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_not_running, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_membership, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_memory_instead, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_wire, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_counters, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_firewalld, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_firewalld_default_zone, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_ufw, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_nft, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_iptables, setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
