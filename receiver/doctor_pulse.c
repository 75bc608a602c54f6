/* SPDX-License-Identifier: MIT
 *
 * What pactl says of PulseAudio's sinks and of our streams.
 */
#include "receiver/doctor_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

/* A sink or a stream, out of `pactl list`. */
struct entry {
    const char *begin, *end;
    unsigned index;
};

/* The value of "\tKEY: value" in the entry. */
static const char *field(const struct entry *entry, const char *key, char *out, size_t size)
{
    size_t length = strlen(key);
    out[0] = 0;
    for (const char *line = entry->begin; line && line < entry->end; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (*line != '\t' || strncmp(line + 1, key, length) != 0 || line[1 + length] != ':')
            continue;
        line += length + 2;
        line += *line == ' ';
        snprintf(out, size, "%.*s", (int)strcspn(line, "\n"), line);
        break;
    }
    return out;
}

/* The next entry of a list that begins with "TITLE #N". */
static bool next_entry(const char **at, const char *title, struct entry *entry)
{
    size_t length = strlen(title);
    const char *begin = *at;
    while (begin && !(strncmp(begin, title, length) == 0 && sscanf(begin + length, " #%u", &entry->index) == 1)) {
        begin = strchr(begin, '\n');
        begin = begin ? begin + 1 : NULL;
    }
    if (!begin)
        return false;
    const char *end = begin + 1;
    while (end &&
           !(end[-1] == '\n' && strncmp(end, title, length) == 0 && end[length] == ' ' && end[length + 1] == '#')) {
        end = strchr(end, '\n');
        end = end ? end + 1 : NULL;
    }
    entry->begin = begin;
    entry->end = end ? end : begin + strlen(begin);
    *at = entry->end;
    return true;
}

/* "muted", "at volume 0" or NULL. */
static const char *silenced(const struct entry *entry)
{
    char text[512];
    if (!strcmp(field(entry, "Mute", text, sizeof text), "yes"))
        return "muted";
    field(entry, "Volume", text, sizeof text); /* "front-left: 65536 / 100% / 0.00 dB, ..." */
    bool known = false;
    for (const char *percent = strchr(text, '%'); percent; percent = strchr(percent + 1, '%')) {
        const char *number = percent;
        while (number > text && number[-1] >= '0' && number[-1] <= '9')
            number--;
        known = true;
        if (strtol(number, NULL, 10) > 0)
            return NULL;
    }
    return known ? "at volume 0" : NULL;
}

static int pactl(struct doctor *doctor, const struct options *options, const char *what, const char *which,
                 char **text)
{
    const char *argv[] = {"pactl", NULL, NULL, NULL, NULL, NULL};
    unsigned count = 1;
    if (options->server) {
        argv[count++] = "-s";
        argv[count++] = options->server;
    }
    argv[count++] = what;
    argv[count++] = which;
    return doctor->env->command(doctor->env->arg, argv, text);
}

static void check_sink(struct doctor *doctor, const struct entry *sink)
{
    char name[160], title[160], state[32];
    field(sink, "Name", name, sizeof name);
    field(sink, "Description", title, sizeof title);
    field(sink, "State", state, sizeof state);
    const char *how = silenced(sink);
    if (how) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "The output %.80s is %s", title, how);
        doctor_fix(doctor, !strcmp(how, "muted") ? "pactl set-sink-mute %s 0" : "pactl set-sink-volume %s 100%%",
                   doctor_quote(name).text);
    } else {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_OK, "The output %.80s is %s and neither muted nor at volume 0", title,
                   !strcmp(state, "SUSPENDED") ? "suspended while nothing plays" : "there");
    }
}

/* Our streams are those whose names the running earshots say. */
static bool is_ours(const struct doctor *doctor, const struct options *options, const struct entry *input,
                    const char **name)
{
    size_t count = doctor->streams ? json_object_array_length(doctor->streams) : 0;
    for (size_t i = 0; i < count; i++) {
        char wanted[200];
        struct json_object *stream = json_object_array_get_idx(doctor->streams, i);
        if (!doctor_plays(stream, options))
            continue;
        *name = doctor_text(stream, "name");
        int length = snprintf(wanted, sizeof wanted, "application.name = \"%.150s\"", *name);
        const char *found = **name ? strstr(input->begin, wanted) : NULL;
        if (found && found + length <= input->end)
            return true;
    }
    return false;
}

static void check_inputs(struct doctor *doctor, const struct options *options, const char *list)
{
    struct entry input;
    const char *name;
    while (next_entry(&list, "Sink Input", &input)) {
        const char *how = is_ours(doctor, options, &input, &name) ? silenced(&input) : NULL;
        if (!how)
            continue;
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "%.60s is %s in the mixer", name, how);
        doctor_fix(doctor,
                   !strcmp(how, "muted") ? "pactl set-sink-input-mute %u 0" : "pactl set-sink-input-volume %u 100%%",
                   input.index);
    }
}

void doctor_check_pulse(struct doctor *doctor, const struct options *options)
{
    char *info = NULL, *sinks = NULL, *inputs = NULL, wanted[160] = "", name[160];
    if (pactl(doctor, options, "info", NULL, &info) != 0 || pactl(doctor, options, "list", "sinks", &sinks) != 0) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_SKIP,
                   "pactl does not answer or is not installed: volume and mute were not looked at");
        goto out;
    }
    const char *line = strstr(info, "Default Sink: ");
    if (options->target)
        snprintf(wanted, sizeof wanted, "%s", options->target);
    else if (line)
        snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(line + 14, "\n"), line + 14);
    bool found = false;
    struct entry sink;
    for (const char *at = sinks; !found && next_entry(&at, "Sink", &sink);) {
        found = !strcmp(field(&sink, "Name", name, sizeof name), wanted);
        if (found)
            check_sink(doctor, &sink);
    }
    if (!found && options->target) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "There is no output %.80s (-d)", wanted);
        doctor_fix(doctor, "pactl list short sinks    # names those there are");
    } else if (!found) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_WARN, "No default output is chosen");
        doctor_fix(doctor, "pactl set-default-sink NAME    # of those in: pactl list short sinks");
    }
    if (pactl(doctor, options, "list", "sink-inputs", &inputs) == 0)
        check_inputs(doctor, options, inputs);
out:
    free(info);
    free(sinks);
    free(inputs);
}
