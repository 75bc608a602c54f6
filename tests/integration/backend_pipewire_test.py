#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The PipeWire backend against a private PipeWire with null sinks: what backends/backend.h promises, no more.

usage: backend_pipewire_test.py BACKEND_REMOTE [SCENARIO ...]
Exit 77 where a tool is missing (ctest: skipped).
"""

import array
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from remote import check_pulls, run, wait_for

TOOLS = ["dbus-daemon", "pipewire", "wireplumber", "pw-cli", "pw-metadata", "pw-cat",
         "pw-dump", "pw-link"]


class Server:
    """dbus, pipewire and wireplumber with a runtime directory of their own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="earshot-pw-")
        os.chmod(self.dir, 0o700)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PIPEWIRE", "PULSE", "DBUS", "XDG_"))}
        self.env = dict(keep, XDG_RUNTIME_DIR=self.dir, HOME=self.dir, XDG_CONFIG_HOME=self.dir + "/config",
                        XDG_STATE_HOME=self.dir + "/state", LC_ALL="C",
                        DBUS_SESSION_BUS_ADDRESS="unix:path=" + self.dir + "/bus")
        self.log = open(self.dir + "/log", "w")
        self.processes = {}
        self.spawn("dbus", ["dbus-daemon", "--session", "--nofork", "--nopidfile",
                            "--address=" + self.env["DBUS_SESSION_BUS_ADDRESS"]])
        wait_for(lambda: os.path.exists(self.dir + "/bus"), "the bus")

    def spawn(self, name, command):
        self.processes[name] = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
                                                stderr=self.log)

    def run(self, *command):
        return subprocess.run(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=20, check=False).stdout

    def start(self, sinks=("testsink",)):
        self.spawn("pipewire", ["pipewire"])
        wait_for(lambda: os.path.exists(self.dir + "/pipewire-0"), "pipewire")
        self.spawn("wireplumber", ["wireplumber"])
        wait_for(lambda: "WirePlumber" in self.run("pw-cli", "ls", "Client"), "wireplumber")
        for sink in sinks:
            self.add_sink(sink)

    def add_sink(self, name, channels="FL FR"):
        self.run("pw-cli", "create-node", "adapter",
                 f"{{ factory.name=support.null-audio-sink node.name={name} media.class=Audio/Sink "
                 f"object.linger=true audio.position=[{channels}] monitor.channel-volumes=true }}")
        wait_for(lambda: f'"{name}"' in self.run("pw-cli", "ls", "Node"), name)

    def remove_sink(self, name):
        self.run("pw-cli", "destroy", name)
        wait_for(lambda: f'"{name}"' not in self.run("pw-cli", "ls", "Node"), f"{name} to go")

    def setting(self, key, value):
        self.run("pw-metadata", "-n", "settings", "0", key, str(value))

    def stop(self):
        for name in ("wireplumber", "pipewire"):
            self.end(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.dir + "/pipewire-0")

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
        self.processes["pipewire"].send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def close(self):
        for name in list(self.processes)[::-1]:
            self.end(name)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def capture(server, sink, channels, seconds=1.0):
    """What the sink's monitor gives, as one list of samples per channel."""
    path = server.dir + "/capture.wav"
    recorder = subprocess.Popen(["pw-cat", "--record", "--target", sink, "--channels", str(channels),
                                 "--format", "f32", "--rate", "48000", "-P", "{ stream.capture.sink=true }", path],
                                env=server.env, stdout=server.log, stderr=server.log)
    time.sleep(seconds)
    recorder.send_signal(signal.SIGINT)
    recorder.wait(5)
    samples = array.array("f")
    with open(path, "rb") as file:
        data = file.read()
    start = data.index(b"data") + 8
    end = start + (len(data) - start) // (4 * channels) * 4 * channels
    samples.frombytes(data[start:end])
    return [samples[c::channels] for c in range(channels)]


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
    assert stats["min"] == stats["max"] == 256 and stats["rate"] == 48000, stats
    for c, samples in enumerate(capture(server, "testsink", 2)):
        assert max(samples, default=0) == (c + 1) / 16, f"channel {c}: {max(samples, default=0)}"
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
    server.add_sink("auto_null")
    assert remote.ask("probe") == "error ENODEV"
    server.add_sink("testsink")
    assert remote.ask("probe") == "ok"
    assert remote.ask("probe no-such-remote") == "error EHOSTDOWN"
    assert remote.ask("probe pipewire-0") == "ok"


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


def quantum(server, remote):
    """Any quantum at any time."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
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
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
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
    server.add_sink("back", "FL FR FC LFE RL RR")
    server.add_sink("side", "FL FR FC LFE SL SR")
    server.add_sink("large", "FL FR FC LFE RL RR SL SR")
    remote.ok("context")
    for sink, mask, channels in (("back", 0x3F, 6), ("side", 0x60F, 6), ("large", 0x63F, 8)):
        i = remote.open(f"guest-{sink}", channels, mask, target=sink)
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
        for c, samples in enumerate(capture(server, sink, channels)):
            level = max(samples, default=0)
            assert level == (c + 1) / 16, f"{sink}: channel {c}: {level}"
        remote.ok(f"close {i}")


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


def sinks(server, remote):
    """A stream that is moved, and that loses its sink: it plays on as soon as there is one."""
    server.start(sinks=("first", "second"))
    remote.ok("context")
    i = remote.open("guest", target="second")
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    remote.ask("event")
    clock = remote.stats(i)["clock"]
    server.remove_sink("second")
    wait_for(lambda: (lambda s: s["pulls"] > 0 and s["clock"] != clock)(remote.settle(i, 0.2)), "the move")
    check_pulls(remote.stats(i))
    assert remote.ask(f"state {i}") == "ok"
    server.remove_sink("first")
    remote.wait_state(f"state {i}", "no-device")
    assert int(remote.ask("event")) > 0, "no event"
    assert remote.ask("context-state") == "ok"
    server.add_sink("third")
    remote.wait_pulls(i, 8)
    remote.wait_state(f"state {i}", "ok")
    assert int(remote.ask("event")) > 0, "no event"
    check_pulls(remote.stats(i))


def many(server, remote):
    """One context, several streams, one real-time thread; each starts and stops by itself."""
    server.start()
    remote.ok("context")
    tasks = f"/proc/{remote.process.pid}/task"
    threads = len(os.listdir(tasks))
    streams = [remote.open(f"guest{k}", period_us=5333) for k in range(6)]
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
    sys.exit(run(Server, "pipewire", [basic, gate, probe, quantum, rate, surround, targets, names, sinks, many, restart,
                                      frozen, reopen, corked], TOOLS))
