/* SPDX-License-Identifier: MIT */
#include "receiver/options.h"

#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define MS_MAX           1000.0 /* what a feed can hold twice */
#define SECONDS_MAX      3600
#define DEFAULT_CAP_NS   200000000
#define DEFAULT_DEMO_SEC 20

#define IN_RUN         (1u << COMMAND_RUN | 1u << COMMAND_DOCTOR) /* the doctor looks at what these would play */
#define IN_STATUS      (1u << COMMAND_STATUS)
#define IN_DEMO        (1u << COMMAND_DEMO)
#define IN_SETUP       (1u << COMMAND_SETUP)
#define IN_TUNE        (1u << COMMAND_TUNE)
#define IN_ALL         (IN_RUN | IN_STATUS | IN_DEMO | IN_SETUP | IN_TUNE)
#define LIVE           (1u << 30) /* may be changed while it plays: what `earshot tune` takes */
#define IN_CONFIG      (1u << 31) /* a key of configuration files; on the command line it says what to play, or how */
#define IN_RUN_CONFIG  (IN_RUN | IN_CONFIG)
#define IN_DEMO_CONFIG (IN_RUN | IN_DEMO | IN_CONFIG)

/* Decimal digits only: strtol alone takes signs, spaces and hexadecimal. */
static int parse_number(const char *value, unsigned long min, unsigned long max, unsigned long *number)
{
    if (!*value || strspn(value, "0123456789") != strlen(value))
        return -EINVAL;
    errno = 0;
    unsigned long n = strtoul(value, NULL, 10);
    if (errno || n < min || n > max)
        return -EINVAL;
    *number = n;
    return 0;
}

static int parse_ms(const char *value, int64_t *ns)
{
    if (!*value || strspn(value, "0123456789.") != strlen(value))
        return -EINVAL;
    char *end;
    double ms = strtod(value, &end);
    if (*end || !(ms >= 0 && ms <= MS_MAX))
        return -EINVAL;
    *ns = (int64_t)llrint(ms * 1e6);
    return 0;
}

static int parse_text(const char *value, const char **text)
{
    if (!*value)
        return -EINVAL;
    *text = value;
    return 0;
}

static int set_shm(void *target, const char *value)
{
    struct options *options = target;
    options->source = FROM_SHM;
    if (value[0] == '~') /* which is the shell's */
        return -EINVAL;
    return parse_text(value, &options->shm_path);
}

static int set_unicast(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->source = FROM_UNICAST;
    return 0;
}

static int set_pcap(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->source = FROM_PCAP;
    return 0;
}

static int set_port(void *target, const char *value)
{
    unsigned long port;
    if (parse_number(value, 1, UINT16_MAX, &port) < 0)
        return -EINVAL;
    ((struct options *)target)->port = (uint16_t)port;
    return 0;
}

static int set_group(void *target, const char *value)
{
    struct in_addr address;
    if (inet_pton(AF_INET, value, &address) != 1 || !IN_MULTICAST(ntohl(address.s_addr)))
        return -EINVAL;
    ((struct options *)target)->group = value;
    return 0;
}

/* An address is no longer than a name may be, and the interface need not exist yet: only the shape can be checked. */
static int set_interface(void *target, const char *value)
{
    if (!*value || strlen(value) >= IF_NAMESIZE || strpbrk(value, "/ \t\n") || !strcmp(value, ".") ||
        !strcmp(value, ".."))
        return -EINVAL;
    ((struct options *)target)->interface = value;
    return 0;
}

static int set_from(void *target, const char *value)
{
    struct options *options = target;
    unsigned count = options->from_count;
    for (const char *p = value;;) {
        char text[INET_ADDRSTRLEN];
        struct in_addr address;
        size_t length = strcspn(p, ",");
        if (length >= sizeof(text) || count == OPTIONS_SENDERS_MAX)
            return -EINVAL;
        memcpy(text, p, length);
        text[length] = 0;
        if (inet_pton(AF_INET, text, &address) != 1)
            return -EINVAL;
        options->from[count++] = address.s_addr;
        if (!p[length])
            break;
        p += length + 1;
        p += strspn(p, " ");
    }
    options->from_count = count;
    return 0;
}

static const char *const backend_names[] = {"auto",  "pipewire", "pulse", "jack", "alsa",
                                            "sndio", "wav",      "raw",   "null", NULL};

static int set_backend(void *target, const char *value)
{
    for (const char *const *name = backend_names; *name; name++) {
        if (strcmp(*name, value))
            continue;
        struct options *options = target;
        options->backend = *name;
        options->raw = !strcmp(value, "raw");
        return 0;
    }
    return -EINVAL;
}

static int set_target(void *target, const char *value)
{
    return parse_text(value, &((struct options *)target)->target);
}

static int set_server(void *target, const char *value)
{
    return parse_text(value, &((struct options *)target)->server);
}

/* Repetitions of repetitions take gigabytes to compile, for a pattern doubles with each + and grows by each {}. */
static bool is_modest(const char *pattern)
{
    unsigned pluses = 0;
    for (const char *c = pattern; *c; c++)
        pluses += *c == '+';
    return *pattern && pluses <= 4 && !strchr(pattern, '{') && strlen(pattern) <= 256;
}

static int set_connect(void *target, const char *value)
{
    regex_t pattern;
    if (!is_modest(value) || regcomp(&pattern, value, REG_EXTENDED | REG_NOSUB) != 0)
        return -EINVAL;
    regfree(&pattern);
    ((struct options *)target)->connect = value;
    return 0;
}

static int set_no_connect(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->no_connect = true;
    return 0;
}

static int set_name(void *target, const char *value)
{
    return parse_text(value, &((struct options *)target)->name);
}

static int set_latency(void *target, const char *value)
{
    struct options *options = target;
    if (strcmp(value, "auto"))
        return parse_ms(value, &options->latency_ns);
    options->latency_ns = 0;
    return 0;
}

static int set_max_latency(void *target, const char *value)
{
    return parse_ms(value, &((struct options *)target)->max_latency_ns);
}

static int set_quality(void *target, const char *value)
{
    static const char *const names[] = {
        [RESAMPLER_FASTEST] = "fastest", [RESAMPLER_MEDIUM] = "medium", [RESAMPLER_BEST] = "best"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (!strcmp(names[i], value)) {
            ((struct options *)target)->quality = (enum resampler_quality)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int set_config(void *target, const char *value)
{
    struct options *options = target;
    if (options->config_count == OPTIONS_CONFIGS_MAX)
        return -EINVAL;
    return parse_text(value, &options->configs[options->config_count++]);
}

static int set_json(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->json = true;
    return 0;
}

static int set_watch(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->watch = true;
    return 0;
}

static int set_seconds(void *target, const char *value)
{
    unsigned long seconds;
    if (parse_number(value, 1, SECONDS_MAX, &seconds) < 0)
        return -EINVAL;
    ((struct options *)target)->seconds = (unsigned)seconds;
    return 0;
}

static int set_verbose(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->verbose = true;
    return 0;
}

static int set_version(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->version = true;
    return 0;
}

static int set_help(void *target, const char *value)
{
    (void)value;
    ((struct options *)target)->help = true;
    return 0;
}

#define TEXT "any text but an empty one"

/* clang-format off */
static const struct {
    struct option_spec spec;
    unsigned commands;
} rows[] = {
    {{'m', "shm", "PATH", "a path without ~, for instance /dev/shm/scream-ivshmem",
      "play the guest's shared memory", set_shm}, IN_RUN_CONFIG},
    {{'u', "unicast", NULL, NULL, "listen to packets sent to this host only", set_unicast}, IN_RUN_CONFIG},
    {{'p', "port", "N", "a port from 1 to 65535", "UDP port (4010)", set_port}, IN_RUN_CONFIG},
    {{'g', "group", "ADDR", "a multicast address, 224.0.0.0 to 239.255.255.255",
      "multicast group (239.255.77.77)", set_group}, IN_RUN_CONFIG},
    {{'i', "interface", "NAME|ADDR", "an interface's name (at most 15 characters) or address",
      "network interface to listen on (every one)", set_interface}, IN_RUN_CONFIG},
    {{'P', "pcap", NULL, NULL, "capture packets on the interface given with -i", set_pcap}, IN_RUN_CONFIG},
    {{0, "from", "ADDR,...", "up to 64 IPv4 addresses with commas between them",
      "play only these senders", set_from}, IN_RUN_CONFIG},
    {{'o', "backend", "NAME", "auto, pipewire, pulse, jack, alsa, sndio, wav, raw or null",
      "what to play through (auto)", set_backend}, IN_DEMO_CONFIG},
    {{'d', "target", "DEVICE", TEXT, "sink, device or file to play to", set_target}, IN_DEMO_CONFIG},
    {{'s', "sink", "DEVICE", TEXT, "the same as -d", set_target}, IN_DEMO_CONFIG},
    {{0, "server", "ADDR", TEXT, "sound server to connect to", set_server}, IN_DEMO_CONFIG},
    {{'n', "name", "NAME", TEXT, "name in mixers and in status", set_name}, IN_DEMO_CONFIG},
    {{'t', "latency", "auto|MS", "auto or milliseconds from 0 to 1000",
      "latency from the guest's chunk to the device (auto)", set_latency}, IN_DEMO_CONFIG | LIVE},
    {{'l', "max-latency", "MS", "milliseconds from 0 (no cap) to 1000",
      "most that auto may take (200); drop-outs beyond it are accepted", set_max_latency}, IN_DEMO_CONFIG | LIVE},
    {{'q', "quality", "NAME", "fastest, medium or best", "resampler (medium)", set_quality}, IN_DEMO_CONFIG},
    {{'c', "no-connect", NULL, NULL, "leave the stream unconnected: you patch it yourself", set_no_connect}, IN_RUN_CONFIG},
    {{0, "connect", "PATTERN", "an extended regular expression, without {}, with at most 4 + and 256 letters",
      "JACK's ports to connect to, in order (the first device's)", set_connect}, IN_RUN_CONFIG},
    {{0, "config", "FILE", "a file, and at most 64 of them", "play what this configuration file says; may be repeated", set_config}, IN_RUN},
    {{0, "seconds", "N", "seconds from 1 to 3600", "how long to play (20)", set_seconds}, IN_DEMO},
    {{0, "json", NULL, NULL, "print JSON", set_json}, IN_STATUS},
    {{0, "watch", NULL, NULL, "print again every second, until interrupted", set_watch}, IN_STATUS},
    {{0, "shm", "SIZE", "a power of two in MiB from 1 to 1024, like 2M",
      "by shared memory of this size", setup_set_shm}, IN_SETUP},
    {{0, "bridge", "NAME", "a bridge's name, at most 15 characters", "by multicast over this bridge",
      setup_set_bridge}, IN_SETUP},
    {{0, "unicast", NULL, NULL, "by packets to this host alone", setup_set_unicast}, IN_SETUP},
    {{0, "install", NULL, NULL, "write your configuration file and enable the service", setup_set_install}, IN_SETUP},
    {{0, "dry-run", NULL, NULL, "only show, as a diff, what would be written or removed", setup_set_dry_run},
     IN_SETUP},
    {{0, "remove", NULL, NULL, "undo --install, and say how to undo the rest", setup_set_remove}, IN_SETUP},
    {{0, "tmpfiles", NULL, NULL, "with --shm: how to own the memory's file", setup_set_tmpfiles}, IN_SETUP},
    {{'v', "verbose", NULL, NULL, "say more", set_verbose}, IN_ALL},
    {{'V', "version", NULL, NULL, "print the version", set_version}, IN_ALL},
    {{'h', "help", NULL, NULL, "print this", set_help}, IN_ALL},
};
/* clang-format on */

#define ROWS (sizeof(rows) / sizeof(*rows))

/* The rows that are in any of these. */
static void make_table(unsigned which, struct option_spec table[ROWS + 1])
{
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].commands & which)
            table[count++] = rows[i].spec;
    }
    memset(&table[count], 0, sizeof(table[count]));
}

static int note(void *target, const char *value)
{
    (void)value;
    *(bool *)target = true;
    return 0;
}

static int pass(void *target, const char *value)
{
    (void)target;
    (void)value;
    return 0;
}

/* Does a command line that is known to be good say what to play, or how? */
static bool says_playback(enum options_command command, int argc, char **argv)
{
    struct option_spec table[ROWS + 1];
    char error[OPTABLE_ERROR_MAX];
    bool found = false;
    size_t count = 0;
    make_table(1u << command, table);
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].commands & 1u << command)
            table[count++].set = rows[i].commands & IN_CONFIG ? note : pass;
    }
    optable_parse(table, argc, argv, &found, error);
    return found;
}

static const char *const command_names[] = {
    [COMMAND_RUN] = "run",       [COMMAND_STATUS] = "status", [COMMAND_GUEST] = "guest", [COMMAND_DEMO] = "demo",
    [COMMAND_DOCTOR] = "doctor", [COMMAND_SETUP] = "setup",   [COMMAND_TUNE] = "tune",
};

const char *options_command(enum options_command command)
{
    return command < sizeof command_names / sizeof *command_names ? command_names[command] : NULL;
}

/* -1: no command is called so. */
static int find_command(const char *word)
{
    for (unsigned i = 0; options_command(i); i++) {
        if (!strcmp(word, options_command(i)))
            return (int)i;
    }
    return -1;
}

static int parse_operands(struct options *options, enum options_command command, int argc, char **argv,
                          const struct option_spec *table, char error[OPTABLE_ERROR_MAX])
{
    bool only_operands = false;
    for (int at = 0; at + 1 < argc;) {
        if (!only_operands) {
            int used = optable_parse(table, argc - at, argv + at, options, error);
            if (used < 0)
                return used;
            at += used - 1;
            only_operands = used > 1 && !strcmp(argv[at], "--");
            if (at + 1 >= argc)
                return 0;
        }
        const char *operand = argv[++at];
        if (command == COMMAND_STATUS && !options->status_name) {
            options->status_name = operand;
            continue;
        }
        if (command == COMMAND_SETUP && !options->setup.name) {
            options->setup.name = operand;
            continue;
        }
        if (command == COMMAND_TUNE && !options->tune_name) {
            options->tune_name = operand;
            continue;
        }
        if (command == COMMAND_TUNE) { /* all the rest */
            options->settings = argv + at;
            options->setting_count = (unsigned)(argc - at);
            return 0;
        }
        if (command == COMMAND_RUN && find_command(operand) >= 0)
            snprintf(error, OPTABLE_ERROR_MAX, "%s: the command comes first: earshot %s ...", operand, operand);
        else if (command == COMMAND_RUN)
            snprintf(error, OPTABLE_ERROR_MAX, "%.100s: not a command or option; earshot --help lists them", operand);
        else
            snprintf(error, OPTABLE_ERROR_MAX, "%.100s: one word too many; earshot %s --help", operand,
                     command == COMMAND_STATUS   ? "status"
                     : command == COMMAND_DOCTOR ? "doctor"
                     : command == COMMAND_SETUP  ? "setup"
                                                 : "demo");
        return -EINVAL;
    }
    return 0;
}

static bool called_as_scream(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return path && !strcmp(slash ? slash + 1 : path, "scream");
}

void options_init(struct options *options)
{
    *options = (struct options){.port = SCREAM_UDP_PORT,
                                .group = SCREAM_UDP_GROUP,
                                .backend = "auto",
                                .max_latency_ns = DEFAULT_CAP_NS,
                                .quality = RESAMPLER_MEDIUM,
                                .seconds = DEFAULT_DEMO_SEC};
}

/* `earshot tune NAME KEY=VALUE ...`: what is wrong in it is said before anybody is asked. */
static int check_settings(const struct options *options, char error[OPTABLE_ERROR_MAX])
{
    if (!options->tune_name || options->setting_count == 0) {
        snprintf(error, OPTABLE_ERROR_MAX, "tune: needs a name and what to change: earshot tune %.100s latency=20",
                 options->tune_name ? options->tune_name : "NAME");
        return -EINVAL;
    }
    for (unsigned i = 0; i < options->setting_count; i++) {
        char key[OPTIONS_SETTING_MAX];
        struct options unused;
        const char *value = options_split_setting(options->settings[i], key);
        if (!value) {
            snprintf(error, OPTABLE_ERROR_MAX, "%.100s: must be KEY=VALUE, like latency=20", options->settings[i]);
            return -EINVAL;
        }
        options_init(&unused);
        int r = options_tune(&unused, key, value, error);
        if (r < 0)
            return r;
    }
    return 0;
}

int options_parse(struct options *options, enum options_command *command, int argc, char **argv, int *rest,
                  char error[OPTABLE_ERROR_MAX])
{
    options_init(options);
    options->latency_above_chunk = argc > 0 && called_as_scream(argv[0]);
    int found = argc > 1 ? find_command(argv[1]) : -1;
    *command = found >= 0 ? (enum options_command)found : COMMAND_RUN;
    *rest = found >= 0;
    if (*command == COMMAND_GUEST)
        return 0;

    struct option_spec table[ROWS + 1];
    make_table(1u << *command, table);
    int r = parse_operands(options, *command, argc - *rest, argv + *rest, table, error);
    if (r < 0)
        return r;
    options->playback = options->latency_above_chunk || *command == COMMAND_DEMO ||
                        says_playback(*command, argc - *rest, argv + *rest);
    if (options->config_count && options->playback) {
        snprintf(error, OPTABLE_ERROR_MAX, "--config: the file says what to play; only -v goes with it");
        return -EINVAL;
    }
    if (options->source == FROM_NONE)
        options->source = FROM_MULTICAST;
    if (options->help || options->version)
        return 0;
    if (*command == COMMAND_TUNE)
        return check_settings(options, error);
    return *command == COMMAND_SETUP ? setup_options_check(&options->setup, error) : options_check(options, error);
}

static struct option_spec *table_of(unsigned where)
{
    struct option_spec *table = calloc(ROWS + 1, sizeof *table);
    if (table)
        make_table(where, table);
    return table;
}

struct option_spec *options_table(enum options_command command)
{
    return table_of(1u << command);
}

struct option_spec *options_tune_table(void)
{
    return table_of(LIVE);
}

static void list_keys(const struct option_spec *table, const char *what, const char *key,
                      char error[OPTABLE_ERROR_MAX])
{
    int length = snprintf(error, OPTABLE_ERROR_MAX, "unknown key %.40s: %s", key, what);
    for (const struct option_spec *spec = table; spec->long_name && length < OPTABLE_ERROR_MAX; spec++)
        length += snprintf(error + length, (size_t)(OPTABLE_ERROR_MAX - length), "%s %s", spec == table ? "" : ",",
                           spec->long_name);
    const char *nearest = optable_nearest(table, key);
    if (nearest && length < OPTABLE_ERROR_MAX)
        snprintf(error + length, (size_t)(OPTABLE_ERROR_MAX - length), ". Perhaps %s was meant", nearest);
}

int options_set(struct options *options, const char *key, const char *value, char error[OPTABLE_ERROR_MAX])
{
    struct option_spec table[ROWS + 1];
    make_table(IN_CONFIG, table);
    int r = optable_set(table, key, value, options, error);
    if (r == -ENOENT)
        list_keys(table, "it may be", key, error);
    return r;
}

int options_tune(struct options *options, const char *key, const char *value, char error[OPTABLE_ERROR_MAX])
{
    struct option_spec table[ROWS + 1];
    make_table(LIVE, table);
    int r = optable_set(table, key, value, options, error);
    if (r == -ENOENT)
        list_keys(table, "what can be changed while it plays is", key, error);
    return r < 0 ? -EINVAL : 0;
}

const char *options_split_setting(const char *setting, char key[OPTIONS_SETTING_MAX])
{
    size_t length = strcspn(setting, "=");
    if (!setting[length] || length == 0 || length >= OPTIONS_SETTING_MAX)
        return NULL;
    memcpy(key, setting, length);
    key[length] = 0;
    return setting + length + 1;
}
