/* SPDX-License-Identifier: MIT */
#include "receiver/target.h"
#include "tests/unit/near.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS            1e6
#define SECOND        INT64_C(1000000000)
#define START_NS      (1000 * SECOND)
#define CHUNK_NS      INT64_C(20000000)
#define STALL_ROOM_MS 1.75 /* target.c: STALL_MARGIN_NS */

struct guest {
    struct target_hold target;
    int64_t now_ns;
};

static void guest_init(struct guest *guest, double initial_ns)
{
    guest->now_ns = START_NS;
    target_init(&guest->target, initial_ns);
}

static void arrive(struct guest *guest, double lateness_ns, enum clock_verdict verdict)
{
    guest->now_ns += CHUNK_NS;
    target_update(&guest->target, guest->now_ns, lateness_ns, verdict);
}

/* Arrivals between 20 ms and the given lateness for so many seconds. */
static void steady(struct guest *guest, double most_ns, int seconds)
{
    for (int i = 0; i < seconds * 50; i++)
        arrive(guest, i % 10 == 0 ? most_ns : 20.0 * MS, CLOCK_TRACKED);
}

/* One that has left its lessons behind: 20 to 25 ms late for five minutes. */
static void guest_settled(struct guest *guest)
{
    guest_init(guest, 38.0 * MS);
    steady(guest, 25.0 * MS, 300);
}

static double hold_ms(const struct guest *guest)
{
    return guest->target.hold_ns / MS;
}

static void learns_what_was_seen(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest, 38.0 * MS);
    assert_near(hold_ms(&guest), 38.0, 1e-9);
    steady(&guest, 25.0 * MS, 2);
    assert_near(hold_ms(&guest), 38.0, 1e-9); /* too early to tell */
    steady(&guest, 25.0 * MS, 2);
    assert_true(hold_ms(&guest) >= 25.5 && hold_ms(&guest) <= 27.0);
    steady(&guest, 25.0 * MS, 300);
    assert_true(hold_ms(&guest) >= 25.5 && hold_ms(&guest) <= 26.5);
}

/* No lesson leaves the hold without a margin above what it was drawn from. */
static void lessons_leave_a_margin(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest, 38.0 * MS);
    arrive(&guest, 25.0 * MS, CLOCK_TRACKED);
    while (guest.now_ns < START_NS + 29 * SECOND) { /* as long as that one is remembered for certain */
        arrive(&guest, 22.0 * MS, CLOCK_TRACKED);
        assert_true(hold_ms(&guest) >= 25.5);
    }
    while (guest.now_ns < START_NS + 200 * SECOND) {
        arrive(&guest, 22.0 * MS, CLOCK_TRACKED);
        assert_true(hold_ms(&guest) >= 22.5);
    }
}

static void raised_at_once(void **state)
{
    (void)state;
    struct guest guest;
    guest_settled(&guest);
    arrive(&guest, 33.0 * MS, CLOCK_TRACKED);
    assert_true(hold_ms(&guest) >= 33.5);
    assert_true(hold_ms(&guest) <= 33.5 + 0.5 * (33.0 - 25.0) + 0.5);
}

/* Not even a hair's breadth of margin is left: that is raised, too, or the next one finds none. */
static void raised_before_it_is_exceeded(void **state)
{
    (void)state;
    struct guest guest;
    guest_settled(&guest);
    double before_ns = guest.target.hold_ns;
    arrive(&guest, before_ns - 0.05 * MS, CLOCK_TRACKED);
    assert_near(hold_ms(&guest), before_ns / MS - 0.05 + 0.5, 1e-6);
}

/* It is not jitter. But the driver may go on at another phase of its timer: what comes next may be a little later than
 * anything so far. */
static void one_stall_leaves_room_for_what_comes_next(void **state)
{
    (void)state;
    struct guest guest;
    guest_settled(&guest);
    arrive(&guest, 130.0 * MS, CLOCK_TRACKED);
    assert_near(hold_ms(&guest), 25.0 + STALL_ROOM_MS, 1e-9);
    steady(&guest, 25.0 * MS, 55);
    assert_near(hold_ms(&guest), 25.0 + STALL_ROOM_MS, 1e-9);
    arrive(&guest, 25.0 * MS + (STALL_ROOM_MS - 0.2) * MS, CLOCK_TRACKED); /* it was needed */
    assert_near(hold_ms(&guest), 25.0 + STALL_ROOM_MS, 1e-9);
    steady(&guest, 25.0 * MS, 160); /* nor is it remembered as a maximum */
    assert_near(hold_ms(&guest), 25.5, 0.1);
}

/* The second one within a minute of the first counts; later it is a first one again. */
static void second_stall(void **state)
{
    (void)state;
    static const struct row {
        int after_s;
        bool raises;
    } rows[] = {
        {1,  true },
        {40, true },
        {59, true },
        {61, false},
        {75, false}
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct guest guest;
        guest_settled(&guest);
        arrive(&guest, 100.0 * MS, CLOCK_TRACKED);
        int64_t first_ns = guest.now_ns;
        while (guest.now_ns + CHUNK_NS < first_ns + rows[i].after_s * SECOND)
            arrive(&guest, 24.0 * MS, CLOCK_TRACKED);
        arrive(&guest, 90.0 * MS, CLOCK_TRACKED);
        if (rows[i].raises)
            assert_true(hold_ms(&guest) >= 100.0); /* the worse of the two */
        else
            assert_true(hold_ms(&guest) <= 25.0 + STALL_ROOM_MS);
    }
}

/* A stall every 75 s for ten minutes: the gate's "within 3 ms of what it is without them". */
static void rare_stalls(void **state)
{
    (void)state;
    struct guest guest;
    guest_settled(&guest);
    double before = hold_ms(&guest);
    for (int i = 0; i < 8; i++) {
        arrive(&guest, 120.0 * MS, CLOCK_LATE);
        steady(&guest, 25.0 * MS, 75);
        assert_near(hold_ms(&guest), before, 1.0);
    }
    arrive(&guest, 120.0 * MS, CLOCK_LATE);
    steady(&guest, 25.0 * MS, 40);
    arrive(&guest, 120.0 * MS, CLOCK_LATE);
    arrive(&guest, 24.0 * MS, CLOCK_TRACKED);
    assert_true(hold_ms(&guest) >= 120.0);
}

/* Lowered only after a minute clearly below, and then to what that minute needed. */
static void lowered_after_a_minute(void **state)
{
    (void)state;
    struct guest guest;
    guest_settled(&guest);
    arrive(&guest, 40.0 * MS, CLOCK_TRACKED);
    double raised = hold_ms(&guest);
    assert_true(raised >= 40.5);
    int64_t from_ns = guest.now_ns;
    while (hold_ms(&guest) == raised && guest.now_ns < from_ns + 200 * SECOND)
        arrive(&guest, 25.0 * MS, CLOCK_TRACKED);
    assert_true(guest.now_ns - from_ns >= 60 * SECOND - CHUNK_NS);
    assert_true(hold_ms(&guest) >= 25.5);
    steady(&guest, 25.0 * MS, 125); /* 60 to 90 s until the maximum is forgotten, and a minute below */
    assert_near(hold_ms(&guest), 25.5, 0.1);

    /* One that comes near it within the minute keeps it. */
    guest_settled(&guest);
    arrive(&guest, 40.0 * MS, CLOCK_TRACKED);
    raised = hold_ms(&guest);
    for (int i = 0; i < 10; i++) {
        steady(&guest, 25.0 * MS, 50);
        arrive(&guest, raised * MS - 1.0 * MS, CLOCK_TRACKED);
        assert_near(hold_ms(&guest), raised, 1e-9);
    }
}

/* Late arrivals wait for the line's verdict. */
static void late_is_pending(void **state)
{
    (void)state;
    struct guest guest;
    guest_settled(&guest);
    double before = hold_ms(&guest);
    for (int i = 0; i < 5; i++) {
        arrive(&guest, (35.0 + i) * MS, CLOCK_LATE);
        assert_near(hold_ms(&guest), before, 1e-9);
    }
    struct guest moved = guest;
    arrive(&guest, 24.0 * MS, CLOCK_TRACKED); /* the line was right: they were late */
    assert_true(hold_ms(&guest) >= 39.5);

    arrive(&moved, 40.0 * MS, CLOCK_REANCHORED); /* the line was wrong */
    assert_near(hold_ms(&moved), before, 1e-9);
    arrive(&moved, 24.0 * MS, CLOCK_TRACKED);
    assert_near(hold_ms(&moved), before, 1e-9);
}

/* Every arrival of the first seconds was off the line: there is nothing to learn from yet. */
static void no_lesson_from_nothing(void **state)
{
    (void)state;
    struct guest guest;
    guest_init(&guest, 38.0 * MS);
    while (guest.now_ns < START_NS + 25 * SECOND) {
        arrive(&guest, 20.0 * MS, CLOCK_REANCHORED);
        assert_near(hold_ms(&guest), 38.0, 1e-9);
    }
    guest_init(&guest, 38.0 * MS);
    while (guest.now_ns < START_NS + 25 * SECOND) {
        arrive(&guest, -5.0 * MS, CLOCK_TRACKED);
        assert_near(hold_ms(&guest), 38.0, 1e-9);
    }
}

/* Whatever the guest does in whatever order, the hold covers the last regular arrival and stays finite. */
static void any_order(void **state)
{
    (void)state;
    uint64_t random = 1;
    struct guest guest;
    guest_init(&guest, 22.0 * MS);
    for (int i = 0; i < 200000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        double lateness_ns = (double)(random >> 40) / (double)(1 << 24) * 60.0 * MS - 10.0 * MS;
        guest.now_ns += (int64_t)(random >> 33) % (100 * (int64_t)MS);
        double before_ns = guest.target.hold_ns;
        target_update(&guest.target, guest.now_ns, lateness_ns, CLOCK_TRACKED);
        assert_true(guest.target.hold_ns > 0.0 && guest.target.hold_ns < 200.0 * MS);
        if (lateness_ns <= 2.0 * before_ns)
            assert_true(guest.target.hold_ns >= lateness_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_what_was_seen),
        cmocka_unit_test(lessons_leave_a_margin),
        cmocka_unit_test(raised_at_once),
        cmocka_unit_test(raised_before_it_is_exceeded),
        cmocka_unit_test(one_stall_leaves_room_for_what_comes_next),
        cmocka_unit_test(second_stall),
        cmocka_unit_test(rare_stalls),
        cmocka_unit_test(lowered_after_a_minute),
        cmocka_unit_test(late_is_pending),
        cmocka_unit_test(no_lesson_from_nothing),
        cmocka_unit_test(any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
