#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""doc/dbus.md against the bus: docs_dbus.py PROGRAM DBUS.md

What a running earshot says of its interface when it is introspected - methods with their arguments' types and names,
properties, signals - is what the page describes, and the page's errors are the ones that come. Exit 77 where there is no
dbus-daemon or busctl.
"""
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

LIMIT_S = 20


def arguments(method, direction):
    return ", ".join(f"{a.get('type')} {a.get('name')}" for a in method.findall("arg")
                     if a.get("direction", "in") == direction)


def introspected(xml, interface):
    """Its members, as the page writes them."""
    found = [node for node in ElementTree.fromstring(xml).findall("interface") if node.get("name") == interface]
    if len(found) != 1:
        sys.exit(f"no {interface} in {xml}")
    members = {f"{m.get('name')}({arguments(m, 'in')}) -> ({arguments(m, 'out')})" for m in found[0].findall("method")}
    for kind in ("property", "signal"):
        members |= {f"{kind} {member.get('name')}" for member in found[0].findall(kind)}
    return members


class Bus:
    def __init__(self, directory):
        self.env = dict(os.environ, XDG_RUNTIME_DIR=directory, HOME=directory,
                        DBUS_SESSION_BUS_ADDRESS=f"unix:path={directory}/bus")
        self.processes = []
        self.spawn("dbus-daemon", "--session", "--nofork", "--nopidfile",
                   f"--address={self.env['DBUS_SESSION_BUS_ADDRESS']}")
        self.wait_for(lambda: os.path.exists(f"{directory}/bus"), "the bus")

    def spawn(self, *argv):
        self.processes.append(subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                               stderr=subprocess.DEVNULL))
        return self.processes[-1]

    def ctl(self, *argv):
        return subprocess.run(["busctl", "--user", *argv], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=LIMIT_S, check=False)

    def wait_for(self, condition, what):
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"waited {LIMIT_S} s for {what}")
            time.sleep(0.05)

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(LIMIT_S)


def errors_seen(monitor, wanted):
    """What the monitor has seen once these are among it, or half a second after it fell silent."""
    text = b""
    while select.select([monitor.stdout], [], [], LIMIT_S if not seen_in(text) >= wanted else 0.5)[0]:
        part = os.read(monitor.stdout.fileno(), 65536)
        if not part:
            break
        text += part
    monitor.terminate()
    return seen_in(text)


def seen_in(text):
    return set(re.findall(r'"error_name":"(org\.earshot[^"]+)"', text.decode(errors="replace")))


def faults_of(bus, program, page):
    row = dict(re.findall(r"^\| (name|object|interface) \| `([^`]+)`", page, re.MULTILINE))
    ring = os.path.join(bus.env["HOME"], "desk")
    earshot = bus.spawn(program, "-o", "null", "-m", ring)
    name = f"{row['name']}{earshot.pid}"
    bus.wait_for(lambda: bus.ctl("status", name).returncode == 0, f"{name} on the bus")
    members = introspected(bus.ctl("introspect", "--xml-interface", name, row["object"]).stdout, row["interface"])
    described = set(re.findall(r"^### `([^`]+)`$", page, re.MULTILINE))
    yield from (f"the page wants: ### `{member}`" for member in sorted(members - described))
    yield from (f"the page describes {member}, which is not there" for member in sorted(described - members))

    def tune(*values):
        result = bus.ctl("--json=short", "call", name, row["object"], row["interface"], "Tune", "sss", *values)
        return result.stdout + result.stderr

    # busctl shows an error's message only; its name is what the program sends, looked at with the monitor's eyes.
    wanted = set(re.findall(r"^\| `(org\.earshot\.Error\.\w+)`", page, re.MULTILINE))
    monitor = subprocess.Popen(["busctl", "--user", "--json=short", "monitor", name], env=bus.env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    bus.processes.append(monitor)
    bus.wait_for(lambda: "Monitoring" in (monitor.stderr.readline() or "Monitoring"), "the monitor")
    texts = [tune("nobody", "latency", "20"), tune("desk", "latency", "20")]
    bus.spawn(program, "guest", "--shm", ring, "-q")
    bus.wait_for(lambda: "playing" in bus.ctl("call", name, row["object"], row["interface"], "Status").stdout, "sound")
    texts += [tune("desk", "latency", "soon"), tune("desk", "port", "1")]
    if '"data":[""]' not in tune("desk", "latency", "60"):
        yield "Tune from the command line does not answer with an empty file"
    seen = errors_seen(monitor, wanted)
    if seen != wanted:
        yield f"errors seen: {sorted(seen)}; described: {sorted(wanted)}"
    yield from (f"an error without a line for people: {text}" for text in texts if len(text.split()) < 5)


def main():
    program, path = os.path.abspath(sys.argv[1]), sys.argv[2]
    missing = [tool for tool in ("dbus-daemon", "busctl") if not shutil.which(tool)]
    if missing:
        print(f"not installed: {', '.join(missing)}")
        return 77
    with open(path, encoding="utf-8") as file:
        page = file.read()
    with tempfile.TemporaryDirectory() as directory:
        bus = Bus(directory)
        try:
            faults = list(faults_of(bus, program, page))
        finally:
            bus.close()
    print("\n".join(faults) or "the page says what the bus says")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
