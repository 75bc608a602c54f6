/* SPDX-License-Identifier: MIT
 *
 * What `earshot guest` was asked for. [main]
 */
#ifndef EARSHOT_GUEST_OPTIONS_H
#define EARSHOT_GUEST_OPTIONS_H

#include "receiver/optable.h"
#include "receiver/signal_gen.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum guest_play { GUEST_PLAY_SIGNAL, GUEST_PLAY_WAV, GUEST_PLAY_STDIN, GUEST_PLAY_CAPTURE };

/* Strings point into argv. */
struct guest_options {
    const char *shm_path; /* NULL: UDP */
    bool shm_auto;        /* shm_path is none: the machine's own device is to be found */
    size_t shm_bytes;     /* 0: not given */
    struct in_addr address;
    uint16_t port;
    const char *interface; /* NULL: the kernel's choice */
    int ttl;

    uint32_t rate;    /* 0: not given */
    uint8_t bits;     /* 0: not given */
    uint8_t channels; /* 0: not given */
    int32_t mask;     /* -1: not given */

    enum guest_play play;
    enum signal_kind signal;
    double hz;
    uint32_t period_frames;
    const char *wav_path;
    bool loop;
    double level_db; /* NAN: not given */

    double ppm;
    int64_t jitter_ns, tick_ns, chunk_ns; /* chunk_ns 0: not given */
    uint32_t burst;
    uint32_t packet_frames; /* 0: the driver's 1152 bytes */
    double seconds;         /* 0: endless */
    int64_t pause_every_ns, pause_ns;
    const char *log_path;
    bool quiet, help;
};

/* Fills *options from argv[1..]. 0, or -EINVAL with a line in `error`. */
int guest_options_parse(struct guest_options *options, int argc, char **argv, char error[OPTABLE_ERROR_MAX]);

void guest_options_help(FILE *out);

/* The table, ended by an all-zero row. */
const struct option_spec *guest_options_table(void);

#endif
