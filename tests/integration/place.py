# SPDX-License-Identifier: MIT
"""The program as people run it, with nothing but files and a private D-Bus: a place of its own for each test, and what
runs the test_* of a script. The script's first argument is the program."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = os.path.abspath(sys.argv[1])
LIMIT = 30
STREAM = {"name", "state", "source", "format", "backend", "latency_ms", "target_ms", "drift_ppm", "locked",
          "underruns", "resyncs", "dropped_frames", "frames"}


def wait_for(condition, what):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited {LIMIT} s for {what}"
        time.sleep(0.05)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


class Place:
    """A directory to play in, and a session bus."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="earshot-test-")
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith(("PIPEWIRE", "PULSE", "DBUS", "XDG_", "NOTIFY", "JOURNAL", "WATCHDOG"))}
        self.env = dict(keep, XDG_RUNTIME_DIR=self.dir, HOME=self.dir, LC_ALL="C",
                        DBUS_SESSION_BUS_ADDRESS=f"unix:path={self.dir}/bus")
        self.processes = []
        self.senders = []
        self.bus = self.spawn(["dbus-daemon", "--session", "--nofork", "--nopidfile",
                               "--address=" + self.env["DBUS_SESSION_BUS_ADDRESS"]])
        wait_for(lambda: os.path.exists(self.path("bus")), "the bus")

    def path(self, name):
        return os.path.join(self.dir, name)

    def spawn(self, command, **kwargs):
        kwargs.setdefault("stderr", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.DEVNULL)
        process = subprocess.Popen(command, env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, **kwargs)
        self.processes.append(process)
        return process

    def run(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)

    def config(self, name, *lines):
        """A configuration file, or none of that name any more."""
        path = self.path(f".config/earshot/{name}.conf")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if lines:
            with open(path + ".new", "w") as file:
                file.write("\n".join(lines))
            os.rename(path + ".new", path)
        else:
            os.unlink(path)
        return path

    def guest(self, *arguments):
        return self.spawn([PROGRAM, "guest", "--quiet", *arguments])

    def close(self):
        for sender in self.senders:
            sender.stop()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(self.dir)


class Receiver:
    """A running earshot; its messages in `text`."""

    def __init__(self, place, *arguments, **kwargs):
        self.text = ""
        self.process = place.spawn([PROGRAM, *arguments], stderr=subprocess.PIPE, **kwargs)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.text += line.decode()

    def says(self, pattern):
        wait_for(lambda: re.search(pattern, self.text) or self.process.poll() is not None, pattern)
        assert re.search(pattern, self.text), f"ended with {self.process.poll()}: {self.text}"

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        self.reader.join(LIMIT)
        assert status == 0, f"exit status {status}: {self.text}"


class Manager:
    """What systemd would hear."""

    def __init__(self, place):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(place.path("notify"))
        self.socket.settimeout(LIMIT)
        place.env["NOTIFY_SOCKET"] = place.path("notify")
        self.heard = []

    def hears(self, pattern):
        """Waits for a word that begins so, and returns it."""
        while True:
            for at, word in enumerate(self.heard):
                if re.match(pattern, word):
                    del self.heard[:at + 1]
                    return word
            self.heard += self.socket.recv(4096).decode().splitlines()


def streams(place, *arguments):
    result = place.run("status", "--json", *arguments)
    answer = json.loads(result.stdout)
    assert list(answer) == ["streams"]
    for stream in answer["streams"]:
        assert set(stream) == STREAM, stream
        parts = dict(stream["latency_ms"])
        assert abs(parts.pop("total") - sum(parts.values())) < 1e-6, stream
    return answer["streams"]


def state(place):
    found = streams(place)
    return found[0]["state"] if found else None


def main(tests):
    """Runs the functions test_* of a script's globals(), or those the command line names. Returns the exit status: 77
    where dbus-daemon is missing (ctest: skipped)."""
    if not shutil.which("dbus-daemon"):
        print("skipped: no dbus-daemon")
        return 77
    wanted = sys.argv[2:]
    failed = []
    for name, test in sorted(tests.items()):
        if not name.startswith("test_") or (wanted and name[5:] not in wanted):
            continue
        place = Place()
        try:
            test(place)
            print(f"ok   {name[5:]}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired, ValueError) as error:
            failed.append(name)
            print(f"FAIL {name[5:]}: {error}", flush=True)
        finally:
            place.close()
    return bool(failed)
