/* SPDX-License-Identifier: MIT */
#include "receiver/doctor_check.h"
#include "receiver/format.h"
#include "receiver/shm_file.h"
#include "ringbuf/scream_shm.h"

#include <errno.h>
#include <string.h>

#define LOOKS      3
#define LOOK_MS    100                  /* five of the driver's chunks */
#define SEARCH_MAX ((uint64_t)64 << 20) /* more of a device's memory is not searched */

/* Has anybody ever written to it? */
static bool all_zero(const struct shm_file *file, uint64_t bytes)
{
    static const uint8_t zero[4096];
    uint8_t block[sizeof zero];
    if (bytes > SEARCH_MAX)
        bytes = SEARCH_MAX;
    for (uint64_t at = 0; at < bytes; at += sizeof block) {
        size_t length = bytes - at < sizeof block ? (size_t)(bytes - at) : sizeof block;
        if (shm_file_read(file, at, block, length) < 0)
            return true;
        if (memcmp(block, zero, length) != 0)
            return false;
    }
    return true;
}

static void judge_header(const struct shm_file *file, const struct scream_shm_header *header,
                         struct doctor_ring *ring)
{
    struct scream_shm_geometry geometry;
    struct pcm_format format;
    if (header->magic == 0)
        ring->state = all_zero(file, ring->bytes) ? RING_ALL_ZERO : RING_CLOSED;
    else if (header->magic != SCREAM_SHM_MAGIC)
        ring->state = RING_FOREIGN;
    else if (!scream_shm_check(&geometry, header, ring->bytes, ring->reason, sizeof ring->reason))
        ring->state = RING_BAD_HEADER;
    else if (pcm_format_parse(&format, header->sample_rate, header->sample_size, header->channels,
                              header->channel_map) < 0) {
        ring->state = RING_BAD_HEADER;
        strcpy(ring->reason, "its format is unknown");
    } else {
        ring->state = RING_STILL;
        pcm_format_describe(&format, ring->format, sizeof ring->format);
    }
}

static int look(const struct shm_file *file, struct scream_shm_header *header, struct doctor_ring *ring)
{
    uint8_t bytes[SCREAM_SHM_HEADER_BYTES];
    int64_t size = shm_file_size(file);
    if (size < 0)
        return (int)size;
    ring->bytes = (uint64_t)size;
    ring->state = RING_SHORT;
    int r = shm_file_read_header(file, bytes);
    if (r < 0)
        return r == -ENODATA ? 0 : r;
    scream_shm_decode(header, bytes);
    judge_header(file, header, ring);
    return 0;
}

void doctor_look_at_ring(const struct doctor_env *env, const char *path, struct doctor_ring *ring)
{
    *ring = (struct doctor_ring){0};
    struct shm_file file;
    int r = shm_file_open(&file, path);
    if (r == 0) {
        ring->device = file.device;
        ring->inode = file.inode;
        struct scream_shm_header first = {0}, header = {0};
        r = look(&file, &first, ring);
        for (unsigned i = 1; r == 0 && i < LOOKS && ring->state != RING_PLAYING; i++) {
            env->pause(env->arg, LOOK_MS);
            r = look(&file, &header, ring);
            /* A header that has just come is a stream that has just begun. */
            if (r == 0 && ring->state == RING_STILL &&
                (header.write_idx != first.write_idx || !scream_shm_same_stream(&first, &header)))
                ring->state = RING_PLAYING;
        }
        shm_file_close(&file);
    }
    if (r < 0) {
        ring->state = RING_FAILED;
        ring->error = r;
    }
}
