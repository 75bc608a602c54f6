# SPDX-License-Identifier: MIT
"""Reads what the capture programs write: tests/integration/capture_file.h."""

import array
import collections
import struct

MAGIC = 0x3250414354534145
HEADER = struct.Struct("=QII")
RECORD = struct.Struct("=qQIIIIq")

# samples: interleaved. read_ns: when the capture got them; 0 where it cannot tell.
Cycle = collections.namedtuple("Cycle", "cycle_ns position frames rate read_ns channels samples")


def cycles(path):
    """Each whole cycle of the file, in order."""
    with open(path, "rb") as file:
        magic, channels, _ = HEADER.unpack(file.read(HEADER.size))
        if magic != MAGIC:
            raise ValueError(f"{path} is no capture")
        while len(head := file.read(RECORD.size)) == RECORD.size:
            cycle_ns, position, frames, rate, _, _, read_ns = RECORD.unpack(head)
            data = file.read(frames * channels * 4)
            if len(data) < frames * channels * 4:
                return
            yield Cycle(cycle_ns, position, frames, rate, read_ns, channels, array.array("f", data))


def late(before, cycle):
    """Did the capture look at this cycle more than half of one too late? It may then have been overtaken by the sink, and
    what it got is not what was heard."""
    if not before or not before.read_ns or not cycle.read_ns:
        return False
    half_ns = 0.5e9 * before.frames / before.rate
    return cycle.read_ns - before.read_ns > 3 * half_ns or cycle.read_ns - cycle.cycle_ns > half_ns
