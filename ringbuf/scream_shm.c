/* SPDX-License-Identifier: MIT */
#include "ringbuf/scream_shm.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Byte offsets of the header's fields. */
enum {
    AT_MAGIC = 0,
    AT_WRITE_IDX = 4,
    AT_OFFSET = 6,
    AT_MAX_CHUNKS = 8,
    AT_CHUNK_SIZE = 12,
    AT_SAMPLE_RATE = 16,
    AT_SAMPLE_SIZE = 17,
    AT_CHANNELS = 18,
    AT_CHANNEL_MAP = 20,
};

/* A guest that stalled writes what it kept in one go; older than this nobody wants it. */
#define BACKLOG_NS 300000000
/* Lateness of one look against the next, and what a writer that was held up hands over between two of them. */
#define SLACK_CHUNKS 2
#define SLACK_NS     40000000
#define REBOOT_NS    2000000000 /* no guest that died plays again sooner */

static uint16_t get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t get32(const uint8_t *bytes)
{
    return get16(bytes) | (uint32_t)get16(bytes + 2) << 16;
}

static void put16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *bytes, uint32_t value)
{
    put16(bytes, (uint16_t)value);
    put16(bytes + 2, (uint16_t)(value >> 16));
}

void scream_shm_decode(struct scream_shm_header *header, const uint8_t bytes[SCREAM_SHM_HEADER_BYTES])
{
    *header = (struct scream_shm_header){
        .magic = get32(bytes + AT_MAGIC),
        .write_idx = get16(bytes + AT_WRITE_IDX),
        .offset = bytes[AT_OFFSET],
        .max_chunks = get16(bytes + AT_MAX_CHUNKS),
        .chunk_size = get32(bytes + AT_CHUNK_SIZE),
        .sample_rate = bytes[AT_SAMPLE_RATE],
        .sample_size = bytes[AT_SAMPLE_SIZE],
        .channels = bytes[AT_CHANNELS],
        .channel_map = get16(bytes + AT_CHANNEL_MAP),
    };
}

void scream_shm_encode(uint8_t bytes[SCREAM_SHM_HEADER_BYTES], const struct scream_shm_header *header)
{
    memset(bytes, 0, SCREAM_SHM_HEADER_BYTES);
    put32(bytes + AT_MAGIC, header->magic);
    put16(bytes + AT_WRITE_IDX, header->write_idx);
    bytes[AT_OFFSET] = header->offset;
    put16(bytes + AT_MAX_CHUNKS, header->max_chunks);
    put32(bytes + AT_CHUNK_SIZE, header->chunk_size);
    bytes[AT_SAMPLE_RATE] = header->sample_rate;
    bytes[AT_SAMPLE_SIZE] = header->sample_size;
    bytes[AT_CHANNELS] = header->channels;
    put16(bytes + AT_CHANNEL_MAP, header->channel_map);
}

uint64_t scream_shm_chunk_at(const struct scream_shm_header *header, uint16_t index)
{
    return header->offset + (uint64_t)header->chunk_size * index;
}

bool scream_shm_same_stream(const struct scream_shm_header *a, const struct scream_shm_header *b)
{
    return a->magic == b->magic && a->offset == b->offset && a->max_chunks == b->max_chunks &&
           a->chunk_size == b->chunk_size && a->sample_rate == b->sample_rate && a->sample_size == b->sample_size &&
           a->channels == b->channels && a->channel_map == b->channel_map;
}

/* The format's fields. Returns NULL, or the name of the one that cannot be, with its value. */
static const char *format_fault(const struct scream_shm_header *header, unsigned *value)
{
    unsigned multiplier = header->sample_rate & 0x7fu;
    *value = header->sample_rate;
    if (multiplier < 1 || multiplier > 4)
        return "sample_rate";
    *value = header->sample_size;
    if (header->sample_size != 16 && header->sample_size != 24 && header->sample_size != 32)
        return "sample_size";
    *value = header->channels;
    if (header->channels < 1 || header->channels > 8)
        return "channels";
    return NULL;
}

bool scream_shm_check(struct scream_shm_geometry *geometry, const struct scream_shm_header *header, uint64_t bytes,
                      char *reason, size_t reason_size)
{
    unsigned value;
    const char *field = format_fault(header, &value);
    if (field) {
        snprintf(reason, reason_size, "%s is %u", field, value);
        return false;
    }
    if (header->offset < SCREAM_SHM_HEADER_BYTES) {
        snprintf(reason, reason_size, "offset is %u, inside the header", (unsigned)header->offset);
        return false;
    }
    struct scream_shm_geometry g = {
        .rate = (header->sample_rate & 0x80u ? 44100u : 48000u) * (header->sample_rate & 0x7fu),
        .frame_bytes = header->sample_size / 8u * header->channels,
        .chunks = header->max_chunks,
    };
    g.chunk_frames = header->chunk_size / g.frame_bytes;
    if (g.chunk_frames == 0 || header->chunk_size % g.frame_bytes != 0) {
        snprintf(reason, reason_size, "chunk_size is %u, not whole frames of %u bytes", (unsigned)header->chunk_size,
                 (unsigned)g.frame_bytes);
        return false;
    }
    if (g.chunk_frames > g.rate) {
        snprintf(reason, reason_size, "chunk_size is %u, more than a second", (unsigned)header->chunk_size);
        return false;
    }
    if (g.chunks < 2) {
        snprintf(reason, reason_size, "max_chunks is %u", (unsigned)g.chunks);
        return false;
    }
    /* The driver's offset is less than a chunk, so only its last chunk can end past the memory. Two that do mean that
     * header and memory do not belong together. */
    uint64_t room = bytes > header->offset ? (bytes - header->offset) / header->chunk_size : 0;
    if (room + 1 < g.chunks) {
        snprintf(reason, reason_size, "max_chunks is %u, but only %llu fit in", (unsigned)g.chunks,
                 (unsigned long long)room);
        return false;
    }
    g.usable = room < g.chunks ? (uint16_t)room : g.chunks;
    if (header->write_idx >= g.chunks) {
        snprintf(reason, reason_size, "write_idx is %u of %u", (unsigned)header->write_idx, (unsigned)g.chunks);
        return false;
    }
    g.chunk_ns = (int64_t)g.chunk_frames * 1000000000 / g.rate;
    *geometry = g;
    return true;
}

static uint16_t distance(uint16_t from, uint16_t to, uint16_t chunks)
{
    return (uint16_t)(to >= from ? to - from : to + chunks - from);
}

/* Chunks in a span of time; saturates far above any ring. */
static int64_t chunks_in(int64_t span_ns, const struct scream_shm_geometry *geometry)
{
    int64_t count = span_ns > 0 ? span_ns / geometry->chunk_ns : 0;
    return count > UINT16_MAX ? UINT16_MAX : count;
}

static int64_t slack_chunks(const struct scream_shm_geometry *geometry)
{
    int64_t count = chunks_in(SLACK_NS, geometry);
    return count > SLACK_CHUNKS ? count : SLACK_CHUNKS;
}

struct scream_shm_advance scream_shm_advance(const struct scream_shm_header *last,
                                             const struct scream_shm_header *now,
                                             const struct scream_shm_geometry *geometry, int64_t since_look_ns,
                                             int64_t still_ns)
{
    struct scream_shm_advance advance = {.step = SCREAM_SHM_SAME, .first = now->write_idx};
    int64_t elapsed = chunks_in(since_look_ns, geometry);
    int64_t made = elapsed + elapsed / 16 + slack_chunks(geometry);
    int64_t limit = made + chunks_in(still_ns < BACKLOG_NS ? still_ns : BACKLOG_NS, geometry);
    if (limit > geometry->chunks / 2)
        limit = geometry->chunks / 2;

    bool same = scream_shm_same_stream(last, now);
    bool wrapped = now->write_idx < last->write_idx;
    uint16_t jump = distance(last->write_idx, now->write_idx, geometry->chunks);
    if (same && jump == 0)
        return advance;
    /* Where a dead guest's index lay near the end, a new stream's looks like some more chunks, with a backlog. */
    bool reborn = wrapped && still_ns > REBOOT_NS && jump > made;
    /* Away for half the ring's time or more: the writer may have gone round. */
    if (same && !reborn && jump <= limit && elapsed < (geometry->chunks + 1) / 2) {
        advance.step = SCREAM_SHM_ADVANCED;
        advance.count = jump;
        advance.first = (uint16_t)((last->write_idx + 1u) % geometry->chunks);
        return advance;
    }
    advance.step = SCREAM_SHM_RESYNC;
    /* All that a guest was held up with, at once. What it had no time to make since its index last moved is none. */
    int64_t most = elapsed + chunks_in(still_ns, geometry) + slack_chunks(geometry);
    bool held_up = jump <= most && jump <= geometry->chunks / 2 && elapsed < (geometry->chunks + 1) / 2;
    bool goes_on =
        now->write_idx > 0 || last->write_idx + 1 == geometry->chunks || (held_up && still_ns <= REBOOT_NS);
    if ((!same || wrapped) && now->write_idx >= 1 && now->write_idx <= limit) {
        /* A stream's first chunk is number 1: all of a young stream is fresh. */
        advance.first = 1;
        advance.count = now->write_idx;
    } else if (same && goes_on) {
        advance.count = 1; /* the index moved, so its chunk is new; but a new stream, at 0, has none yet */
        if (held_up)
            advance.stale = (uint16_t)(jump - 1);
    }
    return advance;
}

bool scream_shm_intact(const struct scream_shm_header *seen, const struct scream_shm_header *after, uint16_t count)
{
    if (!scream_shm_same_stream(seen, after) || after->write_idx >= after->max_chunks)
        return false;
    /* The writer is at work on the chunk behind its index. */
    uint32_t moved = distance(seen->write_idx, after->write_idx, after->max_chunks);
    return moved + count < after->max_chunks;
}

static void store16(void *memory, uint16_t value, memory_order order)
{
    atomic_store_explicit((_Atomic uint16_t *)memory, htole16(value), order);
}

static void store32(void *memory, uint32_t value, memory_order order)
{
    atomic_store_explicit((_Atomic uint32_t *)memory, htole32(value), order);
}

static void clear_header(uint8_t *memory)
{
    for (unsigned at = 0; at < SCREAM_SHM_HEADER_BYTES; at += 4)
        store32(memory + at, 0, memory_order_release);
}

int scream_shm_writer_open(struct scream_shm_writer *writer, void *memory, size_t bytes,
                           const struct scream_shm_header *header)
{
    struct scream_shm_header fields = *header;
    if (fields.offset == 0)
        fields.offset = SCREAM_SHM_HEADER_BYTES;
    if (fields.chunk_size == 0 || fields.offset < SCREAM_SHM_HEADER_BYTES || bytes < fields.offset)
        return -EINVAL;
    size_t chunks = (bytes - fields.offset) / fields.chunk_size;
    if (chunks < 2)
        return -EINVAL;
    fields.magic = SCREAM_SHM_MAGIC;
    fields.write_idx = 0;
    fields.max_chunks = chunks > UINT16_MAX ? UINT16_MAX : (uint16_t)chunks;

    uint8_t encoded[SCREAM_SHM_HEADER_BYTES];
    scream_shm_encode(encoded, &fields);
    clear_header(memory);
    for (unsigned at = 4; at < SCREAM_SHM_HEADER_BYTES; at += 4)
        store32((uint8_t *)memory + at, get32(encoded + at), memory_order_relaxed);
    store32(memory, fields.magic, memory_order_release);
    *writer = (struct scream_shm_writer){.memory = memory, .header = fields};
    return 0;
}

static uint16_t next_index(const struct scream_shm_writer *writer)
{
    return (uint16_t)((writer->header.write_idx + 1u) % writer->header.max_chunks);
}

uint8_t *scream_shm_writer_chunk(const struct scream_shm_writer *writer)
{
    return writer->memory + scream_shm_chunk_at(&writer->header, next_index(writer));
}

void scream_shm_writer_publish(struct scream_shm_writer *writer)
{
    writer->header.write_idx = next_index(writer);
    store16(writer->memory + AT_WRITE_IDX, writer->header.write_idx, memory_order_release);
}

void scream_shm_writer_close(struct scream_shm_writer *writer)
{
    clear_header(writer->memory);
    *writer = (struct scream_shm_writer){0};
}

void scream_shm_snapshot(uint8_t bytes[SCREAM_SHM_HEADER_BYTES], const void *memory)
{
    const uint8_t *from = memory;
    for (unsigned at = 0; at < SCREAM_SHM_HEADER_BYTES; at += 4) {
        uint32_t word =
            atomic_load_explicit((const _Atomic uint32_t *)(const void *)(from + at), memory_order_acquire);
        memcpy(bytes + at, &word, sizeof word);
    }
}
