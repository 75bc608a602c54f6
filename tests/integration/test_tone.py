# SPDX-License-Identifier: MIT
"""A guest's tone arrives whole: no frame lost or doubled, whatever the quantum and the guest's clock.

test_tone.py shm|udp QUANTUM: three guests at once, at 0, +500 and -500 ppm, each with a receiver and a sink of its
own.
"""

import sys
import time

import harness

PPMS = (0, 500, -500)
LATENCY_MS = 250  # above the machine's own stalls: this is about content
SECONDS = 9


def test():
    transport, quantum = sys.argv[1], int(sys.argv[2])
    with harness.Session() as session:
        session.start_server(quantum=quantum)
        lanes = []
        for i, ppm in enumerate(PPMS):
            sink = session.sink(f"sink{i}")
            capture = session.capture(sink).wait_running()
            if transport == "shm":
                reads, writes, unit_ms = ["-m", session.ring(sink)], ["--shm", session.ring(sink)], 20
            else:
                port = harness.free_port()
                reads, writes, unit_ms = ["-u", "-p", port], ["--udp", f"127.0.0.1:{port}", "--packet", 288], 6
            session.earshot(*reads, "-o", "pipewire", "-d", sink, "-t", LATENCY_MS, name=f"earshot{i}")
            guest, log = session.guest(*writes, "--ppm", ppm, "--jitter", 2, name=f"guest{i}")
            lanes.append((ppm, capture, guest, log))
        time.sleep(SECONDS)
        for _, capture, _, _ in lanes:
            capture.stop()
        expected_ms = harness.monitor_ms(LATENCY_MS, unit_ms, quantum)
        for ppm, capture, guest, log in lanes:
            guest.end()
            result = capture.analyse(log, ppm=ppm, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100)
            what = f"{transport} at quantum {quantum}, {ppm:+d} ppm"
            harness.expect_clean(result, SECONDS - 3, what)
            harness.expect_latency(result, expected_ms, 4, what)


harness.main(test)
