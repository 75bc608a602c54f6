/* SPDX-License-Identifier: MIT
 *
 * Memory that stays where it is: what a pull touches after an hour of silence must not have to come back from a swap
 * file first. For the frames, the playout and the resampler's input only; locked whole, the libraries would be 21 MiB.
 *
 * Asked for, not insisted on: beyond RLIMIT_MEMLOCK it is memory as any other.
 */
#ifndef EARSHOT_RESIDENT_H
#define EARSHOT_RESIDENT_H

#include <stddef.h>

/* [main, src] Zeroed, from a page's beginning, with no neighbour in its last page; NULL: there is none. */
void *resident_alloc(size_t bytes);

/* [main, src] As many bytes as were asked for. NULL is nothing to free. */
void resident_free(void *memory, size_t bytes);

#endif
