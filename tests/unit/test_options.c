/* SPDX-License-Identifier: MIT */
#include "tests/unit/parsed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_defaults(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.command, COMMAND_RUN);
    assert_int_equal(p.options.source, FROM_MULTICAST);
    assert_int_equal(p.options.port, 4010);
    assert_string_equal(p.options.group, "239.255.77.77");
    assert_null(p.options.interface);
    assert_string_equal(p.options.backend, "auto");
    assert_int_equal(p.options.latency_ns, 0);
    assert_int_equal(p.options.max_latency_ns, 200000000);
    assert_int_equal(p.options.quality, RESAMPLER_MEDIUM);
    assert_null(p.options.name);
    assert_false(p.options.latency_above_chunk);
}

static void test_good_lines(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot -uvp4011");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.options.source, FROM_UNICAST);
    assert_true(p.options.verbose);
    assert_int_equal(p.options.port, 4011);

    parse(&p, "earshot run -o null --shm=/dev/shm/a -n Desk -q best -c");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.options.source, FROM_SHM);
    assert_string_equal(p.options.shm_path, "/dev/shm/a");
    assert_string_equal(p.options.name, "Desk");
    assert_int_equal(p.options.quality, RESAMPLER_BEST);
    assert_true(p.options.no_connect);

    parse(&p, "earshot -g 239.1.2.3 -i virbr0 --from 10.0.0.1,10.0.0.2");
    assert_int_equal(p.result, 0);
    assert_string_equal(p.options.group, "239.1.2.3");
    assert_string_equal(p.options.interface, "virbr0");
    assert_int_equal(p.options.from_count, 2);
    assert_int_equal(p.options.from[1], inet_addr("10.0.0.2"));

#ifdef EARSHOT_JACK
    parse(&p, "earshot -o jack --connect ^ardour:.*in");
    assert_int_equal(p.result, 0);
    assert_string_equal(p.options.connect, "^ardour:.*in");
#endif
    parse(&p, "earshot -s sink1");
    assert_string_equal(p.options.target, "sink1");
    parse(&p, "earshot -o raw");
    assert_int_equal(p.result, 0);
    assert_true(p.options.raw);
}

static void test_last_source_wins(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot -u -m /dev/shm/a");
    assert_int_equal(p.options.source, FROM_SHM);
    parse(&p, "earshot -m /dev/shm/a -u");
    assert_int_equal(p.options.source, FROM_UNICAST);
    parse(&p, "earshot -P -i eth0 -u");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.options.source, FROM_UNICAST);
    parse(&p, "earshot -u -i eth0 -P");
    assert_int_equal(p.options.source, FROM_PCAP);
}

static void test_latency(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot -t 32");
    assert_int_equal(p.options.latency_ns, 32000000);
    parse(&p, "earshot -t 32 -t auto");
    assert_int_equal(p.options.latency_ns, 0);
    parse(&p, "earshot -t 0");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.options.latency_ns, 0);
    parse(&p, "earshot -t 5.5");
    assert_int_equal(p.options.latency_ns, 5500000);

    /* No pair of -t and -l is an error. */
    parse(&p, "earshot -t 300 -l 20");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.options.max_latency_ns, 20000000);

    parse(&p, "/usr/local/bin/scream -t 20");
    assert_true(p.options.latency_above_chunk);
    parse(&p, "/usr/local/bin/earshot -t 20");
    assert_false(p.options.latency_above_chunk);
}

static void test_bad_values(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"earshot -p 0",                      "1 to 65535"                },
        {"earshot -p 65536",                  "1 to 65535"                },
        {"earshot -p +1",                     "1 to 65535"                },
        {"earshot -p 0x10",                   "1 to 65535"                },
        {"earshot -p 4010x",                  "1 to 65535"                },
        {"earshot -g 10.0.0.1",               "multicast"                 },
        {"earshot -g 239.1.2",                "multicast"                 },
        {"earshot -i a-name-beyond-15-chars", "15 characters"             },
        {"earshot -i ../x",                   "interface"                 },
        {"earshot --from 10.0.0.1,",          "IPv4"                      },
        {"earshot --from 10.0.0.1,,10.0.0.2", "IPv4"                      },
        {"earshot --from host",               "IPv4"                      },
        {"earshot -t -1",                     "0 to 1000"                 },
        {"earshot -t 1001",                   "0 to 1000"                 },
        {"earshot -t nan",                    "0 to 1000"                 },
        {"earshot -t 1e3",                    "0 to 1000"                 },
        {"earshot -t .",                      "0 to 1000"                 },
        {"earshot -l many",                   "0 (no cap) to 1000"        },
        {"earshot -q good",                   "fastest, medium or best"   },
        {"earshot -o oss",                    "auto, "                    },
        {"earshot --shm=",                    "a path"                    },
        {"earshot -n",                        "-n"                        },
        {"earshot --nonsense",                "--nonsense"                },
        {"earshot -o null -d pace=2",         "-d pace=2: must be rate=HZ"},
#ifdef EARSHOT_WAV
        {"earshot -o wav",                    "-o wav: needs -d FILE"     },
#else
        {"earshot -o wav", "not in this build"},
#endif
#ifndef EARSHOT_SNDIO
        {"earshot -o sndio",                  "not in this build"         },
#endif
#ifndef EARSHOT_ALSA
        {"earshot -o alsa",                   "null"                      },
#endif
#ifdef EARSHOT_PCAP
        {"earshot -P",                        "-P: needs -i, the inter"   },
#else
        {"earshot -P -i lo", "without libpcap"},
#endif
#ifdef EARSHOT_JACK
        {"earshot --connect [",               "regular expression"        },
        {"earshot --connect=",                "regular expression"        },
        {"earshot --connect a{9}{9}",         "without {}"                },
        {"earshot --connect a+++++",          "without {}"                },
#else
        {"earshot --connect x", "no JACK"},
        {"earshot -o jack", "not in this build"},
#endif
        {"earshot --config=",                 "--config"                  },
        {"earshot --config x -t 30",          "only -v goes with it"      },
        {"earshot -u --config x",             "only -v goes with it"      },
        {"scream --config x",                 "only -v goes with it"      },
        {"earshot nonsense",                  "nonsense"                  },
        {"earshot -v nonsense",               "nonsense: not a command"   },
        {"earshot demo -m x",                 "-m"                        },
        {"earshot demo --seconds 0",          "1 to 3600"                 },
        {"earshot demo word",                 "word"                      },
        {"earshot status a b",                "b: one word too many"      },
        {"earshot status -o null",            "-o"                        },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct parsed p;
        parse(&p, "%s", bad[i].line);
        if (p.result != -EINVAL || !strstr(p.error, bad[i].says) || strchr(p.error, '\n'))
            fail_msg("%s: %d \"%s\", wanted \"%s\"", bad[i].line, p.result, p.error, bad[i].says);
    }
}

/* A command after options is a command, if in the wrong place. */
static void test_command_comes_first(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot -v status");
    assert_int_equal(p.result, -EINVAL);
    assert_string_equal(p.error, "status: the command comes first: earshot status ...");
    for (unsigned i = 0; options_command(i); i++) {
        char wanted[64];
        parse(&p, "earshot -t 20 %s --json", options_command(i));
        snprintf(wanted, sizeof wanted, "%s: the command comes first", options_command(i));
        if (p.result != -EINVAL || strncmp(p.error, wanted, strlen(wanted)) != 0)
            fail_msg("%s: %d \"%s\"", options_command(i), p.result, p.error);
    }
    parse(&p, "earshot status -v status"); /* a stream may be called so */
    assert_int_equal(p.result, 0);
}

/* What decides whether configuration files are read. */
static void test_playback(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool playback;
    } lines[] = {
        {"earshot",                    false},
        {"earshot run -v",             false},
        {"earshot --config a",         false},
        {"earshot -v --config a --",   false},
        {"earshot -p 4010",            true }, /* also what holds anyway */
        {"earshot -vt auto",           true },
        {"earshot run --latency 30",   true },
        {"earshot --lat=30",           true },
        {"earshot -o null",            true },
        {"earshot -c",                 true },
        {"earshot --name x",           true },
        {"earshot --from 10.0.0.1 -v", true },
        {"scream",                     true },
        {"scream -v",                  true },
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct parsed p;
        parse(&p, "%s", lines[i].line);
        if (p.result != 0 || p.options.playback != lines[i].playback)
            fail_msg("%s: %d \"%s\", playback %d", lines[i].line, p.result, p.error, p.options.playback);
    }
    struct parsed p;
    parse(&p, "earshot --config a -v --config b");
    assert_int_equal(p.options.config_count, 2);
    assert_string_equal(p.options.configs[0], "a");
    assert_string_equal(p.options.configs[1], "b");
    parse(&p, "earshot --from 10.0.0.1,10.0.0.2 --from 10.0.0.3");
    assert_int_equal(p.options.from_count, 3);
    assert_int_equal(p.options.from[2], inet_addr("10.0.0.3"));
}

static void test_commands(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot status --json Desk --watch");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.command, COMMAND_STATUS);
    assert_string_equal(p.options.status_name, "Desk");
    assert_true(p.options.json && p.options.watch);
    parse(&p, "earshot status -- --json");
    assert_string_equal(p.options.status_name, "--json");
    assert_false(p.options.json);

    parse(&p, "earshot guest --shm x --anything");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.command, COMMAND_GUEST);
    assert_int_equal(p.rest, 1);

    parse(&p, "earshot demo --seconds 3 -o null");
    assert_int_equal(p.command, COMMAND_DEMO);
    assert_int_equal(p.options.seconds, 3);

    parse(&p, "earshot doctor -vm /dev/shm/x -o null");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.command, COMMAND_DOCTOR);
    assert_true(p.options.verbose && p.options.source == FROM_SHM);
    parse(&p, "earshot doctor nurse");
    assert_int_equal(p.result, -EINVAL);
    assert_non_null(strstr(p.error, "earshot doctor --help"));

    /* Asking for help is never wrong, whatever else was asked for. */
    parse(&p, "earshot -o sndio --help");
    assert_int_equal(p.result, 0);
    assert_true(p.options.help);
    parse(&p, "earshot -V");
    assert_true(p.options.version);
}

static void test_tune(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "earshot tune win10 latency=20 max-latency=80.5");
    assert_int_equal(p.result, 0);
    assert_int_equal(p.command, COMMAND_TUNE);
    assert_string_equal(p.options.tune_name, "win10");
    assert_int_equal(p.options.setting_count, 2);
    assert_string_equal(p.options.settings[1], "max-latency=80.5");
    parse(&p, "earshot tune -- -odd latency=auto");
    assert_int_equal(p.result, 0);
    assert_string_equal(p.options.tune_name, "-odd");
    parse(&p, "earshot tune --help");
    assert_int_equal(p.result, 0);

    static const char *const rows[][2] = {
        {"earshot tune",                               "latency=20"          },
        {"earshot tune win10",                         "win10 latency=20"    },
        {"earshot tune win10 latency",                 "KEY=VALUE"           },
        {"earshot tune win10 =20",                     "KEY=VALUE"           },
        {"earshot tune win10 latency=",                "auto or milliseconds"},
        {"earshot tune win10 latency=20ms",            "auto or milliseconds"},
        {"earshot tune win10 latency=-1",              "auto or milliseconds"},
        {"earshot tune win10 latency=1000.5",          "auto or milliseconds"},
        {"earshot tune win10 max-latency=auto",        "0 (no cap) to 1000"  },
        {"earshot tune win10 latency=20 quality=best", "latency, max-latency"},
        {"earshot tune win10 shm=/dev/shm/x",          "latency, max-latency"},
        {"earshot tune --latency 20 win10",            "--latency"           },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        parse(&p, "%s", rows[i][0]);
        if (p.result != -EINVAL || !strstr(p.error, rows[i][1]))
            fail_msg("%s: %d, %s", rows[i][0], p.result, p.error);
    }
    char key[OPTIONS_SETTING_MAX];
    assert_string_equal(options_split_setting("a=b=c", key), "b=c");
    assert_string_equal(key, "a");
    assert_null(options_split_setting("a-key-that-is-longer-than-any-key-may-be=1", key));
}

static void test_help_lists_its_own(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    options_help(COMMAND_STATUS, out);
    fclose(out);
    assert_non_null(strstr(text, "--watch"));
    assert_null(strstr(text, "--shm"));
    free(text);

    out = open_memstream(&text, &size);
    assert_non_null(out);
    options_help(COMMAND_RUN, out);
    fclose(out);
    assert_non_null(strstr(text, "-m, --shm PATH"));
    assert_null(strstr(text, "--watch  "));
    assert_non_null(strstr(text, "earshot doctor"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_good_lines),
        cmocka_unit_test(test_last_source_wins),
        cmocka_unit_test(test_latency),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_playback),
        cmocka_unit_test(test_command_comes_first),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_tune),
        cmocka_unit_test(test_help_lists_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
