/* SPDX-License-Identifier: MIT
 *
 * Packets through a real socket into the source. Input: length (2 bytes), sender and pause (1 byte), the packet; again.
 */
#include "ringbuf/scream_udp.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS      1000000LL
#define SENDERS 4

static int bound_socket(const char *address, uint16_t port, uint16_t *got)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof in;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    fuzz_must(fd >= 0 && inet_pton(AF_INET, address, &in.sin_addr) == 1);
    fuzz_must(bind(fd, (struct sockaddr *)&in, sizeof in) == 0);
    fuzz_must(getsockname(fd, (struct sockaddr *)&in, &length) == 0);
    *got = ntohs(in.sin_port);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    uint16_t port, unused;
    int fds[SENDERS];
    close(bound_socket("127.0.0.1", 0, &port));
    for (unsigned i = 0; i < SENDERS; i++) {
        char address[16];
        snprintf(address, sizeof address, "127.0.2.%u", i + 1);
        fds[i] = bound_socket(address, 0, &unused);
    }
    struct source *source;
    fuzz_must(source_udp_open(&source, &(struct source_udp_params){.port = port, .interface = "127.0.0.1"}) == 0);
    int64_t now_ns = 1000000 * MS;
    fuzz_drain(source, now_ns);

    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (input.size > 0) {
        size_t wanted = fuzz_byte(&input), length;
        wanted |= (size_t)fuzz_byte(&input) << 8;
        uint8_t how = fuzz_byte(&input);
        const uint8_t *packet = fuzz_bytes(&input, wanted, &length);
        struct scream_udp_header header;
        int payload = scream_udp_parse(&header, packet, length);
        fuzz_must(payload == -EBADMSG || payload == (int)(length - SCREAM_UDP_HEADER_BYTES));
        sendto(fds[how % SENDERS], packet, length, 0, (struct sockaddr *)&to, sizeof to);
        if (how & 0x40)
            fuzz_drain(source, now_ns);
        if (how & 0x80)
            fuzz_drain(source, now_ns += 2 * MS * (how & 0x3f) * (how & 0x3f));
    }
    fuzz_drain(source, now_ns + 1);
    source->ops->close(source);
    for (unsigned i = 0; i < SENDERS; i++)
        close(fds[i]);
    return 0;
}
