# SPDX-License-Identifier: MIT
"""An impulse train in a capture: `earshot guest --impulse` numbers its periods, so that not even what would be a whole
period of a tone can be missing or be there twice."""

import array
import bisect
import struct

import harness

PERIOD = 4800
NUMBERS = 32
LOUD = 0.2  # of full scale; an impulse is 1, its marker -0.5, what a filter puts around both is less
RINGING = 24  # frames
SPACING = 2  # frames by which an impulse may seem to be off: a filter moves its loudest sample
RATE = 48000
CAPTURE_MAGIC = 0x3150414354534145  # tests/integration/capture_file.h


class Train:
    """[(frame, number, heard_ns)] of each impulse that is followed by its marker, between two times."""

    def __init__(self, path, from_ns, to_ns):
        self.cycles = []  # (first frame, its time)
        self.found = []
        peaks = self.peaks(self.left(path, from_ns, to_ns))
        while peaks and peaks[0][1] < 0:
            del peaks[0]  # the marker of one that came before
        for (at, pulse), (marker_at, marker) in zip(peaks[::2], peaks[1::2]):
            number = (marker_at - at - PERIOD / 4) / (PERIOD / 64)
            harness.check(pulse > 0 > marker and abs(number - round(number)) < 0.1,
                          f"no impulse and its marker: {pulse:.2f}, and {marker:.2f} {marker_at - at} frames later")
            first, cycle_ns = self.cycles[bisect.bisect(self.cycles, (at, float("inf"))) - 1]
            self.found.append((at, round(number) % NUMBERS, cycle_ns + (at - first) * 1000000000 // RATE))

    def left(self, path, from_ns, to_ns):
        with open(path, "rb") as file:
            data = file.read()
        magic, channels, _ = struct.unpack_from("=QII", data)
        harness.check(magic == CAPTURE_MAGIC, f"{path} is no capture")
        at, left = 16, array.array("f")
        while at + 32 <= len(data):
            cycle_ns, _, frames, rate, _, _ = struct.unpack_from("=qQIIII", data, at)
            end = at + 32 + frames * channels * 4
            if end <= len(data) and from_ns <= cycle_ns < to_ns:
                harness.check(rate == RATE, f"the graph runs at {rate} Hz")
                self.cycles.append((len(left), cycle_ns))
                left.extend(array.array("f", data[at + 32:end])[::channels])
            at = end
        return left

    @staticmethod
    def peaks(samples):
        """[(frame, sample)]: the loudest of each group."""
        peaks = []
        for at, sample in enumerate(samples):
            if abs(sample) < LOUD:
                continue
            if not peaks or at - peaks[-1][0] > RINGING:
                peaks.append((at, sample))
            elif abs(sample) > abs(peaks[-1][1]):
                peaks[-1] = (at, sample)
        return peaks

    def expect_whole(self, seconds, what):
        """Each is there, once, and where it belongs."""
        wanted = int(seconds * RATE / PERIOD) - 1
        harness.check(len(self.found) >= wanted, f"{what}: {len(self.found)} impulses, not {wanted}")
        for (before_at, before, _), (at, number, _) in zip(self.found, self.found[1:]):
            harness.check(number == (before + 1) % NUMBERS and abs(at - before_at - PERIOD) <= SPACING,
                          f"{what}: impulse {number} comes {at - before_at} frames after {before}, at frame {at}")

    def latency_ms(self, log, expected_ms):
        """From publication to monitor, the median. log: of whom published it, from its first frame on."""
        with open(log) as lines:
            deliveries = [tuple(map(int, line.split())) for line in lines]
        latencies = []
        for _, number, heard_ns in self.found:
            around = bisect.bisect(deliveries, heard_ns - expected_ms * 1e6, key=lambda delivery: delivery[1])
            frame = deliveries[max(around - 1, 0)][0]
            turn = NUMBERS * PERIOD
            frame = number * PERIOD + round((frame - number * PERIOD) / turn) * turn
            index = bisect.bisect(deliveries, (frame, float("inf"))) - 1
            harness.check(0 <= index and frame < deliveries[index][0] + deliveries[index][2],
                          f"impulse {number} was heard before it was published")
            first, published_ns, _ = deliveries[index]
            latencies.append((heard_ns - published_ns) / 1e6 - (frame - first) * 1000 / RATE)
        return sorted(latencies)[len(latencies) // 2]
