/* SPDX-License-Identifier: MIT
 *
 * What `auto` chooses among servers that come and go, in a time that the test makes.
 */
#include "receiver/output.h"
#include "tests/unit/said.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS_NS INT64_C(1000000)

struct fixture {
    struct said said;
    struct output *output;
    int64_t now_ns;
};

static int context_result;
static unsigned contexts; /* that exist */

static int context_open(struct backend_context **context, const struct backend_context_params *params)
{
    (void)params;
    if (context_result < 0)
        return context_result;
    contexts++;
    *context = (struct backend_context *)&contexts;
    return 0;
}

static enum backend_state context_state(struct backend_context *context)
{
    assert_ptr_equal(context, &contexts);
    return BACKEND_OK;
}

static void context_close(struct backend_context *context)
{
    if (context)
        contexts--;
}

enum { PIPEWIRE, PULSE, JACK, ALSA, SERVERS };

static int seen[SERVERS]; /* what each probe answers */
static unsigned probes[SERVERS];

static int probe_pipewire(const struct backend_context_params *params)
{
    (void)params;
    probes[PIPEWIRE]++;
    return seen[PIPEWIRE];
}

static int probe_pulse(const struct backend_context_params *params)
{
    (void)params;
    probes[PULSE]++;
    return seen[PULSE];
}

static int probe_jack(const struct backend_context_params *params)
{
    (void)params;
    probes[JACK]++;
    return seen[JACK];
}

static int probe_alsa(const struct backend_context_params *params)
{
    (void)params;
    probes[ALSA]++;
    return seen[ALSA];
}

#define SERVER(a_name, mixer, last, a_probe)                                                                         \
    {                                                                                                                \
        .name = a_name, .title = a_name, .for_auto = true, .has_mixer = mixer, .last_resort = last,                  \
        .probe = a_probe, .context_open = context_open, .context_state = context_state,                              \
        .context_close = context_close                                                                               \
    }
static const struct backend servers[SERVERS] = {
    [PIPEWIRE] = SERVER("PipeWire", true, false, probe_pipewire),
    [PULSE] = SERVER("PulseAudio", true, false, probe_pulse),
    [JACK] = SERVER("JACK", false, false, probe_jack),
    [ALSA] = SERVER("ALSA", false, true, probe_alsa),
};
static const struct backend *const all[] = {&servers[PIPEWIRE], &servers[PULSE], &servers[JACK], &servers[ALSA],
                                            NULL};

static void set_up_servers(struct fixture *f, int pipewire, int pulse, int jack, int alsa)
{
    const int answers[SERVERS] = {pipewire, pulse, jack, alsa};
    memcpy(seen, answers, sizeof seen);
    memset(probes, 0, sizeof probes);
    contexts = 0;
    context_result = 0;
    memset(f, 0, sizeof *f);
    f->now_ns = 1000000 * MS_NS;
    said_open(&f->said);
    const struct output_params params = {.auto_choices = all, .log = &f->said.log};
    assert_int_equal(output_create(&f->output, &params), 0);
}

static void tear_down(struct fixture *f)
{
    output_destroy(f->output);
    said_close(&f->said);
    assert_int_equal(contexts, 0);
}

/* Runs until it has chosen or `limit_ns` has passed. Returns how long that took. */
static int64_t choose(struct fixture *f, int64_t limit_ns)
{
    const int64_t start_ns = f->now_ns;
    while (!output_backend(f->output) && f->now_ns <= start_ns + limit_ns) {
        const int64_t next_ns = output_run(f->output, f->now_ns);
        if (next_ns == INT64_MAX)
            break;
        f->now_ns = next_ns;
    }
    return f->now_ns - start_ns;
}

#define DOWN   (-EHOSTDOWN)
#define NOSINK (-ENODEV)

static void test_auto_order(void **state)
{
    (void)state;
    static const struct {
        int seen[SERVERS];
        int chosen; /* -1: none within a minute */
        int64_t least_ms, most_ms;
    } rows[] = {
        {{0, 0, 0, 0},             PIPEWIRE, 0,     0    },
        {{DOWN, 0, 0, 0},          PULSE,    0,     0    },
        {{NOSINK, 0, 0, 0},        PULSE,    0,     0    },
        {{DOWN, DOWN, 0, 0},       JACK,     0,     0    },
        {{NOSINK, NOSINK, 0, 0},   JACK,     0,     0    },
        {{DOWN, DOWN, DOWN, 0},    ALSA,     10000, 10000},
        {{DOWN, DOWN, NOSINK, 0},  ALSA,     10000, 10000}, /* JACK has no mixer to wait for */
        {{NOSINK, DOWN, DOWN, 0},  -1,       60000, 70000}, /* it has the devices, and waits for one */
        {{DOWN, NOSINK, DOWN, 0},  -1,       60000, 70000},
        {{DOWN, DOWN, DOWN, DOWN}, -1,       60000, 70000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fixture f;
        const int *answers = rows[i].seen;
        set_up_servers(&f, answers[PIPEWIRE], answers[PULSE], answers[JACK], answers[ALSA]);
        const int64_t took_ms = choose(&f, 60000 * MS_NS) / MS_NS;
        const struct backend *chosen = output_backend(f.output);
        if (chosen != (rows[i].chosen < 0 ? NULL : &servers[rows[i].chosen]) || took_ms < rows[i].least_ms ||
            took_ms > rows[i].most_ms)
            fail_msg("row %zu: %s after %d ms", i, chosen ? chosen->name : "nothing", (int)took_ms);
        /* One line says which, and why. */
        assert_int_equal(said_times(&f.said, "Playing through"), rows[i].chosen >= 0);
        assert_int_equal(said_times(&f.said, "it is running and has an output device"),
                         rows[i].chosen >= 0 && took_ms == 0);
        assert_int_equal(said_times(&f.said, "no sound server has appeared within 10 s"), rows[i].chosen == ALSA);
        if (took_ms == 0)
            assert_int_equal(probes[ALSA], 0); /* opening the device is not done for nothing */
        tear_down(&f);
    }
}

/* The ten seconds begin when the last server with a mixer has gone. */
static void test_auto_server_goes(void **state)
{
    (void)state;
    struct fixture f;
    set_up_servers(&f, DOWN, NOSINK, DOWN, 0);
    choose(&f, 30000 * MS_NS);
    assert_null(output_backend(f.output));
    seen[PULSE] = DOWN;
    const int64_t took_ms = choose(&f, 30000 * MS_NS) / MS_NS;
    assert_ptr_equal(output_backend(f.output), &servers[ALSA]);
    assert_true(took_ms >= 10000 && took_ms <= 11000);
    tear_down(&f);
}

/* A server that comes within the time is taken, and is not left for a better one. */
static void test_auto_server_comes(void **state)
{
    (void)state;
    struct fixture f;
    set_up_servers(&f, DOWN, DOWN, DOWN, 0);
    choose(&f, 8000 * MS_NS);
    assert_null(output_backend(f.output));
    seen[JACK] = 0;
    assert_true(choose(&f, 30000 * MS_NS) <= 1000 * MS_NS);
    assert_ptr_equal(output_backend(f.output), &servers[JACK]);

    seen[PIPEWIRE] = 0;
    output_drop(f.output, f.now_ns);
    context_result = -EHOSTDOWN;
    for (unsigned i = 0; i < 30; i++)
        f.now_ns = output_run(f.output, f.now_ns);
    assert_ptr_equal(output_backend(f.output), &servers[JACK]);
    assert_null(output_context(f.output));
    context_result = 0;
    assert_true(output_run(f.output, f.now_ns) == INT64_MAX);
    assert_int_equal(said_times(&f.said, "JACK is back"), 1);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_order),
        cmocka_unit_test(test_auto_server_goes),
        cmocka_unit_test(test_auto_server_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
