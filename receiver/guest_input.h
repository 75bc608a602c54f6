/* SPDX-License-Identifier: MIT
 *
 * What the guest plays, as the PCM bytes its driver would deliver: a test signal, a sound file, or standard input. [main]
 */
#ifndef EARSHOT_GUEST_INPUT_H
#define EARSHOT_GUEST_INPUT_H

#include "receiver/format.h"
#include "receiver/guest_options.h"
#include "receiver/signal_gen.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct guest_input;

/* Opens what `options` name, and completes the format: a sound file brings its own, the rest has defaults. The input
 * belongs to the caller. 0; -EINVAL: the options do not fit together; -errno; all with a line in `error`. */
int guest_input_open(struct guest_input **input, const struct guest_options *options, struct pcm_format *format,
                     char error[OPTABLE_ERROR_MAX]);

/* The next bytes of the stream, 1..size of them. 0: it is over. -EAGAIN: none came within 100 ms (standard input);
 * -errno. */
ssize_t guest_input_read(struct guest_input *input, uint8_t *dst, size_t size);

/* "440 Hz tone", "the file song.wav"; always terminated. Returns out. */
char *guest_input_describe(const struct guest_input *input, char *out, size_t size);

void guest_input_close(struct guest_input *input); /* NULL is fine */

#endif
