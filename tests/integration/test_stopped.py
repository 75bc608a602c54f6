# SPDX-License-Identifier: MIT
"""Someone is stopped for 0.3 s: the sound heals, the damage is bounded and the latency is what it was.

test_stopped.py receiver|server|guest shm|udp
"""

import sys
import time

import harness

LATENCY_MS = 60
STOP_S = 0.3
HEALED_NS = 3000000000  # after it no corner of the sound: a guest that resumes may be late for two seconds first
STEERED_NS = 7000000000  # after it the latency is what it was: up to 20 ms are steered away, not jumped
TITLES = {"receiver": "Earshot", "server": "PipeWire", "guest": "The guest"}
TRANSPORTS = {"shm": "shared memory", "udp": "network"}
SETTLE_S = 3.5  # what the guest said before the receiver was ready is dropped within two seconds
TOLERANCE_MS = 6.5  # a cycle that the graph itself missed shows as a quantum for a while


def test():
    who, transport = sys.argv[1], sys.argv[2]
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink()
        if transport == "shm":
            reads, writes, unit_ms = ["-m", session.ring()], ["--shm", session.ring()], 20
        else:
            port = harness.free_port()
            reads, writes, unit_ms = ["-u", "-p", port], ["--udp", f"127.0.0.1:{port}", "--packet", 288], 6
        earshot = session.earshot(*reads, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS)
        guest, log = session.guest(*writes, "--ppm", 200)
        capture = session.capture().wait_running()
        time.sleep(SETTLE_S)
        settled_ns = harness.now_ns()
        time.sleep(3)
        frozen = {"receiver": earshot, "server": session.server[0], "guest": guest}[who]
        from_ns, to_ns = frozen.freeze(STOP_S)
        time.sleep(8.5)
        capture.stop()
        guest.end()
        harness.check(earshot.running(), "the receiver is gone")

        expected = harness.monitor_ms(LATENCY_MS, unit_ms, 256)
        options = dict(ppm=200, expect_ms=expected, stall_ms=15, guest_late_ms=15)
        before = capture.analyse(log, from_ns=settled_ns, to_ns=from_ns - 50000000, **options)
        during = capture.analyse(log, from_ns=from_ns - 200000000, to_ns=to_ns + HEALED_NS, **options)
        after = capture.analyse(log, from_ns=to_ns + HEALED_NS, **options)
        steered = capture.analyse(log, from_ns=to_ns + STEERED_NS, **options)
        print(f"around the stop: {harness.describe(during)}")
        back = capture.analyse(log, from_ns=to_ns, **options)
        harness.check(back["tone_from_ns"], "silent for good")
        harness.fault_row(f"{TITLES[who]} is stopped for {STOP_S} s (SIGSTOP), {TRANSPORTS[transport]}",
                          "one gap, then the latency that it was", (back["tone_from_ns"] - to_ns) / 1e9)
        harness.expect_clean(before, 2, "before")
        harness.expect_latency(before, expected, 4, "before")
        # One hole as long as the stop, and a little more to come back; never a stutter.
        silent_ms = during["silent_ms"]
        harness.check(silent_ms < STOP_S * 1000 + 400, f"{silent_ms:.0f} ms of silence after a stop of {STOP_S} s")
        harness.check(len(during["events"]) <= 6, f"{len(during['events'])} discontinuities from one stop")
        harness.expect_clean(after, 4.5, "after")
        harness.expect_latency(steered, before["latency_all"]["median_ms"], TOLERANCE_MS, "after")


harness.main(test)
