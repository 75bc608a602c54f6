/* SPDX-License-Identifier: MIT
 *
 * Command lines. Input: one byte (1: `earshot guest`'s options, 2: called as scream), then words, each ended by a zero
 * byte.
 */
#include "receiver/guest_options.h"
#include "receiver/options.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#define WORDS_MAX 64

static void check_error(const char *error)
{
    size_t length = strnlen(error, OPTABLE_ERROR_MAX);
    fuzz_must(length > 0 && length < OPTABLE_ERROR_MAX);
}

static void check_text(const char *text, const char *from, const char *to)
{
    fuzz_must(!text || (text >= from && text < to && *text));
}

/* What is taken for good is within what the documentation says. */
static void check_options(const struct options *o, const char *from, const char *to)
{
    fuzz_must(o->port > 0 && o->backend && o->group && o->source != FROM_NONE);
    fuzz_must(o->source != FROM_SHM || o->shm_path);
    fuzz_must(o->latency_ns >= 0 && o->latency_ns <= 1000000000);
    fuzz_must(o->max_latency_ns >= 0 && o->max_latency_ns <= 1000000000);
    fuzz_must(o->quality <= RESAMPLER_BEST && o->from_count <= OPTIONS_SENDERS_MAX);
    fuzz_must(o->seconds >= 1 && o->seconds <= 3600);
    fuzz_must(!o->interface || strlen(o->interface) < 16);
    check_text(o->shm_path, from, to);
    check_text(o->interface, from, to);
    check_text(o->target, from, to);
    check_text(o->server, from, to);
    check_text(o->name, from, to);
}

static void check_guest(const struct guest_options *o)
{
    fuzz_must(o->shm_path || o->port > 0);
    fuzz_must(o->seconds >= 0 && o->jitter_ns >= 0 && o->tick_ns >= 0 && o->chunk_ns >= 0);
    fuzz_must(o->channels <= 8 && (o->bits == 0 || o->bits == 16 || o->bits == 24 || o->bits == 32));
    fuzz_must(o->play != GUEST_PLAY_WAV || o->wav_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    uint8_t kind = fuzz_byte(&input) % 3;
    char *words = malloc(input.size + 1);
    fuzz_must(words != NULL);
    memcpy(words, input.data, input.size);
    words[input.size] = 0;
    char earshot[] = "earshot", scream[] = "/usr/bin/scream";
    char *argv[WORDS_MAX + 2] = {kind == 2 ? scream : earshot};
    int argc = 1;
    for (size_t at = 0; at < input.size && argc <= WORDS_MAX; at += strlen(words + at) + 1)
        argv[argc++] = words + at;

    char error[OPTABLE_ERROR_MAX];
    memset(error, 'x', sizeof error);
    if (kind == 1) {
        struct guest_options options;
        int r = guest_options_parse(&options, argc, argv, error);
        fuzz_must(r == 0 || r == -EINVAL || r == -ENOMEM);
        if (r < 0)
            check_error(error);
        else if (!options.help)
            check_guest(&options);
    } else {
        struct options options;
        enum options_command command;
        int rest;
        int r = options_parse(&options, &command, argc, argv, &rest, error);
        fuzz_must(r == 0 || r == -EINVAL || r == -ENOMEM);
        if (r < 0)
            check_error(error);
        else if (command != COMMAND_GUEST)
            check_options(&options, words, words + input.size + 1);
    }
    free(words);
    return 0;
}
