/* SPDX-License-Identifier: MIT
 *
 * A guest's JACK client: its ports, its connections, its pulls. jack_client.h tells the threads.
 */
#include "backends/jack_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S        INT64_C(1000000000)
#define FILTER_TRUST_NS 500000 /* how far the server's filtered cycle time may be from the real one */
#define PACE_CYCLES     8      /* lateness that lasts so long is time the server has left out */

/* [any but rt] */
static void notify(const struct backend_context *context)
{
    const uint64_t one = 1;
    /* An eventfd write fails only when the counter is full: then main is about to look anyway. */
    if (context->event_fd >= 0 && write(context->event_fd, &one, sizeof one) < 0)
        return;
}

void jclient_set_state(struct backend_context *context, atomic_int *state, enum backend_state value)
{
    if (atomic_exchange(state, (int)value) != (int)value)
        notify(context);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* answered without entering the kernel */
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* ---- the pull, [rt] ---- */

/* Time that the server has left out, in frames: an xrun, or a restart of its driver for another period. */
static int64_t left_out(struct cycle *now, int64_t began_ns)
{
    const int64_t due_ns = now->pace_ns + (now->position - now->pace_position) * NS_PER_S / now->rate;
    const int64_t late_ns = began_ns - due_ns;
    if (now->pace_cycles++ == 0 || late_ns < now->least_late_ns)
        now->least_late_ns = late_ns;
    if (now->pace_cycles < PACE_CYCLES)
        return 0;
    const int64_t half_ns = now->period * NS_PER_S / now->rate / 2;
    const bool lasts = now->least_late_ns > half_ns || now->least_late_ns < -half_ns;
    const int64_t frames = lasts ? now->least_late_ns * now->rate / NS_PER_S : 0;
    now->pace_cycles = 0;
    now->pace_ns = due_ns + now->least_late_ns;
    now->pace_position = now->position + frames;
    return frames;
}

/* As seen with jackd 1.9.21: the filtered time of jack_get_cycle_times() and its frames go on after an xrun as if
 * nothing had happened, and the time then takes some 3 s to get to where it is. The time at which the cycle really
 * began is only good to a frame and comes late at times; it is what the filter is held against. Neither is in terms
 * of CLOCK_MONOTONIC, so both are taken from how long ago they say it was. */
static bool read_cycle(struct backend_stream *s, jack_nframes_t period, struct pull_time *time)
{
    jack_nframes_t frames;
    jack_time_t filtered_us, next_us;
    float period_us;
    const uint32_t rate = atomic_load_explicit(&s->rate, memory_order_relaxed);

    if (rate == 0 || jack_get_cycle_times(s->client, &frames, &filtered_us, &next_us, &period_us) != 0)
        return false;
    const int64_t here_ns = now_ns();
    const int64_t since = jack_frames_since_cycle_start(s->client);
    const int64_t filtered_ns = here_ns - (int64_t)(jack_get_time() - filtered_us) * 1000;
    const int64_t began_ns = here_ns - since * NS_PER_S / rate;

    const struct cycle *last = &s->last;
    struct cycle now = *last;
    const bool restarted = atomic_exchange_explicit(&s->restarted, false, memory_order_relaxed) || rate != last->rate;
    const int32_t step = (int32_t)(frames - last->frames); /* the server's counter wraps */
    now.frames = frames;
    now.period = period;
    now.rate = rate;
    now.position = restarted ? (int64_t)frames : last->position + step;
    int64_t skipped = 0;
    if (restarted) {
        now.pace_ns = began_ns;
        now.pace_position = now.position;
        now.pace_cycles = 0;
    } else {
        skipped = left_out(&now, began_ns);
        now.position += skipped;
    }

    const int64_t apart_ns = began_ns - filtered_ns;
    *time = (struct pull_time){
        .cycle_ns = apart_ns > FILTER_TRUST_NS || apart_ns < -FILTER_TRUST_NS ? began_ns : filtered_ns,
        .position_frames = now.position,
        .rate = rate,
        .delay_frames = atomic_load_explicit(&s->playback_frames, memory_order_relaxed),
        .clock_id = s->context->clock_id,
        .flags = restarted || skipped != 0 || step != (int32_t)last->period ? PULL_DISCONTINUITY : 0,
    };
    s->last = now;
    return true;
}

/* One channel out of interleaved ones. A wide loop where the compiler knows how far apart they are, as for most guests. */
static void pick(float *restrict to, const float *restrict from, jack_nframes_t frames, unsigned channels)
{
    if (channels == 2) {
        for (jack_nframes_t i = 0; i < frames; i++)
            to[i] = from[(size_t)i * 2];
        return;
    }
    for (jack_nframes_t i = 0; i < frames; i++)
        to[i] = from[(size_t)i * channels];
}

static void play(struct backend_stream *s, float *const *out, jack_nframes_t frames, struct pull_time *time)
{
    const unsigned channels = s->channels;
    for (jack_nframes_t done = 0; done < frames;) {
        const jack_nframes_t slice = frames - done < JCLIENT_PULL_FRAMES ? frames - done : JCLIENT_PULL_FRAMES;
        s->pull(s->arg, s->buffer, slice, time);
        for (unsigned c = 0; c < channels; c++)
            pick(out[c] + done, s->buffer + c, slice, channels);
        done += slice;
        time->delay_frames += slice;
        time->flags &= ~(unsigned)PULL_DISCONTINUITY;
    }
}

static int on_process(jack_nframes_t frames, void *arg)
{
    struct backend_stream *s = arg;
    float *out[BACKEND_CHANNELS_MAX];
    struct pull_time time;
    bool played = false;

    for (unsigned c = 0; c < s->channels; c++) {
        out[c] = jack_port_get_buffer(s->ports[c], frames);
        if (!out[c])
            return 0;
    }
    /* Sequentially consistent on both sides: either stop() sees busy, or this sees the gate closed. */
    atomic_store(&s->busy, true);
    if (atomic_load(&s->open)) {
        /* A guest cannot play faster than it does: whoever freewheels gets silence from it, and it loses nothing. */
        if (atomic_load_explicit(&s->freewheel, memory_order_relaxed)) {
            atomic_store_explicit(&s->restarted, true, memory_order_relaxed);
        } else if (read_cycle(s, frames, &time)) {
            play(s, out, frames, &time);
            played = true;
        }
    }
    atomic_store(&s->busy, false);
    for (unsigned c = 0; c < s->channels && !played; c++)
        memset(out[c], 0, frames * sizeof(float));
    return 0;
}

/* ---- callbacks, [notify] ---- */

static int on_period(jack_nframes_t frames, void *arg)
{
    struct backend_stream *s = arg;
    atomic_store(&s->period, frames);
    return 0;
}

static int on_rate(jack_nframes_t rate, void *arg)
{
    struct backend_stream *s = arg;
    atomic_store(&s->rate, rate);
    return 0;
}

static void on_freewheel(int starting, void *arg)
{
    struct backend_stream *s = arg;
    atomic_store(&s->freewheel, starting != 0);
}

/* Also [worker]. The largest: what is heard last of what the ports are connected to. */
static void read_latency(struct backend_stream *s)
{
    uint32_t frames = 0;
    for (unsigned c = 0; c < s->channels; c++) {
        jack_latency_range_t range = {0};
        jack_port_get_latency_range(s->ports[c], JackPlaybackLatency, &range);
        frames = range.max > frames ? range.max : frames;
    }
    atomic_store(&s->playback_frames, frames);
}

static void on_latency(jack_latency_callback_mode_t mode, void *arg)
{
    struct backend_stream *s = arg;
    if (mode == JackPlaybackLatency) {
        read_latency(s);
        return;
    }
    const uint32_t frames = atomic_load(&s->own_frames);
    jack_latency_range_t range = {.min = frames, .max = frames};
    for (unsigned c = 0; c < s->channels; c++)
        jack_port_set_latency_range(s->ports[c], JackCaptureLatency, &range);
}

void jclient_ask(struct backend_stream *s, bool *mark)
{
    pthread_mutex_lock(&s->context->lock);
    *mark = true;
    pthread_cond_broadcast(&s->context->changed);
    pthread_mutex_unlock(&s->context->lock);
}

static void on_port(jack_port_id_t port, int registered, void *arg)
{
    struct backend_stream *s = arg;
    (void)port, (void)registered;
    jclient_ask(s, &s->connect_due);
}

static void on_connection(jack_port_id_t a, jack_port_id_t b, int connected, void *arg)
{
    struct backend_stream *s = arg;
    (void)a, (void)b, (void)connected;
    jclient_ask(s, &s->connect_due);
}

/* The plain one: PipeWire's library, as of 0.3.65, never calls the one that is told the reason. */
static void on_shutdown(void *arg)
{
    struct backend_stream *s = arg;
    jclient_set_state(s->context, &s->state, BACKEND_LOST);
    jclient_set_state(s->context, &s->context->state, BACKEND_LOST);
}

/* ---- the worker ---- */

/* The library prints what it cannot do; what that means to people is said elsewhere. */
static void say_nothing(const char *message)
{
    (void)message;
}

/* NULL sets *error to -EHOSTDOWN, or -EIO where the server is there and does not want us. */
static jack_client_t *client_open(const struct backend_context *context, const char *name, int *error)
{
    jack_status_t status = 0;
    jack_client_t *client;
    jack_set_error_function(say_nothing);
    jack_set_info_function(say_nothing);
    if (context->server)
        client = jack_client_open(name, JackNoStartServer | JackServerName, &status, context->server);
    else
        client = jack_client_open(name, JackNoStartServer, &status);
    if (!client)
        *error = status & JackServerFailed ? -EHOSTDOWN : -EIO;
    return client;
}

int jclient_look(const struct backend_context *context)
{
    int error = 0;
    jack_client_t *client = client_open(context, "earshot-look", &error);
    if (!client)
        return -EHOSTDOWN;
    const char **ports = jack_get_ports(client, NULL, JACK_DEFAULT_AUDIO_TYPE, JackPortIsPhysical | JackPortIsInput);
    if (!ports)
        error = -ENODEV;
    jack_free(ports);
    jack_client_close(client);
    return error;
}

/* The ports to play to: those of the client that is named, those that match, else the first device's. They are brought
 * to the front of what jack_get_ports() gave. Returns how many. */
static unsigned choose_targets(const struct backend_stream *s, const char **ports)
{
    const char *client = s->connect ? NULL : s->target ? s->target : ports[0];
    const size_t length = s->target || !client ? strlen(client ? client : "") : strcspn(client, ":");
    unsigned count = 0;
    for (unsigned i = 0; ports[i]; i++) {
        if (!client || (strncmp(ports[i], client, length) == 0 && ports[i][length] == ':'))
            ports[count++] = ports[i];
    }
    return count;
}

static bool exists(jack_client_t *client, const char *port)
{
    return jack_port_by_name(client, port) != NULL;
}

/* A port of ours is connected once to each port it belongs to. Only where that port has gone since does it get
 * another, or the same again: who takes a cable out by hand does not want it back. */
static void connect_port(struct backend_stream *s, unsigned channel, unsigned slot, const char *target)
{
    char **peer = &s->peers[channel][slot];
    if (*peer && !exists(s->client, *peer)) {
        free(*peer);
        *peer = NULL;
    }
    if (*peer || !target)
        return;
    const int rc = jack_connect(s->client, jack_port_name(s->ports[channel]), target);
    if (rc == 0 || rc == EEXIST)
        *peer = strdup(target);
}

void jclient_connect(struct backend_stream *s)
{
    int to[BACKEND_CHANNELS_MAX][JACK_PORTS_PEERS];
    unsigned count = 0;
    const unsigned long flags = JackPortIsInput | (s->connect || s->target ? 0 : (unsigned long)JackPortIsPhysical);
    const char **ports = NULL;

    if (!s->no_connect)
        ports = jack_get_ports(s->client, s->connect, JACK_DEFAULT_AUDIO_TYPE, flags);
    if (ports)
        count = choose_targets(s, ports);
    jack_ports_match(to, s->channels, s->mask, ports, count);
    bool connected = false;
    for (unsigned c = 0; c < s->channels; c++) {
        for (unsigned slot = 0; slot < JACK_PORTS_PEERS; slot++)
            connect_port(s, c, slot, to[c][slot] < 0 ? NULL : ports[to[c][slot]]);
        connected = connected || jack_port_connected(s->ports[c]) > 0;
    }
    jack_free(ports);
    read_latency(s);
    if (atomic_load(&s->state) != BACKEND_LOST)
        jclient_set_state(s->context, &s->state,
                          s->no_connect || connected || count > 0 ? BACKEND_OK : BACKEND_NO_DEVICE);
}

int jclient_open(struct backend_stream *s)
{
    int error = 0;
    s->client = client_open(s->context, s->name, &error);
    if (!s->client)
        return error;
    snprintf(s->called, sizeof s->called, "%s", jack_get_client_name(s->client));
    atomic_store(&s->rate, jack_get_sample_rate(s->client));
    atomic_store(&s->period, jack_get_buffer_size(s->client));
    for (unsigned c = 0; c < s->channels; c++) {
        char name[JACK_PORTS_NAME_MAX];
        jack_ports_name(name, s->mask, c);
        s->ports[c] =
            jack_port_register(s->client, name, JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput | JackPortIsTerminal, 0);
        if (!s->ports[c])
            return -EIO;
    }
    jack_on_shutdown(s->client, on_shutdown, s);
    if (jack_set_process_callback(s->client, on_process, s) != 0 ||
        jack_set_buffer_size_callback(s->client, on_period, s) != 0 ||
        jack_set_sample_rate_callback(s->client, on_rate, s) != 0 ||
        jack_set_freewheel_callback(s->client, on_freewheel, s) != 0 ||
        jack_set_latency_callback(s->client, on_latency, s) != 0 ||
        jack_set_port_registration_callback(s->client, on_port, s) != 0 ||
        jack_set_port_connect_callback(s->client, on_connection, s) != 0)
        return -EIO;
    if (jack_activate(s->client) != 0)
        return -EHOSTDOWN;
    jclient_connect(s);
    return 0;
}

void jclient_free(struct backend_stream *s)
{
    if (s->client)
        jack_client_close(s->client);
    for (unsigned c = 0; c < BACKEND_CHANNELS_MAX; c++) {
        for (unsigned slot = 0; slot < JACK_PORTS_PEERS; slot++)
            free(s->peers[c][slot]);
    }
    free(s->buffer);
    free(s->name);
    free(s->target);
    free(s->connect);
    free(s);
}
