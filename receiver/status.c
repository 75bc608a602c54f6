/* SPDX-License-Identifier: MIT */
#include "receiver/status.h"

#include "receiver/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <systemd/sd-bus.h>

struct status_server {
    sd_bus *bus;
    struct status_handlers handlers;
    const struct log *log;
};

/* Numbers as people would write them; json-c's own has 17 digits. */
static struct json_object *decimal(double value, int digits)
{
    char text[32];
    snprintf(text, sizeof(text), "%.*f", digits, value);
    return json_object_new_double_s(value, text);
}

static struct json_object *ms(int64_t us)
{
    return decimal((double)us / 1e3, 3);
}

static void add(struct json_object *object, const char *key, struct json_object *value)
{
    json_object_object_add(object, key, value);
}

static struct json_object *latency_object(const struct playout_stats *stats)
{
    static const char *const names[] = {"guest", "jitter", "quantum", "resampler", "device"};
    const int64_t parts_ns[] = {stats->guest_ns, stats->jitter_ns, stats->quantum_ns, stats->resampler_ns,
                                stats->device_ns};
    struct json_object *latency = json_object_new_object();
    int64_t total_us = 0;
    for (unsigned i = 0; i < 5; i++)
        total_us += parts_ns[i] / 1000;
    add(latency, "total", ms(total_us));
    for (unsigned i = 0; i < 5; i++)
        add(latency, names[i], ms(parts_ns[i] / 1000));
    return latency;
}

static struct json_object *stream_object(const struct stream_status *stream)
{
    static const char *const kinds[] = {[SOURCE_SHM] = "shm", [SOURCE_UDP] = "udp", [SOURCE_PCAP] = "pcap"};
    const struct playout_stats *stats = &stream->stats;
    struct json_object *object = json_object_new_object();
    add(object, "name", json_object_new_string(stream->name));
    add(object, "state", json_object_new_string(stream_state_name(stream->state)));

    struct json_object *source = json_object_new_object();
    add(source, "kind", json_object_new_string(kinds[stream->kind]));
    add(source, "address", json_object_new_string(stream->address));
    add(source, "lost_packets", json_object_new_uint64(stream->counters.lost_packets));
    add(source, "rejected_packets", json_object_new_uint64(stream->counters.rejected));
    add(source, "ignored_packets", json_object_new_uint64(stream->counters.ignored));
    add(object, "source", source);

    struct json_object *format = json_object_new_object();
    add(format, "rate", json_object_new_int64(stream->format.rate));
    add(format, "bits", json_object_new_int(stream->format.bits));
    add(format, "channels", json_object_new_int(stream->format.channels));
    add(format, "mask", json_object_new_int(stream->format.mask));
    add(object, "format", format);

    add(object, "backend", json_object_new_string(stream->backend));
    add(object, "latency_ms", latency_object(stats));
    add(object, "target_ms", ms(stats->target_ns / 1000));
    add(object, "drift_ppm", decimal(stats->drift_ppm, 2));
    add(object, "locked", json_object_new_boolean(stats->locked));
    add(object, "underruns", json_object_new_uint64(stats->underruns));
    add(object, "resyncs", json_object_new_uint64(stats->resyncs));
    add(object, "dropped_frames", json_object_new_uint64(stats->dropped_frames));
    add(object, "frames", json_object_new_uint64(stats->frames));
    return object;
}

char *status_json(const struct stream_status *streams, unsigned count)
{
    struct json_object *root = json_object_new_object(), *list = json_object_new_array();
    add(root, "streams", list);
    for (unsigned i = 0; i < count; i++)
        json_object_array_add(list, stream_object(&streams[i]));
    const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    char *copy = text ? strdup(text) : NULL;
    json_object_put(root);
    return copy;
}

static int on_status(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct status_server *server = userdata;
    struct stream_status *streams = calloc(STATUS_STREAMS_MAX, sizeof(*streams));
    if (!streams)
        return -ENOMEM;
    unsigned count = server->handlers.collect(server->handlers.arg, streams, STATUS_STREAMS_MAX);
    char *json = status_json(streams, count);
    int r = json ? sd_bus_reply_method_return(call, "s", json) : -ENOMEM;
    free(json);
    free(streams);
    return r;
}

static int on_tune(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
    struct status_server *server = userdata;
    const char *name, *key, *value, *file = "";
    char text[OPTABLE_ERROR_MAX] = "";
    int r = sd_bus_message_read(call, "sss", &name, &key, &value);
    if (r < 0)
        return r;
    r = server->handlers.tune(server->handlers.arg, name, key, value, &file, text);
    if (r == 0) {
        char path[PATH_MAX]; /* D-Bus wants UTF-8, which a path need not be */
        return sd_bus_reply_method_return(call, "s", text_copy(path, sizeof(path), file));
    }
    text_clean(text);
    return sd_bus_error_set(error,
                            r == -ENOENT   ? STATUS_ERROR_NO_STREAM
                            : r == -EAGAIN ? STATUS_ERROR_NOT_HEARD
                                           : STATUS_ERROR_SETTING,
                            text);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_NAMES("Status", "", "", "s", SD_BUS_PARAM(json), on_status, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_NAMES("Tune", "sss", SD_BUS_PARAM(stream) SD_BUS_PARAM(key) SD_BUS_PARAM(value), "s",
                             SD_BUS_PARAM(file), on_tune, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct status_server *server = userdata;
    const sd_bus_error *failure = sd_bus_message_get_error(reply);
    if (failure)
        log_line(server->log, LOG_LEVEL_DEBUG, "earshot status will not see this: %s.",
                 failure->message ? failure->message : failure->name);
    return 0;
}

int status_server_create(struct status_server **server, sd_event *event, const struct status_handlers *handlers,
                         const struct log *log)
{
    *server = NULL;
    struct status_server *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct status_server){.handlers = *handlers, .log = log};

    char name[64];
    snprintf(name, sizeof(name), STATUS_NAME_PREFIX "%d", (int)getpid());
    int r = sd_bus_open_user_with_description(&s->bus, "earshot");
    if (r >= 0)
        r = sd_bus_add_object_vtable(s->bus, NULL, STATUS_PATH, STATUS_INTERFACE, vtable, s);
    if (r >= 0)
        r = sd_bus_request_name_async(s->bus, NULL, name, 0, on_name, s);
    if (r >= 0)
        r = sd_bus_attach_event(s->bus, event, SD_EVENT_PRIORITY_IDLE);
    if (r < 0) {
        log_line(log, LOG_LEVEL_DEBUG, "earshot status will not see this: no session bus (%s).", strerror(-r));
        status_server_destroy(s);
        return 0;
    }
    *server = s;
    return 0;
}

void status_server_destroy(struct status_server *server)
{
    if (!server)
        return;
    /* Unsent messages hold on to the bus; nobody needs them any more. */
    sd_bus_close(server->bus);
    sd_bus_unref(server->bus);
    free(server);
}
