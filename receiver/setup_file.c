/* SPDX-License-Identifier: MIT */
#include "receiver/setup_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK "# Written by earshot setup, which replaces and removes this file only while nobody has changed it. "

/* FNV-1a, 64 bits: it only has to notice an edit. http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t sum_of(const char *text)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        sum = (sum ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return sum;
}

static bool is_ours(const char *text)
{
    char first[sizeof MARK + 24];
    const char *end = strchr(text, '\n');
    if (!end)
        return false;
    int length = snprintf(first, sizeof first, MARK "[%016" PRIx64 "]", sum_of(end + 1));
    return end - text == length && strncmp(text, first, (size_t)length) == 0;
}

char *setup_file_mark(const char *body)
{
    char *text;
    return asprintf(&text, MARK "[%016" PRIx64 "]\n%s", sum_of(body), body) < 0 ? NULL : text;
}

static int read_all(int fd, char **text)
{
    char *content = malloc(SETUP_FILE_MAX);
    if (!content)
        return -ENOMEM;
    size_t length = 0;
    for (;;) {
        ssize_t got = read(fd, content + length, SETUP_FILE_MAX - length);
        if (got < 0 && errno == EINTR)
            continue;
        int error = got < 0 ? -errno : -EFBIG;
        length += got > 0 ? (size_t)got : 0;
        if (got < 0 || length == SETUP_FILE_MAX) {
            free(content);
            return error;
        }
        if (got == 0)
            break;
    }
    content[length] = 0;
    *text = content;
    return 0;
}

int setup_file_look(const char *path, enum setup_file_owner *owner, char **text)
{
    *text = NULL;
    *owner = SETUP_FILE_ABSENT;
    /* A link is somebody's arrangement, and so is whatever else is no file: not followed, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    *owner = SETUP_FILE_FOREIGN;
    if (fd < 0)
        return errno == ELOOP ? 0 : -errno;
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && S_ISREG(st.st_mode))
        r = read_all(fd, text);
    close(fd);
    if (r == 0 && *text && is_ours(*text))
        *owner = SETUP_FILE_OURS;
    return r;
}

int setup_file_directories(const char *path)
{
    char directory[PATH_MAX];
    if (snprintf(directory, sizeof directory, "%s", path) >= (int)sizeof directory)
        return -ENAMETOOLONG;
    for (char *slash = strchr(directory + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(directory, 0700) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static int write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left;) {
        ssize_t wrote = write(fd, text, left);
        if (wrote < 0 && errno != EINTR)
            return -errno;
        text += wrote > 0 ? wrote : 0;
        left -= wrote > 0 ? (size_t)wrote : 0;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

int setup_file_write(const char *path, const char *text)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary)
        return -ENAMETOOLONG;
    int r = setup_file_directories(path);
    if (r < 0)
        return r;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = write_all(fd, text);
    if (r == 0 && fchmod(fd, 0644) < 0)
        r = -errno;
    close(fd);
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0)
        unlink(temporary);
    return r;
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;
    for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
        lines++;
    return lines;
}

/* The next line, with its '\n' where it has one. */
static size_t line_length(const char *text)
{
    size_t length = strcspn(text, "\n");
    return length + (text[length] == '\n');
}

static void print_lines(FILE *out, char sign, const char *text, const char *end)
{
    while (text < end) {
        size_t length = line_length(text);
        bool open = text[length - 1] != '\n';
        fprintf(out, "%c%.*s%s", sign, (int)length, text, open ? "\n\\ No newline at end of file\n" : "");
        text += length;
    }
}

/* The beginning of the last line before `end`. */
static const char *last_line(const char *text, const char *end)
{
    for (end--; end > text && end[-1] != '\n'; end--)
        ;
    return end;
}

void setup_file_diff(FILE *out, const char *path, const char *before, const char *after)
{
    const char *old = before ? before : "", *new = after ? after : "";
    fprintf(out, "--- %s\n+++ %s\n@@ -%d,%u +%d,%u @@\n", before ? path : "/dev/null", after ? path : "/dev/null",
            *old != 0, count_lines(old), *new != 0, count_lines(new));
    const char *o = old, *n = new, *old_end = old + strlen(old), *new_end = new + strlen(new);
    while (*o && line_length(o) == line_length(n) && strncmp(o, n, line_length(o)) == 0) {
        size_t length = line_length(o);
        o += length;
        n += length;
    }
    const char *old_last = old_end, *new_last = new_end;
    while (old_last > o && new_last > n) {
        const char *a = last_line(o, old_last), *b = last_line(n, new_last);
        if (old_last - a != new_last - b || strncmp(a, b, (size_t)(old_last - a)) != 0)
            break;
        old_last = a;
        new_last = b;
    }
    print_lines(out, ' ', old, o);
    print_lines(out, '-', o, old_last);
    print_lines(out, '+', n, new_last);
    print_lines(out, ' ', old_last, old_end);
}
