/* SPDX-License-Identifier: MIT */
#include "receiver/setup_options.h"

#include "receiver/options.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

static struct setup_options *setup_of(void *target)
{
    return &((struct options *)target)->setup;
}

static int choose_way(struct setup_options *options, enum setup_way way)
{
    options->several_ways = options->several_ways || (options->way != SETUP_NONE && options->way != way);
    options->way = way;
    return 0;
}

/* QEMU takes powers of two, the driver's registry value counts whole MiB. */
int setup_set_shm(void *target, const char *value)
{
    size_t digits = strspn(value, "0123456789");
    if (!digits || digits > 4 || (value[digits] && strcmp(value + digits, "M") && strcmp(value + digits, "MiB")))
        return -EINVAL;
    unsigned long mib = strtoul(value, NULL, 10);
    if (mib < 1 || mib > SETUP_MIB_MAX || mib & (mib - 1))
        return -EINVAL;
    setup_of(target)->mib = (unsigned)mib;
    return choose_way(setup_of(target), SETUP_SHM);
}

/* What it prints is to be pasted into a shell: only what an interface is called in practice. */
int setup_set_bridge(void *target, const char *value)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-";
    size_t length = strlen(value);
    if (!length || length >= IF_NAMESIZE || strspn(value, plain) != length || *value == '.' || *value == '-')
        return -EINVAL;
    setup_of(target)->bridge = value;
    return choose_way(setup_of(target), SETUP_BRIDGE);
}

int setup_set_unicast(void *target, const char *value)
{
    (void)value;
    return choose_way(setup_of(target), SETUP_UNICAST);
}

int setup_set_install(void *target, const char *value)
{
    (void)value;
    setup_of(target)->install = true;
    return 0;
}

int setup_set_remove(void *target, const char *value)
{
    (void)value;
    setup_of(target)->remove = true;
    return 0;
}

int setup_set_dry_run(void *target, const char *value)
{
    (void)value;
    setup_of(target)->dry_run = true;
    return 0;
}

int setup_set_tmpfiles(void *target, const char *value)
{
    (void)value;
    setup_of(target)->tmpfiles = true;
    return 0;
}

/* The name becomes a file's. */
static bool is_name(const char *name)
{
    if (!*name || *name == '.' || *name == '-' || strlen(name) > SETUP_NAME_MAX)
        return false;
    for (; *name; name++) {
        if (*name == '/' || (unsigned char)*name < ' ' || *name == 0x7f)
            return false;
    }
    return true;
}

int setup_options_check(const struct setup_options *options, char error[OPTABLE_ERROR_MAX])
{
    if (!options->name)
        snprintf(error, OPTABLE_ERROR_MAX, "setup: for which VM? earshot setup NAME --shm 2M");
    else if (!is_name(options->name))
        snprintf(error, OPTABLE_ERROR_MAX,
                 "setup %.100s: the VM's name may have up to %d characters, but no / and neither . nor - first",
                 options->name, SETUP_NAME_MAX);
    else if (options->several_ways)
        snprintf(error, OPTABLE_ERROR_MAX, "setup: only one of --shm, --bridge and --unicast");
    else if (options->remove && options->install)
        snprintf(error, OPTABLE_ERROR_MAX, "setup: --install or --remove, not both");
    else if (options->way == SETUP_NONE && !options->remove)
        snprintf(error, OPTABLE_ERROR_MAX, "setup: which way? --shm 2M, --bridge virbr0 or --unicast");
    else if (options->tmpfiles && options->way != SETUP_SHM)
        snprintf(error, OPTABLE_ERROR_MAX, "setup --tmpfiles: is about shared memory and needs --shm");
    else
        return 0;
    return -EINVAL;
}
