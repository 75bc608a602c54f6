# SPDX-License-Identifier: MIT
"""All measurements, one after the other, and doc/BENCHMARKS.md of them. What a script prints is in the build's bench/.

bench.py [STEP ...]        EARSHOT_BENCH_QUICK=1: in ten minutes instead of an hour and more
"""

import os
import subprocess
import sys
import time

import figures
import report

MINUTE_S = 60
INTEGRATION = os.path.join(figures.HERE, "../integration")
# (step, what, commands, limit in minutes, in the quick mode as well)
STEPS = (
    ("backends", "latency of each backend, quantum and transport", [["backends.py"]], 30, True),
    ("latency", "latency that is asked for, over minutes", [["latency.py"]], 12, True),
    ("chunks", "small chunks, as a Linux guest sends them", [["chunks.py"]], 6, True),
    ("lowest", "the lowest -t of each backend", [["lowest.py"]], 20, False),
    ("guest", "a Linux guest's output to the host's", [["guest.py"]], 8, True),
    ("cpu", "processor time and wake-ups of one stream", [["cpu.py"]], 20, True),
    ("many", "what a further PipeWire stream costs", [["many.py"]], 15, True),
    ("streams", "1 to 64 streams without a server", [["streams.py"]], 25, True),
    ("instructions", "instructions a frame", [["instructions.py"]], 10, True),
    ("rtp", "another machine over PipeWire's RTP", [["rtp.py"]], 5, True),
    ("sim", "distortion, lock and simulated days", [["sim.py"]], 120, True),
    ("soak", "three simulated hours of faults, over four seeds", [["earshot-sim", "--soak", "--seeds", "4"]], 60, False),
    ("faults", "the integration tests that take too long for every run",
     [[f"{INTEGRATION}/test_flood.py", "1000000"], [f"{INTEGRATION}/test_network.py", "snooping"]], 30, False),
)
SKIPPED = 77


def run(step, commands, limit):
    """(what became of it, did nothing fail)"""
    words, good = "ok", True
    with open(figures.path(f"{step}.log"), "w") as log:
        for program, *arguments in commands:
            python = [sys.executable, "-B", os.path.join(figures.HERE, program)]
            argv = [*(python if program.endswith(".py") else [figures.harness.built(program)]), *arguments]
            try:
                status = subprocess.run(argv, stdout=log, stderr=subprocess.STDOUT, timeout=limit * MINUTE_S).returncode
            except subprocess.TimeoutExpired:
                status = "not done in time"
            if status == SKIPPED:
                words = "skipped"
            elif status:
                words, good = f"MISSED ({status})", False
    with open(log.name) as log:
        tail = log.read().splitlines()[-1:]
    return words if words == "ok" else f"{words}: {''.join(tail)}", good


def main(wanted):
    unknown = set(wanted) - {step for step, *_ in STEPS}
    if unknown:
        sys.exit(f"no such step: {', '.join(unknown)}; there are {', '.join(step for step, *_ in STEPS)}")
    chosen = [entry for entry in STEPS if entry[0] in wanted or (not wanted and (entry[4] or not figures.QUICK))]
    since, missed = time.time(), []
    for at, (step, what, commands, limit, _) in enumerate(chosen, 1):
        began = time.monotonic()
        print(f"[{at}/{len(chosen)}] {time.strftime('%H:%M:%S')} {step}: {what}", end=" ... ", flush=True)
        words, good = run(step, commands, limit)
        print(f"{words}, {time.monotonic() - began:.0f} s", flush=True)
        missed += [] if good else [step]
    print(f"written: {os.path.relpath(report.write(since))}")
    return f"missed: {', '.join(missed)}; see {os.path.relpath(figures.path(''))}" if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
