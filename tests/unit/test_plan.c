/* SPDX-License-Identifier: MIT
 *
 * Which sources configurations need, and who plays whom.
 */
#include "receiver/plan.h"
#include "tests/unit/said.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct config_set set;
    struct plan plan;
    struct said said;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    said_open(&f->said);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    plan_free(&f->plan);
    config_set_free(&f->set);
    said_close(&f->said);
    free(f);
    return 0;
}

static void add(struct fixture *f, const char *name, const char *text)
{
    char error[CONFIG_ERROR_MAX];
    if (config_parse(&f->set.configs[f->set.count++], name, text, strlen(text), error) != 0)
        fail_msg("%s", error);
}

/* Returns what was said. */
static const char *make(struct fixture *f)
{
    plan_make(&f->plan, &f->set, &f->said.log);
    return said_text(&f->said);
}

/* Who plays this address of the source, by name; "" where nobody does. */
static const char *player(const struct fixture *f, unsigned source, const char *address)
{
    const struct config *config = plan_find_player(&f->plan, source, inet_addr(address));
    return config ? config->name : "";
}

static void test_shared_port(void **state)
{
    struct fixture *f = *state;
    add(f, "a", "from = 10.0.0.1");
    add(f, "b", "from = 10.0.0.2,10.0.0.3\nlatency = 30");
    add(f, "c", "latency = 40");
    add(f, "d", "port = 4011\nfrom = 10.0.0.1");
    add(f, "e", "unicast = yes\nport = 4012");
    add(f, "f", "shm = /dev/shm/one");
    add(f, "g", "shm = /dev/shm/two");
    assert_string_equal(make(f), "");
    assert_int_equal(f->plan.source_count, 5);
    assert_int_equal(f->plan.player_count, 7);

    const struct plan_source *first = &f->plan.sources[0];
    assert_int_equal(first->kind, SOURCE_UDP);
    assert_int_equal(first->senders.count, 3);
    assert_true(first->senders.others);
    assert_string_equal(player(f, 0, "10.0.0.1"), "a");
    assert_string_equal(player(f, 0, "10.0.0.2"), "b");
    assert_string_equal(player(f, 0, "10.0.0.3"), "b");
    assert_string_equal(player(f, 0, "10.0.0.4"), "c");

    /* Another port is another matter: nobody there wants the rest. */
    assert_false(f->plan.sources[1].senders.others);
    assert_string_equal(player(f, 1, "10.0.0.1"), "d");
    assert_string_equal(player(f, 1, "10.0.0.2"), "");
    assert_string_equal(player(f, 2, "10.0.0.1"), "e");
    assert_int_equal(f->plan.sources[3].kind, SOURCE_SHM);
    assert_ptr_equal(plan_find_player(&f->plan, 3, 0), f->set.configs[5]);
    assert_ptr_equal(plan_find_player(&f->plan, 4, 0), f->set.configs[6]);
}

static void test_order_does_not_matter(void **state)
{
    struct fixture *f = *state;
    add(f, "a", "");
    add(f, "b", "from = 10.0.0.1");
    assert_string_equal(make(f), "");
    assert_string_equal(player(f, 0, "10.0.0.1"), "b");
    assert_string_equal(player(f, 0, "10.0.0.2"), "a");
}

static void test_what_makes_a_source(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } pairs[] = {
        {"",                              "latency = 20\nname = x",     true },
        {"port = 4010",                   "",                           true },
        {"group = 239.255.77.77",         "",                           true },
        {"group = 239.1.1.1",             "",                           false},
        {"interface = a",                 "",                           false},
        {"interface = a",                 "interface = b",              false},
        {"interface = a\nfrom = 1.2.3.4", "interface = a",              true },
        {"unicast = yes",                 "",                           false},
        {"unicast = yes",                 "unicast=1\ngroup=239.1.1.1", true },
        {"shm = /a",                      "shm = /a\nport = 5",         true },
        {"shm = /a",                      "shm = /b",                   false},
        {"shm = /a",                      "",                           false},
    };
    char error[CONFIG_ERROR_MAX];
    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        struct config *a, *b;
        assert_int_equal(config_parse(&a, "a", pairs[i].a, strlen(pairs[i].a), error), 0);
        assert_int_equal(config_parse(&b, "b", pairs[i].b, strlen(pairs[i].b), error), 0);
        if (plan_same_source(a, b) != pairs[i].same || plan_same_source(b, a) != pairs[i].same)
            fail_msg("%s, %s", pairs[i].a, pairs[i].b);
        config_unref(a);
        config_unref(b);
    }
}

static void test_contradictions(void **state)
{
    struct fixture *f = *state;
    add(f, "a", "from = 10.0.0.1");
    add(f, "b", "from = 10.0.0.1,10.0.0.2");
    add(f, "c", "");
    add(f, "d", "latency = 20");
    add(f, "e", "shm = /dev/shm/x");
    add(f, "f", "shm = /dev/shm/x\nlatency = 20");
    add(f, "g", "interface = virbr0");
    const char *said = make(f);
    assert_non_null(strstr(said, "b: from = 10.0.0.1: a has that one already."));
    assert_non_null(strstr(said, "d: not played, c plays the same: from"));
    assert_non_null(strstr(said, "f: not played, e plays the same."));
    assert_non_null(strstr(said, "g: port 4010 is a's"));
    assert_int_equal(f->plan.player_count, 5);
    assert_string_equal(player(f, 0, "10.0.0.1"), "a");
    assert_string_equal(player(f, 0, "10.0.0.2"), "b");
    assert_string_equal(player(f, 0, "10.0.0.3"), "c");
    assert_int_equal(f->plan.sources[0].senders.count, 2);
}

/* Nobody could tell them apart for long; both are heard. A file's own name counts like one that it says. */
static void test_names(void **state)
{
    struct fixture *f = *state;
    add(f, "/etc/a.conf", "name = Desk\nshm = /dev/shm/a");
    add(f, "/etc/b.conf", "shm = /dev/shm/b");
    add(f, "/etc/c.conf", "name = Desk\nport = 4011");
    add(f, "/etc/d.conf", "name = b\nport = 4012");
    add(f, "/etc/e.conf", "name = desk\nport = 4013");
    assert_string_equal(make(f),
                        "/etc/c.conf: is called Desk, as /etc/a.conf is: give one of them another name = NAME, "
                        "or they may swap names at the next start.\n"
                        "/etc/d.conf: is called b, as /etc/b.conf is: give one of them another name = NAME, "
                        "or they may swap names at the next start.\n");
    assert_int_equal(f->plan.player_count, 5);
    assert_int_equal(f->plan.source_count, 5);
}

/* One that is not played takes nobody's name. */
static void test_names_of_those_left_out(void **state)
{
    struct fixture *f = *state;
    add(f, "a", "name = Desk\nshm = /dev/shm/a");
    add(f, "b", "name = Desk\nshm = /dev/shm/a");
    const char *said = make(f);
    assert_non_null(strstr(said, "b: not played, a plays the same."));
    assert_null(strstr(said, "is called"));
}

/* Plain `earshot`, or a source from the command line. */
static void test_command_line(void **state)
{
    struct fixture *f = *state;
    struct options options;
    options_init(&options);
    options.source = FROM_MULTICAST;
    assert_int_equal(config_from_options(&f->set.configs[f->set.count++], &options), 0);
    assert_string_equal(make(f), "");
    assert_ptr_equal(plan_find_player(&f->plan, 0, 1), f->set.configs[0]);
    assert_true(f->plan.sources[0].senders.others);
    assert_null(config_stream_name(f->set.configs[0]));
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    char text[64], name[8], from[32 * 17] = "";
    for (unsigned i = 0; i < 32; i++)
        snprintf(from + strlen(from), sizeof(from) - strlen(from), "from=10.0.1.%u\n", i);
    add(f, "many", from);
    for (char *p = strstr(from, "10.0.1"); p; p = strstr(p, "10.0.1"))
        p[5] = '2';
    add(f, "more", from);
    add(f, "too", "from = 10.0.0.1");
    for (unsigned i = 0; i < PLAN_SOURCES_MAX; i++) {
        snprintf(text, sizeof(text), "shm = /dev/shm/%u", i);
        snprintf(name, sizeof(name), "s%u", i);
        add(f, name, text);
    }
    const char *said = make(f);
    assert_non_null(strstr(said, "too: from = 10.0.0.1: left out, 64"));
    assert_non_null(strstr(said, "s63: not played, 64 sources"));
    assert_null(strstr(said, "s62"));
    assert_int_equal(f->plan.source_count, PLAN_SOURCES_MAX);
    assert_int_equal(f->plan.sources[0].senders.count, SOURCE_SENDERS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shared_port, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_does_not_matter, set_up, tear_down),
        cmocka_unit_test(test_what_makes_a_source),
        cmocka_unit_test_setup_teardown(test_contradictions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names_of_those_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_command_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
