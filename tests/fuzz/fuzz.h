/* SPDX-License-Identifier: MIT
 *
 * What the fuzz targets share: input that is eaten from the front, and what must hold for every block of a source.
 */
#ifndef EARSHOT_FUZZ_H
#define EARSHOT_FUZZ_H

#include "receiver/source.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

/* At most `wanted` bytes; *size says how many. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t wanted, size_t *size)
{
    const uint8_t *bytes = input->data;
    *size = wanted < input->size ? wanted : input->size;
    input->data += *size;
    input->size -= *size;
    return bytes;
}

static inline void fuzz_must(bool condition)
{
    if (!condition)
        abort();
}

/* Calls next() until there is nothing. Each block is valid, wholly readable, and there are not endlessly many. A source
 * that read much without a block gives others their turn, and is due again at once: not endlessly often either. */
static inline void fuzz_drain(struct source *source, int64_t now_ns)
{
    struct block block;
    unsigned count = 0, turns = 0;
    for (;;) {
        if (source->ops->next(source, &block, now_ns) == 0) {
            if (source->wake_ns > now_ns)
                return;
            fuzz_must(++turns < 1000);
            continue;
        }
        struct pcm_format again;
        fuzz_must(pcm_format_parse(&again, pcm_rate_marker(block.format.rate), block.format.bits,
                                   block.format.channels, block.format.mask) == 0);
        fuzz_must(pcm_format_equal(&again, &block.format));
        fuzz_must(block.frames > 0 && block.chunk_frames > 0 && block.frames % block.chunk_frames == 0);
        fuzz_must(block.arrival_ns <= now_ns && block.window_ns >= 0);
        size_t samples = (size_t)block.frames * block.format.channels;
        float *decoded = malloc(samples * sizeof *decoded);
        fuzz_must(decoded != NULL);
        pcm_decode(decoded, block.data, samples, block.format.bits);
        for (size_t i = 0; i < samples; i++)
            fuzz_must(decoded[i] >= -1.0f && decoded[i] < 1.0f);
        free(decoded);
        fuzz_must(++count < 100000);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
