#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The man page against --help: docs_options.py PROGRAM MAN.scd

Every option that a command's --help lists is explained in the man page in the same words ("-p, --port N"), and the
man page explains none that --help does not list.
"""
import re
import subprocess
import sys

# The man page's section for each command. What OPTIONS explains need not be explained again elsewhere.
SECTIONS = {"run": "OPTIONS", "status": "STATUS", "doctor": "DOCTOR", "demo": "DEMO", "guest": "GUEST"}
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


def main():
    program, man = sys.argv[1:]
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
    print("\n".join(faults) or f"{sum(map(len, sections.values()))} options agree")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
