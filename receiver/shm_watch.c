/* SPDX-License-Identifier: MIT */
#include "receiver/shm_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define READS_MAX 8

void shm_watch_open(struct shm_watch *watch, const char *path)
{
    if (watch->fd < 0)
        watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd < 0 || watch->directory >= 0)
        return;
    const char *slash = strrchr(path, '/');
    char *directory = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!directory)
        return;
    watch->directory = inotify_add_watch(watch->fd, directory,
                                         IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_ATTRIB |
                                             IN_MOVE_SELF | IN_ONLYDIR);
    free(directory);
}

void shm_watch_close(struct shm_watch *watch)
{
    if (watch->fd >= 0)
        close(watch->fd);
    *watch = SHM_WATCH_CLOSED;
}

/* Is it about our path? */
static bool concerns(struct shm_watch *watch, const struct inotify_event *event, const char *name)
{
    if (event->mask & IN_MOVE_SELF) /* the directory has another name: the path may lead to another one by now */
        inotify_rm_watch(watch->fd, event->wd);
    if (event->mask & (IN_IGNORED | IN_MOVE_SELF)) {
        watch->directory = -1;
        return true;
    }
    return event->mask & IN_Q_OVERFLOW || (event->len > 0 && strcmp(event->name, name) == 0);
}

bool shm_watch_happened(struct shm_watch *watch, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    _Alignas(struct inotify_event) char buffer[4096];
    bool happened = false;
    for (unsigned i = 0; i < READS_MAX && watch->fd >= 0; i++) {
        ssize_t bytes = read(watch->fd, buffer, sizeof buffer);
        if (bytes <= 0)
            break;
        for (ssize_t at = 0; at < bytes;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)(buffer + at);
            happened |= concerns(watch, event, name);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return happened;
}
