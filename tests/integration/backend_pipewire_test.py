#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The PipeWire backend against a private PipeWire with null sinks: what backends/backend.h promises, no more.

usage: backend_pipewire_test.py BACKEND_REMOTE [SCENARIO ...]
Exit 77 where a tool is missing (ctest: skipped).
"""

import array
import json
import os
import re
import signal
import sys
import time

import backend_contract
import harness
from backend_contract import expect_layouts, expect_levels
from remote import check_pulls, wait_for


class PipeWire(backend_contract.Server, harness.Session):
    tools = harness.Session.tools + ("pw-cat", "pw-link")
    fallback = "auto_null"
    nowhere, address = "no-such-remote", "pipewire-0"
    one_thread = True
    without_sinks = ("no-device",)
    level_tolerance = 0
    has_sink = harness.Session.node

    def add_sink(self, name, positions="FL FR"):
        self.sink(name, positions)

    def remove_sink(self, name):
        self.run("pw-cli", "destroy", name)
        wait_for(lambda: not self.node(name), f"{name} to go")

    def sink_of(self, name):
        """The name of the sink that the stream plays to."""
        found = re.search(r"\|-> (.*):", self.run("pw-link", "-l", f"{name}:output_FL"))
        return found and found[1]

    def record(self, sink, positions, seconds=1.0):
        """What the sink's monitor gives, as one list of samples per channel."""
        path = os.path.join(self.directory, f"record{len(self.processes)}.wav")
        channels = len(positions.split())
        recorder = self.spawn("record", ["pw-cat", "--record", "--target", sink, "--channels", str(channels), "--format",
                                         "f32", "--rate", "48000", "-P", "{ stream.capture.sink=true }", path])
        time.sleep(seconds)
        recorder.end(signal.SIGINT)
        if not os.path.exists(path):
            return [[]]
        with open(path, "rb") as file:
            data = file.read()
        start = data.find(b"data") + 8
        samples = array.array("f")
        samples.frombytes(data[start:start + (len(data) - start) // (4 * channels) * 4 * channels])
        return [samples[c::channels] for c in range(channels)]

    @staticmethod
    def level(samples):
        return max(samples, default=0)

    def check_playing(self, stats):
        assert stats["min"] == stats["max"] == 256, stats
        expect_levels(self, "testsink", "FL FR", (1 / 16, 2 / 16))


# ---- scenarios ----


def quantum(server, remote):
    """Any quantum at any time."""
    server.start()
    remote.ok("context")
    i = remote.play()
    for frames in (1024, 64, 8192, 32, 256, 2048):
        server.setting("clock.force-quantum", frames)
        wait_for(lambda f=frames: remote.settle(i, 0.4)["min"] == f, f"quantum {frames}")
        stats = remote.settle(i)
        check_pulls(stats)
        assert stats["min"] == stats["max"] == frames, stats


def rate(server, remote):
    """The graph's rate is the stream's, also when it changes, and the quantum stays the same in time."""
    server.start()
    server.setting("clock.allowed-rates", "[ 44100 48000 96000 ]")
    remote.ok("context")
    i = remote.play()
    for hz, frames in ((44100, 256), (96000, 512), (48000, 256)):
        server.setting("clock.force-rate", hz)
        wait_for(lambda f=frames, h=hz: (lambda s: s["rate"] == h and s["min"] == f)(remote.settle(i, 0.3)),
                        f"{hz} Hz and quantum {frames}")
        stats = remote.settle(i)
        check_pulls(stats)
        assert stats["rate"] == hz and stats["min"] == stats["max"] == frames, stats


def surround(server, remote):
    """Every channel arrives where it belongs, without remixing."""
    server.start(sinks=())
    remote.ok("context")
    expect_layouts(server, remote, (("back", 0x3F, "FL FR FC LFE RL RR"), ("side", 0x60F, "FL FR FC LFE SL SR"),
                                    ("large", 0x63F, "FL FR FC LFE RL RR SL SR")))


def targets(server, remote):
    """-d names the sink; -c links nothing, which is no fault."""
    server.start(sinks=("first", "second"))
    remote.ok("context")
    i = remote.open("guest", target="second")
    j = remote.open("loose", connect="no-connect")
    remote.ok(f"start {i}")
    remote.ok(f"start {j}")
    remote.wait_pulls(i)
    links = server.run("pw-link", "-l")
    assert "guest:output_FL" in links and "-> second:playback_FL" in links, links
    assert "first:" not in links and "loose" not in links, links
    time.sleep(1)
    assert remote.ask(f"state {j}") == "ok" and remote.stats(j)["pulls"] == 0


def names(server, remote):
    """What a mixer remembers the stream by."""
    server.start()
    remote.ok("context")
    remote.open("win11")
    nodes = json.loads(server.run("pw-dump"))
    props = [n["info"]["props"] for n in nodes if n.get("info") and
             n["info"].get("props", {}).get("node.name") == "win11"]
    assert len(props) == 1, props
    for key in ("application.name", "application.id", "media.name", "node.description"):
        assert props[0].get(key) == "win11", f"{key}: {props[0].get(key)}"
    assert "media.role" not in props[0] and props[0]["media.class"] == "Stream/Output/Audio", props[0]
    assert props[0]["node.latency"] == "256/48000", props[0]["node.latency"]


if __name__ == "__main__":
    sys.exit(backend_contract.run(PipeWire, "pipewire",
                                  [*backend_contract.SERVER, quantum, rate, surround, targets, names]))
