/* SPDX-License-Identifier: MIT
 *
 * Writes the completions of bash, zsh or fish from the tables of options: earshot-completions SHELL. Runs while
 * earshot is built, and is not installed.
 */
#include "receiver/guest_options.h"
#include "receiver/options.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX    256
#define COMMANDS_MAX 32

/* How a shell gets the names of the streams that run: from the program that is being completed. Those that mean nothing
 * to a shell: compgen expands what it is given. */
#define STREAMS "status --json 2>/dev/null | grep -o '{\"name\":\"[[:alnum:]._:-]*\"' | cut -d '\"' -f 4"

/* A table for each command, by its number, and what `earshot tune` may change. */
struct tables {
    struct option_spec *of[COMMANDS_MAX];
    struct option_spec *settings;
};

static const char *const summaries[] = {
    [COMMAND_RUN] = "play what virtual machines send",
    [COMMAND_STATUS] = "what plays, and how late",
    [COMMAND_GUEST] = "act as a guest",
    [COMMAND_DEMO] = "a simulated guest and a receiver in one",
    [COMMAND_DOCTOR] = "why there is no sound",
    [COMMAND_SETUP] = "what this computer and a VM need",
    [COMMAND_TUNE] = "another latency, while it plays",
};

static const char *summary(enum options_command command)
{
    const char *text = command < sizeof summaries / sizeof *summaries ? summaries[command] : NULL;
    return text ? text : "";
}

/* The rows of a command; to be freed. */
static struct option_spec *table_of(enum options_command command)
{
    if (command != COMMAND_GUEST)
        return options_table(command);
    const struct option_spec *table = guest_options_table();
    size_t count = 0;
    while (table[count].short_name || table[count].long_name)
        count++;
    struct option_spec *copy = calloc(count + 1, sizeof *copy);
    if (copy)
        memcpy(copy, table, count * sizeof *copy);
    return copy;
}

static bool is_row(const struct option_spec *spec)
{
    return spec->short_name || spec->long_name;
}

/* --- what an option's value may be */

/* Files may come with words beside them, too. */
enum value { VALUE_NONE, VALUE_ANY, VALUE_FILE, VALUE_INTERFACE, VALUE_WORDS };

/* The single words among "auto, pipewire or null", "auto or milliseconds ..."; those with a space in them describe. */
static bool words_of(const struct option_spec *spec, char out[WORDS_MAX])
{
    size_t length = 0;
    out[0] = 0;
    const char *at = spec->allowed ? spec->allowed : "";
    while (*at) {
        const char *comma = strstr(at, ", "), * or = strstr(at, " or ");
        const char *end = comma && (! or || comma < or) ? comma : or ;
        size_t size = end ? (size_t)(end - at) : strlen(at);
        bool word = size > 0;
        for (size_t i = 0; i < size; i++)
            word = word && (islower((unsigned char)at[i]) || isdigit((unsigned char)at[i]) || at[i] == '-');
        if (word && length + size + 2 < WORDS_MAX)
            length += (size_t)snprintf(out + length, WORDS_MAX - length, "%s%.*s", length ? " " : "", (int)size, at);
        at = end ? end + (end == comma ? 2 : 4) : at + size;
    }
    return length > 0;
}

static enum value value_of(const struct option_spec *spec, char words[WORDS_MAX])
{
    if (!spec->arg_name)
        return VALUE_NONE;
    bool words_too = words_of(spec, words);
    if (!strncmp(spec->arg_name, "PATH", 4) || !strcmp(spec->arg_name, "FILE"))
        return VALUE_FILE;
    if (spec->long_name && (!strcmp(spec->long_name, "interface") || !strcmp(spec->long_name, "bridge")))
        return VALUE_INTERFACE;
    return words_too ? VALUE_WORDS : VALUE_ANY;
}

/* --- quoting */

/* Within single quotes; zsh's descriptions end at a bracket, and backslashes escape there and in fish. */
static void quoted(const char *text, const char *escaped, const char *quote)
{
    for (; text && *text; text++) {
        if (*text == '\'')
            fputs(quote, stdout);
        else if (strchr(escaped, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void print_commands(const char *separator)
{
    for (unsigned c = 0; options_command(c); c++)
        printf("%s%s", c ? separator : "", options_command(c));
}

/* --- bash */

static void bash_value(const char *command, const struct option_spec *spec)
{
    char words[WORDS_MAX];
    enum value value = value_of(spec, words);
    if (value == VALUE_NONE)
        return;
    fputs("        ", stdout);
    if (spec->short_name)
        printf("%s:-%c%s", command, spec->short_name, spec->long_name ? " | " : "");
    if (spec->long_name)
        printf("%s:--%s", command, spec->long_name);
    fputs(") ", stdout);
    if (value == VALUE_FILE)
        printf("compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -W '%s' -- \"$cur\")", words);
    else if (value == VALUE_INTERFACE)
        fputs("mapfile -t COMPREPLY < <(cd /sys/class/net && compgen -W \"$(echo *)\" -- \"$cur\")", stdout);
    else if (value == VALUE_WORDS)
        printf("mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")", words);
    else
        fputs(":", stdout);
    fputs("; return ;;\n", stdout);
}

/* latency=auto: prev is "latency=" then. */
static void bash_settings(const struct option_spec *settings)
{
    char words[WORDS_MAX];
    for (const struct option_spec *spec = settings; is_row(spec); spec++) {
        bool known = value_of(spec, words) == VALUE_WORDS;
        printf("        %s:%s=) mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\"); return ;;\n",
               options_command(COMMAND_TUNE), spec->long_name, known ? words : "");
    }
}

static void bash_operands(const struct option_spec *settings)
{
    fputs("    elif [[ $command == @(status|tune) && ($prev == \"$command\" || $prev == -*) ]]; then\n"
          "        words=$(\"${COMP_WORDS[0]}\" " STREAMS ")\n"
          "    elif [[ $command == tune ]]; then\n"
          "        compopt -o nospace\n"
          "        words='",
          stdout);
    for (const struct option_spec *spec = settings; is_row(spec); spec++)
        printf(" %s=", spec->long_name);
    fputs("'\n    fi\n", stdout);
}

static void bash_options(const struct option_spec *table)
{
    for (const struct option_spec *spec = table; is_row(spec); spec++) {
        if (spec->short_name)
            printf(" -%c", spec->short_name);
        if (spec->long_name)
            printf(" --%s", spec->long_name);
    }
}

static void write_bash(const struct tables *tables)
{
    fputs("# bash completion for earshot, made from its table of options\n"
          "_earshot() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=run words= sign=\n"
          "    COMPREPLY=()\n"
          "    # --latency=auto comes as three words, and so does a setting.\n"
          "    if [[ $cur == = ]]; then\n"
          "        cur= sign==\n"
          "    elif [[ $prev == = && $COMP_CWORD -gt 1 ]]; then\n"
          "        prev=${COMP_WORDS[COMP_CWORD - 2]} sign==\n"
          "    fi\n"
          "    [[ $prev == -* ]] || prev+=$sign\n"
          "    if ((COMP_CWORD > 1)); then\n"
          "        case ${COMP_WORDS[1]} in\n"
          "            ",
          stdout);
    print_commands(" | ");
    fputs(") command=${COMP_WORDS[1]} ;;\n        esac\n    fi\n    case $command:$prev in\n", stdout);
    for (unsigned c = 0; options_command(c); c++) {
        for (const struct option_spec *spec = tables->of[c]; is_row(spec); spec++)
            bash_value(options_command(c), spec);
    }
    bash_settings(tables->settings);
    fputs("    esac\n    if [[ $cur == -* ]]; then\n        case $command in\n", stdout);
    for (unsigned c = 0; options_command(c); c++) {
        printf("            %s) words='", options_command(c));
        bash_options(tables->of[c]);
        fputs("' ;;\n", stdout);
    }
    fputs("        esac\n    elif ((COMP_CWORD == 1)); then\n        words='", stdout);
    print_commands(" ");
    fputs("'\n", stdout);
    bash_operands(tables->settings);
    fputs("    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -F _earshot "
          "earshot\n",
          stdout);
}

/* --- zsh */

static void zsh_option(const struct option_spec *spec)
{
    char words[WORDS_MAX];
    enum value value = value_of(spec, words);
    bool takes = value != VALUE_NONE;
    fputs("            ", stdout);
    if (spec->short_name && spec->long_name)
        printf("'(-%c --%s)'{-%c%s,--%s%s}'", spec->short_name, spec->long_name, spec->short_name, takes ? "+" : "",
               spec->long_name, takes ? "=" : "");
    else if (spec->short_name)
        printf("'-%c%s", spec->short_name, takes ? "+" : "");
    else
        printf("'--%s%s", spec->long_name, takes ? "=" : "");
    putchar('[');
    quoted(spec->help, "[]\\", "'\\''");
    putchar(']');
    if (takes) {
        putchar(':');
        quoted(spec->arg_name, ":\\", "'\\''");
        putchar(':');
    }
    if (value == VALUE_FILE && *words)
        printf("{compadd %s; _files}", words);
    else if (value == VALUE_FILE)
        fputs("_files", stdout);
    else if (value == VALUE_INTERFACE)
        fputs("_net_interfaces", stdout);
    else if (value == VALUE_WORDS)
        printf("(%s)", words);
    fputs("' \\\n", stdout);
}

/* Functions of their own: an operand's values depend on what stands before '='. */
static void zsh_operands(const struct option_spec *settings)
{
    char words[WORDS_MAX];
    fputs("_earshot_streams() {\n"
          "    compadd -- ${(f)\"$($earshot " STREAMS ")\"}\n"
          "}\n"
          "_earshot_settings() {\n"
          "    ",
          stdout);
    for (const struct option_spec *spec = settings; is_row(spec); spec++) {
        printf("if compset -P '%s='; then\n        ", spec->long_name);
        if (value_of(spec, words) == VALUE_WORDS)
            printf("compadd -- %s\n    el", words);
        else
            printf("_message '%s'\n    el", spec->arg_name);
    }
    fputs("se\n        local -a settings=(", stdout);
    for (const struct option_spec *spec = settings; is_row(spec); spec++) {
        printf("'%s:", spec->long_name);
        quoted(spec->help, "\\:", "'\\''");
        fputs("' ", stdout);
    }
    fputs(")\n        _describe setting settings -S =\n    fi\n}\n", stdout);
}

static void write_zsh(const struct tables *tables)
{
    fputs("#compdef earshot\n"
          "# zsh completion for earshot, made from its table of options\n",
          stdout);
    zsh_operands(tables->settings);
    fputs("_earshot() {\n"
          "    local command=run earshot=$words[1]\n"
          "    local -a first\n"
          "    if (( CURRENT == 2 )); then\n"
          "        first=('1:command:((",
          stdout);
    for (unsigned c = 0; options_command(c); c++) {
        printf("%s%s\\:\"", c ? " " : "", options_command(c));
        quoted(summary(c), "\"\\:", "'\\''");
        putchar('"');
    }
    fputs("))')\n    elif [[ $words[2] == (", stdout);
    print_commands("|");
    fputs(") ]]; then\n"
          "        command=$words[2]\n"
          "        shift words\n"
          "        (( CURRENT-- ))\n"
          "    fi\n"
          "    case $command in\n",
          stdout);
    for (unsigned c = 0; options_command(c); c++) {
        printf("        %s)\n            _arguments -s -S \\\n", options_command(c));
        for (const struct option_spec *spec = tables->of[c]; is_row(spec); spec++)
            zsh_option(spec);
        if (c == COMMAND_STATUS || c == COMMAND_TUNE)
            fputs("            '1:NAME:_earshot_streams' \\\n", stdout);
        if (c == COMMAND_TUNE)
            fputs("            '*:KEY=VALUE:_earshot_settings' \\\n", stdout);
        fputs("            $first\n            ;;\n", stdout);
    }
    fputs("    esac\n}\n_earshot \"$@\"\n", stdout);
}

/* --- fish */

static void fish_option(const char *command, const struct option_spec *spec)
{
    char words[WORDS_MAX];
    printf("complete -c earshot -n '__earshot_command %s'", command);
    if (spec->short_name)
        printf(" -s %c", spec->short_name);
    if (spec->long_name)
        printf(" -l %s", spec->long_name);
    switch (value_of(spec, words)) {
    case VALUE_NONE:
        break;
    case VALUE_ANY:
        fputs(" -x", stdout);
        break;
    case VALUE_FILE:
        printf(" -r -F%s%s%s", *words ? " -a '" : "", words, *words ? "'" : "");
        break;
    case VALUE_INTERFACE:
        fputs(" -x -a '(__fish_print_interfaces)'", stdout);
        break;
    case VALUE_WORDS:
        printf(" -x -a '%s'", words);
        break;
    }
    fputs(" -d '", stdout);
    quoted(spec->help, "\\", "\\'");
    fputs("'\n", stdout);
}

/* In fish what ends with '=' gets no space behind it. */
static void fish_operands(const struct option_spec *settings)
{
    char words[WORDS_MAX];
    static const enum options_command named[] = {COMMAND_STATUS, COMMAND_TUNE};
    fputs("function __earshot_streams\n"
          "    set -l words (commandline -opc)\n"
          "    command -q $words[1]; and $words[1] " STREAMS "\n"
          "end\n"
          "function __earshot_operands\n"
          "    count (string match -v -- '-*' (commandline -opc)[3..-1])\n"
          "end\n",
          stdout);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        printf("complete -c earshot -n '__earshot_command %s; and test (__earshot_operands) -eq 0' -a "
               "'(__earshot_streams)'\n",
               options_command(named[i]));
    for (const struct option_spec *spec = settings; is_row(spec); spec++) {
        printf("complete -c earshot -n '__earshot_command tune; and test (__earshot_operands) -ge 1' -a '%s=",
               spec->long_name);
        if (value_of(spec, words) == VALUE_WORDS)
            for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
                printf(" %s=%s", spec->long_name, word);
        fputs("' -d '", stdout);
        quoted(spec->help, "\\", "\\'");
        fputs("'\n", stdout);
    }
}

static void write_fish(const struct tables *tables)
{
    fputs("# fish completion for earshot, made from its table of options\n"
          "function __earshot_command\n"
          "    set -l words (commandline -opc)\n"
          "    set -l command run\n"
          "    if set -q words[2]; and contains -- $words[2] ",
          stdout);
    print_commands(" ");
    fputs("\n        set command $words[2]\n    end\n    test $command = $argv[1]\nend\ncomplete -c earshot -f\n",
          stdout);
    for (unsigned c = 0; options_command(c); c++) {
        printf("complete -c earshot -n 'test (count (commandline -opc)) -eq 1' -a %s -d '", options_command(c));
        quoted(summary(c), "\\", "\\'");
        fputs("'\n", stdout);
    }
    for (unsigned c = 0; options_command(c); c++) {
        for (const struct option_spec *spec = tables->of[c]; is_row(spec); spec++)
            fish_option(options_command(c), spec);
    }
    fish_operands(tables->settings);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*write)(const struct tables *tables);
    } shells[] = {
        {"bash", write_bash},
        {"zsh",  write_zsh },
        {"fish", write_fish}
    };
    struct tables tables = {.settings = options_tune_table()};
    int status = tables.settings ? EXIT_SUCCESS : EXIT_FAILURE;
    unsigned count = 0;
    for (; options_command(count) && count < COMMANDS_MAX; count++) {
        tables.of[count] = table_of(count);
        if (!tables.of[count])
            status = EXIT_FAILURE;
    }
    bool known = false;
    for (size_t i = 0; status == EXIT_SUCCESS && argc == 2 && i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(argv[1], shells[i].name))
            continue;
        known = true;
        shells[i].write(&tables);
    }
    while (count)
        free(tables.of[--count]);
    free(tables.settings);
    if (!known || fflush(stdout) || ferror(stdout))
        status = EXIT_FAILURE;
    return status;
}
