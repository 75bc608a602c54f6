/* SPDX-License-Identifier: MIT
 *
 * What to play: a configuration file for each guest, or the command line. [main]
 *
 * A file is flat, `key = value`, its keys the long options of options.h; no sections. They lie in
 * $XDG_CONFIG_HOME/earshot (~/.config), then in earshot under each of $XDG_CONFIG_DIRS (/etc/xdg), and end in ".conf"; of
 * two that are called the same the first counts, also where it is no file at all (a link to /dev/null hides).
 * https://specifications.freedesktop.org/basedir-spec/latest/
 */
#ifndef EARSHOT_CONFIG_H
#define EARSHOT_CONFIG_H

#include "receiver/log.h"
#include "receiver/options.h"

#include <stdbool.h>
#include <stddef.h>

#define CONFIG_BYTES_MAX (64 << 10) /* of a file */
#define CONFIG_ERROR_MAX 512
#define CONFIGS_MAX      128

struct config {
    unsigned references;
    char *path; /* "" for the command line */
    char *name; /* the file's name without ".conf"; "" for the command line: then streams are called after senders */
    struct options options;
    char *text; /* its keys and values, each with its 0: what options point into, and what makes two files the same */
    size_t text_bytes;
};

/* From a file's content. 0, -EINVAL with a line in `error` that begins with the path and the line's number, or
 * -ENOMEM. The new one has one reference. */
int config_parse(struct config **config, const char *path, const char *text, size_t size,
                 char error[CONFIG_ERROR_MAX]);

/* From a file. Also -errno of reading it, with a line in `error`. */
int config_read(struct config **config, const char *path, char error[CONFIG_ERROR_MAX]);

/* The command line as a configuration without a name. options' strings are borrowed. -ENOMEM. */
int config_from_options(struct config **config, const struct options *options);

struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* NULL is fine */

/* Does it say the same? Comments and spaces do not count. */
bool config_same(const struct config *a, const struct config *b);

/* What its streams shall be called: `name`, else the file's; NULL: after their senders. */
const char *config_stream_name(const struct config *config);

/* In the order of their names. */
struct config_set {
    struct config *configs[CONFIGS_MAX];
    unsigned count;
    unsigned bad; /* files that could not be used, each of them reported */
};

/* The command line where it says what to play; the files it names; else those there are; where there are none, the
 * command line. A file that says what it said in `old` (or NULL) is the same object again, and so is one that was good
 * then and is bad now. The set is empty on errors: -ENOMEM. */
int config_load(struct config_set *set, const struct options *options, const struct config_set *old,
                const struct log *log);
void config_set_free(struct config_set *set);

#endif
