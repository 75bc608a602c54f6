#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The completions against --help: docs_completions.py PROGRAM DIRECTORY

Each shell is asked what it would offer, and that must be what the program's --help lists, for every command, and for
`earshot tune` the streams that play and what can be changed of them. Exit status 77 (skipped) where a shell or dbus-daemon
is missing; the others have been tried by then.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

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


def live_keys(program):
    """What `earshot tune` says that it takes: {"latency=", ...}"""
    done = subprocess.run([program, "tune", "win10", "no-such-key=1"], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"while it plays is ([\w-]+(?:, [\w-]+)*)", done.stderr)
    return {f"{key}=" for key in found.group(1).split(", ")} if found else set()


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
                "none": self.complete("-p", ""), "file": self.complete("guest", "--wav", "/etc/pass"),
                "memory": self.complete("guest", "--shm", "au"), "memory file": self.complete("guest", "-m", "/etc/pass"),
                "setting": self.complete("tune", "win10", "latency", "="),
                "setting begun": self.complete("tune", "win10", "latency=20", "latency", "=", "a"),
                "stream called like a key": self.complete("tune", "latency", "l")}

    def settings(self):
        return self.complete("tune", "win10", "")

    def streams(self, program, command, env):
        script = self.SCRIPT.replace('COMP_WORDS=("$@")', f'COMP_WORDS=({program!r} "$@")')
        return set(run("bash", "--norc", "--noprofile", "-c", script, "bash", self.file, command, "w", env=env).split())


class Zsh:
    """_arguments is zsh's own; what it is given is looked at."""
    name = "zsh"
    SCRIPT = """
        _arguments() { print -rl -- "$@" }
        words=("${@:2}"); CURRENT=$#words
        source "$1"
    """
    # What completes an operand is asked by itself, as zsh would after _arguments.
    OPERAND = """
        compadd() { shift; print -rl -- ${(M)@:#$PREFIX*} }
        compset() { [[ $PREFIX == $2* ]] && PREFIX=${PREFIX#$2} }
        _describe() { print -rl -- ${^${(@)${(P)2}%%:*}}$4 }
        _message() { : }
        _arguments() { : }
        words=("${@:4}"); CURRENT=$#words; PREFIX=$3; earshot=$words[1]
        source "$1"
        $2
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
                "latency": words["latency"], "setting": self.operand("_earshot_settings", "latency="),
                "memory": set(re.findall(r"(?m)^(?:\([^)]*\))?--shm=.*\{compadd (\w+); _files\}$", self.complete("guest", "-"))),
                "setting begun": self.operand("_earshot_settings", "latency=a")}

    def operand(self, function, prefix, program="earshot", env=None):
        specs = self.complete("tune", "win10", "")
        if f":{function}\n" not in specs:
            return {f"not asked for by _arguments: {specs}"}
        return set(run("zsh", "-f", "-c", self.OPERAND, "zsh", self.file, function, prefix, program, "tune", "",
                       env=env or self.env).split())

    def settings(self):
        return self.operand("_earshot_settings", "")

    def streams(self, program, command, env):
        if ":_earshot_streams\n" not in self.complete(command, ""):
            return set()
        return self.operand("_earshot_streams", "w", program, dict(self.env, **env))


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
                "file": self.complete("earshot guest --wav /etc/pass"),
                "memory": self.complete("earshot guest --shm au"),
                "memory file": self.complete("earshot guest -m /etc/pass"),
                "setting": {word.split("=")[1] for word in self.complete("earshot tune win10 latency=")} - {""},
                "setting begun": {word.split("=")[1] for word in self.complete("earshot tune win10 latency=20 latency=a")},
                "stream called like a key": self.complete("earshot tune latency lat") - {"latency=auto"}}

    def settings(self):
        return {word for word in self.complete("earshot tune win10 ") if word.endswith("=")}

    def streams(self, program, command, env):
        escaped = program.replace(" ", "\\ ")
        text = run("fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', self.file,
                   f"{escaped} {command} w", env=dict(self.env, **env))
        return {entry.split("\t")[0] for entry in text.splitlines()}


# What values() must hold, as far as a shell was asked.
VALUES = {"backend": {"pulse"}, "quality": {"best"}, "latency": {"auto"}, "none": set(), "setting": {"auto"},
          "setting begun": {"auto"}, "stream called like a key": {"latency="}}
AMONG = {"interface": "lo", "file": "/etc/passwd", "memory": "auto", "memory file": "/etc/passwd"}


class Streams:
    """Two streams that run, on a bus of their own. `env` is where to ask for them."""

    NAMES = {"win10", "win11"}

    def __init__(self, program, home):
        self.env = dict(XDG_RUNTIME_DIR=home, DBUS_SESSION_BUS_ADDRESS=f"unix:path={home}/bus")
        config = os.path.join(home, "config", "earshot")
        os.makedirs(config)
        for name in (*self.NAMES, "linux", "wo$w"):
            with open(os.path.join(config, f"{name}.conf"), "w") as file:
                file.write(f"shm = {home}/{name}\nbackend = null\n")
        env = dict(os.environ, HOME=home, XDG_CONFIG_HOME=os.path.join(home, "config"), **self.env)
        quiet = {"env": env, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes = [subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile",
                                            f"--address={self.env['DBUS_SESSION_BUS_ADDRESS']}"], **quiet)]
        end = time.monotonic() + 20
        while not os.path.exists(f"{home}/bus") and time.monotonic() < end:
            time.sleep(0.02)
        self.processes.append(subprocess.Popen([program], **quiet))
        while not all(f'"{name}"' in self.status(program, env) for name in self.NAMES):
            if time.monotonic() > end:
                self.close()
                sys.exit(f"no streams: {self.status(program, env)}")
            time.sleep(0.05)

    @staticmethod
    def status(program, env):
        return subprocess.run([program, "status", "--json"], env=env, capture_output=True, text=True, timeout=20,
                              check=False).stdout

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def faults_of(shell, program, streams):
    for command in COMMANDS:
        listed, offered = help_options(program, command), shell.options(command)
        if len(listed) < 5:
            yield f"{command} --help lists next to nothing: {listed}"
        if offered != listed:
            yield (f"{shell.name}, {command}: missing {sorted(listed - offered)}, "
                   f"unknown to --help {sorted(offered - listed)}")
    if shell.commands() != set(COMMANDS):
        yield f"{shell.name} offers the commands {sorted(shell.commands())}"
    if shell.settings() != live_keys(program) or len(live_keys(program)) < 2:
        yield f"{shell.name} offers to tune {sorted(shell.settings())}, not {sorted(live_keys(program))}"
    for command in ("status", "tune") if streams else ():
        offered = shell.streams(program, command, streams.env)
        if offered != streams.NAMES:
            yield f"{shell.name}, {command}: offers the streams {sorted(offered)}"
    for what, offered in shell.values().items():
        if offered != VALUES.get(what, offered) or AMONG.get(what, next(iter(offered), None)) not in (*offered, None):
            yield f"{shell.name} offers for {what}: {sorted(offered)}"


def main():
    program, directory = map(os.path.abspath, sys.argv[1:])
    faults, missing = [], []
    if help_commands(program) != set(COMMANDS):
        faults.append(f"earshot --help names the commands {sorted(help_commands(program))}")
    with tempfile.TemporaryDirectory() as home:
        streams = None
        if shutil.which("dbus-daemon"):
            streams = Streams(program, home)
        else:
            missing.append("dbus-daemon")
        try:
            for kind in (Bash, Zsh, Fish):
                if shutil.which(kind.name):
                    faults += faults_of(kind(directory, home), program, streams)
                else:
                    missing.append(kind.name)
        finally:
            if streams:
                streams.close()
    print("\n".join(faults) or "the shells offer what --help and tune list, and the streams that run")
    if missing:
        print(f"not installed, and so not tried: {', '.join(missing)}")
    return 1 if faults else 77 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
