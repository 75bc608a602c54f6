/* SPDX-License-Identifier: MIT
 *
 * earshot-analyse: what a capture of a monitor says, as JSON. See track.h and latency.h for how.
 */
#include "tests/integration/latency.h"
#include "tests/integration/pulls.h"
#include "tests/integration/track.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS      INT64_C(1000000000)
#define LATE_BEFORE_NS (SECOND_NS / 100) /* what a late pull excuses: the analysis' own windows before it ... */
#define LATE_AFTER_NS  (SECOND_NS / 25)  /* ... and the crossfade to where the device has got to meanwhile */

struct analysis {
    const char *capture_path, *log_path, *stalls_path, *pulls_path;
    struct track_params track;
    double ppm;           /* the guest's clock, as it was asked to run */
    int64_t expected_ns;  /* latency around which to look */
    int64_t stall_ns;     /* shorter stalls excuse nothing */
    int64_t guest_ns;     /* a guest later than this counts as a stall; 0: never */
    int64_t aftermath_ns; /* how long a stall excuses */
    double per_channel;   /* tell channels by multiples of this frequency; 0: follow the tone */
};

enum {
    OPT_LOG = 1,
    OPT_STALLS,
    OPT_PULLS,
    OPT_HZ,
    OPT_RATE,
    OPT_PPM,
    OPT_EXPECT,
    OPT_STALL,
    OPT_GUEST,
    OPT_AFTERMATH,
    OPT_FROM,
    OPT_TO,
    OPT_FIRST_CHANNEL,
    OPT_STEP,
    OPT_LOSS_AFTER,
    OPT_PER_CHANNEL,
};

static const struct option options[] = {
    {"log",              required_argument, NULL, OPT_LOG},
    {"stalls",              required_argument, NULL, OPT_STALLS},
    {"pulls",                  required_argument, NULL, OPT_PULLS},
    {"hz",required_argument, NULL, OPT_HZ},
    {"rate",        required_argument, NULL, OPT_RATE},
    {"ppm",            required_argument, NULL, OPT_PPM},
    {"expect-ms",              required_argument, NULL, OPT_EXPECT},
    {"stall-ms",                  required_argument, NULL, OPT_STALL},
    {"guest-late-ms",              required_argument, NULL, OPT_GUEST},
    {"aftermath-ms",            required_argument, NULL, OPT_AFTERMATH},
    {"from-ns",             required_argument, NULL, OPT_FROM},
    {"to-ns",              required_argument, NULL, OPT_TO},
    {"first-channel",                  required_argument, NULL, OPT_FIRST_CHANNEL},
    {"step-frames",required_argument, NULL, OPT_STEP},
    {"loss-after-ms",           required_argument, NULL, OPT_LOSS_AFTER},
    {"per-channel",        required_argument, NULL, OPT_PER_CHANNEL},
    {0             }
};

static int usage(void)
{
    fputs("Usage: earshot-analyse CAPTURE [--log FILE] [--stalls FILE] [--pulls FILE] [--hz HZ] [--rate HZ]\n"
          "  [--ppm X] [--expect-ms MS] [--stall-ms MS] [--guest-late-ms MS] [--aftermath-ms MS] [--from-ns NS] "
          "[--to-ns NS]\n"
          "  [--first-channel N] [--step-frames X] [--loss-after-ms MS] [--per-channel HZ]\n",
          stderr);
    return 2;
}

static int parse(struct analysis *analysis, int argc, char **argv)
{
    *analysis = (struct analysis){
        .track = {.hz = 2, .source_rate = 48000, .step_frames = 0.5, .from_ns = INT64_MIN, .to_ns = INT64_MAX},
        .expected_ns = 30000000,
        .stall_ns = 1000000,
        .aftermath_ns = 300000000,
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        char *end = NULL;
        const bool is_path = option == OPT_LOG || option == OPT_STALLS || option == OPT_PULLS;
        double number = is_path ? 0 : strtod(optarg ? optarg : "", &end);
        if (option == '?' || (end && (*end || end == optarg)))
            return -EINVAL;
        switch (option) {
        case OPT_LOG:
            analysis->log_path = optarg;
            break;
        case OPT_STALLS:
            analysis->stalls_path = optarg;
            break;
        case OPT_PULLS:
            analysis->pulls_path = optarg;
            break;
        case OPT_HZ:
            analysis->track.hz = number;
            break;
        case OPT_RATE:
            analysis->track.source_rate = number;
            break;
        case OPT_PPM:
            analysis->ppm = number;
            break;
        case OPT_EXPECT:
            analysis->expected_ns = llround(number * 1e6);
            break;
        case OPT_STALL:
            analysis->stall_ns = llround(number * 1e6);
            break;
        case OPT_GUEST:
            analysis->guest_ns = llround(number * 1e6);
            break;
        case OPT_AFTERMATH:
            analysis->aftermath_ns = llround(number * 1e6);
            break;
        case OPT_FROM:
            analysis->track.from_ns = strtoll(optarg, NULL, 10);
            break;
        case OPT_TO:
            analysis->track.to_ns = strtoll(optarg, NULL, 10);
            break;
        case OPT_FIRST_CHANNEL:
            analysis->track.first_channel = (unsigned)number;
            break;
        case OPT_STEP:
            analysis->track.step_frames = number;
            break;
        case OPT_LOSS_AFTER:
            analysis->track.loss_after_ns = llround(number * 1e6);
            break;
        case OPT_PER_CHANNEL:
            analysis->per_channel = number;
            break;
        default:
            return -EINVAL;
        }
    }
    if (optind + 1 != argc)
        return -EINVAL;
    analysis->capture_path = argv[optind];
    return 0;
}

/* NAN and infinity are not JSON. */
static void print_number(const char *name, double value, const char *after)
{
    if (isfinite(value))
        printf("\"%s\":%.6g%s", name, value, after);
    else
        printf("\"%s\":null%s", name, after);
}

static void print_times(const struct track *track, uint32_t rate, uint32_t quantum)
{
    int64_t from = 0, to = 0, tone_from = 0, tone_to = 0;
    for (size_t i = 0; i < track->window_count; i++) {
        const struct track_window *window = &track->windows[i];
        if (i == 0)
            from = window->time_ns;
        to = window->time_ns;
        if (!window->tone)
            continue;
        if (tone_from == 0)
            tone_from = window->time_ns;
        tone_to = window->time_ns;
    }
    printf("\"from_ns\":%" PRId64 ",\"to_ns\":%" PRId64 ",\"tone_from_ns\":%" PRId64 ",\"tone_to_ns\":%" PRId64 ",",
           from, to, tone_from, tone_to);
    printf("\"graph_rate\":%u,\"quantum\":%u,", rate, quantum);
    print_number("level", track->level, ",");
    print_number("drift_ppm", track_drift_ppm(track, from, to), ",");
    print_number("drift_last_half_ppm", track_drift_ppm(track, from + (to - from) / 2, to), ",\n");
    fputs("\"drift_by_10_s_ppm\":[", stdout);
    for (int64_t at = from; at < to; at += 10 * SECOND_NS) {
        double ppm = track_drift_ppm(track, at, at + 10 * SECOND_NS);
        if (isfinite(ppm))
            printf("%s%.2f", at > from ? "," : "", ppm);
        else
            printf("%snull", at > from ? "," : "");
    }
    fputs("],\n", stdout);
}

static void print_events(const struct analysis *analysis, const struct track *track, const struct stalls *stalls,
                         const struct stalls *late)
{
    static const char *const kinds[] = {"step", "dip", "click"};
    unsigned judged = 0, excused = 0;
    int64_t silent_ns = 0;
    fputs("\"events\":[", stdout);
    for (size_t i = 0; i < track->event_count; i++) {
        const struct track_event *event = &track->events[i];
        bool near = stalls_near(stalls, event->from_ns, event->to_ns, SECOND_NS / 100, analysis->aftermath_ns);
        bool late_near = stalls_near(late, event->from_ns, event->to_ns, LATE_BEFORE_NS, LATE_AFTER_NS);
        bool excuse = near || event->near_loss || late_near;
        *(excuse ? &excused : &judged) += 1;
        silent_ns += event->silent_ns;
        printf("%s\n{\"kind\":\"%s\",\"from_ns\":%" PRId64 ",\"to_ns\":%" PRId64
               ",\"frames\":%.2f,\"silent_ms\":%.1f,"
               "\"near_stall\":%s,\"near_loss\":%s,\"near_late\":%s}",
               i ? "," : "", kinds[event->kind], event->from_ns, event->to_ns, event->frames,
               (double)event->silent_ns / 1e6, near ? "true" : "false", event->near_loss ? "true" : "false",
               late_near ? "true" : "false");
    }
    printf("],\n\"judged_events\":%u,\"excused_events\":%u,\"silent_ms\":%.1f,\n\"losses\":[", judged, excused,
           (double)silent_ns / 1e6);
    for (size_t i = 0; i < track->loss_count; i++)
        printf("%s{\"at_ns\":%" PRId64 ",\"frames\":%" PRId64 "}", i ? "," : "", track->losses[i].at_ns,
               track->losses[i].frames);
    printf("],\n\"stalls\":%zu,\n\"late\":[", stalls->count);
    for (size_t i = 0; i < late->count; i++)
        printf("%s[%" PRId64 ",%" PRId64 "]", i ? "," : "", late->items[i].from_ns - LATE_BEFORE_NS,
               late->items[i].to_ns + LATE_AFTER_NS);
    putchar(']');
}

static int print_latency(const char *name, const struct latencies *latencies, int64_t from_ns, int64_t to_ns,
                         bool judged_only)
{
    struct latency_summary s;
    if (latency_summarise(&s, latencies, from_ns, to_ns, judged_only) != 0)
        return -ENOMEM;
    printf(",\n\"%s\":{\"count\":%zu", name, s.count);
    if (s.count)
        printf(",\"median_ms\":%.3f,\"p1_ms\":%.3f,\"p99_ms\":%.3f,\"min_ms\":%.3f,\"max_ms\":%.3f,"
               "\"trend_ms_per_min\":%.4f",
               s.median_ms, s.p1_ms, s.p99_ms, s.min_ms, s.max_ms, s.trend_ms_per_min);
    putchar('}');
    return 0;
}

static int print_latencies(const struct latencies *latencies)
{
    int64_t first = latencies->count ? latencies->points[0].published_ns : 0;
    int64_t last = latencies->count ? latencies->points[latencies->count - 1].published_ns : 0;
    int result = print_latency("latency", latencies, INT64_MIN, INT64_MAX, true);
    if (result == 0)
        result = print_latency("latency_all", latencies, INT64_MIN, INT64_MAX, false);
    printf(",\n\"latency_by_second_ms\":[");
    for (int64_t at = first; result == 0 && at < last; at += SECOND_NS) {
        struct latency_summary summary;
        result = latency_summarise(&summary, latencies, at, at + SECOND_NS, false);
        if (summary.count)
            printf("%s%.2f", at > first ? "," : "", summary.median_ms);
        else
            printf("%snull", at > first ? "," : "");
    }
    putchar(']');
    return result;
}

static void print_channels(const struct analysis *analysis, const struct capture *capture)
{
    fputs("{\"channels\":[", stdout);
    for (unsigned channel = 0; channel < capture->channels; channel++) {
        double best = 0, second = 0;
        unsigned best_multiple = 0;
        for (unsigned multiple = 1; multiple <= CAPTURE_CHANNELS_MAX; multiple++) {
            double level = track_tone_level(capture, channel, analysis->per_channel * multiple,
                                            analysis->track.from_ns, analysis->track.to_ns);
            if (level > best) {
                second = best;
                best = level;
                best_multiple = multiple;
            } else if (level > second) {
                second = level;
            }
        }
        printf("%s{\"multiple\":%u,", channel ? "," : "", best_multiple);
        print_number("level", best, ",");
        print_number("next_level", second, "}");
    }
    puts("]}");
}

static int analyse(const struct analysis *analysis, const struct capture *capture)
{
    struct track track = {0};
    struct deliveries deliveries = {0};
    struct stalls stalls = {0}, late = {0};
    struct latencies latencies = {0};
    int result = track_make(&track, capture, &analysis->track);
    if (result == 0 && analysis->stalls_path)
        result = stalls_load(&stalls, analysis->stalls_path, analysis->stall_ns);
    if (result == 0 && analysis->pulls_path)
        result = pulls_load(&late, analysis->pulls_path);
    if (result == 0 && analysis->log_path) {
        result = deliveries_load(&deliveries, analysis->log_path);
        if (result == 0 && analysis->guest_ns)
            result = stalls_of_guest(&stalls, &deliveries, analysis->track.source_rate * (1 + analysis->ppm / 1e6),
                                     analysis->guest_ns);
        if (result == 0)
            result = latency_measure(&latencies, &track, &deliveries, &stalls, analysis->expected_ns);
    }
    if (result == 0) {
        const struct capture_record *last =
            capture->cycle_count ? &capture->cycles[capture->cycle_count - 1].record : NULL;
        putchar('{');
        print_times(&track, last ? last->rate : 0, last ? last->quantum : 0);
        print_events(analysis, &track, &stalls, &late);
        if (analysis->log_path)
            result = print_latencies(&latencies);
        puts("}");
    }
    latencies_free(&latencies);
    stalls_free(&stalls);
    stalls_free(&late);
    deliveries_free(&deliveries);
    track_free(&track);
    return result;
}

int main(int argc, char **argv)
{
    struct analysis analysis;
    if (parse(&analysis, argc, argv) != 0)
        return usage();
    struct capture capture;
    int result = capture_load(&capture, analysis.capture_path);
    if (result == 0) {
        if (analysis.per_channel > 0)
            print_channels(&analysis, &capture);
        else
            result = analyse(&analysis, &capture);
        capture_free(&capture);
    }
    if (result != 0)
        fprintf(stderr, "earshot-analyse: %s: %s\n", analysis.capture_path, strerror(-result));
    return result != 0;
}
