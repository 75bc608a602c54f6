/* SPDX-License-Identifier: MIT */
#include "receiver/doctor_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

static bool is_there(const char *directory, const char *name)
{
    char path[DOCTOR_PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%.400s/%s", directory, name);
    return *directory && stat(path, &st) == 0;
}

/* Is it in the mixer's hands? */
static void check_server(struct doctor *doctor, const struct options *options, const struct backend *backend)
{
    if (!strcmp(backend->name, "pipewire"))
        doctor_check_pipewire(doctor, options);
    else if (!strcmp(backend->name, "pulse"))
        doctor_check_pulse(doctor, options);
}

static void fix_no_server(struct doctor *doctor, const struct options *options)
{
    const struct doctor_env *env = doctor->env;
    bool pulse = is_there(env->runtime_dir, "pulse/native");
    if (options->server)
        doctor_fix(doctor, "--server %s: is that right? Without it, the usual server is taken.", options->server);
    if (!*env->runtime_dir)
        doctor_fix(doctor,
                   "XDG_RUNTIME_DIR is not set: start earshot in your desktop session, or with systemctl --user.");
    else if (pulse && !is_there(env->runtime_dir, "pipewire-0") && !backend_find("pulse"))
        doctor_fix(doctor, "PulseAudio runs, but this earshot was built without it.");
    else if (!strcmp(options->backend, "jack"))
        doctor_fix(doctor, "Start JACK (qjackctl, for instance), or leave -o jack away.");
    else if (!strcmp(options->backend, "pulse"))
        doctor_fix(doctor, "systemctl --user enable --now pulseaudio.socket    # or pipewire-pulse.socket");
    else
        doctor_fix(doctor, "systemctl --user enable --now pipewire.socket pipewire-pulse.socket wireplumber.service");
}

static void fix_no_device(struct doctor *doctor)
{
    doctor_fix(doctor,
               "cat /proc/asound/cards    # no card? It may belong to the VM (vfio): lspci -k | grep -A3 Audio");
    doctor_fix(doctor, "pavucontrol, Configuration: a card whose profile is Off plays nothing");
    doctor_fix(doctor, "systemctl --user restart wireplumber    # else");
}

static int probe(struct doctor *doctor, const struct options *options, const struct backend *backend)
{
    struct backend_context_params params = {
        .app_name = "Earshot", .server = options->server, .target = options->target, .event_fd = -1};
    return doctor->env->probe(doctor->env->arg, backend, &params);
}

/* As output.c chooses: the first that has a sink, else one that at least runs. */
static const struct backend *choose(struct doctor *doctor, const struct options *options, int *result)
{
    const struct backend *running = NULL;
    *result = -EHOSTDOWN;
    for (const struct backend *const *b = backend_list(); *b; b++) {
        int r = (*b)->for_auto ? probe(doctor, options, *b) : -EHOSTDOWN;
        if (r == 0) {
            *result = 0;
            return *b;
        }
        if (r == -ENODEV && !running && !(*b)->last_resort) { /* no card is no news where nobody is there */
            running = *b;
            *result = r;
        }
    }
    return running;
}

static void check_file(struct doctor *doctor, const char *path)
{
    char directory[DOCTOR_PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (access(directory, W_OK) == 0) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_OK, "It records to %.100s: nothing is heard", path);
    } else {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "%.100s cannot be written: %s", path, strerror(errno));
        doctor_fix(doctor, "Take another file for -d.");
    }
}

/* The rest has no server to ask. True: said. */
static bool check_plain(struct doctor *doctor, const struct options *options, const struct backend *backend)
{
    char cards[256];
    if (options->raw) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_SKIP, "-o raw writes to standard output: no sound server is asked");
    } else if (backend && !strcmp(backend->name, "null")) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_WARN, "-o null is a device that nobody hears");
        doctor_fix(doctor, "Leave -o away.");
    } else if (backend && !strcmp(backend->name, "wav")) {
        check_file(doctor, options->target);
    } else if (backend && !strcmp(backend->name, "alsa") && options->target && strstr(options->target, "hw:") &&
               (doctor_read(doctor->env, cards, sizeof cards, "/proc/asound/cards") <= 0 ||
                strstr(cards, "no soundcards"))) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "ALSA has no sound card");
        fix_no_device(doctor);
    } else {
        return false;
    }
    return true;
}

void doctor_check_sound(struct doctor *doctor, const struct options *options)
{
    bool any = !options->raw && !strcmp(options->backend, "auto");
    const struct backend *backend = any ? NULL : backend_find(options->backend);
    int r;
    if (check_plain(doctor, options, backend))
        return;
    if (any)
        backend = choose(doctor, options, &r);
    else
        r = backend ? probe(doctor, options, backend) : -EHOSTDOWN;
    if (r == 0 && backend) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_OK, "%s runs and has an output device", backend->title);
        check_server(doctor, options, backend);
    } else if (r == -ENODEV && backend) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "%s has no output device", backend->title);
        fix_no_device(doctor);
    } else if (r == -EHOSTDOWN) {
        const char *title = backend ? backend->title : options->backend;
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, any ? "No sound server is running" : "%s is not running",
                   title);
        fix_no_server(doctor, options);
    } else {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL, "%s: %s", backend ? backend->title : "Sound", strerror(-r));
    }
}
