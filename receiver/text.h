/* SPDX-License-Identifier: MIT
 *
 * Text that others chose (file names, -n, a guest's name) made safe for terminals, journals and D-Bus. Pure
 * functions, any thread.
 */
#ifndef EARSHOT_TEXT_H
#define EARSHOT_TEXT_H

#include <stddef.h>

/* Replaces, in place, every control character and every byte that is not well-formed UTF-8 by '?'. */
void text_clean(char *text);

/* Columns a terminal needs for valid UTF-8, counting one per character. */
size_t text_columns(const char *text);

/* Copies at most size - 1 bytes, never ending within a character, cleaned and terminated. Returns out. */
char *text_copy(char *out, size_t size, const char *text);

#endif
