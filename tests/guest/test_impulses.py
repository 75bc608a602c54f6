# SPDX-License-Identifier: MIT
"""The judge of impulse trains is judged: made-up captures with faults at known places."""

import array
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import captured  # noqa: E402
import harness  # noqa: E402
import impulses  # noqa: E402

QUANTUM = 256
SECONDS = 6
PERIOD, RATE = impulses.PERIOD, impulses.RATE
LATENCY_MS = 250


def signal():
    """As signal_gen.h has it."""
    samples = [0.0] * (SECONDS * RATE)
    for number in range(SECONDS * RATE // PERIOD):
        samples[number * PERIOD] = 1.0
        samples[number * PERIOD + PERIOD // 4 + number % impulses.NUMBERS * PERIOD // 64] = -0.5
    return samples


def train(samples, lost_cycles=(), late_cycle=None, excused=()):
    with tempfile.NamedTemporaryFile() as file:
        file.write(captured.HEADER.pack(captured.MAGIC, 2, 0))
        for cycle, first in enumerate(range(0, len(samples) - QUANTUM, QUANTUM)):
            if cycle not in lost_cycles:
                read = first + QUANTUM * (cycle == late_cycle)
                file.write(captured.RECORD.pack(first * 10**9 // RATE, first, QUANTUM, RATE, QUANTUM, 1, 1 + read * 10**9 // RATE))
                file.write(array.array("f", [x for sample in samples[first:first + QUANTUM] for x in (sample, 0)]).tobytes())
        file.flush()
        return impulses.Train(file.name, 0, SECONDS * 10**9, excused)


def log(late_ms):
    """Chunks of 20 ms, each published so long before it is heard."""
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        for chunk in range(SECONDS * 50):
            file.write(f"{chunk * 960} {chunk * 20000000 - late_ms * 1000000} 960\n")
    return file.name


def test():
    whole = signal()
    for what, samples in (("all of it", whole), ("from the middle of a period", whole[700:])):
        judged = train(samples)
        harness.check(len(judged.found) >= SECONDS * 10 - 2 and not judged.breaks, f"{what}: {judged.breaks}")
        judged.expect_whole(SECONDS - 0.2, what)

    faults = {"20 frames lost": whole[:50000] + whole[50020:],
              "20 frames twice": whole[:50000] + whole[49980:],
              "a period lost": whole[:50000] + whole[50000 + PERIOD:],
              "a period of the tone twice": whole[:50000] + whole[26000:],
              "a hole": whole[:50000] + [0.0] * 3000 + whole[53000:],
              "40 frames lost before a marker": whole[:49500] + whole[49540:]}
    for what, samples in faults.items():
        judged = train(samples)
        harness.check(judged.breaks and all(40000 < begin < end < 60000 for begin, end, _ in judged.breaks),
                      f"{what}: {judged.breaks}")

    judged = train(whole, lost_cycles=(300,))
    harness.check(len(judged.losses) == 1 and not judged.breaks, f"lost by the capture: {judged.breaks}")

    spoilt = faults["20 frames lost"]
    harness.check(not train(spoilt, late_cycle=50000 // QUANTUM).breaks, "what the capture was late for is its own")
    harness.check(train(spoilt, late_cycle=100).breaks, "late elsewhere excuses nothing")
    harness.check(not train(spoilt, excused=[(1030000000, 1050000000)]).breaks, "what is excused is left out")
    harness.check(train(spoilt, excused=[(2030000000, 2050000000)]).breaks, "excuses hold where they belong")

    path = log(LATENCY_MS)
    try:
        latency_ms = train(whole).latency_ms(path, LATENCY_MS - 10)
    finally:
        os.unlink(path)
    harness.check(abs(latency_ms - LATENCY_MS) < 0.1, f"a latency of {latency_ms} ms")


harness.main(test)
