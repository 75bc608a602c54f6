/* SPDX-License-Identifier: MIT */
#include "receiver/root_files.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The scheduling policy, field 41 of /proc/PID/task/TID/stat; what stands before ')' may hold anything. */
static bool is_realtime(const char *stat_line)
{
    const char *field = strrchr(stat_line, ')');
    for (unsigned i = 2; field && i < 41; i++) {
        field = strchr(field + 1, ' ');
        if (!field)
            return false;
    }
    long policy = field ? strtol(field, NULL, 10) : 0;
    return policy == SCHED_FIFO || policy == SCHED_RR;
}

static bool has_realtime_thread(const struct doctor_env *env, pid_t pid)
{
    char path[DOCTOR_PATH_MAX], line[1024];
    bool found = false;
    DIR *tasks = opendir(doctor_path(env, path, "/proc/%d/task", (int)pid));
    if (!tasks)
        return false;
    for (const struct dirent *entry = readdir(tasks); entry && !found; entry = readdir(tasks)) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            doctor_read(env, line, sizeof line, "/proc/%d/task/%s/stat", (int)pid, entry->d_name) > 0)
            found = is_realtime(line);
    }
    closedir(tasks);
    return found;
}

/* The limit a running earshot has, or, where none runs, this process has; -1: not known. */
static long priority_limit(const struct doctor *doctor)
{
    static const char key[] = "Max realtime priority";
    char text[4096], who[24] = "self";
    if (doctor->earshot_count)
        snprintf(who, sizeof who, "%d", (int)doctor->earshots[0]);
    if (doctor_read(doctor->env, text, sizeof text, "/proc/%s/limits", who) < 0)
        return -1;
    const char *line = strstr(text, key);
    return line ? strtol(line + sizeof key - 1, NULL, 10) : -1;
}

void doctor_check_realtime(struct doctor *doctor)
{
    const struct doctor_env *env = doctor->env;
    for (unsigned i = 0; i < doctor->earshot_count; i++) {
        if (has_realtime_thread(env, doctor->earshots[i])) {
            doctor_say(doctor, DOCTOR_REALTIME, DOCTOR_OK, "Earshot (pid %d) has real-time priority",
                       (int)doctor->earshots[i]);
            return;
        }
    }
    long limit = env->is_root && env->uid == 0 ? 99 : priority_limit(doctor);
    int rtkit = env->rtkit(env->arg);
    if (!doctor->earshot_count && (limit > 0 || rtkit == 1)) {
        doctor_say(doctor, DOCTOR_REALTIME, DOCTOR_OK, "Real-time priority can be had%s",
                   limit > 0 ? " with this user's rights" : " from rtkit");
        return;
    }
    doctor_say(doctor, DOCTOR_REALTIME, DOCTOR_WARN, "%s no real-time priority: a busy computer makes it crackle%s",
               doctor->earshot_count ? "Earshot has" : "Earshot would get",
               rtkit == 1   ? ""
               : rtkit == 0 ? " (rtkit is not installed)"
                            : " (no system bus, and so no rtkit)");
    if (rtkit != 1)
        doctor_fix(doctor, "Install the package rtkit, then log out and in; or:");
    struct root_lines lines;
    root_files_limits(&lines, env);
    for (unsigned i = 0; i < lines.count; i++)
        doctor_fix(doctor, "%s", lines.lines[i]);
}
