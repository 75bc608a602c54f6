# SPDX-License-Identifier: MIT
"""From a guest's publication of a chunk or packet to its first frame in what is captured of the device: each backend, quantum
and transport, each chunk up to 2 ms late. What is asked for is the least that is possible there, and that jitter, and a
millisecond.

backends.py [--settle S] [--seconds S] [--at-once N] [--jitter MS] [KIND[:QUANTUM] ...]
"""

import argparse
import contextlib
import math
import time

import figures
import harness
from lanes import KINDS, Lane, Servers

SPARE_MS = 1.0
FLOOR_SPARE_MS = 1.0  # what the program wants beyond the parts
QUANTA = (64, 128, 256, 512, 1024)
FEW = {"pulseaudio": (256,), "pipewire-pulse": (256,), "sndio": (480,)}  # which have none to choose, or say none
FIRST_MS = 60
TUNE_S = 4
QUICK_QUANTA = {"pipewire": QUANTA, "jack": (128, 256, 1024), "alsa": (256,)}


def wanted(words):
    for word in words or KINDS:
        kind, _, quantum = word.partition(":")
        harness.check(kind in KINDS, f"no such backend: {kind}")
        quanta = FEW.get(kind) or (QUICK_QUANTA[kind] if figures.QUICK else QUANTA)
        for one in [int(quantum)] if quantum else quanta:
            yield kind, one


def playing(lane):
    status = lane.ask_status()
    return status if status and status["state"] == "playing" else None


class Place:
    """A server with a lane for each transport."""

    def __init__(self, stack, kind, quantum, jitter):
        self.servers = Servers(kind, quantum)
        self.session = stack.enter_context(self.servers.session())
        self.lanes = [Lane(self.servers, self.session, transport, transport) for transport in ("shm", "udp")]
        self.jitter = jitter
        for lane in self.lanes:
            lane.play(FIRST_MS, jitter=jitter)

    def tune(self):
        """Once it is known what there is: as a user would, while it plays."""
        for lane in self.lanes:
            status = harness.wait_for(f"{lane.name} to play", lambda: playing(lane))
            parts = status["latency_ms"]
            least_ms = parts["guest"] + parts["quantum"] + parts["resampler"] + parts["device"] + FLOOR_SPARE_MS
            asked_ms = math.ceil(2 * (least_ms + self.jitter + SPARE_MS)) / 2
            self.session.run(harness.built("earshot"), "tune", status["name"], f"latency={asked_ms:g}")

    def judge(self, lane, from_ns):
        result = lane.analyse(from_ns)
        latency, status = result["latency"], lane.status
        row = {"kind": self.servers.kind, "quantum": self.servers.quantum, "transport": lane.transport,
               "count": latency["count"], "all": result["latency_all"]["count"], "breaks": result["judged_events"],
               "underruns": status["underruns"], "total_ms": status["target_ms"],
               "parts_ms": status["latency_ms"]}
        if latency["count"]:
            row.update({key: latency[key] for key in ("median_ms", "p1_ms", "p99_ms")},
                       spread_ms=latency["p99_ms"] - latency["p1_ms"])
        print(f"{row['kind']:14} {row['quantum']:4} {lane.transport}: {harness.describe(result)}; status "
              f"{row['total_ms']:.1f} ms", flush=True)
        return row


def measure(group, options):
    with contextlib.ExitStack() as stack:
        places = []
        for kind, quantum in group:
            try:
                places.append(Place(stack, kind, quantum, options.jitter))
            except harness.Skip as reason:
                print(f"{kind}: {reason}", flush=True)
        time.sleep(TUNE_S)
        for place in places:
            place.tune()
        time.sleep(options.settle)
        from_ns = harness.now_ns()
        time.sleep(options.seconds)
        for place in places:
            for lane in place.lanes:
                lane.finish()
        return [place.judge(lane, from_ns) for place in places for lane in place.lanes]


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--settle", type=float, default=18, help="seconds; it goes there at up to 3 ms a second")
    parser.add_argument("--seconds", type=float, default=20 if figures.QUICK else 60)
    parser.add_argument("--at-once", type=int, default=5 if figures.QUICK else 3, help="servers that run side by side")
    parser.add_argument("--jitter", type=float, default=2, help="each chunk up to so many ms late")
    parser.add_argument("kinds", nargs="*", metavar="KIND[:QUANTUM]", help=" ".join(KINDS))
    options = parser.parse_args()
    every = list(wanted(options.kinds))
    rows = []
    for at in range(0, len(every), options.at_once):
        rows += measure(every[at:at + options.at_once], options)
    if not options.kinds:
        figures.save("backends", rows, settle=options.settle, seconds=options.seconds)


if __name__ == "__main__":
    harness.main(test, attempts=1)
