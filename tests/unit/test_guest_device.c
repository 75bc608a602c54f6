/* SPDX-License-Identifier: MIT */
#include "receiver/guest_device.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB      ((size_t)1 << 20)
#define BRIDGE   "0x8086", "0x7000"
#define IVSHMEM  "0x1af4", "0x1110"
#define MEMORY   2 /* of the command register */
#define NO_BYTES 0

/* A directory as /sys/bus/pci/devices is. */
static int set_up(void **state)
{
    char *directory = strdup("/tmp/earshot-pci-XXXXXX");
    *state = directory;
    return directory && mkdtemp(directory) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static int tear_down(void **state)
{
    int result = nftw(*state, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return result;
}

static void write_property(const char *directory, const char *name, const char *property, const void *bytes,
                           size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", directory, name, property);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void add(const char *directory, const char *name, const char *vendor, const char *device, size_t bytes,
                uint8_t command)
{
    char path[256], text[32];
    const uint8_t config[64] = {0xf4, 0x1a, 0x10, 0x11, command};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(text, sizeof text, "%s\n", vendor);
    write_property(directory, name, "vendor", text, strlen(text));
    snprintf(text, sizeof text, "%s\n", device);
    write_property(directory, name, "device", text, strlen(text));
    write_property(directory, name, "config", config, sizeof config);
    write_property(directory, name, "enable", "0\n", 2);
    if (bytes == NO_BYTES)
        return;
    write_property(directory, name, "resource2", "", 0);
    snprintf(path, sizeof path, "%s/%s/resource2", directory, name);
    assert_int_equal(truncate(path, (off_t)bytes), 0);
}

static void the_only_one_is_taken(void **state)
{
    const char *directory = *state;
    char error[OPTABLE_ERROR_MAX], path[256];
    struct guest_device device;
    add(directory, "0000:00:01.0", BRIDGE, 2 * MIB, MEMORY);
    add(directory, "0000:00:10.0", IVSHMEM, 2 * MIB, MEMORY);
    add(directory, "0000:00:03.0", "0x1af4", "0x1000", 2 * MIB, MEMORY); /* virtio-net */
    for (int with_size = 0; with_size < 2; with_size++) {
        assert_int_equal(guest_device_find(&device, directory, with_size ? 2 * MIB : 0, error), 0);
        snprintf(path, sizeof path, "%s/0000:00:10.0/resource2", directory);
        assert_string_equal(device.path, path);
        assert_string_equal(device.name, "0000:00:10.0");
        assert_int_equal(device.bytes, 2 * MIB);
        assert_int_equal(device.count, 1);
    }
}

static void the_smallest_is_taken_and_among_equals_the_lowest_address(void **state)
{
    const char *directory = *state;
    char error[OPTABLE_ERROR_MAX];
    struct guest_device device;
    add(directory, "0000:00:02.0", IVSHMEM, 32 * MIB, MEMORY); /* for pictures */
    add(directory, "0000:0a:00.0", IVSHMEM, 2 * MIB, MEMORY);
    add(directory, "0000:03:1f.0", IVSHMEM, 2 * MIB, MEMORY);
    add(directory, "0000:03:02.0", IVSHMEM, 4 * MIB, MEMORY);
    assert_int_equal(guest_device_find(&device, directory, 0, error), 0);
    assert_string_equal(device.name, "0000:03:1f.0");
    assert_int_equal(device.count, 4);
    assert_int_equal(guest_device_find(&device, directory, 32 * MIB, error), 0);
    assert_string_equal(device.name, "0000:00:02.0");
    assert_int_equal(device.count, 1);
    assert_int_equal(guest_device_find(&device, directory, 2 * MIB, error), 0);
    assert_string_equal(device.name, "0000:03:1f.0");
    assert_int_equal(device.count, 2);
    assert_int_equal(guest_device_find(&device, directory, 8 * MIB, error), -ENODEV);
    assert_non_null(strstr(error, "8 MiB"));
    assert_non_null(strstr(error, "--size"));
}

static void none_is_told_in_a_line(void **state)
{
    const char *directory = *state;
    char error[OPTABLE_ERROR_MAX], missing[256];
    struct guest_device device;
    assert_int_equal(guest_device_find(&device, directory, 0, error), -ENODEV);
    assert_non_null(strstr(error, "1af4:1110"));
    add(directory, "0000:00:01.0", BRIDGE, 2 * MIB, MEMORY);
    add(directory, "0000:00:02.0", IVSHMEM, NO_BYTES, MEMORY); /* as one that has only registers */
    assert_int_equal(guest_device_find(&device, directory, 0, error), -ENODEV);
    assert_null(strchr(error, '\n'));
    assert_true(strlen(error) < OPTABLE_ERROR_MAX - 1);      /* nothing cut off */
    snprintf(missing, sizeof missing, "%s/none", directory); /* a computer without PCI */
    assert_int_equal(guest_device_find(&device, missing, 0, error), -ENODEV);
    assert_non_null(strstr(error, "1af4:1110"));
}

static void what_belongs_to_root_is_told(void **state)
{
    if (geteuid() == 0)
        skip(); /* root may */
    const char *directory = *state;
    char error[OPTABLE_ERROR_MAX], path[256];
    struct guest_device device;
    add(directory, "0000:00:02.0", IVSHMEM, MIB, MEMORY);
    snprintf(path, sizeof path, "%s/0000:00:02.0/resource2", directory);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(guest_device_find(&device, directory, 0, error), -EACCES);
    assert_non_null(strstr(error, "sudo"));
}

static char enabled(const char *directory, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/enable", directory, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    int got = fgetc(file);
    fclose(file);
    return (char)got;
}

static void memory_is_switched_on_where_it_is_off(void **state)
{
    const char *directory = *state;
    char error[OPTABLE_ERROR_MAX], path[256];
    struct guest_device device;
    add(directory, "0000:00:02.0", IVSHMEM, MIB, MEMORY | 1);
    add(directory, "0000:00:03.0", IVSHMEM, 2 * MIB, 1);
    assert_int_equal(guest_device_find(&device, directory, MIB, error), 0);
    assert_int_equal(guest_device_enable(&device, directory, error), 0);
    assert_int_equal(enabled(directory, "0000:00:02.0"), '0');
    assert_int_equal(guest_device_find(&device, directory, 2 * MIB, error), 0);
    assert_int_equal(guest_device_enable(&device, directory, error), 0);
    assert_int_equal(enabled(directory, "0000:00:03.0"), '1');
    snprintf(path, sizeof path, "%s/0000:00:03.0/enable", directory);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(guest_device_enable(&device, directory, error), -ENOENT);
    assert_non_null(strstr(error, "0000:00:03.0"));
    snprintf(path, sizeof path, "%s/0000:00:03.0/config", directory);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(guest_device_enable(&device, directory, error), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_only_one_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_smallest_is_taken_and_among_equals_the_lowest_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(none_is_told_in_a_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_belongs_to_root_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_is_switched_on_where_it_is_off, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
