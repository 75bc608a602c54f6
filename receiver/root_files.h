/* SPDX-License-Identifier: MIT
 *
 * The files that doctor and setup have people write as root: each has one name and one content, so that what one of them
 * says never undoes what the other said, and `setup --remove` finds it. Whether they are needed, the caller knows. [main]
 */
#ifndef EARSHOT_ROOT_FILES_H
#define EARSHOT_ROOT_FILES_H

#include "receiver/doctor_check.h"

#define ROOT_FILES_LIMITS "/etc/security/limits.d/95-earshot.conf"
#define ROOT_LINES_MAX    4
#define ROOT_LINE_MAX     (2 * DOCTOR_PATH_MAX + 128)

/* Commands to paste into a shell, in this order. */
struct root_lines {
    char lines[ROOT_LINES_MAX][ROOT_LINE_MAX];
    unsigned count;
};

/* The file below /etc/tmpfiles.d that is about this memory; "" where its name is too long. */
void root_files_tmpfiles(const char *memory, char out[DOCTOR_PATH_MAX]);

/* By these the memory's file is the user's, and QEMU's group may write to it, after each start of the computer. vm: the
 * running one that has it, or NULL. */
void root_files_own_memory(struct root_lines *lines, const struct doctor_env *env, const struct doctor_vm *vm,
                           const char *memory);

/* By these the user may have real-time priority, and lock memory. */
void root_files_limits(struct root_lines *lines, const struct doctor_env *env);

#endif
