/* SPDX-License-Identifier: MIT */
#include "receiver/poller.h"
#include "tests/sim/measure.h"
#include "tests/sim/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NS           1e9
#define START_NS     1000000000000 /* CLOCK_MONOTONIC when the simulation begins: not zero, as in life */
#define PULL_MAX     8192
#define SOCKET_S     50e-6 /* from a packet to our thread running */
#define BLOCK_FRAMES 65536
#define QUEUE_MAX    4096
#define FEW_PACKETS  16 /* source_udp.c: after more the socket gets no rest */
#define BURST_NS     1000000

struct packet {
    int64_t arrival_ns;
    bool lost;
};

struct sim {
    const struct sim_scenario *scenario;
    uint64_t random;

    /* the guest: frames(t) = base_frames + (t - base_s) * rate * (1 + ppm) */
    double base_s, base_frames, guest_ppm;
    double tick_s;      /* its timer */
    double next_fire_s; /* when its driver looks next */
    double delivery_s;  /* when what it found then is handed over; INFINITY: nothing pending */
    uint64_t delivered; /* frames handed over */
    uint64_t generated; /* frames whose samples have been made */
    uint64_t found;     /* frames complete at the last fire */
    double paused_until_s, stalled_until_s;

    /* what reads it */
    struct poller poller;
    double next_look_s, last_look_s;
    int64_t slack_ns; /* of the next look */
    double read_s;    /* when the socket is read next; INFINITY: nothing lies in it */
    int64_t rest_ns;  /* it is not read before */
    struct packet queue[QUEUE_MAX];
    unsigned queued;
    uint64_t taken, lost; /* frames given to the feed, and of these the lost ones */
    unsigned lost_packets;
    bool restarted;

    /* the device */
    double cycle_s, device_ppm;
    int64_t position;
    uint32_t quantum, rate, clock_id;
    double stopped_until_s;
    bool doubled;

    unsigned event; /* the next one */
    struct feed *feed;
    struct playout *playout;
    uint8_t *bytes;
    float *floats, *out;
    double phase; /* of the tone, in cycles */
    struct measure *measure;
};

static double uniform(struct sim *s)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (double)((s->random * 0x2545F4914F6CDD1DULL) >> 11) * 0x1p-53;
}

static int64_t to_ns(double t_s)
{
    return START_NS + llround(t_s * NS);
}

static double guest_frames(const struct sim *s, double t_s)
{
    return s->base_frames + fmax(t_s - s->base_s, 0.0) * s->scenario->guest_rate * (1.0 + s->guest_ppm * 1e-6);
}

static void guest_rebase(struct sim *s, double t_s)
{
    s->base_frames = guest_frames(s, t_s);
    s->base_s = t_s;
}

static uint32_t unit_frames(const struct sim *s)
{
    return s->scenario->kind == SOURCE_SHM ? (uint32_t)lround(s->scenario->chunk_s * s->scenario->guest_rate)
                                           : s->scenario->packet_frames;
}

/* The guest's timer fires: whatever is complete is handed over a little later. */
static void guest_fire(struct sim *s)
{
    double t_s = s->next_fire_s;
    s->next_fire_s += s->tick_s / (1.0 + s->guest_ppm * 1e-6);
    if (t_s < s->paused_until_s || isfinite(s->delivery_s))
        return;
    t_s = fmax(t_s, s->stalled_until_s);
    uint64_t unit = unit_frames(s);
    s->found = (uint64_t)fmax(guest_frames(s, t_s), 0.0) / unit * unit;
    if (s->found <= s->delivered)
        return;
    double tail_s = s->scenario->tail_s * fmin(-log(1.0 - uniform(s)), 10.0);
    s->delivery_s = t_s + s->scenario->delay_s * uniform(s) + tail_s;
}

/* Gives `frames` to the feed as one block. */
static void give(struct sim *s, uint64_t frames, bool lost, int64_t arrival_ns, int64_t window_ns, int64_t waited_ns,
                 int64_t now_ns, unsigned flags)
{
    const struct sim_scenario *sc = s->scenario;
    double per_frame = (sc->tone_hz > 0.0 ? sc->tone_hz : 1000.0) / sc->guest_rate;
    while (frames > 0) {
        uint32_t part = frames > BLOCK_FRAMES ? BLOCK_FRAMES : (uint32_t)frames;
        for (uint32_t i = 0; i < part; i++) {
            s->floats[i] = (float)(0.5 * sin(2.0 * M_PI * s->phase));
            s->phase += per_frame;
            s->phase -= floor(s->phase);
        }
        frames -= part;
        s->taken += part;
        if (lost) {
            s->lost += part;
            continue;
        }
        pcm_encode(s->bytes, s->floats, part, 32);
        struct block block = {
            .format = *feed_format(s->feed),
            .data = s->bytes,
            .frames = part,
            .chunk_frames = unit_frames(s),
            .arrival_ns = arrival_ns,
            .window_ns = window_ns,
            .waited_ns = waited_ns,
            .flags = flags | (frames > 0 ? BLOCK_MORE : 0u) | (s->restarted ? BLOCK_RESYNC : 0u),
        };
        s->restarted = false;
        double now_s = (double)(now_ns - START_NS) / NS;
        measure_arrival(s->measure, now_s - (double)waited_ns / NS,
                        guest_frames(s, now_s) - (double)(s->taken - part));
        feed_write(s->feed, &block, now_ns);
    }
}

static void look(struct sim *s)
{
    int64_t now_ns = to_ns(s->next_look_s), last_ns = to_ns(s->last_look_s);
    if (s->delivered > s->taken) {
        uint64_t chunks = (s->delivered - s->taken) / unit_frames(s);
        struct poller_arrival seen = poller_seen(&s->poller, now_ns, last_ns, (uint32_t)chunks);
        bool waited = seen.untimed && seen.coarse && s->slack_ns > 0;
        give(s, s->delivered - s->taken, false, seen.arrival_ns, seen.window_ns,
             waited ? now_ns - seen.arrival_ns : 0, now_ns, seen.untimed ? BLOCK_UNTIMED : 0);
    } else {
        poller_missed(&s->poller, now_ns);
    }
    s->last_look_s = s->next_look_s;
    int64_t next_ns = poller_next_ns(&s->poller, feed_patience_ns(s->feed, now_ns));
    s->slack_ns = s->poller.slack_ns;
    s->next_look_s = (double)(next_ns + s->slack_ns - START_NS) / NS;
    if (s->next_look_s <= s->last_look_s)
        s->next_look_s = s->last_look_s + 1e-6;
}

/* Reads what lies in the socket, as source_udp.c and packets.c do. */
static void read_socket(struct sim *s)
{
    const uint32_t unit = s->scenario->packet_frames;
    const int64_t unit_ns = llround(unit * NS / s->scenario->guest_rate);
    const int64_t burst_ns = unit_ns / 2 > BURST_NS ? unit_ns / 2 : BURST_NS;
    int64_t now_ns = s->rest_ns;
    for (unsigned i = 0; i < s->queued; i++) {
        const struct packet *packet = &s->queue[i];
        unsigned next = i + 1;
        while (next < s->queued && s->queue[next].lost)
            next++;
        bool more = next < s->queued && s->queue[next].arrival_ns - packet->arrival_ns < burst_ns;
        int64_t woken_ns = packet->arrival_ns > s->rest_ns ? packet->arrival_ns : s->rest_ns;
        now_ns = woken_ns + llround(SOCKET_S * NS);
        give(s, unit, packet->lost, packet->arrival_ns, 0, woken_ns - packet->arrival_ns, now_ns,
             more ? BLOCK_MORE : 0);
    }
    const int64_t patience_ns = feed_patience_ns(s->feed, now_ns);
    s->rest_ns = patience_ns > 0 && s->queued <= FEW_PACKETS ? now_ns + patience_ns : 0;
    s->queued = 0;
    s->read_s = INFINITY;
}

/* A burst of packets, ten microseconds apart. */
static void receive(struct sim *s)
{
    const uint64_t unit = s->scenario->packet_frames;
    double last_s = s->delivery_s;
    uint64_t until = s->delivered, taken = s->taken + s->queued * unit;
    if (until - taken > unit && s->scenario->reorder > 0.0 && uniform(s) < s->scenario->reorder)
        until -= unit;
    for (; until > taken && s->queued < QUEUE_MAX; taken += unit) {
        bool last = until - taken <= unit;
        bool lost = uniform(s) < s->scenario->loss;
        last_s += 10e-6;
        s->lost_packets += lost && !last;
        s->queue[s->queued++] = (struct packet){.arrival_ns = to_ns(last_s), .lost = lost && !last};
    }
    if (s->rest_ns <= to_ns(s->delivery_s))
        read_socket(s);
    else
        s->read_s = (double)(s->rest_ns - START_NS) / NS;
}

static void deliver(struct sim *s)
{
    s->delivered = s->found;
    if (s->scenario->kind != SOURCE_SHM)
        receive(s);
    s->delivery_s = INFINITY;
}

static void pull(struct sim *s, double cycle_s, uint32_t queued)
{
    double noise_s = s->scenario->device_noise_s * (2.0 * uniform(s) - 1.0);
    struct pull_time time = {
        .cycle_ns = to_ns(cycle_s + noise_s),
        .position_frames = s->position,
        .rate = s->rate,
        .delay_frames = queued,
        .clock_id = s->clock_id,
        .flags = s->scenario->device_coarse ? PULL_COARSE : 0,
    };
    playout_pull(s->playout, s->out, s->quantum, &time);
    struct playout_trace trace;
    struct playout_stats stats;
    playout_get_trace(s->playout, &trace);
    playout_get_stats(s->playout, &stats);
    struct measure_pull m = {
        .t_s = cycle_s + (double)queued / s->rate,
        .produced = guest_frames(s, cycle_s + (double)queued / s->rate) - (double)s->lost,
        .ratio = s->scenario->guest_rate * (1.0 + s->guest_ppm * 1e-6) / (s->rate * (1.0 + s->device_ppm * 1e-6)),
        .quantum_s = (double)s->quantum / s->rate,
        .frames = s->quantum,
        .rate = s->rate,
        .guest_silent = cycle_s < s->paused_until_s,
        .trace = &trace,
        .stats = &stats,
        .out = s->out,
    };
    measure_pull(s->measure, &m);
}

static void device_cycle(struct sim *s)
{
    double t_s = s->cycle_s;
    if (t_s >= s->stopped_until_s) {
        pull(s, t_s, 0);
        if (s->doubled) {
            s->doubled = false;
            pull(s, t_s, s->quantum);
            s->position += s->quantum;
            s->cycle_s += s->quantum / (s->rate * (1.0 + s->device_ppm * 1e-6));
        }
    }
    s->position += s->quantum;
    s->cycle_s += s->quantum / (s->rate * (1.0 + s->device_ppm * 1e-6));
}

static void happen(struct sim *s, const struct sim_event *event)
{
    double t_s = event->at_s;
    measure_event(s->measure, event);
    switch (event->kind) {
    case SIM_NONE:
        break;
    case SIM_STALL:
        s->stalled_until_s = t_s + event->value;
        if (isfinite(s->delivery_s))
            s->delivery_s = fmax(s->delivery_s, t_s + event->value);
        break;
    case SIM_PAUSE: /* its clock stands still for the driver */
        guest_rebase(s, t_s);
        s->base_s += event->value;
        s->paused_until_s = t_s + event->value;
        break;
    case SIM_RESTART:
        s->restarted = true;
        break;
    case SIM_PPM_STEP:
        guest_rebase(s, t_s);
        s->guest_ppm += event->value;
        break;
    case SIM_TICK:
        s->tick_s = event->value;
        break;
    case SIM_QUANTUM:
        s->quantum = (uint32_t)event->value;
        break;
    case SIM_DEVICE_XRUN:
        s->position += llround(event->value);
        s->cycle_s += event->value / s->rate;
        break;
    case SIM_DEVICE_STOP:
        s->stopped_until_s = t_s + event->value;
        break;
    case SIM_DEVICE_MOVED:
        s->clock_id++;
        s->position = 12345;
        s->device_ppm = event->value;
        s->cycle_s += 0.4 * s->quantum / s->rate;
        break;
    case SIM_DEVICE_RATE:
        s->position = llround((double)s->position * event->value / s->rate);
        s->rate = (uint32_t)event->value;
        break;
    case SIM_DEVICE_DOUBLED:
        s->doubled = true;
        break;
    }
}

static bool setup(struct sim *s)
{
    const struct sim_scenario *sc = s->scenario;
    struct pcm_format format;
    if (pcm_format_parse(&format, pcm_rate_marker(sc->guest_rate), 32, 1, 4) < 0)
        return false;
    s->bytes = malloc((size_t)BLOCK_FRAMES * 4);
    s->floats = malloc(BLOCK_FRAMES * sizeof *s->floats);
    s->out = malloc(PULL_MAX * sizeof *s->out);
    return s->bytes && s->floats && s->out && feed_create(&s->feed, &format, sc->kind) == 0 &&
           playout_create(&s->playout, s->feed, &sc->playout) == 0;
}

void sim_run(const struct sim_scenario *scenario, const struct sim_options *options, struct sim_result *result)
{
    struct sim s = {
        .scenario = scenario,
        .random = options->seed * 0x9E3779B97F4A7C15ULL + 0x1234567,
        .guest_ppm = scenario->guest_ppm,
        .tick_s = scenario->tick_s,
        .delivery_s = INFINITY,
        .read_s = INFINITY,
        .device_ppm = scenario->device_ppm,
        .quantum = scenario->quantum,
        .rate = scenario->device_rate,
        .clock_id = 1,
    };
    s.measure = measure_new(scenario, options);
    if (!s.measure || !setup(&s))
        abort(); /* a test out of memory has nothing to say */
    for (int i = 0; i < 8; i++)
        uniform(&s);
    s.base_s = uniform(&s) * 0.05;
    s.next_fire_s = s.base_s + uniform(&s) * s.tick_s;
    s.cycle_s = uniform(&s) * s.quantum / s.rate;
    poller_init(&s.poller, options->seed, llround(scenario->chunk_s * NS), START_NS);
    if (scenario->kind != SOURCE_SHM)
        s.next_look_s = INFINITY;

    for (;;) {
        double event_s = s.event < SIM_EVENTS && scenario->events[s.event].kind != SIM_NONE
                             ? scenario->events[s.event].at_s
                             : INFINITY;
        double next_s = fmin(fmin(s.next_fire_s, s.delivery_s), fmin(fmin(s.next_look_s, s.cycle_s), event_s));
        next_s = fmin(next_s, s.read_s);
        if (next_s >= scenario->seconds)
            break;
        if (next_s == event_s)
            happen(&s, &scenario->events[s.event++]);
        else if (next_s == s.delivery_s)
            deliver(&s);
        else if (next_s == s.next_fire_s)
            guest_fire(&s);
        else if (next_s == s.next_look_s)
            look(&s);
        else if (next_s == s.read_s)
            read_socket(&s);
        else
            device_cycle(&s);
    }
    measure_finish(s.measure, result);
    result->excess_underruns = result->underruns - s.lost_packets;
    playout_destroy(s.playout);
    feed_destroy(s.feed);
    free(s.bytes);
    free(s.floats);
    free(s.out);
}
