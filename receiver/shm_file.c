/* SPDX-License-Identifier: MIT */
#include "receiver/shm_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Shared memory for sound is a few MiB; more of a device is not mapped. */
#define MAP_BYTES_MAX ((size_t)256 << 20)

/* The driver of a device refuses to map more than there is, and knows no other way to tell. */
static int map_all(struct shm_file *file)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t good = 0, pages = MAP_BYTES_MAX / page;
    int error = 0;
    for (size_t step = pages; step > 0; step /= 2) {
        if (good + step > pages)
            continue;
        void *map = mmap(NULL, (good + step) * page, PROT_READ, MAP_SHARED, file->fd, 0);
        if (map == MAP_FAILED) {
            error = -errno;
            continue;
        }
        if (file->map)
            munmap(file->map, (size_t)file->map_bytes);
        good += step;
        file->map = map;
        file->map_bytes = good * page;
    }
    return file->map ? 0 : error;
}

int shm_file_open(struct shm_file *file, const char *path)
{
    *file = SHM_FILE_CLOSED;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    file->fd = fd;

    int error = 0;
    struct stat st;
    if (fstat(fd, &st) < 0)
        error = -errno;
    else if (S_ISCHR(st.st_mode))
        error = map_all(file);
    else if (!S_ISREG(st.st_mode))
        error = -EMEDIUMTYPE;
    if (error < 0) {
        shm_file_close(file);
        return error;
    }
    file->device = st.st_dev;
    file->inode = st.st_ino;
    return 0;
}

void shm_file_close(struct shm_file *file)
{
    if (file->map)
        munmap(file->map, (size_t)file->map_bytes);
    if (file->fd >= 0)
        close(file->fd);
    *file = SHM_FILE_CLOSED;
}

int64_t shm_file_size(const struct shm_file *file)
{
    if (file->map)
        return (int64_t)file->map_bytes;
    struct stat st;
    return fstat(file->fd, &st) < 0 ? -errno : st.st_size;
}

int shm_file_read_header(const struct shm_file *file, uint8_t header[SCREAM_SHM_HEADER_BYTES])
{
    if (!file->map)
        return shm_file_read(file, 0, header, SCREAM_SHM_HEADER_BYTES);
    scream_shm_snapshot(header, file->map);
    return 0;
}

int shm_file_read(const struct shm_file *file, uint64_t at, void *out, size_t bytes)
{
    if (file->map) {
        if (at > file->map_bytes || bytes > file->map_bytes - at)
            return -ENODATA;
        memcpy(out, (const uint8_t *)file->map + at, bytes);
        return 0;
    }
    uint8_t *to = out;
    while (bytes > 0) {
        ssize_t got = pread(file->fd, to, bytes, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        to += got;
        at += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}

bool shm_file_replaced(const struct shm_file *file, const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 || st.st_dev != file->device || st.st_ino != file->inode;
}
