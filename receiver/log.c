/* SPDX-License-Identifier: MIT */
#include "receiver/log.h"

#include "receiver/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

/* JOURNAL_STREAM is inherited; it is about our stderr only where the device and inode are stderr's. */
static bool is_journal(FILE *out)
{
    const char *value = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;
    struct stat st;
    return value && sscanf(value, "%ju:%ju", &device, &inode) == 2 && fstat(fileno(out), &st) == 0 &&
           st.st_dev == device && st.st_ino == inode;
}

void log_init(struct log *log, FILE *out, bool verbose)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    *log = (struct log){.out = out, .verbose = verbose, .journal = is_journal(out)};
    log->terminal = isatty(fileno(out)) == 1;
    log->colour = log->terminal && !(no_colour && *no_colour) && term && strcmp(term, "dumb") != 0;
}

void log_line(const struct log *log, enum log_level level, const char *format, ...)
{
    if (level == LOG_LEVEL_DEBUG && !log->verbose)
        return;

    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    if (vsnprintf(line, sizeof(line), format, args) < 0)
        line[0] = 0;
    va_end(args);
    text_clean(line);

    const char *colour = "";
    if (log->colour)
        colour = level == LOG_LEVEL_ERROR     ? "\033[31m"
                 : level == LOG_LEVEL_WARNING ? "\033[33m"
                 : level == LOG_LEVEL_DEBUG   ? "\033[2m"
                                              : "";
    if (log->before_line)
        log->before_line(log->before_line_arg);
    if (log->journal)
        fprintf(log->out, "<%d>%s\n", (int)level, line);
    else
        fprintf(log->out, "%s%s%s\n", colour, line, *colour ? "\033[0m" : "");
    fflush(log->out);
}
