#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The PulseAudio backend against a private PulseAudio, or PipeWire's, with null sinks: what backends/backend.h
promises, no more.

usage: backend_pulse_test.py BACKEND_REMOTE pulseaudio|pipewire-pulse [SCENARIO ...]
Exit 77 where a tool is missing (ctest: skipped).
"""

import array
import os
import signal
import socket
import subprocess
import sys
import time

import backend_contract
import pulse
from backend_contract import expect_layouts, expect_levels
from remote import check_pulls, wait_for


class Pulse(backend_contract.Server):
    """What both servers have in common; pactl does not care."""

    fallback = "auto_null"
    nowhere = "unix:/nonexistent"
    one_thread = True
    niceness = pulse.NICENESS
    sink_options = []
    level_tolerance = 1e-3

    def __init__(self):
        super().__init__()
        self.address = "unix:" + self.socket
        self.env["PULSE_SERVER"] = self.address  # or pactl starts a server where there is none
        self.modules = {}

    def start(self, sinks=("testsink",)):
        super().start(sinks)
        if sinks:  # a session manager chooses one in its own time, and until then there is none to play to
            wait_for(lambda: self.pactl("get-default-sink").strip() in sinks, "a default sink")

    def pactl(self, *arguments):
        return self.run("pactl", *map(str, arguments))

    def sink(self, name):
        """As pactl has it, or None."""
        return next((sink for sink in self.list("sinks") if sink["name"] == name), None)

    has_sink = sink

    def sink_of(self, name):
        """The name of the sink that the stream plays to."""
        stream = self.stream(name)
        return stream and next((sink["name"] for sink in self.list("sinks") if sink["index"] == stream["sink"]), None)

    def add_sink(self, name, positions="FL FR", rate=48000):
        self.modules[name] = self.pactl("load-module", "module-null-sink", f"sink_name={name}", f"rate={rate}",
                                        *self.sink_options, "format=float32le", f"channels={len(positions.split())}",
                                        f"channel_map={pulse.channel_map(positions)}").strip()
        wait_for(lambda: self.sink(name), name)

    def remove_sink(self, name):
        self.pactl("unload-module", self.modules.pop(name))
        wait_for(lambda: not self.sink(name), f"{name} to go")

    def record(self, sink, positions, seconds=1.0):
        """What the sink's monitor gives, as one list of samples per channel."""
        channels = len(positions.split())
        recorder = subprocess.Popen(["parec", "-d", sink + ".monitor", "--raw", "--format=float32le",
                                     "--channels", str(channels), "--channel-map", pulse.channel_map(positions),
                                     "--rate", "48000", "--latency-msec=50"], env=self.env, stdout=subprocess.PIPE)
        time.sleep(seconds)
        recorder.terminate()
        data = recorder.communicate(timeout=5)[0]
        samples = array.array("f")
        samples.frombytes(data[:len(data) // (4 * channels) * 4 * channels])
        return [samples[c::channels] for c in range(channels)]

    @staticmethod
    def level(samples):
        return sorted(samples[len(samples) // 2:])[len(samples) // 4] if samples else 0

    def check_playing(self, stats):
        assert stats["max"] <= 512, stats
        expect_levels(self, "testsink", "FL FR", (1 / 16, 2 / 16))


class PulseAudio(Pulse, pulse.Session):
    tools = pulse.Session.tools + ("parec",)
    sink_options = ["norewinds=1"]  # or it begins with two seconds of silence that nobody gets out of it
    without_sinks = ("lost",)

    def kill_stream(self, name):
        path = os.path.join(self.directory, "cli")
        self.pactl("load-module", "module-cli-protocol-unix", f"socket={path}")
        with socket.socket(socket.AF_UNIX) as cli:
            cli.connect(path)
            cli.sendall(f"kill-sink-input {self.stream(name)['index']}\n".encode())
            cli.shutdown(socket.SHUT_WR)
            while cli.recv(4096):
                pass


class PipeWirePulse(Pulse, pulse.PipeWireSession):
    tools = pulse.PipeWireSession.tools + ("parec",)
    without_sinks = ("no-device", "lost")

    def start_server(self):
        super().start_server(quantum=None)

    def daemon(self):
        return self.server[-1]

    def kill_stream(self, name):
        self.run("pw-cli", "destroy", self.stream(name)["properties"]["object.id"])


# ---- scenarios ----


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
    i = remote.play()
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
            server.move("guest", name)
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
    expect_layouts(server, remote, (("quad", 0x33, "FL FR RL RR"), ("back", 0x3F, "FL FR FC LFE RL RR"),
                                    ("side", 0x60F, "FL FR FC LFE SL SR"), ("mono", 0x4, "MONO"),
                                    ("large", 0x63F, "FL FR FC LFE RL RR SL SR")))
    # A single channel on two speakers: both, at its level. PulseAudio 16 knows that; others may lower it.
    server.add_sink("stereo")
    i = remote.play("guest-stereo", 1, 0x4, target="stereo")
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
    other = "second" if server.sink_of("win11") == "first" else "first"

    def chosen(name):
        stream = server.stream(name)
        return stream and (stream["mute"], list(stream["volume"].values())[0]["value_percent"], server.sink_of(name))

    server.change("win11", lambda stream: list(stream["volume"].values())[0]["value_percent"] == "50%",
                  "set-sink-input-volume", "50%")
    server.move("win11", other)
    server.change("win11", lambda stream: stream["mute"], "set-sink-input-mute", "1")
    remote.ok(f"stop {i}")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    expect_levels(server, other, "FL FR", (0, 0))
    assert chosen("win11") == (True, "50%", other), chosen("win11")
    time.sleep(1)  # session managers write down what was chosen after a while
    remote.ok(f"close {i}")
    wait_for(lambda: not server.stream("win11"), "the stream to go")
    i = remote.open("win11")
    remote.ok(f"start {i}")
    wait_for(lambda: chosen("win11") == (True, "50%", other), f"what was chosen, not {chosen('win11')}", 3)
    assert chosen("win10")[:2] == (False, "100%"), chosen("win10")


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
    remote.play()
    remote.wait_pulls(j)


def suspended(server, remote):
    """PulseAudio's: a sink that another program has for itself: no device, until it is back; what is heard then is new."""
    server.start()
    remote.ok("context")
    i = remote.play()
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
    remote.play(target="nosuchsink")


def stalled(server, remote):
    """The program stands still for longer than the queue lasts: what was missed is skipped, and said so."""
    server.start()
    remote.ok("context")
    i = remote.play()
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


if __name__ == "__main__":
    kind = {"pulseaudio": PulseAudio, "pipewire-pulse": PipeWirePulse}[sys.argv.pop(2)]
    scenarios = [*backend_contract.SERVER, periods, timing, rate, surround, names, remembered, killed, missing, stalled]
    if kind is PulseAudio:
        scenarios.append(suspended)
    sys.exit(backend_contract.run(kind, "pulse", scenarios))
