/* SPDX-License-Identifier: MIT
 *
 * earshot-jack-capture: records other clients' output ports as they are in each of JACK's cycles, with the cycle's time
 * and position. It connects itself to ports that appear later, too.
 *
 * Threads: [main] connects and waits; [rt] on_process.
 */
#include "tests/integration/capture_writer.h"

#include <inttypes.h>
#include <jack/jack.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S    INT64_C(1000000000)
#define FRAMES_MAX  8192
#define NAP_NS      20000000
#define TRUST_NS    2000000 /* after an xrun the server's filtered time is wrong for seconds */
#define STATUS_LOST 3

struct capturer {
    jack_client_t *client;
    jack_port_t *ports[CAPTURE_CHANNELS_MAX];
    char *sources[CAPTURE_CHANNELS_MAX];
    unsigned channels;
    struct capture_writer *writer;
    uint64_t position;
    jack_nframes_t last; /* the server's counter, which wraps */
    bool begun;
    atomic_bool lost;
    float samples[FRAMES_MAX * CAPTURE_CHANNELS_MAX];
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int on_process(jack_nframes_t frames, void *arg)
{
    struct capturer *capturer = arg;
    jack_nframes_t position;
    jack_time_t filtered_us, next_us;
    float period_us;
    if (frames > FRAMES_MAX ||
        jack_get_cycle_times(capturer->client, &position, &filtered_us, &next_us, &period_us) != 0)
        return 0;
    const uint32_t rate = jack_get_sample_rate(capturer->client);
    const int64_t here_ns = now_ns();
    const int64_t began_ns = here_ns - jack_frames_since_cycle_start(capturer->client) * NS_PER_S / rate;
    const int64_t filtered_ns = here_ns - (int64_t)(jack_get_time() - filtered_us) * 1000;
    const int64_t apart_ns = began_ns - filtered_ns;

    capturer->position += capturer->begun ? position - capturer->last : position;
    capturer->last = position;
    capturer->begun = true;
    for (unsigned c = 0; c < capturer->channels; c++) {
        const float *from = jack_port_get_buffer(capturer->ports[c], frames);
        for (jack_nframes_t i = 0; i < frames; i++)
            capturer->samples[i * capturer->channels + c] = from[i];
    }
    const struct capture_record record = {
        .cycle_ns = apart_ns > TRUST_NS || apart_ns < -TRUST_NS ? began_ns : filtered_ns,
        .position = capturer->position,
        .frames = frames,
        .rate = rate,
        .quantum = frames,
        .clock_id = 1,
        .read_ns = here_ns,
    };
    capture_writer_put(capturer->writer, &record, capturer->samples);
    return 0;
}

static void on_shutdown(void *arg)
{
    struct capturer *capturer = arg;
    atomic_store(&capturer->lost, true);
}

/* What is there and not connected yet. */
static void connect_ports(struct capturer *capturer)
{
    for (unsigned c = 0; c < capturer->channels; c++) {
        const char *source = capturer->sources[c];
        if (!jack_port_connected_to(capturer->ports[c], source) && jack_port_by_name(capturer->client, source))
            jack_connect(capturer->client, source, jack_port_name(capturer->ports[c]));
    }
}

static int run(struct capturer *capturer, const char *path, double seconds)
{
    capturer->client = jack_client_open("earshot-capture", JackNoStartServer, NULL);
    if (!capturer->client) {
        fputs("earshot-jack-capture: no server\n", stderr);
        return STATUS_LOST;
    }
    int status = 1;
    for (unsigned c = 0; c < capturer->channels; c++) {
        char name[16];
        snprintf(name, sizeof name, "in_%u", c + 1);
        capturer->ports[c] = jack_port_register(capturer->client, name, JACK_DEFAULT_AUDIO_TYPE, JackPortIsInput, 0);
        if (!capturer->ports[c])
            goto out;
    }
    jack_on_shutdown(capturer->client, on_shutdown, capturer);
    if (capture_writer_open(&capturer->writer, path, capturer->channels) != 0 ||
        jack_set_process_callback(capturer->client, on_process, capturer) != 0 ||
        jack_activate(capturer->client) != 0)
        goto out;
    puts("capturing");
    fflush(stdout);

    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    const int64_t end_ns = now_ns() + (int64_t)(seconds * 1e9);
    const struct timespec nap = {.tv_nsec = NAP_NS};
    while (!atomic_load(&capturer->lost) && now_ns() < end_ns) {
        connect_ports(capturer);
        if (sigtimedwait(&ends, NULL, &nap) > 0)
            break;
    }
    status = atomic_load(&capturer->lost) ? STATUS_LOST : 0;
out:
    jack_client_close(capturer->client);
    uint64_t dropped;
    if (capture_writer_close(capturer->writer, &dropped) != 0)
        status = 1;
    if (dropped)
        fprintf(stderr, "earshot-jack-capture: %" PRIu64 " cycles did not fit\n", dropped);
    return status;
}

int main(int argc, char **argv)
{
    static struct capturer capturer;
    char *end;
    double seconds = argc == 4 ? strtod(argv[2], &end) : 0;
    if (!(seconds > 0 && seconds < 1e6) || *end) {
        fputs("Usage: earshot-jack-capture FILE SECONDS CLIENT:PORT[,CLIENT:PORT...]\n"
              "Records these ports until SECONDS are over or SIGTERM.\n",
              stderr);
        return 2;
    }
    char *rest = NULL;
    for (char *port = strtok_r(argv[3], ",", &rest); port; port = strtok_r(NULL, ",", &rest)) {
        if (capturer.channels == CAPTURE_CHANNELS_MAX)
            return 2;
        capturer.sources[capturer.channels++] = port;
    }
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL); /* before the library starts its threads */
    return run(&capturer, argv[1], seconds);
}
