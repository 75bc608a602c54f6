/* SPDX-License-Identifier: MIT
 *
 * The memory a guest's ring lies in, as this host sees it: a file, read with pread (a truncated file is a short read,
 * never SIGBUS), or a character device (/dev/kvmfr0, /dev/uio0), which has no length and is mapped. Read only. [src]
 */
#ifndef EARSHOT_SHM_FILE_H
#define EARSHOT_SHM_FILE_H

#include "ringbuf/scream_shm.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct shm_file {
    int fd;    /* -1: closed */
    void *map; /* read only; NULL: read with pread */
    uint64_t map_bytes;
    dev_t device;
    ino_t inode;
};

/* What a closed one looks like. */
#define SHM_FILE_CLOSED ((struct shm_file){.fd = -1})

/* -errno of open, fstat or mmap; -EMEDIUMTYPE for what is neither file nor character device. Never blocks. On errors
 * the file is left closed. */
int shm_file_open(struct shm_file *file, const char *path);
void shm_file_close(struct shm_file *file);

/* Bytes there are now, or -errno. */
int64_t shm_file_size(const struct shm_file *file);

/* Copies the header, or `bytes` bytes from `at` on. -ENODATA: the file ends before; else -errno. */
int shm_file_read_header(const struct shm_file *file, uint8_t header[SCREAM_SHM_HEADER_BYTES]);
int shm_file_read(const struct shm_file *file, uint64_t at, void *out, size_t bytes);

/* Does `path` name another file by now, or none? */
bool shm_file_replaced(const struct shm_file *file, const char *path);

#endif
