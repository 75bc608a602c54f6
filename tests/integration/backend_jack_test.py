#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The JACK backend against a private jackd without hardware: what backends/backend.h promises, no more.

usage: backend_jack_test.py BACKEND_REMOTE [SCENARIO ...]
Exit 77 where a tool is missing (ctest: skipped).
"""

import os
import sys
import time

import backend_contract
from jack_session import JackSession
from remote import check_pulls, wait_for

CABLES = {"guest:FL": ["system:playback_1"], "guest:FR": ["system:playback_2"]}


class Jackd(backend_contract.Server, JackSession):
    def start(self, period=256, outputs=2):
        self.start_server(period=period, outputs=outputs)

    def check_open(self):
        for port, to in CABLES.items():
            assert peers(self, port) == to, self.connections()

    def check_playing(self, stats):
        assert stats["min"] == stats["max"] == 256, stats
        # What the server says of its device, in frames: two periods, as it is not in its synchronous mode.
        assert self.latency("guest:FL", "playback") == (stats["delay_min"], stats["delay_max"]) == (512, 512), stats

    def check_closed(self):
        wait_for(lambda: peers(self, "guest:FL") is None, "the client to go")


def peers(server, port):
    return server.connections().get(port)


def wait_peers(server, port, expected):
    wait_for(lambda: peers(server, port) == expected, f"{port} to be connected to {expected}", 5)


# ---- scenarios ----


def probe(server, remote):
    """No server, and none is started; a server without outputs; one with."""
    assert remote.ask("probe") == "error EHOSTDOWN"
    assert remote.ask("context") == "error EHOSTDOWN"
    assert not server.answers(), "a server was started"
    server.start(outputs=0)
    assert remote.ask("probe") == "error ENODEV"
    server.stop()
    server.start()
    assert remote.ask("probe") == "ok"
    assert remote.ask("probe no-such-server") == "error EHOSTDOWN"
    assert remote.ask(f"probe {server.server_name}") == "ok"


def period(server, remote):
    """Any period at any time, and the time that the change takes is not lost."""
    server.start(period=128)
    remote.ok("context")
    i, granted_us = map(int, remote.ok("open guest 2 3 5333 - connect"))
    assert granted_us == 2666, granted_us
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    for frames in (1024, 64, 4096, 32, 256):
        server.run("jack_bufsize", str(frames), may_fail=True)
        wait_for(lambda f=frames: remote.settle(i, 0.4)["min"] == f, f"period {frames}")
        stats = remote.settle(i)
        check_pulls(stats)
        assert stats["min"] == stats["max"] == frames, stats
    first, last = remote.stats(i), remote.settle(i, 1.0)
    frames = last["position"] - first["position"]
    lasted = (last["cycle_ns"] - first["cycle_ns"]) * 48e-6
    assert abs(frames - lasted) < 48, f"{frames} frames in the time of {lasted:.0f}"


def stall(server, remote):
    """A server that stands still: it does not count that time, the backend does."""
    server.start(period=128)
    remote.ok("context")
    i = remote.play()
    time.sleep(0.5)
    for stop_s in (0.3, 0.02, 0.1):
        before = remote.stats(i)
        server.daemon().freeze(stop_s)
        time.sleep(0.5)
        after = remote.stats(i)
        check_pulls(after)
        frames = after["position"] - before["position"]
        lasted = (after["cycle_ns"] - before["cycle_ns"]) * 48e-6
        assert abs(frames - lasted) < 64 + 48, f"after {stop_s} s: {frames} frames in the time of {lasted:.0f}"
        assert after["discontinuities"] > 0, after


def surround(server, remote):
    """Every channel has the port of its speaker, and goes to the output of its number; one channel goes to two."""
    server.start(outputs=8)
    remote.ok("context")
    layouts = (("quad", 4, 0x33, "FL FR RL RR"), ("back", 6, 0x3F, "FL FR FC LFE RL RR"),
               ("side", 6, 0x60F, "FL FR FC LFE SL SR"), ("large", 8, 0x63F, "FL FR FC LFE RL RR SL SR"))
    for name, channels, mask, speakers in layouts:
        remote.open(name, channels, mask)
        found = server.connections()
        assert [port for port in found if port.startswith(name + ":")] == \
            [f"{name}:{speaker}" for speaker in speakers.split()], found
        for number, speaker in enumerate(speakers.split(), 1):
            assert found[f"{name}:{speaker}"] == [f"system:playback_{number}"], found
    remote.open("mono", 1, 4)
    assert peers(server, "mono:FC") == ["system:playback_1", "system:playback_2"], server.connections()


def targets(server, remote):
    """-d names a client, --connect ports; -c connects nothing, which is no fault."""
    server.start()
    server.capture_ports("nobody:a", "nobody:b", name="sampler").wait_running()
    remote.ok("context")
    remote.open("by-name", target="earshot-capture")
    remote.open("by-pattern", connect="^earshot-capture:in_[2-9]$")
    i = remote.open("loose", connect="no-connect")
    remote.open("usual")
    found = server.connections()
    assert found["by-name:FL"] == ["earshot-capture:in_1"] and found["by-name:FR"] == ["earshot-capture:in_2"], found
    assert found["by-pattern:FL"] == ["earshot-capture:in_2"] and found["by-pattern:FR"] == [], found
    assert found["loose:FL"] == found["loose:FR"] == [], found
    assert found["usual:FL"] == ["system:playback_1"], found
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    assert remote.ask(f"state {i}") == "ok"


def late_target(server, remote):
    """Without anything to play to there is no device; what comes is connected, also again; what people undo is not."""
    server.start(outputs=0)
    remote.ok("context")
    i = remote.open("guest", connect="^earshot-capture:")
    remote.ok(f"start {i}")
    assert remote.ask(f"state {i}") == "no-device"
    for _ in range(2):
        remote.ask("event")
        sampler = server.capture_ports("nobody:a", "nobody:b", name="sampler").wait_running()
        wait_peers(server, "guest:FL", ["earshot-capture:in_1"])
        wait_peers(server, "guest:FR", ["earshot-capture:in_2"])
        remote.wait_state(f"state {i}", "ok")
        assert int(remote.ask("event")) > 0, "no event"
        server.run("jack_disconnect", "guest:FL", "earshot-capture:in_1")
        other = server.capture_ports("nobody:c", name="other").wait_running()
        other.stop()
        time.sleep(0.3)
        assert peers(server, "guest:FL") == [], "what was taken apart by hand was put back"
        assert peers(server, "guest:FR") == ["earshot-capture:in_2"]
        sampler.stop()
        remote.wait_state(f"state {i}", "no-device")
    check_pulls(remote.stats(i))


def names(server, remote):
    """A name that is taken, one with a colon, and one that is too long."""
    server.start()
    remote.ok("context")
    assert remote.ask(f"called {remote.open('win11')}") == "win11"
    assert remote.ask(f"called {remote.open('win11')}") == "win11-01"
    assert remote.ask(f"called {remote.open('fe80::1')}") == "fe80--1"
    long = remote.ask(f"called {remote.open('x' * 100)}")
    assert 20 < len(long) < 64 and set(long) == {"x"}, long
    umlauts = remote.ask(f"called {remote.open('Ü' * 60)}")
    assert 10 < len(umlauts) < 40 and set(umlauts) == {"Ü"}, umlauts
    for client in ("win11", "win11-01", "fe80--1", long, umlauts):
        assert f"{client}:FL" in server.ports(), server.ports()


def latency(server, remote):
    """What main says of the sound's age, other clients see; a trifle moves nothing."""
    server.start()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    for ms, frames in ((30, 1440), (30.5, 1440), (50, 2400)):
        remote.ok(f"latency {i} {int(ms * 1000)}")
        wait_for(lambda f=frames: server.latency("guest:FL", "capture") == (f, f), f"{ms} ms to be told", 3)
    capture = server.capture_ports("guest:FL", "guest:FR").wait_running()
    wait_for(lambda: server.latency("earshot-capture:in_1", "capture") == (2400, 2400), "the next client to see it")
    capture.stop()


def freewheel(server, remote):
    """Who freewheels gets silence; the guest goes on where it would be."""
    server.start()
    remote.ok("context")
    i = remote.play()
    server.run("jack_freewheel", "y")
    time.sleep(0.2)
    assert remote.settle(i, 0.3)["pulls"] == 0, "pulled while the server freewheels"
    server.run("jack_freewheel", "n")
    remote.wait_pulls(i)
    check_pulls(remote.settle(i))
    assert remote.ask(f"state {i}") == "ok"


def frozen(server, remote):
    """A server that hangs: nothing waits longer than the contract says, stop stops, and what is open plays on."""
    server.start()
    remote.ok("context")
    i = remote.play()
    threads = lambda: len(os.listdir(f"/proc/{remote.process.pid}/task"))
    before = threads()
    server.freeze(True)
    began = time.monotonic()
    remote.ok(f"stop {i}")
    remote.ok(f"start {i}")
    assert remote.ask("open other 2 3 5333 - connect", 4) == "error EHOSTDOWN"
    assert remote.ask("open another 2 3 5333 - connect", 1) == "error EHOSTDOWN"
    assert remote.ask("probe", 4) == "error EHOSTDOWN"
    assert remote.ask("context-state") == "ok", "it hangs, it has not gone"
    server.freeze(False)
    remote.wait_pulls(i)
    answer = wait_for(lambda: (lambda a: a.split() if a.startswith("ok") else None)(
        remote.ask("open other 2 3 5333 - connect", 4)), "a stream to be opened again")
    j = int(answer[1])
    assert remote.ask(f"called {j}") == "other", "what could not be opened is still there"
    remote.ok(f"close {j}")

    server.freeze(True)
    assert remote.ask("open other 2 3 5333 - connect", 4) == "error EHOSTDOWN"
    remote.ok(f"close {i}", 1)
    remote.ok("context-close", 1)
    assert remote.ask("context", 4) == "error EHOSTDOWN"
    assert time.monotonic() - began < 20
    server.freeze(False)
    wait_for(lambda: remote.ask("context", 4) == "ok", "the server to be reached again")
    remote.play()
    wait_for(lambda: threads() == before, "the workers left behind to end")


if __name__ == "__main__":
    sys.exit(backend_contract.run(Jackd, "jack", [
        *backend_contract.ALL, probe, period, stall, surround, targets, late_target, names, latency, freewheel,
        backend_contract.restart, frozen]))
