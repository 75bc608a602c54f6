# SPDX-License-Identifier: MIT
"""The lowest -t without a break in a minute: shared memory, 20 ms chunks, the guest's clock 100 ppm off, away from the
machine's own stalls. ALSA and sndio play to a simulated card.

lowest.py [--seconds S] [--quantum FRAMES] [--quality NAME] [--jitter MS] [KIND [MS ...]]

With a KIND and no MS, or with nothing at all, what is known to be near the limit is tried.
"""

import argparse
import time

import figures
import harness
from lanes import KINDS, Lane, Servers

PPM = 100
SETTLE_S = 12
AT_ONCE = 3
TRIED = {"pipewire": [27, 27.5, 28], "pulseaudio": [32, 34, 36], "pipewire-pulse": [38, 40, 42], "jack": [38, 38.5, 39],
         "alsa": [32, 33, 34], "sndio": [82, 82.5, 83]}


def judge(lane, latency_ms, from_ns):
    result = lane.analyse(from_ns)
    status = lane.status
    kept = abs(status["target_ms"] - latency_ms) < 0.05
    parts = ", ".join(f"{key} {value:.2f}" for key, value in status["latency_ms"].items())
    below = "" if kept else f", below the floor: plays at {status['target_ms']:.1f}"
    print(f"-t {latency_ms:g}: {harness.describe(result)}{below}; {result['latency']['count']} away from stalls of "
          f"{result['latency_all']['count']} chunks; {parts}; {status['underruns']} drop-outs", flush=True)
    return {"kind": lane.servers.kind, "quantum": lane.servers.quantum, "asked_ms": latency_ms, "kept": kept,
            "breaks": result["judged_events"], "excused": result["excused_events"], "status": status,
            "count": result["latency"]["count"], "median_ms": result["latency"].get("median_ms")}


def measure(kind, latencies, options):
    rows = []
    for at in range(0, len(latencies), options.at_once):
        servers = Servers(kind, options.quantum)
        with servers.session() as session:
            some = latencies[at:at + options.at_once]
            lanes = [Lane(servers, session, f"at{latency_ms:g}".replace(".", "-")) for latency_ms in some]
            for lane, latency_ms in zip(lanes, some):
                lane.play(latency_ms, options.quality, PPM, options.jitter)
            from_ns = harness.now_ns() + SETTLE_S * 1000000000
            time.sleep(SETTLE_S + options.seconds)
            for lane in lanes:
                lane.finish()
            rows += [judge(lane, latency_ms, from_ns) for lane, latency_ms in zip(lanes, some)]
    return rows


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--quantum", type=int, default=256, help="the server's, or the card's period")
    parser.add_argument("--quality", default="medium")
    parser.add_argument("--jitter", type=float, default=0, help="each chunk up to so many ms late")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("kind", nargs="?", choices=KINDS)
    parser.add_argument("latencies", nargs="*", type=float, metavar="MS")
    options = parser.parse_intermixed_args()
    if options.kind:
        measure(options.kind, options.latencies or TRIED[options.kind], options)
        return
    rows = []
    for kind in KINDS:
        try:
            rows += measure(kind, TRIED[kind], options)
        except harness.Skip as reason:
            print(f"{kind}: {reason}", flush=True)
    figures.save("lowest", rows, seconds=options.seconds)


if __name__ == "__main__":
    harness.main(test, attempts=1)
