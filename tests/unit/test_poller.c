/* SPDX-License-Identifier: MIT */
#include "receiver/poller.h"
#include "tests/unit/near.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS     1000000LL
#define SECOND 1000000000LL

/* A guest under a virtual clock: chunk k is complete at start + k * period + a lateness of its own. */
struct guest {
    double period_ns, late_ns; /* each chunk is late by up to late_ns, evenly */
    double odd_ns;             /* and one in a hundred by so much more */
    int64_t start_ns;
    uint64_t random;
    int64_t patience_ns; /* of whoever hears it; then each look comes as late as it may */
};

static int64_t complete_ns(const struct guest *guest, int64_t chunk)
{
    uint64_t x = (guest->random + (uint64_t)chunk) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    double late = guest->late_ns * (double)(x >> 40) / (double)(1 << 24);
    if (chunk % 100 == 99)
        late += guest->odd_ns;
    return guest->start_ns + (int64_t)((double)chunk * guest->period_ns + late);
}

struct result {
    double error_mean_ns, error_rms_ns; /* of the chunks that were timed */
    double delay_mean_ns, looks_per_chunk, timed;
    int64_t delay_max_ns, late_max_ns; /* after the chunk, and after its time */
    unsigned coarse;
};

/* Runs until `chunks` were seen; judges from chunk 100 on. */
static struct result run(struct poller *poller, const struct guest *guest, int64_t chunks)
{
    struct result r = {0};
    double sum = 0, squares = 0, delays = 0;
    int64_t seen = 0, now = poller->look_ns, last = now, looks = 0, judged = 0, timed = 0;
    while (seen < chunks) {
        now = poller_next_ns(poller, guest->patience_ns);
        now += poller->slack_ns;
        assert_true(now >= last + MS / 2);
        int64_t found = seen;
        while (complete_ns(guest, found + 1) <= now)
            found++;
        if (seen >= 100)
            looks++;
        if (found > seen) {
            struct poller_arrival a = poller_seen(poller, now, last, (uint32_t)(found - seen));
            assert_true(a.arrival_ns <= now);
            assert_true(a.arrival_ns >= now - a.window_ns);
            if (seen >= 100) {
                double error = (double)(a.arrival_ns - complete_ns(guest, found));
                int64_t delay = now - complete_ns(guest, found);
                int64_t late = now - guest->start_ns - (int64_t)((double)found * guest->period_ns);
                if (!a.untimed) {
                    sum += error;
                    squares += error * error;
                    timed++;
                    r.coarse += a.coarse;
                }
                if (late > r.late_max_ns)
                    r.late_max_ns = late;
                delays += (double)delay;
                if (delay > r.delay_max_ns)
                    r.delay_max_ns = delay;
                judged++;
            }
            seen = found;
        } else {
            poller_missed(poller, now);
        }
        last = now;
    }
    r.error_mean_ns = sum / (double)timed;
    r.error_rms_ns = sqrt(squares / (double)timed);
    r.timed = (double)timed / (double)judged;
    r.delay_mean_ns = delays / (double)judged;
    r.looks_per_chunk = (double)looks / (double)judged;
    return r;
}

static void unbiased_and_cheap(void **state)
{
    (void)state;
    static const double ppm[] = {0, 50, -50, 500, -500, 2000, -2000};
    for (unsigned i = 0; i < sizeof ppm / sizeof ppm[0]; i++) {
        struct poller poller;
        struct guest guest = {.period_ns = 20e6 / (1 + ppm[i] * 1e-6), .start_ns = SECOND};
        poller_init(&poller, i, 20 * MS, SECOND);
        struct result r = run(&poller, &guest, 20000);
        assert_true(fabs(r.error_mean_ns) < 10e3); /* 10 us */
        assert_true(r.error_rms_ns < 0.4e6);
        assert_true(r.delay_max_ns <= 3 * MS / 2);
        assert_true(r.delay_mean_ns < 0.6e6);
        assert_true(r.looks_per_chunk < 2.5);
        assert_int_equal(r.coarse, 0);
    }
}

static void late_chunks(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .late_ns = 2e6, .start_ns = SECOND};
    poller_init(&poller, 3, 20 * MS, SECOND);
    struct result r = run(&poller, &guest, 20000);
    assert_true(fabs(r.error_mean_ns) < 20e3);
    assert_true(r.looks_per_chunk < 2.8);
    assert_true(r.coarse < 20);
    assert_true(r.delay_max_ns <= 3 * MS);
}

/* What is fetched without being timed is no later than what is timed may be. */
static void relaxed_looks(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .late_ns = 1e6, .start_ns = SECOND};
    poller_init(&poller, 8, 20 * MS, SECOND);
    struct result r = run(&poller, &guest, 400);
    assert_near(r.timed, 1.0, 0.0);
    poller_init(&poller, 8, 20 * MS, SECOND);
    r = run(&poller, &guest, 20000);
    assert_near(r.timed, 0.6, 0.03);
    assert_true(r.late_max_ns <= 5 * MS / 2);
}

/* Where there is room most chunks are fetched with one look each, within what there is room for; the others tell the time,
 * looked for from when they usually come. */
static void patient_looks(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .late_ns = 1e6, .start_ns = SECOND, .patience_ns = 15 * MS};
    poller_init(&poller, 8, 20 * MS, SECOND);
    struct result r = run(&poller, &guest, 20000);
    assert_near(r.timed, 0.15, 0.03);
    assert_true(fabs(r.error_mean_ns) < 30e3);
    assert_true(r.looks_per_chunk < 1.3);
    assert_in_range(r.late_max_ns, 5 * MS, 10 * MS); /* a quarter of a chunk, and what its lateness comes to */
    guest.odd_ns = 8e6;                              /* is no reason to watch all the others closely */
    poller_init(&poller, 8, 20 * MS, SECOND);
    r = run(&poller, &guest, 20000);
    assert_near(r.timed, 0.15, 0.03);
    assert_true(r.looks_per_chunk < 1.35);
    guest.odd_ns = 0;
    guest.patience_ns = 3 * MS;
    poller_init(&poller, 8, 20 * MS, SECOND);
    r = run(&poller, &guest, 20000);
    assert_near(r.timed, 0.15, 0.03);
    assert_true(r.late_max_ns <= 5 * MS);
    guest.patience_ns = MS; /* not worth it */
    poller_init(&poller, 8, 20 * MS, SECOND);
    assert_near(run(&poller, &guest, 20000).timed, 0.6, 0.03);
}

/* A coarse timer's pattern of early and late averages out only where all of it is timed. */
static void uneven_guest(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .late_ns = 15e6, .start_ns = SECOND};
    poller_init(&poller, 9, 20 * MS, SECOND);
    struct result r = run(&poller, &guest, 20000);
    assert_near(r.timed, 1.0, 0.0);
    assert_true(r.delay_mean_ns < 0.8e6);
}

static void short_chunks(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 128e9 / 48000, .start_ns = SECOND};
    poller_init(&poller, 4, (int64_t)guest.period_ns, SECOND);
    struct result r = run(&poller, &guest, 20000);
    assert_true(fabs(r.error_mean_ns) < 20e3);
    assert_true(r.delay_max_ns <= 3 * MS / 2);

    /* More chunks than looks. */
    guest.period_ns = 1e5;
    poller_init(&poller, 4, 100000, SECOND);
    r = run(&poller, &guest, 100000);
    assert_true(r.delay_max_ns <= 100000);
}

static void idle_backs_off(void **state)
{
    (void)state;
    struct poller poller;
    poller_init(&poller, 5, 20 * MS, 0);
    int64_t now = 0;
    unsigned looks = 0;
    poller_seen(&poller, MS, 0, 1);
    while (now < 90 * SECOND) {
        int64_t next = poller_next_ns(&poller, 0);
        int64_t wait = next - now, idle = now - MS;
        if (idle > 20 * MS && idle < 2 * SECOND)
            assert_in_range(wait, MS / 2, 3 * MS / 2);
        if (idle > 5 * SECOND - 10 * MS && idle < 5 * SECOND)
            assert_in_range(wait, 5 * MS / 2, 7 * MS / 2);
        if (idle >= 30 * SECOND) {
            assert_in_range(wait, 109 * MS, 111 * MS);
            looks++;
        }
        poller_missed(&poller, now = next);
    }
    assert_in_range(looks, 530, 550); /* 9.1 a second */

    /* Back: fast at once, and the window is what the chunks leave of the long look: the next one is not here yet. */
    int64_t last = now;
    now += 110 * MS;
    struct poller_arrival a = poller_seen(&poller, now, last, 5);
    assert_true(a.coarse);
    assert_int_equal(a.window_ns, 20 * MS);
    assert_int_equal(a.arrival_ns, now - 10 * MS);
    assert_true(poller_next_ns(&poller, 0) <= now + 20 * MS);
}

/* This process, or the machine, stood still: the prediction is a better guess than the middle of the window. */
static void stopped_for_a_while(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .start_ns = SECOND};
    poller_init(&poller, 6, 20 * MS, SECOND);
    run(&poller, &guest, 1000);
    int64_t last = poller.look_ns, now = last + 305 * MS;
    int64_t chunks = (now - guest.start_ns) / (20 * MS) - 1000;
    struct poller_arrival a = poller_seen(&poller, now, last, (uint32_t)chunks);
    assert_true(a.coarse);
    assert_int_equal(a.window_ns, 305 * MS);
    int64_t error = a.arrival_ns - complete_ns(&guest, 1000 + chunks);
    assert_true(error > -MS && error < MS);
}

/* The guest stood still and caught up at once: on time again, the next chunk is expected where it will be. */
static void guest_caught_up(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .start_ns = SECOND};
    poller_init(&poller, 7, 20 * MS, SECOND);
    run(&poller, &guest, 1000);
    int64_t last = poller.look_ns, now = last;
    while (now < guest.start_ns + 1010 * 20 * MS + MS) {
        last = now;
        now = poller_next_ns(&poller, 0);
        poller_missed(&poller, now);
    }
    struct poller_arrival a = poller_seen(&poller, now, last, 10);
    assert_false(a.coarse);
    int64_t next = poller_next_ns(&poller, 0) - complete_ns(&guest, 1011);
    assert_true(next < 0 && next > -4 * MS);
}

/* One chunk long overdue, then at once those that were due meanwhile: the next one comes at its old time. */
static void caught_up_in_two(void **state)
{
    (void)state;
    struct poller poller;
    struct guest guest = {.period_ns = 20e6, .start_ns = SECOND};
    poller_init(&poller, 7, 20 * MS, SECOND);
    run(&poller, &guest, 1000);
    int64_t stalled = complete_ns(&guest, 1006) - 15 * MS;
    poller_missed(&poller, stalled - MS);
    poller_seen(&poller, stalled, stalled - MS, 1);
    poller_missed(&poller, stalled + 15 * MS);
    poller_seen(&poller, stalled + 16 * MS, stalled + 15 * MS, 5);
    int64_t next = poller_next_ns(&poller, 0) - complete_ns(&guest, 1007);
    assert_true(next < 0);
}

static void seeds_differ(void **state)
{
    (void)state;
    struct poller a, b, c;
    poller_init(&a, 1, 20 * MS, 0);
    poller_init(&b, 2, 20 * MS, 0);
    poller_init(&c, 1, 20 * MS, 0);
    unsigned same = 0;
    for (unsigned i = 0; i < 100; i++) {
        int64_t at = poller_next_ns(&a, 0);
        assert_int_equal(at, poller_next_ns(&c, 0));
        same += at == poller_next_ns(&b, 0);
    }
    assert_true(same < 5);
    poller_init(&a, 0, 20 * MS, 0); /* a seed of 0 dithers too */
    assert_int_not_equal(poller_next_ns(&a, 0), poller_next_ns(&a, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unbiased_and_cheap), cmocka_unit_test(late_chunks),
        cmocka_unit_test(relaxed_looks),      cmocka_unit_test(patient_looks),
        cmocka_unit_test(uneven_guest),       cmocka_unit_test(short_chunks),
        cmocka_unit_test(idle_backs_off),     cmocka_unit_test(stopped_for_a_while),
        cmocka_unit_test(guest_caught_up),    cmocka_unit_test(caught_up_in_two),
        cmocka_unit_test(seeds_differ),
    };
    return cmocka_run_group_tests_name("poller", tests, NULL, NULL);
}
