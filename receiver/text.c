/* SPDX-License-Identifier: MIT */
#include "receiver/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the well-formed character at `p`, 0 where there is none. Overlong forms and surrogates are refused. */
static size_t character(const unsigned char *p)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;

    size_t bytes = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : p[0] >= 0xe0 && p[0] <= 0xef ? 3 : 0;
    if (p[0] >= 0xf0 && p[0] <= 0xf4)
        bytes = 4;
    uint32_t code = bytes == 2 ? p[0] & 0x1fu : bytes == 3 ? p[0] & 0x0fu : p[0] & 0x07u;
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3fu);
    }
    bool c1 = code >= 0x80 && code < 0xa0;
    bool surrogate = code >= 0xd800 && code < 0xe000;
    bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && (code < 0x10000 || code > 0x10ffff));
    return c1 || surrogate || overlong ? 0 : bytes;
}

void text_clean(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p;) {
        size_t bytes = character(p);
        if (!bytes) {
            *p = '?';
            bytes = 1;
        }
        p += bytes;
    }
}

size_t text_columns(const char *text)
{
    size_t columns = 0;
    for (; *text; text++)
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    return columns;
}

char *text_copy(char *out, size_t size, const char *text)
{
    size_t length = strnlen(text, size - 1);
    if (text[length]) {
        while (length && ((unsigned char)text[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(out, text, length);
    out[length] = 0;
    text_clean(out);
    return out;
}
