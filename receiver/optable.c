/* SPDX-License-Identifier: MIT */
#include "receiver/optable.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* getopt_long() returns this plus the row for a long option, so that errors name what was typed. */
#define LONG_BASE        256
#define HELP_COLUMN_MAX  28
#define NEAR_NAME_MAX    24  /* no option's name is as long */
#define NEAR_MAX         2   /* letters that may be wrong */
#define SHOWN_CHARACTERS 100 /* of what the user typed: the rest of the line belongs to what is allowed */

static size_t row_count(const struct option_spec *table)
{
    size_t rows = 0;
    while (table[rows].short_name || table[rows].long_name)
        rows++;
    return rows;
}

static int bad_value(const char *option, const char *value, const struct option_spec *spec,
                     char error[OPTABLE_ERROR_MAX])
{
    snprintf(error, OPTABLE_ERROR_MAX, "%s %.*s: must be %s", option, SHOWN_CHARACTERS, *value ? value : "\"\"",
             spec->allowed ? spec->allowed : "something else");
    return -EINVAL;
}

static int apply(const struct option_spec *spec, const char *option, const char *value, void *target,
                 char error[OPTABLE_ERROR_MAX])
{
    if (spec->set(target, spec->arg_name ? value : NULL) == 0)
        return 0;
    if (spec->arg_name)
        return bad_value(option, value, spec, error);
    snprintf(error, OPTABLE_ERROR_MAX, "%s cannot be used here", option);
    return -EINVAL;
}

/* Of an argument that getopt_long() could not match: an abbreviation of two options, or of none. */
static int unknown_long(const struct option_spec *table, const char *argument, char error[OPTABLE_ERROR_MAX])
{
    const char *name = argument + 2;
    size_t length = strcspn(name, "=");
    const char *first = NULL;
    for (const struct option_spec *spec = table; spec->short_name || spec->long_name; spec++) {
        if (!spec->long_name || strncmp(spec->long_name, name, length) != 0)
            continue;
        if (first) {
            snprintf(error, OPTABLE_ERROR_MAX, "--%.*s could be --%s or --%s", (int)length, name, first,
                     spec->long_name);
            return -EINVAL;
        }
        first = spec->long_name;
    }
    char shown[SHOWN_CHARACTERS];
    snprintf(shown, sizeof shown, "%.*s", (int)(length < sizeof shown ? length : sizeof shown - 1), name);
    const char *nearest = optable_nearest(table, shown);
    int said = snprintf(error, OPTABLE_ERROR_MAX, "unknown option --%s: --help lists them all", shown);
    if (nearest)
        snprintf(error + said, OPTABLE_ERROR_MAX - (size_t)said, "; did you mean --%s?", nearest);
    return -EINVAL;
}

static const struct option_spec *find_short(const struct option_spec *table, int name)
{
    for (const struct option_spec *spec = table; spec->short_name || spec->long_name; spec++)
        if (spec->short_name && spec->short_name == name)
            return spec;
    return NULL;
}

/* What getopt_long() returned, back to the row and to what was typed ("-p", "--port"). */
static const struct option_spec *find_row(const struct option_spec *table, int code, char *option, size_t size)
{
    const struct option_spec *spec = code >= LONG_BASE ? &table[code - LONG_BASE] : find_short(table, code);
    if (code >= LONG_BASE)
        snprintf(option, size, "--%s", spec->long_name);
    else
        snprintf(option, size, "-%c", code);
    return spec;
}

static int report(const struct option_spec *table, int found, const char *argument, char error[OPTABLE_ERROR_MAX])
{
    char option[SHOWN_CHARACTERS];
    const struct option_spec *spec = optopt ? find_row(table, optopt, option, sizeof option) : NULL;
    if (!spec && optopt)
        snprintf(error, OPTABLE_ERROR_MAX, "unknown option -%c: --help lists them all", optopt);
    else if (!spec)
        return unknown_long(table, argument, error);
    else if (found == ':')
        snprintf(error, OPTABLE_ERROR_MAX, "%s needs a value: %s", option,
                 spec->allowed ? spec->allowed : spec->arg_name);
    else
        snprintf(error, OPTABLE_ERROR_MAX, "%s takes no value", option);
    return -EINVAL;
}

int optable_parse(const struct option_spec *table, int argc, char **argv, void *target, char error[OPTABLE_ERROR_MAX])
{
    error[0] = '\0';
    size_t rows = row_count(table);
    struct option *longs = calloc(rows + 1, sizeof *longs);
    /* "+": stop at the first operand; ":": tell a missing value from an unknown option. */
    char *shorts = calloc(2 + 2 * rows + 1, 1);
    int result = -ENOMEM;
    if (!longs || !shorts) {
        snprintf(error, OPTABLE_ERROR_MAX, "out of memory");
        goto out;
    }
    char *next_short = shorts;
    struct option *next_long = longs;
    *next_short++ = '+';
    *next_short++ = ':';
    for (size_t i = 0; i < rows; i++) {
        if (table[i].short_name) {
            *next_short++ = table[i].short_name;
            if (table[i].arg_name)
                *next_short++ = ':';
        }
        if (table[i].long_name)
            *next_long++ = (struct option){table[i].long_name, table[i].arg_name ? required_argument : no_argument,
                                           NULL, LONG_BASE + (int)i};
    }

    optind = 0; /* glibc and musl: start afresh, also in the middle of a cluster that failed before */
    opterr = 0;
    while (true) {
        optopt = 0;
        int found = getopt_long(argc, argv, shorts, longs, NULL);
        if (found == -1)
            break;
        if (found == '?' || found == ':') {
            result = report(table, found, argv[optind > 0 ? optind - 1 : 0], error);
            goto out;
        }
        char option[SHOWN_CHARACTERS];
        const struct option_spec *spec = find_row(table, found, option, sizeof option);
        result = apply(spec, option, optarg, target, error);
        if (result != 0)
            goto out;
    }
    result = optind;
out:
    free(shorts);
    free(longs);
    return result;
}

/* As people mean it: "--Max_Latency" is max-latency. */
static void normalise(const char *name, char out[NEAR_NAME_MAX])
{
    size_t length = 0;
    for (name += strspn(name, "-"); *name && length + 1 < NEAR_NAME_MAX; name++)
        out[length++] = *name == '_' ? '-' : (char)tolower((unsigned char)*name);
    out[length] = 0;
}

/* Edit distance with swaps of neighbours (optimal string alignment: E. Ukkonen, 1985). */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][NEAR_NAME_MAX + 1];
    size_t columns = strlen(b);
    for (size_t j = 0; j <= columns; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned *row = rows[i % 3], *before = rows[(i + 2) % 3], *two_before = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= columns; j++) {
            unsigned best = before[j - 1] + (a[i - 1] != b[j - 1]);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_before[j - 2] + 1 < best)
                best = two_before[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[strlen(a) % 3][columns];
}

const char *optable_nearest(const struct option_spec *table, const char *name)
{
    char meant[NEAR_NAME_MAX];
    const char *nearest = NULL;
    unsigned least = NEAR_MAX + 1;
    normalise(name, meant);
    for (const struct option_spec *spec = table; spec->short_name || spec->long_name; spec++) {
        if (!spec->long_name || strlen(spec->long_name) >= NEAR_NAME_MAX)
            continue;
        unsigned away = distance(meant, spec->long_name);
        /* Of a short word more than half must be right. */
        if (away < least && 2 * away < strlen(spec->long_name)) {
            least = away;
            nearest = spec->long_name;
        }
    }
    return nearest;
}

static int parse_yes_no(const char *value, bool *yes)
{
    static const char *const words[][2] = {
        {"yes",  "no"   },
        {"true", "false"},
        {"on",   "off"  },
        {"1",    "0"    }
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        *yes = strcasecmp(value, words[i][0]) == 0;
        if (*yes || strcasecmp(value, words[i][1]) == 0)
            return 0;
    }
    return -EINVAL;
}

int optable_set(const struct option_spec *table, const char *long_name, const char *value, void *target,
                char error[OPTABLE_ERROR_MAX])
{
    error[0] = '\0';
    if (!value)
        value = "";
    for (const struct option_spec *spec = table; spec->short_name || spec->long_name; spec++) {
        if (!spec->long_name || strcmp(spec->long_name, long_name) != 0)
            continue;
        char key[SHOWN_CHARACTERS];
        snprintf(key, sizeof key, "%s =", long_name);
        if (spec->arg_name)
            return apply(spec, key, value, target, error);
        bool yes = false;
        if (parse_yes_no(value, &yes) != 0) {
            snprintf(error, OPTABLE_ERROR_MAX, "%s %.*s: must be yes or no", key, SHOWN_CHARACTERS,
                     *value ? value : "\"\"");
            return -EINVAL;
        }
        return yes ? apply(spec, long_name, NULL, target, error) : 0;
    }
    snprintf(error, OPTABLE_ERROR_MAX, "unknown key %.*s", SHOWN_CHARACTERS, long_name);
    return -ENOENT;
}

static int help_left(const struct option_spec *spec, char *out, size_t size)
{
    char short_part[8] = "    ";
    if (spec->short_name)
        snprintf(short_part, sizeof short_part, "-%c%s", spec->short_name, spec->long_name ? ", " : "");
    return snprintf(out, size, "  %s%s%s%s%s", short_part, spec->long_name ? "--" : "",
                    spec->long_name ? spec->long_name : "", spec->arg_name ? " " : "",
                    spec->arg_name ? spec->arg_name : "");
}

void optable_help(const struct option_spec *table, FILE *out)
{
    char left[SHOWN_CHARACTERS];
    int column = 0;
    for (const struct option_spec *spec = table; spec->short_name || spec->long_name; spec++) {
        int width = spec->help ? help_left(spec, left, sizeof left) : 0;
        if (width > column && width <= HELP_COLUMN_MAX)
            column = width;
    }
    for (const struct option_spec *spec = table; spec->short_name || spec->long_name; spec++) {
        if (!spec->help)
            continue;
        if (help_left(spec, left, sizeof left) > column)
            fprintf(out, "%s\n%*s  %s\n", left, column, "", spec->help);
        else
            fprintf(out, "%-*s  %s\n", column, left, spec->help);
    }
}
