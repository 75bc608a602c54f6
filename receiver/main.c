/* SPDX-License-Identifier: MIT
 *
 * argv to command. The only file that may exit.
 */
#include "receiver/config.h"
#include "receiver/daemon.h"
#include "receiver/demo.h"
#include "receiver/doctor.h"
#include "receiver/guest.h"
#include "receiver/log.h"
#include "receiver/options.h"
#include "receiver/setup.h"
#include "receiver/status.h"
#include "receiver/tune.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_USAGE 2

/* Looks at what `run` would play. A file that is no good has been reported, and is broken enough. */
static int run_doctor(const struct options *options, const struct log *log)
{
    const struct options *sources[CONFIGS_MAX];
    struct config_set set;
    if (config_load(&set, options, NULL, log) < 0)
        return EXIT_FAILURE;
    for (unsigned i = 0; i < set.count; i++)
        sources[i] = &set.configs[i]->options;
    struct doctor_params doctor = {.sources = sources,
                                   .source_count = set.count,
                                   .verbose = options->verbose,
                                   .out = stdout,
                                   .progress = isatty(STDERR_FILENO) ? stderr : NULL};
    int status = set.bad ? EXIT_FAILURE : EXIT_SUCCESS;
    if (set.count && doctor_run(&doctor) != EXIT_SUCCESS)
        status = EXIT_FAILURE;
    config_set_free(&set);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    enum options_command command;
    char error[OPTABLE_ERROR_MAX];
    int rest;
    if (options_parse(&options, &command, argc, argv, &rest, error) < 0) {
        fprintf(stderr, "earshot: %s\n", error);
        return EXIT_USAGE;
    }
    if (options.help) {
        options_help(command, stdout);
        return EXIT_SUCCESS;
    }
    if (options.version) {
        printf("earshot " EARSHOT_VERSION "\n");
        return EXIT_SUCCESS;
    }
    if (command == COMMAND_GUEST)
        return guest_run(argc - rest, argv + rest);
    if (command == COMMAND_STATUS) {
        struct status_options status = {.name = options.status_name, .json = options.json, .watch = options.watch};
        return status_client(&status);
    }

    if (command == COMMAND_TUNE)
        return tune_client(options.tune_name, options.settings, options.setting_count);
    if (command == COMMAND_SETUP) {
        struct setup_params setup = {.options = &options.setup, .out = stdout};
        return setup_run(&setup);
    }

    struct log log;
    log_init(&log, stderr, options.verbose);
    if (command == COMMAND_DOCTOR)
        return run_doctor(&options, &log);
    if (daemon_block_signals() < 0)
        return EXIT_FAILURE;
    int r = command == COMMAND_DEMO ? demo_run(&options, &log) : daemon_run(&options, &log, NULL);
    if (r == -EINVAL && options.config_count) /* no file of --config was any good */
        return EXIT_USAGE;
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
