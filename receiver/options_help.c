/* SPDX-License-Identifier: MIT */
#include "receiver/options.h"

#include <stdlib.h>

void options_help(enum options_command command, FILE *out)
{
    static const char *const usage[] = {
        [COMMAND_RUN] = "earshot - plays a virtual machine's sound on this computer\n"
                        "\n"
                        "  earshot [run] [options]                    play; with no options, what the configuration "
                        "files say, and\n"
                        "                                             where there are none, listen to multicast\n"
                        "  earshot status [NAME] [--json] [--watch]   what plays, and how late\n"
                        "  earshot tune NAME latency=MS               another latency, while it plays\n"
                        "  earshot doctor [options]                   why there is no sound, and what mends it\n"
                        "  earshot setup NAME ...                     what this computer and this VM need\n"
                        "  earshot guest ...                          act as a guest, for trying things without one\n"
                        "  earshot demo                               a simulated guest and a receiver in one\n",
        [COMMAND_STATUS] = "earshot status [NAME] [--json] [--watch]\n\n"
                           "What every running earshot plays. Exit status 1 when none runs, or none plays NAME.\n",
        [COMMAND_DEMO] = "earshot demo [options]\n\n"
                         "Plays a simulated guest through this computer's sound server; where none runs, records a\n"
                         "few seconds to a WAV file in the current directory.\n",
        [COMMAND_TUNE] = "earshot tune NAME KEY=VALUE ...\n\n"
                         "Changes a stream while it plays, until earshot is started again, and prints the line that\n"
                         "keeps it. KEY is latency (auto or milliseconds) or max-latency. NAME is what status says.\n"
                         "Exit status 1 when none runs, or none plays NAME.\n",
        [COMMAND_DOCTOR] =
            "earshot doctor [options]\n\n"
            "Looks at the whole way from the VM to the sound card, as earshot with these options uses\n"
            "it, and says what is broken and what mends it; with -v, all it looked at. It changes\n"
            "nothing. Exit status 1 when something is broken.\n",
        [COMMAND_SETUP] = "earshot setup NAME --shm SIZE | --bridge NAME | --unicast [--install]\n\n"
                          "Prints what this computer and the VM called NAME need. --install writes your part, below\n"
                          "your home directory; what needs root, the VM's part and the guest's are printed only.\n",
    };
    struct option_spec *table = options_table(command);
    fprintf(out, "%s\nOptions:\n", usage[command]);
    if (table)
        optable_help(table, out);
    free(table);
}
