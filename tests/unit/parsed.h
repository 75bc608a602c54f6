/* SPDX-License-Identifier: MIT
 *
 * A command line in one string, as the program takes it.
 */
#ifndef EARSHOT_TESTS_PARSED_H
#define EARSHOT_TESTS_PARSED_H

#include "receiver/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PARSED_WORDS_MAX 15

struct parsed {
    struct options options;
    enum options_command command;
    int rest, result;
    char error[OPTABLE_ERROR_MAX]; /* "" where there is none */
    char line[256];
    char *argv[PARSED_WORDS_MAX + 1];
};

/* The line begins with the program's name, and is split at spaces. The strings in p->options stay in p->line. */
__attribute__((format(printf, 2, 3))) static inline void parse(struct parsed *p, const char *format, ...)
{
    va_list args;
    int argc = 0;
    memset(p, 0, sizeof *p);
    va_start(args, format);
    vsnprintf(p->line, sizeof p->line, format, args);
    va_end(args);
    for (char *word = strtok(p->line, " "); word && argc < PARSED_WORDS_MAX; word = strtok(NULL, " "))
        p->argv[argc++] = word;
    p->result = options_parse(&p->options, &p->command, argc, p->argv, &p->rest, p->error);
}

#endif
