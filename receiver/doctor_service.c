/* SPDX-License-Identifier: MIT */
#include "receiver/doctor_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <json-c/json.h>

#define UNIT "earshot.service"

/* KEY=value lines, as systemctl show prints them. */
static const char *property(const char *text, const char *key, char *out, size_t size)
{
    size_t length = strlen(key);
    out[0] = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0 && line[length] == '=')
            snprintf(out, size, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
    }
    return out;
}

/* The stream that plays this source, or waits for it; NULL. */
static struct json_object *find_stream(const struct doctor *doctor, const struct options *options)
{
    size_t count = doctor->streams ? json_object_array_length(doctor->streams) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *stream = json_object_array_get_idx(doctor->streams, i);
        if (doctor_plays(stream, options))
            return stream;
    }
    return NULL;
}

/* A stream that waits says what came that it does not play. */
static void say_unplayed(struct doctor *doctor, struct json_object *stream)
{
    struct json_object *source = doctor_member(stream, "source");
    long long ignored = json_object_get_int64(doctor_member(source, "ignored_packets"));
    long long rejected = json_object_get_int64(doctor_member(source, "rejected_packets"));
    if (ignored) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_WARN, "%lld packets came from senders that --from leaves out",
                   ignored);
        doctor_fix(doctor, "Is the VM's address still the one in --from? virsh -c qemu:///system domifaddr NAME");
    }
    if (rejected) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_WARN, "%lld packets came that are not Scream's", rejected);
        doctor_fix(doctor,
                   "Another program sends to this port: take another one, here (-p) and in the driver's registry.");
    }
}

static void say_stream(struct doctor *doctor, struct json_object *stream)
{
    const char *name = doctor_text(stream, "name"), *state = doctor_text(stream, "state");
    double total = json_object_get_double(doctor_member(doctor_member(stream, "latency_ms"), "total"));
    if (!strcmp(state, "starved")) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_WARN, "%.60s: the guest's sound comes too late to be played", name);
        doctor_fix(doctor,
                   "A latency of your own (-t) may be too small: leave it away. Else the VM or this computer is "
                   "too busy.");
    } else if (!strcmp(state, "playing")) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_OK, "It plays %.60s: %.1f ms late, %lld drop-outs", name, total,
                   (long long)json_object_get_int64(doctor_member(stream, "underruns")));
    } else {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_OK, "It has %.60s, state: %.20s", name, state);
        if (!strcmp(state, "waiting"))
            say_unplayed(doctor, stream);
    }
}

static void say_running(struct doctor *doctor, const struct options *options)
{
    doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_OK, "Earshot runs (pid %d)", (int)doctor->earshots[0]);
    struct json_object *stream = find_stream(doctor, options);
    if (stream) {
        say_stream(doctor, stream);
    } else if (!doctor->streams) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_WARN,
                   "It cannot be asked what it plays: the session bus is missing");
        doctor_fix(doctor, "echo $DBUS_SESSION_BUS_ADDRESS    # empty? log in on the desktop, or install "
                           "dbus-user-session");
    } else if (options->source == FROM_SHM) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_FAIL, "It does not play %.100s", options->shm_path);
        doctor_fix(doctor, "earshot status    # says what it plays");
        doctor_fix(doctor, "earshot -m %s", doctor_quote(options->shm_path).text);
    } else {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_FAIL, "It does not listen to the network");
        doctor_fix(doctor, "earshot status    # says what it plays");
    }
}

struct unit {
    char load[32], active[32], sub[32], file[32], result[32];
};

/* False: no service manager of the user's can be asked. */
static bool ask_unit(const struct doctor *doctor, struct unit *unit)
{
    const struct doctor_env *env = doctor->env;
    char machine[96], *output = NULL;
    snprintf(machine, sizeof machine, "--machine=%.64s@.host", env->user);
    const char *argv[] = {"systemctl", "--user",     "show",
                          UNIT,        "--property", "LoadState,ActiveState,SubState,UnitFileState,Result",
                          NULL,        NULL};
    if (env->is_root && env->uid != 0)
        argv[6] = machine;
    int r = env->command(env->arg, argv, &output);
    if (r == 0) {
        property(output, "LoadState", unit->load, sizeof unit->load);
        property(output, "ActiveState", unit->active, sizeof unit->active);
        property(output, "SubState", unit->sub, sizeof unit->sub);
        property(output, "UnitFileState", unit->file, sizeof unit->file);
        property(output, "Result", unit->result, sizeof unit->result);
    }
    free(output);
    return r == 0 && unit->load[0];
}

static void say_not_running(struct doctor *doctor, const struct unit *unit)
{
    if (!strcmp(unit->load, "loaded") && (!strcmp(unit->active, "failed") || !strcmp(unit->sub, "auto-restart"))) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_FAIL, "The service earshot has failed (%s)", unit->result);
        doctor_fix(doctor, "journalctl --user -u earshot -n 20    # says why");
        doctor_fix(doctor, "systemctl --user restart earshot");
        return;
    }
    doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_FAIL, "No earshot is running");
    if (!strcmp(unit->load, "masked"))
        doctor_fix(doctor, "systemctl --user unmask earshot");
    if (!strcmp(unit->load, "loaded") || !strcmp(unit->load, "masked"))
        doctor_fix(doctor, "systemctl --user enable --now earshot");
    else
        doctor_fix(doctor, "earshot    # with the options you gave to doctor, until Ctrl+C");
}

void doctor_check_service(struct doctor *doctor, const struct options *options)
{
    struct unit unit = {0};
    bool asked = ask_unit(doctor, &unit);
    bool loaded = !strcmp(unit.load, "loaded"), active = !strcmp(unit.active, "active");
    if (doctor->earshot_count)
        say_running(doctor, options);
    else
        say_not_running(doctor, &unit);

    char path[DOCTOR_PATH_MAX];
    struct stat st;
    if (!asked) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_SKIP, "No service manager can be asked: it starts by hand");
    } else if (!loaded) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_SKIP, "There is no service " UNIT ": it starts by hand");
    } else if (strncmp(unit.file, "enabled", 7) != 0) {
        doctor_say(doctor, DOCTOR_SERVICE, active ? DOCTOR_WARN : DOCTOR_SKIP,
                   "The service earshot does not start by itself after the next login");
        doctor_fix(doctor, "systemctl --user enable earshot");
    } else if (stat(doctor_path(doctor->env, path, "/var/lib/systemd/linger/%s", doctor->env->user), &st) == 0) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_OK, "The service starts with the computer (linger)");
    } else {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_OK,
                   "The service starts at login and ends at logout (loginctl enable-linger: with the computer)");
    }
    if (loaded && doctor->earshot_count && !strcmp(unit.active, "failed")) {
        doctor_say(doctor, DOCTOR_SERVICE, DOCTOR_WARN, "The service earshot has failed (%s), another earshot runs",
                   unit.result);
        doctor_fix(doctor, "journalctl --user -u earshot -n 20    # says why");
    }
}
