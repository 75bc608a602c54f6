/* SPDX-License-Identifier: MIT */
#include "tests/unit/source_udp_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define AHEAD_S 3600 /* the test's time, of the kernel's: how fast the test runs is nobody's business */

const struct scream_udp_header rig_stereo = {1, 16, 2, 3};

int rig_socket_at(const char *address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static uint16_t free_port(void)
{
    int fd = rig_socket_at("0.0.0.0", 0);
    struct sockaddr_in in;
    socklen_t length = sizeof in;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
    close(fd);
    return ntohs(in.sin_port);
}

void rig_open(struct rig *r, const struct source_udp_params *params)
{
    if (r->source)
        r->source->ops->close(r->source);
    assert_int_equal(source_udp_open(&r->source, params), 0);
}

int rig_setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    for (unsigned i = 0; i < RIG_SENDERS; i++)
        r->sockets[i] = -1;
    r->port = free_port();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    r->now_ns = (int64_t)(now.tv_sec + AHEAD_S) * RIG_SECOND + now.tv_nsec;
    rig_open(r, &(struct source_udp_params){.port = r->port});
    *state = r;
    return 0;
}

int rig_teardown(void **state)
{
    struct rig *r = *state;
    if (r->source)
        r->source->ops->close(r->source);
    for (unsigned i = 0; i < RIG_SENDERS; i++)
        if (r->sockets[i] >= 0)
            close(r->sockets[i]);
    free(r);
    return 0;
}

void rig_send_raw(struct rig *r, unsigned sender, const void *data, size_t size)
{
    assert_in_range(sender, 0, RIG_SENDERS - 1);
    if (r->sockets[sender] < 0) {
        char address[32];
        snprintf(address, sizeof address, "127.0.1.%u", sender + 1);
        r->sockets[sender] = rig_socket_at(address, 0);
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(r->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(sendto(r->sockets[sender], data, size, 0, (struct sockaddr *)&to, sizeof to), size);
}

void rig_send(struct rig *r, unsigned sender, const struct scream_udp_header *header, size_t payload, uint8_t fill)
{
    uint8_t packet[65507];
    scream_udp_build(packet, header);
    memset(packet + SCREAM_UDP_HEADER_BYTES, fill, payload);
    rig_send_raw(r, sender, packet, SCREAM_UDP_HEADER_BYTES + payload);
}

void rig_drain(struct rig *r)
{
    struct block block;
    r->count = 0;
    r->byte_count = 0;
    while (r->source->ops->next(r->source, &block, r->now_ns) == 1) {
        assert_true(r->count < RIG_HEARD);
        size_t bytes = block.frames * pcm_frame_bytes(&block.format);
        assert_true(block.frames > 0);
        assert_int_equal(block.chunk_frames, block.frames);
        assert_true(r->byte_count + bytes <= sizeof r->bytes);
        memcpy(r->bytes + r->byte_count, block.data, bytes);
        r->byte_count += bytes;
        r->heard[r->count++] = (struct rig_heard){block, block.data[0], block.data[bytes - 1]};
        assert_true(block.arrival_ns <= r->now_ns);
        assert_true(block.window_ns >= 0);
    }
    assert_true(r->source->wake_ns > r->now_ns);
}

void rig_wait(struct rig *r, int64_t ns)
{
    r->now_ns += ns;
    rig_drain(r); /* empty: what comes next came later than now */
    assert_int_equal(r->count, 0);
}

unsigned rig_flags(const struct rig *r, unsigned i)
{
    return r->heard[i].block.flags;
}

void rig_start(struct rig *r, unsigned sender, const struct scream_udp_header *header)
{
    rig_send(r, sender, header, 1152, 1);
    rig_send(r, sender, header, 1152, 1);
    rig_drain(r);
    assert_int_equal(r->count, 2);
}
