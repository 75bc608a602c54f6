/* SPDX-License-Identifier: MIT
 *
 * From a real-time callback into a capture file: a ring, and a thread that empties it.
 */
#ifndef EARSHOT_CAPTURE_WRITER_H
#define EARSHOT_CAPTURE_WRITER_H

#include "tests/integration/capture_file.h"

struct capture_writer;

/* [main] Makes the file and starts the thread. -errno. */
int capture_writer_open(struct capture_writer **writer, const char *path, unsigned channels);

/* [rt] One cycle, `record->frames` interleaved frames; all of it, or none where there is no room. */
void capture_writer_put(struct capture_writer *writer, const struct capture_record *record, const float *samples);

/* [main] Once nobody puts any more: writes what is left and frees. -EIO: not all of it is in the file. *dropped: cycles
 * there was no room for. NULL is fine. */
int capture_writer_close(struct capture_writer *writer, uint64_t *dropped);

#endif
