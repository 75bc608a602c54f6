#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The PulseAudio backend against a private PulseAudio, or PipeWire's, with null sinks: what backends/backend.h
promises, no more.

usage: backend_pulse_test.py BACKEND_REMOTE pulseaudio|pipewire-pulse [SCENARIO ...]
Exit 77 where a tool is missing (ctest: skipped).
"""

import array
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from remote import check_pulls, run, wait_for

POSITIONS = {"FL": "front-left", "FR": "front-right", "FC": "front-center", "LFE": "lfe", "RL": "rear-left",
             "RR": "rear-right", "SL": "side-left", "SR": "side-right", "MONO": "mono"}


def channel_map(positions):
    return ",".join(POSITIONS[name] for name in positions.split())


class Server:
    """What both have in common; pactl does not care."""

    tools = ["pactl", "parec"]
    sink_options = []

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="earshot-pa-")
        os.chmod(self.dir, 0o700)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PIPEWIRE", "PULSE", "DBUS", "XDG_"))}
        self.socket = self.dir + "/pulse/native"
        # A bus that is not there: PulseAudio ends where another one has its name.
        self.env = dict(keep, XDG_RUNTIME_DIR=self.dir, HOME=self.dir, XDG_CONFIG_HOME=self.dir + "/config",
                        XDG_STATE_HOME=self.dir + "/state", LC_ALL="C", PULSE_SERVER="unix:" + self.socket,
                        DBUS_SESSION_BUS_ADDRESS="unix:path=" + self.dir + "/bus",
                        DBUS_SYSTEM_BUS_ADDRESS="unix:path=" + self.dir + "/none")
        os.mkdir(self.dir + "/pulse", 0o700)
        self.log = open(self.dir + "/log", "w")
        self.processes = {}
        self.modules = {}

    def spawn(self, name, command):
        self.processes[name] = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
                                                stderr=self.log)

    def run(self, *command):
        return subprocess.run(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=20, check=False).stdout

    def pactl(self, *arguments):
        done = subprocess.run(["pactl", *map(str, arguments)], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=20, check=False)
        assert done.returncode == 0, f"pactl {' '.join(map(str, arguments))}: {done.stderr}"
        return done.stdout

    def list(self, what):
        return json.loads(self.run("pactl", "-f", "json", "list", what) or "[]")

    def sink(self, name):
        return next((sink for sink in self.list("sinks") if sink["name"] == name), None)

    def stream(self, name):
        return next((stream for stream in self.list("sink-inputs")
                     if stream["properties"].get("application.name") == name), None)

    def sink_of(self, name):
        """The name of the sink that the stream plays to."""
        stream = self.stream(name)
        return stream and next((sink["name"] for sink in self.list("sinks") if sink["index"] == stream["sink"]), None)

    def add_sink(self, name, positions="FL FR", rate=48000):
        self.modules[name] = self.pactl("load-module", "module-null-sink", f"sink_name={name}", f"rate={rate}",
                                        *self.sink_options, "format=float32le", f"channels={len(positions.split())}",
                                        f"channel_map={channel_map(positions)}").strip()
        wait_for(lambda: self.sink(name), name)

    def remove_sink(self, name):
        self.pactl("unload-module", self.modules.pop(name))
        wait_for(lambda: not self.sink(name), f"{name} to go")

    def stop(self):
        for name in list(self.processes)[::-1]:
            if name != "dbus":
                self.end(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)

    def end(self, name):
        process = self.processes.pop(name, None)
        if process:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def freeze(self, frozen):
        self.processes[self.daemon].send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def close(self):
        for name in list(self.processes)[::-1]:
            self.end(name)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class PulseAudio(Server):
    tools = Server.tools + ["pulseaudio"]
    daemon = "pulseaudio"
    sink_options = ["norewinds=1"]  # or it begins with two seconds of silence that nobody gets out of it

    def start(self, sinks=("testsink",)):
        modules = [f"module-native-protocol-unix socket={self.socket} auth-anonymous=1",
                   f"module-cli-protocol-unix socket={self.dir}/cli",
                   "module-stream-restore"]
        self.spawn("pulseaudio", ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"] +
                   [word for module in modules for word in ("-L", module)])
        wait_for(lambda: os.path.exists(self.socket) and os.path.exists(self.dir + "/cli"), "pulseaudio")
        for sink in sinks:
            self.add_sink(sink)

    def kill_stream(self, name):
        with socket.socket(socket.AF_UNIX) as cli:
            cli.connect(self.dir + "/cli")
            cli.sendall(f"kill-sink-input {self.stream(name)['index']}\n".encode())
            cli.shutdown(socket.SHUT_WR)
            while cli.recv(4096):
                pass


class PipeWirePulse(Server):
    tools = Server.tools + ["dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse", "pw-cli"]
    daemon = "pipewire-pulse"

    def __init__(self):
        super().__init__()
        self.spawn("dbus", ["dbus-daemon", "--session", "--nofork", "--nopidfile",
                            "--address=" + self.env["DBUS_SESSION_BUS_ADDRESS"]])
        wait_for(lambda: os.path.exists(self.dir + "/bus"), "the bus")

    def start(self, sinks=("testsink",)):
        self.spawn("pipewire", ["pipewire"])
        wait_for(lambda: os.path.exists(self.dir + "/pipewire-0"), "pipewire")
        self.spawn("wireplumber", ["wireplumber"])
        wait_for(lambda: "WirePlumber" in self.run("pw-cli", "ls", "Client"), "wireplumber")
        self.spawn("pipewire-pulse", ["pipewire-pulse"])
        wait_for(lambda: os.path.exists(self.socket), "pipewire-pulse")
        for sink in sinks:
            self.add_sink(sink)

    def stop(self):
        super().stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.dir + "/pipewire-0")

    def kill_stream(self, name):
        self.run("pw-cli", "destroy", self.stream(name)["properties"]["object.id"])


def capture(server, sink, positions, seconds=1.0):
    """What the sink's monitor gives, as one list of samples per channel."""
    channels = len(positions.split())
    recorder = subprocess.Popen(["parec", "-d", sink + ".monitor", "--raw", "--format=float32le",
                                 "--channels", str(channels), "--channel-map", channel_map(positions),
                                 "--rate", "48000", "--latency-msec=50"],
                                env=server.env, stdout=subprocess.PIPE, stderr=server.log)
    time.sleep(seconds)
    recorder.terminate()
    data = recorder.communicate(timeout=5)[0]
    samples = array.array("f")
    samples.frombytes(data[:len(data) // (4 * channels) * 4 * channels])
    return [samples[c::channels] for c in range(channels)]


def expect_levels(server, sink, positions, levels):
    for name, samples, level in zip(positions.split(), capture(server, sink, positions), levels):
        found = sorted(samples[len(samples) // 2:])[len(samples) // 4] if samples else 0
        assert abs(found - level) < 1e-3, f"{sink}: {name}: {found}, not {level}"


# ---- scenarios ----


def basic(server, remote):
    """open, start, heard, stop, start, close; nothing pulls while stopped."""
    server.start()
    remote.ok("context")
    i = remote.open()
    time.sleep(0.5)
    assert remote.stats(i)["pulls"] == 0, "pulled before start"
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    stats = remote.settle(i)
    check_pulls(stats)
    assert stats["rate"] == 48000 and stats["max"] <= 512, stats
    expect_levels(server, "testsink", "FL FR", (1 / 16, 2 / 16))
    assert remote.ask(f"state {i}") == "ok"
    for _ in range(20):
        remote.ok(f"stop {i}")
        remote.stats(i)
        time.sleep(0.05)
        assert remote.stats(i)["pulls"] == 0, "pulled while stopped"
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
    check_pulls(remote.stats(i))
    remote.ok(f"stop {i}")
    time.sleep(1)
    assert remote.ask(f"state {i}") == "ok", "corked is not without a device"
    remote.ask("event")
    remote.ok(f"close {i}")
    assert remote.ask("event") == "0", "closing a stream is no event"
    remote.ok("context-close")


def probe(server, remote):
    """No server, a server without a sink, a sink - and a fallback sink that is none."""
    assert remote.ask("probe") == "error EHOSTDOWN"
    assert remote.ask("context") == "error EHOSTDOWN"
    server.start(sinks=())
    assert remote.ask("probe") == "error ENODEV"
    if not server.sink("auto_null"):
        server.add_sink("auto_null")
    assert remote.ask("probe") == "error ENODEV"
    server.add_sink("testsink")
    assert remote.ask("probe") == "ok"
    assert remote.ask("probe unix:/nonexistent") == "error EHOSTDOWN"
    assert remote.ask(f"probe unix:{server.socket}") == "ok"
    assert remote.ask(f"context unix:{server.socket}") == "ok"


def gate(server, remote):
    """A pull that has begun when stop comes is waited for, and none begins after."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok("slow 3000")
    for _ in range(40):
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
        remote.ok(f"stop {i}")
    check_pulls(remote.stats(i))
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    remote.ok(f"close {i}")
    time.sleep(0.2)
    check_pulls(remote.stats(i))


def periods(server, remote):
    """A longer period is a larger buffer, a shorter one a smaller: as it was asked, where the server allows it."""
    server.start()
    remote.ok("context")
    delays = []
    for period_us in (2800, 8000, 30000, 120000):
        i, granted_us = map(int, remote.ok(f"open guest 2 3 {period_us} - connect"))
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
        stats = remote.settle(i, 1)
        check_pulls(stats)
        assert 0.8 * period_us < 3 * granted_us <= 1.01 * period_us, (period_us, granted_us)
        delays.append(stats["delay_max"] / 48)
        remote.ok(f"close {i}")
    # PipeWire has a least and a largest one of its own.
    assert delays[0] < 20 and delays[1] < 20 and delays[1] < delays[2] < delays[3] and 50 < delays[3] < 160, delays


def timing(server, remote):
    """The clock that the pull is told is the sink's, which is this computer's: without drift, nearly without noise."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    time.sleep(1)
    first = remote.stats(i)
    offsets = []
    for _ in range(30):
        time.sleep(0.1)
        stats = remote.stats(i)
        check_pulls(stats)
        frames = stats["position"] - first["position"]
        offsets.append((stats["cycle_ns"] - first["cycle_ns"]) / 1e6 - frames / 48)
    offsets.sort()
    spread = offsets[-4] - offsets[3]
    assert spread < 1 and abs(offsets[15]) < 1, f"the clock wanders by {spread:.2f} ms, {offsets[15]:.2f} in the middle"


def rate(server, remote):
    """The sink's rate is the stream's, from the start and after a move, also to a sink of another rate."""
    server.start(sinks=())
    rates = {"first": 44100, "second": 96000, "third": 32000}
    for name, hz in rates.items():
        server.add_sink(name, rate=hz)
    remote.ok("context")
    i = remote.open(target="first")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    for name in ("first", "second", "third", "second"):
        if name != server.sink_of("guest"):
            server.pactl("move-sink-input", server.stream("guest")["index"], name)
        # An idle sink of PulseAudio's may take the rate of who comes to it.
        def hz(): return int(server.sink(name)["sample_specification"].split()[-1][:-2])
        wait_for(lambda: remote.settle(i, 0.2)["rate"] == hz() and server.sink_of("guest") == name, f"the rate of {name}")
        stats = remote.settle(i, 0.5)
        check_pulls(stats)
        assert 0.9 * hz() * 0.5 < stats["frames"] < 1.2 * hz() * 0.5, stats
        assert remote.ask(f"state {i}") == "ok"
        assert f" {hz()}Hz" in server.stream("guest")["sample_specification"], server.stream("guest")
        assert hz() == rates[name] or name == "first", f"{name} runs at {hz()}"
        expect_levels(server, name, "FL FR", (1 / 16, 2 / 16))


def surround(server, remote):
    """Every channel arrives where it belongs."""
    server.start(sinks=())
    remote.ok("context")
    for sink, mask, positions in (("quad", 0x33, "FL FR RL RR"), ("back", 0x3F, "FL FR FC LFE RL RR"),
                                  ("side", 0x60F, "FL FR FC LFE SL SR"), ("mono", 0x4, "MONO"),
                                  ("large", 0x63F, "FL FR FC LFE RL RR SL SR")):
        channels = len(positions.split())
        server.add_sink(sink, positions)
        i = remote.open(f"guest-{sink}", channels, mask, target=sink)
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
        expect_levels(server, sink, positions, [(c + 1) / 16 for c in range(channels)])
        remote.ok(f"close {i}")
    # A single channel on two speakers: both, at its level. PulseAudio 16 knows that; others may lower it.
    server.add_sink("stereo")
    i = remote.open("guest-stereo", 1, 0x4, target="stereo")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    expect_levels(server, "stereo", "FL FR", (1 / 16, 1 / 16))


def names(server, remote):
    """What a mixer remembers the stream by."""
    server.start(sinks=("first", "second"))
    remote.ok("context")
    remote.open("win11", target="second")
    wait_for(lambda: server.stream("win11"), "the stream")
    properties = server.stream("win11")["properties"]
    for key in ("application.name", "application.id", "media.name", "node.name"):
        assert properties.get(key) == "win11", f"{key}: {properties.get(key)}"
    assert "media.role" not in properties, properties
    assert server.sink_of("win11") == "second", "not on the sink it was given"


def remembered(server, remote):
    """Mute, volume and sink that were chosen in a mixer hold, and are there again for the next stream of that name."""
    server.start(sinks=("first", "second"))
    remote.ok("context")
    i = remote.open("win11", target=None or "-")
    remote.open("win10")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    index = server.stream("win11")["index"]
    other = "second" if server.sink_of("win11") == "first" else "first"
    server.pactl("set-sink-input-volume", index, "50%")
    server.pactl("move-sink-input", index, other)
    server.pactl("set-sink-input-mute", index, "1")
    remote.ok(f"stop {i}")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    expect_levels(server, other, "FL FR", (0, 0))

    def chosen(name):
        stream = server.stream(name)
        return stream and (stream["mute"], list(stream["volume"].values())[0]["value_percent"], server.sink_of(name))

    assert chosen("win11") == (True, "50%", other), chosen("win11")
    time.sleep(1)  # session managers write down what was chosen after a while
    remote.ok(f"close {i}")
    wait_for(lambda: not server.stream("win11"), "the stream to go")
    i = remote.open("win11")
    remote.ok(f"start {i}")
    wait_for(lambda: chosen("win11") == (True, "50%", other), f"what was chosen, not {chosen('win11')}", 3)
    assert chosen("win10")[:2] == (False, "100%"), chosen("win10")


def sinks(server, remote):
    """A stream that is moved, and that loses its sink: it plays on as soon as there is one."""
    server.start(sinks=("first", "second"))
    remote.ok("context")
    i = remote.open(target="second")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    remote.ask("event")
    clock = remote.stats(i)["clock"]
    server.remove_sink("second")
    wait_for(lambda: (lambda s: s["pulls"] > 0 and s["clock"] != clock)(remote.settle(i, 0.2)), "the move")
    check_pulls(remote.stats(i))
    assert remote.ask(f"state {i}") == "ok"
    server.remove_sink("first")
    wait_for(lambda: remote.ask(f"state {i}") != "ok", "the loss to be noticed")
    assert int(remote.ask("event")) > 0, "no event"
    assert remote.ask("context-state") == "ok"
    if remote.ask(f"state {i}") == "lost":  # PulseAudio kills streams that have no sink at all
        remote.ok(f"close {i}")
        assert remote.ask("open guest 2 3 5333 - connect") == "error ENODEV"
        server.add_sink("third")
        i = remote.open()
        remote.ok(f"start {i}")
    else:
        server.add_sink("third")
    wait_for(lambda: server.sink_of("guest") == "third", "the move to the new sink")
    remote.wait_state(f"state {i}", "ok")
    remote.wait_pulls(i)
    check_pulls(remote.stats(i))


def killed(server, remote):
    """Ended in a mixer: the stream is lost, the context is not."""
    server.start()
    remote.ok("context")
    i = remote.open()
    j = remote.open("other")
    for k in (i, j):
        remote.ok(f"start {k}")
        remote.wait_pulls(k)
    remote.ask("event")
    server.kill_stream("guest")
    remote.wait_state(f"state {i}", "lost")
    assert int(remote.ask("event")) > 0, "no event"
    assert remote.ask("context-state") == "ok" and remote.ask(f"state {j}") == "ok"
    assert remote.ask(f"start {i}") == "error EHOSTDOWN"
    remote.ok(f"stop {i}")
    remote.ok(f"close {i}")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    remote.wait_pulls(j)


def suspended(server, remote):
    """PulseAudio's: a sink that another program has for itself: no device, until it is back; what is heard then is new."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    remote.ask("event")
    server.pactl("suspend-sink", "testsink", "1")
    remote.wait_state(f"state {i}", "no-device")
    assert int(remote.ask("event")) > 0, "no event"
    assert remote.settle(i, 0.5)["pulls"] == 0, "pulled for a sink that stands still"
    server.pactl("suspend-sink", "testsink", "0")
    remote.wait_pulls(i)
    remote.wait_state(f"state {i}", "ok")
    check_pulls(remote.settle(i))


def missing(server, remote):
    """A sink that does not exist."""
    server.start()
    remote.ok("context")
    assert remote.ask("open guest 2 3 5333 nosuchsink connect") == "error ENODEV"
    server.add_sink("nosuchsink")
    i = remote.open(target="nosuchsink")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)


def many(server, remote):
    """One context, several streams, one thread; each starts and stops by itself."""
    server.start()
    remote.ok("context")
    tasks = f"/proc/{remote.process.pid}/task"
    threads = len(os.listdir(tasks))
    streams = [remote.open(f"guest{k}") for k in range(6)]
    for k in streams:
        remote.ok(f"start {k}")
    for k in streams:
        remote.wait_pulls(k)
    assert len(os.listdir(tasks)) == threads, "streams have threads of their own"
    for k in streams[::2]:
        remote.ok(f"stop {k}")
        remote.stats(k)
    time.sleep(0.3)
    for k in streams:
        assert (remote.stats(k)["pulls"] > 0) == (k % 2 == 1), k
        check_pulls(remote.stats(k))
    for k in streams[1::2]:
        remote.ok(f"close {k}")
    for k in streams[::2]:
        remote.ok(f"start {k}")
        remote.wait_pulls(k)


def stalled(server, remote):
    """The program stands still for longer than the queue lasts: what was missed is skipped, and said so."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    before = remote.settle(i)
    clock = before["cycle_ns"] * 48e-6 - before["position"]
    for seconds in (0.05, 0.3, 2.0):
        remote.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        remote.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        stats = remote.stats(i)
        check_pulls(stats)
        assert stats["discontinuities"] > 0, f"{seconds} s were missed, and nobody said so: {stats}"
        stats = remote.settle(i, 0.5)
        check_pulls(stats)
        assert stats["max"] <= 2 * before["max"], stats
        # It has to be heard as long after being pulled as before.
        parted = stats["cycle_ns"] * 48e-6 - stats["position"] - clock
        assert abs(parted) < 96, f"position and time part by {parted:.0f} frames"


def restart(server, remote):
    """A server that ends is BACKEND_LOST, with an event; closing and opening again plays with the next one."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    for _ in range(2):
        remote.ask("event")
        server.stop()
        remote.wait_state("context-state", "lost")
        assert remote.ask(f"state {i}") == "lost" and int(remote.ask("event")) > 0
        assert remote.ask(f"start {i}") == "error EHOSTDOWN"
        assert remote.ask("open other 2 3 5333 - connect") == "error EHOSTDOWN"
        remote.ok(f"stop {i}")
        remote.ok(f"close {i}")
        remote.ok("context-close")
        assert remote.ask("context") == "error EHOSTDOWN"
        server.start()
        remote.ok("context")
        i = remote.open()
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
        check_pulls(remote.stats(i))


def frozen(server, remote):
    """A server that hangs: nothing waits longer than the contract says, and stop stops."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    server.freeze(True)
    remote.ok(f"stop {i}")
    time.sleep(0.3)
    server.freeze(False)
    time.sleep(0.5)
    check_pulls(remote.stats(i))
    assert remote.settle(i)["pulls"] == 0
    remote.ok(f"start {i}")
    remote.wait_pulls(i)

    server.freeze(True)
    began = time.monotonic()
    remote.ok(f"stop {i}")
    remote.ok(f"start {i}")
    assert remote.ask("open other 2 3 5333 - connect", 4) == "error EHOSTDOWN"
    assert remote.ask("probe", 4) == "error EHOSTDOWN"
    remote.ok(f"close {i}")
    remote.ok("context-close")
    assert remote.ask("context", 4) == "error EHOSTDOWN"
    assert time.monotonic() - began < 10
    server.freeze(False)
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)


def reopen(server, remote):
    """A context leaves nothing behind: no thread, no descriptor, no memory that grows."""
    server.start()
    proc = f"/proc/{remote.process.pid}"

    def cycle(count):
        for _ in range(count):
            assert remote.ask("probe") == "ok"
            remote.ok("context")
            i = remote.open()
            remote.ok(f"start {i}")
            remote.wait_pulls(i)
            remote.ok(f"close {i}")
            remote.ok("context-close")

    def left():
        with open(proc + "/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * 4
        return len(os.listdir(proc + "/fd")), len(os.listdir(proc + "/task")), resident

    cycle(5)
    before = left()
    cycle(30)
    after = left()
    assert after[:2] == before[:2], f"descriptors and threads: {before[:2]}, then {after[:2]}"
    # An instrumented build keeps what was freed for a while.
    limit = 1024 if before[2] < 25 * 1024 else 64 * 1024
    assert after[2] - before[2] < limit, f"{before[2]} KiB resident, then {after[2]}"


def corked(server, remote):
    """What is stopped costs nothing: not one wake-up."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    remote.ok(f"stop {i}")
    time.sleep(1)

    def switches():
        count = 0
        for task in os.listdir(f"/proc/{remote.process.pid}/task"):
            with open(f"/proc/{remote.process.pid}/task/{task}/status", encoding="ascii") as file:
                count += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        return count

    before = switches()
    time.sleep(2)
    woken = switches() - before
    assert woken <= 2, f"{woken} wake-ups in 2 s while stopped"


if __name__ == "__main__":
    kind = {"pulseaudio": PulseAudio, "pipewire-pulse": PipeWirePulse}[sys.argv.pop(2)]
    all_scenarios = [basic, gate, probe, periods, timing, rate, surround, names, remembered, sinks, killed, missing,
                     many, stalled, restart, frozen, reopen, corked]
    if kind is PulseAudio:
        all_scenarios.append(suspended)
    sys.exit(run(kind, "pulse", all_scenarios, kind.tools))
