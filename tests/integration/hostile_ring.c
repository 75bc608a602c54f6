/* SPDX-License-Identifier: MIT
 *
 * hostile_ring [SECONDS]: one thread scribbles over the whole header of a ring, as fast as it may, while it plays;
 * another guest plays into a ring of its own; one source thread reads both, and this program takes what comes of it as
 * the daemon does. All of the second guest's sound has to arrive, in order; and the first guest's, once it behaves.
 *
 * What the machine's own stalls do to the innocent guest is told apart: a pause of one of our threads.
 */
#include "receiver/source_thread.h"
#include "ringbuf/scream_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MS         INT64_C(1000000)
#define BYTES      ((size_t)1 << 20)
#define FRAMES     480u  /* of a chunk: 10 ms */
#define STEPS      30000 /* sample values, so that each tells its neighbour */
#define STALL_NS   (100 * MS)
#define SCRIBBLES  16 /* between two naps: a processor of its own is not to be had everywhere */
#define NAP_NS     100000
#define FEEDS      2
#define BEHAVES_NS (2000 * MS)

static const struct scream_shm_header mono = {
    .chunk_size = FRAMES * 2, .sample_rate = 1, .sample_size = 16, .channels = 1, .channel_map = 4};

struct guest {
    uint8_t *memory;
    atomic_bool stop;
    uint64_t count; /* frames written, or headers spoilt */
    int64_t worst_ns;
};

/* What the daemon keeps of a source's only sender. */
struct heard {
    struct feed *feed;
    uint64_t position, frames, breaks, feeds;
    int last; /* sample, as a step; -1: none yet */
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void nap(int64_t ns)
{
    struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

static void play(struct guest *guest)
{
    struct scream_shm_writer writer;
    if (scream_shm_writer_open(&writer, guest->memory, BYTES, &mono) < 0)
        return;
    int64_t due_ns = clock_ns();
    while (!atomic_load(&guest->stop)) {
        int16_t samples[FRAMES];
        for (unsigned i = 0; i < FRAMES; i++)
            samples[i] = (int16_t)((guest->count + i) % STEPS - STEPS / 2);
        memcpy(scream_shm_writer_chunk(&writer), samples, sizeof samples);
        scream_shm_writer_publish(&writer);
        guest->count += FRAMES;
        due_ns += 10 * MS;
        int64_t left_ns = due_ns - clock_ns();
        if (left_ns > 0)
            nap(left_ns);
        else if (-left_ns > guest->worst_ns)
            guest->worst_ns = -left_ns;
    }
    scream_shm_writer_close(&writer);
}

static void *innocent_main(void *arg)
{
    play(arg);
    return NULL;
}

static void *hostile_main(void *arg)
{
    struct guest *guest = arg;
    uint64_t random = 1;
    uint8_t good[SCREAM_SHM_HEADER_BYTES];
    struct scream_shm_header h = {SCREAM_SHM_MAGIC, 0, 24, 1000, FRAMES * 2, 1, 16, 1, 4};
    while (!atomic_load(&guest->stop)) {
        for (unsigned i = 0; i < SCRIBBLES; i++, guest->count++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            h.write_idx = (uint16_t)((h.write_idx + 1u) % h.max_chunks);
            scream_shm_encode(good, &h);
            uint32_t dice = (uint32_t)(random >> 33);
            /* Now and then the magic and one field stay as they should be, so that it is looked into. */
            for (unsigned at = 4; at < SCREAM_SHM_HEADER_BYTES && dice % 3 == 0; at++)
                good[at] = (uint8_t)(random >> (at * 5 % 57));
            if (dice % 3 == 1)
                good[dice / 3 % SCREAM_SHM_HEADER_BYTES] = (uint8_t)(dice >> 16);
            memcpy(guest->memory, good, sizeof good);
        }
        nap(NAP_NS);
    }
    return NULL;
}

static uint8_t *make_ring(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    void *memory =
        ftruncate(fd, (off_t)BYTES) < 0 ? MAP_FAILED : mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Every sample is the one after the one before; but for a stream's beginning, which is led in from silence. */
static void check(struct heard *heard, const float *samples, size_t frames)
{
    for (size_t i = 0; i < frames; i++) {
        int step = (int)(samples[i] * 32768.0f + (samples[i] < 0 ? -0.5f : 0.5f)) + STEPS / 2;
        heard->breaks += heard->last >= 0 && heard->position + i >= FRAMES && step != (heard->last + 1) % STEPS;
        heard->last = step;
    }
    heard->frames += frames;
}

static void take_frames(struct heard *heard)
{
    size_t frames;
    while (heard->feed) {
        const float *samples = frame_ring_peek(feed_ring(heard->feed), heard->position, &frames);
        if (frames == 0)
            return;
        check(heard, samples, frames);
        heard->position += frames;
        feed_release(heard->feed, heard->position);
    }
}

static void take_events(struct source_thread *thread, struct heard heard[FEEDS])
{
    struct source_event event;
    while (source_thread_next_event(thread, &event) == 1) {
        if (event.type != SOURCE_EVENT_FEED_NEW)
            continue;
        struct heard *h = &heard[event.source];
        feed_destroy(h->feed);
        h->feed = event.feed;
        h->position = 0;
        h->last = -1;
        h->feeds++;
    }
}

/* For `ns`. Returns the longest time between two looks. */
static int64_t listen_for(struct source_thread *thread, struct heard heard[FEEDS], int64_t ns)
{
    int64_t end_ns = clock_ns() + ns, before_ns = clock_ns(), worst_ns = 0;
    while (before_ns < end_ns) {
        struct pollfd fd = {.fd = source_thread_fd(thread), .events = POLLIN};
        poll(&fd, 1, 5);
        take_events(thread, heard);
        for (unsigned i = 0; i < FEEDS; i++)
            take_frames(&heard[i]);
        int64_t now_ns = clock_ns();
        if (now_ns - before_ns > worst_ns)
            worst_ns = now_ns - before_ns;
        before_ns = now_ns;
    }
    return worst_ns;
}

static int fail(const char *what)
{
    fprintf(stderr, "FAILED: %s\n", what);
    return 1;
}

static int judge(const struct guest *hostile, const struct guest *innocent, const struct heard heard[FEEDS],
                 uint64_t behaved, int64_t stall_ns)
{
    printf("%" PRIu64 " headers spoilt, %" PRIu64 " feeds and %" PRIu64 " frames of them; the other guest: %" PRIu64
           " frames of %" PRIu64 ", %" PRIu64 " breaks; longest stall %.0f ms\n",
           hostile->count, heard[0].feeds, heard[0].frames, heard[1].frames, innocent->count, heard[1].breaks,
           (double)stall_ns / 1e6);
    if (heard[0].feeds == 0)
        return fail("nothing the scribbler wrote was ever taken for sound: that is no test");
    if (behaved == 0)
        return fail("the scribbler's ring is dead, though it behaves again");
    if (heard[1].feeds != 1)
        return fail("the other guest's stream was not left alone");
    if (stall_ns > STALL_NS) {
        printf("The machine itself stood still: the other guest's sound is not judged.\n");
        return 0;
    }
    if (heard[1].breaks > 0 || heard[1].frames + 20 * FRAMES < innocent->count)
        return fail("the other guest's sound is not whole");
    return 0;
}

static int run(const char *directory, int64_t ns)
{
    char paths[FEEDS][96];
    struct guest guests[FEEDS] = {0};
    struct heard heard[FEEDS] = {{.last = -1}, {.last = -1}};
    struct source_thread *thread;
    if (source_thread_create(&thread, &(struct source_thread_params){0}) < 0)
        return fail("no thread");
    for (unsigned i = 0; i < FEEDS; i++) {
        struct source *source;
        snprintf(paths[i], sizeof paths[i], "%s/ring%u", directory, i);
        guests[i].memory = make_ring(paths[i]);
        if (!guests[i].memory || source_shm_open(&source, paths[i]) < 0 || source_thread_add(thread, source) < 0)
            return fail("no ring");
    }
    pthread_t threads[FEEDS];
    if (source_thread_start(thread) < 0)
        return fail("no thread");
    listen_for(thread, heard, 300 * MS);
    if (pthread_create(&threads[0], NULL, hostile_main, &guests[0]) != 0 ||
        pthread_create(&threads[1], NULL, innocent_main, &guests[1]) != 0)
        return fail("no thread");
    int64_t stall_ns = listen_for(thread, heard, ns);
    atomic_store(&guests[0].stop, true);
    pthread_join(threads[0], NULL);
    uint64_t spoilt = guests[0].count;

    /* Now it behaves. */
    memset(guests[0].memory, 0, SCREAM_SHM_HEADER_BYTES);
    listen_for(thread, heard, 500 * MS);
    uint64_t before = heard[0].frames;
    guests[0] = (struct guest){.memory = guests[0].memory};
    if (pthread_create(&threads[0], NULL, innocent_main, &guests[0]) != 0)
        return fail("no thread");
    int64_t late_ns = listen_for(thread, heard, BEHAVES_NS);
    uint64_t behaved = heard[0].frames - before;
    for (unsigned i = FEEDS; i-- > 0;) {
        atomic_store(&guests[i].stop, true);
        pthread_join(threads[i], NULL);
    }
    source_thread_stop(thread);
    take_events(thread, heard);
    for (unsigned i = 0; i < FEEDS; i++)
        take_frames(&heard[i]);

    stall_ns = late_ns > stall_ns ? late_ns : stall_ns;
    stall_ns = guests[1].worst_ns > stall_ns ? guests[1].worst_ns : stall_ns;
    guests[0].count = spoilt;
    int result = judge(&guests[0], &guests[1], heard, behaved, stall_ns);
    source_thread_destroy(thread);
    for (unsigned i = 0; i < FEEDS; i++) {
        feed_destroy(heard[i].feed);
        munmap(guests[i].memory, BYTES);
        unlink(paths[i]);
    }
    return result;
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoi(argv[1]) : 60;
    char directory[] = "/dev/shm/earshot-test-XXXXXX";
    if (!mkdtemp(directory))
        return fail("no /dev/shm");
    int result = run(directory, seconds * 1000 * MS);
    rmdir(directory);
    return result;
}
