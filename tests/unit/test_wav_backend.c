/* SPDX-License-Identifier: MIT */
#include "backends/registry.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sndfile.h>

#define RATE 96000

struct recorder {
    char dir[64];
    struct backend_context *context;
    unsigned channels;
    atomic_uint frames; /* also what the next frame's first sample says */
};

static float sample(uint64_t frame, unsigned channel)
{
    return (float)(frame % 1000000) / 1000000.0f - (float)channel * 0.125f;
}

static void pull(void *arg, float *dst, uint32_t frames, const struct pull_time *time)
{
    struct recorder *r = arg;
    const unsigned at = atomic_load(&r->frames);
    assert_int_equal(time->rate, RATE);
    for (uint32_t i = 0; i < frames; i++) {
        for (unsigned c = 0; c < r->channels; c++)
            *dst++ = sample(at + i, c);
    }
    atomic_fetch_add(&r->frames, frames);
}

static int setup(void **state)
{
    struct recorder *r = calloc(1, sizeof *r);
    if (!r)
        return -1;
    strcpy(r->dir, "/tmp/earshot-wav-XXXXXX");
    if (!mkdtemp(r->dir))
        return -1;
    const struct backend_context_params params = {.app_name = "test", .event_fd = -1};
    *state = r;
    return backend_wav.context_open(&r->context, &params);
}

static int teardown(void **state)
{
    struct recorder *r = *state;
    static const char *const names[] = {"take.wav", "take-2.wav", "take-3.wav", "take",
                                        "take-2",   ".hidden",    ".hidden-2"};
    char path[128];
    backend_wav.context_close(r->context);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", r->dir, names[i]);
        unlink(path);
    }
    const int rc = rmdir(r->dir);
    free(r);
    return rc;
}

static int open_stream(struct recorder *r, const char *file, unsigned channels, unsigned mask,
                       struct backend_stream **stream)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", r->dir, file);
    r->channels = channels;
    struct backend_stream_params params = {.name = "guest",
                                           .target = path,
                                           .channels = (uint8_t)channels,
                                           .mask = (uint16_t)mask,
                                           .source_rate = RATE,
                                           .pull = pull,
                                           .arg = r};
    return backend_wav.open(r->context, &params, stream);
}

static void record(struct recorder *r, struct backend_stream *stream, unsigned frames)
{
    const unsigned end = atomic_load(&r->frames) + frames;
    assert_int_equal(backend_wav.start(stream), 0);
    while (atomic_load(&r->frames) < end)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    backend_wav.stop(stream);
}

static SNDFILE *open_file(struct recorder *r, const char *file, SF_INFO *info)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", r->dir, file);
    *info = (SF_INFO){0};
    return sf_open(path, SFM_READ, info);
}

/* The file holds exactly what was pulled, once. */
static void check_file(struct recorder *r, const char *file, const int *map)
{
    SF_INFO info;
    SNDFILE *sound = open_file(r, file, &info);
    assert_non_null(sound);
    assert_int_equal(info.samplerate, RATE);
    assert_int_equal(info.channels, (int)r->channels);
    assert_int_equal(info.frames, (int)atomic_load(&r->frames));
    assert_int_equal(info.format & SF_FORMAT_SUBMASK, SF_FORMAT_FLOAT);
    int found[8] = {0};
    assert_true(sf_command(sound, SFC_GET_CHANNEL_MAP_INFO, found, (int)(r->channels * sizeof found[0])));
    assert_memory_equal(found, map, r->channels * sizeof found[0]);
    float frame[8];
    for (sf_count_t i = 0; i < info.frames; i++) {
        assert_int_equal(sf_readf_float(sound, frame, 1), 1);
        for (unsigned c = 0; c < r->channels; c++)
            assert_true(frame[c] == sample((uint64_t)i, c));
    }
    sf_close(sound);
}

static void test_file_is_what_was_pulled(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *stream = NULL;
    assert_int_equal(open_stream(r, "take.wav", 2, 3, &stream), 0);
    record(r, stream, 5000);
    record(r, stream, 5000); /* what was stopped goes on where it was */
    assert_int_equal(backend_wav.state(stream), BACKEND_OK);
    backend_wav.close(stream);
    check_file(r, "take.wav", (int[]){SF_CHANNEL_MAP_LEFT, SF_CHANNEL_MAP_RIGHT});

    char path[128], magic[4] = "";
    snprintf(path, sizeof path, "%s/take.wav", r->dir);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(magic, 1, 4, file), 4);
    fclose(file);
    assert_memory_equal(magic, "RIFF", 4); /* RF64 only where it must be */
}

static void test_speakers_are_in_the_header(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *stream = NULL;
    assert_int_equal(open_stream(r, "take.wav", 6, 0x60f, &stream), 0);
    record(r, stream, 1000);
    backend_wav.close(stream);
    check_file(r, "take.wav",
               (int[]){SF_CHANNEL_MAP_LEFT, SF_CHANNEL_MAP_RIGHT, SF_CHANNEL_MAP_CENTER, SF_CHANNEL_MAP_LFE,
                       SF_CHANNEL_MAP_SIDE_LEFT, SF_CHANNEL_MAP_SIDE_RIGHT});
}

static void test_every_speaker_has_a_name(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *stream = NULL;
    assert_int_equal(open_stream(r, "take.wav", 8, 0x00ff, &stream), 0);
    backend_wav.close(stream);
    check_file(r, "take.wav",
               (int[]){SF_CHANNEL_MAP_LEFT, SF_CHANNEL_MAP_RIGHT, SF_CHANNEL_MAP_CENTER, SF_CHANNEL_MAP_LFE,
                       SF_CHANNEL_MAP_REAR_LEFT, SF_CHANNEL_MAP_REAR_RIGHT, SF_CHANNEL_MAP_FRONT_LEFT_OF_CENTER,
                       SF_CHANNEL_MAP_FRONT_RIGHT_OF_CENTER});
    assert_int_equal(open_stream(r, "take.wav", 8, 0xff00, &stream), 0);
    backend_wav.close(stream);
    check_file(r, "take-2.wav",
               (int[]){SF_CHANNEL_MAP_REAR_CENTER, SF_CHANNEL_MAP_SIDE_LEFT, SF_CHANNEL_MAP_SIDE_RIGHT,
                       SF_CHANNEL_MAP_TOP_CENTER, SF_CHANNEL_MAP_TOP_FRONT_LEFT, SF_CHANNEL_MAP_TOP_FRONT_CENTER,
                       SF_CHANNEL_MAP_TOP_FRONT_RIGHT, SF_CHANNEL_MAP_TOP_REAR_LEFT});
}

static void test_unclosed_file_can_be_read(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *stream = NULL;
    SF_INFO info;
    assert_int_equal(open_stream(r, "take.wav", 2, 3, &stream), 0);
    SNDFILE *sound = open_file(r, "take.wav", &info); /* nothing recorded yet */
    assert_non_null(sound);
    assert_int_equal(info.frames, 0);
    sf_close(sound);
    assert_int_equal(backend_wav.start(stream), 0);
    while (atomic_load(&r->frames) < RATE + RATE / 5) /* a header a second */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    sound = open_file(r, "take.wav", &info);
    assert_non_null(sound);
    assert_true(info.frames >= RATE);
    sf_close(sound);
    backend_wav.close(stream);
}

static void test_streams_of_one_target_get_numbers(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *streams[3];
    SF_INFO info;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(open_stream(r, "take.wav", 2, 3, &streams[i]), 0);
    backend_wav.close(streams[0]); /* its number is not free again: that file is a recording */
    assert_int_equal(open_stream(r, "take.wav", 1, 4, &streams[2]), 0);
    backend_wav.close(streams[1]);
    backend_wav.close(streams[2]);
    static const struct {
        const char *name;
        int channels;
    } expected[] = {
        {"take.wav",   2},
        {"take-2.wav", 2},
        {"take-3.wav", 1}
    };
    for (unsigned i = 0; i < 3; i++) {
        SNDFILE *sound = open_file(r, expected[i].name, &info);
        assert_non_null(sound);
        assert_int_equal(info.channels, expected[i].channels);
        sf_close(sound);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(open_stream(r, "take", 2, 3, &streams[0]), 0);
        backend_wav.close(streams[0]);
        assert_int_equal(open_stream(r, ".hidden", 2, 3, &streams[0]), 0);
        backend_wav.close(streams[0]);
    }
    static const char *const others[] = {"take", "take-2", ".hidden", ".hidden-2"};
    for (unsigned i = 0; i < 4; i++) {
        SNDFILE *sound = open_file(r, others[i], &info);
        assert_non_null(sound);
        sf_close(sound);
    }
}

static void test_what_cannot_be_recorded_to(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *stream = NULL;
    char path[128];
    assert_int_equal(open_stream(r, "no/such/dir.wav", 2, 3, &stream), -ENOENT);
    assert_int_equal(open_stream(r, "", 2, 3, &stream), -EISDIR);
    snprintf(path, sizeof path, "%s/take", r->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(open_stream(r, "take", 2, 3, &stream), -ESPIPE);
    /* A slip of the hand is no reason to empty somebody's music. */
    snprintf(path, sizeof path, "%s/song.flac", r->dir);
    FILE *song = fopen(path, "w");
    assert_non_null(song);
    fputs("fLaC", song);
    fclose(song);
    assert_int_equal(open_stream(r, "song.flac", 2, 3, &stream), -EEXIST);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_stream(r, "take.wav", 0, 0, &stream), -EINVAL);
    assert_int_equal(open_stream(r, "take.wav", 9, 0x1ff, &stream), -EINVAL);
    assert_int_equal(open_stream(r, "take.wav", 2, 7, &stream), -EINVAL);
    struct backend_stream_params params = {
        .name = "guest", .channels = 2, .mask = 3, .source_rate = RATE, .pull = pull, .arg = r};
    assert_int_equal(backend_wav.open(r->context, &params, &stream), -EINVAL); /* no -d at all */
    assert_null(stream);
}

static void test_a_full_disk_heals(void **state)
{
    struct recorder *r = *state;
    struct backend_stream *stream = NULL;
    char path[128];
    if (access("/dev/full", W_OK) < 0)
        skip();
    snprintf(path, sizeof path, "%s/take.wav", r->dir);
    assert_int_equal(open_stream(r, "take.wav", 2, 3, &stream), 0);
    record(r, stream, 1000);
    assert_int_equal(backend_wav.state(stream), BACKEND_OK);
    /* Puts /dev/full in the file's place behind libsndfile's back, and the file back again. */
    struct stat wanted, st;
    assert_int_equal(stat(path, &wanted), 0);
    int fd = 3;
    while (fstat(fd, &st) < 0 || st.st_ino != wanted.st_ino || st.st_dev != wanted.st_dev)
        assert_true(++fd < 1024);
    const int saved = dup(fd);
    FILE *full = fopen("/dev/full", "wb");
    assert_non_null(full);
    assert_true(saved >= 0 && dup2(fileno(full), fd) == fd);
    fclose(full);
    record(r, stream, 1000);
    assert_int_equal(backend_wav.state(stream), BACKEND_NO_DEVICE);
    assert_int_equal(dup2(saved, fd), fd);
    close(saved);
    record(r, stream, 1000);
    assert_int_equal(backend_wav.state(stream), BACKEND_OK);
    backend_wav.close(stream);
    SF_INFO info;
    SNDFILE *sound = open_file(r, "take.wav", &info);
    assert_non_null(sound);
    assert_true(info.frames >= 2000);
    sf_close(sound);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_is_what_was_pulled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_speakers_are_in_the_header, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_speaker_has_a_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unclosed_file_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streams_of_one_target_get_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_recorded_to, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_heals, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
