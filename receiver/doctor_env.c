/* SPDX-License-Identifier: MIT */
#include "receiver/doctor_env.h"

#include "receiver/status.h"
#include "receiver/udp_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <spawn.h>
#include <systemd/sd-bus.h>

#define OUTPUT_MAX      ((size_t)16 << 20)
#define SBIN            "/usr/local/sbin:/usr/sbin:/sbin"
#define RTKIT_NAME      "org.freedesktop.RealtimeKit1"
#define BUS_WAIT_USEC   UINT64_C(2000000)
#define WAIT_POLL_MS    5
#define PACKET_HEAD_MAX 128

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void here_pause(void *arg, unsigned ms)
{
    (void)arg;
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        ;
}

/* The environment with LC_ALL=C and the sbin directories on PATH: people's own PATH often lacks them, and nft is there.
 * To be freed with its first two strings. */
static char **command_environment(void)
{
    size_t count = 0;
    while (environ[count])
        count++;
    char **list = calloc(count + 3, sizeof *list);
    const char *path = getenv("PATH");
    if (!list || asprintf(&list[0], "PATH=%s:" SBIN, path && *path ? path : "/usr/local/bin:/usr/bin:/bin") < 0) {
        free(list);
        return NULL;
    }
    list[1] = strdup("LC_ALL=C");
    size_t to = 2;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "PATH=", 5) != 0 && strncmp(environ[i], "LC_ALL=", 7) != 0)
            list[to++] = environ[i];
    }
    return list;
}

static bool find_program(const char *path, const char *name, char out[DOCTOR_PATH_MAX])
{
    while (*path) {
        size_t length = strcspn(path, ":");
        int n = snprintf(out, DOCTOR_PATH_MAX, "%.*s/%s", (int)length, path, name);
        if (length && n < DOCTOR_PATH_MAX && access(out, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}

static int spawn(const char *const *argv, int output, pid_t *pid)
{
    char **environment = command_environment();
    if (!environment)
        return -ENOMEM;
    char program[DOCTOR_PATH_MAX];
    int r = -ENOENT;
    if (find_program(environment[0] + strlen("PATH="), argv[0], program)) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        r = -posix_spawn(pid, program, &actions, NULL, (char *const *)argv, environment);
        posix_spawn_file_actions_destroy(&actions);
    }
    free(environment[0]);
    free(environment[1]);
    free(environment);
    return r;
}

/* Reads until the other end closes, or until `end`. */
static int read_until(int fd, int64_t end_ms, char **output)
{
    size_t size = 0, room = 0;
    char *text = NULL;
    int r = 0;
    for (;;) {
        if (room - size < 4096) {
            room = room ? room * 2 : 16384;
            char *more = room <= OUTPUT_MAX ? realloc(text, room) : NULL;
            if (!more) {
                r = -ENOMEM;
                break;
            }
            text = more;
        }
        int64_t left = end_ms - now_ms();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        r = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            r = r < 0 ? -errno : -ETIMEDOUT;
            break;
        }
        ssize_t got = read(fd, text + size, room - size - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            r = got < 0 ? -errno : 0;
            break;
        }
        size += (size_t)got;
    }
    if (r < 0) {
        free(text);
        return r;
    }
    text[size] = 0;
    *output = text;
    return 0;
}

static int wait_until(pid_t pid, int64_t end_ms, bool kill_it)
{
    int status;
    if (kill_it)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, kill_it ? 0 : WNOHANG) != pid) {
        if (now_ms() >= end_ms && !kill_it) {
            kill(pid, SIGKILL);
            kill_it = true;
        }
        if (!kill_it)
            here_pause(NULL, WAIT_POLL_MS);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -ETIMEDOUT;
}

static int here_command(void *arg, const char *const *argv, char **output)
{
    (void)arg;
    *output = NULL;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    int64_t end_ms = now_ms() + DOCTOR_COMMAND_MS;
    pid_t pid;
    int r = spawn(argv, fds[1], &pid);
    close(fds[1]);
    if (r == 0) {
        r = read_until(fds[0], end_ms, output);
        int status = wait_until(pid, end_ms, r < 0);
        if (r == 0)
            r = status;
    }
    close(fds[0]);
    if (r < 0) {
        free(*output);
        *output = NULL;
    }
    return r;
}

static int here_interfaces(void *arg, struct doctor_interface *interfaces)
{
    (void)arg;
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return -errno;
    int count = 0;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct doctor_interface *entry = NULL;
        for (int k = 0; k < count && !entry; k++)
            entry = strcmp(interfaces[k].name, i->ifa_name) == 0 ? &interfaces[k] : NULL;
        if (!entry) {
            if (count == DOCTOR_INTERFACES_MAX || strlen(i->ifa_name) >= sizeof entry->name)
                continue;
            entry = &interfaces[count++];
            *entry = (struct doctor_interface){.flags = i->ifa_flags};
            strcpy(entry->name, i->ifa_name);
        }
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || entry->address)
            continue;
        struct sockaddr_in in;
        memcpy(&in, i->ifa_addr, sizeof in);
        entry->address = in.sin_addr.s_addr;
        if (i->ifa_netmask) {
            memcpy(&in, i->ifa_netmask, sizeof in);
            entry->netmask = in.sin_addr.s_addr;
        }
    }
    freeifaddrs(list);
    return count;
}

/* A bridge's port hands its packets to the bridge, where they are seen once more. */
static bool is_port(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/class/net/%.32s/brport", name);
    return access(path, F_OK) == 0;
}

static bool is_for(const uint8_t *packet, size_t bytes, uint16_t port, uint32_t *sender)
{
    struct iphdr ip;
    struct udphdr udp;
    if (bytes < sizeof ip)
        return false;
    memcpy(&ip, packet, sizeof ip);
    size_t at = (size_t)ip.ihl * 4;
    if (ip.version != 4 || ip.protocol != IPPROTO_UDP || ntohs(ip.frag_off) & 0x1fff || at + sizeof udp > bytes)
        return false;
    memcpy(&udp, packet + at, sizeof udp);
    *sender = ip.saddr;
    return ntohs(udp.dest) == port;
}

static void count_packet(struct doctor_wire *wire, uint32_t address, const char interface[IF_NAMESIZE])
{
    unsigned i = 0;
    while (i < wire->count && wire->senders[i].address != address)
        i++;
    if (i == DOCTOR_SENDERS_MAX)
        return;
    if (i == wire->count)
        wire->senders[wire->count++] = (struct doctor_sender){.address = address};
    wire->senders[i].packets++;
    memcpy(wire->senders[i].interface, interface, IF_NAMESIZE);
}

static int here_wire(void *arg, uint16_t port, unsigned ms, struct doctor_wire *wire)
{
    (void)arg;
    *wire = (struct doctor_wire){0};
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IP));
    if (fd < 0)
        return errno == EACCES ? -EPERM : -errno;
    int64_t end_ms = now_ms() + ms;
    for (int64_t left = ms; left > 0; left = end_ms - now_ms()) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, (int)left) <= 0)
            continue;
        uint8_t head[PACKET_HEAD_MAX];
        struct sockaddr_ll from = {0};
        socklen_t length = sizeof from;
        ssize_t got = recvfrom(fd, head, sizeof head, 0, (struct sockaddr *)&from, &length);
        char name[IF_NAMESIZE] = "";
        uint32_t sender;
        if (got < 0 || from.sll_pkttype == PACKET_OUTGOING || !is_for(head, (size_t)got, port, &sender) ||
            !if_indextoname((unsigned)from.sll_ifindex, name) || is_port(name))
            continue;
        count_packet(wire, sender, name);
    }
    close(fd);
    return 0;
}

static bool here_port_holder(void *arg, uint16_t port, char *out, size_t size)
{
    (void)arg;
    return udp_port_holder(port, out, size) > 0;
}

static int here_probe(void *arg, const struct backend *backend, const struct backend_context_params *params)
{
    (void)arg;
    return backend->probe(params);
}

static int here_streams(void *arg, struct json_object **streams)
{
    (void)arg;
    return status_ask(streams);
}

static bool listed(char **names, const char *name)
{
    bool found = false;
    for (char **n = names; n && *n; n++) {
        found = found || strcmp(*n, name) == 0;
        free(*n);
    }
    free(names);
    return found;
}

static int here_rtkit(void *arg)
{
    (void)arg;
    sd_bus *bus = NULL;
    char **acquired = NULL, **activatable = NULL;
    int r = sd_bus_open_system_with_description(&bus, "earshot-doctor");
    if (r >= 0)
        r = sd_bus_set_method_call_timeout(bus, BUS_WAIT_USEC);
    if (r >= 0)
        r = sd_bus_list_names(bus, &acquired, &activatable);
    if (r >= 0) {
        bool running = listed(acquired, RTKIT_NAME);
        r = listed(activatable, RTKIT_NAME) || running;
    }
    sd_bus_close(bus);
    sd_bus_unref(bus);
    return r;
}

/* The user who called sudo has the sound server, not root. Before any thread exists. */
static uid_t adopt_caller(void)
{
    const char *text = getenv("SUDO_UID");
    char *end;
    unsigned long uid = text && *text ? strtoul(text, &end, 10) : 0;
    char runtime[64], bus[96];
    struct stat st;
    if (geteuid() != 0 || uid == 0 || *end || uid > UINT32_MAX)
        return geteuid();
    snprintf(runtime, sizeof runtime, "/run/user/%lu", uid);
    snprintf(bus, sizeof bus, "unix:path=%s/bus", runtime);
    if (stat(runtime, &st) == 0 && st.st_uid == uid) {
        setenv("XDG_RUNTIME_DIR", runtime, 1);
        setenv("DBUS_SESSION_BUS_ADDRESS", bus, 1);
    }
    return (uid_t)uid;
}

struct doctor_env doctor_env_here(void)
{
    uid_t uid = adopt_caller();
    const struct passwd *user = getpwuid(uid);
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    struct doctor_env env = {.root = "",
                             .uid = uid,
                             .is_root = geteuid() == 0,
                             .runtime_dir = runtime ? runtime : "",
                             .command = here_command,
                             .pause = here_pause,
                             .interfaces = here_interfaces,
                             .wire = here_wire,
                             .port_holder = here_port_holder,
                             .probe = here_probe,
                             .streams = here_streams,
                             .rtkit = here_rtkit};
    snprintf(env.user, sizeof env.user, "%s", user ? user->pw_name : "YOU");
    return env;
}

static const char *join(const struct doctor_env *env, char out[DOCTOR_PATH_MAX], const char *format, va_list args)
{
    int length = snprintf(out, DOCTOR_PATH_MAX, "%s", env->root);
    if (length < DOCTOR_PATH_MAX)
        length += vsnprintf(out + length, (size_t)(DOCTOR_PATH_MAX - length), format, args);
    if (length >= DOCTOR_PATH_MAX)
        out[0] = 0;
    return out;
}

const char *doctor_path(const struct doctor_env *env, char out[DOCTOR_PATH_MAX], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    join(env, out, format, args);
    va_end(args);
    return out;
}

ssize_t doctor_read(const struct doctor_env *env, char *out, size_t size, const char *format, ...)
{
    char path[DOCTOR_PATH_MAX];
    va_list args;
    va_start(args, format);
    join(env, path, format, args);
    va_end(args);

    out[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length < size - 1) {
        got = read(fd, out + length, size - 1 - length);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            length += (size_t)got;
    }
    int error = got < 0 ? -errno : 0;
    close(fd);
    if (error < 0)
        return error;
    if (length && out[length - 1] == '\n')
        length--;
    out[length] = 0;
    return (ssize_t)length;
}
