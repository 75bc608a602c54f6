/* SPDX-License-Identifier: MIT */
#include "receiver/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX    ".conf"
#define DIRECTORY "earshot"
#define BLANK     " \t\v\f\r"
#define WANTED    "must be: key = value, like"

struct parser {
    struct config *config;
    size_t room; /* for config->text */
    const char *text;
    size_t left;
    unsigned line;      /* the one read last */
    unsigned longest;   /* what a line may have; 0: no line was longer */
    unsigned long_line; /* where that was */
    unsigned bad_line;
    char error[OPTABLE_ERROR_MAX]; /* about bad_line */
    bool unseen;                   /* it is one that inih does not hand on */
};

/* What inih would pass over, or not say enough about: a section, and a line that is no setting. */
static void check_line(struct parser *p, const char *line, size_t length)
{
    static const char mark[] = "\xef\xbb\xbf"; /* Windows' editors begin a file with it */
    if (p->line == 1 && length >= 3 && !memcmp(line, mark, 3)) {
        line += 3;
        length -= 3;
    }
    while (length > 0 && memchr(" \t\r", line[length - 1], 3))
        length--;
    if (p->bad_line || p->unseen || length == 0 || *line == '#' || *line == ';')
        return;
    int shown = length < 60 ? (int)length : 60;
    if (*line == '[')
        snprintf(p->error, sizeof(p->error), "there are no sections here: remove %.*s", shown, line);
    else if (memchr(line, '=', length) || memchr(line, ':', length))
        return;
    else if (*line == '/')
        snprintf(p->error, sizeof(p->error), WANTED " shm = %.*s", shown, line);
    else
        snprintf(p->error, sizeof(p->error), WANTED " latency = 25");
    p->bad_line = p->line;
    p->unseen = true;
}

/* What people put around values elsewhere. */
static int check_value(const char *key, const char *value, char error[OPTABLE_ERROR_MAX])
{
    size_t length = strlen(value);
    if (length >= 2 && strchr("\"'", *value) && value[length - 1] == *value) {
        snprintf(error, OPTABLE_ERROR_MAX, "%.40s = %.80s: without the quotes", key, value);
        return -EINVAL;
    }
    /* Names of other things may have a # in them. */
    static const char *const free_text[] = {"name", "target", "sink", "connect", "server"};
    for (unsigned i = 0; i < sizeof(free_text) / sizeof(*free_text); i++) {
        if (!strcmp(key, free_text[i]))
            return 0;
    }
    if (strstr(value, " #") || strstr(value, "\t#")) {
        snprintf(error, OPTABLE_ERROR_MAX, "%.40s = %.80s: a remark needs a line of its own", key, value);
        return -EINVAL;
    }
    return 0;
}

/* For inih, as fgets: a line at a time, so that its number is known to the handler, too. Space before it goes: inih
 * would take the line for the continuation of the one above. */
static char *read_line(char *out, int size, void *stream)
{
    struct parser *p = stream;
    if (p->left == 0 || size < 3)
        return NULL;
    p->line++;
    const char *newline = memchr(p->text, '\n', p->left);
    const char *line = p->text;
    size_t length = newline ? (size_t)(newline - line) : p->left;
    p->text += length + (newline != NULL);
    p->left -= length + (newline != NULL);
    while (length > 0 && memchr(BLANK, *line, sizeof(BLANK) - 1)) {
        line++;
        length--;
    }
    check_line(p, line, length);
    if (memchr(line, 0, length) || length > (size_t)size - 2) {
        if (!p->long_line) {
            p->long_line = p->line;
            p->longest = memchr(line, 0, length) ? 0 : (unsigned)size - 2;
        }
        length = 0;
    }
    memcpy(out, line, length);
    memcpy(out + length, "\n", 2);
    return out;
}

/* Keys and values are a part of their lines, so there is room for all of them; whatever else inih may call a value has
 * none. NULL then. */
static char *keep(struct parser *p, const char *text)
{
    struct config *config = p->config;
    size_t bytes = strlen(text) + 1;
    if (bytes > p->room - config->text_bytes)
        return NULL;
    char *copy = config->text + config->text_bytes;
    memcpy(copy, text, bytes);
    config->text_bytes += bytes;
    return copy;
}

/* inih wants 1 for "fine". */
static int on_line(void *user, const char *section, const char *name, const char *value)
{
    struct parser *p = user;
    if (p->bad_line)
        return 0;
    (void)section; /* check_line() has seen it */
    char *key = keep(p, name), *kept = key && value ? keep(p, value) : NULL;
    snprintf(p->error, sizeof(p->error), WANTED " latency = 25");
    int r = kept && *key ? check_value(key, kept, p->error) : -EINVAL;
    if (r == 0)
        r = options_set(&p->config->options, key, kept, p->error);
    if (r < 0)
        p->bad_line = p->line;
    return r == 0;
}

/* The last line that sets the key; 0: it is not to be found. */
static unsigned line_of(const char *key, const char *text, size_t size)
{
    const char *end = text + size;
    size_t length = strlen(key);
    unsigned found = 0;
    for (unsigned line = 1; text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text)), *stop = newline ? newline : end;
        while (text < stop && memchr(BLANK, *text, sizeof(BLANK) - 1))
            text++;
        if ((size_t)(stop - text) > length && !memcmp(text, key, length)) {
            text += length;
            while (text < stop && memchr(BLANK, *text, sizeof(BLANK) - 1))
                text++;
            if (text < stop && (*text == '=' || *text == ':'))
                found = line;
        }
        text = newline ? newline + 1 : end;
    }
    return found;
}

static int new_config(struct config **config, const char *path, size_t text_bytes)
{
    struct config *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->references = 1;
    options_init(&c->options);
    const char *slash = strrchr(path, '/');
    c->path = strdup(path);
    c->name = strdup(slash ? slash + 1 : path);
    c->text = calloc(1, text_bytes ? text_bytes : 1);
    if (!c->path || !c->name || !c->text) {
        config_unref(c);
        return -ENOMEM;
    }
    size_t length = strlen(c->name), suffix = strlen(SUFFIX);
    if (length > suffix && !strcmp(c->name + length - suffix, SUFFIX))
        c->name[length - suffix] = 0;
    *config = c;
    return 0;
}

int config_parse(struct config **config, const char *path, const char *text, size_t size,
                 char error[CONFIG_ERROR_MAX])
{
    struct config *c;
    const char *key;
    error[0] = 0;
    /* A line without its '=' and newline, but with two zeros; the last line may have no newline. */
    if (new_config(&c, path, size + 2) < 0)
        return -ENOMEM;
    struct parser parser = {.config = c, .room = size + 2, .text = text, .left = size};
    int bad = ini_parse_stream(read_line, &parser, on_line, &parser);
    int r = bad == -2 ? -ENOMEM : 0;

    if (parser.long_line && !(parser.unseen && parser.bad_line < parser.long_line) &&
        (bad <= 0 || parser.long_line < (unsigned)bad)) {
        if (parser.longest)
            snprintf(error, CONFIG_ERROR_MAX, "%.200s:%u: longer than %u characters", path, parser.long_line,
                     parser.longest);
        else
            snprintf(error, CONFIG_ERROR_MAX, "%.200s:%u: this is no text: save it as UTF-8", path, parser.long_line);
        r = -EINVAL;
    } else if (parser.unseen && (bad <= 0 || parser.bad_line <= (unsigned)bad)) {
        snprintf(error, CONFIG_ERROR_MAX, "%.200s:%u: %s", path, parser.bad_line, parser.error);
        r = -EINVAL;
    } else if (bad > 0) {
        bool handled = parser.bad_line == (unsigned)bad;
        snprintf(error, CONFIG_ERROR_MAX, "%.200s:%d: %s", path, bad,
                 handled ? parser.error : WANTED " latency = 25");
        r = -EINVAL;
    } else if (r == 0 && options_finish(&c->options, &key, parser.error) < 0) {
        unsigned line = line_of(key, text, size);
        if (line)
            snprintf(error, CONFIG_ERROR_MAX, "%.200s:%u: %s", path, line, parser.error);
        else
            snprintf(error, CONFIG_ERROR_MAX, "%.200s: %s", path, parser.error);
        r = -EINVAL;
    }
    if (r < 0) {
        config_unref(c);
        return r;
    }
    *config = c;
    return 0;
}

/* All of the file; -EFBIG where it is no configuration at all. */
static int read_text(int fd, char **text, size_t *size)
{
    char *out = malloc(CONFIG_BYTES_MAX + 1);
    size_t bytes = 0;
    if (!out)
        return -ENOMEM;
    while (bytes <= CONFIG_BYTES_MAX) {
        ssize_t n = read(fd, out + bytes, CONFIG_BYTES_MAX + 1 - bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int r = -errno;
            free(out);
            return r;
        }
        if (n == 0)
            break;
        bytes += (size_t)n;
    }
    if (bytes > CONFIG_BYTES_MAX) {
        free(out);
        return -EFBIG;
    }
    *text = out;
    *size = bytes;
    return 0;
}

int config_read(struct config **config, const char *path, char error[CONFIG_ERROR_MAX])
{
    char *text = NULL;
    size_t size = 0;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
    /* Anything else could wait for ever, now or when it is read again. */
    if (r == 0 && !S_ISREG(st.st_mode))
        r = S_ISDIR(st.st_mode) ? -EISDIR : -EMEDIUMTYPE;
    if (r == 0)
        r = read_text(fd, &text, &size);
    if (fd >= 0)
        close(fd);
    if (r < 0) {
        snprintf(error, CONFIG_ERROR_MAX, "%.200s: %s", path, r == -EMEDIUMTYPE ? "is no file" : strerror(-r));
        return r;
    }
    r = config_parse(config, path, text, size, error);
    if (r == -ENOMEM)
        snprintf(error, CONFIG_ERROR_MAX, "%.200s: %s", path, strerror(-r));
    free(text);
    return r;
}

int config_from_options(struct config **config, const struct options *options)
{
    int r = new_config(config, "", 0);
    if (r == 0)
        (*config)->options = *options;
    return r;
}

struct config *config_ref(struct config *config)
{
    config->references++;
    return config;
}

void config_unref(struct config *config)
{
    if (!config || --config->references > 0)
        return;
    free(config->path);
    free(config->name);
    free(config->text);
    free(config);
}

bool config_same(const struct config *a, const struct config *b)
{
    return !strcmp(a->path, b->path) && a->text_bytes == b->text_bytes && !memcmp(a->text, b->text, a->text_bytes);
}

const char *config_stream_name(const struct config *config)
{
    return config->options.name ? config->options.name : *config->name ? config->name : NULL;
}

static struct config *find_path(const struct config_set *set, const char *path)
{
    for (unsigned i = 0; set && i < set->count; i++) {
        if (!strcmp(set->configs[i]->path, path))
            return set->configs[i];
    }
    return NULL;
}

static const struct config *find_name(const struct config_set *set, const char *name)
{
    for (unsigned i = 0; i < set->count; i++) {
        if (!strcmp(set->configs[i]->name, name))
            return set->configs[i];
    }
    return NULL;
}

/* A file that is good, or was the last time. -ENOMEM. */
static int add_file(struct config_set *set, const char *path, const struct config_set *old, const struct log *log)
{
    char error[CONFIG_ERROR_MAX];
    struct config *config = NULL, *before = find_path(old, path);
    int r = config_read(&config, path, error);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        set->bad++;
        log_line(log, LOG_LEVEL_ERROR, "%s. %s", error,
                 before ? "What it said before still holds." : "This file is not played.");
    }
    if (before && (r < 0 || config_same(before, config))) {
        config_unref(config);
        config = config_ref(before);
    }
    if (config && (set->count == CONFIGS_MAX || find_name(set, config->name))) {
        set->bad++;
        if (set->count == CONFIGS_MAX)
            log_line(log, LOG_LEVEL_ERROR, "%s: not played, there are too many files.", path);
        else
            log_line(log, LOG_LEVEL_ERROR, "%s: not played, another file is called the same. It is %s that counts.",
                     path, find_name(set, config->name)->path);
        config_unref(config);
        config = NULL;
    }
    if (config)
        set->configs[set->count++] = config;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct config *const *)a)->name, (*(struct config *const *)b)->name);
}

/* Names that a directory before this one has. */
struct names {
    char *names[2 * CONFIGS_MAX];
    unsigned count;
};

static bool add_name(struct names *names, const char *name)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (!strcmp(names->names[i], name))
            return false;
    }
    if (names->count == sizeof(names->names) / sizeof(*names->names))
        return false;
    names->names[names->count] = strdup(name);
    return names->names[names->count++] != NULL;
}

static int add_directory(struct config_set *set, struct names *names, const char *path, const struct config_set *old,
                         const struct log *log)
{
    DIR *dir = opendir(path);
    if (!dir) {
        if (errno != ENOENT && errno != ENOTDIR)
            log_line(log, LOG_LEVEL_WARNING, "%s: %s.", path, strerror(errno));
        return 0;
    }
    int r = 0;
    for (const struct dirent *entry = readdir(dir); entry && r == 0; entry = readdir(dir)) {
        size_t length = strlen(entry->d_name), suffix = strlen(SUFFIX);
        if (entry->d_name[0] == '.')
            continue;
        if (length <= suffix || strcmp(entry->d_name + length - suffix, SUFFIX) != 0) {
            /* win10.conf.txt, as Windows' editors call it, is meant to be read; win10.conf~ or .bak are not. */
            log_line(log, strcasestr(entry->d_name, SUFFIX ".txt") ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG,
                     "%s/%s: not read, its name does not end in " SUFFIX ".", path, entry->d_name);
            continue;
        }
        if (!add_name(names, entry->d_name))
            continue;
        struct stat st;
        char *file;
        /* What is no file has hidden one, and is never read: it could wait for ever. A link to nothing is reported. */
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && !S_ISREG(st.st_mode))
            continue;
        if (asprintf(&file, "%s/%s", path, entry->d_name) < 0) {
            r = -ENOMEM;
            break;
        }
        r = add_file(set, file, old, log);
        free(file);
    }
    closedir(dir);
    return r;
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The user's directory and the system's, joined by colons. NULL: out of memory. */
static char *directories(void)
{
    const char *home = variable("HOME"), *user = variable("XDG_CONFIG_HOME"), *others = variable("XDG_CONFIG_DIRS");
    char *list;
    int length = asprintf(&list, "%s%s:%s",
                          user   ? user
                          : home ? home
                                 : "",
                          user || !home ? "" : "/.config", others ? others : "/etc/xdg");
    return length < 0 ? NULL : list;
}

static int add_directories(struct config_set *set, const struct config_set *old, const struct log *log)
{
    char *list = directories(), *rest = NULL;
    struct names names = {.count = 0};
    int r = list ? 0 : -ENOMEM;
    for (char *one = list ? strtok_r(list, ":", &rest) : NULL; one && r == 0; one = strtok_r(NULL, ":", &rest)) {
        char *path;
        if (*one != '/') /* the specification: to be ignored */
            continue;
        if (asprintf(&path, "%s/" DIRECTORY, one) < 0) {
            r = -ENOMEM;
            break;
        }
        r = add_directory(set, &names, path, old, log);
        free(path);
    }
    for (unsigned i = 0; i < names.count; i++)
        free(names.names[i]);
    free(list);
    qsort(set->configs, set->count, sizeof(*set->configs), by_name);
    return r;
}

int config_load(struct config_set *set, const struct options *options, const struct config_set *old,
                const struct log *log)
{
    int r = 0;
    *set = (struct config_set){.count = 0};
    for (unsigned i = 0; i < options->config_count && r == 0; i++)
        r = add_file(set, options->configs[i], old, log);
    if (!options->playback && options->config_count == 0)
        r = add_directories(set, old, log);
    if (r == 0 && set->count == 0 && set->bad == 0) {
        struct config *before = find_path(old, "");
        if (before)
            set->configs[0] = config_ref(before);
        else
            r = config_from_options(&set->configs[0], options);
        set->count = r == 0;
    }
    if (r < 0)
        config_set_free(set);
    return r;
}

void config_set_free(struct config_set *set)
{
    for (unsigned i = 0; i < set->count; i++)
        config_unref(set->configs[i]);
    *set = (struct config_set){.count = 0};
}
