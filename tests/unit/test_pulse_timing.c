/* SPDX-License-Identifier: MIT */
#include "backends/pulse_timing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS     INT64_C(1000000)
#define SECOND (1000 * MS)
#define RATE   48000

static void test_buffer(void **state)
{
    (void)state;
    static const struct {
        int64_t period_ns;
        uint32_t rate, request;
    } cases[] = {
        {15 * MS,          48000,  240  },
        {15 * MS,          44100,  221  },
        {15 * MS,          192000, 960  },
        {14 * MS,          48000,  216  }, /* in steps of half a millisecond */
        {INT64_C(2700000), 48000,  43   }, /* below a millisecond there are none */
        {1,                48000,  32   },
        {0,                48000,  32   },
        {100 * SECOND,     48000,  12000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pulse_buffer buffer;
        pulse_buffer_choose(&buffer, cases[i].period_ns, cases[i].rate);
        assert_int_equal(buffer.request, cases[i].request);
        assert_int_equal(buffer.total, 4 * cases[i].request);
    }
}

/* A server that plays from frame 1000 at 7 s, and says so with some delay. */
static double heard(int64_t ns)
{
    return 1000.0 + (double)(ns - 7 * SECOND) * RATE / (double)SECOND;
}

static enum pulse_verdict answer(struct pulse_clock *clock, int64_t ns, int64_t held_up_ns)
{
    return pulse_clock_answer(clock, ns + held_up_ns, heard(ns));
}

static void assert_on_line(const struct pulse_clock *clock, int64_t ns, int64_t within_ns)
{
    const int64_t frame = (int64_t)heard(ns);
    assert_true(llabs(pulse_clock_heard_ns(clock, frame) - ns) <= within_ns + SECOND / RATE);
    assert_true(llabs(pulse_clock_frame(clock, ns) - frame) <= within_ns * RATE / SECOND + 1);
}

static void test_clock_goes_on_between_answers(void **state)
{
    (void)state;
    struct pulse_clock clock;
    pulse_clock_reset(&clock, RATE);
    assert_true(clock.at_ns == 0);
    assert_int_equal(answer(&clock, 7 * SECOND, 0), PULSE_JUMPED);
    assert_on_line(&clock, 7 * SECOND, 0);
    assert_on_line(&clock, 8 * SECOND, 0);
    assert_int_equal(answer(&clock, 7 * SECOND + 100 * MS, MS / 5), PULSE_TAKEN);
    assert_on_line(&clock, 8 * SECOND, MS / 5);
}

static void test_clock_doubts_who_was_held_up(void **state)
{
    (void)state;
    struct pulse_clock clock;
    pulse_clock_reset(&clock, RATE);
    answer(&clock, 7 * SECOND, 0);
    /* Two are late, the third is not: nothing has moved. */
    assert_int_equal(answer(&clock, 7 * SECOND + 100 * MS, 3 * MS), PULSE_DOUBTED);
    assert_int_equal(answer(&clock, 7 * SECOND + 105 * MS, MS / 2), PULSE_DOUBTED);
    assert_on_line(&clock, 8 * SECOND, 0);
    assert_int_equal(answer(&clock, 7 * SECOND + 110 * MS, 0), PULSE_TAKEN);
    assert_on_line(&clock, 8 * SECOND, 0);
    /* A server that always is: the one that was least counts. However small, it is told: as part of the line it would
     * be a clock that runs a hundred ppm wrong for half a minute. */
    assert_int_equal(answer(&clock, 8 * SECOND, 4 * MS), PULSE_DOUBTED);
    assert_int_equal(answer(&clock, 8 * SECOND + 5 * MS, MS / 2), PULSE_DOUBTED);
    assert_int_equal(answer(&clock, 8 * SECOND + 10 * MS, 3 * MS), PULSE_DOUBTED);
    assert_int_equal(answer(&clock, 8 * SECOND + 15 * MS, 2 * MS), PULSE_JUMPED);
    assert_on_line(&clock, 9 * SECOND, MS / 2);
}

static void test_clock_believes_a_jump(void **state)
{
    (void)state;
    for (int direction = -1; direction <= 1; direction += 2) {
        struct pulse_clock clock;
        pulse_clock_reset(&clock, RATE);
        answer(&clock, 7 * SECOND, 0);
        const double jump = direction * 0.005 * RATE;
        unsigned doubts = 0;
        int64_t ns = 7 * SECOND + 100 * MS;
        enum pulse_verdict verdict;
        while ((verdict = pulse_clock_answer(&clock, ns, heard(ns) + jump)) == PULSE_DOUBTED && doubts++ < 10)
            ns += 5 * MS;
        assert_int_equal(verdict, PULSE_JUMPED);
        assert_true(doubts > 0 && doubts < 5);
        assert_true(llabs(pulse_clock_frame(&clock, 8 * SECOND) - (int64_t)(heard(8 * SECOND) + jump)) <= 1);
        /* From then on that is the line. */
        ns += 100 * MS;
        assert_int_equal(pulse_clock_answer(&clock, ns, heard(ns) + jump), PULSE_TAKEN);
    }
}

static void test_lead_rises_at_once_and_falls_late(void **state)
{
    (void)state;
    struct pulse_lead lead = {0};
    int64_t ns = 100 * SECOND;
    assert_true(pulse_lead_follow(&lead, 720, RATE, ns));
    const int64_t first = lead.frames;
    assert_true(first >= 720 && first <= 720 + RATE / 1000);
    /* Requests that come late, and small differences, are nothing. */
    assert_false(pulse_lead_follow(&lead, 500, RATE, ns += 5 * MS));
    assert_false(pulse_lead_follow(&lead, 723, RATE, ns += 5 * MS));
    assert_true(lead.frames == first);
    assert_true(pulse_lead_follow(&lead, 900, RATE, ns += 5 * MS));
    const int64_t highest = lead.frames;
    assert_true(highest >= 900);
    unsigned changes = 0;
    int64_t changed_ns = 0;
    const int64_t risen_ns = ns;
    for (int i = 0; i < 12000; i++) {
        ns += 5 * MS;
        if (pulse_lead_follow(&lead, 715 + i % 10, RATE, ns)) {
            changes++;
            changed_ns = ns;
        }
    }
    assert_int_equal(changes, 1);
    assert_true(changed_ns - risen_ns >= 9 * SECOND && changed_ns - risen_ns <= 31 * SECOND);
    assert_true(lead.frames >= 724 && lead.frames <= 724 + RATE / 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_clock_goes_on_between_answers),
        cmocka_unit_test(test_clock_doubts_who_was_held_up),
        cmocka_unit_test(test_clock_believes_a_jump),
        cmocka_unit_test(test_lead_rises_at_once_and_falls_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
