/* SPDX-License-Identifier: MIT
 *
 * What a firewall says of itself. Rules are not evaluated here: firewalld and ufw are asked what they allow, and raw
 * rules are searched for what can stop a packet and for what lets ours in.
 */
#include "receiver/doctor_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct firewall {
    struct doctor *doctor;
    const char *interface; /* "": not known */
    uint16_t port;
    bool suspect;
};

static int command(const struct firewall *f, char **output, const char *const *argv)
{
    return f->doctor->env->command(f->doctor->env->arg, argv, output);
}

/* --- firewalld */

/* The rest of the line "  KEY: ..." of firewall-cmd --info-zone; "" where there is none. */
static void zone_line(const char *info, const char *key, char *out, size_t size)
{
    out[0] = 0;
    for (const char *line = info; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *text = line + strspn(line, " \t");
        size_t length = strlen(key);
        if (strncmp(text, key, length) != 0 || text[length] != ':')
            continue;
        text += length + 1;
        text += *text == ' ';
        snprintf(out, size, "%.*s", (int)strcspn(text, "\n"), text);
        return;
    }
}

/* Does "1025-65535/udp 22/tcp" have the port? */
static bool has_port(char *ports, unsigned port)
{
    char *rest = NULL;
    for (char *item = strtok_r(ports, " ", &rest); item; item = strtok_r(NULL, " ", &rest)) {
        unsigned first, last;
        char protocol[8] = "";
        if (sscanf(item, "%u-%u/%7s", &first, &last, protocol) != 3) {
            if (sscanf(item, "%u/%7s", &first, protocol) != 2)
                continue;
            last = first;
        }
        if (!strcmp(protocol, "udp") && first <= port && port <= last)
            return true;
    }
    return false;
}

static void fix_firewalld(const struct firewall *f, const char *zone)
{
    struct doctor_quoted quoted = doctor_quote(zone);
    doctor_fix(f->doctor, "sudo firewall-cmd --zone=%s --add-port=%u/udp", quoted.text, f->port);
    doctor_fix(f->doctor, "sudo firewall-cmd --permanent --zone=%s --add-port=%u/udp", quoted.text, f->port);
}

static bool judge_zone(const struct firewall *f, const char *zone, const char *info)
{
    char target[32], ports[2048];
    zone_line(info, "target", target, sizeof target);
    zone_line(info, "ports", ports, sizeof ports);
    /* libvirt's zone accepts everything, and rejects the rest by a rich rule. */
    const char *rules = strstr(info, "rich rules:");
    bool rejects = rules && (strstr(rules, "reject") || strstr(rules, "drop"));
    if (has_port(ports, f->port) || (!strcmp(target, "ACCEPT") && !rejects)) {
        doctor_say(f->doctor, DOCTOR_NETWORK, DOCTOR_OK, "firewalld lets UDP port %u in (zone %.40s)", f->port, zone);
        return false;
    }
    doctor_say(f->doctor, DOCTOR_NETWORK, rules && strstr(rules, "accept") ? DOCTOR_WARN : DOCTOR_FAIL,
               "firewalld does not let UDP port %u in%s%s (zone %.40s)", f->port, *f->interface ? " by " : "",
               f->interface, zone);
    fix_firewalld(f, zone);
    return true;
}

/* 1: it is in the way; 0: it lets us in; -ENOENT: there is none; else it cannot be asked. */
static int check_firewalld(const struct firewall *f)
{
    char *output = NULL, zone[64] = "", option[96];
    int r = command(f, &output, (const char *const[]){"firewall-cmd", "--state", NULL});
    bool running = r == 0 && strstr(output, "running");
    free(output);
    if (!running)
        return r == -ETIMEDOUT ? r : -ENOENT;
    output = NULL;
    snprintf(option, sizeof option, "--get-zone-of-interface=%s", f->interface);
    r = *f->interface ? command(f, &output, (const char *const[]){"firewall-cmd", option, NULL}) : -ENOENT;
    if (r != 0) {
        free(output);
        output = NULL;
        /* libvirt puts its bridges into a zone of its own, when it makes them. */
        r = strncmp(f->interface, "virbr", 5) == 0
                ? command(f, &output, (const char *const[]){"firewall-cmd", "--info-zone=libvirt", NULL})
                : -ENOENT;
        if (r == 0)
            strcpy(output, "libvirt");
    }
    if (r != 0) {
        free(output);
        output = NULL;
        r = command(f, &output, (const char *const[]){"firewall-cmd", "--get-default-zone", NULL});
    }
    if (r == 0)
        snprintf(zone, sizeof zone, "%.*s", (int)strcspn(output, " \n"), output);
    free(output);
    output = NULL;
    snprintf(option, sizeof option, "--info-zone=%.60s", zone);
    if (r == 0)
        r = command(f, &output, (const char *const[]){"firewall-cmd", option, NULL});
    int result = -EACCES;
    if (r == 0)
        result = judge_zone(f, zone, output);
    free(output);
    return result;
}

/* --- ufw */

/* "### tuple ### allow udp 4010 0.0.0.0/0 any 0.0.0.0/0 in_virbr0": does it let the port in there? */
static bool tuple_allows(const struct firewall *f, const char *line)
{
    char action[24], protocol[8], ports[128], from[64], direction[64] = "";
    if (sscanf(line, "### tuple ### %23s %7s %127s %*s %*s %63s %63s", action, protocol, ports, from, direction) <
            5 ||
        strncmp(action, "allow", 5) != 0 || (strcmp(protocol, "udp") != 0 && strcmp(protocol, "any") != 0) ||
        (strcmp(direction, "in") != 0 &&
         (strncmp(direction, "in_", 3) != 0 || strcmp(direction + 3, f->interface) != 0)))
        return false;
    if (!strcmp(ports, "any"))
        return true;
    char *rest = NULL;
    for (char *item = strtok_r(ports, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        unsigned first, last;
        int numbers = sscanf(item, "%u:%u", &first, &last);
        if (numbers >= 1 && first <= f->port && f->port <= (numbers == 2 ? last : first))
            return true;
    }
    return false;
}

static int check_ufw(const struct firewall *f)
{
    const struct doctor_env *env = f->doctor->env;
    char text[65536];
    if (doctor_read(env, text, sizeof text, "/etc/ufw/ufw.conf") < 0 || !strstr(text, "\nENABLED=yes"))
        return -ENOENT;
    if (doctor_read(env, text, sizeof text, "/etc/default/ufw") > 0 &&
        strstr(text, "\nDEFAULT_INPUT_POLICY=\"ACCEPT\""))
        return 0;
    bool readable = doctor_read(env, text, sizeof text, "/etc/ufw/user.rules") >= 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); readable && line; line = strtok_r(NULL, "\n", &rest)) {
        if (!tuple_allows(f, line))
            continue;
        doctor_say(f->doctor, DOCTOR_NETWORK, DOCTOR_OK, "ufw lets UDP port %u in", f->port);
        return 0;
    }
    if (!readable)
        doctor_root_would(f->doctor, "ufw's rules");
    doctor_say(f->doctor, DOCTOR_NETWORK, readable || f->suspect ? DOCTOR_FAIL : DOCTOR_WARN,
               readable || f->suspect ? "ufw does not let UDP port %u in%s%s"
                                      : "ufw is on: does it let UDP port %u in%s%s?",
               f->port, *f->interface ? " by " : "", f->interface);
    if (*f->interface)
        doctor_fix(f->doctor, "sudo ufw allow in on %s to any port %u proto udp", f->interface, f->port);
    else
        doctor_fix(f->doctor, "sudo ufw allow %u/udp", f->port);
    return 1;
}

/* --- rules as such */

static const char *verb(const struct firewall *f)
{
    return f->suspect ? "stop" : "may stop";
}

/* "4010", also in { 22, 4000-4010 } after "dport", or as --dport(s) of iptables. */
static bool names_port(const char *rule, unsigned port)
{
    const char *at = strstr(rule, "dport");
    if (!at)
        return false;
    for (at += strcspn(at, " "); *at; at++) {
        char *end;
        unsigned long first, last;
        at += strspn(at, " {,");
        first = last = strtoul(at, &end, 10);
        if (end == at)
            return false;
        if (*end == '-' || *end == ':')
            last = strtoul(end + 1, &end, 10);
        if (first <= port && port <= last)
            return true;
        at = end;
        if (!*at)
            return false;
    }
    return false;
}

/* Could it let our packets in? */
static bool rule_accepts(const struct firewall *f, const char *rule)
{
    bool accept = strstr(rule, " accept") || strstr(rule, "-j ACCEPT");
    if (!accept || strstr(rule, "tcp") || strstr(rule, "icmp") || strstr(rule, "established") ||
        strstr(rule, "ESTABLISHED"))
        return false;
    if (strstr(rule, "dport"))
        return names_port(rule, f->port);
    return *f->interface && strstr(rule, f->interface);
}

/* The first input chain of `nft list ruleset` that stops what it does not know: its table and name. */
static bool find_stopping_chain(const struct firewall *f, char *ruleset, char table[96], char chain[64])
{
    char this_table[96] = "", this_chain[64] = "", *rest = NULL;
    bool input = false, stops = false, lets_in = false;
    for (char *line = strtok_r(ruleset, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char family[16], name[64];
        line += strspn(line, " \t");
        if (sscanf(line, "table %15s %63s", family, name) == 2) {
            snprintf(this_table, sizeof this_table, "%s %s", family, name);
        } else if (sscanf(line, "chain %63s", this_chain) == 1) {
            input = stops = lets_in = false;
        } else if (strstr(line, "hook input")) {
            input = true;
            stops = strstr(line, "policy drop") != NULL;
        } else if (*line == '}') {
            if (input && stops && !lets_in) {
                strcpy(table, this_table);
                strcpy(chain, this_chain);
                return true;
            }
            input = false;
        } else {
            bool bare =
                !strncmp(line, "drop", 4) || !strncmp(line, "reject", 6) || !strncmp(line, "counter packets", 15);
            stops = stops || (bare && (strstr(line, "drop") || strstr(line, "reject")));
            lets_in = lets_in || rule_accepts(f, line);
        }
    }
    return false;
}

static int check_nft(const struct firewall *f)
{
    char *output = NULL, table[96], chain[64];
    int r = command(f, &output, (const char *const[]){"nft", "list", "ruleset", NULL});
    if (r != 0) {
        free(output);
        return r > 0 ? -EPERM : r;
    }
    bool stopped = find_stopping_chain(f, output, table, chain);
    free(output);
    if (!stopped) {
        doctor_say(f->doctor, DOCTOR_NETWORK, DOCTOR_OK, "nftables has no rule that stops UDP port %u", f->port);
        return 0;
    }
    doctor_say(f->doctor, DOCTOR_NETWORK, f->suspect ? DOCTOR_FAIL : DOCTOR_WARN,
               "nftables' rules in %s, chain %s, %s UDP port %u", table, chain, verb(f), f->port);
    doctor_fix(f->doctor, "sudo nft insert rule %s %s %s%s udp dport %u accept    # until the next reboot", table,
               chain, *f->interface ? "iifname " : "", f->interface, f->port);
    return 1;
}

static int check_iptables(const struct firewall *f)
{
    char *output = NULL, *rest = NULL;
    int r = command(f, &output, (const char *const[]){"iptables", "-S", "INPUT", NULL});
    if (r != 0) {
        free(output);
        return r > 0 ? -EPERM : r;
    }
    bool stops = false, lets_in = false;
    for (char *line = strtok_r(output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        stops = stops || !strcmp(line, "-P INPUT DROP") || !strncmp(line, "-A INPUT -j DROP", 16) ||
                !strncmp(line, "-A INPUT -j REJECT", 18);
        lets_in = lets_in || rule_accepts(f, line);
    }
    free(output);
    if (!stops || lets_in) {
        doctor_say(f->doctor, DOCTOR_NETWORK, DOCTOR_OK, "iptables has no rule that stops UDP port %u", f->port);
        return 0;
    }
    doctor_say(f->doctor, DOCTOR_NETWORK, f->suspect ? DOCTOR_FAIL : DOCTOR_WARN,
               "iptables' INPUT rules %s UDP port %u", verb(f), f->port);
    doctor_fix(f->doctor, "sudo iptables -I INPUT %s%s -p udp --dport %u -j ACCEPT    # until the next reboot",
               *f->interface ? "-i " : "", f->interface, f->port);
    return 1;
}

bool doctor_check_firewall(struct doctor *doctor, const char *interface, uint16_t port, bool suspect)
{
    struct firewall f = {.doctor = doctor, .interface = interface, .port = port, .suspect = suspect};
    int r = check_firewalld(&f);
    if (r < 0 && r != -ENOENT)
        doctor_root_would(doctor, "firewalld's rules");
    if (r >= 0)
        return r;
    r = check_ufw(&f);
    if (r >= 0)
        return r;
    r = check_nft(&f);
    if (r == -ENOENT)
        r = check_iptables(&f);
    if (r < 0 && r != -ENOENT)
        doctor_root_would(doctor, "the firewall's rules");
    return r > 0;
}
