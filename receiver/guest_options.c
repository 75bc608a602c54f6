/* SPDX-License-Identifier: MIT */
#include "receiver/guest_options.h"

#include "receiver/format.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PAUSE_NS 500000000

static int parse_double(const char *value, double least, double most, double *out)
{
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !(number >= least && number <= most))
        return -EINVAL;
    *out = number;
    return 0;
}

static int parse_number(const char *value, long least, long most, long *out)
{
    char *end;
    errno = 0;
    long number = strtol(value, &end, 0);
    if (end == value || *end || errno || number < least || number > most)
        return -EINVAL;
    *out = number;
    return 0;
}

static int parse_ms(const char *value, double least, double most, int64_t *out)
{
    char *end;
    double ms = strtod(value, &end);
    if (end == value || (*end && strcmp(end, "ms") != 0) || !(ms >= least && ms <= most))
        return -EINVAL;
    *out = llround(ms * 1e6);
    return 0;
}

static int set_path(const char **path, const char *value)
{
    *path = value;
    return *value ? 0 : -EINVAL;
}

static int set_shm(void *target, const char *value)
{
    struct guest_options *options = target;
    options->shm_auto = strcmp(value, "auto") == 0;
    return set_path(&options->shm_path, value);
}

static int set_size(void *target, const char *value)
{
    static const struct {
        const char *suffix;
        double bytes;
    } units[] = {
        {"",    1 << 20},
        {"M",   1 << 20},
        {"MiB", 1 << 20},
        {"K",   1 << 10},
        {"G",   1 << 30}
    };
    struct guest_options *options = target;
    char *end;
    double number = strtod(value, &end);
    for (size_t i = 0; end != value && i < sizeof units / sizeof units[0]; i++) {
        double bytes = number * units[i].bytes;
        if (strcmp(end, units[i].suffix) != 0 || !(bytes >= 4096 && bytes <= 1 << 30))
            continue;
        options->shm_bytes = (size_t)bytes;
        return 0;
    }
    return -EINVAL;
}

static int set_udp(void *target, const char *value)
{
    struct guest_options *options = target;
    char address[INET_ADDRSTRLEN];
    size_t length = strcspn(value, ":");
    long port = SCREAM_UDP_PORT;
    if (length >= sizeof address || (value[length] && parse_number(value + length + 1, 1, 65535, &port) != 0))
        return -EINVAL;
    memcpy(address, value, length);
    address[length] = '\0';
    if (inet_pton(AF_INET, address, &options->address) != 1)
        return -EINVAL;
    options->port = (uint16_t)port;
    options->shm_path = NULL;
    options->shm_auto = false;
    return 0;
}

static int set_interface(void *target, const char *value)
{
    return set_path(&((struct guest_options *)target)->interface, value);
}

static int set_ttl(void *target, const char *value)
{
    long ttl;
    if (parse_number(value, 1, 255, &ttl) != 0)
        return -EINVAL;
    ((struct guest_options *)target)->ttl = (int)ttl;
    return 0;
}

static int set_rate(void *target, const char *value)
{
    long rate;
    if (parse_number(value, PCM_RATE_MIN, PCM_RATE_MAX, &rate) != 0 || pcm_rate_marker((uint32_t)rate) == 0)
        return -EINVAL;
    ((struct guest_options *)target)->rate = (uint32_t)rate;
    return 0;
}

static int set_bits(void *target, const char *value)
{
    long bits;
    if (parse_number(value, 16, 32, &bits) != 0 || bits % 8 != 0)
        return -EINVAL;
    ((struct guest_options *)target)->bits = (uint8_t)bits;
    return 0;
}

static int set_channels(void *target, const char *value)
{
    long channels;
    if (parse_number(value, 1, PCM_CHANNELS_MAX, &channels) != 0)
        return -EINVAL;
    ((struct guest_options *)target)->channels = (uint8_t)channels;
    return 0;
}

static int set_mask(void *target, const char *value)
{
    long mask;
    if (parse_number(value, 0, UINT16_MAX, &mask) != 0)
        return -EINVAL;
    ((struct guest_options *)target)->mask = (int32_t)mask;
    return 0;
}

static int set_tone(void *target, const char *value)
{
    struct guest_options *options = target;
    if (options->play != GUEST_PLAY_SIGNAL || options->signal != SIGNAL_PER_CHANNEL)
        options->signal = SIGNAL_TONE;
    options->play = GUEST_PLAY_SIGNAL;
    return parse_double(value, 0.001, PCM_RATE_MAX / 2.0, &options->hz);
}

static int set_signal(struct guest_options *options, enum signal_kind signal)
{
    options->play = GUEST_PLAY_SIGNAL;
    options->signal = signal;
    return 0;
}

static int set_per_channel(void *target, const char *value)
{
    (void)value;
    return set_signal(target, SIGNAL_PER_CHANNEL);
}

static int set_sweep(void *target, const char *value)
{
    (void)value;
    return set_signal(target, SIGNAL_SWEEP);
}

static int set_impulse(void *target, const char *value)
{
    struct guest_options *options = target;
    long period;
    if (parse_number(value, SIGNAL_PERIOD_MIN, SIGNAL_PERIOD_MAX, &period) != 0)
        return -EINVAL;
    options->period_frames = (uint32_t)period;
    return set_signal(options, SIGNAL_IMPULSE);
}

static int set_wav(void *target, const char *value)
{
    struct guest_options *options = target;
    options->play = GUEST_PLAY_WAV;
    return set_path(&options->wav_path, value);
}

static int set_stdin(void *target, const char *value)
{
    (void)value;
    ((struct guest_options *)target)->play = GUEST_PLAY_STDIN;
    return 0;
}

static int set_capture(void *target, const char *value)
{
    (void)value;
    ((struct guest_options *)target)->play = GUEST_PLAY_CAPTURE;
    return 0;
}

static int set_loop(void *target, const char *value)
{
    (void)value;
    ((struct guest_options *)target)->loop = true;
    return 0;
}

static int set_level(void *target, const char *value)
{
    return parse_double(value, -144, 0, &((struct guest_options *)target)->level_db);
}

static int set_ppm(void *target, const char *value)
{
    return parse_double(value, -10000, 10000, &((struct guest_options *)target)->ppm);
}

static int set_jitter(void *target, const char *value)
{
    return parse_ms(value, 0, 10000, &((struct guest_options *)target)->jitter_ns);
}

static int set_tick(void *target, const char *value)
{
    return parse_ms(value, 0.5, 100, &((struct guest_options *)target)->tick_ns);
}

static int set_burst(void *target, const char *value)
{
    long burst;
    if (parse_number(value, 1, 1000, &burst) != 0)
        return -EINVAL;
    ((struct guest_options *)target)->burst = (uint32_t)burst;
    return 0;
}

static int set_chunk(void *target, const char *value)
{
    return parse_ms(value, 0.1, 1000, &((struct guest_options *)target)->chunk_ns);
}

static int set_packet(void *target, const char *value)
{
    long frames;
    if (parse_number(value, 1, 32000, &frames) != 0)
        return -EINVAL;
    ((struct guest_options *)target)->packet_frames = (uint32_t)frames;
    return 0;
}

static int set_seconds(void *target, const char *value)
{
    return parse_double(value, 0.001, 1e8, &((struct guest_options *)target)->seconds);
}

static int set_pause_every(void *target, const char *value)
{
    double seconds;
    if (parse_double(value, 0.1, 1e6, &seconds) != 0)
        return -EINVAL;
    ((struct guest_options *)target)->pause_every_ns = llround(seconds * 1e9);
    return 0;
}

static int set_pause(void *target, const char *value)
{
    return parse_ms(value, 1, 1e8, &((struct guest_options *)target)->pause_ns);
}

static int set_log(void *target, const char *value)
{
    return set_path(&((struct guest_options *)target)->log_path, value);
}

static int set_quiet(void *target, const char *value)
{
    (void)value;
    ((struct guest_options *)target)->quiet = true;
    return 0;
}

static int set_help(void *target, const char *value)
{
    (void)value;
    ((struct guest_options *)target)->help = true;
    return 0;
}

/* clang-format off */
static const struct option_spec table[] = {
    {'m', "shm", "PATH|auto", "auto, a file, or a device to map",
     "write into the ring in this file, made where there is none; auto: in a VM, its own device", set_shm},
    {0, "size", "MIB", "a size in MiB from 0.004 to 1024, like 2 or 2M",
     "the file's size, where it has to be made or is smaller (2); the device's, with auto", set_size},
    {0, "udp", "ADDR[:PORT]", "an IPv4 address, and a port from 1 to 65535",
     "send to a host or a group instead (239.255.77.77:4010)", set_udp},
    {'i', "interface", "NAME|ADDR", "the name or the address of an interface",
     "send through this one", set_interface},
    {0, "ttl", "N", "a number from 1 to 255", "multicast: routers to cross, plus one (1)", set_ttl},
    {0, "rate", "HZ", "a multiple of 44100 or 48000 up to 192000", "frames per second (48000)", set_rate},
    {0, "bits", "N", "16, 24 or 32", "bits per sample (16)", set_bits},
    {0, "channels", "N", "a number from 1 to 8", "channels (2)", set_channels},
    {0, "mask", "MASK", "a number from 0 to 0xFFFF", "speakers as the header says, any value (default layout)",
     set_mask},
    {0, "tone", "HZ", "a frequency in Hz below half the rate",
     "left cos, right sin, and so on in pairs (440)", set_tone},
    {0, "per-channel", NULL, NULL, "channel N (from 1) plays N times the frequency of --tone", set_per_channel},
    {0, "sweep", NULL, NULL, "20 Hz to 20 kHz in 10 s, over and over", set_sweep},
    {0, "impulse", "FRAMES", "a period of 64 to 16777216 frames",
     "a pulse each period P; number j's marker: P/4 + (j % 32) * P/64 later", set_impulse},
    {0, "wav", "FILE", "a WAV, FLAC or other sound file", "play a sound file, in its format", set_wav},
    {0, "stdin", NULL, NULL, "play raw PCM from standard input, in the format given", set_stdin},
    {0, "capture", NULL, NULL, "be this computer's default output, and send what it plays to the host", set_capture},
    {0, "loop", NULL, NULL, "play the file of --wav for ever", set_loop},
    {0, "level", "DB", "a level in dB from -144 to 0", "peak (-12; impulses and sound files 0)", set_level},
    {0, "ppm", "X", "a number from -10000 to 10000", "the guest's clock runs so much faster (0)", set_ppm},
    {0, "jitter", "MS", "milliseconds from 0 to 10000", "each delivery is late by 0..MS (0)", set_jitter},
    {0, "tick", "MS", "milliseconds from 0.5 to 100; Windows has 1 or 15.625",
     "deliver as the driver's 10 ms timer does on this tick", set_tick},
    {0, "burst", "N", "a number from 1 to 1000", "hold back N chunks or packets, deliver them at once (1)",
     set_burst},
    {0, "chunk", "MS", "milliseconds from 0.1 to 1000, like 2.5 or 2.5ms",
     "length of a chunk (--shm: 20) or a packet (--capture: 5.3)", set_chunk},
    {0, "packet", "FRAMES", "a number of frames from 1 to 32000",
     "UDP: frames in a packet (as many as 1152 bytes hold, split ones too)", set_packet},
    {0, "seconds", "S", "a number of seconds", "end after so much audio (never)", set_seconds},
    {0, "pause-every", "S", "seconds from 0.1 to 1000000", "pause after each S seconds of audio", set_pause_every},
    {0, "pause", "MS", "milliseconds from 1 to 100000000", "length of a pause (500)", set_pause},
    {0, "log", "FILE", "a file", "a line for each delivery: first frame, CLOCK_MONOTONIC in ns, frames", set_log},
    {'q', "quiet", NULL, NULL, "say nothing but errors", set_quiet},
    {'h', "help", NULL, NULL, "this text", set_help},
    {0}
};
/* clang-format on */

/* Options that say nothing together are mistakes: told, not ignored. */
static const char *contradiction(const struct guest_options *options)
{
    if (options->shm_path && options->packet_frames)
        return "--packet goes with --udp: --chunk is the length for --shm";
    if (options->shm_path && options->interface)
        return "-i goes with --udp";
    if (options->packet_frames && options->chunk_ns)
        return "--chunk and --packet both say how long a packet is: give one of them";
    if (!options->shm_path && options->shm_bytes)
        return "--size goes with --shm";
    if (options->loop && options->play != GUEST_PLAY_WAV)
        return "--loop goes with --wav";
    if (options->play == GUEST_PLAY_STDIN && !isnan(options->level_db))
        return "--level does not go with --stdin: its bytes are passed on as they are";
    if (options->play == GUEST_PLAY_CAPTURE && !isnan(options->level_db))
        return "--level does not go with --capture: mixers here have a volume for the output";
    if (options->play == GUEST_PLAY_CAPTURE && (options->ppm != 0 || options->jitter_ns || options->tick_ns ||
                                                options->burst > 1 || options->pause_every_ns))
        return "--capture goes by this computer's own clock: leave out --ppm, --jitter, --tick, --burst and "
               "--pause-every";
    if (options->pause_ns && !options->pause_every_ns)
        return "--pause needs --pause-every";
    return NULL;
}

int guest_options_parse(struct guest_options *options, int argc, char **argv, char error[OPTABLE_ERROR_MAX])
{
    *options =
        (struct guest_options){.port = SCREAM_UDP_PORT, .ttl = 1, .mask = -1, .hz = 440, .level_db = NAN, .burst = 1};
    inet_pton(AF_INET, SCREAM_UDP_GROUP, &options->address);
    int operand = optable_parse(table, argc, argv, options, error);
    if (operand < 0)
        return operand;
    if (options->help)
        return 0;
    if (operand < argc) {
        snprintf(error, OPTABLE_ERROR_MAX, "%.100s: not an option; --shm PATH or --udp ADDR says where to play",
                 argv[operand]);
        return -EINVAL;
    }
    const char *wrong = contradiction(options);
    if (wrong) {
        snprintf(error, OPTABLE_ERROR_MAX, "%s", wrong);
        return -EINVAL;
    }
    if (options->pause_every_ns && !options->pause_ns)
        options->pause_ns = DEFAULT_PAUSE_NS;
    return 0;
}

const struct option_spec *guest_options_table(void)
{
    return table;
}

void guest_options_help(FILE *out)
{
    fputs("Usage: earshot guest [--shm PATH | --udp ADDR[:PORT]] [options]\n"
          "Acts as the guest's driver: plays a test signal, a sound file, standard input or, with --capture in a "
          "Linux\n"
          "guest, whatever that plays.\n\n",
          out);
    optable_help(table, out);
}
