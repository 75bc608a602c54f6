/* SPDX-License-Identifier: MIT */
#include "receiver/setup.h"

#include "receiver/plan.h"
#include "receiver/setup_file.h"
#include "receiver/setup_guide.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNIT "earshot.service"

struct setup {
    const struct setup_options *options;
    const struct doctor_env *env;
    FILE *out;
    char config_dir[PATH_MAX];
    char config[PATH_MAX];  /* NAME.conf in it */
    char enabled[PATH_MAX]; /* is there where setup enabled the service */
    struct setup_host host;
    struct setup_guide guide;
    int status;
};

__attribute__((format(printf, 2, 3))) static void say(const struct setup *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(s->out, format, args);
    va_end(args);
    fputc('\n', s->out);
}

/* --- where */

/* $variable/earshot, else $HOME/fallback/earshot. https://specifications.freedesktop.org/basedir-spec/latest/ */
static bool directory(char out[PATH_MAX], const char *given, const char *variable, const char *fallback)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    int length;
    if (given)
        length = snprintf(out, PATH_MAX, "%s", given);
    else if (base && *base == '/')
        length = snprintf(out, PATH_MAX, "%s/earshot", base);
    else if (home && *home == '/')
        length = snprintf(out, PATH_MAX, "%s/%s/earshot", home, fallback);
    else
        return false;
    return length < PATH_MAX;
}

static bool find_places(struct setup *s, const struct setup_params *params)
{
    char state_dir[PATH_MAX];
    return directory(s->config_dir, params->config_dir, "XDG_CONFIG_HOME", ".config") &&
           directory(state_dir, params->state_dir, "XDG_STATE_HOME", ".local/state") &&
           snprintf(s->config, sizeof s->config, "%s/%s.conf", s->config_dir, s->options->name) < PATH_MAX &&
           snprintf(s->enabled, sizeof s->enabled, "%s/service-enabled-by-setup", state_dir) < PATH_MAX;
}

/* The command line again; quoted for a shell. */
static void print_command(const struct setup *s, const char *more)
{
    const struct setup_options *o = s->options;
    fprintf(s->out, "earshot setup %s", doctor_quote(o->name).text);
    if (o->way == SETUP_SHM)
        fprintf(s->out, " --shm %uM", o->mib);
    else if (o->way == SETUP_BRIDGE)
        fprintf(s->out, " --bridge %s", o->bridge);
    else if (o->way == SETUP_UNICAST)
        fputs(" --unicast", s->out);
    fprintf(s->out, "%s\n", more);
}

/* --- the configuration file */

static char *make_config(const struct setup *s)
{
    char *body = NULL;
    size_t size;
    FILE *file = open_memstream(&body, &size);
    if (!file)
        return NULL;
    switch (s->options->way) {
    case SETUP_SHM:
        fprintf(file, "shm = %s\n", s->guide.memory.path);
        break;
    case SETUP_BRIDGE:
        fprintf(file, "interface = %s\n", s->options->bridge);
        break;
    case SETUP_UNICAST:
        fputs("unicast = yes\n", file);
        break;
    case SETUP_NONE:
        break;
    }
    if (s->options->way != SETUP_SHM)
        fputs("# Where several VMs send, each needs a file like this one with its own address:\n"
              "#from = 192.168.122.50\n",
              file);
    fputs("# Milliseconds from the VM to the device; auto is the least that plays cleanly:\n#latency = auto\n", file);
    fclose(file);
    char *text = body ? setup_file_mark(body) : NULL;
    free(body);
    return text;
}

/* False: could not be looked at. */
static bool look_at_config(struct setup *s, enum setup_file_owner *owner, char **text)
{
    int r = setup_file_look(s->config, owner, text);
    if (r < 0) {
        say(s, "%s cannot be read: %s.", s->config, strerror(-r));
        s->status = 1;
    }
    return r == 0;
}

static void install_config(struct setup *s)
{
    enum setup_file_owner owner;
    char *before = NULL, *after = make_config(s);
    int r = -ENOMEM;
    if (!after)
        goto failed;
    if (!look_at_config(s, &owner, &before))
        goto out;
    if (before && strcmp(before, after) == 0) {
        say(s, "%s is there already, as it should be.", s->config);
    } else if (owner == SETUP_FILE_FOREIGN) {
        say(s, "%s was written or changed by somebody else, and is left alone. What setup would change there:\n",
            s->config);
        setup_file_diff(s->out, s->config, before, after);
        s->status = 1;
    } else if (s->options->dry_run) {
        setup_file_diff(s->out, s->config, before, after);
    } else {
        r = setup_file_write(s->config, after);
        if (r < 0)
            goto failed;
        say(s, "Wrote %s.", s->config);
    }
    goto out;
failed:
    say(s, "%s could not be written: %s.", s->config, strerror(-r));
    s->status = 1;
out:
    free(before);
    free(after);
}

static int is_config(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* What the service will have to say about the files together: two that want all senders of one network, for instance. */
static void check_together(struct setup *s)
{
    struct dirent **entries = NULL;
    int count = scandir(s->config_dir, &entries, is_config, alphasort);
    char *paths[OPTIONS_CONFIGS_MAX] = {NULL}, *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct log log = {.out = out};
    struct config_set set;
    struct options options;
    options_init(&options);
    for (int i = 0; i < count; i++) {
        if (out && options.config_count < OPTIONS_CONFIGS_MAX &&
            asprintf(&paths[options.config_count], "%s/%s", s->config_dir, entries[i]->d_name) >= 0) {
            options.configs[options.config_count] = paths[options.config_count];
            options.config_count++;
        }
        free(entries[i]);
    }
    free(entries);
    if (out && options.config_count && config_load(&set, &options, NULL, &log) == 0) {
        struct plan *plan = calloc(1, sizeof *plan);
        if (plan) {
            plan_make(plan, &set, &log);
            plan_free(plan);
        }
        free(plan);
        config_set_free(&set);
    }
    if (out)
        fclose(out);
    if (text && *text) {
        say(s, "Of all files together, the service will say:\n\n%s", text);
        if (strstr(text, "from"))
            say(s, "A line from = ADDRESS in each of them tells the VMs apart: virsh domifaddr NAME shows a VM's "
                   "address.");
        s->status = 1;
    }
    free(text);
    for (unsigned i = 0; i < options.config_count; i++)
        free(paths[i]);
}

/* Empty directories go, whoever made them: there is nothing in them to miss. */
static void remove_directory_of(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    *strrchr(copy, '/') = 0;
    rmdir(copy);
}

static void remove_config(struct setup *s)
{
    enum setup_file_owner owner;
    char *text = NULL;
    if (!look_at_config(s, &owner, &text))
        return;
    if (owner == SETUP_FILE_ABSENT) {
        say(s, "%s is not there.", s->config);
    } else if (owner == SETUP_FILE_FOREIGN) {
        say(s, "%s was written or changed by somebody else, and is left alone: remove it yourself.", s->config);
        s->status = 1;
    } else if (s->options->dry_run) {
        setup_file_diff(s->out, s->config, text, NULL);
    } else if (unlink(s->config) < 0) {
        say(s, "%s could not be removed: %s.", s->config, strerror(errno));
        s->status = 1;
    } else {
        say(s, "Removed %s.", s->config);
    }
    free(text);
}

static bool has_configs(const struct setup *s)
{
    DIR *dir = opendir(s->config_dir);
    bool found = false;
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry && !found; entry = readdir(dir)) {
        found = is_config(entry);
    }
    if (dir)
        closedir(dir);
    return found;
}

/* --- the service */

#define SYSTEMCTL(s, ...) systemctl((s), (const char *const[]){"systemctl", "--user", __VA_ARGS__, NULL})

static int systemctl(const struct setup *s, const char *const *argv)
{
    char *output = NULL;
    int r = s->env->command(s->env->arg, argv, &output);
    free(output);
    return r;
}

enum service_state { SERVICE_NONE, SERVICE_OFF, SERVICE_MASKED, SERVICE_ENABLED };

static enum service_state service_state(const struct setup *s)
{
    char *output = NULL;
    enum service_state state = SERVICE_NONE;
    if (s->env->command(s->env->arg, (const char *const[]){"systemctl", "--user", "is-enabled", UNIT, NULL},
                        &output) >= 0 &&
        output) {
        output[strcspn(output, "\n")] = 0;
        if (strncmp(output, "enabled", 7) == 0)
            state = SERVICE_ENABLED;
        else if (strncmp(output, "masked", 6) == 0)
            state = SERVICE_MASKED;
        else if (*output && strcmp(output, "not-found") != 0)
            state = SERVICE_OFF;
    }
    free(output);
    return state;
}

static void remember_enabled(struct setup *s)
{
    int r = setup_file_write(s->enabled, "earshot setup --remove disables the service with the last guest.\n");
    if (r < 0) {
        say(s, "%s could not be written (%s): --remove will not disable the service.", s->enabled, strerror(-r));
        s->status = 1;
    }
}

static void install_service(struct setup *s)
{
    if (!s->options->dry_run)
        SYSTEMCTL(s, "daemon-reload"); /* the unit may have come only now */
    enum service_state state = service_state(s);
    switch (state) {
    case SERVICE_NONE:
        say(s, "There is no user service " UNIT " here: start earshot with your desktop, or by hand.");
        return;
    case SERVICE_MASKED:
        say(s, "The service earshot is masked, and stays so: systemctl --user unmask " UNIT);
        s->status = 1;
        return;
    case SERVICE_OFF:
        if (s->options->dry_run) {
            say(s, "Would run: systemctl --user enable " UNIT);
            break;
        }
        if (SYSTEMCTL(s, "enable", UNIT) != 0) {
            say(s, "The service could not be enabled. This says why: systemctl --user enable --now " UNIT);
            s->status = 1;
            return;
        }
        remember_enabled(s);
        break;
    case SERVICE_ENABLED:
        break;
    }
    if (s->options->dry_run) {
        say(s, "Would run: systemctl --user reload-or-restart " UNIT);
    } else if (SYSTEMCTL(s, "reload-or-restart", "--no-block", UNIT) != 0) {
        say(s, "The service did not start. This says why: systemctl --user status " UNIT);
        s->status = 1;
    } else {
        say(s, "The service earshot plays what its configuration files say, now and after each login%s.",
            state == SERVICE_OFF ? "; it was enabled for that" : "");
        say(s, "To have it run without anybody logged in: loginctl enable-linger");
    }
}

static void remove_service(struct setup *s)
{
    if (s->options->dry_run) {
        /* How many files would be left is not known before one is gone. */
        say(s, access(s->enabled, F_OK) == 0
                   ? "Would run, were this the last guest: systemctl --user disable --now " UNIT
                   : "The service stays as it is: setup did not enable it.");
        return;
    }
    if (has_configs(s) || access(s->enabled, F_OK) < 0) {
        SYSTEMCTL(s, "try-reload-or-restart", "--no-block", UNIT);
        return;
    }
    if (SYSTEMCTL(s, "disable", "--now", "--no-block", UNIT) != 0) {
        say(s, "The service could not be disabled: systemctl --user disable --now " UNIT);
        s->status = 1;
        return;
    }
    unlink(s->enabled);
    say(s, "The service earshot is disabled, as setup found it.");
}

/* --- */

static void setup_remove(struct setup *s)
{
    remove_config(s);
    remove_service(s);
    if (!s->options->dry_run) {
        remove_directory_of(s->config);
        remove_directory_of(s->enabled);
    }
    setup_guide_undo(&s->guide);
}

static void setup_install(struct setup *s)
{
    const struct setup_options *o = s->options;
    if (o->way == SETUP_SHM)
        setup_guide_memory(&s->guide);
    else if (o->way == SETUP_BRIDGE)
        say(s, "%s's sound comes by multicast over %s.", o->name, o->bridge);
    else
        say(s, "%s's sound comes in packets to this computer alone.", o->name);
    if (o->install || o->dry_run) {
        install_config(s);
        if (!o->dry_run)
            check_together(s);
        install_service(s);
    } else {
        setup_guide_step(&s->guide, "You, on this computer (--dry-run shows what that writes)");
        fputs("    ", s->out);
        print_command(s, " --install");
    }
    setup_guide_root(&s->guide);
    setup_guide_vm(&s->guide);
    setup_guide_windows(&s->guide);
    fputs("\nIf nothing is heard then: earshot doctor", s->out);
    if (o->install) /* it reads what has been written */
        ;
    else if (o->way == SETUP_SHM)
        fprintf(s->out, " -m %s", s->guide.memory.path);
    else if (o->way == SETUP_BRIDGE)
        fprintf(s->out, " -i %s", o->bridge);
    else
        fputs(" -u", s->out);
    fputc('\n', s->out);
}

int setup_run(const struct setup_params *params)
{
    const struct setup_options *o = params->options;
    struct setup s = {.options = o, .out = params->out, .env = params->env};
    struct doctor_env here;
    if (!s.env) {
        here = doctor_env_here();
        s.env = &here;
    }
    bool writes = o->install || o->remove;
    if (writes && s.env->is_root && s.env->uid != 0) {
        say(&s, "Without sudo, please: this writes into your home directory, and sudo would write into root's.");
        return 1;
    }
    if (!find_places(&s, params)) {
        say(&s, "HOME is not set: where would the configuration file go?");
        return 1;
    }
    int r = setup_host_look(&s.host, s.env, o->name);
    s.guide = (struct setup_guide){.out = s.out, .host = &s.host, .options = o};
    if (r < 0) {
        say(&s, "%s.", strerror(-r));
        s.status = 1;
    } else {
        setup_host_memory(&s.host, o->mib, &s.guide.memory);
        if (o->remove)
            setup_remove(&s);
        else
            setup_install(&s);
    }
    setup_host_free(&s.host);
    return s.status;
}
