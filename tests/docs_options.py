#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The man pages against --help: docs_options.py PROGRAM MAN.scd CONF.scd EXAMPLE.conf

Every option that a command's --help lists is explained in the man page in the same words ("-p, --port N"), and the
man page explains none that --help does not list. Every key of configuration files, as the program itself names them, is in
their man page and in the example, and no other.
"""
import os
import re
import subprocess
import sys
import tempfile

# The man page's section for each command. What OPTIONS explains need not be explained again elsewhere.
SECTIONS = {"run": "OPTIONS", "status": "STATUS", "doctor": "DOCTOR", "setup": "SETUP", "tune": "TUNE", "demo": "DEMO", "guest": "GUEST"}
SHARED = "OPTIONS"


def help_options(program, command):
    arguments = [program, "--help"] if command == "run" else [program, command, "--help"]
    result = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    if result.returncode:
        sys.exit(f"{' '.join(arguments)}: exit status {result.returncode}\n{result.stderr}")
    lines = re.findall(r"^ +(-\S.*?)(?:  .*)?$", result.stdout, re.MULTILINE)
    if not lines:
        sys.exit(f"{' '.join(arguments)}: no option in what it prints")
    return set(lines)


def man_options(path):
    """Section title -> the options it explains: lines like `*-p*, *--port* _N_`."""
    sections = {}
    title = None
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("# "):
                title = line[2:].strip()
            elif re.match(r"\*-", line):
                plain = re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)[*_]", "", line.strip()))
                sections.setdefault(title, set()).add(plain)
    return sections


def config_keys(program):
    """What the program answers to a key that it does not know: key -> its value as --help has it."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write("? = 1\n")
        result = subprocess.run([program, "--config", path], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=20)
    answer = re.search(r"unknown key \?: it may be ([a-z, -]+)", result.stderr)
    if not answer or result.returncode != 2:
        sys.exit(f"earshot --config with an unknown key: {result.returncode} {result.stderr}")
    values = dict(re.findall(r"--([a-z-]+)(?: (\S+))?$", "\n".join(help_options(program, "run")), re.MULTILINE))
    return {key: values[key] or "yes|no" for key in answer[1].split(", ")}


def documented_keys(path):
    """Lines like `*port* = _N_`."""
    with open(path, encoding="utf-8") as file:
        return dict(re.findall(r"^\*([a-z-]+)\* = _(\S+)_$", file.read(), re.MULTILINE))


def example_keys(path):
    with open(path, encoding="utf-8") as file:
        return set(re.findall(r"^#([a-z-]+) = .", file.read(), re.MULTILINE))


def check_keys(program, man, example):
    keys, explained, shown = config_keys(program), documented_keys(man), example_keys(example)
    faults = [f"{os.path.basename(man)} wants: *{key}* = _{value}_" for key, value in keys.items()
              if explained.get(key) != value]
    faults += [f"{os.path.basename(man)} explains {key}, which is no key" for key in sorted(set(explained) - set(keys))]
    faults += [f"{os.path.basename(example)} wants: #{key} = ..." for key in sorted(set(keys) - shown)]
    faults += [f"{os.path.basename(example)} shows {key}, which is no key" for key in sorted(shown - set(keys))]
    return faults


def main():
    program, man, conf, example = sys.argv[1:]
    sections = man_options(man)
    faults = []
    for command, title in SECTIONS.items():
        listed = help_options(program, command)
        own = sections.get(title, set())
        faults += [f"{command} --help lists '{o}', the man page does not explain it in {title}"
                   for o in sorted(listed - own - sections.get(SHARED, set()))]
        faults += [f"the man page explains '{o}' in {title}, {command} --help does not list it"
                   for o in sorted(own - listed)]
    faults += [f"the man page explains '{o}' in a section that is no command's: {title}"
               for title, options in sections.items() if title not in SECTIONS.values()
               for o in sorted(options)]
    faults += check_keys(program, conf, example)
    print("\n".join(faults) or f"{sum(map(len, sections.values()))} options agree")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
