/* SPDX-License-Identifier: MIT
 *
 * What happens to a path, as inotify tells it; and a source that acts on it at once instead of at its next slow look.
 */
#include "receiver/shm_watch.h"
#include "receiver/source.h"
#include "ringbuf/scream_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MS     1000000LL
#define SECOND 1000000000LL
#define CHUNK  3840u
#define BYTES  (24u + 40u * CHUNK)

struct rig {
    char dir[64], path[96], other[96];
    struct shm_watch watch;
    struct source *source;
    int64_t now_ns;
};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    strcpy(r->dir, "/tmp/earshot-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->path, sizeof r->path, "%s/ring", r->dir);
    snprintf(r->other, sizeof r->other, "%s/other", r->dir);
    r->watch = SHM_WATCH_CLOSED;
    r->now_ns = 1000 * SECOND;
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    shm_watch_close(&r->watch);
    if (r->source)
        r->source->ops->close(r->source);
    unlink(r->path);
    unlink(r->other);
    rmdir(r->dir);
    free(r);
    return 0;
}

static void create(const char *path, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static bool readable(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    return fd > 0 && poll(&poller, 1, 0) == 1;
}

static void test_tells(void **state)
{
    struct rig *r = *state;
    shm_watch_open(&r->watch, r->path);
    assert_false(readable(r->watch.fd));
    assert_false(shm_watch_happened(&r->watch, r->path));

    create(r->path, 100);
    assert_true(readable(r->watch.fd));
    assert_true(shm_watch_happened(&r->watch, r->path));
    assert_false(readable(r->watch.fd));
    assert_int_equal(chmod(r->path, 0644), 0);
    assert_true(shm_watch_happened(&r->watch, r->path));
    create(r->other, 100);
    assert_false(shm_watch_happened(&r->watch, r->path)); /* not ours */
    assert_int_equal(rename(r->other, r->path), 0);
    assert_true(shm_watch_happened(&r->watch, r->path));
    unlink(r->path);
    assert_true(shm_watch_happened(&r->watch, r->path));
    assert_false(shm_watch_happened(&r->watch, r->path));
}

static void test_directory_comes_and_goes(void **state)
{
    struct rig *r = *state;
    assert_int_equal(rmdir(r->dir), 0);
    shm_watch_open(&r->watch, r->path);
    assert_false(shm_watch_happened(&r->watch, r->path));
    assert_int_equal(r->watch.directory, -1);
    assert_int_equal(mkdir(r->dir, 0700), 0);
    shm_watch_open(&r->watch, r->path);
    assert_true(r->watch.directory >= 0);
    create(r->path, 1);
    assert_true(shm_watch_happened(&r->watch, r->path));

    unlink(r->path);
    assert_int_equal(rmdir(r->dir), 0);
    assert_true(shm_watch_happened(&r->watch, r->path));
    assert_int_equal(r->watch.directory, -1);
    assert_int_equal(mkdir(r->dir, 0700), 0);
    shm_watch_open(&r->watch, r->path);
    create(r->path, 1);
    assert_true(shm_watch_happened(&r->watch, r->path));

    /* Under another name it is not the path's directory any more. */
    char moved[80];
    snprintf(moved, sizeof moved, "%s-moved", r->dir);
    assert_int_equal(rename(r->dir, moved), 0);
    assert_true(shm_watch_happened(&r->watch, r->path));
    assert_int_equal(r->watch.directory, -1);
    assert_int_equal(rename(moved, r->dir), 0);
}

static void test_overflow_is_no_silence(void **state)
{
    struct rig *r = *state;
    shm_watch_open(&r->watch, r->path);
    for (unsigned i = 0; i < 20000; i++) { /* more than the queue holds: max_queued_events is 16384 by default */
        create(r->other, 0);
        unlink(r->other);
    }
    bool happened = false;
    for (unsigned i = 0; i < 1000 && readable(r->watch.fd); i++)
        happened |= shm_watch_happened(&r->watch, r->path);
    assert_true(happened);
}

/* One turn of the source's thread. Returns the blocks. */
static unsigned turn(struct rig *r)
{
    struct block block;
    unsigned blocks = 0;
    r->source->watch_ready = readable(r->source->watch_fd);
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1)
        blocks++;
    assert_true(r->source->wake_ns > r->now_ns);
    return blocks;
}

/* Lets it sleep as it wants to, but for what wakes it. Returns the number of turns. */
static unsigned pass(struct rig *r, int64_t ns)
{
    int64_t end = r->now_ns + ns;
    unsigned turns = 0;
    for (;;) {
        bool woken = readable(r->source->watch_fd);
        if (!woken && r->source->wake_ns > end)
            break;
        if (!woken && r->source->wake_ns > r->now_ns)
            r->now_ns = r->source->wake_ns;
        turn(r);
        assert_true(++turns < 100000);
    }
    r->now_ns = end;
    return turns;
}

static void test_source_sees_at_once(void **state)
{
    struct rig *r = *state;
    assert_int_equal(source_shm_open(&r->source, r->path), 0);
    pass(r, 10 * SECOND);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    create(r->path, BYTES);
    pass(r, 6 * MS);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    r->now_ns += 10 * SECOND;
    unlink(r->path);
    pass(r, 6 * MS);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    pass(r, SECOND);
    create(r->other, 0);
    assert_int_equal(rename(r->other, r->path), 0);
    pass(r, 6 * MS);
    assert_int_equal(r->source->status.state, SOURCE_EMPTY);
}

/* Other people's files come and go where the ring lies. */
static void test_source_is_not_kept_awake(void **state)
{
    struct rig *r = *state;
    assert_int_equal(source_shm_open(&r->source, r->path), 0);
    pass(r, SECOND);
    assert_in_range(pass(r, 10 * SECOND), 1, 30);
    unsigned turns = 0;
    for (unsigned i = 0; i < 10000; i++) {
        create(r->other, 0);
        unlink(r->other);
        turns += pass(r, MS);
    }
    assert_in_range(turns, 1, 250);
    /* Ours among them is seen in time all the same. */
    create(r->path, BYTES);
    pass(r, 110 * MS);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
}

/* Who deletes a ring that a guest plays into does not silence the guest. */
static void test_orphan_plays_on(void **state)
{
    struct rig *r = *state;
    static const struct scream_shm_header stereo = {
        .chunk_size = CHUNK, .sample_rate = 1, .sample_size = 16, .channels = 2, .channel_map = 3};
    create(r->path, BYTES);
    int fd = open(r->path, O_RDWR | O_CLOEXEC);
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(memory != MAP_FAILED);
    struct scream_shm_writer writer;
    assert_int_equal(source_shm_open(&r->source, r->path), 0);
    pass(r, SECOND);
    assert_int_equal(scream_shm_writer_open(&writer, memory, BYTES, &stereo), 0);
    for (unsigned i = 0; i < 100; i++) {
        scream_shm_writer_publish(&writer);
        pass(r, 20 * MS);
        /* Nobody waits for what would not be acted on. */
        assert_true(i < 10 || r->source->watch_fd <= 0);
        if (i == 50)
            unlink(r->path);
        if (i == 70)
            create(r->path, BYTES);
    }
    assert_in_range(r->source->counters.blocks, 90, 100); /* two chunks may make one */
    assert_int_equal(r->source->counters.dropped_frames, 0);
    /* It stops: then the new file is what counts. */
    pass(r, 700 * MS);
    assert_int_equal(r->source->status.state, SOURCE_NO_RING);
    assert_true(r->source->watch_fd > 0);
    pass(r, SECOND);
    unlink(r->path);
    pass(r, 6 * MS);
    assert_int_equal(r->source->status.state, SOURCE_NO_FILE);
    munmap(memory, BYTES);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tells),
        TEST(test_directory_comes_and_goes),
        TEST(test_overflow_is_no_silence),
        TEST(test_source_sees_at_once),
        TEST(test_source_is_not_kept_awake),
        TEST(test_orphan_plays_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
