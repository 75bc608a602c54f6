/* SPDX-License-Identifier: MIT */
#include "receiver/source_report.h"
#include "tests/unit/said.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)
#define WHERE  "239.255.77.77:4010"

struct rig {
    struct source_report report;
    struct said said;
    int64_t now_ns;
};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    said_open(&r->said);
    r->now_ns = 1000 * SECOND;
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    said_close(&r->said);
    free(r);
    return 0;
}

/* What it says now, and when it wants to be called again. */
static const char *said(struct rig *r, int64_t *again_ns)
{
    size_t before = strlen(said_text(&r->said));
    int64_t again = source_report_run(&r->report, WHERE, &r->said.log, r->now_ns);
    if (again_ns)
        *again_ns = again;
    return said_text(&r->said) + before;
}

static unsigned lines(const char *text)
{
    unsigned count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

static void strangers_once(void **state)
{
    struct rig *r = *state;
    int64_t again_ns;
    assert_string_equal(said(r, &again_ns), "");
    assert_true(again_ns == INT64_MAX);
    r->report.counters.rejected = 3;
    r->report.counters.rejected_from = inet_addr("192.168.1.7");
    const char *text = said(r, NULL);
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, WHERE));
    assert_non_null(strstr(text, "192.168.1.7"));
    assert_null(strstr(text, "6 bytes"));
    r->report.counters.ignored = 1;
    r->report.counters.ignored_from = inet_addr("192.168.1.8");
    text = said(r, NULL);
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "192.168.1.8"));
    assert_non_null(strstr(text, "--from"));
    r->now_ns += 1000 * SECOND;
    r->report.counters.rejected += 1000;
    r->report.counters.rejected_from = inet_addr("192.168.1.9");
    r->report.counters.ignored += 1000;
    assert_string_equal(said(r, NULL), "");
    r->report.counters.fragments = 1;
    text = said(r, NULL);
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "in pieces"));
    r->report.counters.fragments += 1000;
    assert_string_equal(said(r, NULL), "");
}

static void another_header(void **state)
{
    struct rig *r = *state;
    r->report.counters.rejected = 1;
    r->report.counters.rejected_from = inet_addr("10.0.0.1");
    r->report.counters.rejected_long = true;
    assert_non_null(strstr(said(r, NULL), "6 bytes"));
}

/* Headers in shared memory are rejected, too; its state says so. */
static void nothing_of_files(void **state)
{
    struct rig *r = *state;
    r->report.counters.rejected = 5;
    assert_string_equal(said(r, NULL), "");
}

static void losses_now_and_then(void **state)
{
    struct rig *r = *state;
    int64_t again_ns;
    r->report.counters.lost_packets = 1;
    const char *text = said(r, &again_ns);
    assert_non_null(strstr(text, "1 packet lost"));
    assert_null(strstr(text, "rmem_max"));
    /* An hour of losses, some each 100 ms: ever fewer lines, and each packet in one of them. */
    unsigned count = 0, most = 0;
    uint64_t told = 1;
    for (unsigned i = 0; i < 36000; i++) {
        r->now_ns += SECOND / 10;
        r->report.counters.lost_packets += 7;
        text = said(r, &again_ns);
        most = lines(text) > most ? lines(text) : most;
        count += lines(text);
        unsigned long long packets;
        if (*text && sscanf(strstr(text, WHERE) + strlen(WHERE) + 1, "%llu", &packets) == 1)
            told += packets;
    }
    assert_int_equal(most, 1);
    assert_in_range(count, 60, 70);
    if (told != r->report.counters.lost_packets) { /* the rest is due later */
        assert_true(again_ns > r->now_ns && again_ns <= r->now_ns + 60 * SECOND);
        r->now_ns = again_ns;
        assert_int_equal(lines(said(r, &again_ns)), 1);
    }
    assert_true(again_ns == INT64_MAX);
    /* After two calm minutes the next one is said at once, and the one after that a second later. */
    r->now_ns += 121 * SECOND;
    for (unsigned i = 0; i < 2; i++) {
        r->report.counters.lost_packets++;
        assert_int_equal(lines(said(r, NULL)), 1);
        r->report.counters.lost_packets++;
        assert_string_equal(said(r, &again_ns), "");
        assert_true(again_ns == r->now_ns + (i + 1) * SECOND);
        r->now_ns = again_ns;
    }
}

static void limits_of_the_system(void **state)
{
    struct rig *r = *state;
    r->report.counters.buffer_limited = true;
    r->report.counters.buffer_ns = SECOND; /* lasts for any hesitation */
    assert_string_equal(said(r, NULL), "");
    r->report.counters.buffer_ns = 34 * SECOND / 1000;
    const char *text = said(r, NULL);
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "34 ms"));
    assert_non_null(strstr(text, "net.core.rmem_max"));
    r->report.counters.buffer_ns = 30 * SECOND / 1000;
    assert_string_equal(said(r, NULL), "");
    r->report.counters.lost_packets = 2;
    assert_non_null(strstr(said(r, NULL), "net.core.rmem_max"));

    r->report.counters.unjoined = 2;
    text = said(r, NULL);
    assert_non_null(strstr(text, "2 network interfaces"));
    assert_non_null(strstr(text, "igmp_max_memberships"));
    assert_string_equal(said(r, NULL), "");
    r->report.counters.unjoined = 0;
    assert_string_equal(said(r, NULL), "");
    r->report.counters.unjoined = 1;
    assert_non_null(strstr(said(r, NULL), "1 network interface "));
}

/* Nobody can do anything about a buffer that is as large as it is meant to be. */
static void not_limited(void **state)
{
    struct rig *r = *state;
    r->report.counters.buffer_ns = SECOND / 100;
    assert_string_equal(said(r, NULL), "");
}

int main(void)
{
#define RIGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        RIGGED(strangers_once),      RIGGED(another_header),       RIGGED(nothing_of_files),
        RIGGED(losses_now_and_then), RIGGED(limits_of_the_system), RIGGED(not_limited),
    };
    return cmocka_run_group_tests_name("source_report", tests, NULL, NULL);
}
