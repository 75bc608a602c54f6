# SPDX-License-Identifier: MIT
"""A Linux guest's sender: small chunks, a short period and a low -t. From the publication of a chunk or packet to its
first frame in the sink's monitor, away from the machine's own stalls.

chunks.py [--seconds S] [--chunk MS] [--quantum FRAMES] [--latency MS] [--quality NAME] [--at capture|sink] [shm] [udp]
"""

import argparse
import time

import figures
import harness

PPM = 100
SETTLE_S = 20
LIMIT_MS = 8.0


def play(session, transport, options):
    """One transport after the other: together they would disturb each other."""
    sink = session.sink(transport)
    capture = session.capture(sink, seconds=100000, name=f"capture-{transport}").wait_running()
    if transport == "shm":
        reads, writes = ["-m", session.ring(transport)], ["--shm", session.ring(transport)]
    else:
        port = harness.free_port()
        reads, writes = ["-u", "-p", port], ["--udp", f"127.0.0.1:{port}"]
    earshot = session.earshot(*reads, "-o", "pipewire", "-d", sink, "-t", options.latency, "-q", options.quality,
                              "-n", transport, name=f"earshot-{transport}")
    guest, log = session.guest(*writes, "--chunk", f"{options.chunk:g}ms", "--ppm", PPM, name=f"guest-{transport}")
    start_ns = harness.now_ns()
    time.sleep(SETTLE_S + options.seconds)
    status = session.status()[0]
    capture.stop()
    guest.end()
    earshot.end()
    return capture, log, start_ns, status


def judge(session, transport, options):
    """(its figures, list of what was missed)"""
    capture, log, start_ns, status = play(session, transport, options)
    result = capture.analyse(log, ppm=PPM, expect_ms=options.latency, stall_ms=1, guest_late_ms=1,
                             from_ns=start_ns + int(SETTLE_S * 1e9))
    latency = result["latency"]
    shift_ms = harness.UNTOLD_QUANTA * options.quantum / 48 if options.at == "sink" else 0
    parts = ", ".join(f"{key} {value:.2f}" for key, value in status["latency_ms"].items())
    print(f"{transport}: {harness.describe(result)}\n  status: target {status['target_ms']:.2f} ms; {parts}; "
          f"{status['underruns']} drop-outs", flush=True)
    if not latency["count"]:
        return {"transport": transport, "count": 0}, [f"{transport}: nothing heard away from stalls"]
    median, p1, p99 = (latency[key] - shift_ms for key in ("median_ms", "p1_ms", "p99_ms"))
    print(f"  publication to monitor: median {median:.2f} ms, p1 {p1:.2f}, p99 {p99:.2f}; {latency['count']} judged of "
          f"{result['latency_all']['count']}; discontinuities {result['judged_events']} judged, "
          f"{result['excused_events']} near stalls", flush=True)
    row = {"transport": transport, "count": latency["count"], "all": result["latency_all"]["count"], "median_ms": median,
           "p1_ms": p1, "p99_ms": p99, "breaks": result["judged_events"], "excused": result["excused_events"],
           "target_ms": status["target_ms"]}
    missed = []
    if median > LIMIT_MS:
        missed.append(f"{transport}: median {median:.2f} ms, not {LIMIT_MS:g}")
    if result["judged_events"]:
        missed.append(f"{transport}: {result['judged_events']} discontinuities")
    if abs(status["target_ms"] - options.latency) > 0.05:
        missed.append(f"{transport}: -t {options.latency:g} plays at {status['target_ms']:.2f} ms")
    return row, missed


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=15 if figures.QUICK else 60)
    parser.add_argument("--chunk", type=float, default=2.5, help="ms")
    parser.add_argument("--quantum", type=int, default=128, help="PipeWire's")
    parser.add_argument("--latency", type=float, default=10, help="-t")
    parser.add_argument("--quality", default="medium")
    parser.add_argument("--at", choices=("capture", "sink"), default="sink",
                        help="whose cycle tells the time: the capture's, or the sink's, a quantum before")
    parser.add_argument("transports", nargs="*", metavar="TRANSPORT", help="shm udp")
    options = parser.parse_intermixed_args()
    rows, missed = [], []
    for transport in options.transports or ("shm", "udp"):
        with harness.Session() as session:
            session.start_server(quantum=options.quantum)
            row, what = judge(session, transport, options)
        rows.append(row)
        missed += what
    if not options.transports:
        figures.save("chunks", rows, chunk_ms=options.chunk, quantum=options.quantum, asked_ms=options.latency,
                     quality=options.quality, at=options.at, limit_ms=LIMIT_MS)
    harness.check(not missed, "\n".join(["missed"] + missed))


if __name__ == "__main__":
    harness.main(test, attempts=1)
