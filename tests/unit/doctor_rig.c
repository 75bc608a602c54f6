/* SPDX-License-Identifier: MIT */
#include "tests/unit/doctor_rig.h"

#include "ringbuf/scream_shm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>

#define QEMU_PID    4242
#define EARSHOT_PID 4343

static void make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
}

void rig_write_bytes(struct rig *rig, const char *path, const void *data, size_t bytes)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", rig->root, path);
    make_directories(full);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

void rig_write(struct rig *rig, const char *path, const char *text)
{
    rig_write_bytes(rig, path, text, strlen(text));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void rig_remove(struct rig *rig, const char *path)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", rig->root, path);
    nftw(full, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void rig_command(struct rig *rig, const char *line, int status, const char *output)
{
    assert_true(rig->command_count < sizeof rig->commands / sizeof *rig->commands);
    rig->commands[rig->command_count++] = (struct rig_command){line, status, output};
}

static int run_command(void *arg, const char *const *argv, char **output)
{
    struct rig *rig = arg;
    char line[512] = "";
    for (; *argv; argv++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", line[0] ? " " : "", *argv);
    if (strncmp(line, "sudo", 4) == 0 || strstr(line, "virsh edit") || strstr(line, "virsh define"))
        fail_msg("it must not: %s", line);
    if (strncmp(line, "systemctl", 9) == 0 && !strstr(line, "is-enabled"))
        snprintf(rig->calls + strlen(rig->calls), sizeof rig->calls - strlen(rig->calls), "%s\n", line);
    for (unsigned i = rig->command_count; i-- > 0;) {
        const struct rig_command *command = &rig->commands[i];
        if (strncmp(line, command->line, strlen(command->line)) != 0)
            continue;
        if (command->status >= 0)
            *output = strdup(command->output);
        return command->status;
    }
    return -ENOENT;
}

static void write_netstat(struct rig *rig, unsigned packets)
{
    char text[256];
    snprintf(text, sizeof text,
             "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InMcastPkts OutMcastPkts\nIpExt: 0 %u 7\n", packets);
    rig_write(rig, "/proc/net/netstat", text);
}

/* The guest's next chunks. */
static void wait_a_moment(void *arg, unsigned ms)
{
    struct rig *rig = arg;
    (void)ms;
    if (rig->multicast_grows)
        write_netstat(rig, 1000 + rig->multicast_grows);
    FILE *file = rig->ring_stands ? NULL : fopen(rig->ring, "r+");
    if (!file)
        return;
    uint8_t bytes[SCREAM_SHM_HEADER_BYTES];
    struct scream_shm_header header;
    if (fread(bytes, sizeof bytes, 1, file) == 1) {
        scream_shm_decode(&header, bytes);
        if (header.magic == SCREAM_SHM_MAGIC) {
            header.write_idx = (uint16_t)((header.write_idx + 5) % header.max_chunks);
            scream_shm_encode(bytes, &header);
            rewind(file);
            fwrite(bytes, sizeof bytes, 1, file);
        }
    }
    fclose(file);
}

static int list_interfaces(void *arg, struct doctor_interface *interfaces)
{
    const struct rig *rig = arg;
    memcpy(interfaces, rig->interfaces, (size_t)rig->interface_count * sizeof *interfaces);
    return rig->interface_count;
}

static int look_at_wire(void *arg, uint16_t port, unsigned ms, struct doctor_wire *wire)
{
    const struct rig *rig = arg;
    (void)port, (void)ms;
    *wire = rig->wire;
    return rig->wire_result;
}

static bool find_holder(void *arg, uint16_t port, char *out, size_t size)
{
    const struct rig *rig = arg;
    (void)port;
    if (rig->holder)
        snprintf(out, size, "%s", rig->holder);
    return rig->holder != NULL;
}

static int probe(void *arg, const struct backend *backend, const struct backend_context_params *params)
{
    (void)backend, (void)params;
    return ((const struct rig *)arg)->probe_result;
}

static int ask_streams(void *arg, struct json_object **streams)
{
    const struct rig *rig = arg;
    if (!rig->streams)
        return -ENOENT;
    *streams = json_tokener_parse(rig->streams);
    assert_non_null(*streams);
    return 0;
}

static int ask_rtkit(void *arg)
{
    return ((const struct rig *)arg)->rtkit;
}

static void write_process(struct rig *rig, int pid, unsigned uid, const char *comm, const char *arguments)
{
    char path[64], text[4096];
    size_t length = strlen(arguments);
    assert_true(length < sizeof text);
    memcpy(text, arguments, length + 1);
    for (size_t i = 0; i < length; i++)
        text[i] = arguments[i] == '\n' ? 0 : arguments[i];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    rig_write_bytes(rig, path, text, length + 1);
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    snprintf(text, sizeof text, "%s\n", comm);
    rig_write(rig, path, text);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    snprintf(text, sizeof text, "Name:\t%s\nUid:\t%u\t%u\t%u\t%u\nGid:\t0\t0\t0\t0\n", comm, uid, uid, uid, uid);
    rig_write(rig, path, text);
}

void rig_qemu(struct rig *rig, int pid, const char *arguments)
{
    write_process(rig, pid, 64055, "qemu-system-x86", arguments);
}

void rig_ring(struct rig *rig, unsigned magic, size_t bytes)
{
    uint8_t *memory = calloc(1, bytes + SCREAM_SHM_HEADER_BYTES);
    assert_non_null(memory);
    const struct scream_shm_header header = {.magic = magic,
                                             .write_idx = 7,
                                             .offset = 24,
                                             .max_chunks = (uint16_t)(bytes / 3840),
                                             .chunk_size = 3840,
                                             .sample_rate = 1,
                                             .sample_size = 16,
                                             .channels = 2,
                                             .channel_map = 3};
    if (magic)
        scream_shm_encode(memory, &header);
    rig_write_bytes(rig, "/shm/scream", memory, bytes);
    free(memory);
}

void rig_shm(struct rig *rig)
{
    char arguments[512];
    snprintf(
        arguments, sizeof arguments,
        "/usr/bin/qemu-system-x86_64\n-name\nguest=win10,debug-threads=on\n-object\n"
        "{\"qom-type\":\"memory-backend-file\",\"id\":\"shmmem-shmem0\",\"mem-path\":\"%s\",\"size\":2097152,"
        "\"share\":true}\n-device\n{\"driver\":\"ivshmem-plain\",\"id\":\"shmem0\",\"memdev\":\"shmmem-shmem0\"}",
        rig->ring);
    rig_qemu(rig, QEMU_PID, arguments);
    rig_ring(rig, SCREAM_SHM_MAGIC, 2 << 20);
    rig->options.source = FROM_SHM;
    rig->options.shm_path = rig->ring;
}

void rig_network(struct rig *rig)
{
    rig->options.source = FROM_MULTICAST;
    rig_qemu(rig, QEMU_PID, "/usr/bin/qemu-system-x86_64\n-name\nguest=win10");
    rig->streams = "[{\"name\":\"239.255.77.77:4010\",\"state\":\"waiting\",\"source\":{\"kind\":\"udp\",\"address\":"
                   "\"239.255.77.77:4010\"},\"format\":{\"rate\":0}}]";
}

static void set_up_network(struct rig *rig)
{
    rig->interfaces[0] = (struct doctor_interface){
        .name = "lo", .flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK, .address = inet_addr("127.0.0.1")};
    rig->interfaces[1] = (struct doctor_interface){
        .name = "enp5s0", .flags = IFF_UP | IFF_RUNNING | IFF_MULTICAST, .address = inet_addr("192.168.1.5")};
    rig->interfaces[2] = (struct doctor_interface){
        .name = "virbr0", .flags = IFF_UP | IFF_RUNNING | IFF_MULTICAST, .address = inet_addr("192.168.122.1")};
    rig->interface_count = 3;
    rig_write(rig, "/sys/class/net/virbr0/bridge/stp_state", "1\n");
    rig_write(rig, "/sys/class/net/virbr0/brif/vnet3/port_no", "0x1\n");
    rig_write(rig, "/proc/net/igmp",
              "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
              "1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
              "3\tvirbr0    :     2      V3\n\t\t\t\t4D4DFFEF     1 0:00000000\t\t0\n"
              "\t\t\t\t010000E0     1 0:00000000\t\t0\n");
    rig_write(
        rig, "/proc/net/udp",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref\n"
        "  100: 00000000:0FAA 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 12345 2\n");
    rig_write(rig, "/proc/net/route",
              "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
              "virbr0\t007AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
              "enp5s0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n");
    rig_write(rig, "/proc/sys/net/ipv4/conf/all/rp_filter", "2\n");
    rig_write(rig, "/proc/sys/net/ipv4/conf/virbr0/rp_filter", "1\n");
    write_netstat(rig, 1000);
    rig->holder = "earshot (pid 4343)";
    rig->wire_result = -EPERM;
}

int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    if (!rig)
        return -1;
    strcpy(rig->root, "/tmp/earshot-doctor-XXXXXX");
    if (!mkdtemp(rig->root))
        return -1;
    snprintf(rig->ring, sizeof rig->ring, "%s/shm/scream", rig->root);
    rig->env = (struct doctor_env){.root = rig->root,
                                   .uid = 1000,
                                   .user = "anna",
                                   .runtime_dir = "",
                                   .arg = rig,
                                   .command = run_command,
                                   .pause = wait_a_moment,
                                   .interfaces = list_interfaces,
                                   .wire = look_at_wire,
                                   .port_holder = find_holder,
                                   .probe = probe,
                                   .streams = ask_streams,
                                   .rtkit = ask_rtkit};
    /* -o raw: what has no server to ask; tests about sound say otherwise. */
    rig->options = (struct options){.port = 4010, .group = "239.255.77.77", .backend = "raw", .raw = true};
    rig_write(rig, "/proc/1/cmdline", "init");
    write_process(rig, EARSHOT_PID, 1000, "earshot", "earshot");
    rig_write(
        rig, "/proc/4343/task/4343/stat",
        "4343 (earshot (x) y) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 1 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 17 0 "
        "0 0 0 0\n");
    rig_write(
        rig, "/proc/4343/task/4344/stat",
        "4344 (source) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 -16 0 3 0 1 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 -1 0 15 1 "
        "0 0\n");
    rig_command(rig, "systemctl --user show earshot.service", 0,
                "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\n");
    rig_write(rig, "/var/lib/systemd/linger/other", "");
    set_up_network(rig);
    rig_shm(rig);
    static char streams[400];
    snprintf(streams, sizeof streams,
             "[{\"name\":\"win10\",\"state\":\"playing\",\"source\":{\"kind\":\"shm\",\"address\":\"%s\"},"
             "\"format\":{\"rate\":48000},\"latency_ms\":{\"total\":43.1},\"underruns\":0}]",
             rig->ring);
    rig->streams = streams;
    rig->rtkit = 1;
    *state = rig;
    return 0;
}

int rig_teardown(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "");
    free(rig->text);
    free(rig);
    return 0;
}

void rig_run(struct rig *rig, bool verbose)
{
    free(rig->text);
    rig->text = NULL;
    size_t size;
    FILE *out = open_memstream(&rig->text, &size);
    assert_non_null(out);
    const struct options *sources[] = {&rig->options};
    struct doctor_params params = {
        .sources = sources, .source_count = 1, .verbose = verbose, .out = out, .env = &rig->env};
    rig->status = doctor_run(&params);
    fclose(out);
}

void rig_expect_healthy(struct rig *rig)
{
    rig_run(rig, false);
    if (rig->status != 0 || strncmp(rig->text, "Nothing is broken. ", 19) != 0 || strstr(rig->text, "to look at"))
        fail_msg("not healthy:\n%s", rig->text);
}

static void expect_first(struct rig *rig, const char *word, const char *line, const char *fix, int status)
{
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s  %s", word, line);
    rig_run(rig, false);
    if (strncmp(rig->text, wanted, strlen(wanted)) != 0 || rig->status != status)
        fail_msg("wanted first: %s\nstatus %d:\n%s", wanted, rig->status, rig->text);
    const char *found = fix ? strstr(rig->text, fix) : NULL;
    if (!fix)
        return;
    if (!found)
        fail_msg("wanted as the cure: %s\nin:\n%s", fix, rig->text);
    for (const char *next = strchr(rig->text, '\n'); next && next < found; next = strchr(next + 1, '\n')) {
        if (next[1] != ' ')
            fail_msg("the cure belongs to another line: %s\nin:\n%s", fix, rig->text);
    }
}

void rig_expect(struct rig *rig, const char *line, const char *fix)
{
    expect_first(rig, "FAIL", line, fix, 1);
}

void rig_expect_warning(struct rig *rig, const char *line, const char *fix)
{
    expect_first(rig, "warn", line, fix, 0);
}
