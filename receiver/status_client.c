/* SPDX-License-Identifier: MIT */
#include "receiver/status.h"
#include "receiver/status_table.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#define REPLY_WAIT_USEC UINT64_C(2000000)
#define SECOND_USEC     UINT64_C(1000000)
#define SCREEN_COLUMNS  80 /* of a terminal that does not say */
#define SCREEN_LINES    24

#define ENTER_SCREEN "\033[?1049h\033[?25l" /* another one, without a cursor */
#define LEAVE_SCREEN "\033[?25h\033[?1049l"

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

/* --- what it looks like --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct status_row *)a)->name, ((const struct status_row *)b)->name);
}

/* All of them, or those of that name, by name. To be freed; NULL: none, or no memory. */
static struct status_row *read_rows(struct json_object *streams, const char *name, size_t *count)
{
    size_t all = json_object_array_length(streams);
    struct status_row *rows = calloc(all + 1, sizeof(*rows));
    *count = 0;
    for (size_t i = 0; rows && i < all; i++) {
        status_row_read(&rows[*count], json_object_array_get_idx(streams, i));
        *count += !name || !strcmp(rows[*count].name, name);
    }
    if (rows)
        qsort(rows, *count, sizeof(*rows), by_name);
    return rows;
}

static struct json_object *only(struct json_object *streams, const char *name)
{
    struct json_object *list = json_object_new_array(), *text;
    for (size_t i = 0; i < json_object_array_length(streams); i++) {
        struct json_object *stream = json_object_array_get_idx(streams, i);
        if (json_object_object_get_ex(stream, "name", &text) && !strcmp(json_object_get_string(text), name))
            json_object_array_add(list, json_object_get(stream));
    }
    return list;
}

/* Returns how many it printed. */
static size_t print_json(FILE *out, struct json_object *streams, const char *name)
{
    struct json_object *root = json_object_new_object();
    struct json_object *list = name ? only(streams, name) : json_object_get(streams);
    json_object_object_add(root, "streams", list);
    fprintf(out, "%s\n",
            json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    size_t count = json_object_array_length(list);
    json_object_put(root);
    return count;
}

static size_t print_table(FILE *out, struct json_object *streams, const struct status_options *options,
                          const struct status_look *look, bool bars)
{
    size_t count = 0;
    struct status_row *rows = read_rows(streams, options->name, &count);
    if (count)
        status_table_print(out, rows, count, look);
    /* After the titles, their lines and an empty one. */
    struct status_look below = *look;
    below.lines = look->lines > count + 2 ? look->lines - (unsigned)count - 2 : 0;
    if (count && bars && below.lines) {
        fprintf(out, "\n");
        status_table_bars(out, rows, count, &below);
    }
    if (count && options->name && !options->watch) {
        fprintf(out, "\n");
        status_table_parts(out, &rows[0]);
    }
    free(rows);
    return count;
}

/* A connection of its own each time: replies that come too late go with it. Prints to out, and what is not part of the
 * answer to hints. Returns the exit status; -1: nobody can be asked, as `error` says. */
static int look_once(const struct status_options *options, const struct status_look *look, bool bars, FILE *out,
                     FILE *hints, char error[160])
{
    sd_bus *bus = NULL;
    int status = -1;
    struct question question = {.streams = json_object_new_array()};
    int r = sd_bus_open_user_with_description(&bus, "earshot-status");
    if (r < 0) {
        snprintf(error, 160, "There is no session bus to ask on (%s); earshot may play all the same.", strerror(-r));
        goto out;
    }
    sd_bus_set_method_call_timeout(bus, REPLY_WAIT_USEC);
    r = ask(bus, &question);
    if (r < 0) {
        snprintf(error, 160, "The session bus does not answer: %s.", strerror(-r));
        goto out;
    }
    if (question.answered < question.asked)
        fprintf(hints, "%u earshot process%s not answer.\n", question.asked - question.answered,
                question.asked - question.answered == 1 ? " does" : "es do");
    size_t count = options->json ? print_json(out, question.streams, options->name)
                                 : print_table(out, question.streams, options, look, bars);
    if (!question.asked)
        fprintf(hints, "No earshot is running.\n");
    else if (options->name && count == 0)
        fprintf(hints, "No stream is called %s.\n", options->name);
    status = question.answered == 0 || (options->name && count == 0);
out:
    json_object_put(question.streams);
    sd_bus_close(bus);
    sd_bus_unref(bus);
    return status;
}

/* --- --watch --- */

/* The terminal, while it is ours. */
struct screen {
    bool ours;
    sigset_t handled, before;
};

static void enter(struct screen *screen)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
    sigemptyset(&screen->handled);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        sigaddset(&screen->handled, signals[i]);
    sigprocmask(SIG_BLOCK, &screen->handled, &screen->before);
    fputs(ENTER_SCREEN, stdout);
    screen->ours = true;
}

static void leave(struct screen *screen)
{
    if (!screen->ours)
        return;
    fputs(LEAVE_SCREEN, stdout);
    fflush(stdout);
    sigprocmask(SIG_SETMASK, &screen->before, NULL);
    screen->ours = false;
}

/* A second, or until the window has another size. False: it was told to end. */
static bool pause_screen(struct screen *screen)
{
    const struct timespec second = {.tv_sec = 1};
    if (!screen->ours) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
        return true;
    }
    int number = sigtimedwait(&screen->handled, NULL, &second);
    if (number == SIGTSTP) {
        leave(screen);
        raise(SIGSTOP);
        enter(screen);
    }
    return number < 0 || number == SIGTSTP || number == SIGWINCH;
}

/* Over what was there, and no line more than there is room for. */
static void draw(const char *text, unsigned lines)
{
    fputs("\033[H", stdout);
    for (unsigned i = 0; *text && i < lines; i++) {
        int length = (int)strcspn(text, "\n");
        printf("%s%.*s\033[K", i ? "\n" : "", length, text);
        text += length + (text[length] == '\n');
    }
    fputs("\033[J", stdout);
}

static struct status_look terminal_look(const struct log *terminal)
{
    struct winsize size = {0};
    struct status_look look = {.colour = terminal->colour};
    if (!terminal->terminal)
        return look;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0)
        size = (struct winsize){.ws_col = SCREEN_COLUMNS, .ws_row = SCREEN_LINES};
    look.columns = size.ws_col;
    look.lines = size.ws_row;
    return look;
}

int status_client(const struct status_options *options)
{
    struct log terminal;
    struct screen screen = {.ours = false};
    const char *term = getenv("TERM");
    char error[160] = "";
    int status = -1;
    log_init(&terminal, stdout, false);
    const bool redraws = options->watch && !options->json && terminal.terminal && term && strcmp(term, "dumb") != 0;
    if (redraws)
        enter(&screen);
    for (bool more = true; more; more = options->watch && status >= 0 && pause_screen(&screen)) {
        struct status_look look = terminal_look(&terminal);
        char *text = NULL;
        size_t bytes;
        FILE *out = open_memstream(&text, &bytes);
        if (!out)
            break;
        const bool again = status >= 0 && !options->json && !redraws;
        status = look_once(options, &look, redraws, out, options->watch && !options->json ? out : stderr, error);
        fclose(out);
        if (status >= 0 && redraws)
            draw(text, look.lines);
        else
            printf("%s%s", again ? "\n" : "", text);
        free(text);
        if (fflush(stdout) != 0)
            break;
    }
    leave(&screen);
    if (*error)
        fprintf(stderr, "%s\n", error);
    return options->watch ? status < 0 : status != 0;
}
