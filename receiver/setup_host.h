/* SPDX-License-Identifier: MIT
 *
 * What setup has to know of this computer and of the VM it is about. It only looks. [main]
 */
#ifndef EARSHOT_SETUP_HOST_H
#define EARSHOT_SETUP_HOST_H

#include "receiver/doctor_check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct setup_host {
    const struct doctor_env *env;
    const char *name;           /* the VM's */
    struct doctor doctor;       /* what runs; and what doctor_check_...() had to say */
    const struct doctor_vm *vm; /* the VM, running; or NULL */
    char *cmdline;              /* its arguments, each ended with 0; NULL: not running, or hidden */
    size_t cmdline_bytes;
    char *xml;                /* libvirt's definition of the VM, as virsh edit shows it; NULL: it knows none */
    struct doctor_vm defined; /* the ivshmem devices in it */
    bool libvirt;             /* libvirt runs it */
};

/* 0 or -ENOMEM. Whatever cannot be found out counts as not there. Free it in either case. */
int setup_host_look(struct setup_host *host, const struct doctor_env *env, const char *name);
void setup_host_free(struct setup_host *host);

/* The memory to use. */
struct setup_memory {
    char path[DOCTOR_PATH_MAX];  /* below /dev/shm, but where the VM has a device for sound already */
    unsigned mib;                /* unlike any other such device's */
    bool present;                /* the VM has it */
    char other[DOCTOR_PATH_MAX]; /* what has the size that was wished for: "" where that could be granted */
    uint64_t stale_bytes;        /* the file is there in another size, which QEMU would not take; else 0 */
};

/* `mib`: the size wished for. */
void setup_host_memory(const struct setup_host *host, unsigned mib, struct setup_memory *memory);

/* A free slot on the root bus of a running VM that is not libvirt's (which finds one itself). False: not to be told. */
bool setup_host_slot(const struct setup_host *host, char bus[16], unsigned *slot);

/* libvirt's network with this bridge. False: none, or not to be told. */
bool setup_host_network(const struct setup_host *host, const char *bridge, char network[64], bool *active);

/* Has the VM a network card of this model on the bridge or network? */
bool setup_host_has_nic(const struct setup_host *host, const char *bridge, const char *network, const char *model);

/* Does the VM's network go through QEMU itself, so that its host is 10.0.2.2? */
bool setup_host_user_network(const struct setup_host *host);

/* Does its firmware check signatures? False also where that cannot be told. */
bool setup_host_secure_boot(const struct setup_host *host);

/* Real time cannot be had: neither by this user's limits nor from rtkit. */
bool setup_host_limits_low(const struct setup_host *host);

/* A file under env->root is there. */
bool setup_host_has(const struct setup_host *host, const char *path);

#endif
