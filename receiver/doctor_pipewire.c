/* SPDX-License-Identifier: MIT
 *
 * What pw-dump says of sinks, of our streams, and of what connects them.
 */
#include "receiver/doctor_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#define LONG_PERIOD_MS 25.0
#define QUANTUM_MIN    64 /* shorter ones crackle on most computers */
#define SILENT         1e-6

struct graph {
    struct doctor *doctor;
    const struct options *options;
    struct json_object *objects;
};

static struct json_object *properties(struct json_object *object)
{
    struct json_object *info = doctor_member(object, "info");
    struct json_object *props = doctor_member(info, "props");
    return props ? props : doctor_member(object, "props");
}

static bool is_a(struct json_object *object, const char *kind)
{
    const char *type = doctor_text(object, "type"), *colon = strrchr(type, ':');
    return colon && strcmp(colon + 1, kind) == 0;
}

static const char *state_of(struct json_object *node)
{
    return doctor_text(doctor_member(node, "info"), "state");
}

static int64_t id_of(struct json_object *object)
{
    return json_object_get_int64(doctor_member(object, "id"));
}

static const char *name_of(struct json_object *node)
{
    return doctor_text(properties(node), "node.name");
}

static const char *title_of(struct json_object *node)
{
    const char *description = doctor_text(properties(node), "node.description");
    return *description ? description : name_of(node);
}

static bool is_sink(struct json_object *object)
{
    const char *class = doctor_text(properties(object), "media.class");
    return is_a(object, "Node") && (!strncmp(class, "Audio/Sink", 10) || !strcmp(class, "Audio/Duplex"));
}

/* The value of a key in the metadata of that name; NULL. */
static struct json_object *metadata(const struct graph *g, const char *name, const char *key)
{
    for (size_t i = 0; i < json_object_array_length(g->objects); i++) {
        struct json_object *object = json_object_array_get_idx(g->objects, i);
        struct json_object *list = doctor_member(object, "metadata");
        if (!is_a(object, "Metadata") || strcmp(doctor_text(properties(object), "metadata.name"), name) != 0 ||
            !json_object_is_type(list, json_type_array))
            continue;
        for (size_t k = 0; k < json_object_array_length(list); k++) {
            struct json_object *entry = json_object_array_get_idx(list, k);
            if (!strcmp(doctor_text(entry, "key"), key))
                return doctor_member(entry, "value");
        }
    }
    return NULL;
}

static int64_t setting(const struct graph *g, const char *key)
{
    return json_object_get_int64(metadata(g, "settings", key));
}

/* A sink by its name or serial number. */
static struct json_object *find_sink(const struct graph *g, const char *name)
{
    for (size_t i = 0; i < json_object_array_length(g->objects); i++) {
        struct json_object *object = json_object_array_get_idx(g->objects, i);
        if (!is_sink(object))
            continue;
        struct json_object *serial = doctor_member(properties(object), "object.serial");
        if (!strcmp(name_of(object), name) || (serial && !strcmp(json_object_get_string(serial), name)))
            return object;
    }
    return NULL;
}

static struct json_object *find_node(const struct graph *g, int64_t id)
{
    for (size_t i = 0; i < json_object_array_length(g->objects); i++) {
        struct json_object *object = json_object_array_get_idx(g->objects, i);
        if (is_a(object, "Node") && id_of(object) == id)
            return object;
    }
    return NULL;
}

/* What the stream is linked to; NULL: nothing. */
static struct json_object *linked_to(const struct graph *g, int64_t stream)
{
    for (size_t i = 0; i < json_object_array_length(g->objects); i++) {
        struct json_object *object = json_object_array_get_idx(g->objects, i);
        struct json_object *info = doctor_member(object, "info");
        if (is_a(object, "Link") && json_object_get_int64(doctor_member(info, "output-node-id")) == stream)
            return find_node(g, json_object_get_int64(doctor_member(info, "input-node-id")));
    }
    return NULL;
}

static bool has_session_manager(const struct graph *g)
{
    for (size_t i = 0; i < json_object_array_length(g->objects); i++) {
        struct json_object *object = json_object_array_get_idx(g->objects, i);
        const char *name = doctor_text(properties(object), "application.name");
        if (is_a(object, "Client") && (!strncmp(name, "WirePlumber", 11) || !strcmp(name, "pipewire-media-session")))
            return true;
    }
    return false;
}

/* "muted" or "at volume 0"; NULL where it is neither, or does not say. */
static const char *silenced(struct json_object *node)
{
    struct json_object *list = doctor_member(doctor_member(doctor_member(node, "info"), "params"), "Props");
    double loudest = 0, volume = 1;
    bool known = false;
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *props = json_object_array_get_idx(list, i), *value;
        if (json_object_get_boolean(doctor_member(props, "mute")))
            return "muted";
        value = doctor_member(props, "volume");
        if (value)
            volume = json_object_get_double(value);
        struct json_object *channels = doctor_member(props, "channelVolumes");
        for (size_t k = 0; json_object_is_type(channels, json_type_array) && k < json_object_array_length(channels);
             k++) {
            known = true;
            loudest = fmax(loudest, json_object_get_double(json_object_array_get_idx(channels, k)));
        }
    }
    return known && loudest * volume < SILENT ? "at volume 0" : NULL;
}

static void fix_silence(const struct graph *g, struct json_object *node, const char *how)
{
    if (!strcmp(how, "muted"))
        doctor_fix(g->doctor, "wpctl set-mute %lld 0    # or in pavucontrol", (long long)id_of(node));
    else
        doctor_fix(g->doctor, "wpctl set-volume %lld 1.0    # or in pavucontrol", (long long)id_of(node));
}

static void check_sink(const struct graph *g, struct json_object *sink, bool playing)
{
    const char *how = silenced(sink), *state = state_of(sink), *title = title_of(sink);
    if (how) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_FAIL, "The output %.80s is %s", title, how);
        fix_silence(g, sink, how);
    } else if (!strcmp(state, "error")) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_FAIL, "The output %.80s does not work: %.80s", title,
                   doctor_text(doctor_member(sink, "info"), "error"));
        doctor_fix(g->doctor, "fuser -v /dev/snd/*    # does another program hold it?");
        doctor_fix(g->doctor, "systemctl --user restart wireplumber pipewire");
    } else if (!strcmp(state, "suspended") && playing) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_FAIL, "The output %.80s is suspended although it is played to",
                   title);
        doctor_fix(g->doctor, "systemctl --user restart wireplumber pipewire");
    } else {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_OK, "The output %.80s is %s and neither muted nor at volume 0",
                   title,
                   !strcmp(state, "suspended") ? "suspended while nothing plays"
                   : *state                    ? state
                                               : "there");
    }
}

/* One of our streams, as the mixer has it. Returns what it plays to, or NULL. */
static struct json_object *check_stream(const struct graph *g, struct json_object *node, bool playing)
{
    const char *how = silenced(node);
    struct json_object *sink = linked_to(g, id_of(node));
    if (how) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_FAIL, "%.60s is %s in the mixer", name_of(node), how);
        fix_silence(g, node, how);
    }
    if (!sink && playing && !g->options->no_connect) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_FAIL, "%.60s is connected to no output", name_of(node));
        doctor_fix(g->doctor, "pavucontrol, Playback: choose its output. Does -d name one that is gone?");
    } else if (sink && !how) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_OK, "%.60s plays to %.80s", name_of(node), title_of(sink));
    }
    return sink;
}

static void warn_elsewhere(const struct graph *g, struct json_object *node, struct json_object *sink,
                           struct json_object *usual)
{
    if (!sink || !usual || g->options->target || id_of(sink) == id_of(usual))
        return;
    doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_WARN, "%.60s plays to %.80s, other programs to %.80s", name_of(node),
               title_of(sink), title_of(usual));
    doctor_fix(g->doctor, "pavucontrol, Playback: choose another output for %.60s, if that is not what you want.",
               name_of(node));
}

/* Returns whether any stream of ours is there. */
static bool check_streams(const struct graph *g, struct json_object *usual)
{
    size_t count = g->doctor->streams ? json_object_array_length(g->doctor->streams) : 0;
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        struct json_object *stream = json_object_array_get_idx(g->doctor->streams, i);
        const char *name = doctor_text(stream, "name");
        if (!doctor_plays(stream, g->options))
            continue;
        bool playing = !strcmp(doctor_text(stream, "state"), "playing");
        for (size_t k = 0; k < json_object_array_length(g->objects); k++) {
            struct json_object *node = json_object_array_get_idx(g->objects, k);
            if (!is_a(node, "Node") || strcmp(name_of(node), name) != 0 ||
                strcmp(doctor_text(properties(node), "media.class"), "Stream/Output/Audio") != 0)
                continue;
            struct json_object *sink = check_stream(g, node, playing);
            warn_elsewhere(g, node, sink, usual);
            if (sink)
                check_sink(g, sink, playing);
            any = any || sink;
        }
    }
    return any;
}

static void say_no_target(const struct graph *g)
{
    doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_FAIL, "There is no output %.80s (-d)", g->options->target);
    for (size_t i = 0; i < json_object_array_length(g->objects); i++) {
        struct json_object *object = json_object_array_get_idx(g->objects, i);
        if (is_sink(object))
            doctor_fix(g->doctor, "-d %s    # %.80s", doctor_quote(name_of(object)).text, title_of(object));
    }
}

/* The period is part of the latency, and one that is forced is nobody's choice. */
static void check_quantum(const struct graph *g)
{
    int64_t rate = setting(g, "clock.force-rate"), forced = setting(g, "clock.force-quantum");
    int64_t least = setting(g, "clock.min-quantum");
    if (rate <= 0)
        rate = setting(g, "clock.rate");
    if (rate <= 0)
        return;
    int64_t quantum = forced > 0 ? forced : least;
    double ms = (double)quantum * 1e3 / (double)rate;
    if (forced > 0 && forced < QUANTUM_MIN) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_WARN,
                   "PipeWire's period is forced to %lld frames: that may crackle", (long long)forced);
        doctor_fix(g->doctor, "pw-metadata -n settings 0 clock.force-quantum 0");
    } else if (ms > LONG_PERIOD_MS || (g->options->latency_ns > 0 && ms * 1e6 > (double)g->options->latency_ns)) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_WARN, "PipeWire's period is %.1f ms (%lld/%lld)%s", ms,
                   (long long)quantum, (long long)rate,
                   g->options->latency_ns > 0 ? ", more than --latency" : ": the latency is longer than that");
        doctor_fix(g->doctor, forced > 0 ? "pw-metadata -n settings 0 clock.force-quantum 0"
                                         : "pw-metadata -n settings 0 clock.min-quantum 64");
    } else if (forced > 0) {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_OK, "PipeWire's period is forced to %.1f ms (%lld/%lld)", ms,
                   (long long)quantum, (long long)rate);
    } else {
        doctor_say(g->doctor, DOCTOR_SOUND, DOCTOR_OK, "PipeWire's period may be as short as %.1f ms (%lld/%lld)", ms,
                   (long long)quantum, (long long)rate);
    }
}

static void check_graph(const struct graph *g)
{
    struct doctor *doctor = g->doctor;
    if (!has_session_manager(g)) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_FAIL,
                   "PipeWire has no session manager: nothing connects streams to outputs");
        doctor_fix(doctor, "systemctl --user enable --now wireplumber");
        return; /* what it would have connected is no fault of its own */
    }
    const char *name = doctor_text(metadata(g, "default", "default.audio.sink"), "name");
    struct json_object *usual = *name ? find_sink(g, name) : NULL;
    struct json_object *target = g->options->target ? find_sink(g, g->options->target) : usual;
    if (g->options->target && !target)
        say_no_target(g);
    bool heard_of = check_streams(g, usual);
    if (!heard_of && target) {
        check_sink(g, target, false);
    } else if (!heard_of && !g->options->target) {
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_WARN, "No default output is chosen");
        doctor_fix(doctor, "wpctl status    # lists outputs");
        doctor_fix(doctor, "wpctl set-default ID");
    }
    check_quantum(g);
}

void doctor_check_pipewire(struct doctor *doctor, const struct options *options)
{
    char *text = NULL;
    const char *argv[] = {"pw-dump", options->server ? "-r" : NULL, options->server, NULL};
    int r = doctor->env->command(doctor->env->arg, argv, &text);
    struct graph graph = {.doctor = doctor, .options = options, .objects = r == 0 ? json_tokener_parse(text) : NULL};
    if (json_object_is_type(graph.objects, json_type_array))
        check_graph(&graph);
    else
        doctor_say(doctor, DOCTOR_SOUND, DOCTOR_SKIP,
                   "pw-dump does not answer or is not installed: volume and mute were not looked at");
    json_object_put(graph.objects);
    free(text);
}
