# SPDX-License-Identifier: MIT
"""The graph at 44.1, 48 and 96 kHz, and switched while a 48 kHz and a 44.1 kHz guest play: clean at each rate, and
after each switch sound again within a second, within a quantum of the latency it had."""

import time

import harness

LATENCY_MS = 250
GUESTS = (48000, 44100)
RATES = (44100, 48000, 96000, 44100)
TOLERANCE_MS = 6  # a quantum: where in one the switch falls shows until it is steered away, too slowly to be heard
SETTLED_NS = 1000000000
STAGE_S = 4


def test():
    with harness.Session() as session:
        session.start_server(rate=RATES[0])
        lanes = []
        for rate in GUESTS:
            sink = session.sink(f"sink{rate}")
            earshot = session.witnessed("-m", session.ring(sink), "-o", "pipewire", "-d", sink, "-t", LATENCY_MS,
                                        name=f"earshot{rate}")
            guest, log = session.guest("--shm", session.ring(sink), "--rate", rate, name=f"guest{rate}")
            lanes.append((rate, sink, guest, log, earshot.pulls))
        time.sleep(1.5)
        stages = []
        for stage, graph in enumerate(RATES):
            switched_ns = harness.now_ns()
            session.setting("clock.force-rate", graph)
            captures = [session.capture(sink, name=f"capture{stage}-{sink}") for _, sink, *_ in lanes]
            for capture in captures:
                capture.wait_running()
            time.sleep(STAGE_S)
            for capture in captures:
                capture.stop()
            stages.append((graph, switched_ns, captures))
        for _, _, guest, *_ in lanes:
            guest.end()
        for graph, switched_ns, captures in stages:
            for (rate, _, _, log, pulls), capture in zip(lanes, captures):
                # Not forced: the quantum is what the receiver asked for, rounded down by the server.
                result = capture.analyse(log, pulls, rate=rate, expect_ms=LATENCY_MS, stall_ms=100, guest_late_ms=100,
                                         from_ns=switched_ns + SETTLED_NS)
                what = f"{rate} Hz guest on a graph at {graph}, quantum {result['quantum']}"
                harness.expect_clean(result, STAGE_S - 2, what)
                expected_ms = harness.monitor_ms(LATENCY_MS, 20, result["quantum"], graph)
                harness.expect_latency(result, expected_ms, TOLERANCE_MS, what)
                harness.check(result["graph_rate"] == graph, f"the graph runs at {result['graph_rate']}, not {graph}")


harness.main(test)
