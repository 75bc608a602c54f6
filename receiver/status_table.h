/* SPDX-License-Identifier: MIT
 *
 * How streams look to people: what they said of themselves as a table, as bars, and in parts. Pure functions of their
 * arguments. [main]
 */
#ifndef EARSHOT_STATUS_TABLE_H
#define EARSHOT_STATUS_TABLE_H

#include "receiver/format.h"
#include "receiver/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define STATUS_PARTS 5

struct json_object;

/* One stream, as its process says it. */
struct status_row {
    char name[STREAM_NAME_MAX];
    char state[16], backend[16];
    struct pcm_format format;      /* rate 0: none yet */
    double total_ms, target_ms;    /* 0: unknown */
    double parts_ms[STATUS_PARTS]; /* guest, jitter, quantum, resampler, device */
    double drift_ppm;
    bool locked; /* the drift is known */
    uint64_t underruns;
};

/* From an element of the JSON's "streams". What is missing or of another type is empty or 0; text is cleaned. */
void status_row_read(struct status_row *row, struct json_object *stream);

struct status_look {
    unsigned columns; /* of the terminal; 0: as wide as it gets */
    unsigned lines;   /* there are no more; 0: no limit */
    bool colour;
};

/* A line for each, after one with titles. Wider than the terminal (or than 80 columns, where there is none) it abbreviates
 * formats, then on terminals names. */
void status_table_print(FILE *out, const struct status_row *rows, size_t count, const struct status_look *look);

/* Three lines for each that plays: latency and fill with their targets, all to one scale, and drift. Those for whom
 * there are no lines are counted in the last one. Nothing where nothing plays. */
void status_table_bars(FILE *out, const struct status_row *rows, size_t count, const struct status_look *look);

/* Where the milliseconds of one go; nothing where it does not play. */
void status_table_parts(FILE *out, const struct status_row *row);

#endif
