# SPDX-License-Identifier: MIT
"""`earshot guest --capture`: from the guest's output to the host's, in two servers on one machine. What a program plays
is captured at both, and the tone's phase tells how far they are apart.

guest.py [--server pulseaudio|pipewire-pulse] [--seconds S] [--quantum FRAMES] [--udp] [CHUNK:LATENCY ...]
"""

import argparse
import math
import os
import struct
import time

import figures
import captured
import harness
import pulse

KINDS = ("pulseaudio", "pipewire-pulse")
SETTLE_S = 12
RATE = 48000
TURN_NS = 1e9 / harness.TONE_HZ


def phases(capture, from_ns):
    """[(time, phase in turns)] of each cycle's first frame, while the tone plays."""
    found = []
    for cycle in captured.cycles(capture.path):
        if cycle.cycle_ns >= from_ns and cycle.frames:
            left, right = cycle.samples[:2]
            if math.hypot(left, right) > 0.5:
                found.append((cycle.cycle_ns, math.atan2(right, left) / (2 * math.pi)))
    return found


def apart_ms(before, after):
    """Per cycle of `after`: by how much it is later than the cycle of `before` that is nearest in time."""
    values, at = [], 0
    for ns, phase in after:
        while at + 1 < len(before) and before[at + 1][0] <= ns:
            at += 1
        turns = before[at][1] + (ns - before[at][0]) / TURN_NS - phase
        values.append((turns % 1) * TURN_NS / 1e6)
    return sorted(values)


def measure(kind, chunk, latency, options):
    with pulse.session(kind) as guest, harness.Session() as host:
        path = os.path.join(guest.directory, "tone")
        with open(path, "wb") as file:
            for i in range(int((SETTLE_S + options.seconds + 2) * RATE)):
                turn = 2 * math.pi * ((harness.TONE_HZ * i / RATE) % 1)
                file.write(struct.pack("<hh", round(29000 * math.cos(turn)), round(29000 * math.sin(turn))))
        host.start_server(quantum=options.quantum)
        host.sink()
        there = host.capture().wait_running()
        guest.start_server(quantum=None)
        if options.udp:
            port = harness.free_port()
            reads, writes = ("-u", "-p", port), ("--udp", f"127.0.0.1:{port}")
        else:
            reads, writes = ("-m", host.ring()), ("--shm", host.ring())
        host.earshot(*reads, "-o", "pipewire", "-t", latency, "-n", "vm1")
        guest.spawn("sender", [harness.built("earshot"), "guest", "--capture", "--chunk", chunk, *writes])
        harness.wait_for("the output", lambda: guest.run("pactl", "get-default-sink", may_fail=True) == "earshot\n")
        # What records at the same time shall not make the periods shorter.
        here = guest.capture("earshot", passive=True).wait_running()
        guest.spawn("player", ["pacat", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=2",
                               "--latency-msec=200", path])
        from_ns = harness.now_ns() + int(SETTLE_S * 1e9)
        time.sleep(SETTLE_S + options.seconds)
        status = host.status("vm1")
        here.stop()
        there.stop()
        values = apart_ms(phases(here, from_ns), phases(there, from_ns))
        harness.check(values, "nothing was heard")
        median, p1, p99 = (values[len(values) * percent // 100] for percent in (50, 1, 99))
        parts = ", ".join(f"{key} {value:.2f}" for key, value in status["latency_ms"].items())
        print(f"{kind}, pieces of {chunk} ms, -t {latency}: from output to output median {median:.1f} ms, "
              f"p1 {p1:.1f}, p99 {p99:.1f}; {parts}; {status['underruns']} drop-outs", flush=True)
        return {"server": kind, "chunk_ms": float(chunk), "asked_ms": float(latency), "median_ms": median,
                "low_high_ms": [p1, p99], "underruns": status["underruns"]}


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--server", choices=KINDS, action="append", help="the guest's; both, one after the other")
    parser.add_argument("--seconds", type=float, default=10 if figures.QUICK else 30)
    parser.add_argument("--quantum", type=int, default=128, help="the host's")
    parser.add_argument("--udp", action="store_true")
    parser.add_argument("pairs", nargs="*", metavar="CHUNK:LATENCY", default=["20:28", "5.33:13", "2.67:10"])
    options = parser.parse_intermixed_args()
    rows = [measure(kind, *pair.split(":"), options) for kind in options.server or KINDS for pair in options.pairs]
    figures.save("guest", rows, quantum=options.quantum)


harness.main(test, attempts=1)
