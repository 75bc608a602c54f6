/* SPDX-License-Identifier: MIT */
#include "receiver/guest_device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VENDOR         0x1af4
#define DEVICE         0x1110
#define COMMAND_AT     4 /* in the configuration space */
#define COMMAND_MEMORY 2 /* the device answers at its memory's addresses */
#define MIB            1048576.0

/* sysfs has a file for each property. -errno. */
static int open_property(const char *directory, const char *name, const char *property, int flags)
{
    char path[GUEST_DEVICE_PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s/%s", directory, name, property);
    if (length < 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static bool property_is(const char *directory, const char *name, const char *property, unsigned long wanted)
{
    char text[32];
    int fd = open_property(directory, name, property, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0 && strtoul(text, NULL, 16) == wanted;
}

/* Fills in what it is. False: another device, or one without memory. */
static bool look_at(struct guest_device *device, const char *directory, const char *name)
{
    struct stat st;
    if (!property_is(directory, name, "vendor", VENDOR) || !property_is(directory, name, "device", DEVICE))
        return false;
    /* Not resource2_wc: with writes combined, the index could be seen before the chunk. */
    int length = snprintf(device->path, sizeof device->path, "%s/%s/resource2", directory, name);
    if (length < 0 || (size_t)length >= sizeof device->path || stat(device->path, &st) != 0 || st.st_size <= 0)
        return false;
    snprintf(device->name, sizeof device->name, "%.31s", name);
    device->bytes = (size_t)st.st_size;
    return true;
}

int guest_device_find(struct guest_device *device, const char *directory, size_t bytes, char error[OPTABLE_ERROR_MAX])
{
    *device = (struct guest_device){.count = 0};
    struct dirent **entries;
    struct guest_device other = {.count = 0};
    unsigned there = 0, fitting = 0;
    int count = scandir(directory, &entries, NULL, alphasort); /* addresses have a fixed number of digits */
    for (int i = 0; i < count; i++) {
        struct guest_device found = {.count = 0};
        if (look_at(&found, directory, entries[i]->d_name)) {
            there++;
            other = found;
            if (bytes == 0 || found.bytes == bytes) {
                fitting++;
                if (fitting == 1 || found.bytes < device->bytes)
                    *device = found;
            }
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    device->count = fitting;
    if (there == 0) {
        snprintf(
            error, OPTABLE_ERROR_MAX,
            "there is no shared memory (PCI %04x:%04x) here. --shm auto is for inside a virtual machine that has it: "
            "`earshot setup` on its host says how",
            VENDOR, DEVICE);
        return -ENODEV;
    }
    if (fitting == 0) {
        snprintf(error, OPTABLE_ERROR_MAX, "no shared memory of %g MiB is here, but %s, which has %g: see --size",
                 (double)bytes / MIB, other.name, (double)other.bytes / MIB);
        return -ENODEV;
    }
    if (access(device->path, R_OK | W_OK) != 0) {
        int result = -errno;
        snprintf(error, OPTABLE_ERROR_MAX, "cannot write into the shared memory %s: %s. Start this with sudo",
                 device->name, strerror(-result));
        return result;
    }
    return 0;
}

int guest_device_enable(const struct guest_device *device, const char *directory, char error[OPTABLE_ERROR_MAX])
{
    uint8_t command = 0;
    int result = 0;
    int fd = open_property(directory, device->name, "config", O_RDONLY);
    if (fd < 0 || pread(fd, &command, 1, COMMAND_AT) != 1)
        result = fd < 0 ? fd : -EIO;
    if (fd >= 0)
        close(fd);
    if (result == 0 && !(command & COMMAND_MEMORY)) {
        fd = open_property(directory, device->name, "enable", O_WRONLY);
        result = fd < 0 ? fd : write(fd, "1", 1) == 1 ? 0 : -errno;
        if (fd >= 0)
            close(fd);
    }
    if (result != 0)
        snprintf(error, OPTABLE_ERROR_MAX, "cannot switch on the shared memory %s: %s", device->name,
                 strerror(-result));
    return result;
}
