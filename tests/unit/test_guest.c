/* SPDX-License-Identifier: MIT */
#include "receiver/format.h"
#include "receiver/guest.h"
#include "receiver/guest_writer.h"
#include "receiver/signal_gen.h"
#include "ringbuf/scream_shm.h"
#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_BYTES  64
#define WORDS_MAX   32
#define FRAMES_MAX  20000
#define FRAME_BYTES 4

struct fixture {
    char directory[PATH_BYTES];
    char ring[PATH_BYTES + 16];
    char log[PATH_BYTES + 16];
    char sound[PATH_BYTES + 16];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    strcpy(f->directory, "/tmp/earshot-guest-XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    snprintf(f->ring, sizeof f->ring, "%s/ring", f->directory);
    snprintf(f->log, sizeof f->log, "%s/log", f->directory);
    snprintf(f->sound, sizeof f->sound, "%s/sound", f->directory);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    unlink(f->ring);
    unlink(f->log);
    unlink(f->sound);
    rmdir(f->directory);
    free(f);
    return 0;
}

/* Runs `earshot guest`; arguments are split at spaces. */
static int __attribute__((format(printf, 1, 2))) guest(const char *format, ...)
{
    char line[512], *argv[WORDS_MAX + 1] = {(char[]){"guest"}};
    va_list args;
    va_start(args, format);
    assert_true((size_t)vsnprintf(line, sizeof line, format, args) < sizeof line);
    va_end(args);
    int argc = 1;
    char *rest = line;
    for (char *word; argc < WORDS_MAX && (word = strsep(&rest, " "));)
        argv[argc++] = word;
    return guest_run(argc, argv);
}

static uint8_t *read_whole(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    *size = (size_t)st.st_size;
    uint8_t *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, *size), (ssize_t)*size);
    bytes[*size] = 0;
    close(fd);
    return bytes;
}

/* What the default tone must be: 48 kHz 16 bit stereo, 440 Hz, -12 dB. */
static void expect_tone(uint8_t *bytes, uint64_t first, uint32_t frames)
{
    static float samples[FRAMES_MAX * 2];
    assert_true(frames <= FRAMES_MAX);
    struct signal_gen gen;
    struct signal_params params = {
        .kind = SIGNAL_TONE, .rate = 48000, .channels = 2, .hz = 440, .level = pow(10, -12.0 / 20)};
    assert_int_equal(signal_gen_init(&gen, &params), 0);
    signal_gen_fill(&gen, samples, first, frames);
    pcm_encode(bytes, samples, (size_t)frames * 2, 16);
}

static void ring_holds_the_last_chunks_and_is_closed(void **state)
{
    struct fixture *f = *state;
    /* 2.5 ms = 480 bytes: eight fit into 4 KiB; 41 are written. */
    assert_int_equal(guest("--shm %s --size 0.00390625 --chunk 2.5 --seconds 0.1025 --quiet", f->ring), 0);
    size_t size;
    uint8_t *bytes = read_whole(f->ring, &size);
    assert_int_equal(size, 4096);
    for (unsigned i = 0; i < SCREAM_SHM_HEADER_BYTES; i++)
        assert_int_equal(bytes[i], 0);
    for (uint32_t chunk = 41 - 8; chunk < 41; chunk++) {
        uint8_t expected[480];
        expect_tone(expected, (uint64_t)chunk * 120, 120);
        assert_memory_equal(bytes + 24 + (chunk + 1) % 8 * 480, expected, sizeof expected);
    }
    free(bytes);
}

static struct guest_shm_params shm_params(const char *path, size_t bytes)
{
    struct guest_shm_params params = {.path = path, .bytes = bytes, .mask = 0x60F, .chunk_frames = 960};
    assert_int_equal(pcm_format_parse(&params.format, pcm_rate_marker(96000), 24, 6, 0x60F), 0);
    return params;
}

static void ring_header_is_the_drivers(void **state)
{
    struct fixture *f = *state;
    struct guest_shm_params params = shm_params(f->ring, 1 << 20);
    struct guest_writer writer;
    char error[OPTABLE_ERROR_MAX];
    assert_int_equal(guest_writer_open_shm(&writer, &params, error), 0);
    assert_int_equal(writer.unit_bytes, 960 * 18);
    uint8_t *pcm = malloc(writer.unit_bytes);
    assert_non_null(pcm);
    for (unsigned published = 0; published < 200; published++) {
        uint8_t raw[SCREAM_SHM_HEADER_BYTES];
        assert_int_equal(pread(writer.fd, raw, sizeof raw, 0), sizeof raw);
        struct scream_shm_header header;
        scream_shm_decode(&header, raw);
        struct scream_shm_geometry geometry;
        char reason[100];
        assert_int_equal(header.magic, SCREAM_SHM_MAGIC);
        assert_true(scream_shm_check(&geometry, &header, 1 << 20, reason, sizeof reason));
        assert_int_equal(geometry.rate, 96000);
        assert_int_equal(geometry.frame_bytes, 18);
        assert_int_equal(geometry.chunk_frames, 960);
        assert_int_equal(header.channels, 6);
        assert_int_equal(header.channel_map, 0x60F);
        assert_int_equal(header.write_idx, published % header.max_chunks);
        if (published > 0) {
            uint8_t last;
            assert_int_equal(pread(writer.fd, &last, 1, (off_t)scream_shm_chunk_at(&header, header.write_idx)), 1);
            assert_int_equal(last, published);
        }
        memset(pcm, (int)published + 1, writer.unit_bytes);
        assert_int_equal(guest_writer_write(&writer, pcm), 0);
    }
    free(pcm);
    guest_writer_close(&writer);
    guest_writer_close(&writer); /* again is fine */
}

static size_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void ring_file_grows_but_never_shrinks(void **state)
{
    struct fixture *f = *state;
    struct guest_writer writer;
    char error[OPTABLE_ERROR_MAX];
    static const size_t wanted[] = {100000, 0, 200000, 50000}, got[] = {100000, 100000, 200000, 200000};
    for (size_t i = 0; i < 4; i++) {
        struct guest_shm_params params = shm_params(f->ring, wanted[i]);
        assert_int_equal(guest_writer_open_shm(&writer, &params, error), 0);
        assert_int_equal(writer.memory_bytes, got[i]);
        guest_writer_close(&writer);
        assert_int_equal(size_of(f->ring), got[i]);
    }
    assert_int_equal(truncate(f->ring, 0), 0); /* as systemd-tmpfiles leaves it */
    struct guest_shm_params params = shm_params(f->ring, 0);
    assert_int_equal(guest_writer_open_shm(&writer, &params, error), 0);
    guest_writer_close(&writer);
    assert_int_equal(size_of(f->ring), 2 << 20);
    assert_int_equal(truncate(f->ring, 30000), 0);
    assert_int_equal(guest_writer_open_shm(&writer, &params, error), -ENOSPC);
    assert_non_null(strstr(error, "--size"));
    assert_int_equal(size_of(f->ring), 30000);
}

static void a_truncated_ring_is_left(void **state)
{
    struct fixture *f = *state;
    struct guest_shm_params params = shm_params(f->ring, 100000);
    struct guest_writer writer;
    char error[OPTABLE_ERROR_MAX];
    assert_int_equal(guest_writer_open_shm(&writer, &params, error), 0);
    uint8_t *pcm = calloc(1, writer.unit_bytes);
    assert_int_equal(guest_writer_write(&writer, pcm), 0);
    assert_int_equal(truncate(f->ring, 0), 0);
    assert_int_equal(guest_writer_write(&writer, pcm), -ESTALE);
    guest_writer_close(&writer);
    free(pcm);
    assert_int_equal(size_of(f->ring), 0);
}

static void log_has_a_line_for_each_delivery(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(
        guest("--shm %s --chunk 5 --seconds 0.05 --jitter 2 --ppm 300 --log %s --quiet", f->ring, f->log), 0);
    FILE *log = fopen(f->log, "r");
    assert_non_null(log);
    char line[100];
    assert_non_null(fgets(line, sizeof line, log));
    assert_string_equal(line, "# first_frame monotonic_ns frames\n");
    uint64_t first, frames, lines = 0;
    int64_t at_ns, last_ns = 0;
    while (fscanf(log, "%" SCNu64 " %" SCNd64 " %" SCNu64 "\n", &first, &at_ns, &frames) == 3) {
        assert_int_equal(first, lines * 240);
        assert_int_equal(frames, 240);
        assert_true(at_ns >= last_ns);
        last_ns = at_ns;
        lines++;
    }
    assert_true(feof(log));
    assert_int_equal(lines, 10);
    fclose(log);
}

static int listen_on_loopback(unsigned *port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Takes the packets that lie in the socket, one payload after the other. Each must be `size` long, from `from` (NULL: anybody). */
static size_t take_packets(int fd, size_t size, const char *from, struct scream_udp_header *header, uint8_t *pcm,
                           size_t room)
{
    uint8_t packet[65536];
    size_t packets = 0;
    struct sockaddr_in sender;
    socklen_t length = sizeof sender;
    ssize_t got;
    while ((got = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&sender, &length)) >= 0) {
        assert_int_equal(got, SCREAM_UDP_HEADER_BYTES + size);
        if (from)
            assert_int_equal(sender.sin_addr.s_addr, inet_addr(from));
        assert_int_equal(scream_udp_parse(header, packet, (size_t)got), (int)size);
        assert_true((packets + 1) * size <= room);
        memcpy(pcm + packets++ * size, packet + SCREAM_UDP_HEADER_BYTES, size);
    }
    assert_int_equal(errno, EAGAIN);
    close(fd);
    return packets;
}

static void packets_carry_the_tone(void **state)
{
    (void)state;
    unsigned port;
    int fd = listen_on_loopback(&port);
    assert_int_equal(guest("--udp 127.0.0.1:%u -i 127.0.0.1 --seconds 0.06 --tick 1 -q", port), 0);
    struct scream_udp_header header;
    uint8_t pcm[10 * 1152], expected[10 * 1152];
    assert_int_equal(take_packets(fd, 1152, "127.0.0.1", &header, pcm, sizeof pcm), 10);
    expect_tone(expected, 0, 2880);
    assert_memory_equal(pcm, expected, sizeof pcm);
    assert_int_equal(header.sample_rate, 0x01);
    assert_int_equal(header.sample_size, 16);
    assert_int_equal(header.channels, 2);
    assert_int_equal(header.channel_map, 0x3);
}

static void packets_of_so_many_frames_from_another_address(void **state)
{
    (void)state;
    unsigned port;
    int fd = listen_on_loopback(&port);
    assert_int_equal(guest("--udp 127.0.0.1:%u -i 127.0.0.7 --packet 100 --bits 24 --channels 6 --mask 0xffff "
                           "--rate 88200 --burst 3 --seconds 0.01 -q",
                           port),
                     0);
    struct scream_udp_header header;
    uint8_t pcm[9 * 1800];
    assert_int_equal(take_packets(fd, 1800, "127.0.0.7", &header, pcm, sizeof pcm), 9);
    assert_int_equal(header.sample_rate, 0x82);
    assert_int_equal(header.sample_size, 24);
    assert_int_equal(header.channels, 6);
    assert_int_equal(header.channel_map, 0xFFFF);
}

static void packets_of_so_many_milliseconds(void **state)
{
    (void)state;
    unsigned port;
    int fd = listen_on_loopback(&port);
    assert_int_equal(guest("--udp 127.0.0.1:%u --chunk 2.5ms --seconds 0.02 -q", port), 0);
    struct scream_udp_header header;
    uint8_t pcm[8 * 480], expected[8 * 480];
    assert_int_equal(take_packets(fd, 480, "127.0.0.1", &header, pcm, sizeof pcm), 8);
    expect_tone(expected, 0, 960);
    assert_memory_equal(pcm, expected, sizeof pcm);
}

static void packets_reach_a_group_through_a_named_interface(void **state)
{
    (void)state;
    unsigned port;
    int fd = listen_on_loopback(&port);
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct ip_mreqn join = {.imr_multiaddr.s_addr = inet_addr("239.255.77.78"),
                            .imr_address.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), 0);
    assert_int_equal(guest("--udp 239.255.77.78:%u -i lo -i 127.0.0.1 --seconds 0.012 -q", port), 0);
    assert_int_equal(guest("--udp 239.255.77.78:%u -i lo --seconds 0.012 -q", port), 0);
    struct scream_udp_header header;
    uint8_t pcm[4 * 1152];
    assert_int_equal(take_packets(fd, 1152, NULL, &header, pcm, sizeof pcm), 4);
    assert_memory_equal(pcm, pcm + 2 * 1152, 2 * 1152);
}

/* Standard input for one run: the file's bytes. */
static int guest_with_stdin(const char *path, const char *options, unsigned port)
{
    int saved = dup(STDIN_FILENO), fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(saved >= 0 && fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO);
    close(fd);
    int status = guest("--udp 127.0.0.1:%u --stdin -q %s", port, options);
    dup2(saved, STDIN_FILENO);
    close(saved);
    return status;
}

static void write_file(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Five channels: a packet ends within a frame, and the next goes on there. The last is filled up with silence. */
static void stdin_passes_unchanged_across_packets(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[1152 * 4] = {0}, pcm[1152 * 4];
    for (size_t i = 0; i < 4000; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    write_file(f->sound, bytes, 4000);
    unsigned port;
    int fd = listen_on_loopback(&port);
    assert_int_equal(guest_with_stdin(f->sound, "--channels 5", port), 0);
    struct scream_udp_header header;
    assert_int_equal(take_packets(fd, 1152, "127.0.0.1", &header, pcm, sizeof pcm), 4);
    assert_memory_equal(pcm, bytes, sizeof pcm);
    assert_int_equal(header.channels, 5);
    assert_int_equal(header.channel_map, 0x37);
}

#ifdef EARSHOT_WAV
static void a_sound_file_brings_its_format_and_loops(void **state)
{
    struct fixture *f = *state;
    enum { SAMPLES = 300 };
    uint8_t wav[44 + SAMPLES * 2] =
        "RIFF\x7c\x02\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0"
        "data\x58\x02\0";
    for (unsigned i = 0; i < SAMPLES * 2; i++)
        wav[44 + i] = (uint8_t)(i * 31 + i / 64);
    wav[44] = 0x00, wav[45] = 0x80; /* both ends of the scale pass as they are */
    wav[46] = 0xFF, wav[47] = 0x7F;
    write_file(f->sound, wav, sizeof wav);
    unsigned port;
    int fd = listen_on_loopback(&port);
    assert_int_equal(guest("--udp 127.0.0.1:%u --wav %s --loop --packet 150 --seconds 0.0136 -q", port, f->sound), 0);
    struct scream_udp_header header;
    uint8_t pcm[4 * 300];
    assert_int_equal(take_packets(fd, 300, "127.0.0.1", &header, pcm, sizeof pcm), 4);
    assert_memory_equal(pcm, wav + 44, 600);
    assert_memory_equal(pcm + 600, wav + 44, 600);
    assert_int_equal(header.sample_rate, 0x81);
    assert_int_equal(header.channels, 1);
    assert_int_equal(guest("--udp 127.0.0.1:%u --wav %s --rate 48000", port, f->sound), 2);
    assert_int_equal(guest("--udp 127.0.0.1:%u --wav %s.missing", port, f->sound), 1);
}
#endif

static void a_signal_ends_it_and_is_used_up(void **state)
{
    struct fixture *f = *state;
    sigset_t term, before, pending, after;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &term, &before), 0);
    raise(SIGTERM);
    assert_int_equal(guest("--shm %s -q", f->ring), 0);
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGTERM));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_true(sigismember(&after, SIGTERM));
    assert_false(sigismember(&after, SIGINT));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    size_t size;
    uint8_t *bytes = read_whole(f->ring, &size);
    assert_int_equal(size, 2 << 20);
    assert_int_equal(bytes[0], 0);
    free(bytes);
}

static void wrong_options_and_failures_differ(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[] = {"--rate 47999",
                                        "--rate 384000",
                                        "--bits 20",
                                        "--channels 9",
                                        "--udp 1.2.3",
                                        "--udp 127.0.0.1:70000",
                                        "--tone 24000",
                                        "--per-channel --tone 12000",
                                        "--level 3",
                                        "--ppm nan",
                                        "--chunk 20",
                                        "--size 2",
                                        "--loop",
                                        "--pause 100",
                                        "--burst 0",
                                        "--shm x --packet 288",
                                        "--shm x -i lo",
                                        "--packet 20000 --bits 32",
                                        "--chunk 2.5s",
                                        "--chunk 5 --packet 240",
                                        "--chunk 6.1ms",
                                        "--chunk 1 --rate 192000 --bits 32 --channels 8",
                                        "--capture --ppm 3",
                                        "--capture --level -3",
                                        "--capture --burst 2",
                                        "--capture --loop",
                                        "--nonsense",
                                        "operand"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (guest("%s", wrong[i]) != 2)
            fail_msg("\"%s\" was not refused", wrong[i]);
    assert_int_equal(guest("--shm %s/no/such", f->directory), 1);
    assert_int_equal(guest("--shm %s", f->directory), 1);
    assert_int_equal(guest("--shm /dev/null"), 1);
    assert_int_equal(guest("--shm auto --size 1023.9"), 1);                      /* nobody has one like that */
    assert_int_equal(guest("--shm auto --udp 127.0.0.1 --seconds 0.012 -q"), 0); /* the last one wins */
    assert_int_equal(guest("-i nosuchif0"), 1);
    assert_int_equal(guest("--udp 255.255.255.255 --seconds 0.012"), 1); /* nobody may, without SO_BROADCAST */
    assert_int_equal(guest("--udp 127.0.0.1 -i 192.0.2.1"), 1);
    assert_int_equal(guest("--shm %s --log %s/no/such", f->ring, f->directory), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ring_holds_the_last_chunks_and_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ring_header_is_the_drivers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ring_file_grows_but_never_shrinks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_truncated_ring_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(log_has_a_line_for_each_delivery, set_up, tear_down),
        cmocka_unit_test(packets_carry_the_tone),
        cmocka_unit_test(packets_of_so_many_frames_from_another_address),
        cmocka_unit_test(packets_of_so_many_milliseconds),
        cmocka_unit_test(packets_reach_a_group_through_a_named_interface),
        cmocka_unit_test_setup_teardown(stdin_passes_unchanged_across_packets, set_up, tear_down),
#ifdef EARSHOT_WAV
        cmocka_unit_test_setup_teardown(a_sound_file_brings_its_format_and_loops, set_up, tear_down),
#endif
        cmocka_unit_test_setup_teardown(a_signal_ends_it_and_is_used_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_options_and_failures_differ, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
