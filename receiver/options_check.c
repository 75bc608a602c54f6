/* SPDX-License-Identifier: MIT */
#include "backends/backend.h"
#include "receiver/options.h"

#include <errno.h>
#include <string.h>

static int check_pcap(const struct options *options, bool in_file, char error[OPTABLE_ERROR_MAX])
{
    const char *said = in_file ? "pcap = yes" : "-P";
#ifdef EARSHOT_PCAP
    if (options->interface)
        return 0;
    snprintf(error, OPTABLE_ERROR_MAX, "%s: needs %s", said,
             in_file ? "interface = NAME" : "-i, the interface to capture on");
#else
    (void)options;
    snprintf(error, OPTABLE_ERROR_MAX, "%s: this earshot was built without libpcap (EARSHOT_PCAP)", said);
#endif
    return -EINVAL;
}

static int check_backend(const struct options *options, bool in_file, char error[OPTABLE_ERROR_MAX])
{
    const char *said = in_file ? "backend =" : "-o";
    const struct backend *backend = backend_find(options->backend);
    if (!backend) {
        int length =
            snprintf(error, OPTABLE_ERROR_MAX, "%s %s: not in this build; it has auto", said, options->backend);
        for (const struct backend *const *b = backend_list(); *b && length < OPTABLE_ERROR_MAX; b++)
            length += snprintf(error + length, (size_t)(OPTABLE_ERROR_MAX - length), ", %s", (*b)->name);
        if (length < OPTABLE_ERROR_MAX && !in_file)
            snprintf(error + length, (size_t)(OPTABLE_ERROR_MAX - length), ", raw");
        return -EINVAL;
    }
    if (!backend->needs_target || options->target)
        return 0;
    snprintf(error, OPTABLE_ERROR_MAX, "%s %s: needs %s", said, backend->name, in_file ? "target = FILE" : "-d FILE");
    return -EINVAL;
}

static int check_target(const struct options *options, bool in_file, char error[OPTABLE_ERROR_MAX])
{
    const struct backend *backend = backend_find(options->backend);
    if (!backend || !options->target || !backend->check_target || backend->check_target(options->target) == 0)
        return 0;
    snprintf(error, OPTABLE_ERROR_MAX, "%s %s: must be %s", in_file ? "target =" : "-d", options->target,
             backend->target_help);
    return -EINVAL;
}

/* Known, but not in this build: the answer is one line, not silence. */
static int check(const struct options *options, bool in_file, const char **key, char error[OPTABLE_ERROR_MAX])
{
    *key = "pcap";
    if (options->source == FROM_PCAP && check_pcap(options, in_file, error) < 0)
        return -EINVAL;
    *key = "connect";
    if (options->connect && !backend_find("jack")) {
        snprintf(error, OPTABLE_ERROR_MAX, "%s: this build has no JACK", in_file ? "connect" : "--connect");
        return -EINVAL;
    }
    if (options->raw || !strcmp(options->backend, "auto"))
        return 0;
    *key = "target";
    if (check_target(options, in_file, error) < 0)
        return -EINVAL;
    *key = "backend";
    return check_backend(options, in_file, error);
}

int options_check(const struct options *options, char error[OPTABLE_ERROR_MAX])
{
    const char *key;
    return check(options, false, &key, error);
}

int options_finish(struct options *options, const char **key, char error[OPTABLE_ERROR_MAX])
{
    if (options->source == FROM_NONE)
        options->source = FROM_MULTICAST;
    if (options->raw) {
        *key = "backend";
        snprintf(error, OPTABLE_ERROR_MAX, "backend = raw: there is one standard output, so only -o raw will do");
        return -EINVAL;
    }
    return check(options, true, key, error);
}
