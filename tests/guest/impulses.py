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
# Frames by which one may be off: until the guest's clock is locked to, the latency is steered by up to 3000 ppm, and a
# filter moves the loudest sample. Smaller faults are the tone's to find.
SPACING = PERIOD * 3000 // 1000000 + 2
RATE = 48000
LOSS_NEAR = 960  # as earshot-analyse has it
CAPTURE_MAGIC = 0x3150414354534145  # tests/integration/capture_file.h


class Train:
    """The impulses between two times. found: [(frame, number, heard_ns)] of each that is followed by its marker; breaks:
    [(from frame, to frame, what)] where they do not follow each other, with what the capture itself lost left out."""

    def __init__(self, path, from_ns, to_ns):
        self.cycles = []  # (first frame, its time)
        self.losses = []  # frames before which the graph went on without its capture
        self.found, strays = [], []
        peaks = self.peaks(self.left(path, from_ns, to_ns))
        while len(peaks) >= 2:
            (at, pulse), (marker_at, marker) = peaks[:2]
            number = (marker_at - at - PERIOD / 4) / (PERIOD / 64)
            if pulse > 0 > marker and abs(number - round(number)) < 0.1 and -0.5 < number < NUMBERS:
                first, cycle_ns = self.cycles[bisect.bisect(self.cycles, (at, float("inf"))) - 1]
                self.found.append((at, round(number) % NUMBERS, cycle_ns + (at - first) * 1000000000 // RATE))
                del peaks[:2]
            else:
                if self.found:  # else it is still fading in, or began in the middle of one
                    strays.append((self.found[-1][0], marker_at, f"{pulse:.2f}, and {marker:.2f} {marker_at - at} frames later"))
                del peaks[0]
        self.breaks = [entry for entry in sorted(strays + self.jumps()) if not self.near_loss(*entry[:2])]

    def jumps(self):
        return [(before_at, at, f"impulse {number} comes {at - before_at} frames after {before}")
                for (before_at, before, _), (at, number, _) in zip(self.found, self.found[1:])
                if number != (before + 1) % NUMBERS or abs(at - before_at - PERIOD) > SPACING]

    def near_loss(self, from_frame, to_frame):
        return any(from_frame - LOSS_NEAR <= loss <= to_frame + LOSS_NEAR for loss in self.losses)

    def left(self, path, from_ns, to_ns):
        with open(path, "rb") as file:
            data = file.read()
        magic, channels, _ = struct.unpack_from("=QII", data)
        harness.check(magic == CAPTURE_MAGIC, f"{path} is no capture")
        at, left, due = 16, array.array("f"), None
        while at + 32 <= len(data):
            cycle_ns, position, frames, rate, _, _ = struct.unpack_from("=qQIIII", data, at)
            end = at + 32 + frames * channels * 4
            if end <= len(data) and from_ns <= cycle_ns < to_ns:
                harness.check(rate == RATE, f"the graph runs at {rate} Hz")
                if due not in (None, position):
                    self.losses.append(len(left))
                due = position + frames
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
        wanted = int(seconds * RATE / PERIOD) - 1 - 2 * len(self.losses)
        print(f"{what}: {len(self.found)} impulses, losses {len(self.losses)}: {self.breaks or 'nothing'}", flush=True)
        harness.check(len(self.found) >= wanted, f"{what}: {len(self.found)} impulses, not {wanted}")
        harness.check(not self.breaks, f"{what}: {len(self.breaks)} breaks")

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
