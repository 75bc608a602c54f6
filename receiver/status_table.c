/* SPDX-License-Identifier: MIT */
#include "receiver/status_table.h"

#include "receiver/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#define CELL_MAX     (STREAM_NAME_MAX + 1)
#define NUMBER_MAX   1e9 /* beyond it nothing is meant, and no column is wide enough */
#define GAP          2
#define NAME_MIN     8  /* columns that a name keeps where there are too few */
#define BAR_NAME_MAX 14 /* and beside bars */
#define BAR_MIN      10
#define BAR_MAX      60
#define BAR_LABEL    8  /* "latency " */
#define BAR_VALUE    20 /* "1000.0 of 1000.0 ms" */
#define WIDTH        80 /* where nobody says */

/* --- what came over the bus --- */

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static void read_text(struct json_object *object, const char *key, char *out, size_t size)
{
    const char *text = json_object_get_string(member(object, key));
    text_copy(out, size, text ? text : "");
}

static double read_number(struct json_object *object, const char *key)
{
    double value = json_object_get_double(member(object, key));
    return fabs(value) < NUMBER_MAX ? value : 0.0;
}

void status_row_read(struct status_row *row, struct json_object *stream)
{
    static const char *const parts[STATUS_PARTS] = {"guest", "jitter", "quantum", "resampler", "device"};
    struct json_object *format = member(stream, "format"), *latency = member(stream, "latency_ms");
    *row = (struct status_row){
        .format = {.rate = (uint32_t)json_object_get_int64(member(format, "rate")),
                   .bits = (uint8_t)json_object_get_int(member(format, "bits")),
                   .channels = (uint8_t)json_object_get_int(member(format, "channels")),
                   .mask = (uint16_t)json_object_get_int(member(format, "mask"))},
        .total_ms = read_number(latency, "total"),
        .target_ms = read_number(stream, "target_ms"),
        .drift_ppm = read_number(stream, "drift_ppm"),
        .locked = json_object_get_boolean(member(stream, "locked")),
        .underruns = (uint64_t)json_object_get_int64(member(stream, "underruns")),
    };
    read_text(stream, "name", row->name, sizeof(row->name));
    read_text(stream, "state", row->state, sizeof(row->state));
    read_text(stream, "backend", row->backend, sizeof(row->backend));
    for (unsigned i = 0; i < STATUS_PARTS; i++)
        row->parts_ms[i] = read_number(latency, parts[i]);
}

/* --- the table --- */

enum column { NAME, STATE, FORMAT, LATENCY, DRIFT, DROPOUTS, OUTPUT, COLUMNS };

static const struct {
    const char *title;
    bool right;
} columns[COLUMNS] = {
    [NAME] = {"NAME",      false},
      [STATE] = {"STATE",     false},
      [FORMAT] = {"FORMAT",    false},
    [LATENCY] = {"LATENCY",   true },
      [DRIFT] = {"DRIFT",     true },
      [DROPOUTS] = {"DROP-OUTS", true },
    [OUTPUT] = {"OUTPUT",    false},
};

struct line {
    char cells[COLUMNS][CELL_MAX];
};

static bool is_playing(const struct status_row *row)
{
    return row->format.rate > 0 && row->total_ms > 0.0;
}

static void fill_line(struct line *line, const struct status_row *row)
{
    for (unsigned c = 0; c < COLUMNS; c++)
        strcpy(line->cells[c], "-");
    strcpy(line->cells[NAME], row->name);
    strcpy(line->cells[STATE], row->state);
    if (*row->backend)
        strcpy(line->cells[OUTPUT], row->backend);
    if (!row->format.rate)
        return;
    pcm_format_describe(&row->format, line->cells[FORMAT], CELL_MAX);
    snprintf(line->cells[DROPOUTS], CELL_MAX, "%llu", (unsigned long long)row->underruns);
    if (is_playing(row))
        snprintf(line->cells[LATENCY], CELL_MAX, "%.1f/%.1f ms", row->total_ms, row->target_ms);
    if (row->locked)
        snprintf(line->cells[DRIFT], CELL_MAX, "%+.0f ppm", row->drift_ppm);
}

/* Cuts to so many columns, the last of which says that it was cut. */
static void shorten(char *text, size_t width)
{
    if (text_columns(text) <= width)
        return;
    size_t at = 0, seen = 0;
    for (; text[at]; at++) {
        if (((unsigned char)text[at] & 0xc0) != 0x80 && ++seen == width)
            break;
    }
    strcpy(text + at, "~");
}

static size_t measure(const struct line *lines, size_t count, size_t widths[COLUMNS])
{
    size_t total = (COLUMNS - 1) * GAP;
    for (unsigned c = 0; c < COLUMNS; c++) {
        widths[c] = 0;
        for (size_t i = 0; i < count; i++) {
            size_t width = text_columns(lines[i].cells[c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
        total += widths[c];
    }
    return total;
}

static void fit(struct line *lines, const struct status_row *rows, size_t count, unsigned width,
                size_t widths[COLUMNS])
{
    size_t total = measure(lines, count, widths);
    if (total <= (width ? width : WIDTH))
        return;
    for (size_t i = 1; i < count; i++) {
        if (rows[i - 1].format.rate)
            pcm_format_abbreviate(&rows[i - 1].format, lines[i].cells[FORMAT], CELL_MAX);
    }
    total = measure(lines, count, widths);
    if (width == 0 || total <= width)
        return;
    size_t name = widths[NAME] > total - width + NAME_MIN ? widths[NAME] - (total - width) : NAME_MIN;
    for (size_t i = 1; i < count; i++)
        shorten(lines[i].cells[NAME], name);
    measure(lines, count, widths);
}

#define PLAIN  "\033[0m"
#define BOLD   "\033[1m"
#define DIM    "\033[2m"
#define RED    "\033[31m"
#define GREEN  "\033[32m"
#define YELLOW "\033[33m"

static const char *state_colour(const char *state)
{
    static const struct {
        const char *state, *colour;
    } colours[] = {
        {"playing",   GREEN },
        {"starting",  YELLOW},
        {"starved",   YELLOW},
        {"no-server", RED   },
        {"port-busy", RED   }
    };
    for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++) {
        if (!strcmp(colours[i].state, state))
            return colours[i].colour;
    }
    return DIM;
}

static const char *cell_colour(const struct status_row *row, unsigned column)
{
    if (!row)
        return BOLD;
    if (column == STATE)
        return state_colour(row->state);
    return column == DROPOUTS && row->underruns ? YELLOW : "";
}

static void print_cell(FILE *out, const char *cell, size_t width, bool right, const char *colour)
{
    int pad = (int)(width - text_columns(cell));
    fprintf(out, "%*s%s%s%s%*s", right ? pad : 0, "", colour, cell, *colour ? PLAIN : "", right ? 0 : pad, "");
}

void status_table_print(FILE *out, const struct status_row *rows, size_t count, const struct status_look *look)
{
    struct line *lines = calloc(count + 1, sizeof(*lines));
    size_t widths[COLUMNS];
    if (!lines)
        return;
    for (unsigned c = 0; c < COLUMNS; c++)
        strcpy(lines[0].cells[c], columns[c].title);
    for (size_t i = 0; i < count; i++)
        fill_line(&lines[i + 1], &rows[i]);
    fit(lines, rows, count + 1, look->columns, widths);
    for (size_t i = 0; i <= count; i++) {
        for (unsigned c = 0; c < COLUMNS; c++) {
            const char *colour = look->colour ? cell_colour(i ? &rows[i - 1] : NULL, c) : "";
            bool last = c + 1 == COLUMNS;
            print_cell(out, lines[i].cells[c], last ? text_columns(lines[i].cells[c]) : widths[c], columns[c].right,
                       colour);
            fprintf(out, "%*s", last ? 0 : GAP, "");
        }
        fputc('\n', out);
    }
    free(lines);
}

/* --- bars --- */

/* The least of 1, 2, 5, 10 ... from `least` on that has room for `value`: it shall not change all the time. */
static double scale_for(double value, double least)
{
    static const double steps[] = {2.0, 2.5, 2.0};
    double scale = least;
    for (unsigned i = 0; scale < value && scale < 1e6; i++)
        scale *= steps[i % 3];
    return scale;
}

static unsigned place(double value, double scale, unsigned width)
{
    double at = value / scale * width;
    return at <= 0.0 ? 0 : at >= width ? width : (unsigned)lround(at);
}

/* '#' up to the value, '|' where it ought to be. */
static void print_bar(FILE *out, double value, double target, double scale, unsigned width)
{
    unsigned filled = place(value, scale, width), mark = place(target, scale, width);
    fputc('[', out);
    for (unsigned i = 0; i < width; i++)
        fputc(i + 1 == mark ? '|' : i < filled ? '#' : ' ', out);
    fputc(']', out);
}

/* '*' to the left or right of '|' in the middle, which is 0. */
static void print_needle(FILE *out, double value, double scale, unsigned width)
{
    unsigned middle = width / 2, at = place(value + scale, 2.0 * scale, width - 1);
    fputc('[', out);
    for (unsigned i = 0; i < width; i++)
        fputc(i == at ? '*' : i == middle ? '|' : ' ', out);
    fputc(']', out);
}

static void print_label(FILE *out, const char *name, size_t name_width, const char *label)
{
    print_cell(out, name, name_width, false, "");
    fprintf(out, "  %-*s", BAR_LABEL, label);
}

static void print_bars(FILE *out, const struct status_row *row, size_t name_width, unsigned width, double ms_scale,
                       double ppm_scale)
{
    char name[CELL_MAX];
    strcpy(name, row->name);
    shorten(name, name_width);
    double device_ms = row->parts_ms[STATUS_PARTS - 1];
    print_label(out, name, name_width, "latency");
    print_bar(out, row->total_ms, row->target_ms, ms_scale, width);
    fprintf(out, " %.1f of %.1f ms\n", row->total_ms, row->target_ms);
    print_label(out, "", name_width, "fill");
    print_bar(out, row->total_ms - device_ms, row->target_ms - device_ms, ms_scale, width);
    fprintf(out, " %.1f of %.1f ms\n", row->total_ms - device_ms, row->target_ms - device_ms);
    print_label(out, "", name_width, "drift");
    print_needle(out, row->locked ? row->drift_ppm : 0.0, ppm_scale, width);
    if (row->locked)
        fprintf(out, " %+.1f ppm\n", row->drift_ppm);
    else
        fprintf(out, " not known yet\n");
}

void status_table_bars(FILE *out, const struct status_row *rows, size_t count, const struct status_look *look)
{
    double ms = 0.0, ppm = 0.0;
    size_t playing = 0, name_width = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_playing(&rows[i]))
            continue;
        size_t name = text_columns(rows[i].name);
        playing++;
        name_width = name > name_width ? name : name_width;
        ms = fmax(ms, fmax(rows[i].total_ms, rows[i].target_ms));
        ppm = fmax(ppm, rows[i].locked ? fabs(rows[i].drift_ppm) : 0.0);
    }
    name_width = name_width > BAR_NAME_MAX ? BAR_NAME_MAX : name_width;
    size_t fits = look->lines ? look->lines / 3 : playing;
    if (fits < playing) /* a line to say so */
        fits = look->lines ? (look->lines - 1) / 3 : 0;

    size_t taken = name_width + 2 + BAR_LABEL + 2 + BAR_VALUE, room = look->columns ? look->columns : WIDTH;
    unsigned width = room < taken + BAR_MIN ? BAR_MIN : room > taken + BAR_MAX ? BAR_MAX : (unsigned)(room - taken);
    size_t shown = 0;
    for (size_t i = 0; i < count && shown < fits; i++) {
        if (!is_playing(&rows[i]))
            continue;
        print_bars(out, &rows[i], name_width, width, scale_for(ms * 1.1, 10.0), scale_for(ppm, 100.0));
        shown++;
    }
    if (shown < playing && look->lines)
        fprintf(out, "%zu more: make this window higher, or name one.\n", playing - shown);
}

void status_table_parts(FILE *out, const struct status_row *row)
{
    static const char *const parts[STATUS_PARTS] = {"guest's piece", "its lateness", "quantum", "resampler",
                                                    "device"};
    if (!is_playing(row))
        return;
    fprintf(out, "%-14s %7.1f ms\n", "latency", row->total_ms);
    for (unsigned i = 0; i < STATUS_PARTS; i++)
        fprintf(out, "  %-14s %5.1f\n", parts[i], row->parts_ms[i]);
}
