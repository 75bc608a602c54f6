/* SPDX-License-Identifier: MIT
 *
 * What the file under the ring may do: come and go, shrink, be something else.
 */
#include "receiver/shm_file.h"
#include "tests/unit/source_shm_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void file_appears(void **state)
{
    struct rig *r = *state;
    rig_run(r, 3 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    assert_non_null(strstr(r->source->status.detail, r->path));
    assert_in_range(r->looks, 4, 8);

    rig_create_file(r, 0);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_EMPTY);
    assert_true(r->looks < 20);

    rig_create_file(r, RIG_BYTES);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);

    /* The first chunk of the first stream is heard, whole. */
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 100);
    rig_heard(r, 1, 100);
    assert_int_equal(r->first_flags & (BLOCK_RESYNC | BLOCK_GAP), BLOCK_RESYNC);
    assert_int_equal(r->flags & BLOCK_GAP, 0);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    assert_string_equal(r->source->status.detail, "");
    assert_int_equal(r->chunk_frames, 960);
    assert_int_equal(r->format.rate, 48000);
    assert_int_equal(r->source->counters.dropped_frames, 0);
    assert_int_equal(r->source->counters.rejected, 0);
}

static void truncated_while_playing(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    assert_int_equal(ftruncate(r->fd, 0), 0);
    rig_run(r, RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_EMPTY);
    assert_int_equal(r->blocks, 0);

    /* Sized again: zeros, then the guest. */
    assert_int_equal(ftruncate(r->fd, RIG_BYTES), 0);
    rig_run(r, RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_LISTENING);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    rig_heard(r, 1, 20);

    /* Cut behind the header: chunks that are not there are not heard, and nothing dies of it. */
    rig_write_chunks(r, 5);
    assert_int_equal(ftruncate(r->fd, 100), 0);
    rig_run(r, 5 * RIG_MS);
    assert_int_equal(r->blocks, 0);
    rig_run(r, RIG_SECOND);
    assert_int_equal(r->blocks, 0);
    assert_int_equal(r->source->status.state, SOURCE_BAD_HEADER);
    /* It grows again: the header was there all along, so only what comes next is heard. */
    assert_int_equal(ftruncate(r->fd, RIG_BYTES), 0);
    rig_run(r, RIG_SECOND);
    assert_int_equal(r->blocks, 0);
    rig_play(r, 5);
    rig_heard(r, 26, 5);
}

static void deleted_and_recreated(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    rig_run(r, RIG_SECOND);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    unlink(r->path);
    rig_play(r, 20); /* as long as it plays, it plays */
    rig_heard(r, 21, 20);
    rig_run(r, 3 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    rig_create_file(r, RIG_BYTES);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    rig_heard(r, 1, 20);

    /* Another file under the name at once. */
    unlink(r->path);
    rig_create_file(r, RIG_BYTES);
    rig_run(r, 3 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    rig_open_stream(r, &rig_stereo);
    rig_play(r, 20);
    rig_heard(r, 1, 20);
}

static void not_permitted(void **state)
{
    struct rig *r = *state;
    rig_create_file(r, RIG_BYTES);
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(chmod(r->dir, 0755), 0);
        assert_int_equal(seteuid(65534), 0);
    } else {
        assert_int_equal(chmod(r->path, 0), 0);
    }
    rig_run(r, 2 * RIG_SECOND);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(r->source->status.state, SOURCE_NO_ACCESS);
    assert_int_equal(chmod(r->path, 0600), 0);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
}

static void odd_kinds_of_file(void **state)
{
    struct rig *r = *state;
    assert_int_equal(mkdir(r->path, 0700), 0);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_FAILED);
    rmdir(r->path);
    assert_int_equal(mkfifo(r->path, 0600), 0);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_FAILED);
    unlink(r->path);
    assert_int_equal(symlink("/dev/zero", r->path), 0); /* mapped: a device has no length */
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    unlink(r->path);
    assert_int_equal(symlink("/dev/null", r->path), 0);
    rig_run(r, 2 * RIG_SECOND);
    assert_int_equal(r->source->status.state, SOURCE_FAILED);
    struct source *none;
    assert_int_equal(source_shm_open(&none, ""), -EINVAL);
    assert_int_equal(source_shm_open(&none, "/dev/shm/"), -EINVAL);
}

static void mapped_memory(void **state)
{
    (void)state;
    _Alignas(4) uint8_t memory[64];
    for (unsigned i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)i;
    const struct shm_file file = {.fd = -1, .map = memory, .map_bytes = sizeof memory};
    uint8_t out[64];
    assert_int_equal(shm_file_size(&file), 64);
    assert_int_equal(shm_file_read_header(&file, out), 0);
    assert_memory_equal(out, memory, 24);
    assert_int_equal(shm_file_read(&file, 40, out, 24), 0);
    assert_memory_equal(out, memory + 40, 24);
    assert_int_equal(shm_file_read(&file, 41, out, 24), -ENODATA);
    assert_int_equal(shm_file_read(&file, UINT64_MAX - 8, out, 24), -ENODATA);
    assert_int_equal(shm_file_read(&file, 0, out, SIZE_MAX), -ENODATA);
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(file_appears),  RIGGED(truncated_while_playing), RIGGED(deleted_and_recreated),
        RIGGED(not_permitted), RIGGED(odd_kinds_of_file),       cmocka_unit_test(mapped_memory),
    };
    return cmocka_run_group_tests_name("source_shm_file", tests, NULL, NULL);
}
