/* SPDX-License-Identifier: MIT
 *
 * `-o raw`: the guest's bytes, unchanged, to a file descriptor - no resampling, pacing, silence or header. The source
 * feeds it and nothing pulls, so it is no struct backend and not in the registry: --backend knows its name, and the
 * daemon hands it blocks where otherwise a feed would get them.
 */
#ifndef EARSHOT_RAW_H
#define EARSHOT_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAW_TIMEOUT_MS 500 /* how long a reader may hold up a block before the rest of it is dropped */
#define RAW_FRAME_MAX  32  /* bytes of eight channels of 32 bit */

struct raw_writer {
    int fd;          /* the caller's; blocking or not */
    bool has_sender; /* only the first sender's blocks are written */
    uint64_t sender;
    uint64_t dropped_bytes;
    size_t owed; /* what is missing of a frame that was cut short: goes out before anything else */
    uint8_t rest[RAW_FRAME_MAX];
};

/* [src] */
void raw_init(struct raw_writer *writer, int fd);

/* [src] Writes a block of whole frames of frame_bytes (1..RAW_FRAME_MAX) each. Other senders' blocks are ignored.
 * 0, -EPIPE when the reader is gone (the program's end: status 0), -ETIMEDOUT when the reader does not read (the rest
 * is counted and dropped, at a frame's boundary), or -errno. Waits RAW_TIMEOUT_MS at most. SIGPIPE must be ignored. */
int raw_write(struct raw_writer *writer, uint64_t sender, const uint8_t *data, size_t size, size_t frame_bytes);

#endif
