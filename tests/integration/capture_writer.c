/* SPDX-License-Identifier: MIT */
#include "tests/integration/capture_writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RING_BYTES    (16u << 20) /* 40 s of stereo at 48 kHz: no stall of the disk is that long */
#define WRITER_NAP_NS 20000000

struct capture_writer {
    uint8_t *bytes;
    FILE *file;
    pthread_t thread;
    unsigned channels;
    _Atomic uint64_t written; /* [rt] stores */
    _Atomic uint64_t read;    /* [writer] stores */
    _Atomic uint64_t dropped; /* cycles that found the ring full */
    atomic_bool ended;
};

void capture_writer_put(struct capture_writer *writer, const struct capture_record *record, const float *samples)
{
    const size_t bytes = (size_t)record->frames * writer->channels * sizeof *samples;
    uint64_t written = atomic_load_explicit(&writer->written, memory_order_relaxed);
    uint64_t space = RING_BYTES - (written - atomic_load_explicit(&writer->read, memory_order_acquire));
    if (space < sizeof *record + bytes) {
        atomic_fetch_add(&writer->dropped, 1);
        return;
    }
    const struct {
        const void *data;
        size_t size;
    } parts[] = {
        {record,  sizeof *record},
        {samples, bytes         }
    };
    for (size_t i = 0; i < 2; i++) {
        size_t at = (size_t)(written % RING_BYTES), first = RING_BYTES - at;
        if (first > parts[i].size)
            first = parts[i].size;
        memcpy(writer->bytes + at, parts[i].data, first);
        memcpy(writer->bytes, (const uint8_t *)parts[i].data + first, parts[i].size - first);
        written += parts[i].size;
    }
    atomic_store_explicit(&writer->written, written, memory_order_release);
}

/* [writer] Writes what is there. */
static int drain(struct capture_writer *writer)
{
    uint64_t read = atomic_load_explicit(&writer->read, memory_order_relaxed);
    uint64_t written = atomic_load_explicit(&writer->written, memory_order_acquire);
    while (read != written) {
        size_t at = (size_t)(read % RING_BYTES), size = (size_t)(written - read);
        if (size > RING_BYTES - at)
            size = RING_BYTES - at;
        if (fwrite(writer->bytes + at, 1, size, writer->file) != size)
            return -EIO;
        read += size;
        atomic_store_explicit(&writer->read, read, memory_order_release);
    }
    return fflush(writer->file) == 0 ? 0 : -EIO;
}

static void *run(void *arg)
{
    struct capture_writer *writer = arg;
    for (;;) {
        bool ended = atomic_load(&writer->ended);
        if (drain(writer) != 0)
            return (void *)1;
        if (ended)
            return NULL;
        nanosleep(&(struct timespec){.tv_nsec = WRITER_NAP_NS}, NULL);
    }
}

static void destroy(struct capture_writer *writer)
{
    if (writer->file)
        fclose(writer->file);
    free(writer->bytes);
    free(writer);
}

int capture_writer_open(struct capture_writer **out, const char *path, unsigned channels)
{
    struct capture_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return -ENOMEM;
    writer->channels = channels;
    int result = -ENOMEM;
    writer->bytes = malloc(RING_BYTES);
    if (!writer->bytes)
        goto fail;
    memset(writer->bytes, 0, RING_BYTES); /* page faults now, not in the callback */
    writer->file = fopen(path, "wbe");
    if (!writer->file) {
        result = -errno;
        goto fail;
    }
    const struct capture_header header = {.magic = CAPTURE_MAGIC, .channels = channels};
    result = fwrite(&header, sizeof header, 1, writer->file) == 1 ? 0 : -EIO;
    if (result == 0)
        result = -pthread_create(&writer->thread, NULL, run, writer);
    if (result < 0)
        goto fail;
    *out = writer;
    return 0;

fail:
    destroy(writer);
    return result;
}

int capture_writer_close(struct capture_writer *writer, uint64_t *dropped)
{
    *dropped = 0;
    if (!writer)
        return 0;
    atomic_store(&writer->ended, true);
    void *failed;
    pthread_join(writer->thread, &failed);
    *dropped = atomic_load(&writer->dropped);
    int result = failed || fclose(writer->file) != 0 ? -EIO : 0;
    if (!failed)
        writer->file = NULL;
    destroy(writer);
    return result;
}
