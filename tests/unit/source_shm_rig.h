/* SPDX-License-Identifier: MIT
 *
 * The real source on a real file, under a virtual clock: only the looks the source asks for are made.
 */
#ifndef EARSHOT_TESTS_SOURCE_SHM_RIG_H
#define EARSHOT_TESTS_SOURCE_SHM_RIG_H

#include "receiver/source.h"
#include "ringbuf/scream_shm.h"

#include <stddef.h>
#include <stdint.h>

#define RIG_MS     1000000LL
#define RIG_SECOND 1000000000LL
#define RIG_CHUNK  3840u
#define RIG_CHUNKS 40u
#define RIG_BYTES  (24u + RIG_CHUNKS * RIG_CHUNK)

struct rig {
    char dir[64], path[128];
    struct source *source;
    int64_t now_ns;
    int fd;
    uint8_t *memory;
    size_t bytes;
    struct scream_shm_writer writer;
    uint8_t next_byte; /* every chunk is filled with its number in the guest's stream */
    /* What came out of the last rig_run(). */
    unsigned blocks, flags, first_flags, looks;
    uint32_t frames, chunk_frames;
    uint8_t heard[4096]; /* one byte a chunk */
    unsigned heard_count;
    int64_t arrival_ns;
    struct pcm_format format;
};

extern const struct scream_shm_header rig_stereo;

/* No file yet; its name is scream-ivshmem. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* The file, made or sized. */
void rig_create_file(struct rig *r, size_t bytes);

/* What a guest does. The first chunk of a stream is filled with 1. */
void rig_open_stream(struct rig *r, const struct scream_shm_header *fields);
void rig_write_chunks(struct rig *r, unsigned count);

/* Lets the source look whenever it wants to, for `ns`. */
void rig_run(struct rig *r, int64_t ns);

/* Just these chunks were heard, in order. */
void rig_heard(const struct rig *r, unsigned from, unsigned count);

/* A guest that plays `count` chunks in real time, the source looking on; all of it together is what is heard. */
void rig_play(struct rig *r, unsigned count);

#endif
