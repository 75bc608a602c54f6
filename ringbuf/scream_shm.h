/* SPDX-License-Identifier: MIT
 *
 * The shared-memory ring as the guest's driver lays it out: header, validation, where chunks lie, what a reader has
 * missed - and the writer's side, for the guest's double. Who reads the memory, and how, is the caller's business:
 * all but the writer are pure functions over private copies. Any thread.
 */
#ifndef EARSHOT_SCREAM_SHM_H
#define EARSHOT_SCREAM_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCREAM_SHM_MAGIC        0x11112014u
#define SCREAM_SHM_HEADER_BYTES 24u

/* A private copy of the header, decoded. Any value may stand in it: the guest wrote it. */
struct scream_shm_header {
    uint32_t magic;
    uint16_t write_idx;
    uint8_t offset;
    uint16_t max_chunks;
    uint32_t chunk_size;
    uint8_t sample_rate;
    uint8_t sample_size;
    uint8_t channels;
    uint16_t channel_map;
};

void scream_shm_decode(struct scream_shm_header *header, const uint8_t bytes[SCREAM_SHM_HEADER_BYTES]);
void scream_shm_encode(uint8_t bytes[SCREAM_SHM_HEADER_BYTES], const struct scream_shm_header *header);

/* Byte position of chunk `index`. */
uint64_t scream_shm_chunk_at(const struct scream_shm_header *header, uint16_t index);

/* The same stream's header: all fields but write_idx. */
bool scream_shm_same_stream(const struct scream_shm_header *a, const struct scream_shm_header *b);

/* What a header that passed the check means. */
struct scream_shm_geometry {
    uint32_t rate;         /* frames per second */
    uint32_t frame_bytes;  /* 2..32 */
    uint32_t chunk_frames; /* > 0, at most a second */
    uint16_t chunks;       /* >= 2; indexes run from 0 to chunks - 1 */
    uint16_t usable;       /* chunks that lie inside the memory: `chunks`, or one less */
    int64_t chunk_ns;      /* playing time of a chunk, at least 1 */
};

/* Checks a header with magic against the size of the memory it lies in. True: *geometry is filled, and every chunk
 * below `usable` ends inside `bytes`. False: `reason` says which field is wrong, in a sentence's end ("chunk_size is
 * 0"); always terminated. The driver computes max_chunks without counting its own header, so its last chunk may end
 * past the memory: that one is left out (`usable`); more than one such chunk is an error. */
bool scream_shm_check(struct scream_shm_geometry *geometry, const struct scream_shm_header *header, uint64_t bytes,
                      char *reason, size_t reason_size);

enum scream_shm_step {
    SCREAM_SHM_SAME,     /* no new chunk */
    SCREAM_SHM_ADVANCED, /* `count` chunks from `first` on are new */
    SCREAM_SHM_RESYNC,   /* another stream, or the place was lost: the new chunks known to be fresh, if any */
};

struct scream_shm_advance {
    enum scream_shm_step step;
    uint16_t first; /* index of the oldest new chunk; following ones wrap at `chunks` */
    uint16_t count; /* 0 for SAME, and for RESYNC where nothing new is certain */
    uint16_t stale; /* RESYNC: chunks before `first` that were new as well, but too old by now */
};

/* What was written between two looks. `last` and `now` passed the check, `geometry` is now's. since_look_ns: time
 * since `last` was read. still_ns: how long its index had stood still by then. A guest cannot have written more than
 * that time allows: a jump beyond it, or beyond half the ring, or a changed field is a resync. One to 0 brings nothing
 * new, but from the chunk before it: that is where a new stream begins, and what lies in chunk 0 is the old one's. A
 * guest that was held up for more than 2 s, and whose backlog happens to end there, loses that chunk, too.
 *
 * A guest that crashed leaves its index where it was. Where that is near the ring's end, the next guest's stream looks
 * as if the old one went on, and only time tells them apart: what comes past the end after more than 2 s of stillness,
 * and is more than was made since the last look, is a new stream, read from its chunk 1 on. A guest that was paused so
 * long, and is back with a backlog just there, loses of it what comes before chunk 1. What cannot be told: no more than
 * was made since the last look - 7 chunks of 20 ms, for looks 110 ms apart - is taken for the guest that goes on. Of one
 * that crashed so near the end, up to 7 old chunks are played; of one that is back within the 2 s, up to 15 more. */
struct scream_shm_advance scream_shm_advance(const struct scream_shm_header *last,
                                             const struct scream_shm_header *now,
                                             const struct scream_shm_geometry *geometry, int64_t since_look_ns,
                                             int64_t still_ns);

/* Were `count` chunks up to seen->write_idx still intact when `after` was read? `after` is the raw header, unchecked. */
bool scream_shm_intact(const struct scream_shm_header *seen, const struct scream_shm_header *after, uint16_t count);

/* The writer's side, over mapped memory that others read meanwhile. One thread. */
struct scream_shm_writer {
    uint8_t *memory; /* the caller's; 4-byte aligned */
    struct scream_shm_header header;
};

/* Opens a stream as the driver does: header zeroed, fields filled, magic last. From `header` are taken chunk_size and
 * the format's fields; offset where not 0. -EINVAL: `bytes` has no room for two chunks. */
int scream_shm_writer_open(struct scream_shm_writer *writer, void *memory, size_t bytes,
                           const struct scream_shm_header *header);
/* Where the next chunk (chunk_size bytes) goes. */
uint8_t *scream_shm_writer_chunk(const struct scream_shm_writer *writer);
/* The chunk is complete: readers that see the new index see its data. */
void scream_shm_writer_publish(struct scream_shm_writer *writer);
/* Zeroes the header, as the driver does when a stream closes. */
void scream_shm_writer_close(struct scream_shm_writer *writer);

/* Copies the header out of memory that is being written: each field is read once, magic and index first, and what is
 * read after this call is at least as new as the index. memory is 4-byte aligned and holds the header. */
void scream_shm_snapshot(uint8_t bytes[SCREAM_SHM_HEADER_BYTES], const void *memory);

#endif
