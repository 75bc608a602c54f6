# SPDX-License-Identifier: MIT
"""SIGHUP: guests come, go and change, and one that no file says anything new about plays on without a gap. What goes
fades; so does everything at SIGTERM, within 200 ms."""

import math
import os
import signal
import time

import captured
import harness

LATENCY_MS = 250  # above the machine's own stalls: this is about content
QUANTUM = 256
RELOADS = 4
END_LIMIT_NS = 200000000
STEP_MAX = 0.05  # of full scale, between two frames' envelopes: a fade of 5 ms changes by less, a cut by all there is


def envelope(capture):
    """(time, level) of each frame: the tone is a cosine on the left and a sine on the right."""
    found = []
    for cycle in captured.cycles(capture.path):
        found += [(cycle.cycle_ns + i * 1000000000 // cycle.rate, math.hypot(cycle.samples[i * 2], cycle.samples[i * 2 + 1]))
                  for i in range(cycle.frames)]
    return found


def expect_fade(capture, told_ns, what):
    """Silent within the limit after it was told, and no cut."""
    levels = envelope(capture)
    last_ns = max((at for at, level in levels if level > 0.01), default=0)
    ending = [level for at, level in levels if told_ns - 50000000 < at < last_ns + 50000000]
    harness.check(ending and max(ending[:100]) > 0.5, f"{what}: was not heard before")
    step = max(abs(a - b) for a, b in zip(ending, ending[1:]))
    print(f"{what}: silent {(last_ns - told_ns) / 1e6:.0f} ms after the word, largest step {step:.3f}", flush=True)
    harness.check(step < STEP_MAX, f"{what}: cut off")
    harness.check(last_ns - told_ns < END_LIMIT_NS, f"{what}: faded too late")


def test():
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        lanes = {}
        for name in ("stays", "changes", "goes"):
            session.sink(name)
            lanes[name] = session.guest("--shm", session.ring(name), name=name)

        def configure(name, **keys):
            session.config(name, backend="pipewire", target=name, shm=session.ring(name), **keys)

        configure("stays", latency=LATENCY_MS)
        configure("changes", latency=LATENCY_MS)
        earshot = session.witnessed()
        harness.wait_for("two streams", lambda: session.stream_names() == ["changes", "stays"], 10)
        time.sleep(2)
        capture = session.capture("stays").wait_running()
        faded = session.capture("goes").wait_running()
        from_ns = harness.now_ns()
        for turn in range(RELOADS):
            configure("changes", latency=100 + 10 * turn)
            if turn % 2:
                session.config("goes")
            else:
                configure("goes", latency=LATENCY_MS)
            told_ns = harness.now_ns()
            earshot.send(signal.SIGHUP)
            wanted = ["changes", "stays"] if turn % 2 else ["changes", "goes", "stays"]
            harness.wait_for(f"streams {wanted}", lambda: session.stream_names() == wanted, 10)
            target_ms = 100 + 10 * turn
            harness.wait_for("the new latency",
                             lambda: (session.status("changes") or {}).get("target_ms") == target_ms, 10)
            time.sleep(2)
            if turn == 1:
                faded.stop()
                expect_fade(faded, told_ns, "the guest whose file went")
        told_ns = harness.now_ns()
        status = earshot.end(signal.SIGTERM)
        ended_ns = harness.now_ns()
        harness.check(status == 0, f"the receiver ended with {status}")
        time.sleep(0.3)
        capture.stop()
        expect_fade(capture, told_ns, "SIGTERM")
        print(f"ended {(ended_ns - told_ns) / 1e6:.0f} ms after SIGTERM")
        guest, log = lanes["stays"]
        for process, _ in lanes.values():
            process.end()
        result = capture.analyse(log, expect_ms=harness.monitor_ms(LATENCY_MS, 20, QUANTUM), stall_ms=100,
                                 guest_late_ms=100, from_ns=from_ns, to_ns=told_ns)
        harness.expect_clean(result, 2 * RELOADS, f"through {RELOADS} reloads")
        harness.fault_row("The configuration is read again while guests play (SIGHUP)",
                          "who is not concerned plays on without a gap", None)
        os.unlink(capture.path)


harness.main(test)
