/* SPDX-License-Identifier: MIT */
#include "receiver/source_report.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

#define MS_NS       INT64_C(1000000)
#define SECOND_NS   INT64_C(1000000000)
#define LINE_MIN_NS SECOND_NS         /* between two lines about losses ... */
#define LINE_MAX_NS (60 * SECOND_NS)  /* ... that go on and on */
#define CALM_NS     (2 * LINE_MAX_NS) /* without a line: the next losses are another matter */
/* A computer that plays games stands still for some 30 to 130 ms now and then. */
#define BUFFER_NS (100 * MS_NS)
#define RMEM_MAX  "sudo sysctl -w net.core.rmem_max=4194304"

static const char *address_text(uint32_t address, char text[INET_ADDRSTRLEN])
{
    struct in_addr in = {.s_addr = address};
    return inet_ntop(AF_INET, &in, text, INET_ADDRSTRLEN);
}

static void say_strangers(struct source_report *report, const char *where, const struct log *log)
{
    const struct source_counters *c = &report->counters;
    char address[INET_ADDRSTRLEN];
    if (c->rejected_from && !report->rejected_told) {
        report->rejected_told = true;
        log_line(log, LOG_LEVEL_WARNING,
                 "%s: %s sends what is not the Scream driver's%s. It is not played, and from now on only counted.",
                 where, address_text(c->rejected_from, address),
                 c->rejected_long ? " (its header has 6 bytes, not 5, as ALSA's plug-in for Scream has it)" : "");
    }
    if (c->ignored && !report->ignored_told) {
        report->ignored_told = true;
        log_line(log, LOG_LEVEL_INFO,
                 "%s: %s sends, too, but is not among those to play (--from). From now on only counted.", where,
                 address_text(c->ignored_from, address));
    }
    if (c->fragments && !report->fragments_told) {
        report->fragments_told = true;
        log_line(log, LOG_LEVEL_WARNING,
                 "%s: packets come in pieces, too long for the network as a whole, and a capture does not put them "
                 "together. Let the sender make shorter ones.",
                 where);
    }
}

static void say_limits(struct source_report *report, const char *where, const struct log *log)
{
    const struct source_counters *c = &report->counters;
    if (c->unjoined > report->unjoined_told)
        log_line(log, LOG_LEVEL_WARNING,
                 "%s: %u network interface%s cannot be listened to, the system allows no more at once. Choose one "
                 "with -i, or: sudo sysctl -w net.ipv4.igmp_max_memberships=100",
                 where, c->unjoined, c->unjoined == 1 ? "" : "s");
    report->unjoined_told = c->unjoined;
    if (c->buffer_limited && c->buffer_ns > 0 && c->buffer_ns < BUFFER_NS && !report->buffer_told) {
        report->buffer_told = true;
        log_line(log, LOG_LEVEL_WARNING,
                 "%s: the system's network buffer holds only %" PRId64 " ms of this sound; when the computer "
                 "hesitates for longer, some is lost. More: " RMEM_MAX,
                 where, c->buffer_ns / MS_NS);
    }
}

static int64_t say_losses(struct source_report *report, const char *where, const struct log *log, int64_t now_ns)
{
    uint64_t lost = report->counters.lost_packets - report->lost_told;
    if (lost == 0)
        return INT64_MAX;
    int64_t due_ns = report->lost_told_ns + report->lost_gap_ns;
    if (report->lost_told && now_ns < due_ns)
        return due_ns;
    bool calm = !report->lost_told || now_ns - report->lost_told_ns >= CALM_NS;
    report->lost_gap_ns =
        calm ? LINE_MIN_NS : (2 * report->lost_gap_ns < LINE_MAX_NS ? 2 * report->lost_gap_ns : LINE_MAX_NS);
    report->lost_told_ns = now_ns;
    report->lost_told += lost;
    log_line(log, LOG_LEVEL_WARNING, "%s: %" PRIu64 " packet%s lost, the computer hesitated for too long.%s", where,
             lost, lost == 1 ? "" : "s",
             report->counters.buffer_limited ? " A larger network buffer helps: " RMEM_MAX : "");
    return INT64_MAX;
}

int64_t source_report_run(struct source_report *report, const char *where, const struct log *log, int64_t now_ns)
{
    say_strangers(report, where, log);
    say_limits(report, where, log);
    return say_losses(report, where, log, now_ns);
}
