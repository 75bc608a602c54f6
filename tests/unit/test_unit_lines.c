/* SPDX-License-Identifier: MIT
 *
 * Command lines as people have them in unit files and scripts for the original receiver: they must go on meaning what
 * they meant, called by its name or by ours.
 */
#include "backends/registry.h"
#include "tests/unit/parsed.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000

struct meaning {
    enum options_source source;
    const char *backend;
    const char *shm_path, *interface, *target, *name;
    const char *group; /* NULL: the usual */
    uint16_t port;     /* 0: the usual */
    int latency_ms;    /* 0: auto */
    int max_latency_ms;
    bool verbose, no_connect;
};

/* The first word is left out: each is tried with several. */
static const struct {
    const char *line;
    struct meaning means;
} lines[] = {
    {"",                                                                         {.source = FROM_MULTICAST, .backend = "auto"}                                         },
    {"-o pulse -i virbr0",                                                       {.source = FROM_MULTICAST, .backend = "pulse", .interface = "virbr0"}                 },
    {"-i virbr0 -v",                                                             {.source = FROM_MULTICAST, .backend = "auto", .interface = "virbr0", .verbose = true} },
    {"-v -o pulse -i 192.168.122.1",
     {.source = FROM_MULTICAST, .backend = "pulse", .interface = "192.168.122.1", .verbose = true}                                                                     },
    {"-opulse -ivirbr0",                                                         {.source = FROM_MULTICAST, .backend = "pulse", .interface = "virbr0"}                 },
    {"-o pulse -i br0 -n Windows -s alsa_output.pci-0000_00_1f.3.analog-stereo",
     {.source = FROM_MULTICAST,
      .backend = "pulse",
      .interface = "br0",
      .name = "Windows",
      .target = "alsa_output.pci-0000_00_1f.3.analog-stereo"}                                                                                                          },
    {"-g 239.255.77.78 -p 4020 -i eth0",
     {.source = FROM_MULTICAST, .backend = "auto", .group = "239.255.77.78", .port = 4020, .interface = "eth0"}                                                        },

    {"-m /dev/shm/scream-ivshmem",                                               {.source = FROM_SHM, .backend = "auto", .shm_path = "/dev/shm/scream-ivshmem"}        },
    {"-m /dev/shm/scream-ivshmem -o pulse",
     {.source = FROM_SHM, .backend = "pulse", .shm_path = "/dev/shm/scream-ivshmem"}                                                                                   },
    {"-o pulse -m/dev/shm/scream -t 50 -l 200",
     {.source = FROM_SHM,
      .backend = "pulse",
      .shm_path = "/dev/shm/scream",
      .latency_ms = 50,
      .max_latency_ms = 200}                                                                                                                                           },
    {"-m /dev/shm/scream-ivshmem -t 10",
     {.source = FROM_SHM, .backend = "auto", .shm_path = "/dev/shm/scream-ivshmem", .latency_ms = 10}                                                                  },
    {"-m /dev/shm/scream-gaming -o jack -t 128",
     {.source = FROM_SHM, .backend = "jack", .shm_path = "/dev/shm/scream-gaming", .latency_ms = 128}                                                                  },
    {"-m /dev/kvmfr1 -o alsa",                                                   {.source = FROM_SHM, .backend = "alsa", .shm_path = "/dev/kvmfr1"}                    },

    {"-uvp4011",                                                                 {.source = FROM_UNICAST, .backend = "auto", .port = 4011, .verbose = true}            },
    {"-u -p 4011 -o pulse",                                                      {.source = FROM_UNICAST, .backend = "pulse", .port = 4011}                            },
    {"-v -u -o pulse -t 60 -l 100",
     {.source = FROM_UNICAST, .backend = "pulse", .latency_ms = 60, .max_latency_ms = 100, .verbose = true}                                                            },
    {"-u -i virbr0",                                                             {.source = FROM_UNICAST, .backend = "auto", .interface = "virbr0"}                    },

    {"-o alsa -d hw:0 -t 100 -l 200",
     {.source = FROM_MULTICAST, .backend = "alsa", .target = "hw:0", .latency_ms = 100, .max_latency_ms = 200}                                                         },
    {"-o alsa -d hw:CARD=PCH,DEV=3",                                             {.source = FROM_MULTICAST, .backend = "alsa", .target = "hw:CARD=PCH,DEV=3"}          },
    {"-o sndio -d snd/1",                                                        {.source = FROM_MULTICAST, .backend = "sndio", .target = "snd/1"}                     },
    {"-o jack -n Scream",                                                        {.source = FROM_MULTICAST, .backend = "jack", .name = "Scream"}                       },
    {"-c -o jack",                                                               {.source = FROM_MULTICAST, .backend = "jack", .no_connect = true}                     },

    {"-P -i macvtap0",                                                           {.source = FROM_PCAP, .backend = "auto", .interface = "macvtap0"}                     },
    {"-o pulse -i virbr0 -P",                                                    {.source = FROM_PCAP, .backend = "pulse", .interface = "virbr0"}                      },
    {"-Pi macvtap0 -o alsa",                                                     {.source = FROM_PCAP, .backend = "alsa", .interface = "macvtap0"}                     },

    {"-o raw",                                                                   {.source = FROM_MULTICAST, .backend = "raw"}                                          },
    {"-o raw -m /dev/shm/scream-ivshmem",
     {.source = FROM_SHM, .backend = "raw", .shm_path = "/dev/shm/scream-ivshmem"}                                                                                     },
    {"-uo raw",                                                                  {.source = FROM_UNICAST, .backend = "raw"}                                            },

 /* Of several sources the last one wins. */
    {"-u -m /dev/shm/a",                                                         {.source = FROM_SHM, .backend = "auto", .shm_path = "/dev/shm/a"}                     },
    {"-m /dev/shm/a -u",                                                         {.source = FROM_UNICAST, .backend = "auto", .shm_path = "/dev/shm/a"}                 },
    {"-P -i eth0 -m /dev/shm/a",
     {.source = FROM_SHM, .backend = "auto", .shm_path = "/dev/shm/a", .interface = "eth0"}                                                                            },
    {"-m /dev/shm/a -i eth0 -P",
     {.source = FROM_PCAP, .backend = "auto", .shm_path = "/dev/shm/a", .interface = "eth0"}                                                                           },

 /* No pair of latencies is an error, and 0 is what auto is. */
    {"-t 300 -l 20",                                                             {.source = FROM_MULTICAST, .backend = "auto", .latency_ms = 300, .max_latency_ms = 20}},
    {"-t0",                                                                      {.source = FROM_MULTICAST, .backend = "auto"}                                         },
};

static const char *const programs[] = {"scream", "/usr/bin/scream", "./scream", "earshot", "/usr/local/bin/earshot"};

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool means(const struct options *o, const struct meaning *m)
{
    return o->source == m->source && same(o->backend, m->backend) && o->raw == same(m->backend, "raw") &&
           same(o->shm_path, m->shm_path) && same(o->interface, m->interface) && same(o->target, m->target) &&
           same(o->name, m->name) && same(o->group, m->group ? m->group : "239.255.77.77") &&
           o->port == (m->port ? m->port : 4010) && o->latency_ns == (int64_t)m->latency_ms * MS &&
           o->max_latency_ns == (int64_t)(m->max_latency_ms ? m->max_latency_ms : 200) * MS &&
           o->verbose == m->verbose && o->no_connect == m->no_connect && !o->from_count && !o->server && !o->connect;
}

/* What may be refused, and only so: a build can be without it. */
static bool may_lack(const struct meaning *m, const char *error)
{
    if (m->source == FROM_PCAP && strstr(error, "without libpcap"))
        return true;
    return strcmp(m->backend, "raw") != 0 && strcmp(m->backend, "auto") != 0 && !backend_find(m->backend) &&
           strstr(error, "not in this build");
}

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines * (sizeof programs / sizeof *programs); i++) {
        const char *program = programs[i % (sizeof programs / sizeof *programs)];
        size_t which = i / (sizeof programs / sizeof *programs);
        struct parsed p;
        parse(&p, "%s %s", program, lines[which].line);
        if (p.command != COMMAND_RUN ||
            (p.result != 0 && !(p.result == -EINVAL && may_lack(&lines[which].means, p.error))))
            fail_msg("%s %s: %d, %s", program, lines[which].line, p.result, p.error);
        if (!means(&p.options, &lines[which].means))
            fail_msg("%s %s: means something else now", program, lines[which].line);
        /* Who says what to play, or is called scream, is not to be answered with configuration files. */
        if (p.options.playback != (strstr(program, "scream") || lines[which].line[0]))
            fail_msg("%s %s: configuration files or not?", program, lines[which].line);
        /* Its -t is what comes on top of the guest's chunk. */
        if (p.options.latency_above_chunk != (strstr(program, "scream") != NULL))
            fail_msg("%s: not told from %s", program, "the other");
    }
}

/* What the original refuses, or would have to, is one line with the cure. */
static void test_refused(void **state)
{
    static const struct {
        const char *line, *error;
    } refused[] = {
        {"scream -o pules",        "auto, pipewire, pulse, jack, alsa, sndio, wav, raw or null"},
        {"scream -p 70000",        "a port from 1 to 65535"                                    },
        {"scream -g 192.168.1.1",  "a multicast address"                                       },
        {"scream -t fifty",        "milliseconds"                                              },
        {"scream -x",              "-x"                                                        },
        {"scream /dev/shm/scream", "not a command or option"                                   },
        {"scream -m",              "-m"                                                        },
    };
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct parsed p;
        parse(&p, "%s", refused[i].line);
        if (p.result != -EINVAL || !strstr(p.error, refused[i].error))
            fail_msg("%s: %d, %s", refused[i].line, p.result, p.error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
