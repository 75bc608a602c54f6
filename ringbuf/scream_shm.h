/* SPDX-License-Identifier: MIT
 *
 * The shared-memory ring as the guest's driver lays it out: header, validation, where chunks lie, what a reader has
 * missed - and the writer's side, for the guest's double. Pure functions over bytes: who reads the memory, and how,
 * is the caller's business. Any thread.
 */
#ifndef EARSHOT_SCREAM_SHM_H
#define EARSHOT_SCREAM_SHM_H

#include <stdbool.h>
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

#endif
