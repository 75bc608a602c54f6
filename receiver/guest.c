/* SPDX-License-Identifier: MIT */
#include "receiver/guest.h"

#include "receiver/guest_capture.h"
#include "receiver/guest_device.h"
#include "receiver/guest_input.h"
#include "receiver/guest_options.h"
#include "receiver/guest_timing.h"
#include "receiver/guest_writer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define SECOND_NS         INT64_C(1000000000)
#define STOP_LOOK_NS      INT64_C(50000000) /* Ctrl-C goes unnoticed for twice this at most */
#define INPUT_WAIT_NS     INT64_C(1000000)  /* a read that took longer had to wait */
#define CHUNKS_PER_SECOND 50                /* the driver's 20 ms */
#define CAPTURE_PERIOD    256               /* frames at 48 kHz: one of PipeWire's usual periods */
#define SILENCE_SECONDS   5                 /* digital silence that lasts longer is nothing to send */
#define BACKLOG_PACKETS   800               /* what the driver holds for its worker before it drops */
#define REAL_TIME_PRIO    10
#define LOG_BUFFER_BYTES  65536
#define GUEST_JITTER_SEED 1 /* the same lateness in every run: results can be repeated */

#define CAPTURED 1 /* as much as was asked for */

enum status { STATUS_OK, STATUS_FAILED, STATUS_USAGE };

struct guest {
    struct guest_options options;
    struct pcm_format format;
    uint16_t mask; /* as the header says it */
    uint32_t chunk_frames;
    struct guest_device device; /* --shm auto */
    struct guest_input *input;
    struct guest_writer writer;
    struct guest_timing timing;
    int64_t start_ns;
    int64_t backlog_ns; /* what is older is not caught up with */
    uint64_t end_units; /* UINT64_MAX: endless */
    uint8_t *unit;
    FILE *log;
    sigset_t stop_signals;
    bool send_failed;
    uint64_t lost_packets;
    size_t captured_bytes; /* of the unit under way */
    uint64_t units, silent_units;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static bool stop_wanted(const struct guest *guest)
{
    static const struct timespec at_once = {0};
    return sigtimedwait(&guest->stop_signals, NULL, &at_once) > 0;
}

/* False: a signal ended the wait. The signals are blocked and looked for, so the last stretch is one undisturbed
 * absolute sleep. */
static bool sleep_until(const struct guest *guest, int64_t at_ns)
{
    while (true) {
        if (stop_wanted(guest))
            return false;
        int64_t left_ns = at_ns - now_ns();
        if (left_ns <= 0)
            return true;
        int64_t until_ns = left_ns > 2 * STOP_LOOK_NS ? at_ns - left_ns + STOP_LOOK_NS : at_ns;
        const struct timespec until = {until_ns / SECOND_NS, until_ns % SECOND_NS};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}

/* Fills one unit. 1: filled. 0: the input is over, or a signal came. Waiting for standard input moves the schedule:
 * audio that comes late is a guest that paused, and nothing to catch up with. */
static int fill_unit(struct guest *guest, int64_t due_ns)
{
    size_t bytes = guest->writer.unit_bytes, filled = 0;
    int64_t began_ns = now_ns();
    while (filled < bytes) {
        ssize_t got = guest_input_read(guest->input, guest->unit + filled, bytes - filled);
        if (got == -EAGAIN && stop_wanted(guest))
            return 0;
        if (got == 0)
            break;
        if (got < 0 && got != -EAGAIN)
            return (int)got;
        if (got > 0)
            filled += (size_t)got;
    }
    if (filled == 0)
        return 0;
    memset(guest->unit + filled, 0, bytes - filled);
    int64_t ended_ns = now_ns(), late_ns = ended_ns - due_ns, waited_ns = ended_ns - began_ns;
    if (guest->options.play == GUEST_PLAY_STDIN && late_ns > 0 && waited_ns > INPUT_WAIT_NS)
        guest->start_ns += late_ns < waited_ns ? late_ns : waited_ns;
    return 1;
}

static int write_unit(struct guest *guest, uint64_t unit)
{
    int result = guest_writer_write(&guest->writer, guest->unit);
    int64_t published_ns = now_ns();
    if (result == -ESTALE && guest->writer.is_shm) {
        fprintf(stderr, "%s was cut short by somebody else. Start again.\n", guest->options.shm_path);
        return result;
    }
    if (result != 0) {
        guest->lost_packets++;
        if (!guest->send_failed)
            fprintf(stderr, "Cannot send: %s. Goes on trying%s\n", strerror(-result),
                    guest->options.interface ? "." : "; -i NAME chooses the interface.");
        guest->send_failed = true;
        return 0;
    }
    guest->send_failed = false;
    if (guest->log) {
        uint64_t first = guest_timing_frames(&guest->timing, unit);
        fprintf(guest->log, "%" PRIu64 " %" PRId64 " %" PRIu64 "\n", first, published_ns,
                guest_timing_frames(&guest->timing, unit + 1) - first);
    }
    return 0;
}

/* 0 when it is over, -errno. */
static int play(struct guest *guest)
{
    guest->start_ns = now_ns();
    struct guest_delivery delivery = {0};
    for (uint64_t unit = 0; unit < guest->end_units;) {
        guest_timing_next(&guest->timing, &delivery);
        for (uint32_t i = 0; i < delivery.units && unit < guest->end_units; i++, unit++) {
            int filled = fill_unit(guest, guest->start_ns + delivery.at_ns);
            if (filled <= 0)
                return filled;
            if (!sleep_until(guest, guest->start_ns + delivery.at_ns))
                return 0;
            int64_t late_ns = now_ns() - guest->start_ns - delivery.at_ns;
            if (late_ns > guest->backlog_ns)
                guest->start_ns += late_ns - guest->backlog_ns;
            int result = write_unit(guest, unit);
            if (result != 0)
                return result;
        }
    }
    /* The last unit is heard out before the stream closes. */
    uint64_t frames = guest->writer.unit_bytes / pcm_frame_bytes(&guest->format);
    sleep_until(guest, guest->start_ns + delivery.at_ns + guest_timing_duration_ns(frames, guest->format.rate));
    return 0;
}

/* --shm auto */
static int find_device(struct guest *guest, char error[OPTABLE_ERROR_MAX])
{
    struct guest_device *device = &guest->device;
    int result = guest_device_find(device, GUEST_DEVICE_DIRECTORY, guest->options.shm_bytes, error);
    if (result == 0)
        result = guest_device_enable(device, GUEST_DEVICE_DIRECTORY, error);
    if (result != 0)
        return result;
    guest->options.shm_path = device->path;
    if (device->count > 1 && !guest->options.quiet)
        printf("%u shared memories are here: takes the one of %g MiB at %s. --size chooses.\n", device->count,
               (double)device->bytes / (1 << 20), device->name);
    return 0;
}

/* The next bytes of what is recorded; each unit goes out as it becomes complete. */
static int deliver(void *arg, const uint8_t *pcm, size_t bytes)
{
    struct guest *guest = arg;
    const size_t size = guest->writer.unit_bytes;
    const uint64_t silent_max =
        (uint64_t)SILENCE_SECONDS * guest->format.rate * pcm_frame_bytes(&guest->format) / size;
    for (size_t part; bytes > 0; pcm += part, bytes -= part) {
        part = bytes < size - guest->captured_bytes ? bytes : size - guest->captured_bytes;
        memcpy(guest->unit + guest->captured_bytes, pcm, part);
        guest->captured_bytes += part;
        if (guest->captured_bytes < size)
            return 0;
        guest->captured_bytes = 0;
        const bool silent = guest->unit[0] == 0 && memcmp(guest->unit, guest->unit + 1, size - 1) == 0;
        guest->silent_units = silent ? guest->silent_units + 1 : 0;
        int result = guest->silent_units > silent_max ? 0 : write_unit(guest, guest->units);
        if (result != 0)
            return result;
        if (++guest->units >= guest->end_units)
            return CAPTURED;
    }
    return 0;
}

static void drop_part(void *arg)
{
    ((struct guest *)arg)->captured_bytes = 0;
}

static uint32_t usual_period(const struct guest *guest)
{
    return (uint32_t)((uint64_t)guest->format.rate * CAPTURE_PERIOD / 48000);
}

static int capture(struct guest *guest)
{
#ifdef EARSHOT_PULSE
    /* A long chunk is put together from shorter periods: it is late by up to one of them. */
    const uint32_t frames = guest->writer.unit_bytes / pcm_frame_bytes(&guest->format), period = usual_period(guest);
    const struct guest_capture_params params = {
        .format = guest->format,
        .piece_frames = frames < period ? frames : period,
        .stop_signals = &guest->stop_signals,
        .quiet = guest->options.quiet,
        .deliver = deliver,
        .restart = drop_part,
        .arg = guest,
    };
    int result = guest_capture_run(&params);
    return result == CAPTURED ? 0 : result;
#else
    (void)guest, (void)deliver, (void)drop_part; /* guest_input_open() has refused it */
    return -ENOTSUP;
#endif
}

/* Frames in a piece of the length asked for; 0: the driver's. */
static uint32_t wanted_frames(const struct guest *guest)
{
    double chunk_s = (double)guest->options.chunk_ns / (double)SECOND_NS;
    if (guest->options.chunk_ns)
        return (uint32_t)lround(fmax(1, chunk_s * guest->format.rate));
    uint32_t frames = usual_period(guest);
    bool fits = guest->options.shm_path || frames * pcm_frame_bytes(&guest->format) <= SCREAM_UDP_PAYLOAD_BYTES;
    return guest->options.play == GUEST_PLAY_CAPTURE && !guest->options.packet_frames && fits ? frames : 0;
}

static int open_writer(struct guest *guest, char error[OPTABLE_ERROR_MAX])
{
    const struct guest_options *options = &guest->options;
    guest->mask = options->mask < 0 ? guest->format.mask : (uint16_t)options->mask;
    uint32_t frames = wanted_frames(guest), packet_max = SCREAM_UDP_PAYLOAD_BYTES / pcm_frame_bytes(&guest->format);
    if (!options->shm_path && frames > packet_max) {
        snprintf(error, OPTABLE_ERROR_MAX, "--chunk %g: a packet holds at most %.3g ms of this format",
                 (double)options->chunk_ns / 1e6, 1000.0 * packet_max / guest->format.rate);
        return -EINVAL;
    }
    if (!options->shm_path)
        return guest_writer_open_udp(
            &guest->writer,
            &(struct guest_udp_params){.address = options->address,
                                       .port = options->port,
                                       .interface = options->interface,
                                       .ttl = options->ttl,
                                       .format = guest->format,
                                       .mask = guest->mask,
                                       .packet_frames = frames ? frames : options->packet_frames},
            error);
    guest->chunk_frames = frames ? frames : guest->format.rate / CHUNKS_PER_SECOND;
    return guest_writer_open_shm(&guest->writer,
                                 &(struct guest_shm_params){.path = options->shm_path,
                                                            .bytes = options->shm_bytes,
                                                            .format = guest->format,
                                                            .mask = guest->mask,
                                                            .chunk_frames = guest->chunk_frames},
                                 error);
}

static int start_timing(struct guest *guest, char error[OPTABLE_ERROR_MAX])
{
    const struct guest_options *options = &guest->options;
    struct guest_timing_params params = {
        .rate = guest->format.rate,
        .frame_bytes = pcm_frame_bytes(&guest->format),
        .unit_bytes = guest->writer.unit_bytes,
        .burst_units = options->burst,
        .ppm = options->ppm,
        .jitter_ns = options->jitter_ns,
        .tick_ns = options->tick_ns,
        .pause_every_ns = options->pause_every_ns,
        .pause_ns = options->pause_ns,
        .seed = GUEST_JITTER_SEED,
    };
    int result = guest_timing_init(&guest->timing, &params);
    if (result != 0) {
        snprintf(error, OPTABLE_ERROR_MAX, "these timing options do not fit together");
        return result;
    }
    uint64_t held = guest->writer.is_shm ? guest->writer.ring.header.max_chunks : BACKLOG_PACKETS;
    guest->backlog_ns = guest_timing_duration_ns(guest_timing_frames(&guest->timing, held), params.rate);
    guest->end_units = UINT64_MAX;
    if (options->seconds > 0) {
        uint64_t bytes = (uint64_t)llround(options->seconds * params.rate) * params.frame_bytes;
        guest->end_units = (bytes + params.unit_bytes - 1) / params.unit_bytes;
    }
    return 0;
}

static int open_log(struct guest *guest, char error[OPTABLE_ERROR_MAX])
{
    if (!guest->options.log_path)
        return 0;
    guest->log = fopen(guest->options.log_path, "we");
    if (!guest->log) {
        int result = -errno;
        snprintf(error, OPTABLE_ERROR_MAX, "cannot write %.100s: %s", guest->options.log_path, strerror(-result));
        return result;
    }
    /* Large: writing it out delays a delivery as rarely as possible. */
    setvbuf(guest->log, NULL, _IOFBF, LOG_BUFFER_BYTES);
    fputs("# first_frame monotonic_ns frames\n", guest->log);
    return 0;
}

static void announce(const struct guest *guest)
{
    if (guest->options.quiet)
        return;
    char format[64], input[128], address[INET_ADDRSTRLEN];
    pcm_format_describe(&guest->format, format, sizeof format);
    guest_input_describe(guest->input, input, sizeof input);
    if (guest->writer.is_shm) {
        printf("Playing %s, %s, into %s (%g MiB, %g ms chunks). Ctrl-C stops.\n", format, input,
               guest->options.shm_path, (double)guest->writer.memory_bytes / (1 << 20),
               1000.0 * guest->chunk_frames / guest->format.rate);
    } else {
        bool group = IN_MULTICAST(ntohl(guest->options.address.s_addr));
        printf("Playing %s, %s, to %s%s port %u (%.3g ms packets). Ctrl-C stops.\n", format, input,
               group ? "the group " : "",
               inet_ntop(AF_INET, &guest->options.address, address, sizeof address) ? address : "?",
               guest->options.port,
               1000.0 * guest->writer.unit_bytes / pcm_frame_bytes(&guest->format) / guest->format.rate);
    }
    fflush(stdout);
}

/* A guest is not late because its host is busy: as precise as this user may be. */
static void want_real_time(void)
{
    const struct sched_param priority = {.sched_priority = REAL_TIME_PRIO};
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority);
}

static int set_up(struct guest *guest, char error[OPTABLE_ERROR_MAX])
{
    int result = guest_input_open(&guest->input, &guest->options, &guest->format, error);
    if (result == 0)
        result = open_log(guest, error);
    if (result == 0 && guest->options.shm_auto)
        result = find_device(guest, error);
    if (result == 0)
        result = open_writer(guest, error);
    if (result == 0)
        result = start_timing(guest, error);
    if (result == 0 && !(guest->unit = malloc(guest->writer.unit_bytes))) {
        snprintf(error, OPTABLE_ERROR_MAX, "out of memory");
        result = -ENOMEM;
    }
    return result;
}

static int run(struct guest *guest)
{
    char error[OPTABLE_ERROR_MAX] = "";
    int result = set_up(guest, error);
    if (result != 0) {
        fprintf(stderr, "earshot guest: %s\n", error);
        return result == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
    }
    announce(guest);
    if (guest->options.play != GUEST_PLAY_CAPTURE)
        want_real_time();
    result = guest->options.play == GUEST_PLAY_CAPTURE ? capture(guest) : play(guest);
    if (result < 0 && result != -ESTALE)
        fprintf(stderr, "earshot guest: cannot read what to play: %s\n", strerror(-result));
    if (guest->lost_packets > 0)
        fprintf(stderr, "%" PRIu64 " packets could not be sent.\n", guest->lost_packets);
    return result < 0 || guest->send_failed ? STATUS_FAILED : STATUS_OK;
}

int guest_run(int argc, char **argv)
{
    struct guest guest = {.writer.fd = -1};
    char error[OPTABLE_ERROR_MAX];
    if (guest_options_parse(&guest.options, argc, argv, error) != 0) {
        fprintf(stderr, "earshot guest: %s\n", error);
        return STATUS_USAGE;
    }
    if (guest.options.help) {
        guest_options_help(stdout);
        return STATUS_OK;
    }
    sigset_t before;
    sigemptyset(&guest.stop_signals);
    sigaddset(&guest.stop_signals, SIGINT);
    sigaddset(&guest.stop_signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &guest.stop_signals, &before);

    int status = run(&guest);

    guest_writer_close(&guest.writer);
    guest_input_close(guest.input);
    free(guest.unit);
    if (guest.log && fclose(guest.log) != 0) {
        fprintf(stderr, "earshot guest: cannot write %s: %s\n", guest.options.log_path, strerror(errno));
        status = STATUS_FAILED;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}
