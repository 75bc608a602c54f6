/* SPDX-License-Identifier: MIT
 *
 * What `earshot doctor` looks at: everything it learns comes through here, so that a test can break one thing at a
 * time. Nothing here changes what it looks at, and nothing waits without a limit. [main]
 */
#ifndef EARSHOT_DOCTOR_ENV_H
#define EARSHOT_DOCTOR_ENV_H

#include "backends/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct json_object;

#define DOCTOR_COMMAND_MS     2000 /* no command may take longer */
#define DOCTOR_PATH_MAX       512
#define DOCTOR_INTERFACES_MAX 64

struct doctor_interface {
    char name[16];
    unsigned flags;            /* IFF_... */
    uint32_t address, netmask; /* the first IPv4 address, network order; 0: none */
};

#define DOCTOR_SENDERS_MAX 64

/* What came in for a port while somebody listened. */
struct doctor_wire {
    struct doctor_sender {
        uint32_t address; /* network order */
        unsigned packets;
        char interface[16]; /* they came in by */
    } senders[DOCTOR_SENDERS_MAX];
    unsigned count;
};

struct doctor_env {
    const char *root; /* what stands before /proc, /sys, /run, /etc, /var and /dev/snd; "" */
    uid_t uid;        /* whose sound it is about: with sudo, who called it */
    char user[64];    /* his name */
    bool is_root;
    const char *runtime_dir; /* XDG_RUNTIME_DIR, or "" */
    void *arg;               /* of the functions below */

    /* Runs argv, found on PATH and in the sbin directories, with LC_ALL=C and without input or error output. Its exit
     * status and what it printed (to be freed, terminated; NULL on errors). -ENOENT: not installed; -ETIMEDOUT. */
    int (*command)(void *arg, const char *const *argv, char **output);
    void (*pause)(void *arg, unsigned ms);
    /* The network interfaces, at most DOCTOR_INTERFACES_MAX. Their number, or -errno. */
    int (*interfaces)(void *arg, struct doctor_interface *interfaces);
    /* Counts UDP packets to the port on every interface for so long. -EPERM: root may. */
    int (*wire)(void *arg, uint16_t port, unsigned ms, struct doctor_wire *wire);
    /* udp_port_holder() */
    bool (*port_holder)(void *arg, uint16_t port, char *out, size_t size);
    /* backend->probe() */
    int (*probe)(void *arg, const struct backend *backend, const struct backend_context_params *params);
    /* The streams of all running earshots, as a JSON array to be put. -errno: no session bus, or no answer. */
    int (*streams)(void *arg, struct json_object **streams);
    /* Can rtkit be reached? 1, 0, or -errno: no system bus. */
    int (*rtkit)(void *arg);
};

/* This computer. With sudo, the caller's: XDG_RUNTIME_DIR and the bus's address are set in the environment to his. */
struct doctor_env doctor_env_here(void);

/* root + path; returns out, "" where it does not fit. */
const char *doctor_path(const struct doctor_env *env, char out[DOCTOR_PATH_MAX], const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The beginning of a file under root, terminated, its last newline gone. Its length, or -errno. */
ssize_t doctor_read(const struct doctor_env *env, char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
