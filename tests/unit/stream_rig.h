/* SPDX-License-Identifier: MIT
 *
 * Output and stream against a backend that fails as it is told, in a time that the test makes.
 */
#ifndef EARSHOT_TESTS_STREAM_RIG_H
#define EARSHOT_TESTS_STREAM_RIG_H

#include "receiver/stream.h"
#include "tests/unit/said.h"

#define MS_NS       INT64_C(1000000)
#define FAKE_THREAD 4711

/* What the fake is told, and what was done to it. One at a time: cmocka runs one test after the other. */
struct fake {
    int probe_result, context_result, open_result, start_result;
    enum backend_state context_state, stream_state;
    unsigned contexts, streams, running; /* that exist, that run */
    unsigned opens, starts, stops, asked_periods;
    int64_t asked_ns;                    /* the last of them */
    int64_t beyond_frames;               /* > 0: the device's delay beyond a buffer of two periods */
    struct backend_stream_params params; /* of the last open */
};

extern struct fake fake;

extern const struct backend fake_backend, fake_manual;
extern const struct backend fake_exclusive; /* nobody else can play through it meanwhile; its period stays */

struct fixture {
    struct said said;
    struct output *output;
    struct stream *stream;
    int64_t now_ns;
};

extern const struct pcm_format dvd, cd, surround;

struct feed *new_feed(const struct pcm_format *format);

void set_up_output(struct fixture *f, const struct backend *chosen, const struct backend *const *choices);
void set_up_with(struct fixture *f, const struct backend *chosen);
void set_up(struct fixture *f);
void tear_down(struct fixture *f);

/* Gives the stream a feed, and lets it take that up. */
void play(struct fixture *f, const struct pcm_format *format);

enum stream_state state_of(struct fixture *f);
void pull(struct fixture *f);

#endif
