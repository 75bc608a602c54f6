/* SPDX-License-Identifier: MIT */
#include "receiver/status.h"
#include "receiver/text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#define REPLY_WAIT_USEC UINT64_C(2000000)
#define SECOND_USEC     UINT64_C(1000000)
#define CELL_MAX        160

struct question {
    struct json_object *streams; /* merged */
    unsigned asked, answered, silent;
};

static uint64_t now_usec(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_USEC + (uint64_t)t.tv_nsec / 1000;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct question *question = userdata;
    const char *text;
    if (sd_bus_error_get_errno(sd_bus_message_get_error(reply)) == ETIMEDOUT) {
        question->silent++;
        return 0;
    }
    question->answered++;
    if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "s", &text) < 0)
        return 0; /* it has just ended */

    struct json_object *root = json_tokener_parse(text), *list;
    if (json_object_object_get_ex(root, "streams", &list) && json_object_is_type(list, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(list); i++)
            json_object_array_add(question->streams, json_object_get(json_object_array_get_idx(list, i)));
    }
    json_object_put(root);
    return 0;
}

/* Asks all at once, so that one that hangs costs the wait only once. -errno: the bus failed. */
static int ask(sd_bus *bus, struct question *question)
{
    char **names = NULL;
    int r = sd_bus_list_names(bus, &names, NULL);
    if (r < 0)
        return r;
    for (char **name = names; *name; name++) {
        if (!strncmp(*name, STATUS_NAME_PREFIX, strlen(STATUS_NAME_PREFIX)) &&
            sd_bus_call_method_async(bus, NULL, *name, STATUS_PATH, STATUS_INTERFACE, "Status", on_reply, question,
                                     NULL) >= 0)
            question->asked++;
        free(*name);
    }
    free(names);

    uint64_t end_usec = now_usec() + REPLY_WAIT_USEC;
    while (question->answered + question->silent < question->asked) {
        r = sd_bus_process(bus, NULL);
        if (r < 0)
            return r;
        if (r > 0)
            continue;
        uint64_t now = now_usec();
        if (now >= end_usec)
            break;
        r = sd_bus_wait(bus, end_usec - now);
        if (r < 0 && r != -EINTR)
            return r;
    }
    return 0;
}

int status_ask(struct json_object **streams)
{
    sd_bus *bus = NULL;
    struct question question = {.streams = json_object_new_array()};
    int r = sd_bus_open_user_with_description(&bus, "earshot-status");
    if (r >= 0)
        r = sd_bus_set_method_call_timeout(bus, REPLY_WAIT_USEC);
    if (r >= 0)
        r = ask(bus, &question);
    if (r >= 0 && question.answered < question.asked)
        r = -ETIMEDOUT;
    sd_bus_close(bus);
    sd_bus_unref(bus);
    if (r < 0)
        json_object_put(question.streams);
    else
        *streams = question.streams;
    return r < 0 ? r : 0;
}

/* Members of what another process sent: whatever is missing or of another type reads as empty or 0. */
static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static const char *text_member(struct json_object *object, const char *key, char cell[CELL_MAX])
{
    const char *text = json_object_get_string(member(object, key));
    return text_copy(cell, CELL_MAX, text ? text : "");
}

static double number(struct json_object *object, const char *key)
{
    return json_object_get_double(member(object, key));
}

enum column { NAME, STATE, FORMAT, LATENCY, DRIFT, DROPOUTS, COLUMNS };

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
};

static void fill_row(char row[COLUMNS][CELL_MAX], struct json_object *stream)
{
    struct json_object *f = member(stream, "format"), *latency = member(stream, "latency_ms");
    struct pcm_format format = {.rate = (uint32_t)json_object_get_int64(member(f, "rate")),
                                .bits = (uint8_t)json_object_get_int(member(f, "bits")),
                                .channels = (uint8_t)json_object_get_int(member(f, "channels")),
                                .mask = (uint16_t)json_object_get_int(member(f, "mask"))};
    text_member(stream, "name", row[NAME]);
    text_member(stream, "state", row[STATE]);
    strcpy(row[FORMAT], "-");
    strcpy(row[LATENCY], "-");
    strcpy(row[DRIFT], "-");
    strcpy(row[DROPOUTS], "-");
    if (!format.rate)
        return;
    pcm_format_describe(&format, row[FORMAT], CELL_MAX);
    snprintf(row[DROPOUTS], CELL_MAX, "%lld", (long long)json_object_get_int64(member(stream, "underruns")));
    if (number(latency, "total") > 0)
        snprintf(row[LATENCY], CELL_MAX, "%.1f ms", number(latency, "total"));
    if (json_object_get_boolean(member(stream, "locked")))
        snprintf(row[DRIFT], CELL_MAX, "%+.1f ppm", number(stream, "drift_ppm"));
}

static void print_cell(const char *cell, size_t width, bool right, bool last)
{
    int pad = (int)(width - text_columns(cell));
    if (right)
        printf("%*s%s%s", pad, "", cell, last ? "\n" : "  ");
    else
        printf("%s%*s", cell, last ? 0 : pad + 2, last ? "\n" : "");
}

static void print_table(struct json_object *streams)
{
    size_t count = json_object_array_length(streams);
    char(*rows)[COLUMNS][CELL_MAX] = calloc(count + 1, sizeof(*rows));
    if (!rows)
        return;
    size_t widths[COLUMNS] = {0};
    for (size_t i = 0; i <= count; i++) {
        if (i)
            fill_row(rows[i], json_object_array_get_idx(streams, i - 1));
        for (unsigned c = 0; c < COLUMNS; c++) {
            if (!i)
                strcpy(rows[0][c], columns[c].title);
            size_t width = text_columns(rows[i][c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    for (size_t i = 0; i <= count; i++) {
        for (unsigned c = 0; c < COLUMNS; c++)
            print_cell(rows[i][c], widths[c], columns[c].right, c + 1 == COLUMNS);
    }
    free(rows);
}

/* Where the milliseconds go. */
static void print_parts(struct json_object *stream)
{
    struct json_object *latency = member(stream, "latency_ms");
    if (!(number(latency, "total") > 0))
        return;
    char backend[CELL_MAX];
    printf("\n%.1f ms: guest's chunk %.1f, its lateness %.1f, quantum %.1f, resampler %.1f, device %.1f (%s)\n",
           number(latency, "total"), number(latency, "guest"), number(latency, "jitter"), number(latency, "quantum"),
           number(latency, "resampler"), number(latency, "device"), text_member(stream, "backend", backend));
}

static struct json_object *only(struct json_object *streams, const char *name)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(streams); i++) {
        struct json_object *stream = json_object_array_get_idx(streams, i);
        const char *text = json_object_get_string(member(stream, "name"));
        if (text && !strcmp(text, name))
            json_object_array_add(list, json_object_get(stream));
    }
    return list;
}

static void print_answer(const struct status_options *options, const struct question *question)
{
    FILE *hints = options->watch && !options->json ? stdout : stderr;
    struct json_object *list =
        options->name ? only(question->streams, options->name) : json_object_get(question->streams);
    if (options->watch && !options->json && isatty(STDOUT_FILENO))
        printf("\033[H\033[2J");
    if (!question->asked)
        fprintf(hints, "No earshot is running.\n");
    else if (options->name && !json_object_array_length(list))
        fprintf(hints, "No stream is called %s.\n", options->name);

    if (options->json) {
        struct json_object *root = json_object_new_object();
        json_object_object_add(root, "streams", json_object_get(list));
        printf("%s\n", json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        json_object_put(root);
    } else if (question->answered && json_object_array_length(list)) {
        print_table(list);
        if (options->name)
            print_parts(json_object_array_get_idx(list, 0));
    }
    json_object_put(list);
}

/* A connection of its own each time: replies that come too late go with it. Returns the exit status; -1: no bus. */
static int print_once(const struct status_options *options)
{
    sd_bus *bus = NULL;
    int status = -1;
    struct question question = {.streams = json_object_new_array()};
    int r = sd_bus_open_user_with_description(&bus, "earshot-status");
    if (r < 0) {
        fprintf(stderr, "There is no session bus to ask on (%s); earshot may play all the same.\n", strerror(-r));
        goto out;
    }
    sd_bus_set_method_call_timeout(bus, REPLY_WAIT_USEC);
    r = ask(bus, &question);
    if (r < 0) {
        fprintf(stderr, "The session bus does not answer: %s.\n", strerror(-r));
        goto out;
    }
    if (question.answered < question.asked)
        fprintf(stderr, "%u earshot process%s not answer.\n", question.asked - question.answered,
                question.asked - question.answered == 1 ? " does" : "es do");
    print_answer(options, &question);
    status = question.answered == 0;
    if (options->name && status == 0) {
        struct json_object *list = only(question.streams, options->name);
        status = json_object_array_length(list) == 0;
        json_object_put(list);
    }
out:
    json_object_put(question.streams);
    sd_bus_close(bus);
    sd_bus_unref(bus);
    return status;
}

int status_client(const struct status_options *options)
{
    int status = print_once(options);
    while (options->watch && status >= 0 && fflush(stdout) == 0) {
        struct timespec second = {.tv_sec = 1};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
        if (!options->json && !isatty(STDOUT_FILENO))
            printf("\n");
        status = print_once(options);
    }
    return status != 0;
}
