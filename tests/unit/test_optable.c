/* SPDX-License-Identifier: MIT */
#include "receiver/optable.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct settings {
    int port;
    int unicast;
    int verbose;
    const char *name;
    const char *last; /* the source option that came last */
};

static int set_port(void *target, const char *value)
{
    struct settings *settings = target;
    char *end;
    long port = strtol(value, &end, 10);
    if (end == value || *end || port < 1 || port > 65535)
        return -EINVAL;
    settings->port = (int)port;
    return 0;
}

static int set_unicast(void *target, const char *value)
{
    struct settings *settings = target;
    if (value)
        return -EINVAL;
    settings->unicast++;
    settings->last = "unicast";
    return 0;
}

static int set_verbose(void *target, const char *value)
{
    (void)value;
    ((struct settings *)target)->verbose++;
    return 0;
}

static int set_name(void *target, const char *value)
{
    struct settings *settings = target;
    settings->name = value;
    settings->last = "name";
    return *value ? 0 : -EINVAL;
}

static int set_never(void *target, const char *value)
{
    (void)target;
    (void)value;
    return -EINVAL;
}

static const struct option_spec table[] = {
    {'p',          "port", "PORT", "a port from 1 to 65535", "UDP port", set_port},
    {'u',      "unicast", NULL, NULL, "listen to unicast", set_unicast},
    {'v',  "verbose", NULL, NULL, "say more", set_verbose},
    {0,            "name", "NAME", "a name", "what mixers show", set_name},
    {0,"names", "NAME", "a name", NULL, set_name},
    {'x',        NULL, NULL, NULL, "never allowed", set_never},
    {0, "a-very-long-option-name", "ARGUMENT", NULL, "help on a line of its own", set_name},
    {0         }
};

struct fixture {
    struct settings settings;
    char error[OPTABLE_ERROR_MAX];
};

#define MAX_ARGUMENTS 8

/* Splits at spaces; "" gives an empty argument. */
static int parse(struct fixture *f, const char *line)
{
    static char buffer[4096];
    char *argv[MAX_ARGUMENTS + 1] = {(char[]){"earshot"}};
    int argc = 1;
    *f = (struct fixture){0};
    assert_true(strlen(line) < sizeof buffer);
    strcpy(buffer, line);
    char *rest = buffer;
    for (char *word; (word = strsep(&rest, " ")) && argc < MAX_ARGUMENTS;)
        argv[argc++] = strcmp(word, "\"\"") == 0 ? word + 2 : word;
    return optable_parse(table, argc, argv, &f->settings, f->error);
}

static void clusters_and_values(void **state)
{
    (void)state;
    struct fixture f;
    static const char *const same[] = {"-uvp4011", "-uvp 4011", "-u -v -p 4011", "-u --verbose --port=4011",
                                       "--unicast -v --port 4011"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_true(parse(&f, same[i]) > 1);
        assert_int_equal(f.settings.port, 4011);
        assert_int_equal(f.settings.unicast, 1);
        assert_int_equal(f.settings.verbose, 1);
        assert_string_equal(f.error, "");
    }
}

static void repeated_options_are_set_in_order(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(parse(&f, "-vv -u --name a"), 5);
    assert_int_equal(f.settings.verbose, 2);
    assert_string_equal(f.settings.last, "name");
    assert_int_equal(parse(&f, "--name a -u"), 4);
    assert_string_equal(f.settings.last, "unicast");
}

static void operands(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(parse(&f, "-v play -u"), 2);
    assert_int_equal(f.settings.unicast, 0);
    assert_int_equal(parse(&f, "-v -- -u"), 3);
    assert_int_equal(f.settings.unicast, 0);
    assert_int_equal(parse(&f, "-v -"), 2);
}

static void parse_fails(const char *line, const char *error)
{
    struct fixture f;
    assert_int_equal(parse(&f, line), -EINVAL);
    assert_string_equal(f.error, error);
}

static void errors_name_the_option_and_what_is_allowed(void **state)
{
    (void)state;
    parse_fails("-p 99999", "-p 99999: must be a port from 1 to 65535");
    parse_fails("-vp99999", "-p 99999: must be a port from 1 to 65535");
    parse_fails("--port=x", "--port x: must be a port from 1 to 65535");
    parse_fails("--port=", "--port \"\": must be a port from 1 to 65535");
    parse_fails("--port", "--port needs a value: a port from 1 to 65535");
    parse_fails("-vp", "-p needs a value: a port from 1 to 65535");
    parse_fails("--verbose=1", "--verbose takes no value");
    parse_fails("-q", "unknown option -q: --help lists them all");
    parse_fails("-vq -u", "unknown option -q: --help lists them all");
    parse_fails("--quiet", "unknown option --quiet: --help lists them all");
    parse_fails("--quiet=5 -v", "unknown option --quiet: --help lists them all");
    parse_fails("--Prot=5", "unknown option --Prot: --help lists them all; did you mean --port?");
    parse_fails("--nam x", "--nam could be --name or --names");
    parse_fails("-x", "-x cannot be used here");
    parse_fails("--a-very-long-option-name", "--a-very-long-option-name needs a value: ARGUMENT");
}

static void a_failed_cluster_leaves_nothing_for_the_next_parse(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(parse(&f, "-xvvvv"), -EINVAL);
    assert_int_equal(parse(&f, "-u"), 2);
    assert_int_equal(f.settings.unicast, 1);
    assert_int_equal(f.settings.verbose, 0);
}

static void long_input_is_cut(void **state)
{
    (void)state;
    struct fixture f;
    char line[2000] = "--port=";
    memset(line + 7, '9', 1500);
    assert_int_equal(parse(&f, line), -EINVAL);
    assert_non_null(strstr(f.error, "must be a port from 1 to 65535"));
    memset(line, 'q', 1500);
    memcpy(line, "--", 2);
    assert_int_equal(parse(&f, line), -EINVAL);
    assert_non_null(strstr(f.error, "--help"));
}

static void config_keys(void **state)
{
    (void)state;
    struct fixture f = {0};
    assert_int_equal(optable_set(table, "port", "4011", &f.settings, f.error), 0);
    assert_int_equal(f.settings.port, 4011);
    assert_int_equal(optable_set(table, "unicast", "yes", &f.settings, f.error), 0);
    assert_int_equal(f.settings.unicast, 1);
    assert_int_equal(optable_set(table, "unicast", "Off", &f.settings, f.error), 0);
    assert_int_equal(f.settings.unicast, 1);
    assert_string_equal(f.error, "");
    assert_int_equal(optable_set(table, "unicast", "maybe", &f.settings, f.error), -EINVAL);
    assert_string_equal(f.error, "unicast = maybe: must be yes or no");
    assert_int_equal(optable_set(table, "port", "0", &f.settings, f.error), -EINVAL);
    assert_string_equal(f.error, "port = 0: must be a port from 1 to 65535");
    assert_int_equal(optable_set(table, "port", NULL, &f.settings, f.error), -EINVAL);
    assert_int_equal(optable_set(table, "por", "4011", &f.settings, f.error), -ENOENT);
    assert_string_equal(f.error, "unknown key por");
    assert_int_equal(optable_set(table, "x", "yes", &f.settings, f.error), -ENOENT);
}

static void help(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    optable_help(table, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "  -p, --port PORT  UDP port\n"
                              "  -u, --unicast    listen to unicast\n"
                              "  -v, --verbose    say more\n"
                              "      --name NAME  what mixers show\n"
                              "  -x               never allowed\n"
                              "      --a-very-long-option-name ARGUMENT\n"
                              "                   help on a line of its own\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_and_values),
        cmocka_unit_test(repeated_options_are_set_in_order),
        cmocka_unit_test(operands),
        cmocka_unit_test(errors_name_the_option_and_what_is_allowed),
        cmocka_unit_test(a_failed_cluster_leaves_nothing_for_the_next_parse),
        cmocka_unit_test(long_input_is_cut),
        cmocka_unit_test(config_keys),
        cmocka_unit_test(help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
