/* SPDX-License-Identifier: MIT
 *
 * What the doctor's checks share: the list of what was found, and the facts that more than one area needs. [main]
 */
#ifndef EARSHOT_DOCTOR_CHECK_H
#define EARSHOT_DOCTOR_CHECK_H

#include "receiver/doctor_env.h"
#include "receiver/options.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the order of the way, from the machine to the ear. */
enum doctor_area {
    DOCTOR_VM,
    DOCTOR_FILE,
    DOCTOR_NETWORK,
    DOCTOR_SERVICE,
    DOCTOR_SOUND,
    DOCTOR_REALTIME,
    DOCTOR_AREAS,
};

enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_SKIP, /* cannot be told while another link is broken, or without a tool or rights */
    DOCTOR_WARN, /* sound may come all the same */
    DOCTOR_FAIL, /* no sound can come this way */
};

#define DOCTOR_FINDINGS_MAX 128
#define DOCTOR_TEXT_MAX     320
#define DOCTOR_FIX_MAX      1400
#define DOCTOR_VMS_MAX      16
#define DOCTOR_DEVICES_MAX  8
#define DOCTOR_EARSHOTS_MAX 16

struct doctor_finding {
    enum doctor_area area;
    enum doctor_verdict verdict;
    char text[DOCTOR_TEXT_MAX];
    char fix[DOCTOR_FIX_MAX]; /* lines */
};

/* An ivshmem device, as QEMU's arguments have it. */
struct doctor_ivshmem {
    char path[DOCTOR_PATH_MAX]; /* "": memory without a file */
    uint64_t bytes;
    bool shared; /* share=on: what the guest writes is seen outside */
};

struct doctor_vm {
    pid_t pid;
    gid_t gid;
    char name[64];
    struct doctor_ivshmem devices[DOCTOR_DEVICES_MAX];
    unsigned device_count;
};

struct doctor {
    const struct doctor_env *env;
    struct doctor_finding *findings; /* DOCTOR_FINDINGS_MAX */
    unsigned finding_count;
    struct doctor_finding *last;      /* doctor_fix() is about this one; NULL: about none that is kept */
    char root_would[DOCTOR_TEXT_MAX]; /* what sudo would add, for people */

    struct doctor_vm *vms; /* DOCTOR_VMS_MAX */
    unsigned vm_count;
    bool sees_processes;                 /* other people's, too */
    pid_t earshots[DOCTOR_EARSHOTS_MAX]; /* this user's that play */
    unsigned earshot_count;
    struct json_object *streams; /* what they say; NULL: they cannot be asked */

    struct doctor_wire *wire; /* what came for .wire_port; all sources on a port hear the same */
    uint16_t wire_port;       /* 0: not listened yet */
    int wire_result;

    bool another_plays; /* there are several sources, and one of them does */
    bool vm_fails;      /* that of the source being looked at: no telling what follows */
};

/* Adds a line; one that is there already is not added again. */
void doctor_say(struct doctor *doctor, enum doctor_area area, enum doctor_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds a line to what mends the last one. */
void doctor_fix(struct doctor *doctor, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Remembers what could be looked at as root only. */
void doctor_root_would(struct doctor *doctor, const char *what);

/* For a command to paste: as it is where a shell takes it so, else in quotes. Cut where it is too long. */
struct doctor_quoted {
    char text[DOCTOR_PATH_MAX];
};
struct doctor_quoted doctor_quote(const char *text);

/* Is this stream, as status has it, one of this source's? */
bool doctor_plays(struct json_object *stream, const struct options *options);

/* Members of JSON: whatever is missing or of another type reads as NULL, "" or 0. */
struct json_object *doctor_member(struct json_object *object, const char *key);
const char *doctor_text(struct json_object *object, const char *key);

/* doctor_vm.c. Is this a QEMU's command line (arguments that each end with 0)? Fills all but pid and gid. */
bool doctor_vm_parse(struct doctor_vm *vm, const char *cmdline, size_t length);
/* The value of `key` in an argument like "driver,key=value" or JSON; the first item may leave out the key `implied`. */
bool doctor_qemu_value(const char *text, const char *implied, const char *key, char *out, size_t size);
void doctor_look_at_processes(struct doctor *doctor);
/* The VM one of whose devices has this file, and the device; NULL. */
const struct doctor_vm *doctor_vm_with(const struct doctor *doctor, const char *path,
                                       const struct doctor_ivshmem **device);
/* Do both paths lead to the same file? */
bool doctor_same_file(const char *a, const char *b);

/* doctor_ring.c */
enum doctor_ring_state {
    RING_FAILED,     /* .error */
    RING_SHORT,      /* no room for a header */
    RING_ALL_ZERO,   /* nobody ever wrote to it */
    RING_CLOSED,     /* written to, but no stream is open now */
    RING_FOREIGN,    /* somebody else's memory */
    RING_BAD_HEADER, /* .reason */
    RING_STILL,      /* a stream is open, and nothing comes */
    RING_PLAYING,
};

struct doctor_ring {
    enum doctor_ring_state state;
    int error; /* -errno */
    uint64_t bytes;
    uint64_t device, inode;
    char reason[80];
    char format[64]; /* for people; of STILL and PLAYING */
};

/* Looks at it for some 300 ms at most. */
void doctor_look_at_ring(const struct doctor_env *env, const char *path, struct doctor_ring *ring);

/* The areas, each for one source. */
void doctor_check_vm(struct doctor *doctor, const struct options *options, const struct doctor_ring *ring);
void doctor_check_file(struct doctor *doctor, const struct options *options, const struct doctor_ring *ring);
void doctor_check_network(struct doctor *doctor, const struct options *options);
void doctor_check_service(struct doctor *doctor, const struct options *options);
void doctor_check_sound(struct doctor *doctor, const struct options *options);
void doctor_check_realtime(struct doctor *doctor);

/* doctor_firewall.c. `suspect`: packets came in and were not heard. False: nothing was found that could stop them. */
bool doctor_check_firewall(struct doctor *doctor, const char *interface, uint16_t port, bool suspect);

/* doctor_pipewire.c, doctor_pulse.c: the server runs; what of its sinks and our streams? */
void doctor_check_pipewire(struct doctor *doctor, const struct options *options);
void doctor_check_pulse(struct doctor *doctor, const struct options *options);

#endif
