#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The completions against --help: docs_completions.py PROGRAM DIRECTORY

Each shell is asked what it would offer, and that must be what the program's --help lists, for every command. Exit
status 77 (skipped) where a shell is missing; the others have been tried by then.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

COMMANDS = ("run", "status", "guest", "demo", "doctor", "setup", "tune")


def run(*argv, text=None, env=None):
    result = subprocess.run(argv, input=text or "", capture_output=True, text=True, timeout=20, check=False, env=env)
    if result.returncode or result.stderr:
        sys.exit(f"{' '.join(argv)}: exit status {result.returncode}\n{result.stderr}")
    return result.stdout


def help_options(program, command):
    """{"--long", "-s", ...}"""
    text = run(program, *([] if command == "run" else [command]), "--help")
    return set(re.findall(r"^ +(?:(?:-\w, )|    )?(--[\w-]+)", text, re.MULTILINE) +
               re.findall(r"^ +(-\w)(?:,| |$)", text, re.MULTILINE))


def help_commands(program):
    """Those that the synopsis of --help names."""
    return set(re.findall(r"^ +earshot \[?(\w+)", run(program, "--help"), re.MULTILINE))


class Bash:
    name = "bash"
    SCRIPT = """
        source "$1"; shift
        compopt() { :; }
        COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _earshot
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    def __init__(self, directory, _home):
        self.file = os.path.join(directory, "earshot.bash")

    def complete(self, *words):
        return set(run("bash", "--norc", "--noprofile", "-c", self.SCRIPT, "bash", self.file, "earshot", *words).split())

    def options(self, command):
        offered = self.complete(command, "-") if command != "run" else self.complete("-")
        return {word for word in offered if word.startswith("-")}

    def commands(self):
        return self.complete("")

    def values(self):
        return {"backend": self.complete("-o", "pu"), "quality": self.complete("demo", "--quality", "=", "b"),
                "latency": self.complete("--latency", "="), "interface": self.complete("-i", "l"),
                "none": self.complete("-p", ""), "file": self.complete("guest", "--wav", "/etc/pass")}


class Zsh:
    """_arguments is zsh's own; what it is given is looked at."""
    name = "zsh"
    SCRIPT = """
        _arguments() { print -rl -- "$@" }
        words=("${@:2}"); CURRENT=$#words
        source "$1"
    """

    def __init__(self, directory, home):
        self.file = os.path.join(directory, "earshot.zsh")
        self.env = dict(os.environ, HOME=home, ZDOTDIR=home)

    def complete(self, *words):
        return run("zsh", "-f", "-c", self.SCRIPT, "zsh", self.file, "earshot", *words, env=self.env)

    def options(self, command):
        specs = re.findall(r"^(?:\([^)]*\))?(--?\w[\w-]*)[+=]?\[", self.complete(command, "-"), re.MULTILINE)
        return set(specs)

    def commands(self):
        return set(re.findall(r'(\w+)\\:"', self.complete("")))

    def values(self):
        text = self.complete("run", "-")
        words = {}
        for name, line in (("backend", text), ("latency", text), ("quality", self.complete("demo", "-"))):
            found = re.search(rf"^(?:\([^)]*\))?--{name}=.*:\(([^)]*)\)$", line, re.MULTILINE)
            words[name] = set(found.group(1).split()) if found else set()
        return {"backend": {word for word in words["backend"] if word.startswith("pu")},
                "quality": {word for word in words["quality"] if word.startswith("b")},
                "latency": words["latency"]}


class Fish:
    name = "fish"

    def __init__(self, directory, home):
        self.file = os.path.join(directory, "earshot.fish")
        self.env = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home, XDG_DATA_HOME=home)

    def complete(self, line):
        text = run("fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', self.file, line, env=self.env)
        return {entry.split("\t")[0] for entry in text.splitlines()}

    def options(self, command):
        # A lone dash offers the long ones only where nothing shorter fits.
        return {word for dash in ("-", "--") for word in self.complete(f"earshot {command} {dash}")}

    def commands(self):
        return self.complete("earshot ")

    def values(self):
        return {"backend": self.complete("earshot -o pu"), "latency": self.complete("earshot --latency a"),
                "quality": {word.split("=")[-1] for word in self.complete("earshot demo --quality=b")},
                "interface": self.complete("earshot -i l"), "none": self.complete("earshot -p "),
                "file": self.complete("earshot guest --wav /etc/pass")}


# What values() must hold, as far as a shell was asked.
VALUES = {"backend": {"pulse"}, "quality": {"best"}, "latency": {"auto"}, "none": set()}
AMONG = {"interface": "lo", "file": "/etc/passwd"}


def faults_of(shell, program):
    for command in COMMANDS:
        listed, offered = help_options(program, command), shell.options(command)
        if len(listed) < 5:
            yield f"{command} --help lists next to nothing: {listed}"
        if offered != listed:
            yield (f"{shell.name}, {command}: missing {sorted(listed - offered)}, "
                   f"unknown to --help {sorted(offered - listed)}")
    if shell.commands() != set(COMMANDS):
        yield f"{shell.name} offers the commands {sorted(shell.commands())}"
    for what, offered in shell.values().items():
        if offered != VALUES.get(what, offered) or AMONG.get(what, next(iter(offered), None)) not in (*offered, None):
            yield f"{shell.name} offers for {what}: {sorted(offered)}"


def main():
    program, directory = map(os.path.abspath, sys.argv[1:])
    faults, missing = [], []
    if help_commands(program) != set(COMMANDS):
        faults.append(f"earshot --help names the commands {sorted(help_commands(program))}")
    with tempfile.TemporaryDirectory() as home:
        for kind in (Bash, Zsh, Fish):
            if shutil.which(kind.name):
                faults += faults_of(kind(directory, home), program)
            else:
                missing.append(kind.name)
    print("\n".join(faults) or "the shells offer what --help lists")
    if missing:
        print(f"not installed, and so not tried: {', '.join(missing)}")
    return 1 if faults else 77 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
