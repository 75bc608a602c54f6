/* SPDX-License-Identifier: MIT
 *
 * Messages for people, one line each, on stderr: with <N> priorities where the journal reads them, in colour on a
 * terminal unless NO_COLOR is set. All functions: [main].
 */
#ifndef EARSHOT_LOG_H
#define EARSHOT_LOG_H

#include <stdbool.h>
#include <stdio.h>

/* The journal's numbers. */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7, /* only with -v */
};

struct log {
    FILE *out;
    bool verbose;
    bool journal;  /* prefix lines with <N> */
    bool terminal; /* a person is watching: hints are welcome */
    bool colour;
    void (*before_line)(void *arg); /* called before each line, for who draws on the same terminal; or NULL */
    void *before_line_arg;
};

/* Looks at `out` and the environment (JOURNAL_STREAM, NO_COLOR, TERM). */
void log_init(struct log *log, FILE *out, bool verbose);

/* One line, without its newline; control characters are replaced. */
__attribute__((format(printf, 3, 4))) void log_line(const struct log *log, enum log_level level, const char *format,
                                                    ...);

#endif
