/* SPDX-License-Identifier: MIT
 *
 * Writes the fuzz targets' first inputs: well-behaved guests, for the fuzzers to spoil. Argument: the corpus directory.
 */
#include "ringbuf/scream_shm.h"
#include "ringbuf/scream_udp.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct seed {
    uint8_t bytes[4096];
    size_t size;
};

static void add(struct seed *seed, const void *bytes, size_t size)
{
    if (size > sizeof seed->bytes - seed->size)
        size = sizeof seed->bytes - seed->size;
    memcpy(seed->bytes + seed->size, bytes, size);
    seed->size += size;
}

static void add_byte(struct seed *seed, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    add(seed, &byte, 1);
}

static int store(const struct seed *seed, const char *dir, const char *target, unsigned number)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s/seed-%u", dir, target, number) >= (int)sizeof path)
        return -1;
    FILE *file = fopen(path, "wb");
    if (!file)
        return -1;
    size_t written = fwrite(seed->bytes, 1, seed->size, file);
    return fclose(file) == 0 && written == seed->size ? 0 : -1;
}

static const struct {
    uint8_t rate, bits, channels;
    uint16_t mask;
} formats[] = {
    {1,    16, 2, 3     },
    {0x81, 24, 6, 0x3f  },
    {4,    32, 8, 0x63f },
    {1,    16, 5, 0     },
    {2,    24, 7, 0xffff}
};
#define FORMATS (sizeof formats / sizeof formats[0])

/* Two senders, three packets each, with a pause. */
static int packet_seed(const char *dir, unsigned i)
{
    struct seed seed = {.size = 0};
    for (unsigned p = 0; p < 6; p++) {
        const struct scream_udp_header h = {formats[i].rate, formats[i].bits, formats[i].channels, formats[i].mask};
        uint8_t packet[SCREAM_UDP_HEADER_BYTES + 96];
        scream_udp_build(packet, &h);
        memset(packet + SCREAM_UDP_HEADER_BYTES, (int)p, 96);
        add_byte(&seed, sizeof packet);
        add_byte(&seed, 0);
        add_byte(&seed, p == 3 ? 0x88 : p % 2);
        add(&seed, packet, sizeof packet);
    }
    return store(&seed, dir, "packet", i);
}

/* A stream opens, plays, pauses, plays and closes. */
static int shm_seed(const char *dir, unsigned i)
{
    struct seed seed = {.size = 0};
    const unsigned frame = formats[i].bits / 8u * formats[i].channels;
    const struct scream_shm_header h = {.magic = SCREAM_SHM_MAGIC,
                                        .offset = i % 2 ? 48 : 24,
                                        .max_chunks = (uint16_t)((65536 - 48) / (frame * 64)),
                                        .chunk_size = frame * 64,
                                        .sample_rate = formats[i].rate,
                                        .sample_size = formats[i].bits,
                                        .channels = formats[i].channels,
                                        .channel_map = formats[i].mask};
    uint8_t header[SCREAM_SHM_HEADER_BYTES];
    scream_shm_encode(header, &h);
    static const uint8_t before[] = {4, 200}, play[] = {3, 1, 4, 5, 3, 1, 4, 6, 3, 2, 4, 8}, pause[] = {4, 255};
    static const uint8_t closed[SCREAM_SHM_HEADER_BYTES];
    add(&seed, before, sizeof before);
    add_byte(&seed, 1);
    add(&seed, header, sizeof header);
    add(&seed, play, sizeof play);
    add(&seed, play, sizeof play);
    add(&seed, pause, sizeof pause);
    add(&seed, play, sizeof play);
    add_byte(&seed, 1);
    add(&seed, closed, sizeof closed);
    add(&seed, pause, sizeof pause);
    return store(&seed, dir, "shm", i);
}

static int config_seeds(const char *dir)
{
    static const char *const files[] = {
        "# a guest\n\nshm = /dev/shm/scream-ivshmem\nlatency = 20\nmax-latency = 100\nquality = best\nname = Desk\n",
        "port = 4011\ngroup = 239.1.2.3\ninterface = virbr0\nfrom = 10.0.0.1,10.0.0.2\nfrom = 10.0.0.3\n",
        "unicast = yes\nbackend = null\ntarget = period=128,ppm=50\nno-connect = on\nserver = x\nsink = y",
        "; remark\r\n\tlatency: auto ; remark\r\npcap = no\r\nconnect = no\r\n",
        "[section]\nport = 1\n",
        "unknown = 1\n",
    };
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct seed seed = {.size = 0};
        add(&seed, files[i], strlen(files[i]));
        if (store(&seed, dir, "config", i) < 0)
            return -1;
    }
    return 0;
}

/* The same guest behind a capture, with and without tags and options. */
static int pcap_seed(const char *dir, unsigned i)
{
    static const uint8_t tags[] = {0x88, 0xa8, 0, 5, 0x81, 0, 0, 7};
    const size_t tag_bytes = i % 3 * 4, option_bytes = i % 2 * 8, payload = 96;
    const size_t udp_bytes = 8 + SCREAM_UDP_HEADER_BYTES + payload, ip_bytes = 20 + option_bytes + udp_bytes;
    struct seed seed = {.size = 0};
    for (unsigned p = 0; p < 8; p++) {
        uint8_t frame[256] = {0}, *at = frame + 12;
        memcpy(at, tags + sizeof tags - tag_bytes, tag_bytes);
        at += tag_bytes;
        at[0] = 0x08;
        at += 2;
        at[0] = (uint8_t)(0x45 + option_bytes / 4);
        at[3] = (uint8_t)ip_bytes;
        at[6] = p == 6 ? 0x20 : 0x40;
        at[9] = 17;
        memcpy(at + 12, (const uint8_t[]){10, 0, 0, (uint8_t)(1 + p % 2), 239, 255, 77, 77}, 8);
        at += 20 + option_bytes;
        memcpy(at, (const uint8_t[]){0x10, 0, SCREAM_UDP_PORT >> 8, SCREAM_UDP_PORT & 0xff, 0, (uint8_t)udp_bytes},
               6);
        const struct scream_udp_header h = {formats[i].rate, formats[i].bits, formats[i].channels, formats[i].mask};
        scream_udp_build(at + 8, &h);
        memset(at + 8 + SCREAM_UDP_HEADER_BYTES, (int)p, payload);
        size_t size = (size_t)(at - frame) + udp_bytes;
        add_byte(&seed, p == 3 ? 0xc1 : p % 2);
        add_byte(&seed, (unsigned)size);
        add_byte(&seed, 0);
        add_byte(&seed, p == 7 ? 10 : 0);
        add(&seed, frame, size);
    }
    return store(&seed, dir, "pcap", i);
}

static int options_seeds(const char *dir)
{
    static const struct {
        unsigned kind;
        const char *words; /* with spaces for zeros */
    } lines[] = {
        {0, "-m /dev/shm/scream-ivshmem -o pipewire -d sink -n Desk -t 32 -l 200 -q best"                       },
        {0, "run -uvp4011 --from=10.0.0.1,10.0.0.2 --interface virbr0 -c -o raw"                                },
        {0, "-P -i macvtap0 -g 239.255.77.78 --latency=auto --max-latency 0"                                    },
        {0, "status Desk --json --watch"                                                                        },
        {0, "demo --seconds 3 -o wav -d x.wav -- -x"                                                            },
        {2, "-u -p 4010 -s sink -t 20 --connect x --config y --server z -h -V"                                  },
        {1, "--shm /dev/shm/x --rate 44100 --bits 24 --channels 6 --mask 0x3f --tone 440 --ppm 200 --jitter 2"  },
        {1, "--udp 239.255.77.77:4010 --packet 288 --seconds 5 --wav x.wav --level -6 --log y -q --interface lo"},
    };
    for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct seed seed = {.size = 0};
        add_byte(&seed, lines[i].kind);
        add(&seed, lines[i].words, strlen(lines[i].words) + 1);
        for (size_t at = 1; at < seed.size; at++)
            seed.bytes[at] = seed.bytes[at] == ' ' ? 0 : seed.bytes[at];
        if (store(&seed, dir, "options", i) < 0)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    for (unsigned i = 0; i < FORMATS; i++)
        if (packet_seed(argv[1], i) < 0 || shm_seed(argv[1], i) < 0 || pcap_seed(argv[1], i) < 0) {
            perror(argv[1]);
            return 1;
        }
    if (config_seeds(argv[1]) < 0 || options_seeds(argv[1]) < 0) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}
