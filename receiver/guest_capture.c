/* SPDX-License-Identifier: MIT */
#include "receiver/guest_capture.h"

#include "backends/pulse_map.h"
#include "receiver/log.h"
#include "receiver/realtime.h"

#include <errno.h>
#include <pulse/pulseaudio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#define ANSWER_USEC   (3 * PA_USEC_PER_SEC) /* a server that has not answered by then will not */
#define RETRY_USEC    (PA_USEC_PER_SEC / 2)
#define CONNECTIONS   6 /* that are told to make the output the default, for RETRY_USEC each */
#define LOOK_USEC     (PA_USEC_PER_SEC / 50)
#define BACKLOG_USEC  (PA_USEC_PER_SEC / 2) /* what a process that stood still catches up with */
#define DEVICE_MAX    128
#define NAME_BYTES    24
#define NAMES_MAX     9
#define LEFTOVERS_MAX 8
#define SINK_NAME     "earshot"
#define OWNER_KEY     "earshot.guest.pid"     /* of the process that made the output */
#define OTHER_KEY     "earshot.guest.instead" /* of the default output that it took the place of */

struct capture {
    const struct guest_capture_params *params;
    pa_mainloop *loop;
    pa_mainloop_api *api;
    pa_io_event *signals;
    int signal_fd;
    bool stopped;
    bool timed_out;
    int result;
    const char *told; /* the last line about what is missing */

    pa_context *context;
    pa_stream *stream;
    pa_sample_spec spec;
    pa_channel_map map;
    char name[NAME_BYTES];  /* the output's */
    uint32_t module;        /* that made it; PA_INVALID_INDEX: none */
    char other[DEVICE_MAX]; /* the default output before ours; kept across servers */

    /* What the server said last. */
    char default_sink[DEVICE_MAX];
    char monitor[DEVICE_MAX];
    unsigned names_taken; /* bit n: the n'th name, from 1 */
    uint32_t leftovers[LEFTOVERS_MAX];
    unsigned leftover_count;
};

static void __attribute__((format(printf, 2, 3))) say(const struct capture *capture, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sd_notifyf(0, "STATUS=%s", line);
    if (capture->params->quiet)
        return;
    puts(line);
    fflush(stdout);
}

/* --- waiting --- */

static void on_timeout(pa_mainloop_api *api, pa_time_event *event, const struct timeval *when, void *arg)
{
    (void)api, (void)event, (void)when;
    ((struct capture *)arg)->timed_out = true;
}

static void on_signal(pa_mainloop_api *api, pa_io_event *event, int fd, pa_io_event_flags_t flags, void *arg)
{
    struct capture *capture = arg;
    struct signalfd_siginfo info;
    (void)api, (void)event, (void)flags;
    if (read(fd, &info, sizeof info) == (ssize_t)sizeof info)
        capture->stopped = true;
}

static bool connected(const struct capture *capture)
{
    return capture->context && pa_context_get_state(capture->context) == PA_CONTEXT_READY;
}

/* Runs the loop while waits(arg), but no longer than that. False: it still does. */
static bool wait_while(struct capture *capture, bool (*waits)(const void *arg), const void *arg, pa_usec_t usec)
{
    struct timeval until;
    capture->timed_out = false;
    pa_time_event *limit =
        capture->api->time_new(capture->api, pa_timeval_add(pa_gettimeofday(&until), usec), on_timeout, capture);
    while (limit && waits(arg) && !capture->timed_out && pa_mainloop_iterate(capture->loop, 1, NULL) >= 0)
        ;
    if (limit)
        capture->api->time_free(limit);
    return !waits(arg);
}

static bool connecting(const void *arg)
{
    const pa_context_state_t state = pa_context_get_state(((const struct capture *)arg)->context);
    return PA_CONTEXT_IS_GOOD(state) && state != PA_CONTEXT_READY;
}

static bool opening(const void *arg)
{
    return pa_stream_get_state(((const struct capture *)arg)->stream) == PA_STREAM_CREATING;
}

static bool answering(const void *arg)
{
    return pa_operation_get_state(arg) == PA_OPERATION_RUNNING;
}

static bool going_on(const void *arg)
{
    return !((const struct capture *)arg)->stopped;
}

static bool always(const void *arg)
{
    (void)arg;
    return true;
}

/* Waits for the server's answer. False: there was none. */
static bool answered(struct capture *capture, pa_operation *operation)
{
    if (!operation)
        return false;
    wait_while(capture, answering, operation, ANSWER_USEC);
    const bool done = pa_operation_get_state(operation) == PA_OPERATION_DONE;
    if (!done)
        pa_operation_cancel(operation); /* its callback shall not come later */
    pa_operation_unref(operation);
    return done;
}

/* --- what the server says --- */

static void on_module(pa_context *context, uint32_t index, void *arg)
{
    (void)context;
    ((struct capture *)arg)->module = index;
}

static void on_server(pa_context *context, const pa_server_info *info, void *arg)
{
    struct capture *capture = arg;
    (void)context;
    snprintf(capture->default_sink, sizeof capture->default_sink, "%s",
             info && info->default_sink_name ? info->default_sink_name : "");
}

static bool look_at_default(struct capture *capture)
{
    return answered(capture, pa_context_get_server_info(capture->context, on_server, capture));
}

/* Mixers call it a dummy: what a server without any output shows, and takes away when there is one. PipeWire's names
 * @DEFAULT_SINK@ until it knows of one. */
static bool is_dummy(const char *sink)
{
    return !*sink || *sink == '@' || strcmp(sink, "auto_null") == 0;
}

static char *numbered(char name[NAME_BYTES], unsigned number)
{
    snprintf(name, NAME_BYTES, number > 1 ? SINK_NAME "-%u" : SINK_NAME, number);
    return name;
}

/* Made by one of us that was killed before it could remove it, or by us for a connection that broke? */
static bool is_leftover(const pa_sink_info *sink)
{
    const char *owner = pa_proplist_gets(sink->proplist, OWNER_KEY);
    const long pid = owner ? strtol(owner, NULL, 10) : 0;
    return pid > 0 && sink->owner_module != PA_INVALID_INDEX &&
           (pid == getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH));
}

static void on_each_sink(pa_context *context, const pa_sink_info *sink, int end, void *arg)
{
    struct capture *capture = arg;
    (void)context;
    if (end)
        return;
    if (is_leftover(sink) && capture->leftover_count < LEFTOVERS_MAX) {
        const char *other = pa_proplist_gets(sink->proplist, OTHER_KEY);
        if (other && is_dummy(capture->other))
            snprintf(capture->other, sizeof capture->other, "%s", other);
        capture->leftovers[capture->leftover_count++] = sink->owner_module;
        return;
    }
    char name[NAME_BYTES];
    for (unsigned number = 1; number <= NAMES_MAX; number++)
        if (strcmp(sink->name, numbered(name, number)) == 0)
            capture->names_taken |= 1u << number;
}

static void on_own_sink(pa_context *context, const pa_sink_info *sink, int end, void *arg)
{
    struct capture *capture = arg;
    (void)context;
    if (!end && sink->owner_module == capture->module && sink->monitor_source_name)
        snprintf(capture->monitor, sizeof capture->monitor, "%s", sink->monitor_source_name);
}

/* --- the output --- */

static void unload(struct capture *capture, uint32_t module)
{
    answered(capture, pa_context_unload_module(capture->context, module, NULL, NULL));
}

/* A name that nobody's output has; those of processes that are no more are removed. */
static bool choose_name(struct capture *capture)
{
    capture->names_taken = capture->leftover_count = 0;
    if (!answered(capture, pa_context_get_sink_info_list(capture->context, on_each_sink, capture)))
        return false;
    for (unsigned i = 0; i < capture->leftover_count; i++)
        unload(capture, capture->leftovers[i]);
    unsigned number = 1;
    while (capture->names_taken & 1u << number)
        number++;
    numbered(capture->name, number);
    return number <= NAMES_MAX;
}

static bool load(struct capture *capture, const char *more)
{
    char map[PA_CHANNEL_MAP_SNPRINT_MAX], arguments[768];
    pa_channel_map_snprint(map, sizeof map, &capture->map);
    snprintf(arguments, sizeof arguments,
             "sink_name=%s format=%s rate=%u channels=%u channel_map=%s%s "
             "sink_properties='device.description=\"%s\" device.icon_name=\"computer\" %s=\"%ld\" %s=\"%s\"'",
             capture->name, pa_sample_format_to_string(capture->spec.format), capture->spec.rate,
             (unsigned)capture->spec.channels, map, more, GUEST_CAPTURE_TITLE, OWNER_KEY, (long)getpid(), OTHER_KEY,
             capture->other);
    capture->module = PA_INVALID_INDEX;
    return answered(capture,
                    pa_context_load_module(capture->context, "module-null-sink", arguments, on_module, capture)) &&
           capture->module != PA_INVALID_INDEX;
}

/* PipeWire's answers before the output is there. */
static bool make_sink(struct capture *capture)
{
    /* Without rewinding PulseAudio's renders no more ahead than is asked for; before 15 it did not know the word. */
    if (!load(capture, " norewinds=1") && !load(capture, ""))
        return false;
    capture->monitor[0] = '\0';
    for (pa_usec_t waited = 0; !capture->monitor[0] && waited < ANSWER_USEC && !capture->stopped;
         waited += LOOK_USEC) {
        if (waited > 0)
            wait_while(capture, going_on, capture, LOOK_USEC);
        if (!answered(capture,
                      pa_context_get_sink_info_by_name(capture->context, capture->name, on_own_sink, capture)))
            return false;
    }
    return capture->monitor[0];
}

/* True once the server says so, too. One that has just started refuses at first, and PipeWire 0.3.65 says yes, and now
 * and then does not pass it on: told again, for so long. */
static bool set_default(struct capture *capture, const char *name, pa_usec_t usec)
{
    for (pa_usec_t waited = 0; waited < usec; waited += LOOK_USEC) {
        if (!answered(capture, pa_context_set_default_sink(capture->context, name, NULL, NULL)) ||
            !look_at_default(capture))
            return false;
        if (strcmp(capture->default_sink, name) == 0)
            return true;
        wait_while(capture, always, NULL, LOOK_USEC);
    }
    return false;
}

/* --- what it plays --- */

static void deliver(struct capture *capture, const uint8_t *pcm, size_t bytes)
{
    if (capture->result == 0)
        capture->result = capture->params->deliver(capture->params->arg, pcm, bytes);
}

/* What the server could not hold for us was as long as it was. */
static void deliver_hole(struct capture *capture, size_t bytes)
{
    static const uint8_t silence[4096];
    for (size_t part; bytes > 0; bytes -= part) {
        part = bytes < sizeof silence ? bytes : sizeof silence;
        deliver(capture, silence, part);
    }
}

static void on_data(pa_stream *stream, size_t readable, void *arg)
{
    struct capture *capture = arg;
    const void *pcm;
    size_t bytes;
    (void)readable;
    while (pa_stream_peek(stream, &pcm, &bytes) == 0 && bytes > 0) {
        if (pcm)
            deliver(capture, pcm, bytes);
        else
            deliver_hole(capture, bytes);
        pa_stream_drop(stream);
    }
}

static bool record(struct capture *capture)
{
    const size_t piece = (size_t)capture->params->piece_frames * pa_frame_size(&capture->spec);
    const size_t backlog = pa_usec_to_bytes(BACKLOG_USEC, &capture->spec);
    capture->stream = pa_stream_new(capture->context, "to the host", &capture->spec, &capture->map);
    if (!capture->stream)
        return false;
    pa_stream_set_read_callback(capture->stream, on_data, capture);
    const pa_buffer_attr attributes = {
        .maxlength = (uint32_t)(backlog > 4 * piece ? backlog : 4 * piece),
        .tlength = UINT32_MAX,
        .prebuf = UINT32_MAX,
        .minreq = UINT32_MAX,
        .fragsize = (uint32_t)piece,
    };
    if (pa_stream_connect_record(capture->stream, capture->monitor, &attributes,
                                 PA_STREAM_ADJUST_LATENCY | PA_STREAM_DONT_MOVE |
                                     PA_STREAM_DONT_INHIBIT_AUTO_SUSPEND) < 0)
        return false;
    wait_while(capture, opening, capture, ANSWER_USEC);
    return pa_stream_get_state(capture->stream) == PA_STREAM_READY;
}

/* --- a server's life --- */

static bool connect_server(struct capture *capture)
{
    pa_proplist *proplist = pa_proplist_new();
    if (!proplist)
        return false;
    pa_proplist_sets(proplist, PA_PROP_APPLICATION_NAME, "Earshot");
    /* PipeWire's server takes nothing shorter than 256/48000 of those who do not say this. PulseAudio ignores it. */
    char shortest[32];
    snprintf(shortest, sizeof shortest, "%u/%u", capture->params->piece_frames, capture->spec.rate);
    pa_proplist_sets(proplist, "pulse.min.frag", shortest);
    pa_proplist_sets(proplist, "pulse.min.quantum", shortest);
    capture->context = pa_context_new_with_proplist(capture->api, "Earshot", proplist);
    pa_proplist_free(proplist);
    if (!capture->context || pa_context_connect(capture->context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
        return false;
    return wait_while(capture, connecting, capture, ANSWER_USEC) && connected(capture);
}

static void disconnect(struct capture *capture)
{
    if (capture->stream) {
        pa_stream_set_read_callback(capture->stream, NULL, NULL);
        pa_stream_disconnect(capture->stream);
        pa_stream_unref(capture->stream);
    }
    if (capture->context) {
        pa_context_disconnect(capture->context);
        pa_context_unref(capture->context);
    }
    capture->stream = NULL;
    capture->context = NULL;
}

/* What is to be the default again afterwards. */
static void note_other(struct capture *capture)
{
    if (is_dummy(capture->other) && strcmp(capture->default_sink, capture->name) != 0)
        snprintf(capture->other, sizeof capture->other, "%s", capture->default_sink);
}

/* PipeWire's 0.3.65 leaves a connection that is as young as itself without the means to see or to change the default;
 * the next one has them. The output stays meanwhile. */
static bool make_default(struct capture *capture)
{
    for (unsigned left = CONNECTIONS; !set_default(capture, capture->name, RETRY_USEC);) {
        if (--left == 0 || capture->stopped || !connected(capture))
            return false;
        disconnect(capture);
        if (!connect_server(capture) || !look_at_default(capture))
            return false;
        note_other(capture);
    }
    return true;
}

/* NULL, or what did not work. */
static const char *set_up(struct capture *capture)
{
    if (!choose_name(capture) || !look_at_default(capture))
        return "The sound server does not say what outputs it has. Trying again.";
    note_other(capture);
    if (!make_sink(capture))
        return "The sound server makes no output (module-null-sink). Trying again.";
    /* Before it is recorded: see clean_up(). */
    if (!make_default(capture))
        return "The sound server does not make the output its default. Trying again.";
    if (!record(capture))
        return "The sound server does not let the output be recorded. Trying again.";
    return NULL;
}

static bool playing(const void *arg)
{
    const struct capture *capture = arg;
    return !capture->stopped && capture->result == 0 && connected(capture) &&
           pa_stream_get_state(capture->stream) == PA_STREAM_READY;
}

/* Leaves the server as it was, as far as it answers. By a connection of its own: PipeWire's 0.3.65 now and then does not
 * tell who has recorded what others change. */
static void clean_up(struct capture *capture)
{
    const bool made = capture->module != PA_INVALID_INDEX && connected(capture);
    disconnect(capture);
    if (made && connect_server(capture)) {
        /* What others made the default meanwhile stays it. */
        if (!is_dummy(capture->other) && look_at_default(capture) &&
            strcmp(capture->default_sink, capture->name) == 0)
            set_default(capture, capture->other, RETRY_USEC); /* which may be gone */
        unload(capture, capture->module);
    }
    disconnect(capture);
    capture->module = PA_INVALID_INDEX;
}

/* From one server's beginning to its end, or ours. */
static void serve(struct capture *capture)
{
    const bool there = connect_server(capture);
    const char *wrong = there ? set_up(capture) : NULL;
    const bool replaces = !is_dummy(capture->other);
    if (there && !wrong) {
        capture->told = NULL;
        say(capture, "What plays here goes to \"" GUEST_CAPTURE_TITLE "\", the default output%s%s.",
            replaces ? " in place of " : "", replaces ? capture->other : "");
        while (playing(capture) && pa_mainloop_iterate(capture->loop, 1, NULL) >= 0)
            ;
        capture->params->restart(capture->params->arg);
    }
    if (capture->stopped || capture->result != 0)
        return;
    const char *line = !there  ? "Waiting for a sound server: PulseAudio, or PipeWire with pipewire-pulse."
                       : wrong ? wrong
                               : "The output is gone. Making it anew.";
    if (capture->told != line)
        say(capture, "%s", line);
    capture->told = line;
}

/* --- real time, of which rtkit tells through an sd-event: one loop within the other --- */

struct priority {
    struct log log;
    sd_event *event;
    struct realtime *realtime;
    pa_io_event *io;
};

static void on_priority(pa_mainloop_api *api, pa_io_event *io, int fd, pa_io_event_flags_t flags, void *arg)
{
    (void)api, (void)io, (void)fd, (void)flags;
    while (sd_event_run(arg, 0) > 0)
        ;
}

/* What does not work leaves the thread as it is. */
static void priority_want(struct priority *priority, pa_mainloop_api *api)
{
    *priority = (struct priority){0};
    log_init(&priority->log, stderr, false);
    if (sd_event_new(&priority->event) < 0 ||
        realtime_create(&priority->realtime, priority->event, &priority->log) < 0)
        return;
    realtime_request(priority->realtime, gettid(), REALTIME_SOURCE);
    on_priority(api, NULL, -1, 0, priority->event);
    priority->io =
        api->io_new(api, sd_event_get_fd(priority->event), PA_IO_EVENT_INPUT, on_priority, priority->event);
}

static void priority_free(struct priority *priority, pa_mainloop_api *api)
{
    if (priority->io)
        api->io_free(priority->io);
    realtime_free(priority->realtime);
    sd_event_unref(priority->event);
}

int guest_capture_run(const struct guest_capture_params *params)
{
    static const pa_sample_format_t formats[] = {
        [16] = PA_SAMPLE_S16LE, [24] = PA_SAMPLE_S24LE, [32] = PA_SAMPLE_S32LE};
    struct capture capture = {
        .params = params,
        .module = PA_INVALID_INDEX,
        .signal_fd = -1,
        .spec = {.format = formats[params->format.bits],
                 .rate = params->format.rate,
                 .channels = params->format.channels},
    };
    pulse_map_fill(&capture.map, params->format.channels, params->format.mask);
    struct priority priority = {0};
    int result = -ENOMEM;
    capture.loop = pa_mainloop_new();
    if (!capture.loop)
        goto out;
    capture.api = pa_mainloop_get_api(capture.loop);
    capture.signal_fd = signalfd(-1, params->stop_signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (capture.signal_fd < 0) {
        result = -errno;
        goto out;
    }
    capture.signals = capture.api->io_new(capture.api, capture.signal_fd, PA_IO_EVENT_INPUT, on_signal, &capture);
    if (!capture.signals)
        goto out;
    priority_want(&priority, capture.api);
    sd_notify(0, "READY=1");
    while (!capture.stopped && capture.result == 0) {
        serve(&capture);
        clean_up(&capture);
        if (!capture.stopped && capture.result == 0)
            wait_while(&capture, going_on, &capture, RETRY_USEC);
    }
    sd_notify(0, "STOPPING=1");
    result = capture.result;
out:
    if (capture.signals)
        capture.api->io_free(capture.signals);
    if (capture.signal_fd >= 0)
        close(capture.signal_fd);
    if (capture.loop) {
        priority_free(&priority, capture.api);
        pa_mainloop_free(capture.loop);
    }
    return result;
}
