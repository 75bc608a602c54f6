/* SPDX-License-Identifier: MIT */
#include "ringbuf/resident.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_bytes(void)
{
    const long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (size_t)bytes : 4096;
}

/* Up to a page's end; 0: too many. */
static size_t whole_pages(size_t bytes)
{
    const size_t page = page_bytes();
    return bytes > SIZE_MAX - page ? 0 : (bytes + page - 1) / page * page;
}

void *resident_alloc(size_t bytes)
{
    const size_t whole = whole_pages(bytes);
    void *memory = whole > 0 ? aligned_alloc(page_bytes(), whole) : NULL;
    if (!memory)
        return NULL;
    (void)mlock(memory, whole);
    return memset(memory, 0, whole);
}

void resident_free(void *memory, size_t bytes)
{
    if (!memory)
        return;
    munlock(memory, whole_pages(bytes));
    free(memory);
}
