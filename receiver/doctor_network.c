/* SPDX-License-Identifier: MIT */
#include "receiver/doctor_check.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <json-c/json.h>

#define WIRE_MS        1000
#define COUNT_MS       300
#define COUNT_MIN      15 /* multicast packets in COUNT_MS that are more than chatter: a guest sends 50 at least */
#define RELEVANT_MAX   8
#define GUEST_RING_MAX ((uint64_t)64 << 20)

struct network {
    struct doctor *doctor;
    const struct options *options;
    struct doctor_interface interfaces[DOCTOR_INTERFACES_MAX];
    int count;
    const struct doctor_interface *chosen; /* -i; NULL: none named, or not there */
    /* What guests are likely to come in by: the chosen one, or bridges with something connected. */
    const struct doctor_interface *relevant[RELEVANT_MAX];
    unsigned relevant_count;
    bool heard;    /* a guest's packets reach a running earshot */
    bool before;   /* they did, but it is silent now */
    bool is_bound; /* somebody has the port ... */
    bool is_ours;  /* ... and it is an earshot */
};

static const char *address_text(uint32_t address, char out[INET_ADDRSTRLEN])
{
    struct in_addr in = {address};
    return inet_ntop(AF_INET, &in, out, INET_ADDRSTRLEN);
}

static bool in_sysfs(const struct network *n, const char *interface, const char *what)
{
    char path[DOCTOR_PATH_MAX];
    struct stat st;
    return stat(doctor_path(n->doctor->env, path, "/sys/class/net/%s/%s", interface, what), &st) == 0;
}

/* What is connected to a bridge; of `machines` alone: containers have bridges, too. libvirt's old "virbr0-nic" only gave
 * the bridge an address. */
static unsigned bridge_ports(const struct network *n, const char *bridge, bool machines)
{
    char path[DOCTOR_PATH_MAX];
    DIR *dir = opendir(doctor_path(n->doctor->env, path, "/sys/class/net/%s/brif", bridge));
    if (!dir)
        return 0;
    unsigned count = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        const char *name = entry->d_name;
        size_t length = strlen(name);
        if (name[0] == '.' || (length > 4 && strcmp(name + length - 4, "-nic") == 0))
            continue;
        count += !machines || strncmp(name, "vnet", 4) == 0 || in_sysfs(n, name, "tun_flags");
    }
    closedir(dir);
    return count;
}

static bool is_macvtap(const struct network *n, const struct doctor_interface *interface)
{
    return in_sysfs(n, interface->name, "macvtap") || strncmp(interface->name, "macvtap", 7) == 0;
}

static void find_interfaces(struct network *n)
{
    struct in_addr wanted = {0};
    const char *name = n->options->interface;
    bool by_address = name && inet_pton(AF_INET, name, &wanted) == 1;
    for (int i = 0; i < n->count; i++) {
        const struct doctor_interface *interface = &n->interfaces[i];
        if (name && (by_address ? interface->address == wanted.s_addr : !strcmp(interface->name, name)))
            n->chosen = interface;
        if (!name && in_sysfs(n, interface->name, "bridge") && bridge_ports(n, interface->name, true) &&
            n->relevant_count < RELEVANT_MAX)
            n->relevant[n->relevant_count++] = interface;
    }
    if (n->chosen)
        n->relevant[n->relevant_count++] = n->chosen;
}

static bool wants_sender(const struct options *options, uint32_t address)
{
    for (unsigned i = 0; i < options->from_count; i++) {
        if (options->from[i] == address)
            return true;
    }
    return options->from_count == 0;
}

static void find_heard(struct network *n)
{
    size_t count = n->doctor->streams ? json_object_array_length(n->doctor->streams) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *stream = json_object_array_get_idx(n->doctor->streams, i);
        const char *address = doctor_text(doctor_member(stream, "source"), "address");
        if (!doctor_plays(stream, n->options) ||
            json_object_get_int64(doctor_member(doctor_member(stream, "format"), "rate")) <= 0)
            continue;
        if (!strcmp(doctor_text(stream, "state"), "idle")) {
            n->before = true;
            continue;
        }
        n->heard = true;
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_OK, "Packets of %.40s reach the running earshot", address);
    }
}

/* The driver prefers memory where its registry says so, and then sends nothing. */
static void check_memory_instead(struct network *n)
{
    struct doctor *doctor = n->doctor;
    for (unsigned i = 0; i < doctor->vm_count && !doctor->another_plays; i++) {
        for (unsigned k = 0; k < doctor->vms[i].device_count; k++) {
            const struct doctor_ivshmem *device = &doctor->vms[i].devices[k];
            struct doctor_ring ring;
            if (!device->path[0] || device->bytes > GUEST_RING_MAX)
                continue;
            doctor_look_at_ring(doctor->env, device->path, &ring);
            if (ring.state != RING_PLAYING && ring.state != RING_STILL)
                continue;
            doctor_say(doctor, DOCTOR_NETWORK, ring.state == RING_PLAYING ? DOCTOR_FAIL : DOCTOR_WARN,
                       "%s plays into its shared memory, not to the network", doctor->vms[i].name);
            doctor_fix(doctor, "earshot -m %s", doctor_quote(device->path).text);
            doctor_fix(doctor, "or, in Windows, and reboot: REG DELETE "
                               "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Scream\\Options /v UseIVSHMEM /f");
        }
    }
}

static void say_no_interface(struct network *n)
{
    const char *name = n->options->interface;
    doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "There is no network interface %.40s", name);
    if (strncmp(name, "virbr", 5) == 0) {
        doctor_fix(n->doctor, "virsh -c qemu:///system net-start default    # libvirt's network of that bridge");
        doctor_fix(n->doctor, "virsh -c qemu:///system net-autostart default");
        return;
    }
    char list[256] = "";
    for (int i = 0; i < n->count; i++) {
        size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, " %s", n->interfaces[i].name);
    }
    doctor_fix(n->doctor, "These there are:%s", list);
}

static void check_chosen(struct network *n)
{
    struct doctor *doctor = n->doctor;
    const struct doctor_interface *i = n->chosen;
    char address[INET_ADDRSTRLEN];
    if (!(i->flags & IFF_UP)) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "%s is down", i->name);
        doctor_fix(doctor, "sudo ip link set %s up", i->name);
    } else if (in_sysfs(n, i->name, "bridge") && !bridge_ports(n, i->name, false)) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "No VM is connected to %s", i->name);
        doctor_fix(doctor, "Start the VM. If it runs, its network card is elsewhere:");
        doctor_fix(doctor, "virsh -c qemu:///system domiflist NAME    # Source should be %s, or its network",
                   i->name);
    } else if (!(i->flags & IFF_RUNNING) && !(i->flags & IFF_LOOPBACK)) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "%s has no connection", i->name);
        doctor_fix(doctor, "Is its cable plugged in, and whoever is at its other end on?");
    } else if (!(i->flags & (IFF_MULTICAST | IFF_LOOPBACK)) && n->options->source == FROM_MULTICAST) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "%s cannot do multicast", i->name);
        doctor_fix(doctor, "sudo ip link set %s multicast on", i->name);
    } else {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "%s is up, address %s", i->name,
                   i->address ? address_text(i->address, address) : "none");
    }
}

static void check_interfaces(struct network *n)
{
    if (n->options->interface && !n->chosen) {
        say_no_interface(n);
        return;
    }
    if (n->chosen) {
        check_chosen(n);
        return;
    }
    char list[200] = "";
    for (int i = 0; i < n->count; i++) {
        const struct doctor_interface *interface = &n->interfaces[i];
        size_t length = strlen(list);
        if (interface->flags & IFF_UP && interface->flags & IFF_MULTICAST && !(interface->flags & IFF_LOOPBACK))
            snprintf(list + length, sizeof list - length, "%s%s", length ? ", " : "", interface->name);
    }
    if (list[0])
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_OK, "It listens on every interface: %s", list);
    else {
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "No network interface is up that a guest could send to");
        doctor_fix(n->doctor, "virsh -c qemu:///system net-start default    # libvirt's own network");
    }
}

/* A guest on macvtap reaches everybody but its host. */
static void check_macvtap(struct network *n)
{
    for (int i = 0; i < n->count && n->options->source != FROM_PCAP; i++) {
        const struct doctor_interface *interface = &n->interfaces[i];
        if (!is_macvtap(n, interface) || (n->options->interface && interface != n->chosen))
            continue;
        bool other_way = interface != n->chosen && n->relevant_count > 0;
        doctor_say(n->doctor, DOCTOR_NETWORK, other_way ? DOCTOR_WARN : DOCTOR_FAIL,
                   "%s: a VM that is connected by macvtap cannot be heard on its own host", interface->name);
        doctor_fix(n->doctor, "Give the VM a second network card on a bridge (NAME is the VM's):");
        doctor_fix(n->doctor, "virsh -c qemu:///system attach-interface NAME network default --model virtio --config "
                              "--live");
    }
}

/* The interface that packets to `address` would leave by. False: no route. */
static bool route_interface(const struct network *n, uint32_t address, char out[IF_NAMESIZE])
{
    char table[16384];
    uint32_t best_mask = 0;
    bool found = false;
    if (doctor_read(n->doctor->env, table, sizeof table, "/proc/net/route") < 0)
        return false;
    char *rest = NULL;
    for (char *line = strtok_r(table, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[IF_NAMESIZE];
        uint32_t destination, mask;
        if (sscanf(line, "%15s %x %*x %*x %*d %*d %*d %x", name, &destination, &mask) != 3 ||
            (address & mask) != destination || (found && ntohl(mask) <= ntohl(best_mask)))
            continue;
        found = true;
        best_mask = mask;
        strcpy(out, name);
    }
    return found;
}

static long sysctl_number(const struct network *n, const char *interface, const char *name)
{
    char text[32];
    return doctor_read(n->doctor->env, text, sizeof text, "/proc/sys/net/ipv4/conf/%s/%s", interface, name) > 0
               ? strtol(text, NULL, 10)
               : 0;
}

/* The kernel drops what comes in by another way than its answer would leave by. */
static void check_rp_filter(struct network *n)
{
    for (unsigned i = 0; i < n->relevant_count; i++) {
        const struct doctor_interface *interface = n->relevant[i];
        long all = sysctl_number(n, "all", "rp_filter"), own = sysctl_number(n, interface->name, "rp_filter");
        long filter = all > own ? all : own;
        char route[IF_NAMESIZE], address[INET_ADDRSTRLEN];
        const char *why = NULL;
        char text[96];
        if (filter && !interface->address)
            why = "it has no address";
        for (unsigned k = 0; k < n->options->from_count && filter == 1 && !why && n->chosen; k++) {
            if (route_interface(n, n->options->from[k], route) && strcmp(route, interface->name) != 0) {
                snprintf(text, sizeof text, "the route to %s leads to %s", address_text(n->options->from[k], address),
                         route);
                why = text;
            }
        }
        if (why && !(interface->flags & IFF_LOOPBACK)) {
            doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_FAIL,
                       "The kernel (rp_filter = %ld) drops what comes in by %s: %s", filter, interface->name, why);
            if (!interface->address)
                doctor_fix(n->doctor, "sudo ip addr add 192.168.77.1/24 dev %s    # any address that is free",
                           interface->name);
            doctor_fix(n->doctor, "%ssudo sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.%s.rp_filter=0",
                       interface->address ? "" : "or: ", interface->name);
        } else {
            doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_OK, "rp_filter lets packets in by %s", interface->name);
        }
    }
}

/* Is any socket bound to the port? Its user. */
static bool is_bound(const struct network *n, unsigned *uid)
{
    static const char *const tables[] = {"/proc/net/udp", "/proc/net/udp6"};
    char path[DOCTOR_PATH_MAX], line[512];
    bool found = false;
    for (unsigned i = 0; i < 2 && !found; i++) {
        FILE *file = fopen(doctor_path(n->doctor->env, path, "%s", tables[i]), "re");
        while (file && !found && fgets(line, sizeof line, file)) {
            unsigned port;
            found = sscanf(line, "%*s %*[0-9A-Fa-f]:%x %*s %*s %*s %*s %*s %u", &port, uid) == 2 &&
                    port == n->options->port;
        }
        if (file)
            fclose(file);
    }
    return found;
}

static void check_port(struct network *n)
{
    struct doctor *doctor = n->doctor;
    char holder[64] = "";
    unsigned uid = 0, port = n->options->port;
    n->is_bound = is_bound(n, &uid);
    bool known = n->is_bound && doctor->env->port_holder(doctor->env->arg, n->options->port, holder, sizeof holder);
    const char *holder_pid = strstr(holder, "(pid ");
    n->is_ours = known && strncmp(holder, "earshot (", 9) == 0;
    for (unsigned i = 0; holder_pid && i < doctor->earshot_count; i++)
        n->is_ours = n->is_ours || strtol(holder_pid + 5, NULL, 10) == doctor->earshots[i];
    if (!n->is_bound) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_SKIP, "Nobody listens on UDP port %u yet: it is free", port);
    } else if (n->is_ours) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "UDP port %u is %s's", port, holder);
    } else if (known) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "UDP port %u is taken by %s", port, holder);
        doctor_fix(doctor, "systemctl --user disable --now scream    # if it is a service");
        doctor_fix(doctor, "kill %.*s", holder_pid ? (int)strcspn(holder_pid + 5, ")") : 0,
                   holder_pid ? holder_pid + 5 : "");
    } else if (uid == doctor->env->uid && doctor->earshot_count) {
        n->is_ours = true; /* its open files cannot be read where it runs with capabilities of its own */
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "UDP port %u is taken, by an earshot as it seems", port);
    } else {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "UDP port %u is taken by a program of %s", port,
                   uid ? "another user (or in a container)" : "root's");
        doctor_fix(doctor, "sudo ss -ulpn 'sport = :%u'    # names it", port);
        doctor_root_would(doctor, "who has the port");
    }
}

/* The interfaces that are members of the group, as the kernel lists them. */
static unsigned members(const struct network *n, char names[][IF_NAMESIZE], unsigned max)
{
    char path[DOCTOR_PATH_MAX], line[256], name[IF_NAMESIZE] = "";
    struct in_addr group;
    unsigned count = 0;
    FILE *file = fopen(doctor_path(n->doctor->env, path, "/proc/net/igmp"), "re");
    if (!file || inet_pton(AF_INET, n->options->group, &group) != 1)
        goto out;
    while (fgets(line, sizeof line, file)) {
        unsigned address;
        if (line[0] != '\t')
            sscanf(line, "%*d %15[^ \t:]", name);
        else if (sscanf(line, " %x", &address) == 1 && address == group.s_addr && count < max)
            strcpy(names[count++], name);
    }
out:
    if (file)
        fclose(file);
    return count;
}

static bool check_membership(struct network *n)
{
    struct doctor *doctor = n->doctor;
    if (n->options->source != FROM_MULTICAST || !n->is_ours)
        return true;
    char names[DOCTOR_INTERFACES_MAX][IF_NAMESIZE];
    unsigned count = members(n, names, DOCTOR_INTERFACES_MAX);
    bool good = count > 0;
    for (unsigned i = 0; i < n->relevant_count; i++) {
        bool member = false;
        for (unsigned k = 0; k < count; k++)
            member = member || !strcmp(names[k], n->relevant[i]->name);
        if (member) {
            doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "%s is a member of the group %s", n->relevant[i]->name,
                       n->options->group);
            continue;
        }
        good = false;
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "The running earshot has not joined the group %s on %s",
                   n->options->group, n->relevant[i]->name);
        doctor_fix(doctor, "Does it run with other options (-g, -i)? Else: systemctl --user restart earshot");
    }
    if (!n->relevant_count && count)
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "The group %s is joined on %s%s", n->options->group, names[0],
                   count > 1 ? " and others" : "");
    if (!n->relevant_count && !count) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "The running earshot has not joined the group %s",
                   n->options->group);
        doctor_fix(doctor, "Does it run with other options (-u, -g)? Else: systemctl --user restart earshot");
    }
    return good;
}

/* Multicast packets the kernel has taken in since it was started, before any firewall's input rules. */
static uint64_t multicast_count(const struct network *n)
{
    char text[8192];
    if (doctor_read(n->doctor->env, text, sizeof text, "/proc/net/netstat") < 0)
        return 0;
    char *names = strstr(text, "IpExt: "), *values = names ? strstr(names + 1, "IpExt: ") : NULL;
    if (!values)
        return 0;
    values[-1] = 0;
    char *name_rest = NULL, *value_rest = NULL;
    char *name = strtok_r(names, " \n", &name_rest), *value = strtok_r(values, " \n", &value_rest);
    while (name && value && strcmp(name, "InMcastPkts") != 0) {
        name = strtok_r(NULL, " \n", &name_rest);
        value = strtok_r(NULL, " \n", &value_rest);
    }
    return name && value ? strtoull(value, NULL, 10) : 0;
}

static int listen_on_wire(struct network *n)
{
    struct doctor *doctor = n->doctor;
    if (doctor->wire_port != n->options->port)
        doctor->wire_result = doctor->env->wire(doctor->env->arg, n->options->port, WIRE_MS, doctor->wire);
    doctor->wire_port = n->options->port;
    return doctor->wire_result;
}

/* Is it some stream's, be it another source's? */
static bool is_stream(const struct network *n, uint32_t address)
{
    size_t count = n->doctor->streams ? json_object_array_length(n->doctor->streams) : 0;
    char text[INET_ADDRSTRLEN];
    address_text(address, text);
    for (size_t i = 0; i < count; i++) {
        struct json_object *stream = json_object_array_get_idx(n->doctor->streams, i);
        if (strcmp(doctor_text(doctor_member(stream, "source"), "address"), text) == 0 &&
            strcmp(doctor_text(stream, "state"), "idle") != 0)
            return true;
    }
    return false;
}

/* Of those who send, one that this source wants, or else does not want; NULL. */
static const struct doctor_sender *find_sender(const struct network *n, bool wanted)
{
    for (unsigned i = 0; i < n->doctor->wire->count; i++) {
        const struct doctor_sender *sender = &n->doctor->wire->senders[i];
        if (wants_sender(n->options, sender->address) == wanted && !is_stream(n, sender->address))
            return sender;
    }
    return NULL;
}

static void say_unheard(struct network *n, const struct doctor_sender *sender)
{
    struct doctor *doctor = n->doctor;
    unsigned rate = sender->packets * 1000 / WIRE_MS;
    char address[INET_ADDRSTRLEN];
    address_text(sender->address, address);
    bool elsewhere = n->chosen && strcmp(sender->interface, n->chosen->name) != 0;
    if (!elsewhere && doctor_check_firewall(doctor, sender->interface, n->options->port, true)) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "%u packets a second come from %s by %s", rate, address,
                   sender->interface);
        return;
    }
    doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "%u packets a second come from %s by %s, but earshot gets none",
               rate, address, sender->interface);
    if (elsewhere) {
        doctor_fix(doctor, "-i %s listens elsewhere: take -i %s.", n->options->interface, sender->interface);
    } else {
        doctor_fix(doctor, "A firewall drops them, or the running earshot has a --from that leaves this sender out.");
        doctor_fix(doctor, "With nftables, in the table and chain of your input rules:");
        doctor_fix(doctor, "sudo nft insert rule inet filter input iifname %s udp dport %u accept", sender->interface,
                   n->options->port);
    }
}

/* `seen`: as root, on the wire; else only that nothing is heard is known. */
static void say_silence(struct network *n, bool seen)
{
    if (seen)
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_WARN, "No%s packet for port %u came within a second",
                   n->doctor->wire->count ? " other" : "", n->options->port);
    else
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_WARN, "Earshot listens, and %s",
                   n->before ? "hears a guest no longer that it has heard before" : "has heard no guest yet");
    doctor_fix(n->doctor, "In Windows: is Scream the output, and does something play?");
    if (n->options->source == FROM_UNICAST)
        doctor_fix(n->doctor,
                   "Its registry key Scream\\Options must have this host's address in UnicastIPv4 and port %u "
                   "in UnicastPort.",
                   n->options->port);
    else
        doctor_fix(n->doctor,
                   "Its registry key Scream\\Options must have neither UnicastIPv4 nor UseIVSHMEM; reboot.");
}

/* What cannot be seen on the wire is guessed from the kernel's counters. */
static void check_counters(struct network *n, bool listening)
{
    doctor_root_would(n->doctor, "packets on the wire");
    uint64_t before = multicast_count(n);
    n->doctor->env->pause(n->doctor->env->arg, COUNT_MS);
    uint64_t came = multicast_count(n) - before;
    if (listening && came >= COUNT_MIN && n->options->source == FROM_MULTICAST) {
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_WARN,
                   "%llu multicast packets a second come in, and none reaches earshot: a firewall?",
                   (unsigned long long)(came * 1000 / COUNT_MS));
        doctor_fix(n->doctor, "sudo earshot doctor    # sees whose they are");
    } else if (listening) {
        say_silence(n, false);
    }
}

/* Do packets come in that nobody gets? */
static void check_wire(struct network *n, bool joined)
{
    struct doctor *doctor = n->doctor;
    bool listening = n->is_ours && joined;
    int r = listen_on_wire(n);
    const struct doctor_sender *sender = r == 0 ? find_sender(n, true) : NULL;
    const struct doctor_sender *other = r == 0 && !sender ? find_sender(n, false) : NULL;
    char address[INET_ADDRSTRLEN];
    if (sender && listening) {
        say_unheard(n, sender);
        return;
    }
    if (sender) {
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_OK, "Packets come from %s by %s",
                   address_text(sender->address, address), sender->interface);
    } else if (other) {
        address_text(other->address, address);
        doctor_say(doctor, DOCTOR_NETWORK, DOCTOR_WARN, "Packets come from %s by %s, which --from leaves out",
                   address, other->interface);
        doctor_fix(doctor, "Is that the VM? Then add %s to --from, or leave --from away.", address);
    } else if (r == 0) {
        say_silence(n, true);
    } else {
        check_counters(n, listening);
    }
    /* Who was heard before has no firewall in the way. */
    for (unsigned i = 0; i < n->relevant_count && !n->before; i++)
        doctor_check_firewall(doctor, n->relevant[i]->name, n->options->port, false);
    if (!n->relevant_count && !n->before)
        doctor_check_firewall(doctor, "", n->options->port, false);
}

static void check_capture(struct network *n)
{
    int r = listen_on_wire(n);
    const struct doctor_sender *sender = r == 0 ? find_sender(n, true) : NULL;
    if (r == -EPERM) {
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_FAIL, "Capturing packets (-P) is not permitted to earshot");
        doctor_fix(n->doctor, "sudo setcap cap_net_raw+ep \"$(command -v earshot)\"    # again after each update");
    } else if (sender) {
        doctor_say(n->doctor, DOCTOR_NETWORK, DOCTOR_OK, "Packets for port %u come by %s", n->options->port,
                   sender->interface);
    } else if (r == 0) {
        say_silence(n, true);
    }
}

void doctor_check_network(struct doctor *doctor, const struct options *options)
{
    struct network *n = calloc(1, sizeof *n);
    if (!n)
        return;
    *n = (struct network){.doctor = doctor, .options = options};
    n->count = doctor->env->interfaces(doctor->env->arg, n->interfaces);
    find_interfaces(n);
    find_heard(n);
    check_interfaces(n);
    if (!n->heard) {
        if (doctor->sees_processes && !doctor->vm_count)
            doctor_say(doctor, DOCTOR_VM, DOCTOR_WARN, "No VM is running on this computer (no QEMU was found)");
        check_memory_instead(n);
        check_macvtap(n);
        check_rp_filter(n);
    }
    if (options->source == FROM_PCAP) {
        check_capture(n);
    } else {
        check_port(n);
        bool joined = n->heard || check_membership(n);
        if (!n->heard && (!options->interface || n->chosen))
            check_wire(n, joined);
    }
    free(n);
}
