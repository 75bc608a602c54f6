/* SPDX-License-Identifier: MIT */
#include "receiver/tune.h"

#include "receiver/options.h"
#include "receiver/status.h"
#include "receiver/status_table.h"
#include "receiver/text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#define REPLY_WAIT_USEC UINT64_C(2000000)
#define LOOK_NS         100000000L
#define LOOKS           30  /* that long for the next cycle, and for another period from the server */
#define SAME_MS         0.1 /* the target is what was asked for */
#define MOVES_MS_PER_S  3.0 /* playout_set_latency() */

/* What the processes answered, all together. */
struct answer {
    unsigned asked, silent, done;
    char file[PATH_MAX];
    char error[OPTABLE_ERROR_MAX]; /* of the one that knows the name */
};

static void take_error(struct answer *answer, const sd_bus_error *error)
{
    if (sd_bus_error_get_errno(error) == ETIMEDOUT)
        answer->silent++;
    else if (sd_bus_error_has_name(error, STATUS_ERROR_NOT_HEARD) ||
             sd_bus_error_has_name(error, STATUS_ERROR_SETTING))
        text_copy(answer->error, sizeof(answer->error), error->message ? error->message : "");
    else if (sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_METHOD))
        text_copy(answer->error, sizeof(answer->error), "the earshot that runs is an older one: start it again");
}

/* Everybody is asked: only the process itself knows what it plays. -errno: the bus failed. */
static int ask_all(sd_bus *bus, const char *name, const char *key, const char *value, struct answer *answer)
{
    char **names = NULL;
    int r = sd_bus_list_names(bus, &names, NULL);
    if (r < 0)
        return r;
    for (char **who = names; *who; who++) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *file;
        if (!strncmp(*who, STATUS_NAME_PREFIX, strlen(STATUS_NAME_PREFIX))) {
            answer->asked++;
            r = sd_bus_call_method(bus, *who, STATUS_PATH, STATUS_INTERFACE, "Tune", &error, &reply, "sss", name, key,
                                   value);
            if (r < 0) {
                take_error(answer, &error);
            } else if (sd_bus_message_read(reply, "s", &file) >= 0) {
                text_copy(answer->file, sizeof(answer->file), file);
                answer->done++;
            }
        }
        sd_bus_error_free(&error);
        sd_bus_message_unref(reply);
        free(*who);
    }
    free(names);
    return 0;
}

/* The stream of that name as it is now. False: it is gone. */
static bool look(const char *name, struct status_row *row)
{
    struct json_object *streams;
    bool found = false;
    if (status_ask(&streams) < 0)
        return false;
    for (size_t i = 0; i < json_object_array_length(streams) && !found; i++) {
        status_row_read(row, json_object_array_get_idx(streams, i));
        found = !strcmp(row->name, name);
    }
    json_object_put(streams);
    return found;
}

static bool is_playing(const struct status_row *row)
{
    return !strcmp(row->state, "playing") && row->total_ms > 0.0;
}

/* For a latency that needs another period its device may be opened anew. */
static bool reopens(const struct status_row *row)
{
    return !strcmp(row->state, "starting");
}

/* The stream once it steers to what it was told, or to what can be had instead. */
static bool settle(const char *name, double asked_ms, struct status_row *row)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    bool found = false;
    for (unsigned i = 0; i < LOOKS; i++) {
        nanosleep(&pause, NULL);
        found = look(name, row);
        if (!found || (!is_playing(row) && !reopens(row)) ||
            (asked_ms > 0.0 && fabs(row->target_ms - asked_ms) <= SAME_MS))
            break;
        if (asked_ms <= 0.0 && i >= LOOKS / 3) /* auto says what it finds, and finds it at once or later */
            break;
    }
    return found;
}

static void tell(const char *name, double asked_ms, const struct status_row *before)
{
    struct status_row now;
    if (!settle(name, asked_ms, &now)) {
        printf("%s has ended meanwhile.\n", name);
        return;
    }
    if (!is_playing(&now)) {
        printf("%s does not play now: it will hold as soon as it does.\n", name);
        return;
    }
    double from_ms = before->total_ms > 0.0 ? before->total_ms : now.total_ms;
    double least_ms = now.total_ms - now.parts_ms[1] + 1.0; /* all but the lateness */
    if (asked_ms > 0.0 && fabs(now.target_ms - asked_ms) > SAME_MS)
        printf("%s: %.4g ms cannot be had now, the least is %.1f: plays as auto, at %.1f ms.\n", name, asked_ms,
               least_ms, now.target_ms);
    else if (fabs(now.target_ms - from_ms) < 1.0)
        printf("%s: stays at %.1f ms.\n", name, now.target_ms);
    else
        /* At most: a device that is opened anew for it is there at once. */
        printf("%s: from %.1f to %.1f ms, there within %.0f s.\n", name, from_ms, now.target_ms,
               ceil(fabs(now.target_ms - from_ms) / MOVES_MS_PER_S) + 1.0);
}

static void tell_how_to_keep(const char *file, char *const *settings, unsigned count)
{
    if (*file)
        printf("To keep it when earshot is started again, in %s:\n\n", file);
    else
        printf("To keep it when earshot is started again, on its command line or in a configuration file:\n\n");
    for (unsigned i = 0; i < count; i++) {
        char key[OPTIONS_SETTING_MAX];
        const char *value = options_split_setting(settings[i], key);
        if (*file)
            printf("    %s = %s\n", key, value);
        else
            printf("    --%s %s    or    %s = %s\n", key, value, key, value);
    }
}

/* What a latency is asked for; 0: auto, or none is. */
static double asked_latency_ms(char *const *settings, unsigned count)
{
    struct options options;
    char error[OPTABLE_ERROR_MAX];
    options_init(&options);
    for (unsigned i = 0; i < count; i++) {
        char key[OPTIONS_SETTING_MAX];
        const char *value = options_split_setting(settings[i], key);
        options_tune(&options, key, value, error);
    }
    return (double)options.latency_ns / 1e6;
}

int tune_client(const char *name, char *const *settings, unsigned count)
{
    sd_bus *bus = NULL;
    struct answer answer = {.asked = 0};
    struct status_row before = {.total_ms = 0.0};
    int status = EXIT_FAILURE;
    int r = sd_bus_open_user_with_description(&bus, "earshot-tune");
    if (r >= 0)
        r = sd_bus_set_method_call_timeout(bus, REPLY_WAIT_USEC);
    if (r >= 0)
        look(name, &before);
    for (unsigned i = 0; i < count && r >= 0; i++) {
        char key[OPTIONS_SETTING_MAX];
        const char *value = options_split_setting(settings[i], key);
        answer.asked = answer.silent = answer.done = 0;
        r = ask_all(bus, name, key, value, &answer);
        if (!answer.done)
            break;
    }

    if (r < 0)
        fprintf(stderr, "There is no session bus to ask on (%s).\n", strerror(-r));
    else if (!answer.asked)
        fprintf(stderr, "No earshot is running.\n");
    else if (answer.done) {
        tell(name, asked_latency_ms(settings, count), &before);
        tell_how_to_keep(answer.file, settings, count);
        status = EXIT_SUCCESS;
    } else if (*answer.error)
        fprintf(stderr, "%s.\n", answer.error);
    else if (answer.silent)
        fprintf(stderr, "%u earshot process%s not answer.\n", answer.silent, answer.silent == 1 ? " does" : "es do");
    else
        fprintf(stderr, "No stream is called %s: earshot status lists them.\n", name);
    sd_bus_close(bus);
    sd_bus_unref(bus);
    return status;
}
