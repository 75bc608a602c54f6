/* SPDX-License-Identifier: MIT
 *
 * The memory that a virtual machine shares with its host, as it is found inside the machine: QEMU's ivshmem, PCI
 * 1af4:1110, which needs no driver. Its registers and memory are specified in QEMU's docs/specs/ivshmem-spec. [main]
 */
#ifndef EARSHOT_GUEST_DEVICE_H
#define EARSHOT_GUEST_DEVICE_H

#include "receiver/optable.h"

#include <stddef.h>

#define GUEST_DEVICE_DIRECTORY "/sys/bus/pci/devices"
#define GUEST_DEVICE_PATH_MAX  128

struct guest_device {
    char name[32];                    /* "0000:00:04.0" */
    char path[GUEST_DEVICE_PATH_MAX]; /* its memory, BAR 2, to be mapped */
    size_t bytes;
    unsigned count; /* how many there are to choose from, this one among them */
};

/* Looks through `directory`, which is as GUEST_DEVICE_DIRECTORY. `bytes` chooses by size, as the driver's registry value
 * does; 0 takes the smallest: what others want it for - pictures - is larger. Among equals it is the one at the lowest
 * PCI address. 0; -ENODEV: there is none; -EACCES: only another user may; -errno; each with a line in `error`. */
int guest_device_find(struct guest_device *device, const char *directory, size_t bytes,
                      char error[OPTABLE_ERROR_MAX]);

/* Without a driver nobody but the firmware has switched the device's memory on, and not every firmware does: what is
 * written then goes nowhere. 0, or -errno with a line in `error`. */
int guest_device_enable(const struct guest_device *device, const char *directory, char error[OPTABLE_ERROR_MAX]);

#endif
