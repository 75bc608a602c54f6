/* SPDX-License-Identifier: MIT */
#include "tests/sim/gates.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define AT_MOST(label, member, limit)                                                                                \
    {                                                                                                                \
        label, offsetof(struct sim_result, member), -INFINITY, limit                                                 \
    }
#define AT_LEAST(label, member, limit)                                                                               \
    {                                                                                                                \
        label, offsetof(struct sim_result, member), limit, INFINITY                                                  \
    }

struct list {
    struct trial *trials;
    size_t count, max;
    double seconds;
};

static struct sim_scenario base(enum source_kind kind, double tick_s, double ppm, double seconds)
{
    return (struct sim_scenario){
        .kind = kind,
        .seconds = seconds,
        .guest_ppm = ppm,
        .guest_rate = 48000,
        .device_rate = 48000,
        .quantum = 256,
        .tick_s = tick_s,
        .chunk_s = 0.020,
        .packet_frames = 288,
        .delay_s = 1e-3,
        .playout = {.quality = RESAMPLER_MEDIUM},
    };
}

__attribute__((format(printf, 2, 3))) static struct trial *add(struct list *list, const char *format, ...)
{
    if (list->count == list->max)
        return NULL;
    struct trial *trial = &list->trials[list->count++];
    *trial = (struct trial){0};
    va_list args;
    va_start(args, format);
    vsnprintf(trial->name, sizeof trial->name, format, args);
    va_end(args);
    trial->scenario.name = trial->name;
    return trial;
}

static void gate(struct trial *trial, struct gate one)
{
    for (size_t i = 0; i < GATES_MAX; i++)
        if (!trial->gates[i].name) {
            trial->gates[i] = one;
            return;
        }
}

static const struct gate no_underrun = AT_MOST("underruns", underruns, 0);
static const struct gate no_resync = AT_MOST("resyncs", resyncs, 0);

/* Nothing happens but drift and the jitter the model knows: all the figures of a steady state. latency_ms: 0, or with so
 * much room that it is looked at seldom. */
static void steady(struct list *list, enum source_kind kind, double tick_s, double ppm, bool coarse,
                   int64_t latency_ms)
{
    const char *transport = kind == SOURCE_SHM ? "shm" : "udp";
    const char *device = coarse ? ", coarse device" : latency_ms ? ", with room" : "";
    struct trial *t = add(list, "%s tick %.1f ms %+.0f ppm%s", transport, tick_s * 1e3, ppm, device);
    if (!t)
        return;
    const char *name = t->scenario.name;
    t->scenario = base(kind, tick_s, ppm, list->seconds);
    t->scenario.name = name;
    t->scenario.device_coarse = coarse;
    t->scenario.playout.latency_ns = latency_ms * 1000000;
    t->scenario.device_noise_s = coarse ? 1e-3 : 20e-6;
    bool loose = coarse || kind != SOURCE_SHM || latency_ms; /* with room a chunk in seven is timed */
    t->quick = (fabs(ppm) == 500.0 && (!latency_ms || ppm > 0.0)) || (fabs(ppm) == 2000.0 && tick_s > 0.012);
    gate(t, (struct gate)AT_MOST("lock s", lock_s, 10));
    gate(t, (struct gate)AT_MOST("at the target s", arrived_s, 10)); /* the way there is no error of the ratio */
    gate(t, (struct gate)AT_MOST("mean ppm", mean_ppm, fabs(ppm) > 1000.0 ? 5 : 2));
    gate(t, (struct gate)AT_MOST("std ppm", std_ppm, loose ? 12 : 3));
    gate(t, (struct gate)AT_MOST("fill std ms", fill_std_ms, 0.1));
    gate(t, (struct gate)AT_MOST("fill max ms", fill_max_ms, 0.6));
    gate(t, (struct gate)AT_MOST("pitch steady cents", pitch_steady, 0.1));
    gate(t, (struct gate)AT_MOST("pitch >10 s cents", pitch_10s, 0.8));
    gate(t, no_underrun);
    gate(t, no_resync);
    if (!latency_ms)
        gate(t, (struct gate)AT_MOST("excess ms", excess_ms, 1.5));
}

static struct trial *with_events(struct list *list, const char *name, enum source_kind kind, double seconds,
                                 const struct sim_event *events, size_t count)
{
    struct trial *t = add(list, "%s %s", kind == SOURCE_SHM ? "shm" : "udp", name);
    if (!t)
        return NULL;
    const char *label = t->scenario.name;
    t->scenario = base(kind, 0.010, 300.0, seconds);
    t->scenario.name = label;
    t->scenario.device_noise_s = 20e-6;
    if (count > 0)
        memcpy(t->scenario.events, events, count * sizeof *events);
    t->quick = true;
    return t;
}

static size_t every(struct sim_event *events, enum sim_event_kind kind, double value, double from_s, double every_s,
                    double until_s)
{
    size_t n = 0;
    for (double t = from_s; t < until_s && n < SIM_EVENTS; t += every_s)
        events[n++] = (struct sim_event){t, kind, value};
    return n;
}

static void one_event(struct list *list, const char *name, struct sim_event event, const struct gate *gates,
                      size_t count)
{
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++) {
        struct trial *t = with_events(list, name, (enum source_kind)kind, list->seconds + 120, &event, 1);
        for (size_t i = 0; t && i < count; i++)
            gate(t, gates[i]);
    }
}

#define ONE_EVENT(list, name, event, ...)                                                                            \
    one_event(list, name, (struct sim_event)event, (const struct gate[]){__VA_ARGS__},                               \
              sizeof((const struct gate[]){__VA_ARGS__}) / sizeof(struct gate))
#define EVENT(...)                                                                                                   \
    {                                                                                                                \
        __VA_ARGS__                                                                                                  \
    }

static void guest_events(struct list *list)
{
    const struct gate resume = AT_MOST("pitch on resume cents", pitch_event, 3);
    const struct gate steady_fill = AT_MOST("fill max ms", fill_max_ms, 0.6);
    const struct gate mean = AT_MOST("mean ppm", mean_ppm, 2);
    const struct gate few = AT_MOST("underruns", underruns, 3);

    ONE_EVENT(list, "5 s gap", EVENT(100, SIM_PAUSE, 5), no_underrun, no_resync, resume, mean, steady_fill,
              AT_MOST("heard after s", heard_s, 0.060), AT_MOST("settled after s", settled_s, 6));
    ONE_EVENT(list, "60 s idle", EVENT(80, SIM_PAUSE, 60), no_underrun, resume, mean, steady_fill,
              AT_MOST("heard after s", heard_s, 0.200), AT_MOST("settled after s", settled_s, 8));
    ONE_EVENT(list, "guest restarts its stream", EVENT(100, SIM_RESTART, 0), no_underrun, no_resync, mean,
              steady_fill);
    ONE_EVENT(list, "+100 ppm step", EVENT(100, SIM_PPM_STEP, 100), no_underrun, no_resync, mean, steady_fill);
    ONE_EVENT(list, "tick 10 to 15.6 ms", EVENT(40, SIM_TICK, 0.015625), few, no_resync, mean);
    ONE_EVENT(list, "60 ms pause", EVENT(100, SIM_PAUSE, 0.06), AT_MOST("underruns", underruns, 1), mean, steady_fill,
              AT_MOST("silence s", silence_s, 0.5));

    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++) {
        struct sim_event events[SIM_EVENTS];
        size_t n = every(events, SIM_STALL, 0.030, 60, 23, list->seconds - 30);
        struct trial *t = with_events(list, "30 ms stalls", (enum source_kind)kind, list->seconds, events, n);
        if (t)
            gate(t, few);
    }
    struct sim_event stalls[SIM_EVENTS];
    size_t n = every(stalls, SIM_STALL, 0.030, 60, 23, list->seconds - 30);
    struct trial *t;
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++) {
        t = with_events(list, "30 ms stalls, with room", (enum source_kind)kind, list->seconds, stalls, n);
        if (t) {
            t->scenario.playout.latency_ns = kind == SOURCE_SHM ? 80000000 : 50000000; /* and no more than it takes */
            gate(t, no_underrun);
            gate(t, no_resync);
        }
    }
    t = with_events(list, "0.01 % loss", SOURCE_UDP, list->seconds, NULL, 0);
    if (t) {
        t->scenario.loss = 1e-4;
        gate(t, few); /* each loss is 6 ms that never come ... */
        gate(t, (struct gate)AT_MOST("underruns beyond losses", excess_underruns, 0)); /* ... and may cost one */
        gate(t, no_resync);
        gate(t, (struct gate)AT_MOST("pitch >10 s cents", pitch_10s, 3));
    }
    t = with_events(list, "1 % of bursts reordered", SOURCE_UDP, list->seconds, NULL, 0);
    if (t) {
        t->scenario.reorder = 1e-2;
        gate(t, few); /* each is a jitter that moves the target */
        gate(t, no_resync);
        gate(t, (struct gate)AT_MOST("pitch >10 s cents", pitch_10s, 0.8));
    }
}

/* Rare long delays that no window has seen before. */
static void tails(struct list *list)
{
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++) {
        struct trial *t =
            with_events(list, "delays with a long tail", (enum source_kind)kind, list->seconds, NULL, 0);
        if (!t)
            return;
        t->scenario.tail_s = 0.2e-3;
        gate(t, no_underrun);
        gate(t, no_resync);
        gate(t, (struct gate)AT_MOST("mean ppm", mean_ppm, 10));
        gate(t, (struct gate)AT_MOST("pitch >10 s cents", pitch_10s, 0.8));
    }
}

static void stall_policy(struct list *list)
{
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++) {
        struct sim_event events[SIM_EVENTS];
        size_t n = every(events, SIM_STALL, 0.1, 70, 75, 670);
        struct trial *t = with_events(list, "100 ms stall every 75 s", (enum source_kind)kind, 700, events, n);
        if (t) {
            gate(t, (struct gate){"underruns", offsetof(struct sim_result, underruns), (double)n, (double)n});
            /* without stalls: chunk or burst, quantum, look-ahead, margins */
            gate(t, (struct gate)AT_MOST("target ms", target_max_ms, kind == SOURCE_SHM ? 33.5 : 29.0));
            gate(t, (struct gate)AT_MOST("fill max ms", fill_max_ms, 3.0));
        }
        n = every(events, SIM_STALL, 0.1, 70, 40, 670);
        t = with_events(list, "100 ms stall every 40 s", (enum source_kind)kind, 700, events, n);
        if (t) {
            /* the second one raises the target, and each later one that is worse than all before it */
            gate(t, (struct gate)AT_MOST("underruns", underruns, 5));
            gate(t, (struct gate)AT_LEAST("target ms", target_max_ms, 100));
        }
    }
}

static void device_events(struct list *list)
{
    const struct gate one = AT_MOST("underruns", underruns, 1);
    const struct gate steady_fill = AT_MOST("fill max ms", fill_max_ms, 0.6);
    const struct gate mean = AT_MOST("mean ppm", mean_ppm, 2);
    const struct gate late = AT_MOST("underruns not at the event", late_underruns, 0);
    const struct gate pitch = AT_MOST("pitch after it cents", pitch_event, 3);

    ONE_EVENT(list, "quantum 256 to 1024", EVENT(100, SIM_QUANTUM, 1024), one, late, mean, steady_fill, pitch);
    ONE_EVENT(list, "quantum 256 to 64", EVENT(100, SIM_QUANTUM, 64), no_underrun, mean, pitch);
    ONE_EVENT(list, "device xrun", EVENT(100, SIM_DEVICE_XRUN, 512), no_underrun, no_resync, mean, steady_fill,
              pitch);
    ONE_EVENT(list, "client stopped 0.3 s", EVENT(100, SIM_DEVICE_STOP, 0.3), no_underrun, no_resync, mean,
              steady_fill, pitch);
    ONE_EVENT(list, "server stopped 60 s", EVENT(100, SIM_DEVICE_STOP, 60), no_underrun, mean, steady_fill, pitch);
    ONE_EVENT(list, "moved to another device", EVENT(100, SIM_DEVICE_MOVED, -250), no_underrun, mean, steady_fill,
              pitch);
    ONE_EVENT(list, "graph rate 48k to 44.1k", EVENT(100, SIM_DEVICE_RATE, 44100), no_underrun, mean, steady_fill,
              pitch);
    ONE_EVENT(list, "graph rate 48k to 96k", EVENT(100, SIM_DEVICE_RATE, 96000), no_underrun, mean, steady_fill,
              pitch);
    ONE_EVENT(list, "doubled callback", EVENT(100, SIM_DEVICE_DOUBLED, 0), one, late, no_resync, mean, steady_fill,
              pitch);
}

static void distortion(struct list *list)
{
    static const struct {
        enum resampler_quality quality;
        const char *name;
        double high_db;
    } rows[] = {
        {RESAMPLER_FASTEST, "fastest", -98 },
        {RESAMPLER_MEDIUM,  "medium",  -110},
        {RESAMPLER_BEST,    "best",    -110}
    };
    static const double tones[] = {1000, 15000};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < 2; k++) {
            struct trial *t = add(list, "THD+N %s %.0f kHz +300 ppm", rows[i].name, tones[k] / 1e3);
            if (!t)
                return;
            const char *label = t->scenario.name;
            t->scenario = base(SOURCE_UDP, 0.010, 300, 200);
            t->scenario.name = label;
            t->scenario.tone_hz = tones[k];
            t->scenario.playout.quality = rows[i].quality;
            t->scenario.device_noise_s = 20e-6;
            t->thd = true;
            t->quick = rows[i].quality == RESAMPLER_MEDIUM;
            gate(t, (struct gate)AT_MOST("THD+N dB", thd_n_db, k == 0 ? -120 : rows[i].high_db));
        }
}

static void days(struct list *list)
{
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++)
        for (double ppm = -500; ppm <= 500; ppm += 1000) {
            struct trial *t = add(list, "%s 24 h %+.0f ppm", kind == SOURCE_SHM ? "shm" : "udp", ppm);
            if (!t)
                return;
            const char *label = t->scenario.name;
            t->scenario = base((enum source_kind)kind, kind == SOURCE_SHM ? 0.010 : 0.015625, ppm, 86400);
            t->scenario.name = label;
            t->scenario.device_noise_s = 20e-6;
            t->scenario.playout.quality = RESAMPLER_FASTEST; /* the arithmetic is the same at each quality */
            t->long_run = true;
            gate(t, no_underrun);
            gate(t, no_resync);
            gate(t, (struct gate){"fill trend ms", offsetof(struct sim_result, fill_trend_ms), -0.05, 0.05});
        }
}

size_t gates_list(struct trial *trials, size_t max, double seconds)
{
    static const double ppms[] = {0, 50, -50, 300, -300, 500, -500, 2000, -2000};
    struct list list = {.trials = trials, .max = max, .seconds = seconds};
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++)
        for (int coarse_tick = 0; coarse_tick < 2; coarse_tick++)
            for (size_t i = 0; i < sizeof ppms / sizeof *ppms; i++)
                steady(&list, (enum source_kind)kind, coarse_tick ? 0.015625 : 0.010, ppms[i], false, 0);
    static const double ticks_s[] = {0.001, 0.010, 0.015625}; /* the first is what games ask for */
    for (size_t i = 0; i < sizeof ticks_s / sizeof *ticks_s; i++)
        for (double ppm = -500; ppm <= 500; ppm += 1000) {
            steady(&list, SOURCE_SHM, ticks_s[i], ppm, false, 60);
            steady(&list, SOURCE_UDP, ticks_s[i], ppm, false, 60);
        }
    for (int kind = SOURCE_SHM; kind <= SOURCE_UDP; kind++)
        for (double ppm = -300; ppm <= 300; ppm += 600)
            steady(&list, (enum source_kind)kind, 0.010, ppm, true, 0);
    guest_events(&list);
    tails(&list);
    stall_policy(&list);
    device_events(&list);
    distortion(&list);
    days(&list);
    return list.count;
}
