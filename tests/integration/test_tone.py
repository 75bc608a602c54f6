# SPDX-License-Identifier: MIT
"""A guest's tone arrives whole: no frame lost or doubled, whatever the quantum and the guest's clock.

test_tone.py QUANTUM: six guests at once, at 0, +500 and -500 ppm, over shared memory and the network, each with a
receiver and a sink of its own.
"""

import sys
import time

import harness

PPMS = (0, 500, -500)
LATENCY_MS = 250  # above the machine's own stalls: this is about content
SECONDS = 9


def test():
    quantum = int(sys.argv[1])
    with harness.Session() as session:
        session.start_server(quantum=quantum)
        lanes = []
        for transport, ppm in ((transport, ppm) for transport in ("shm", "udp") for ppm in PPMS):
            name = session.sink(f"{transport}{len(lanes)}")
            capture = session.capture(name).wait_running()
            if transport == "shm":
                reads, writes, unit_ms = ["-m", session.ring(name)], ["--shm", session.ring(name)], 20
            else:
                port = harness.free_port()
                reads, writes, unit_ms = ["-u", "-p", port], ["--udp", f"127.0.0.1:{port}", "--packet", 288], 6
            earshot = session.witnessed(*reads, "-o", "pipewire", "-d", name, "-t", LATENCY_MS, name=f"earshot-{name}")
            guest, log = session.guest(*writes, "--ppm", ppm, "--jitter", 2, name=f"guest-{name}")
            lanes.append((f"{transport} at quantum {quantum}, {ppm:+d} ppm", ppm, unit_ms, capture, guest, log, earshot.pulls))
        time.sleep(SECONDS)
        for _, _, _, capture, *_ in lanes:
            capture.stop()
        for what, ppm, unit_ms, capture, guest, log, pulls in lanes:
            guest.end()
            expected_ms = harness.monitor_ms(LATENCY_MS, unit_ms, quantum)
            result = capture.analyse(log, pulls, ppm=ppm, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100)
            harness.expect_clean(result, SECONDS - 3, what)
            harness.expect_latency(result, expected_ms, 4, what)


harness.main(test)
