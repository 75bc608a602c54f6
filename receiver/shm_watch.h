/* SPDX-License-Identifier: MIT
 *
 * Tells when something happens to a path: a file appears there, is replaced, gets other permissions, goes away. Through
 * inotify, on the directory; what it cannot see - a directory that is not there yet, another link's end, a filesystem
 * without it, a limit that is used up - only looking tells. [src]
 */
#ifndef EARSHOT_SHM_WATCH_H
#define EARSHOT_SHM_WATCH_H

#include <stdbool.h>

struct shm_watch {
    int fd;        /* readable: see shm_watch_happened(); -1: there is none */
    int directory; /* -1: not watched yet */
};

/* What a closed one looks like. */
#define SHM_WATCH_CLOSED ((struct shm_watch){.fd = -1, .directory = -1})

/* Watches the directory of `path`, unless it does so already. Afterwards look at the path: what happened before this
 * call is not told. */
void shm_watch_open(struct shm_watch *watch, const char *path);
void shm_watch_close(struct shm_watch *watch);

/* Reads what has happened, a bounded part of it at a time. True: look at the path. */
bool shm_watch_happened(struct shm_watch *watch, const char *path);

#endif
