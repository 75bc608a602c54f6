# SPDX-License-Identifier: MIT
"""A jackd of one's own without hardware, and captures of what its clients play. As harness.py."""

import contextlib
import glob
import itertools
import os
import subprocess

import harness

_numbers = itertools.count()


class JackCapture(harness.Capture):
    """A recording of output ports ("win11:FL"), which may appear later, as they are in each cycle."""

    def __init__(self, session, ports, name, seconds):
        self.session = session
        self.path = os.path.join(session.directory, f"{name}.capture")
        self.process = session.spawn(name, [harness.built("earshot-jack-capture"), self.path, str(seconds),
                                            ",".join(ports)])


class JackSession(harness.Session):
    """As its parent, with a jackd for a server. Servers are told apart by name: several tests may run at once."""

    tools = ("dbus-daemon", "jackd", "jack_lsp", "jack_bufsize", "jack_freewheel")

    def __init__(self):
        super().__init__()
        self.server_name = f"earshot-{os.getpid()}-{next(_numbers)}"
        self.env = {key: value for key, value in self.env.items() if not key.startswith("JACK_")}
        self.env.update(JACK_DEFAULT_SERVER=self.server_name, JACK_NO_AUDIO_RESERVATION="1",
                        JACK_NO_START_SERVER="1")

    def close(self):
        super().close()
        for left in glob.glob(f"/dev/shm/jack*_{self.server_name}_*"):  # by servers that were killed
            with contextlib.suppress(OSError):
                os.unlink(left)

    def start_server(self, rate=48000, period=128, outputs=2):
        self.server = [self.spawn("jackd", ["jackd", "-n", self.server_name, "-d", "dummy", "-r", str(rate), "-p",
                                            str(period), "-P", str(outputs), "-C", "0"])]
        harness.wait_for("jackd", lambda: f"system:playback_{outputs}" in self.ports() if outputs else self.answers())

    def lsp(self, *options):
        """jack_lsp's lines; None where no server answers."""
        try:
            done = subprocess.run(["jack_lsp", *options], env=self.env, capture_output=True, text=True, timeout=5)
        except subprocess.TimeoutExpired:
            return None
        return done.stdout.splitlines() if done.returncode == 0 else None

    def answers(self):
        return self.lsp() is not None

    def ports(self):
        return self.lsp() or []

    def connections(self):
        """{port: [peers]} of every port that there is."""
        found, port = {}, None
        for line in self.lsp("-c") or []:
            if line.startswith(" "):
                found[port].append(line.strip())
            else:
                port = line
                found[port] = []
        return found

    def latency(self, port, kind):
        """(least, most) frames of "playback" or "capture" latency."""
        lines = self.lsp("-l") or []
        for line in lines[lines.index(port) + 1:] if port in lines else []:
            words = line.split()
            if not line.startswith("\t"):
                break
            if words[0:3] == ["port", kind, "latency"]:
                return int(words[5]), int(words[6])
        return None

    def capture_ports(self, *ports, name="capture", seconds=600):
        return JackCapture(self, ports, f"{name}-{len(self.processes)}", seconds)
