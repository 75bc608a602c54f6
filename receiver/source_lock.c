/* SPDX-License-Identifier: MIT */
#include "receiver/source_lock.h"

#include "receiver/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOLDER_BYTES 192

/* Without links and dots, as far as it exists. NULL: out of memory. */
static char *plain_path(const char *path)
{
    char *plain = realpath(path, NULL);
    if (plain)
        return plain;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *directory = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    char *parent = directory ? realpath(directory, NULL) : NULL;
    free(directory);
    if (!parent)
        return strdup(path);
    if (asprintf(&plain, "%s/%s", parent, base) < 0)
        plain = NULL;
    free(parent);
    return plain;
}

/* FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash(const char *text)
{
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        value = (value ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return value;
}

static int open_file(const char *path)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char file[4096];
    if (!runtime || *runtime != '/')
        return -ENOENT;
    int length = snprintf(file, sizeof(file), "%s/earshot", runtime);
    if (length < 0 || (size_t)length + 32 > sizeof(file))
        return -ENAMETOOLONG;
    if (mkdir(file, 0700) < 0 && errno != EEXIST)
        return -errno;
    char *plain = plain_path(path);
    if (!plain)
        return -ENOMEM;
    snprintf(file + length, sizeof(file) - (size_t)length, "/%016" PRIx64 ".lock", hash(plain));
    free(plain);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

int source_lock_take(const char *path, const char *name, char *holder, size_t size)
{
    int fd = open_file(path);
    if (fd < 0)
        return fd;
    char text[HOLDER_BYTES];
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
        close(fd);
        text[length > 0 ? length : 0] = 0;
        text_copy(holder, size, *text ? text : "another program");
        return r;
    }
    int length = snprintf(text, sizeof(text), "%.128s (pid %d)", name, (int)getpid());
    /* Only for people: that it is locked is what counts. */
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) != length)
        return fd;
    return fd;
}
