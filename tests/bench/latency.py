# SPDX-License-Identifier: MIT
"""From a guest's publication of a chunk or packet to its first frame in the monitor of a null sink, at quantum 256,
each chunk uniformly 0-2 ms late, at +-500 ppm; for minutes, without a discontinuity away from the machine's own stalls.

latency.py [--seconds S] [--serial] [--at capture|sink] [LANE ...]
"""

import argparse
import time

import figures
import harness

QUANTUM = 256
SETTLE_S = 20
PACKET = 288
SPREAD_MAX_MS = 3.0
MOVED_MAX_MS = 0.5

# name: transport, -t, ppm, median wanted (None: whatever this machine needs)
LANES = {
    "shm+500": ("shm", "32", 500, 12),
    "shm-500": ("shm", "32", -500, 12),
    "udp+500": ("udp", "20", 500, 14),
    "udp-500": ("udp", "20", -500, 14),
    "shm-auto": ("shm", "auto", 0, None),
    "udp-auto": ("udp", "auto", 0, None),
}


class Lane:
    def __init__(self, session, name, at_sink):
        self.session, self.name, self.at_sink = session, name, at_sink
        self.transport, latency, self.ppm, self.wanted_ms = LANES[name]
        sink = session.sink(name)
        self.capture = session.capture(sink, seconds=100000, name=f"capture-{name}").wait_running()
        if self.transport == "shm":
            reads, writes = ["-m", session.ring(name)], ["--shm", session.ring(name)]
        else:
            port = harness.free_port()
            reads, writes = ["-u", "-p", port], ["--udp", f"127.0.0.1:{port}", "--packet", PACKET]
        self.earshot = session.earshot(*reads, "-o", "pipewire", "-d", sink, "-t", latency, "-n", name,
                                       name=f"earshot-{name}")
        self.guest, self.log = session.guest(*writes, "--jitter", 2, "--ppm", self.ppm, name=f"guest-{name}")
        self.start_ns = harness.now_ns()

    def finish(self):
        # UDP streams that no config names are called by their sender, shared by all lanes: told apart by their sink.
        self.status = self.session.status()
        self.capture.stop()
        self.guest.end()
        self.earshot.end()

    def judge(self):
        """(its figures, list of what was missed)"""
        result = self.capture.analyse(
            self.log, ppm=self.ppm, expect_ms=30 if self.wanted_ms else 60, stall_ms=1, guest_late_ms=3.2,
            from_ns=self.start_ns + int(SETTLE_S * 1e9))
        latency = result["latency"]
        seconds = (result["tone_to_ns"] - result["tone_from_ns"]) / 1e9
        missed = []
        if not latency["count"]:
            return {"lane": self.name, "count": 0}, ["nothing heard away from stalls"]
        spread = latency["p99_ms"] - latency["p1_ms"]
        # The sink's cycle is a quantum before the one that captures its monitor: see harness.UNTOLD_QUANTA.
        shift_ms = harness.UNTOLD_QUANTA * QUANTUM / 48 if self.at_sink else 0
        median = latency["median_ms"] - shift_ms
        by_second = [value for value in result["latency_by_second_ms"] if value is not None]
        first, last = by_second[:20], by_second[-20:]
        moved = figures.median(last) - figures.median(first)
        row = {"lane": self.name, "transport": self.transport, "asked": LANES[self.name][1], "ppm": self.ppm,
               "seconds": seconds, "median_ms": median, "p1_ms": latency["p1_ms"] - shift_ms,
               "p99_ms": latency["p99_ms"] - shift_ms, "spread_ms": spread, "moved_ms": moved, "count": latency["count"],
               "all": result["latency_all"]["count"], "breaks": result["judged_events"],
               "excused": result["excused_events"]}
        print(f"{self.name:9} {seconds:6.1f} s  median {median:6.2f} ms, p1..p99 {latency['p1_ms'] - shift_ms:.2f}.."
              f"{latency['p99_ms'] - shift_ms:.2f} = {spread:.2f}, moved {moved:+.2f} ms, "
              f"{latency['count']} judged of {result['latency_all']['count']}, "
              f"discontinuities {result['judged_events']} judged, {result['excused_events']} near stalls, "
              f"drift {result['drift_ppm'] or 0:.1f} ppm", flush=True)
        if self.wanted_ms is not None:
            if abs(median - self.wanted_ms) > 1:
                missed.append(f"median {median:.2f}, not {self.wanted_ms} +-1 ms")
            if spread > SPREAD_MAX_MS:
                missed.append(f"spread {spread:.2f} ms")
            if result["judged_events"]:
                missed.append(f"{result['judged_events']} discontinuities")
            if abs(moved) > MOVED_MAX_MS:
                missed.append(f"latency moved by {moved:+.2f} ms")
        return row, missed


def run(names, seconds, at_sink):
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        lanes = [Lane(session, name, at_sink) for name in names]
        time.sleep(SETTLE_S + seconds)
        for lane in lanes:
            lane.finish()
        results = {lane.name: (*lane.judge(), lane.status) for lane in lanes}
        for stream in lanes[0].status or []:
            print(f"status: {stream['name']}: target {stream['target_ms']} ms, {stream['latency_ms']}, "
                  f"{stream['underruns']} underruns, {stream['resyncs']} resyncs")
        return results


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=40 if figures.QUICK else 300)
    parser.add_argument("--serial", action="store_true", help="one lane after the other instead of all at once")
    parser.add_argument("--at", choices=("capture", "sink"), default="sink",
                        help="whose cycle tells the time: the capture's, or the sink's, a quantum before")
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=" ".join(LANES))
    options = parser.parse_args()
    unknown = set(options.lanes) - set(LANES)
    harness.check(not unknown, f"no such lane: {', '.join(unknown)}")
    names = options.lanes or list(LANES)
    results = {}
    for group in [[name] for name in names] if options.serial else [names]:
        results.update(run(group, options.seconds, options.at == "sink"))
    if not options.lanes:
        figures.save("latency", [row for row, _, _ in results.values()], quantum=QUANTUM, at=options.at)
    missed = [f"{name}: {'; '.join(what)}" for name, (_, what, _) in results.items() if what]
    harness.check(not missed, "\n".join(["missed"] + missed))


if __name__ == "__main__":
    harness.main(test, attempts=1)
