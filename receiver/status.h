/* SPDX-License-Identifier: MIT
 *
 * Status: the streams of a process as JSON, and the name on the session bus under which everybody can ask for it, or
 * tune them: doc/dbus.md. [main]
 */
#ifndef EARSHOT_STATUS_H
#define EARSHOT_STATUS_H

#include "receiver/log.h"
#include "receiver/optable.h"
#include "receiver/stream.h"

#include <systemd/sd-event.h>

/* A process owns STATUS_NAME_PREFIX followed by its pid. */
#define STATUS_NAME_PREFIX "org.earshot.pid"
#define STATUS_PATH        "/org/earshot"
#define STATUS_INTERFACE   "org.earshot.Receiver1"

/* Tune's errors are called so, and then as errno is here. */
#define STATUS_ERROR_NO_STREAM "org.earshot.Error.NoSuchStream" /* -ENOENT */
#define STATUS_ERROR_NOT_HEARD "org.earshot.Error.NotHeardYet"  /* -EAGAIN */
#define STATUS_ERROR_SETTING   "org.earshot.Error.BadSetting"   /* -EINVAL */

#define STATUS_STREAMS_MAX 320 /* every sender there can be, and every configuration that waits for one */

struct json_object;

/* {"streams":[...]} with the fields that the manual lists, always all of them; those that are not known yet
 * are 0. The parts of latency_ms sum to its total to the last digit. To be freed; NULL: out of memory. */
char *status_json(const struct stream_status *streams, unsigned count);

struct status_handlers {
    /* Fills at most max entries. */
    unsigned (*collect)(void *arg, struct stream_status *streams, unsigned max);
    /* As guests_tune(). */
    int (*tune)(void *arg, const char *name, const char *key, const char *value, const char **file,
                char error[OPTABLE_ERROR_MAX]);
    void *arg;
};

struct status_server;

/* Where there is no session bus, *server is NULL, a line with -v says so, and that is no error. -ENOMEM. */
int status_server_create(struct status_server **server, sd_event *event, const struct status_handlers *handlers,
                         const struct log *log);
void status_server_destroy(struct status_server *server);

struct status_options {
    const char *name; /* only this stream; or NULL */
    bool json;
    bool watch;
};

/* The streams of every running process, as a JSON array to be put. Waits 2 s at most for each answer. -ETIMEDOUT: one of
 * them hangs; -errno: no session bus. */
int status_ask(struct json_object **streams);

/* `earshot status`: asks every process and prints to stdout. Returns the exit status. */
int status_client(const struct status_options *options);

#endif
