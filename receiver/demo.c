/* SPDX-License-Identifier: MIT */
#include "receiver/demo.h"

#include "receiver/daemon.h"
#include "receiver/demo_melody.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <spawn.h>

#define MS_NS          INT64_C(1000000)
#define SECOND_NS      INT64_C(1000000000)
#define RECORD_SECONDS 5
#define RECORD_FILE    "earshot-demo.wav"
#define RING_NAME      "earshot-demo"
#define PATH_BYTES     256
#define TICK_NS        (500 * MS_NS)
#define PLAIN_TICKS    10 /* where nobody can redraw a line, a new one this often */
#define STREAMS_MAX    4

struct demo {
    const struct log *log;
    bool live; /* stderr is a terminal: one line, drawn again and again */
    pid_t guest;
    unsigned ticks; /* since it plays */
    uint64_t frames;
    char directory[PATH_BYTES], ring[PATH_BYTES + sizeof(RING_NAME)];
};

static void clear_line(void *arg)
{
    (void)arg;
    fprintf(stderr, "\r\033[K");
}

static int make_ring_path(struct demo *demo)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    const char *parents[] = {runtime && *runtime ? runtime : "/tmp", "/tmp"};
    for (unsigned i = 0; i < 2; i++) {
        int length = snprintf(demo->directory, sizeof(demo->directory), "%s/earshot-XXXXXX", parents[i]);
        if (length >= 0 && (size_t)length < sizeof(demo->directory) && mkdtemp(demo->directory)) {
            snprintf(demo->ring, sizeof(demo->ring), "%s/" RING_NAME, demo->directory);
            return 0;
        }
    }
    demo->directory[0] = 0;
    return -errno;
}

/* The melody, as a file without a name; -1 where there is none: then it is a tone. */
static int melody_fd(void)
{
#ifdef EARSHOT_WAV
    size_t bytes = 0, done = 0;
    uint8_t *wav = demo_melody_wav(&bytes);
    int fd = wav ? memfd_create("melody", MFD_CLOEXEC) : -1;
    while (fd >= 0 && done < bytes) {
        ssize_t n = write(fd, wav + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            fd = -1;
            break;
        }
        done += (size_t)n;
    }
    free(wav);
    return fd;
#else
    return -1; /* `earshot guest` could not read it */
#endif
}

/* A process of its own, as a guest is, with a clock that is off as a guest's is. It ends by itself should this
 * process die. */
static int start_guest(struct demo *demo, unsigned seconds)
{
    char length[16];
    snprintf(length, sizeof(length), "%u", seconds + 10);
    int melody = melody_fd();
    char *argv[] = {"earshot", "guest",     "--shm", demo->ring, "--ppm", "80", "--jitter", "1",
                    "--quiet", "--seconds", length,  NULL,       NULL,    NULL, NULL};
    unsigned argc = 11;
    if (melody >= 0) {
        argv[argc++] = "--wav";
        argv[argc++] = "/dev/stdin";
        argv[argc++] = "--loop";
    }

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, handled;
    sigemptyset(&none);
    sigemptyset(&handled);
    sigaddset(&handled, SIGPIPE);
    int r = -posix_spawn_file_actions_init(&actions);
    if (r < 0)
        goto out;
    r = -posix_spawnattr_init(&attributes);
    if (r < 0)
        goto out_actions;
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &handled);
    if (melody >= 0)
        r = -posix_spawn_file_actions_adddup2(&actions, melody, STDIN_FILENO);
    if (r == 0)
        r = -posix_spawn(&demo->guest, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
out_actions:
    posix_spawn_file_actions_destroy(&actions);
out:
    if (melody >= 0)
        close(melody);
    return r;
}

static void stop_guest(struct demo *demo)
{
    if (demo->guest <= 0)
        return;
    /* It has nothing to lose: its ring goes with it. */
    kill(demo->guest, SIGKILL);
    while (waitpid(demo->guest, NULL, 0) < 0 && errno == EINTR)
        ;
    demo->guest = 0;
}

static void show(struct demo *demo, const struct stream_status *stream)
{
    char line[160];
    snprintf(line, sizeof(line), "%s: %.1f ms, the guest's clock %+.0f ppm, %llu drop-out%s",
             stream_state_name(stream->state), (double)stream->stats.total_ns / 1e6, stream->stats.drift_ppm,
             (unsigned long long)stream->stats.underruns, stream->stats.underruns == 1 ? "" : "s");
    if (demo->live)
        fprintf(stderr, "\r\033[K%s", line);
    else if (demo->ticks++ % PLAIN_TICKS == 0)
        log_line(demo->log, LOG_LEVEL_INFO, "%s", line);
    fflush(stderr);
}

static void on_tick(void *arg, struct daemon *daemon)
{
    struct demo *demo = arg;
    struct stream_status streams[STREAMS_MAX];
    unsigned count = daemon_collect(daemon, streams, STREAMS_MAX);
    for (unsigned i = 0; i < count; i++) {
        demo->frames = streams[i].stats.frames;
        if (streams[i].state == STREAM_PLAYING || demo->frames)
            show(demo, &streams[i]);
    }

    int status;
    if (demo->guest > 0 && waitpid(demo->guest, &status, WNOHANG) == demo->guest) {
        demo->guest = 0;
        log_line(demo->log, LOG_LEVEL_ERROR, "The simulated guest has ended early.");
        daemon_stop(daemon);
    }
}

/* What `auto` would play through, now or after a while; NULL: nothing. */
static const struct backend *find_output(const struct options *options)
{
    struct backend_context_params params = {.app_name = "Earshot", .server = options->server, .event_fd = -1};
    for (const struct backend *const *b = backend_list(); *b; b++) {
        if ((*b)->for_auto && (*b)->probe(&params) == 0)
            return *b;
    }
    return NULL;
}

int demo_run(const struct options *options, const struct log *log)
{
    struct log quiet = *log;
    struct demo demo = {.log = &quiet, .live = log->terminal};
    struct options own = *options;
    bool automatic = !strcmp(options->backend, "auto");
    const struct backend *output = automatic ? find_output(options) : NULL;
    bool record = automatic && !output && backend_find("wav");
    if (output && output->last_resort)
        own.backend = output->name; /* a demo has no time to wait for better */
    if (record) {
        own.backend = "wav";
        own.target = RECORD_FILE;
        own.seconds = own.seconds < RECORD_SECONDS ? own.seconds : RECORD_SECONDS;
        log_line(log, LOG_LEVEL_INFO, "No sound server is running: recording %u seconds to " RECORD_FILE ".",
                 own.seconds);
    }
    if (demo.live)
        quiet.before_line = clear_line;

    int r = make_ring_path(&demo);
    if (r == 0)
        r = start_guest(&demo, own.seconds);
    if (r < 0) {
        log_line(log, LOG_LEVEL_ERROR, "Cannot start a simulated guest: %s.", strerror(-r));
        goto out;
    }
    own.source = FROM_SHM;
    own.shm_path = demo.ring;
    struct daemon_hooks hooks = {
        .tick = on_tick, .arg = &demo, .tick_ns = TICK_NS, .run_ns = own.seconds * SECOND_NS + SECOND_NS};
    r = daemon_run(&own, &quiet, &hooks);
    if (demo.live)
        clear_line(NULL);
    if (r == 0 && demo.frames == 0) {
        log_line(log, LOG_LEVEL_ERROR, "Nothing was played.");
        r = -EIO;
    } else if (r == 0 && record) {
        log_line(log, LOG_LEVEL_INFO, "Recorded " RECORD_FILE ".");
    }
out:
    stop_guest(&demo);
    if (demo.directory[0]) {
        unlink(demo.ring);
        rmdir(demo.directory);
    }
    return r;
}
