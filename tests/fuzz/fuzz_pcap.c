/* SPDX-License-Identifier: MIT
 *
 * Captured frames: dissected, and what they carry handed on as source_pcap does. Input: how (1 byte: pause, whether the
 * clock is known, the end of a batch), length (2 bytes), how much of it is not captured (1 byte), the frame; again.
 */
#include "receiver/datagram.h"
#include "receiver/packets.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

#define MS 1000000LL

struct feeder {
    struct source base;
    struct packets packets;
    struct fuzz_input input;
    int64_t now_ns;
};

/* Returns the slots used: 0 or 1. */
static unsigned take_frame(struct feeder *f, struct packet_batch *batch, unsigned slot, uint8_t how)
{
    size_t wanted = fuzz_byte(&f->input), length;
    wanted |= (size_t)fuzz_byte(&f->input) << 8;
    size_t missing = fuzz_byte(&f->input);
    const uint8_t *bytes = fuzz_bytes(&f->input, wanted, &length);
    /* On the heap, and no longer than told. */
    uint8_t *frame = malloc(length ? length : 1);
    fuzz_must(frame != NULL);
    memcpy(frame, bytes, length);
    struct datagram datagram;
    enum datagram_kind kind = datagram_find(&datagram, frame, length, length + missing);
    unsigned used = 0;
    if (kind == DATAGRAM_WHOLE) {
        fuzz_must(datagram.at + datagram.bytes <= length);
        int64_t arrival_ns, window_ns;
        packets_arrival(&f->packets, how & 0x20 ? -1 : f->now_ns - (how & 0x0f) * MS, f->now_ns, &arrival_ns,
                        &window_ns);
        fuzz_must(arrival_ns <= f->now_ns && window_ns >= 0);
        uint8_t *to = packets_slot(batch, slot);
        memcpy(to, frame + datagram.at, datagram.bytes);
        packets_take(&f->packets, batch, datagram.from, datagram.from_port, to, datagram.bytes, arrival_ns,
                     window_ns);
        used = 1;
    }
    free(frame);
    return used;
}

static void fill(void *arg, struct packet_batch *batch, int64_t now_ns)
{
    struct feeder *f = arg;
    unsigned slots = 0;
    while (f->input.size > 0 && slots < PACKETS_BATCH) {
        uint8_t how = fuzz_byte(&f->input);
        if (how & 0x80)
            packets_lost(&f->packets, how & 3);
        slots += take_frame(f, batch, slots, how);
        if (how & 0x40)
            break;
    }
    batch->full = slots == PACKETS_BATCH;
    if (!batch->full)
        packets_drained(&f->packets, now_ns);
}

static int feeder_next(struct source *source, struct block *block, int64_t now_ns)
{
    struct feeder *f = (struct feeder *)source;
    int found = packets_next(&f->packets, block, now_ns);
    source->wake_ns = now_ns + (f->packets.ahead_ready ? 0 : 1);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct source_ops ops = {.next = feeder_next};
    struct feeder feeder = {
        .base = {.ops = &ops, .kind = SOURCE_PCAP},
        .input = {data,        size               },
        .now_ns = 1000000 * MS,
    };
    feeder.packets = (struct packets){.counters = &feeder.base.counters, .fill = fill, .arg = &feeder};
    feeder.packets.drained_ns = feeder.now_ns;
    fuzz_must(packets_init(&feeder.packets, NULL, 0) == 0);
    while (feeder.input.size > 0) {
        uint8_t pause = feeder.input.data[feeder.input.size / 2];
        fuzz_drain(&feeder.base, feeder.now_ns);
        feeder.now_ns += 1 + pause * MS;
    }
    packets_free(&feeder.packets);
    return 0;
}
