/* SPDX-License-Identifier: MIT
 *
 * Configuration files in a directory of the test's own.
 */
#include "receiver/config.h"
#include "tests/unit/said.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct config *good(const char *path, const char *text)
{
    struct config *config = NULL;
    char error[CONFIG_ERROR_MAX];
    if (config_parse(&config, path, text, strlen(text), error) != 0)
        fail_msg("%s", error);
    return config;
}

static void test_values(void **state)
{
    (void)state;
    struct config *c = good("/etc/xdg/earshot/win10.conf", "# a guest\n"
                                                           "; another remark\n"
                                                           "\n"
                                                           "  interface = virbr0\r\n"
                                                           "port=4011\n"
                                                           "\tunicast = no\n"
                                                           "from = 10.0.0.1, 10.0.0.2\n"
                                                           "from = 10.0.0.3\n"
                                                           "latency = 30\n"
                                                           "\v  max-latency = 50\n"
                                                           "no-connect = yes\n"
                                                           "target = a sink = this");
    const struct options *o = &c->options;
    assert_string_equal(c->name, "win10");
    assert_string_equal(config_stream_name(c), "win10");
    assert_int_equal(o->source, FROM_MULTICAST);
    assert_string_equal(o->interface, "virbr0");
    assert_int_equal(o->port, 4011);
    assert_int_equal(o->from_count, 3);
    assert_int_equal(o->from[2], inet_addr("10.0.0.3"));
    assert_int_equal(o->latency_ns, 30000000);
    assert_int_equal(o->max_latency_ns, 50000000);
    assert_true(o->no_connect);
    assert_string_equal(o->target, "a sink = this");
    assert_string_equal(o->backend, "auto");
    config_unref(c);

    c = good("desk.conf", "shm = /dev/shm/a\nname = Desk\n");
    assert_int_equal(c->options.source, FROM_SHM);
    assert_string_equal(c->options.shm_path, "/dev/shm/a");
    assert_string_equal(config_stream_name(c), "Desk");
    config_unref(c);

    c = good("a/no-suffix", "");
    assert_string_equal(c->name, "no-suffix");
    assert_int_equal(c->options.source, FROM_MULTICAST);
    config_unref(c);
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"port = 4010\nprot = 4010\n",         "x.conf:2: unknown key prot: it may be shm, "},
        {"port = 0\n",                         "x.conf:1: port = 0: must be a port from 1 " },
        {"\n\nlatency = soon",                 "x.conf:3: latency = soon: must be auto or " },
        {"unicast = perhaps\n",                "x.conf:1: unicast = perhaps: must be yes or"},
        {"unicast\n",                          "x.conf:1: must be: key = value"             },
        {"port = 1\n= 3\n",                    "x.conf:2: "                                 },
        {"[win10]\nport = 4010\n",             "x.conf:1: there are no sections here: remo" },
        {"port = 4010\n\n [win10] \r\n",       "x.conf:3: there are no sections here: remo" },
        {"[win10",                             "x.conf:1: there are no sections here: remo" },
        {"\xef\xbb\xbf[win10]\n",              "x.conf:1: there are no sections here: remo" },
        {"latency = 20ms\n",                   "x.conf:1: latency = 20ms: must be auto or m"},
        {"/dev/shm/win10\n",                   "x.conf:1: must be: key = value, like shm = "},
        {"port = 1\nlatency 20\n",             "x.conf:2: must be: key = value, like laten" },
        {"shm = \"/dev/shm/x\"\n",             "x.conf:1: shm = \"/dev/shm/x\": without the"},
        {"name = 'win10'\n",                   "x.conf:1: name = 'win10': without the quot" },
        {"port = 1\nlatency = 20 # low\n",     "x.conf:2: latency = 20 # low: a remark need"},
        {"shm = /dev/shm/x # the ring\n",      "x.conf:1: shm = /dev/shm/x # the ring: a re"},
        {"shm = ~/ring\n",                     "x.conf:1: shm = ~/ring: must be a path with"},
        {"latency = 20,5\n",                   "x.conf:1: latency = 20,5: must be auto or m"},
        {"shm =\n",                            "x.conf:1: shm = \"\": must be a path"       },
        {"from = 10.0.0.1,10.0.0\n",           "x.conf:1: from = 10.0.0.1,10.0.0: must be"  },
        {"config = y.conf\n",                  "x.conf:1: unknown key config"               },
        {"verbose = yes\n",                    "x.conf:1: unknown key verbose"              },
        {"json = yes\n",                       "x.conf:1: unknown key json"                 },
        {"backend = raw\n",                    "x.conf:1: backend = raw: there is one stand"},
        {"backend = oss\n",                    "x.conf:1: backend = oss: must be auto, "    },
 /* The first one is what is said. */
        {"port = 4010\nquality = x\nport=x\n", "x.conf:2: quality = x: must be fastest"     },
    };
    char error[CONFIG_ERROR_MAX];
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct config *config = NULL;
        int r = config_parse(&config, "x.conf", bad[i].text, strlen(bad[i].text), error);
        if (r != -EINVAL || strncmp(error, bad[i].says, strlen(bad[i].says)) != 0 || strchr(error, '\n'))
            fail_msg("%zu: %d \"%s\", wanted \"%s\"", i, r, error, bad[i].says);
        assert_null(config);
    }
}

/* What keys must be together is known at the end, and said of the line that asks for it, in the file's words. */
static void test_together(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
#ifdef EARSHOT_WAV
        {"latency = 20\n\tbackend = wav\r\nport = 1\n", "x.conf:2: backend = wav: needs target = FILE"},
        {"backend = null\nbackend: wav\n# backend = x", "x.conf:2: backend = wav: needs target = FILE"},
#else
        {"backend = wav", "x.conf:1: backend = wav: not in this build; it has auto, "},
#endif
#ifdef EARSHOT_PCAP
        {"port = 4011\npcap = yes\n",                   "x.conf:2: pcap = yes: needs interface = NAME"},
#else
        {"port = 4011\npcap = yes\n", "x.conf:2: pcap = yes: this earshot was built without libpcap (EARSHOT_PCAP)"},
#endif
#ifndef EARSHOT_JACK
        {"connect = x\n",                               "x.conf:1: connect: this build has no JACK"   },
#endif
    };
    char error[CONFIG_ERROR_MAX];
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct config *config = NULL;
        int r = config_parse(&config, "x.conf", bad[i].text, strlen(bad[i].text), error);
        if (r != -EINVAL || strncmp(error, bad[i].says, strlen(bad[i].says)) != 0)
            fail_msg("%zu: %d \"%s\", wanted \"%s\"", i, r, error, bad[i].says);
    }
#ifdef EARSHOT_WAV
    config_unref(good("x.conf", "backend = wav\nsink = out.wav"));
#endif
#ifdef EARSHOT_PCAP
    config_unref(good("x.conf", "pcap = yes\ninterface = macvtap0"));
#endif
}

/* Slips that do no harm: how the file was saved, spaces, and what looks like more than it is. */
static void test_harmless(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\xef\xbb\xbfshm = /dev/shm/x\nlatency = 20\n",
        "shm = /dev/shm/x\r\nlatency = 20\r\n",
        "\tshm\t=\t/dev/shm/x\t\n\tlatency\t=\t20\t\n",
        "\xef\xbb\xbf# remark\r\nshm=/dev/shm/x\r\nlatency=20",
        "shm: /dev/shm/x\nlatency: 20\n",
        "latency = 30\nshm = /dev/shm/x\n\n\nlatency = 20\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct config *c = good("win10.conf", texts[i]);
        assert_string_equal(c->options.shm_path, "/dev/shm/x");
        assert_int_equal(c->options.latency_ns, 20000000);
        config_unref(c);
    }
    struct config *c = good("win10.conf", "name = Game #1\ntarget = it's \"that\"\n");
    assert_string_equal(c->options.name, "Game #1");
    assert_string_equal(c->options.target, "it's \"that\"");
    config_unref(c);
}

/* A slip of the pen is told from a word that there is not. */
static void test_nearest(void **state)
{
    (void)state;
    static const struct {
        const char *key, *meant;
    } rows[] = {
        {"latencey",      "latency"    },
        {"lateny",        "latency"    },
        {"Latency",       "latency"    },
        {"--latency",     "latency"    },
        {"max_latency",   "max-latency"},
        {"maxlatency",    "max-latency"},
        {"prot",          "port"       },
        {"interace",      "interface"  },
        {"backedn",       "backend"    },
        {"taget",         "target"     },
        {"no_connect",    "no-connect" },
        {"hsm",           "shm"        },
        {"volume",        NULL         },
        {"x",             NULL         },
        {"json",          NULL         },
        {"verbose",       NULL         },
        {"latency-in-ms", NULL         },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char text[64], wanted[64], error[CONFIG_ERROR_MAX];
        struct config *config;
        snprintf(text, sizeof(text), "%s = 1\n", rows[i].key);
        snprintf(wanted, sizeof(wanted), ". Perhaps %s was meant", rows[i].meant ? rows[i].meant : "");
        assert_int_equal(config_parse(&config, "x", text, strlen(text), error), -EINVAL);
        assert_non_null(strstr(error, ": it may be shm, unicast, "));
        const char *said = strstr(error, rows[i].meant ? wanted : "Perhaps");
        if (!said != !rows[i].meant)
            fail_msg("%s: %s", rows[i].key, error);
    }
}

/* What inih has no room for, or would not see. */
static void test_odd_lines(void **state)
{
    (void)state;
    char error[CONFIG_ERROR_MAX], text[4096];
    struct config *config;
    memset(text, 'a', sizeof(text));
    memcpy(text, "port = 4010\nshm = /", 19);
    assert_int_equal(config_parse(&config, "x", text, sizeof(text), error), -EINVAL);
    assert_non_null(strstr(error, "x:2: longer than 1"));
    assert_int_equal(config_parse(&config, "x", "a = b\0c\n", 8, error), -EINVAL);
    assert_string_equal(error, "x:1: this is no text: save it as UTF-8");
    /* As Windows' Notepad calls "Unicode". */
    assert_int_equal(config_parse(&config, "x", "\xff\xfep\0=\0\n\0", 8, error), -EINVAL);
    assert_string_equal(error, "x:1: this is no text: save it as UTF-8");

    /* Room for every key and value there can be in so many bytes. */
    for (size_t length = 0; length < 400; length += 4)
        memcpy(text + length, length % 8 ? "p=1\n" : "q=2\n", 4);
    assert_int_equal(config_parse(&config, "x", text, 400, error), -EINVAL);
    assert_non_null(strstr(error, "x:1: unknown key"));
    for (size_t length = 0; length < 400; length += 10)
        memcpy(text + length, "port=4010\n", 10);
    assert_int_equal(config_parse(&config, "x", text, 399, error), 0);
    config_unref(config);
}

static void test_same(void **state)
{
    (void)state;
    struct config *a = good("a", "port = 4011\nlatency = 20\n");
    struct config *b = good("a", "# changed\n\n port=4011\n  latency =  20");
    struct config *c = good("a", "port = 4011\nlatency = 21\n");
    struct config *d = good("a", "port = 4011\n");
    assert_true(config_same(a, b));
    assert_false(config_same(a, c));
    assert_false(config_same(a, d));
    config_unref(a);
    config_unref(b);
    config_unref(c);
    config_unref(d);
}

/* The example explains every key there is, and each of its lines is good. */
static void test_example(void **state)
{
    (void)state;
    FILE *file = fopen(EXAMPLE, "re");
    assert_non_null(file);
    char line[512], error[CONFIG_ERROR_MAX], key[64];
    unsigned keys = 0;
    while (fgets(line, sizeof(line), file)) {
        if (line[0] != '#' || sscanf(line, "#%63[a-z-] = ", key) != 1)
            continue;
        struct options options;
        options_init(&options);
        line[strcspn(line, "\n")] = 0;
        if (options_set(&options, key, strstr(line, " = ") + 3, error) != 0)
            fail_msg("%s: %s", line, error);
        keys++;
    }
    fclose(file);

    struct config *config;
    assert_int_equal(config_read(&config, EXAMPLE, error), 0);
    assert_int_equal(config->text_bytes, 0);
    config_unref(config);
    /* How many there are, counted where all of them are listed. */
    struct options options;
    char list[OPTABLE_ERROR_MAX];
    options_init(&options);
    assert_int_equal(options_set(&options, "?", "", list), -ENOENT);
    unsigned wanted = 1;
    for (const char *p = list; *p; p++)
        wanted += *p == ',';
    assert_int_equal(keys, wanted);
}

struct place {
    char dir[64];
    struct said said;
    struct options options;
};

static void put(const struct place *p, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", p->dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void make_directory(const struct place *p, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", p->dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    strcpy(p->dir, "/tmp/earshot-config-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    char dirs[256], user[128];
    snprintf(dirs, sizeof(dirs), "relative:%s/none:%s/one:%s/two", p->dir, p->dir, p->dir);
    snprintf(user, sizeof(user), "%s/user", p->dir);
    setenv("XDG_CONFIG_DIRS", dirs, 1);
    setenv("XDG_CONFIG_HOME", user, 1);
    static const char *const names[] = {"user", "user/earshot", "one", "one/earshot", "two", "two/earshot"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        make_directory(p, names[i]);
    said_open(&p->said);
    options_init(&p->options);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", p->dir);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own directory */
    said_close(&p->said);
    free(p);
    return 0;
}

static void test_directories(void **state)
{
    struct place *p = *state;
    put(p, "user/earshot/win10.conf", "port = 4001\n");
    put(p, "one/earshot/win10.conf", "port = 4002\n");
    put(p, "one/earshot/alpha.conf", "port = 4003\n");
    put(p, "two/earshot/alpha.conf", "port = 4004\n");
    put(p, "two/earshot/beta.conf", "port = 4005\n");
    put(p, "two/earshot/hidden.conf", "port = 4006\n");
    put(p, "two/earshot/.dot.conf", "port = 4007\n");
    put(p, "two/earshot/other.txt", "port = 4008\n");
    put(p, "two/earshot/.conf", "port = 4009\n");
    char link[256];
    snprintf(link, sizeof(link), "%s/one/earshot/hidden.conf", p->dir);
    assert_int_equal(symlink("/dev/null", link), 0);

    struct config_set set;
    assert_int_equal(config_load(&set, &p->options, NULL, &p->said.log), 0);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.bad, 0);
    assert_string_equal(set.configs[0]->name, "alpha");
    assert_int_equal(set.configs[0]->options.port, 4003);
    assert_string_equal(set.configs[1]->name, "beta");
    assert_string_equal(set.configs[2]->name, "win10");
    assert_int_equal(set.configs[2]->options.port, 4001);
    config_set_free(&set);

    /* The command line says what to play: nobody looks. */
    p->options.playback = true;
    assert_int_equal(config_load(&set, &p->options, NULL, &p->said.log), 0);
    assert_int_equal(set.count, 1);
    assert_null(config_stream_name(set.configs[0]));
    config_set_free(&set);

    assert_string_equal(said_text(&p->said), "");
}

static void test_none(void **state)
{
    struct place *p = *state;
    struct config_set set, again;
    p->options.source = FROM_MULTICAST;
    assert_int_equal(config_load(&set, &p->options, NULL, &p->said.log), 0);
    assert_int_equal(set.count, 1);
    assert_int_equal(set.configs[0]->options.source, FROM_MULTICAST);
    assert_null(config_stream_name(set.configs[0]));
    assert_int_equal(config_load(&again, &p->options, &set, &p->said.log), 0);
    assert_ptr_equal(again.configs[0], set.configs[0]);
    config_set_free(&again);

    /* A bad file is somebody's wish: not the same as none. */
    put(p, "user/earshot/bad.conf", "x\n");
    assert_int_equal(config_load(&again, &p->options, &set, &p->said.log), 0);
    assert_int_equal(again.count, 0);
    assert_int_equal(again.bad, 1);
    config_set_free(&again);
    config_set_free(&set);

    /* Saved from Windows' editor: not read, but not passed over in silence either. */
    put(p, "user/earshot/win10.conf.txt", "port = 1\n");
    put(p, "user/earshot/win10.conf~", "port = 1\n");
    assert_int_equal(config_load(&again, &p->options, NULL, &p->said.log), 0);
    config_set_free(&again);
    assert_int_equal(said_times(&p->said, "win10.conf.txt: not read, its name does not end in .conf."), 1);
    assert_int_equal(said_times(&p->said, "win10.conf~"), 0);
}

static void test_reload(void **state)
{
    struct place *p = *state;
    struct config_set set, again;
    put(p, "user/earshot/a.conf", "port = 4001\n");
    put(p, "user/earshot/b.conf", "port = 4002\n");
    put(p, "user/earshot/c.conf", "port = 4003\n");
    put(p, "user/earshot/d.conf", "prot = 4004\n");
    assert_int_equal(config_load(&set, &p->options, NULL, &p->said.log), 0);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.bad, 1);
    assert_non_null(strstr(said_text(&p->said), "d.conf:1: unknown key prot"));
    assert_non_null(strstr(said_text(&p->said), "This file is not played."));

    put(p, "user/earshot/a.conf", "# remark\nport = 4001\n");
    put(p, "user/earshot/b.conf", "port = 5002\n");
    put(p, "user/earshot/c.conf", "port = many\n");
    put(p, "user/earshot/d.conf", "port = 4004\n");
    assert_int_equal(config_load(&again, &p->options, &set, &p->said.log), 0);
    assert_int_equal(again.count, 4);
    assert_int_equal(again.bad, 1);
    assert_ptr_equal(again.configs[0], set.configs[0]);
    assert_ptr_not_equal(again.configs[1], set.configs[1]);
    assert_int_equal(again.configs[1]->options.port, 5002);
    assert_ptr_equal(again.configs[2], set.configs[2]);
    assert_int_equal(again.configs[3]->options.port, 4004);
    config_set_free(&set);
    assert_int_equal(again.configs[2]->options.port, 4003);
    config_set_free(&again);
    assert_non_null(strstr(said_text(&p->said), "c.conf:1: port = many"));
    assert_non_null(strstr(said_text(&p->said), "What it said before still holds."));
}

static void test_named(void **state)
{
    struct place *p = *state;
    struct config_set set;
    char one[128], two[128], twin[128], none[128];
    put(p, "user/earshot/ignored.conf", "port = 4001\n");
    put(p, "one/here.conf", "port = 4002\n");
    put(p, "two/here.conf", "port = 4003\n");
    put(p, "two/there", "port = 4004\n");
    snprintf(one, sizeof(one), "%s/one/here.conf", p->dir);
    snprintf(twin, sizeof(twin), "%s/two/here.conf", p->dir);
    snprintf(two, sizeof(two), "%s/two/there", p->dir);
    snprintf(none, sizeof(none), "%s/none", p->dir);
    const char *const paths[] = {two, none, one, twin, p->dir, "/dev/null"};
    memcpy(p->options.configs, paths, sizeof(paths));
    p->options.config_count = sizeof(paths) / sizeof(*paths);
    assert_int_equal(config_load(&set, &p->options, NULL, &p->said.log), 0);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.bad, 4);
    assert_string_equal(set.configs[0]->name, "there");
    assert_string_equal(set.configs[1]->name, "here");
    assert_int_equal(set.configs[1]->options.port, 4002);
    config_set_free(&set);
    assert_non_null(strstr(said_text(&p->said), "/none: No such file"));
    assert_non_null(
        strstr(said_text(&p->said), "two/here.conf: not played, another file is called the same. It is "));
    assert_non_null(strstr(said_text(&p->said), "/dev/null: is no file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_odd_lines),
        cmocka_unit_test(test_harmless),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_example),
        cmocka_unit_test_setup_teardown(test_directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
