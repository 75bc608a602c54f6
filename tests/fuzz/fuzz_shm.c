/* SPDX-License-Identifier: MIT
 *
 * A ring that changes in any way at any moment. Input: one byte of what to do, and its arguments; again.
 *   0 at, value     a byte of the header     1 24 bytes      the whole header
 *   2 size / 64     the file's size, 2 bytes  3 n             the index moves on by n
 *   4 t             time passes: t * t * 50 us, with every look that the source asks for
 */
#include "ringbuf/scream_shm.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void put(int fd, size_t at, const void *bytes, size_t size)
{
    fuzz_must(pwrite(fd, bytes, size, (off_t)at) == (ssize_t)size);
}

static void pass(struct source *source, int64_t *now_ns, int64_t ns)
{
    int64_t end = *now_ns + ns;
    unsigned looks = 0;
    while (source->wake_ns <= end) {
        if (source->wake_ns > *now_ns)
            *now_ns = source->wake_ns;
        fuzz_drain(source, *now_ns);
        fuzz_must(++looks < 20000); /* never more than 2 a millisecond */
    }
    *now_ns = end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    int fd = memfd_create("ring", MFD_CLOEXEC);
    fuzz_must(fd >= 0 && ftruncate(fd, 1 << 16) == 0);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct source *source;
    fuzz_must(source_shm_open(&source, path) == 0);
    int64_t now_ns = 1000000000;
    while (input.size > 0) {
        size_t length;
        const uint8_t *bytes;
        uint8_t value, header[SCREAM_SHM_HEADER_BYTES];
        struct scream_shm_header h;
        switch (fuzz_byte(&input) % 5) {
        case 0:
            value = fuzz_byte(&input) % SCREAM_SHM_HEADER_BYTES;
            bytes = fuzz_bytes(&input, 1, &length);
            put(fd, value, bytes, length);
            break;
        case 1:
            bytes = fuzz_bytes(&input, SCREAM_SHM_HEADER_BYTES, &length);
            put(fd, 0, bytes, length);
            break;
        case 2:
            value = fuzz_byte(&input);
            fuzz_must(ftruncate(fd, 64 * (value | fuzz_byte(&input) << 8)) == 0);
            break;
        case 3:
            value = fuzz_byte(&input);
            if (pread(fd, header, sizeof header, 0) != sizeof header)
                break;
            scream_shm_decode(&h, header);
            if (h.max_chunks > 0)
                h.write_idx = (uint16_t)((h.write_idx + value) % h.max_chunks);
            scream_shm_encode(header, &h);
            put(fd, 0, header, sizeof header);
            break;
        default:
            value = fuzz_byte(&input);
            pass(source, &now_ns, value * value * 50000LL);
        }
    }
    pass(source, &now_ns, 5000000);
    source->ops->close(source);
    close(fd);
    return 0;
}
