/* SPDX-License-Identifier: MIT */
#include "receiver/doctor.h"

#include "receiver/doctor_check.h"
#include "receiver/log.h"
#include "receiver/text.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#define INDENT "      "

static const char *const area_titles[DOCTOR_AREAS] = {
    [DOCTOR_VM] = "Virtual machines", [DOCTOR_FILE] = "Shared memory", [DOCTOR_NETWORK] = "Network",
    [DOCTOR_SERVICE] = "Earshot",     [DOCTOR_SOUND] = "Sound",        [DOCTOR_REALTIME] = "Real time",
};

/* Appends as much as fits. */
__attribute__((format(printf, 3, 0))) static void append(char *text, size_t size, const char *format, va_list args)
{
    size_t length = strlen(text);
    vsnprintf(text + length, size - length, format, args);
}

void doctor_say(struct doctor *doctor, enum doctor_area area, enum doctor_verdict verdict, const char *format, ...)
{
    doctor->last = NULL;
    if (doctor->finding_count == DOCTOR_FINDINGS_MAX)
        return;
    struct doctor_finding *finding = &doctor->findings[doctor->finding_count];
    *finding = (struct doctor_finding){.area = area, .verdict = verdict};
    va_list args;
    va_start(args, format);
    append(finding->text, sizeof finding->text, format, args);
    va_end(args);
    text_clean(finding->text);
    for (unsigned i = 0; i < doctor->finding_count; i++) {
        if (doctor->findings[i].area == area && strcmp(doctor->findings[i].text, finding->text) == 0)
            return;
    }
    doctor->finding_count++;
    doctor->last = finding;
}

void doctor_fix(struct doctor *doctor, const char *format, ...)
{
    if (!doctor->last)
        return;
    char *fix = doctor->last->fix;
    size_t length = strlen(fix);
    if (length + 2 >= DOCTOR_FIX_MAX)
        return;
    if (length)
        strcpy(fix + length++, "\n");
    va_list args;
    va_start(args, format);
    append(fix, DOCTOR_FIX_MAX, format, args);
    va_end(args);
    text_clean(fix + length);
}

void doctor_root_would(struct doctor *doctor, const char *what)
{
    if (doctor->env->is_root || strstr(doctor->root_would, what))
        return;
    size_t length = strlen(doctor->root_would);
    snprintf(doctor->root_would + length, sizeof doctor->root_would - length, "%s%s", length ? "; " : "", what);
}

struct doctor_quoted doctor_quote(const char *text)
{
    struct doctor_quoted quoted = {{0}};
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@%+=,-";
    if (*text && strspn(text, plain) == strlen(text) && strlen(text) < sizeof quoted.text) {
        strcpy(quoted.text, text);
        return quoted;
    }
    size_t to = 0;
    quoted.text[to++] = '\'';
    for (; *text && to < sizeof quoted.text - 6; text++) {
        if (*text == '\'') {
            memcpy(quoted.text + to, "'\\''", 4);
            to += 4;
        } else {
            quoted.text[to++] = *text;
        }
    }
    quoted.text[to] = '\'';
    return quoted;
}

struct json_object *doctor_member(struct json_object *object, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

const char *doctor_text(struct json_object *object, const char *key)
{
    struct json_object *value = doctor_member(object, key);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

bool doctor_plays(struct json_object *stream, const struct options *options)
{
    struct json_object *source = doctor_member(stream, "source");
    const char *address = doctor_text(source, "address");
    bool shm = !strcmp(doctor_text(source, "kind"), "shm");
    struct in_addr sender;
    if (options->source == FROM_SHM)
        return shm && doctor_same_file(address, options->shm_path);
    if (shm || inet_pton(AF_INET, address, &sender) != 1 || options->from_count == 0)
        return !shm;
    for (unsigned i = 0; i < options->from_count; i++) {
        if (options->from[i] == sender.s_addr)
            return true;
    }
    return false;
}

static void show_progress(const struct doctor_params *params, enum doctor_area area)
{
    if (params->progress) {
        fprintf(params->progress, "\r\033[K%s ...", area_titles[area]);
        fflush(params->progress);
    }
}

/* Who has several machines need not have all of them on: then one that is off is no fault while another plays. */
static void find_playing(struct doctor *doctor, const struct doctor_params *params, const struct doctor_ring *rings)
{
    size_t count = doctor->streams ? json_object_array_length(doctor->streams) : 0;
    for (unsigned i = 0; i < params->source_count && params->source_count > 1; i++) {
        doctor->another_plays |= params->sources[i]->source == FROM_SHM && rings[i].state == RING_PLAYING;
        for (size_t k = 0; k < count; k++) {
            struct json_object *stream = json_object_array_get_idx(doctor->streams, k);
            doctor->another_plays |=
                doctor_plays(stream, params->sources[i]) && !strcmp(doctor_text(stream, "state"), "playing");
        }
    }
}

/* Every area asks only what it needs; what is on the way first is first in the list. */
static void check(struct doctor *doctor, const struct doctor_params *params, struct doctor_ring *rings)
{
    show_progress(params, DOCTOR_VM);
    doctor_look_at_processes(doctor);
    if (doctor->env->streams(doctor->env->arg, &doctor->streams) < 0)
        doctor->streams = NULL;
    show_progress(params, DOCTOR_FILE);
    for (unsigned i = 0; i < params->source_count; i++) {
        if (params->sources[i]->source == FROM_SHM)
            doctor_look_at_ring(doctor->env, params->sources[i]->shm_path, &rings[i]);
    }
    find_playing(doctor, params, rings);
    for (unsigned i = 0; i < params->source_count; i++) {
        const struct options *options = params->sources[i];
        if (options->source == FROM_SHM) {
            doctor_check_vm(doctor, options, &rings[i]);
            doctor_check_file(doctor, options, &rings[i]);
        } else {
            show_progress(params, DOCTOR_NETWORK);
            doctor_check_network(doctor, options);
        }
    }
    show_progress(params, DOCTOR_SERVICE);
    for (unsigned i = 0; i < params->source_count; i++)
        doctor_check_service(doctor, params->sources[i]);
    show_progress(params, DOCTOR_SOUND);
    for (unsigned i = 0; i < params->source_count; i++)
        doctor_check_sound(doctor, params->sources[i]);
    show_progress(params, DOCTOR_REALTIME);
    doctor_check_realtime(doctor);
    if (params->progress) {
        fprintf(params->progress, "\r\033[K");
        fflush(params->progress);
    }
}

static void print_finding(const struct doctor_finding *finding, FILE *out, bool colour, bool with_fix)
{
    static const struct {
        const char *word, *colour;
    } looks[] = {
        [DOCTOR_OK] = {"ok  ", "\033[32m"  },
        [DOCTOR_SKIP] = {"-   ", "\033[2m"   },
        [DOCTOR_WARN] = {"warn", "\033[33m"  },
        [DOCTOR_FAIL] = {"FAIL", "\033[1;31m"},
    };
    fprintf(out, "%s%s%s  %s\n", colour ? looks[finding->verdict].colour : "", looks[finding->verdict].word,
            colour ? "\033[0m" : "", finding->text);
    for (const char *line = finding->fix; with_fix && *line;) {
        size_t length = strcspn(line, "\n");
        fprintf(out, INDENT "%.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

/* Returns how many there are. */
static unsigned print_all(const struct doctor *doctor, enum doctor_verdict verdict, FILE *out, bool colour,
                          bool print)
{
    unsigned count = 0;
    for (unsigned area = 0; area < DOCTOR_AREAS; area++) {
        for (unsigned i = 0; i < doctor->finding_count; i++) {
            const struct doctor_finding *finding = &doctor->findings[i];
            if (finding->area != area || finding->verdict != verdict)
                continue;
            count++;
            if (print)
                print_finding(finding, out, colour, true);
        }
    }
    return count;
}

static void print_ways(const struct doctor *doctor, FILE *out, bool colour)
{
    for (unsigned area = 0; area < DOCTOR_AREAS; area++) {
        bool titled = false;
        for (unsigned i = 0; i < doctor->finding_count; i++) {
            const struct doctor_finding *finding = &doctor->findings[i];
            if (finding->area != area)
                continue;
            if (!titled)
                fprintf(out, "\n%s\n", area_titles[area]);
            titled = true;
            print_finding(finding, out, colour, finding->verdict != DOCTOR_FAIL);
        }
    }
    fprintf(out, "\n");
}

static int report(const struct doctor *doctor, const struct doctor_params *params)
{
    struct log look;
    log_init(&look, params->out, false);
    FILE *out = params->out;
    unsigned failed = print_all(doctor, DOCTOR_FAIL, out, look.colour, true);
    unsigned warned = print_all(doctor, DOCTOR_WARN, out, look.colour, !params->verbose);
    unsigned fine = print_all(doctor, DOCTOR_OK, out, look.colour, false);
    if (params->verbose)
        print_ways(doctor, out, look.colour);
    if (failed)
        fprintf(out, "%u broken: mend the first one first. ", failed);
    else
        fprintf(out, "Nothing is broken. ");
    if (warned)
        fprintf(out, "%u to look at. ", warned);
    fprintf(out, "%u %s fine%s.\n", fine, fine == 1 ? "check is" : "checks are",
            params->verbose ? "" : ": earshot doctor -v lists them all");
    if (doctor->root_would[0])
        fprintf(out, "With sudo it also sees: %s.\n", doctor->root_would);
    return failed > 0;
}

int doctor_run(const struct doctor_params *params)
{
    struct doctor_env here;
    if (!params->env)
        here = doctor_env_here();
    struct doctor doctor = {.env = params->env ? params->env : &here};
    int status = 1;
    doctor.findings = calloc(DOCTOR_FINDINGS_MAX, sizeof *doctor.findings);
    doctor.vms = calloc(DOCTOR_VMS_MAX, sizeof *doctor.vms);
    doctor.wire = calloc(1, sizeof *doctor.wire);
    struct doctor_ring *rings = calloc(params->source_count, sizeof *rings);
    if (doctor.findings && doctor.vms && doctor.wire && rings) {
        check(&doctor, params, rings);
        status = report(&doctor, params);
    } else {
        fprintf(stderr, "earshot: out of memory\n");
    }
    json_object_put(doctor.streams);
    free(rings);
    free(doctor.wire);
    free(doctor.vms);
    free(doctor.findings);
    return status;
}
