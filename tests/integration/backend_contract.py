# SPDX-License-Identifier: MIT
"""What backends/backend.h promises of every backend: the scenarios that all of them pass, and the loop that runs these
and a backend's own. What differs - how its server is started, what it plays - a backend's file says in a Server."""

import contextlib
import os
import signal
import sys
import time

import harness
from remote import Remote, check_pulls, wait_for


RECORDED_LEAST = 1200  # samples: parec hands over little of the second that is asked for


class Server:
    """What a harness.Session is besides, for the scenarios."""

    target = "-"  # of a stream that has no other
    fallback = None  # name of a sink that counts as none
    nowhere, address = None, None  # of no server, and of this one, for --server
    probes = ("ok",)  # what it answers while it runs
    one_thread = False  # for all streams
    without_sinks = ()  # the states that a stream may have then
    niceness = None  # of the ordinary threads on which its sound depends: their stalls count, too

    def start(self, sinks=("testsink",)):
        self.start_server()
        for sink in sinks:
            self.add_sink(sink)

    def stop(self):
        self.kill_server(signal.SIGTERM)

    def daemon(self):
        """The process that clients talk to."""
        return self.server[0]

    def freeze(self, frozen):
        self.daemon().send(signal.SIGSTOP if frozen else signal.SIGCONT)

    def targets(self, count):
        """Where so many streams can play at once."""
        return [self.target] * count

    def check_open(self):
        """The stream "guest" is there, playing or not."""

    def check_playing(self, stats):
        """It plays as it ought to, and is heard."""

    def check_closed(self):
        """It has gone."""


def heard(recorded):
    """Enough to judge by? A recorder that began late has less, or none."""
    return all(len(samples) >= RECORDED_LEAST for samples in recorded) and recorded


def expect_levels(server, sink, positions, levels):
    """What backend_remote plays is constant: server.record() returns a list of samples a channel."""
    recorded = harness.wait_for("something to be recorded", lambda: heard(server.record(sink, positions)), 20)
    for name, samples, level in zip(positions.split(), recorded, levels):
        found = server.level(samples)
        assert abs(found - level) <= server.level_tolerance, f"{sink}: {name}: {found}, not {level}"


def expect_layouts(server, remote, layouts):
    """Every channel of (sink, mask, positions) arrives where it belongs."""
    for sink, mask, positions in layouts:
        channels = len(positions.split())
        server.add_sink(sink, positions)
        i = remote.play(f"guest-{sink}", channels, mask, target=sink)
        expect_levels(server, sink, positions, [(c + 1) / 16 for c in range(channels)])
        remote.ok(f"close {i}")


# ---- scenarios ----


def basic(server, remote):
    """open, start, heard, stop, start, close; nothing pulls while stopped."""
    server.start()
    remote.ok("context")
    i = remote.open()
    server.check_open()
    time.sleep(0.5)
    assert remote.stats(i)["pulls"] == 0, "pulled before start"
    remote.ok(f"start {i}")
    remote.wait_pulls(i)
    stats = remote.settle(i)
    check_pulls(stats)
    assert stats["rate"] == 48000, stats
    server.check_playing(stats)
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
    server.check_open()
    assert remote.ask(f"state {i}") == "ok"
    remote.ask("event")
    remote.ok(f"close {i}")
    server.check_closed()
    assert remote.ask("event") == "0", "closing a stream is no event"
    remote.ok("context-close")


def probe(server, remote):
    """No server, a server without a sink, a sink - and a fallback sink that is none."""
    assert remote.ask("probe") == "error EHOSTDOWN"
    assert remote.ask("context") == "error EHOSTDOWN"
    server.start(sinks=())
    assert remote.ask("probe") == "error ENODEV"
    if not server.has_sink(server.fallback):
        server.add_sink(server.fallback)
    assert remote.ask("probe") == "error ENODEV"
    server.add_sink("testsink")
    assert remote.ask("probe") == "ok"
    assert remote.ask(f"probe {server.nowhere}") == "error EHOSTDOWN"
    assert remote.ask(f"probe {server.address}") == "ok"
    assert remote.ask(f"context {server.address}") == "ok"


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


def sinks(server, remote):
    """A stream that is moved, and that loses its sink: it plays on as soon as there is one."""
    server.start(sinks=("first", "second"))
    remote.ok("context")
    i = remote.play(target="second")
    remote.ask("event")
    clock = remote.stats(i)["clock"]
    server.remove_sink("second")
    wait_for(lambda: (lambda s: s["pulls"] > 0 and s["clock"] != clock)(remote.settle(i, 0.2)), "the move")
    check_pulls(remote.stats(i))
    assert remote.ask(f"state {i}") == "ok"
    server.remove_sink("first")
    wait_for(lambda: remote.ask(f"state {i}") in server.without_sinks, f"the loss: {server.without_sinks}")
    assert int(remote.ask("event")) > 0, "no event"
    assert remote.ask("context-state") == "ok"
    if remote.ask(f"state {i}") == "lost":  # the server kills streams that have no sink at all
        remote.ok(f"close {i}")
        assert remote.ask("open guest 2 3 5333 - connect") == "error ENODEV"
        server.add_sink("third")
        i = remote.open()
        remote.ok(f"start {i}")
    else:
        server.add_sink("third")
        wait_for(lambda: int(remote.ask("event")) > 0, "an event")
    wait_for(lambda: server.sink_of("guest") == "third", "the move to the new sink")
    remote.wait_state(f"state {i}", "ok")
    remote.wait_pulls(i, 8)
    check_pulls(remote.stats(i))


def many(server, remote):
    """One context, several streams; each starts and stops by itself."""
    server.start()
    remote.ok("context")
    tasks = f"/proc/{remote.process.pid}/task"
    threads = len(os.listdir(tasks))
    streams = [remote.open(f"guest{k}", target=target) for k, target in enumerate(server.targets(6))]
    for k in streams:
        remote.ok(f"start {k}")
    for k in streams:
        remote.wait_pulls(k)
    assert not server.one_thread or len(os.listdir(tasks)) == threads, "streams have threads of their own"
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
    """A server that ends, or is killed, is BACKEND_LOST, with an event; closing and opening again plays with the next."""
    server.start()
    remote.ok("context")
    i = remote.play()
    for end in (server.kill_server, server.stop, server.kill_server):
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
        server.start()
        remote.ok("context")
        i = remote.play()
        check_pulls(remote.stats(i))


def frozen(server, remote):
    """A server that hangs: nothing waits longer than the contract says, and stop stops."""
    server.start()
    remote.ok("context")
    i = remote.play()
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
    remote.play()


def reopen(server, remote):
    """A context leaves nothing behind: no thread, no descriptor, no memory that grows."""
    server.start()
    proc = f"/proc/{remote.process.pid}"

    def cycle(count):
        for _ in range(count):
            assert remote.ask("probe") in server.probes
            remote.ok("context")
            i = remote.play()
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


def corked(server, remote):
    """What is stopped costs nothing: not one wake-up."""
    server.start()
    remote.ok("context")
    i = remote.play()
    remote.ok(f"stop {i}")
    time.sleep(1)
    assert remote.ask(f"state {i}") == "ok", "corked is not without a device"

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


ALL = [basic, gate, many, reopen]  # of every backend
SERVER = ALL + [probe, sinks, restart, frozen, corked]  # of those with a server that has sinks

# ---- the loop ----


def run(server_class, backend, scenarios):
    """Each scenario(server, remote), or those named on the command line behind backend_remote's path, with a server of
    its own. An exit status."""
    def play(scenario):
        with server_class() as server, \
                contextlib.closing(Remote(sys.argv[1], backend, server.env, server.target)) as remote:
            if server.niceness is not None:
                server.watch_ordinary_threads(server.niceness)
            scenario(server, remote)
            remote.end()

    wanted = sys.argv[2:] or [scenario.__name__ for scenario in scenarios]
    failed = 0
    for scenario in scenarios:
        if scenario.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            harness.attempt(lambda s=scenario: play(s))
            result = "ok"
        except harness.Skip as reason:
            print(f"skipped: {reason}")
            return 1 if os.environ.get("CI") == "true" else harness.SKIPPED
        except Exception as error:
            result = f"FAILED: {error!r}"
            failed += 1
        print(f"{scenario.__name__}: {result} ({time.monotonic() - began:.1f} s)", flush=True)
    return 1 if failed else 0
