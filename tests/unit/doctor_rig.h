/* SPDX-License-Identifier: MIT
 *
 * A computer for the doctor to look at: files below a directory of its own, commands that answer what the test says,
 * and whatever else env asks. Set up healthy; a test breaks one thing and says which line it wants.
 */
#ifndef EARSHOT_DOCTOR_RIG_H
#define EARSHOT_DOCTOR_RIG_H

#include "receiver/doctor.h"

#include <stddef.h>

struct doctor;

struct rig_command {
    const char *line; /* the command begins so: "firewall-cmd --state" */
    int status;
    const char *output;
};

struct rig {
    char root[64];
    char ring[128]; /* the path of the shared memory */
    struct doctor_env env;
    struct options options;
    struct rig_command commands[24]; /* the last that fits answers; none: -ENOENT */
    unsigned command_count;
    char calls[4096]; /* of systemctl, but for is-enabled; a line each */
    struct doctor_interface interfaces[8];
    int interface_count;
    int wire_result;
    struct doctor_wire wire;
    const char *holder;  /* of the port; NULL: cannot be found out */
    const char *streams; /* JSON; NULL: no session bus */
    int probe_result, rtkit;
    bool ring_stands;         /* the guest writes nothing while the doctor waits */
    unsigned multicast_grows; /* packets that come in while he waits */
    char *text;               /* what it printed last */
    int status;
    struct doctor *doctor;                             /* of tests that look at one area alone; theirs */
    char config_dir[128], config[160], state_dir[128]; /* of setup's tests; theirs */
};

int rig_setup(void **state);
int rig_teardown(void **state);

/* Writes root + path, with its directories. */
void rig_write(struct rig *rig, const char *path, const char *text);
void rig_write_bytes(struct rig *rig, const char *path, const void *data, size_t bytes);
void rig_remove(struct rig *rig, const char *path);
void rig_command(struct rig *rig, const char *line, int status, const char *output);

/* A QEMU of that pid; arguments are separated by '\n'. */
void rig_qemu(struct rig *rig, int pid, const char *arguments);
/* The healthy shared memory: a VM with it, a guest that plays, an earshot that plays it. The rig begins so. */
void rig_shm(struct rig *rig);
/* A guest on virbr0, heard by nobody yet although all is well. */
void rig_network(struct rig *rig);
/* The ring: its header's fields, and the file's size. */
void rig_ring(struct rig *rig, unsigned magic, size_t bytes);

/* Runs the doctor. */
void rig_run(struct rig *rig, bool verbose);
/* Runs it; nothing may be broken, nor suspicious. */
void rig_expect_healthy(struct rig *rig);
/* Runs it; the first line must begin with "FAIL  " + line, and below it `fix` must stand. */
void rig_expect(struct rig *rig, const char *line, const char *fix);
/* The same of a warning; nothing is broken. */
void rig_expect_warning(struct rig *rig, const char *line, const char *fix);

#endif
