/* SPDX-License-Identifier: MIT */
#include "receiver/source.h"
#include "tests/sim/soak.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NS           1e9
#define REST_LATE_NS 2000000
#define START_NS     1000000000000 /* CLOCK_MONOTONIC when the simulation begins: not zero, as in life */
#define RING_BYTES   (2u << 20)
#define CHUNK_S      0.020
#define PACKET_S     10e-6 /* between two packets of a burst */
#define SOCKET_S     50e-6 /* from a packet to our thread running */
#define MIN_S        50e-6 /* as in source_thread.c, and these, too */
#define FORMAT_NS    100000000
#define SOFT_NS      1000000000
#define FADE_LIMIT_S 0.050 /* as in stream.c */
#define FADE_POLL_S  0.005
#define REOPEN_S     0.020 /* a device that is stopped and started at once */
#define UNCORK_S     0.010
#define NOISE_S      20e-6 /* of the reported cycle time */
#define BEHIND_COUNT 500.0 /* deliveries that the mean of what is behind reaches back */
#define WAVE_PERIODS 20    /* of SOAK_HZ: a whole number of frames at each rate */

double soak_uniform(struct soak *s)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (double)((s->random * 0x2545F4914F6CDD1DULL) >> 11) * 0x1p-53;
}

double soak_pick(struct soak *s, const double *values, unsigned count)
{
    return values[(unsigned)(soak_uniform(s) * count)];
}

int64_t soak_ns(double t_s)
{
    return START_NS + llround(t_s * NS);
}

static double seconds_of(int64_t ns)
{
    return ns == INT64_MAX ? INFINITY : (double)(ns - START_NS) / NS;
}

/* --- the guest */

double soak_guest_frames(const struct soak *s, double t_s)
{
    const struct soak_guest *g = &s->guest;
    return g->base_frames + fmax(t_s - g->base_s, 0.0) * g->format.rate * (1.0 + g->ppm * 1e-6);
}

void soak_guest_rebase(struct soak *s)
{
    s->guest.base_frames = soak_guest_frames(s, s->now_s);
    s->guest.base_s = fmax(s->now_s, s->guest.base_s);
}

static void make_wave(struct soak_guest *g)
{
    uint32_t frames = g->format.rate * WAVE_PERIODS / (unsigned)SOAK_HZ;
    uint32_t frame_bytes = pcm_frame_bytes(&g->format);
    free(g->wave);
    g->wave_bytes = (size_t)frames * frame_bytes;
    g->wave = malloc(g->wave_bytes);
    float *samples = malloc((size_t)frames * g->format.channels * sizeof *samples);
    if (!g->wave || !samples)
        abort(); /* a test out of memory has nothing to say */
    for (uint32_t i = 0; i < frames; i++)
        for (unsigned c = 0; c < g->format.channels; c++)
            samples[i * g->format.channels + c] =
                (float)(SOAK_LEVEL * sin(2.0 * M_PI * SOAK_HZ * i / g->format.rate));
    pcm_encode(g->wave, samples, (size_t)frames * g->format.channels, g->format.bits);
    free(samples);
    g->wave_at = 0;
}

static void copy_wave(struct soak_guest *g, uint8_t *to, size_t bytes)
{
    while (bytes > 0) {
        size_t piece = g->wave_bytes - g->wave_at < bytes ? g->wave_bytes - g->wave_at : bytes;
        memcpy(to, g->wave + g->wave_at, piece);
        g->wave_at = (g->wave_at + piece) % g->wave_bytes;
        to += piece;
        bytes -= piece;
    }
}

void soak_guest_open(struct soak *s)
{
    struct soak_guest *g = &s->guest;
    const struct pcm_format *format = &g->format;
    g->format = g->next_format;
    uint32_t frame_bytes = pcm_frame_bytes(format);
    g->open = g->fresh = true;
    g->reopen_s = INFINITY;
    g->unit_frames = s->params->kind == SOURCE_SHM ? (uint32_t)lround(CHUNK_S * format->rate)
                                                   : SCREAM_UDP_PAYLOAD_BYTES / frame_bytes;
    g->port++;
    g->base_s = fmax(s->now_s, g->paused_until_s);
    g->base_frames = 0.0;
    g->found = g->delivered = 0;
    g->delivery_s = INFINITY;
    g->behind_count = 0.0;
    g->next_fire_s = s->now_s + soak_uniform(s) * g->tick_s;
    make_wave(g);
    if (s->params->kind != SOURCE_SHM)
        return;
    const struct scream_shm_header header = {
        .chunk_size = g->unit_frames * frame_bytes,
        .sample_rate = pcm_rate_marker(format->rate),
        .sample_size = format->bits,
        .channels = format->channels,
        .channel_map = format->mask,
    };
    if (scream_shm_writer_open(&s->wire.writer, s->wire.memory, RING_BYTES, &header) < 0)
        abort();
}

void soak_guest_close(struct soak *s)
{
    struct soak_guest *g = &s->guest;
    if (g->open && s->params->kind == SOURCE_SHM) {
        /* What nobody has looked at yet will never be seen. */
        s->count.lost =
            s->count.sent + s->count.stale - s->count.fed - s->count.refused - s->source->counters.dropped_frames;
        scream_shm_writer_close(&s->wire.writer);
    }
    g->open = false;
}

/* The guest's timer fires: whatever is complete is handed over a little later. */
static void guest_fire(struct soak *s)
{
    struct soak_guest *g = &s->guest;
    double t_s = s->now_s;
    if (t_s >= g->odd_until_s && isfinite(g->odd_until_s)) {
        g->odd_until_s = INFINITY;
        g->tick_s = g->normal_tick_s;
        g->delay_s = 1e-3;
        g->behind_count = 0.0;
    }
    g->next_fire_s = t_s + g->tick_s / (1.0 + g->ppm * 1e-6);
    if (!g->open || t_s < g->paused_until_s || isfinite(g->delivery_s))
        return;
    t_s = fmax(t_s, g->stalled_until_s);
    g->found = (uint64_t)soak_guest_frames(s, t_s) / g->unit_frames * g->unit_frames;
    if (g->found > g->delivered)
        g->delivery_s = t_s + g->delay_s * soak_uniform(s);
}

static void put(struct soak *s, const uint8_t *packet, double at_s)
{
    struct soak_wire *w = &s->wire;
    if (w->count == SOAK_QUEUE)
        abort();
    w->frames += s->guest.unit_frames;
    unsigned at = w->count++;
    /* In the order of arrival: what is delayed comes behind those that overtake it. */
    for (; at > 0 && w->queue[(w->first + at - 1) % SOAK_QUEUE].at_s > at_s; at--)
        w->queue[(w->first + at) % SOAK_QUEUE] = w->queue[(w->first + at - 1) % SOAK_QUEUE];
    struct soak_packet *slot = &w->queue[(w->first + at) % SOAK_QUEUE];
    slot->at_s = at_s;
    slot->port = s->guest.port;
    slot->frames = s->guest.unit_frames;
    memcpy(slot->bytes, packet, SOAK_PACKET_BYTES);
}

static void send_packet(struct soak *s, double at_s)
{
    struct soak_guest *g = &s->guest;
    struct soak_wire *w = &s->wire;
    uint8_t packet[SOAK_PACKET_BYTES];
    scream_udp_build(packet, &(struct scream_udp_header){.sample_rate = pcm_rate_marker(g->format.rate),
                                                         .sample_size = g->format.bits,
                                                         .channels = g->format.channels,
                                                         .channel_map = g->format.mask});
    copy_wave(g, packet + SCREAM_UDP_HEADER_BYTES, SCREAM_UDP_PAYLOAD_BYTES);
    if (w->lose > 0) {
        w->lose--;
        s->count.lost += g->unit_frames;
        return;
    }
    if (w->delay > 0) {
        w->delay--;
        at_s += 0.012;
    }
    put(s, packet, at_s);
    if (w->duplicate > 0) {
        w->duplicate--;
        s->count.twice += g->unit_frames;
        put(s, packet, at_s + PACKET_S / 2);
    }
}

static void deliver(struct soak *s)
{
    struct soak_guest *g = &s->guest;
    double at_s = s->now_s;
    g->delivery_s = INFINITY;
    if (!g->open)
        return;
    for (; g->delivered < g->found; g->delivered += g->unit_frames) {
        s->count.sent += g->unit_frames;
        if (s->params->kind == SOURCE_SHM) {
            copy_wave(g, scream_shm_writer_chunk(&s->wire.writer), s->wire.writer.header.chunk_size);
            scream_shm_writer_publish(&s->wire.writer);
        } else {
            send_packet(s, at_s);
            at_s += PACKET_S;
        }
    }
    double behind = soak_guest_frames(s, s->now_s) - (double)g->delivered;
    g->behind_count = fmin(g->behind_count + 1.0, BEHIND_COUNT);
    g->behind_frames += (behind - g->behind_frames) / g->behind_count;
}

/* --- what reads it */

static struct feed *written_feed(const struct soak *s)
{
    return s->next_feed ? s->next_feed : s->feed;
}

static void retire(struct soak *s)
{
    check_retire(s->check);
    playout_destroy(s->playout);
    feed_destroy(s->feed);
    s->playout = NULL;
    s->feed = NULL;
}

static void swap_feed(struct soak *s)
{
    if (s->playout && s->now_s < s->fade_until_s && !playout_silent(s->playout)) {
        s->swap_s = s->now_s + FADE_POLL_S;
        return;
    }
    s->swap_s = INFINITY;
    if (s->playout)
        retire(s);
    static const double latencies_ms[] = {0, 150};
    const struct playout_params params = {
        .quality = RESAMPLER_FASTEST,
        .latency_ns = (int64_t)latencies_ms[s->params->seed % 4 == 3] * 1000000,
        .max_latency_ns = s->params->seed % 4 == 2 ? 200000000 : 0,
    };
    s->feed = s->next_feed;
    s->next_feed = NULL;
    if (playout_create(&s->playout, s->feed, &params) < 0)
        abort();
    s->device.off_until_s = fmax(s->device.off_until_s, s->now_s + REOPEN_S);
    check_begin(s->check);
}

/* As source_thread.c does it, and stream.c. False: the block is refused. */
static bool new_feed(struct soak *s, const struct block *block, int64_t now_ns)
{
    struct feed *feed, *old = written_feed(s);
    if (old && now_ns - s->created_ns < FORMAT_NS)
        return false;
    if (feed_create(&feed, &block->format, s->params->kind) < 0)
        abort();
    if (old && now_ns - s->heard_ns < SOFT_NS)
        feed_start_softly(feed, feed_recent_peak(old));
    feed_destroy(s->next_feed);
    s->next_feed = feed;
    s->created_ns = now_ns;
    s->swap_s = s->now_s;
    s->fade_until_s = s->now_s;
    if (s->playout && !s->corked) {
        playout_mute(s->playout, true);
        s->fade_until_s += FADE_LIMIT_S;
    }
    return true;
}

static void write_feed(struct soak *s, const struct block *block, int64_t now_ns)
{
    struct feed *feed = written_feed(s);
    if ((!feed || !pcm_format_equal(feed_format(feed), &block->format)) && !new_feed(s, block, now_ns)) {
        s->count.refused += block->frames;
        return;
    }
    s->heard_ns = now_ns;
    s->count.fed += block->frames;
    feed_write(written_feed(s), block, now_ns);
    s->idle = false;
    if (s->corked) {
        s->corked = false;
        s->device.off_until_s = fmax(s->device.off_until_s, s->now_s + UNCORK_S);
    }
}

static int64_t patience_ns(const struct soak *s, int64_t now_ns)
{
    const struct feed *feed = written_feed(s);
    return feed ? feed_patience_ns(feed, now_ns) : 0;
}

static void fill(void *arg, struct packet_batch *batch, int64_t now_ns)
{
    struct soak *s = arg;
    struct soak_wire *w = &s->wire;
    const struct in_addr from = {.s_addr = htonl(0xC0A87A32)};
    unsigned taken = 0;
    for (; taken < PACKETS_BATCH && w->count > 0 && soak_ns(w->queue[w->first].at_s) <= now_ns; taken++) {
        struct soak_packet *packet = &w->queue[w->first];
        uint8_t *slot = packets_slot(batch, taken);
        memcpy(slot, packet->bytes, SOAK_PACKET_BYTES);
        packets_take(&s->packets, batch, from, htons((uint16_t)(40000 + packet->port)), slot, SOAK_PACKET_BYTES,
                     soak_ns(packet->at_s), 0);
        w->frames -= packet->frames;
        w->first = (w->first + 1) % SOAK_QUEUE;
        w->count--;
    }
    if (w->overflows > 0) {
        packets_lost(&s->packets, w->overflows);
        w->overflows = 0;
    }
    batch->full = taken == PACKETS_BATCH;
    if (!batch->full)
        packets_drained(&s->packets, now_ns);
}

/* The socket keeps the oldest. */
static void overflow(struct soak *s)
{
    struct soak_wire *w = &s->wire;
    unsigned arrived = 0;
    while (arrived < w->count && w->queue[(w->first + arrived) % SOAK_QUEUE].at_s <= s->now_s)
        arrived++;
    if (arrived <= SOAK_SOCKET)
        return;
    unsigned over = arrived - SOAK_SOCKET;
    for (unsigned i = 0; i < over; i++) {
        uint32_t frames = w->queue[(w->first + SOAK_SOCKET + i) % SOAK_QUEUE].frames;
        s->count.lost += frames;
        w->frames -= frames;
    }
    for (unsigned i = SOAK_SOCKET; i + over < w->count; i++)
        w->queue[(w->first + i) % SOAK_QUEUE] = w->queue[(w->first + i + over) % SOAK_QUEUE];
    w->count -= over;
    w->overflows += over;
}

static double source_wake_s(const struct soak *s)
{
    if (s->params->kind == SOURCE_SHM)
        return s->source_s;
    double arrives_s = s->wire.count > 0 ? s->wire.queue[s->wire.first].at_s + SOCKET_S : INFINITY;
    return fmax(fmax(arrives_s, seconds_of(s->rest_ns)), s->source_stalled_until_s);
}

/* What source_udp.c does around packets_next(). */
static void run_packets(struct soak *s, int64_t now_ns)
{
    struct block block;
    s->packets.rested = s->rest_ns > 0 && now_ns - s->rest_ns < REST_LATE_NS;
    unsigned count = 0;
    do {
        while (packets_next(&s->packets, &block, now_ns)) {
            int64_t read_ns = s->rest_ns < now_ns ? s->rest_ns : now_ns;
            block.waited_ns = read_ns > block.arrival_ns ? read_ns - block.arrival_ns : 0;
            write_feed(s, &block, now_ns);
            count++;
        }
    } while (s->packets.ahead_ready);
    bool rests = count > 0 && count <= PACKETS_BATCH / 2;
    int64_t rest_ns = rests ? patience_ns(s, now_ns) : 0;
    s->rest_ns = rest_ns > 0 ? now_ns + rest_ns : 0;
}

static void run_source(struct soak *s)
{
    int64_t now_ns = soak_ns(s->now_s);
    struct block block;
    if (s->params->kind == SOURCE_SHM) {
        while (s->source->ops->next(s->source, &block, now_ns) == 1) {
            write_feed(s, &block, now_ns);
            s->source->patience_ns = patience_ns(s, now_ns);
        }
        s->source_s = fmax(seconds_of(s->source->wake_ns + s->source->slack_ns), s->now_s + MIN_S);
        s->source_s = fmax(s->source_s, s->source_stalled_until_s);
    } else {
        overflow(s);
        run_packets(s, now_ns);
    }
    check_source(s->check);
}

/* --- the device */

static void pull(struct soak *s, double late_s, uint32_t queued)
{
    struct soak_device *d = &s->device;
    double noise_s = NOISE_S * (2.0 * soak_uniform(s) - 1.0);
    const struct pull_time time = {
        .cycle_ns = soak_ns(s->now_s + late_s + noise_s),
        .position_frames = d->position,
        .rate = d->rate,
        .delay_frames = queued,
        .clock_id = d->clock_id,
        .flags = d->flags,
    };
    d->flags = 0;
    double missed_s = queued > 0 || d->asked_at_s < 0.0 ? 0.0 : s->now_s - d->asked_at_s;
    double cycle_s = d->quantum / (d->rate * (1.0 + d->ppm * 1e-6));
    d->asked_at_s = queued > 0 ? d->asked_at_s + cycle_s : s->now_s + cycle_s;
    /* NaN: what the pull leaves alone is seen. */
    memset(s->out, 0xFF, (size_t)d->quantum * feed_format(s->feed)->channels * sizeof *s->out);
    playout_pull(s->playout, s->out, d->quantum, &time);
    check_pull(s->check, d->quantum, missed_s * d->rate);
}

static void device_cycle(struct soak *s)
{
    struct soak_device *d = &s->device;
    unsigned cycles = 1;
    s->corked = s->corked || (s->idle && (!s->playout || playout_silent(s->playout)));
    if (s->now_s >= d->off_until_s && s->playout && !s->corked) {
        pull(s, d->late_s, 0);
        d->late_s = 0.0;
        if (d->twice) {
            d->twice = false;
            pull(s, 0.0, d->quantum);
            cycles = 2;
        }
    }
    d->position += (int64_t)d->quantum * cycles;
    d->cycle_s = s->now_s + d->quantum * cycles / (d->rate * (1.0 + d->ppm * 1e-6));
}

/* --- all of it */

static bool open_source(struct soak *s)
{
    if (s->params->kind != SOURCE_SHM) {
        s->wire.queue = calloc(SOAK_QUEUE, sizeof *s->wire.queue);
        s->packets = (struct packets){.counters = &s->counters, .fill = fill, .arg = s};
        return s->wire.queue && packets_init(&s->packets, NULL, 0) == 0;
    }
    snprintf(s->wire.path, sizeof s->wire.path, "ring-%u", (unsigned)s->params->seed);
    int fd = open(s->wire.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    void *memory = MAP_FAILED;
    if (ftruncate(fd, RING_BYTES) == 0)
        memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED)
        return false;
    s->wire.memory = memory;
    return source_shm_open(&s->source, s->wire.path) == 0;
}

static bool setup(struct soak *s)
{
    s->out = malloc((size_t)SOAK_PULL_MAX * PCM_CHANNELS_MAX * sizeof *s->out);
    s->check = check_new(s);
    if (!s->out || !s->check || !open_source(s) ||
        pcm_format_parse(&s->guest.next_format, pcm_rate_marker(48000), 32, 1, 4) < 0)
        return false;
    soak_guest_open(s);
    s->device.cycle_s = soak_uniform(s) * 0.005;
    return true;
}

static void close_all(struct soak *s)
{
    feed_destroy(s->next_feed);
    if (s->source)
        s->source->ops->close(s->source);
    if (s->packets.senders)
        packets_free(&s->packets);
    if (s->wire.memory)
        munmap(s->wire.memory, RING_BYTES);
    if (s->wire.path[0])
        unlink(s->wire.path);
    free(s->wire.queue);
    free(s->guest.wave);
    free(s->out);
    free(s);
}

static void step(struct soak *s)
{
    struct soak_guest *g = &s->guest;
    double idle_s = s->idle || !written_feed(s) ? INFINITY : seconds_of(feed_idle_at_ns(written_feed(s)));
    double source_s = source_wake_s(s);
    double next_s = fmin(fmin(s->fault_s, s->swap_s), fmin(g->next_fire_s, g->delivery_s));
    next_s = fmin(fmin(next_s, source_s), fmin(fmin(idle_s, g->reopen_s), s->device.cycle_s));
    s->now_s = fmax(next_s, s->now_s);
    if (next_s == s->fault_s)
        soak_fault(s);
    else if (next_s == g->reopen_s)
        soak_guest_open(s);
    else if (next_s == g->delivery_s)
        deliver(s);
    else if (next_s == g->next_fire_s)
        guest_fire(s);
    else if (next_s == source_s)
        run_source(s);
    else if (next_s == s->swap_s)
        swap_feed(s);
    else if (next_s == idle_s)
        s->idle = true;
    else
        device_cycle(s);
}

int soak_run(const struct soak_params *params)
{
    struct soak *s = calloc(1, sizeof *s);
    if (!s)
        return -1;
    s->params = params;
    s->random = params->seed * 0x9E3779B97F4A7C15ULL + 0x1234567;
    s->guest.tick_s = s->guest.normal_tick_s = 0.010;
    s->guest.delay_s = 1e-3;
    s->guest.odd_until_s = INFINITY;
    s->guest.ppm = 150.0;
    s->device = (struct soak_device){.quantum = 256, .rate = 48000, .clock_id = 1, .asked_at_s = -1.0};
    s->swap_s = INFINITY;
    s->fault_s = 60.0;
    for (int i = 0; i < 8; i++)
        soak_uniform(s);
    if (!setup(s))
        abort();
    while (s->now_s < params->seconds)
        step(s);
    if (s->playout)
        retire(s);
    unsigned violations = check_finish(s->check);
    close_all(s);
    return violations == 0 ? 0 : 1;
}
