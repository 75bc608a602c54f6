/* SPDX-License-Identifier: MIT
 *
 * Command-line options from a table. The table is all there is: parsing, --help, config keys and completions are
 * made from it. getopt's ways hold: clusters (-uvp4011), -p4011, --port=4011, "--". [main]
 */
#ifndef EARSHOT_OPTABLE_H
#define EARSHOT_OPTABLE_H

#include <stddef.h>
#include <stdio.h>

#define OPTABLE_ERROR_MAX 256

struct option_spec {
    char short_name;       /* 0: none */
    const char *long_name; /* NULL: none */
    const char *arg_name;  /* "MS", as --help shows it; NULL: takes no value */
    const char *allowed;   /* what a value may be, for errors: "a port from 1 to 65535" */
    const char *help;      /* one line; NULL: not shown */
    /* Checks and stores `value` (NULL where arg_name is) into target. 0 or -EINVAL. */
    int (*set)(void *target, const char *value);
};

/* Parses argv[1..]. The table ends with an all-zero row. Returns the index of the first operand (options and
 * operands may not mix: parsing stops at the first operand or after "--"), or -EINVAL with a line in `error` that
 * names the option and says what is allowed (-ENOMEM likewise). What came before the bad option is already stored. */
int optable_parse(const struct option_spec *table, int argc, char **argv, void *target,
                  char error[OPTABLE_ERROR_MAX]);

/* One option by its long name, as a config file has it; one that takes no value is set by yes, true, on or 1 and
 * left alone by no, false, off or 0. -ENOENT: no such option; -EINVAL: bad value; both with a line in `error`. */
int optable_set(const struct option_spec *table, const char *long_name, const char *value, void *target,
                char error[OPTABLE_ERROR_MAX]);

/* The long name that somebody who typed `name` may have meant; NULL: none is near. Capitals, dashes before it and '_' for
 * '-' are no difference, and of letters left out, put in, changed or swapped no more than two are. */
const char *optable_nearest(const struct option_spec *table, const char *name);

/* The table as the options part of --help; a row whose help is NULL is accepted but not shown. */
void optable_help(const struct option_spec *table, FILE *out);

#endif
