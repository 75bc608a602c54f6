/* SPDX-License-Identifier: MIT
 *
 * Files that setup writes and may replace or remove later - as long as nobody else has changed them. Their first line
 * says so, and holds a sum of what follows it. [main]
 */
#ifndef EARSHOT_SETUP_FILE_H
#define EARSHOT_SETUP_FILE_H

#include <stdio.h>

#define SETUP_FILE_MAX ((size_t)64 << 10)

enum setup_file_owner {
    SETUP_FILE_ABSENT,
    SETUP_FILE_OURS,    /* as setup wrote it */
    SETUP_FILE_FOREIGN, /* somebody else wrote or changed it, or it is no ordinary file */
};

/* What is there. *text is its content, to be freed; NULL where absent or not to be read as text. 0 or -errno. */
int setup_file_look(const char *path, enum setup_file_owner *owner, char **text);

/* `body` with the first line before it. To be freed; NULL: no memory. */
char *setup_file_mark(const char *body);

/* Writes the whole file or nothing, and its directories where they are missing. 0 or -errno. */
int setup_file_write(const char *path, const char *text);

/* Creates the directories above the file. 0 or -errno. */
int setup_file_directories(const char *path);

/* As diff -u has it; NULL is no file. */
void setup_file_diff(FILE *out, const char *path, const char *before, const char *after);

#endif
