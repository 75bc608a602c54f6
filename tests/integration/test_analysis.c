/* SPDX-License-Identifier: MIT
 *
 * The judge judged: captures made up with known steps, losses, drifts and latencies, which must be found, and no others.
 */
#include "tests/integration/latency.h"
#include "tests/integration/pulls.h"
#include "tests/integration/track.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TURN       6.283185307179586
#define HZ         2.0
#define RATE       48000
#define QUANTUM    256
#define START_NS   INT64_C(1000000000000)
#define LATENCY_S  0.012
#define LEVEL      0.89
#define CYCLES_10S 1875

/* What the made-up program does wrong, at frames of the capture. */
struct script {
    double ppm; /* the guest's clock */
    double latency_s;
    double latency_ramp; /* seconds a second */
    uint64_t skip_at;
    double skip;          /* source frames gained from there on */
    uint64_t fade_frames; /* the skip is a crossfade of so many frames */
    uint64_t silent_from, silent_to;
    uint64_t lose_from, lose_to; /* cycles the capture does not see */
    uint64_t read_late;          /* the cycle that the capture is a quantum late for */
    uint64_t click_at;
    uint64_t other_rate_from; /* cycle from which the graph runs at 44100 */
};

static double position_at(const struct script *script, double seconds)
{
    double latency = script->latency_s + script->latency_ramp * seconds;
    return (seconds - latency) * RATE * (1 + script->ppm / 1e6);
}

/* As a 16-bit guest sends it. */
static float quantised(double value)
{
    return (float)(nearbyint(value * 32768) / 32768);
}

static void render(const struct script *script, uint64_t frame, double seconds, float out[2])
{
    double position = position_at(script, seconds), after = 0;
    if (script->skip_at && frame >= script->skip_at) {
        uint64_t since = frame - script->skip_at;
        after = since >= script->fade_frames ? 1 : (double)since / (double)script->fade_frames;
    }
    double old = TURN * fmod(HZ * position / RATE, 1);
    double new = TURN *fmod(HZ * (position + script->skip) / RATE, 1);
    double left = LEVEL * ((1 - after) * cos(old) + after * cos(new));
    double right = LEVEL * ((1 - after) * sin(old) + after * sin(new));
    if (frame >= script->silent_from && frame < script->silent_to)
        left = right = 0;
    if (script->click_at && frame == script->click_at)
        left += 0.05;
    out[0] = quantised(left);
    out[1] = quantised(right);
}

static int64_t frame_time_ns(uint64_t frames)
{
    return llround((double)frames / RATE * 1e9);
}

static void make(struct capture *capture, const struct script *script, unsigned cycles)
{
    *capture = (struct capture){.channels = 2};
    uint64_t frame = 0;
    double seconds = 0;
    for (unsigned c = 0; c < cycles; c++) {
        uint32_t rate = script->other_rate_from && c >= script->other_rate_from ? 44100 : RATE;
        struct capture_record record = {.cycle_ns = START_NS + llround(seconds * 1e9),
                                        .position = frame,
                                        .frames = QUANTUM,
                                        .rate = rate,
                                        .quantum = QUANTUM,
                                        .clock_id = 7};
        record.read_ns = record.cycle_ns + frame_time_ns(100 + (script->read_late == c && c ? QUANTUM : 0));
        float samples[QUANTUM * 2];
        for (unsigned i = 0; i < QUANTUM; i++, frame++, seconds += 1.0 / rate)
            render(script, frame, seconds, samples + 2 * (size_t)i);
        if (c < script->lose_from || c >= script->lose_to)
            assert_int_equal(capture_append(capture, &record, samples), 0);
    }
}

static const struct track_params defaults = {
    .hz = HZ, .source_rate = RATE, .step_frames = 0.5, .from_ns = INT64_MIN, .to_ns = INT64_MAX};

static void make_track(struct track *track, const struct script *script)
{
    struct capture capture;
    make(&capture, script, CYCLES_10S);
    assert_int_equal(track_make(track, &capture, &defaults), 0);
    capture_free(&capture);
}

static int64_t frame_ns(uint64_t frame)
{
    return START_NS + frame_time_ns(frame);
}

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%f is not %f +- %f", value, expected, tolerance);
}

/* 20 ms chunks, published when their last frame is there. */
static void make_log(struct deliveries *deliveries, double ppm, unsigned count)
{
    *deliveries = (struct deliveries){0};
    for (unsigned i = 0; i < count; i++) {
        struct delivery delivery = {.first = i * 960ull, .frames = 960};
        delivery.published_ns = START_NS + llround((double)(delivery.first) / (RATE * (1 + ppm / 1e6)) * 1e9);
        assert_int_equal(deliveries_add(deliveries, &delivery), 0);
    }
}

static void summarise(struct latency_summary *summary, const struct script *script, int64_t expected_ns)
{
    struct track track;
    struct deliveries deliveries;
    struct latencies latencies;
    struct stalls none = {0};
    make_track(&track, script);
    make_log(&deliveries, script->ppm, 500);
    assert_int_equal(latency_measure(&latencies, &track, &deliveries, &none, expected_ns), 0);
    assert_int_equal(latency_summarise(summary, &latencies, INT64_MIN, INT64_MAX, true), 0);
    latencies_free(&latencies);
    deliveries_free(&deliveries);
    track_free(&track);
}

static void clean_tone_has_no_events(void **state)
{
    (void)state;
    static const double ppms[] = {0, 500, -500, 3000};
    for (size_t i = 0; i < sizeof ppms / sizeof ppms[0]; i++) {
        struct track track;
        make_track(&track, &(struct script){.ppm = ppms[i], .latency_s = LATENCY_S});
        assert_int_equal(track.event_count, 0);
        assert_int_equal(track.loss_count, 0);
        assert_near(track.level, LEVEL, 0.001);
        assert_near(track_drift_ppm(&track, INT64_MIN, INT64_MAX), ppms[i], 1);
        track_free(&track);
    }
}

static void steps_are_found_where_they_are(void **state)
{
    (void)state;
    static const double skips[] = {1, -1, 0.7, -0.7, 2.5, -16, 300, -960, 5000};
    for (size_t i = 0; i < sizeof skips / sizeof skips[0]; i++) {
        /* At all places within a window of 120 frames. */
        for (uint64_t at = 240000; at < 240120; at += 17) {
            struct track track;
            make_track(&track, &(struct script){.ppm = 500, .latency_s = LATENCY_S, .skip_at = at, .skip = skips[i]});
            const struct track_event *event = track.events;
            assert_int_equal(track.event_count, 1);
            /* A large one within a window mutilates the tone in it. */
            assert_true(event->kind == TRACK_STEP || (event->kind == TRACK_DIP && fabs(skips[i]) >= 300));
            assert_near(event->frames, skips[i], 0.2);
            assert_true(event->from_ns < frame_ns(at) && event->to_ns > frame_ns(at));
            assert_true(event->to_ns - event->from_ns < 25000000);
            assert_false(event->near_loss);
            track_free(&track);
        }
    }
}

static void small_steps_pass(void **state)
{
    (void)state;
    struct track track;
    make_track(&track, &(struct script){.latency_s = LATENCY_S, .skip_at = 240050, .skip = 0.3});
    assert_int_equal(track.event_count, 0);
    track_free(&track);
}

static void crossfades_are_steps(void **state)
{
    (void)state;
    struct track track;
    make_track(&track, &(struct script){.latency_s = LATENCY_S, .skip_at = 240000, .skip = 960, .fade_frames = 480});
    assert_int_equal(track.event_count, 1);
    assert_near(track.events[0].frames, 960, 0.5);
    track_free(&track);
}

static void clicks_are_found(void **state)
{
    (void)state;
    struct track track;
    make_track(&track, &(struct script){.latency_s = LATENCY_S, .click_at = 240010});
    assert_int_equal(track.event_count, 1);
    assert_true(track.events[0].kind == TRACK_CLICK || track.events[0].kind == TRACK_DIP);
    assert_near(track.events[0].frames, 0, 0.2);
    assert_true(track.events[0].from_ns < frame_ns(240010) && track.events[0].to_ns > frame_ns(240010));
    track_free(&track);
}

static void silence_is_a_dip(void **state)
{
    (void)state;
    static const double skips[] = {0, 480, -4800};
    for (size_t i = 0; i < sizeof skips / sizeof skips[0]; i++) {
        struct track track;
        make_track(&track, &(struct script){.latency_s = LATENCY_S,
                                            .skip_at = skips[i] != 0 ? 241000 : 0,
                                            .skip = skips[i],
                                            .silent_from = 240000,
                                            .silent_to = 242400});
        assert_int_equal(track.event_count, 1);
        assert_int_equal(track.events[0].kind, TRACK_DIP);
        assert_near((double)track.events[0].silent_ns / 1e6, 50, 5);
        assert_near(track.events[0].frames, skips[i], 0.3);
        track_free(&track);
    }
}

static void losses_are_the_captures_own(void **state)
{
    (void)state;
    struct track track;
    make_track(&track, &(struct script){.ppm = 500, .latency_s = LATENCY_S, .lose_from = 900, .lose_to = 903});
    assert_int_equal(track.loss_count, 1);
    assert_int_equal(track.losses[0].frames, 3 * QUANTUM);
    assert_int_equal(track.event_count, 0);
    track_free(&track);

    /* A step hidden in a loss is seen, and marked. */
    make_track(&track,
               &(struct script){
                   .latency_s = LATENCY_S, .lose_from = 900, .lose_to = 903, .skip_at = 901 * QUANTUM, .skip = 100});
    assert_int_equal(track.event_count, 1);
    assert_true(track.events[0].near_loss);
    assert_near(track.events[0].frames, 100, 0.2);
    track_free(&track);
}

static void what_is_read_late_is_the_captures_own(void **state)
{
    (void)state;
    struct track track;
    struct script script = {.latency_s = LATENCY_S, .read_late = 900, .skip_at = 900 * QUANTUM, .skip = QUANTUM};
    make_track(&track, &script);
    assert_int_equal(track.loss_count, 1);
    assert_int_equal(track.losses[0].at_ns, frame_ns(900 * QUANTUM));
    assert_int_equal(track.event_count, 1);
    assert_true(track.events[0].near_loss);
    track_free(&track);

    /* Where it is only told of later, what comes of it may be later, too. */
    script.skip_at = 910 * QUANTUM;
    make_track(&track, &script);
    assert_int_equal(track.event_count, 1);
    assert_false(track.events[0].near_loss);
    track_free(&track);
    struct capture capture;
    make(&capture, &script, CYCLES_10S);
    struct track_params patient = defaults;
    patient.loss_after_ns = 300000000;
    assert_int_equal(track_make(&track, &capture, &patient), 0);
    assert_true(track.events[0].near_loss);
    track_free(&track);
    capture_free(&capture);

    /* Elsewhere a step is the program's. */
    script.skip_at = 800 * QUANTUM;
    make_track(&track, &script);
    assert_int_equal(track.event_count, 1);
    assert_false(track.events[0].near_loss);
    track_free(&track);
}

#define PULLS 100

/* Pulls in time, one a quantum, by a real-time thread. */
static void make_pulls(struct pull_record records[PULLS])
{
    for (unsigned i = 0; i < PULLS; i++)
        records[i] = (struct pull_record){.entered_ns = frame_ns((uint64_t)i * QUANTUM),
                                          .left_ns = frame_ns((uint64_t)i * QUANTUM) + 50000,
                                          .cycle_ns = frame_ns((uint64_t)i * QUANTUM) - 100000,
                                          .stream = 5,
                                          .frames = QUANTUM,
                                          .rate = RATE,
                                          .realtime = 1};
}

/* Delays all pulls from one on. */
static void delay_pulls(struct pull_record records[PULLS], unsigned from, int64_t ns)
{
    for (unsigned i = from; i < PULLS; i++) {
        records[i].entered_ns += ns;
        records[i].left_ns += ns;
        records[i].cycle_ns += ns;
    }
}

static size_t count_late(struct stalls *late, const struct pull_record records[PULLS])
{
    stalls_free(late);
    assert_int_equal(pulls_late(late, records, PULLS), 0);
    return late->count;
}

static void late_pulls_are_the_servers(void **state)
{
    (void)state;
    struct pull_record records[PULLS];
    struct stalls late = {0};
    make_pulls(records);
    assert_int_equal(count_late(&late, records), 0);
    delay_pulls(records, 30, 2000000); /* less than half a period */
    assert_int_equal(count_late(&late, records), 0);
    delay_pulls(records, 60, 5333333); /* a cycle left out */
    assert_int_equal(count_late(&late, records), 1);
    assert_int_equal(late.items[0].from_ns, records[59].entered_ns);
    assert_int_equal(late.items[0].to_ns, records[60].left_ns);

    /* Late for its cycle, though not for the one before. */
    records[40].cycle_ns -= 3000000;
    assert_int_equal(count_late(&late, records), 2);
    records[40].cycle_ns += 3000000;

    /* One that is interrupted is late, too; a program that takes so long as a rule is slow. */
    records[70].left_ns += 3000000;
    assert_int_equal(count_late(&late, records), 2);
    records[80].left_ns += 3000000;
    assert_int_equal(count_late(&late, records), 3);
    records[90].left_ns += 3000000;
    assert_int_equal(count_late(&late, records), 0);

    /* An ordinary thread may be late by its own fault; and who is not asked for long is not late. */
    make_pulls(records);
    delay_pulls(records, 60, 20000000);
    assert_int_equal(count_late(&late, records), 1);
    records[60].realtime = 0;
    assert_int_equal(count_late(&late, records), 0);
    records[60].realtime = 1;
    delay_pulls(records, 60, 1000000000);
    assert_int_equal(count_late(&late, records), 0);

    /* Streams are told apart, and the record ends where it was not written. */
    make_pulls(records);
    for (unsigned i = 1; i < PULLS; i += 2)
        records[i].stream = 6;
    delay_pulls(records, 0, -1000);
    for (unsigned i = 0; i < PULLS; i++)
        records[i].frames = 2 * QUANTUM;
    assert_int_equal(count_late(&late, records), 0);
    delay_pulls(records, 60, 20000000);
    assert_int_equal(count_late(&late, records), 2);
    records[50].entered_ns = 0;
    assert_int_equal(count_late(&late, records), 0);
    stalls_free(&late);
}

static void another_rate_is_not_a_step(void **state)
{
    (void)state;
    struct track track;
    make_track(&track, &(struct script){.ppm = -500, .latency_s = LATENCY_S, .other_rate_from = 900});
    assert_int_equal(track.loss_count, 1);
    assert_int_equal(track.losses[0].frames, 0);
    assert_int_equal(track.event_count, 0);
    assert_near(track_drift_ppm(&track, INT64_MIN, INT64_MAX), -500, 1);
    track_free(&track);
}

static void latency_is_what_was_put_in(void **state)
{
    (void)state;
    struct latency_summary s;
    summarise(&s, &(struct script){.ppm = 500, .latency_s = LATENCY_S}, 20000000);
    assert_true(s.count > 480);
    assert_near(s.median_ms, 12, 0.01);
    assert_near(s.p99_ms - s.p1_ms, 0, 0.01);
    assert_near(s.trend_ms_per_min, 0, 0.02);

    summarise(&s, &(struct script){.latency_s = 0.01, .latency_ramp = 0.0005}, 20000000);
    assert_near(s.trend_ms_per_min, 30, 0.1);
    assert_near(s.max_ms - s.min_ms, 5, 0.1);

    /* Longer than half the tone's period: told apart by what is expected. */
    summarise(&s, &(struct script){.latency_s = 0.4}, 300000000);
    assert_near(s.median_ms, 400, 0.01);
}

static void latency_outlives_losses_and_silence(void **state)
{
    (void)state;
    struct latency_summary s;
    summarise(&s, &(struct script){.latency_s = LATENCY_S, .lose_from = 900, .lose_to = 910}, 20000000);
    assert_near(s.max_ms, 12, 0.01);
    /* Three seconds of silence are six periods of the tone. */
    summarise(&s, &(struct script){.latency_s = LATENCY_S, .silent_from = 192000, .silent_to = 336000}, 20000000);
    assert_near(s.min_ms, 12, 0.01);
    assert_near(s.max_ms, 12, 0.01);
    assert_in_range(s.count, 347, 351);
}

static void stalls_excuse_what_is_near(void **state)
{
    (void)state;
    struct track track;
    struct deliveries deliveries;
    struct latencies latencies;
    struct latency_summary all, judged;
    struct stalls stalls = {0};
    struct script script = {.latency_s = LATENCY_S, .skip_at = 240000, .skip = 480};
    make_track(&track, &script);
    make_log(&deliveries, 0, 500);
    assert_int_equal(stalls_add(&stalls, frame_ns(239000), frame_ns(239500)), 0);
    assert_true(stalls_near(&stalls, frame_ns(240000), frame_ns(240000), 0, 20000000));
    assert_false(stalls_near(&stalls, frame_ns(240000), frame_ns(240000), 0, 5000000));
    assert_false(stalls_near(&stalls, frame_ns(238000), frame_ns(238500), 5000000, 0));
    assert_true(stalls_near(&stalls, frame_ns(238000), frame_ns(238500), 20000000, 0));
    assert_int_equal(latency_measure(&latencies, &track, &deliveries, &stalls, 20000000), 0);
    assert_int_equal(latency_summarise(&all, &latencies, INT64_MIN, INT64_MAX, false), 0);
    assert_int_equal(latency_summarise(&judged, &latencies, INT64_MIN, INT64_MAX, true), 0);
    assert_in_range(all.count - judged.count, 4, 9);
    assert_near(judged.max_ms, 12, 0.01);
    assert_near(judged.min_ms, 2, 0.01);
    latencies_free(&latencies);
    deliveries_free(&deliveries);
    stalls_free(&stalls);
    track_free(&track);
}

static void late_guests_are_stalls(void **state)
{
    (void)state;
    struct deliveries deliveries;
    struct stalls stalls = {0};
    make_log(&deliveries, 500, 400);
    deliveries.items[200].published_ns += 7000000;
    deliveries.items[300].published_ns += 1000000;
    assert_int_equal(stalls_of_guest(&stalls, &deliveries, RATE * (1 + 500 / 1e6), 3000000), 0);
    assert_int_equal(stalls.count, 1);
    assert_true(stalls.items[0].to_ns == deliveries.items[200].published_ns);
    assert_near((double)(stalls.items[0].to_ns - stalls.items[0].from_ns) / 1e6, 7, 0.1);
    stalls_free(&stalls);
    deliveries_free(&deliveries);
}

static void levels_tell_channels(void **state)
{
    (void)state;
    struct capture capture = {.channels = 3};
    float samples[QUANTUM * 3];
    for (unsigned c = 0; c < 200; c++) {
        struct capture_record record = {
            .cycle_ns = START_NS + c * INT64_C(5333333), .position = c * QUANTUM, .frames = QUANTUM, .rate = RATE};
        for (unsigned i = 0; i < QUANTUM; i++) {
            double turns = (double)(c * QUANTUM + i) / RATE;
            for (unsigned k = 0; k < 3; k++)
                samples[3 * i + k] = k == 1 ? 0 : (float)(0.25 * sin(TURN * turns * 200 * (k + 1)));
        }
        assert_int_equal(capture_append(&capture, &record, samples), 0);
    }
    assert_near(track_tone_level(&capture, 0, 200, INT64_MIN, INT64_MAX), 0.25, 0.005);
    assert_near(track_tone_level(&capture, 0, 600, INT64_MIN, INT64_MAX), 0, 0.005);
    assert_near(track_tone_level(&capture, 1, 400, INT64_MIN, INT64_MAX), 0, 0.001);
    assert_near(track_tone_level(&capture, 2, 600, INT64_MIN, INT64_MAX), 0.25, 0.005);
    capture_free(&capture);
}

static void files_survive_a_cut_off_end(void **state)
{
    (void)state;
    char path[] = "/tmp/earshot-analysis-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    assert_non_null(file);
    struct capture_header header = {.magic = CAPTURE_MAGIC, .channels = 2};
    struct capture_record record = {.cycle_ns = 5, .position = 6, .frames = 4, .rate = RATE, .clock_id = 9};
    static const float samples[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    fwrite(&header, sizeof header, 1, file);
    for (int i = 0; i < 2; i++) {
        fwrite(&record, sizeof record, 1, file);
        fwrite(samples, sizeof samples[0], i == 0 ? 8 : 5, file);
    }
    fclose(file);

    struct capture capture;
    assert_int_equal(capture_load(&capture, path), 0);
    assert_int_equal(capture.cycle_count, 1);
    assert_int_equal(capture.frames, 4);
    assert_memory_equal(capture.samples, samples, sizeof samples);
    assert_memory_equal(&capture.cycles[0].record, &record, sizeof record);
    capture_free(&capture);

    file = fopen(path, "wb");
    assert_non_null(file);
    fputs("no capture", file);
    fclose(file);
    assert_true(capture_load(&capture, path) < 0);
    unlink(path);
}

static void nothing_is_judged_where_there_is_nothing(void **state)
{
    (void)state;
    struct capture capture = {.channels = 2};
    struct track track;
    assert_int_equal(track_make(&track, &capture, &defaults), 0);
    assert_int_equal(track.window_count, 0);
    assert_true(isnan(track_drift_ppm(&track, INT64_MIN, INT64_MAX)));
    track_free(&track);
    capture.channels = 1;
    assert_true(track_make(&track, &capture, &defaults) < 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_tone_has_no_events),
        cmocka_unit_test(steps_are_found_where_they_are),
        cmocka_unit_test(small_steps_pass),
        cmocka_unit_test(crossfades_are_steps),
        cmocka_unit_test(clicks_are_found),
        cmocka_unit_test(silence_is_a_dip),
        cmocka_unit_test(losses_are_the_captures_own),
        cmocka_unit_test(what_is_read_late_is_the_captures_own),
        cmocka_unit_test(late_pulls_are_the_servers),
        cmocka_unit_test(another_rate_is_not_a_step),
        cmocka_unit_test(latency_is_what_was_put_in),
        cmocka_unit_test(latency_outlives_losses_and_silence),
        cmocka_unit_test(stalls_excuse_what_is_near),
        cmocka_unit_test(late_guests_are_stalls),
        cmocka_unit_test(levels_tell_channels),
        cmocka_unit_test(files_survive_a_cut_off_end),
        cmocka_unit_test(nothing_is_judged_where_there_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
