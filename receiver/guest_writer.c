/* SPDX-License-Identifier: MIT */
#include "receiver/guest_writer.h"

#include "ringbuf/scream_udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DEFAULT_BYTES     ((size_t)2 << 20)
#define SHM_BYTES_MAX     ((size_t)1 << 30)
#define UDP_PAYLOAD_MAX   65507u
#define SEND_TIMEOUT_S    1
#define RING_CHUNKS_LEAST 2
#define RING_FILE_MODE    0660

/* -EINVAL is for wrong options: the kernel's own becomes -EIO. */
static int fail(char error[OPTABLE_ERROR_MAX], int result, const char *what, const char *where, const char *hint)
{
    snprintf(error, OPTABLE_ERROR_MAX, "%s %.80s: %s%s%s", what, where, strerror(-result), *hint ? ". " : "", hint);
    return result == -EINVAL ? -EIO : result;
}

/* How much of the opened file to map; an ordinary file is grown to it. Blocks are allocated at once: a full /dev/shm
 * is an error here, and not SIGBUS later. */
static int size_memory(struct guest_writer *writer, const struct guest_shm_params *params, size_t needed,
                       char error[OPTABLE_ERROR_MAX])
{
    struct stat st;
    struct statfs fs;
    if (fstat(writer->fd, &st) != 0 || fstatfs(writer->fd, &fs) != 0)
        return fail(error, -errno, "cannot look at", params->path, "");
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
        snprintf(error, OPTABLE_ERROR_MAX, "%.80s is neither a file nor a device that can be mapped", params->path);
        return -ENODEV;
    }
    bool fixed = S_ISCHR(st.st_mode) || fs.f_type == SYSFS_MAGIC;
    size_t there = (size_t)st.st_size;
    size_t wanted = params->bytes;
    if (wanted == 0)
        wanted = there > 0 && !S_ISCHR(st.st_mode) ? there : DEFAULT_BYTES;
    if (!fixed && wanted < there)
        wanted = there; /* QEMU would not shrink it either */
    if (wanted > SHM_BYTES_MAX)
        wanted = SHM_BYTES_MAX;
    if (wanted < needed) {
        snprintf(error, OPTABLE_ERROR_MAX,
                 "%.80s is too small for two chunks: it has %zu KiB and needs %zu; give --size", params->path,
                 wanted >> 10, (needed >> 10) + 1);
        return -ENOSPC;
    }
    if (!fixed && wanted > there) {
        int result = posix_fallocate(writer->fd, 0, (off_t)wanted);
        if ((result == EOPNOTSUPP || result == EINVAL) && ftruncate(writer->fd, (off_t)wanted) == 0)
            result = 0;
        if (result != 0)
            return fail(error, -result, "cannot make room for", params->path, "");
    }
    writer->may_shrink = !fixed;
    writer->memory_bytes = wanted;
    return 0;
}

int guest_writer_open_shm(struct guest_writer *writer, const struct guest_shm_params *params,
                          char error[OPTABLE_ERROR_MAX])
{
    *writer = (struct guest_writer){.fd = -1, .is_shm = true};
    writer->unit_bytes = params->chunk_frames * pcm_frame_bytes(&params->format);
    writer->fd = open(params->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (writer->fd < 0 && errno == ENOENT)
        writer->fd = open(params->path, O_RDWR | O_CREAT | O_CLOEXEC, RING_FILE_MODE);
    if (writer->fd < 0)
        return fail(error, -errno, "cannot open", params->path,
                    errno == EACCES ? "Its owner or its group may write into it" : "");

    struct scream_shm_header header = {
        .chunk_size = writer->unit_bytes,
        .sample_rate = pcm_rate_marker(params->format.rate),
        .sample_size = params->format.bits,
        .channels = params->format.channels,
        .channel_map = params->mask,
    };
    size_t needed = SCREAM_SHM_HEADER_BYTES + (size_t)RING_CHUNKS_LEAST * writer->unit_bytes;
    int result = size_memory(writer, params, needed, error);
    if (result != 0)
        goto out;
    void *memory = mmap(NULL, writer->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, writer->fd, 0);
    if (memory == MAP_FAILED) {
        result = fail(error, -errno, "cannot map", params->path, "");
        goto out;
    }
    writer->memory = memory;
    result = scream_shm_writer_open(&writer->ring, memory, writer->memory_bytes, &header);
    if (result != 0)
        result = fail(error, result, "cannot lay a ring into", params->path, "");
out:
    if (result != 0)
        guest_writer_close(writer);
    return result;
}

/* Names go to the kernel as an index or a device; addresses also become the packets' sender. */
static int choose_interface(const struct guest_writer *writer, const struct guest_udp_params *params, bool multicast,
                            char error[OPTABLE_ERROR_MAX])
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct ip_mreqn request = {0};
    bool by_address = inet_pton(AF_INET, params->interface, &from.sin_addr) == 1;
    if (by_address)
        request.imr_address = from.sin_addr;
    else
        request.imr_ifindex = (int)if_nametoindex(params->interface);
    if (!by_address && request.imr_ifindex == 0) {
        snprintf(error, OPTABLE_ERROR_MAX, "there is no interface %.40s: `ip link` lists what there is",
                 params->interface);
        return -ENODEV;
    }
    if (by_address && bind(writer->fd, (struct sockaddr *)&from, sizeof from) != 0)
        return fail(error, -errno, "cannot send from", params->interface, "`ip address` lists this host's");
    if (multicast && setsockopt(writer->fd, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request) != 0)
        return fail(error, -errno, "cannot send through", params->interface, "");
    if (!multicast && !by_address &&
        setsockopt(writer->fd, SOL_SOCKET, SO_BINDTODEVICE, params->interface,
                   (socklen_t)strlen(params->interface)) != 0)
        return fail(error, -errno, "cannot send through", params->interface, "Give its address instead");
    return 0;
}

int guest_writer_open_udp(struct guest_writer *writer, const struct guest_udp_params *params,
                          char error[OPTABLE_ERROR_MAX])
{
    *writer = (struct guest_writer){.fd = -1};
    writer->to =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(params->port), .sin_addr = params->address};
    uint64_t bytes = (uint64_t)params->packet_frames * pcm_frame_bytes(&params->format);
    if (bytes > UDP_PAYLOAD_MAX - SCREAM_UDP_HEADER_BYTES) {
        snprintf(error, OPTABLE_ERROR_MAX, "--packet %u: a packet holds at most %u frames of this format",
                 params->packet_frames,
                 (UDP_PAYLOAD_MAX - SCREAM_UDP_HEADER_BYTES) / pcm_frame_bytes(&params->format));
        return -EINVAL;
    }
    writer->unit_bytes = bytes ? (uint32_t)bytes : SCREAM_UDP_PAYLOAD_BYTES;
    scream_udp_build(writer->packet_header, &(struct scream_udp_header){
                                                .sample_rate = pcm_rate_marker(params->format.rate),
                                                .sample_size = params->format.bits,
                                                .channels = params->format.channels,
                                                .channel_map = params->mask,
                                            });
    writer->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (writer->fd < 0)
        return fail(error, -errno, "cannot send", "UDP", "");

    bool multicast = IN_MULTICAST(ntohl(params->address.s_addr));
    const int on = 1;
    const struct timeval timeout = {.tv_sec = SEND_TIMEOUT_S};
    int result = 0;
    if (setsockopt(writer->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0 ||
        (multicast && (setsockopt(writer->fd, IPPROTO_IP, IP_MULTICAST_TTL, &params->ttl, sizeof params->ttl) != 0 ||
                       setsockopt(writer->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof on) != 0)))
        result = fail(error, -errno, "cannot set up", "UDP", "");
    if (result == 0 && params->interface)
        result = choose_interface(writer, params, multicast, error);
    if (result != 0)
        guest_writer_close(writer);
    return result;
}

static int write_chunk(struct guest_writer *writer, const uint8_t *pcm)
{
    struct stat st;
    if (writer->may_shrink && (fstat(writer->fd, &st) != 0 || (size_t)st.st_size < writer->memory_bytes))
        return -ESTALE;
    memcpy(scream_shm_writer_chunk(&writer->ring), pcm, writer->unit_bytes);
    scream_shm_writer_publish(&writer->ring);
    return 0;
}

static int write_packet(struct guest_writer *writer, const uint8_t *pcm)
{
    struct iovec parts[] = {
        {.iov_base = writer->packet_header,  .iov_len = sizeof writer->packet_header},
        {.iov_base = (void *)(uintptr_t)pcm, .iov_len = writer->unit_bytes          },
    };
    struct msghdr message = {
        .msg_name = &writer->to, .msg_namelen = sizeof writer->to, .msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(writer->fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int guest_writer_write(struct guest_writer *writer, const uint8_t *pcm)
{
    return writer->is_shm ? write_chunk(writer, pcm) : write_packet(writer, pcm);
}

void guest_writer_close(struct guest_writer *writer)
{
    if (writer->fd < 0)
        return;
    struct stat st;
    bool whole = !writer->may_shrink || (fstat(writer->fd, &st) == 0 && (size_t)st.st_size >= writer->memory_bytes);
    if (writer->ring.memory && whole)
        scream_shm_writer_close(&writer->ring);
    if (writer->memory)
        munmap(writer->memory, writer->memory_bytes);
    close(writer->fd);
    *writer = (struct guest_writer){.fd = -1};
}
