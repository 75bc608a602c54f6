/* SPDX-License-Identifier: MIT
 *
 * What was said to the user: a log for the code under test, and its text for the test.
 */
#ifndef EARSHOT_TESTS_SAID_H
#define EARSHOT_TESTS_SAID_H

#include "receiver/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Stays where it was opened. */
struct said {
    struct log log;
    char *text;
    size_t bytes;
};

static inline void said_open(struct said *said)
{
    *said = (struct said){.text = NULL};
    said->log.out = open_memstream(&said->text, &said->bytes);
    assert_non_null(said->log.out);
}

static inline void said_close(struct said *said)
{
    fclose(said->log.out);
    free(said->text);
}

/* All of it; valid until more is said. */
static inline const char *said_text(struct said *said)
{
    fflush(said->log.out);
    return said->text;
}

/* How often it was said. */
static inline unsigned said_times(struct said *said, const char *what)
{
    unsigned count = 0;
    for (const char *at = said_text(said); (at = strstr(at, what)); at++)
        count++;
    return count;
}

#endif
