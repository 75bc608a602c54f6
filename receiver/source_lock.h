/* SPDX-License-Identifier: MIT
 *
 * One player for a ring: a file in XDG_RUNTIME_DIR/earshot that is locked while it plays, and says who does. (A UDP
 * port is its own lock.) The file stays behind; the lock goes with the process. [main]
 */
#ifndef EARSHOT_SOURCE_LOCK_H
#define EARSHOT_SOURCE_LOCK_H

#include <stddef.h>

/* Locks `path`, which need not exist; two ways to say the same file are one. `name`: who plays it, for the others.
 * Returns the lock, to be closed; -EBUSY: another process has it, and `holder` says who ("win10 (pid 1234)"); or -errno,
 * -ENOENT where there is no XDG_RUNTIME_DIR: then it cannot be locked, and plays all the same. */
int source_lock_take(const char *path, const char *name, char *holder, size_t size);

#endif
