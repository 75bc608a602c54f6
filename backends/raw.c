/* SPDX-License-Identifier: MIT */
#include "backends/raw.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void raw_init(struct raw_writer *writer, int fd)
{
    *writer = (struct raw_writer){.fd = fd};
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Writes until `deadline_ms`. Returns what was written in *done, also with an error. */
static int write_until(int fd, const uint8_t *data, size_t size, int64_t deadline_ms, size_t *done)
{
    *done = 0;
    while (*done < size) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        const int64_t left_ms = deadline_ms - now_ms();
        const int ready = poll(&poll_fd, 1, left_ms > 0 ? (int)left_ms : 0);
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready < 0)
            continue;
        if (ready == 0)
            return -ETIMEDOUT;
        /* A pipe that polls writable takes PIPE_BUF bytes without blocking, even where its fd is a blocking one. */
        const size_t piece = size - *done < PIPE_BUF ? size - *done : PIPE_BUF;
        const ssize_t written = write(fd, data + *done, piece);
        if (written > 0)
            *done += (size_t)written;
        else if (written < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
    }
    return 0;
}

int raw_write(struct raw_writer *writer, uint64_t sender, const uint8_t *data, size_t size, size_t frame_bytes)
{
    if (frame_bytes == 0 || frame_bytes > RAW_FRAME_MAX || size % frame_bytes != 0)
        return -EINVAL;
    if (!writer->has_sender) {
        writer->has_sender = true;
        writer->sender = sender;
    }
    if (sender != writer->sender)
        return 0;

    const int64_t deadline_ms = now_ms() + RAW_TIMEOUT_MS;
    size_t done;
    int rc = write_until(writer->fd, writer->rest, writer->owed, deadline_ms, &done);
    writer->owed -= done;
    memmove(writer->rest, writer->rest + done, writer->owed);
    done = 0;
    if (rc == 0)
        rc = write_until(writer->fd, data, size, deadline_ms, &done);
    if (rc != -ETIMEDOUT)
        return rc;

    /* What follows must begin with a whole frame: keep the rest of the one that was cut. */
    if (done % frame_bytes != 0) {
        writer->owed = frame_bytes - done % frame_bytes;
        memcpy(writer->rest, data + done, writer->owed);
        done += writer->owed;
    }
    writer->dropped_bytes += size - done;
    return -ETIMEDOUT;
}
