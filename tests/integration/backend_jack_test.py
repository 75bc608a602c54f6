#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The JACK backend against a private jackd without hardware: what backends/backend.h promises, no more.

usage: backend_jack_test.py BACKEND_REMOTE [SCENARIO ...]
Exit 77 where a tool is missing (ctest: skipped).
"""

import os
import sys
import time

import harness
from jack_session import JackSession
from remote import Remote, check_pulls

wait_for = harness.wait_for


def peers(session, port):
    return session.connections().get(port)


def wait_peers(session, port, expected):
    wait_for(f"{port} to be connected to {expected}", lambda: peers(session, port) == expected, 5)


def basic(session, remote):
    """open, start, stop, start, close; nothing pulls while stopped, and the ports stay connected."""
    session.start_server()
    remote.ok("context")
    i, granted_us = remote.ok("open guest 2 3 5333 - connect")
    assert int(granted_us) == 2666, granted_us
    time.sleep(0.3)
    assert remote.stats(i)["pulls"] == 0, "pulled before start"
    cables = {"guest:FL": ["system:playback_1"], "guest:FR": ["system:playback_2"]}
    for port, to in cables.items():
        assert peers(session, port) == to, session.connections()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    stats = remote.settle(i)
    check_pulls(stats)
    assert stats["min"] == stats["max"] == 128 and stats["rate"] == 48000, stats
    # What the server says of its device, in frames: two periods, as it is not in its synchronous mode.
    assert session.latency("guest:FL", "playback") == (stats["delay_min"], stats["delay_max"]) == (256, 256), stats
    for _ in range(20):
        remote.ok(f"stop {i}")
        remote.stats(i)
        time.sleep(0.05)
        assert remote.stats(i)["pulls"] == 0, "pulled while stopped"
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
    check_pulls(remote.stats(i))
    remote.ok(f"stop {i}")
    for port, to in cables.items():
        assert peers(session, port) == to, session.connections()
    assert remote.ask(f"state {i}") == "ok"
    remote.ask("event")
    remote.ok(f"close {i}")
    wait_for("the client to go", lambda: peers(session, "guest:FL") is None)
    assert remote.ask("event") == "0", "closing a stream is no event"
    remote.ok("context-close")


def probe(session, remote):
    """No server, and none is started; a server without outputs; one with."""
    assert remote.ask("probe") == "error EHOSTDOWN"
    assert remote.ask("context") == "error EHOSTDOWN"
    assert not session.answers(), "a server was started"
    session.start_server(outputs=0)
    assert remote.ask("probe") == "error ENODEV"
    session.server[0].end()
    session.start_server()
    assert remote.ask("probe") == "ok"
    assert remote.ask("probe no-such-server") == "error EHOSTDOWN"
    assert remote.ask(f"probe {session.server_name}") == "ok"


def gate(session, remote):
    """A pull that has begun when stop comes is waited for, and none begins after."""
    session.start_server(period=256)
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


def period(session, remote):
    """Any period at any time, and the time that the change takes is not lost."""
    session.start_server()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    for frames in (1024, 64, 4096, 32, 256):
        session.run("jack_bufsize", str(frames), may_fail=True)
        wait_for(f"period {frames}", lambda f=frames: remote.settle(i, 0.4)["min"] == f)
        stats = remote.settle(i)
        check_pulls(stats)
        assert stats["min"] == stats["max"] == frames, stats
    keeps_time(remote, i, "a change of the period")


def keeps_time(remote, i, what):
    """The position goes with CLOCK_MONOTONIC from the first pull that is remembered to the last."""
    ahead = [(int(words["dpos"]), int(words["dns"])) for words in
             (dict(word.split("=") for word in line.split()[1:]) for line in remote.dump(int(i)))]
    first, last = remote.stats(i), remote.settle(i, 1.0)
    frames = last["position"] - first["position"]
    lasted = (last["cycle_ns"] - first["cycle_ns"]) * 48e-6
    assert abs(frames - lasted) < 48, f"after {what}: {frames} frames in the time of {lasted:.0f}"
    jumps = [step for step in ahead if step[0] > 9000]
    return jumps


def stall(session, remote):
    """A server that stands still: it does not count that time, the backend does."""
    session.start_server()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    time.sleep(0.5)
    for stop_s in (0.3, 0.02, 0.1):
        before = remote.stats(i)
        session.server[0].freeze(stop_s)
        time.sleep(0.5)
        after = remote.stats(i)
        check_pulls(after)
        frames = after["position"] - before["position"]
        lasted = (after["cycle_ns"] - before["cycle_ns"]) * 48e-6
        assert abs(frames - lasted) < 64 + 48, f"after {stop_s} s: {frames} frames in the time of {lasted:.0f}"
        assert after["discontinuities"] > 0, after


def surround(session, remote):
    """Every channel has the port of its speaker, and goes to the output of its number; one channel goes to two."""
    session.start_server(outputs=8)
    remote.ok("context")
    layouts = (("quad", 4, 0x33, "FL FR RL RR"), ("back", 6, 0x3F, "FL FR FC LFE RL RR"),
               ("side", 6, 0x60F, "FL FR FC LFE SL SR"), ("large", 8, 0x63F, "FL FR FC LFE RL RR SL SR"))
    for name, channels, mask, speakers in layouts:
        remote.open(name, channels, mask)
        found = session.connections()
        assert [port for port in found if port.startswith(name + ":")] == \
            [f"{name}:{speaker}" for speaker in speakers.split()], found
        for number, speaker in enumerate(speakers.split(), 1):
            assert found[f"{name}:{speaker}"] == [f"system:playback_{number}"], found
    remote.open("mono", 1, 4)
    assert peers(session, "mono:FC") == ["system:playback_1", "system:playback_2"], session.connections()


def targets(session, remote):
    """-d names a client, --connect ports; -c connects nothing, which is no fault."""
    session.start_server()
    session.capture_ports("nobody:a", "nobody:b", name="sampler").wait_running()
    remote.ok("context")
    remote.open("by-name", target="earshot-capture")
    remote.open("by-pattern", connect="^earshot-capture:in_[2-9]$")
    i = remote.open("loose", connect="no-connect")
    remote.open("usual")
    found = session.connections()
    assert found["by-name:FL"] == ["earshot-capture:in_1"] and found["by-name:FR"] == ["earshot-capture:in_2"], found
    assert found["by-pattern:FL"] == ["earshot-capture:in_2"] and found["by-pattern:FR"] == [], found
    assert found["loose:FL"] == found["loose:FR"] == [], found
    assert found["usual:FL"] == ["system:playback_1"], found
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    assert remote.ask(f"state {i}") == "ok"


def late_target(session, remote):
    """Without anything to play to there is no device; what comes is connected, also again; what people undo is not."""
    session.start_server(outputs=0)
    remote.ok("context")
    i = remote.open("guest", connect="^earshot-capture:")
    remote.ok(f"start {i}")
    assert remote.ask(f"state {i}") == "no-device"
    for _ in range(2):
        remote.ask("event")
        sampler = session.capture_ports("nobody:a", "nobody:b", name="sampler").wait_running()
        wait_peers(session, "guest:FL", ["earshot-capture:in_1"])
        wait_peers(session, "guest:FR", ["earshot-capture:in_2"])
        remote.wait_state(f"state {i}", "ok")
        assert int(remote.ask("event")) > 0, "no event"
        session.run("jack_disconnect", "guest:FL", "earshot-capture:in_1")
        other = session.capture_ports("nobody:c", name="other").wait_running()
        other.stop()
        time.sleep(0.3)
        assert peers(session, "guest:FL") == [], "what was taken apart by hand was put back"
        assert peers(session, "guest:FR") == ["earshot-capture:in_2"]
        sampler.stop()
        remote.wait_state(f"state {i}", "no-device")
    check_pulls(remote.stats(i))


def names(session, remote):
    """A name that is taken, one with a colon, and one that is too long."""
    session.start_server()
    remote.ok("context")
    assert remote.ask(f"called {remote.open('win11')}") == "win11"
    assert remote.ask(f"called {remote.open('win11')}") == "win11-01"
    assert remote.ask(f"called {remote.open('fe80::1')}") == "fe80--1"
    long = remote.ask(f"called {remote.open('x' * 100)}")
    assert 20 < len(long) < 64 and set(long) == {"x"}, long
    umlauts = remote.ask(f"called {remote.open('Ü' * 60)}")
    assert 10 < len(umlauts) < 40 and set(umlauts) == {"Ü"}, umlauts
    for client in ("win11", "win11-01", "fe80--1", long, umlauts):
        assert f"{client}:FL" in session.ports(), session.ports()


def latency(session, remote):
    """What main says of the sound's age, other clients see; a trifle moves nothing."""
    session.start_server()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    for ms, frames in ((30, 1440), (30.5, 1440), (50, 2400)):
        remote.ok(f"latency {i} {int(ms * 1000)}")
        wait_for(f"{ms} ms to be told", lambda f=frames: session.latency("guest:FL", "capture") == (f, f), 3)
    capture = session.capture_ports("guest:FL", "guest:FR").wait_running()
    wait_for("the next client to see it", lambda: session.latency("earshot-capture:in_1", "capture") == (2400, 2400))
    capture.stop()


def freewheel(session, remote):
    """Who freewheels gets silence; the guest goes on where it would be."""
    session.start_server()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    session.run("jack_freewheel", "y")
    time.sleep(0.2)
    assert remote.settle(i, 0.3)["pulls"] == 0, "pulled while the server freewheels"
    session.run("jack_freewheel", "n")
    remote.wait_pulls(i)
    check_pulls(remote.settle(i))
    assert remote.ask(f"state {i}") == "ok"


def many(session, remote):
    """One context, several streams; each starts and stops by itself."""
    session.start_server()
    remote.ok("context")
    streams = [remote.open(f"guest{k}") for k in range(6)]
    for k in streams:
        remote.ok(f"start {k}")
    for k in streams:
        remote.wait_pulls(k)
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


def restart(session, remote):
    """A server that ends, or is killed, is BACKEND_LOST, with an event; closing and opening again plays with the next."""
    session.start_server()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    for end in (session.kill_server, lambda: session.server[0].end(), session.kill_server):
        remote.ask("event")
        end()
        remote.wait_state("context-state", "lost")
        assert remote.ask(f"state {i}") == "lost" and int(remote.ask("event")) > 0
        assert remote.ask(f"start {i}") == "error EHOSTDOWN"
        assert remote.ask("open other 2 3 5333 - connect") == "error EHOSTDOWN"
        remote.ok(f"stop {i}")
        remote.ok(f"close {i}")
        remote.ok("context-close")
        assert remote.ask("context") == "error EHOSTDOWN"
        session.start_server()
        remote.ok("context")
        i = remote.open()
        remote.ok(f"start {i}")
        remote.wait_pulls(i)
        check_pulls(remote.stats(i))


def frozen(session, remote):
    """A server that hangs: nothing waits longer than the contract says, stop stops, and what is open plays on."""
    session.start_server()
    remote.ok("context")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    threads = lambda: len(os.listdir(f"/proc/{remote.process.pid}/task"))
    before = threads()
    jackd = session.server[0]
    jackd.send(harness.signal.SIGSTOP)
    began = time.monotonic()
    remote.ok(f"stop {i}")
    remote.ok(f"start {i}")
    assert remote.ask("open other 2 3 5333 - connect", 4) == "error EHOSTDOWN"
    assert remote.ask("open another 2 3 5333 - connect", 1) == "error EHOSTDOWN"
    assert remote.ask("probe", 4) == "error EHOSTDOWN"
    assert remote.ask("context-state") == "ok", "it hangs, it has not gone"
    jackd.send(harness.signal.SIGCONT)
    remote.wait_pulls(i)
    answer = wait_for("a stream to be opened again", lambda: (lambda a: a.split() if a.startswith("ok") else None)(
        remote.ask("open other 2 3 5333 - connect", 4)))
    j = int(answer[1])
    assert remote.ask(f"called {j}") == "other", "what could not be opened is still there"
    remote.ok(f"close {j}")

    jackd.send(harness.signal.SIGSTOP)
    assert remote.ask("open other 2 3 5333 - connect", 4) == "error EHOSTDOWN"
    remote.ok(f"close {i}", 1)
    remote.ok("context-close", 1)
    assert remote.ask("context", 4) == "error EHOSTDOWN"
    assert time.monotonic() - began < 20
    jackd.send(harness.signal.SIGCONT)
    wait_for("the server to be reached again", lambda: remote.ask("context", 4) == "ok")
    i = remote.open()
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    wait_for("the workers left behind to end", lambda: threads() == before)


def reopen(session, remote):
    """A context leaves nothing behind: no thread, no descriptor, no memory that grows."""
    session.start_server()
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
    with open(proc + "/maps", encoding="utf-8") as file:
        instrumented = "san.so" in file.read()  # such a build keeps what was freed for a while
    limit = 64 * 1024 if instrumented else 1024
    assert after[2] - before[2] < limit, f"{before[2]} KiB resident, then {after[2]}"


SCENARIOS = [basic, gate, probe, period, stall, surround, targets, late_target, names, latency, freewheel, many,
             restart, frozen, reopen]


def main():
    wanted = sys.argv[2:] or [s.__name__ for s in SCENARIOS]
    failed = 0
    for scenario in SCENARIOS:
        if scenario.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            with JackSession() as session:
                remote = Remote(sys.argv[1], "jack", session.env)
                try:
                    scenario(session, remote)
                    remote.close()
                finally:
                    remote.process.kill()
                    remote.process.wait()
            result = "ok"
        except harness.Skip as reason:
            print(f"skipped: {reason}")
            return harness.SKIPPED
        except (AssertionError, harness.Failed) as error:
            result = f"FAILED: {error}"
            failed += 1
        print(f"{scenario.__name__}: {result} ({time.monotonic() - began:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
