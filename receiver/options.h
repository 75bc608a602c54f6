/* SPDX-License-Identifier: MIT
 *
 * What the command line and the configuration files may say. One table, and all there is about an option - its names,
 * its check, its line in --help - stands in its row. [main]
 */
#ifndef EARSHOT_OPTIONS_H
#define EARSHOT_OPTIONS_H

#include "receiver/optable.h"
#include "receiver/playout.h"
#include "receiver/setup_options.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define OPTIONS_SENDERS_MAX 64
#define OPTIONS_CONFIGS_MAX 64
#define OPTIONS_SETTING_MAX 32 /* a key, and its 0 */

enum options_source { FROM_NONE, FROM_SHM, FROM_UNICAST, FROM_MULTICAST, FROM_PCAP };

/* Strings point to what was parsed: into argv, or to the values of options_set(). */
struct options {
    /* run and demo */
    enum options_source source;
    const char *shm_path;
    uint16_t port;
    const char *group; /* multicast address */
    const char *interface;
    uint32_t from[OPTIONS_SENDERS_MAX]; /* IPv4 addresses, network order */
    unsigned from_count;

    const char *backend; /* "auto" or a backend's name */
    const char *target;
    const char *server;
    const char *connect;
    bool no_connect;
    bool raw; /* -o raw */

    const char *name; /* NULL: each stream's own */
    int64_t latency_ns;
    int64_t max_latency_ns;
    bool latency_above_chunk; /* called as `scream`: latency_ns is what comes on top of the guest's chunk */
    enum resampler_quality quality;

    bool verbose, help, version;

    /* An option was given that a configuration file could have, too, or this was called as `scream`: then it is the
     * command line that says what to play, and no such file. */
    bool playback;
    const char *configs[OPTIONS_CONFIGS_MAX]; /* --config, in this order; none where playback */
    unsigned config_count;

    /* status */
    const char *status_name;
    bool json, watch;

    /* tune */
    const char *tune_name;
    char *const *settings; /* KEY=VALUE each, checked */
    unsigned setting_count;

    /* demo */
    unsigned seconds;

    struct setup_options setup;
};

enum options_command {
    COMMAND_RUN,
    COMMAND_STATUS,
    COMMAND_GUEST,
    COMMAND_DEMO,
    COMMAND_DOCTOR,
    COMMAND_SETUP,
    COMMAND_TUNE
};

/* Tells the command from argv and parses what follows it. Returns 0, or -EINVAL with one line in `error`. For
 * COMMAND_GUEST nothing is parsed: *rest is the index of "guest" in argv. */
int options_parse(struct options *options, enum options_command *command, int argc, char **argv, int *rest,
                  char error[OPTABLE_ERROR_MAX]);

/* What holds where nothing is said. */
void options_init(struct options *options);

/* One line of a configuration file. `value` must outlive options. 0, -ENOENT (no such key) or -EINVAL, both with a line
 * in `error` that says what is allowed. */
int options_set(struct options *options, const char *key, const char *value, char error[OPTABLE_ERROR_MAX]);

/* What `earshot tune` may change while it plays: the same keys, fewer of them. -EINVAL (also: no such key), with a line
 * in `error`. */
int options_tune(struct options *options, const char *key, const char *value, char error[OPTABLE_ERROR_MAX]);

/* KEY=VALUE: returns the value; NULL where it is nothing like that. */
const char *options_split_setting(const char *setting, char key[OPTIONS_SETTING_MAX]);

/* After the last options_set(): what the options must be together, and this build must have. 0, or -EINVAL with a line in
 * `error`, in a configuration file's words, and the key that it is about. */
int options_finish(struct options *options, const char **key, char error[OPTABLE_ERROR_MAX]);

/* The same of a command line, in its words. */
int options_check(const struct options *options, char error[OPTABLE_ERROR_MAX]);

/* What it is called on the command line; NULL: no such number. */
const char *options_command(enum options_command command);

/* A command's options, ended by an all-zero row; for COMMAND_GUEST, see guest_options.h. To be freed. NULL: no memory. */
struct option_spec *options_table(enum options_command command);

/* What `earshot tune` may change, likewise: its long names are the keys. */
struct option_spec *options_tune_table(void);

/* --help of one command. */
void options_help(enum options_command command, FILE *out);

#endif
