# SPDX-License-Identifier: MIT
"""An impulse train in a capture: `earshot guest --impulse` numbers its periods, so that not even what would be a whole
period of a tone can be missing or be there twice."""

import array
import bisect

import captured
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


class Train:
    """The impulses between two times. found: [(frame, number, heard_ns)] of each that is followed by its marker; breaks:
    [(from frame, to frame, what)] where they do not follow each other, with what the capture itself lost left out, and what lies in the times excused:
    [(from_ns, to_ns)]."""

    def __init__(self, path, from_ns, to_ns, excused=()):
        self.cycles = []  # (first frame, its time)
        self.losses = []  # frames before which the graph went on without its capture
        self.late = []  # ... which the capture was late for
        self.found, strays = [], []
        peaks = self.peaks(self.left(path, from_ns, to_ns))
        while len(peaks) >= 2:
            (at, pulse), (marker_at, marker) = peaks[:2]
            number = (marker_at - at - PERIOD / 4) / (PERIOD / 64)
            if pulse > 0 > marker and abs(number - round(number)) < 0.1 and -0.5 < number < NUMBERS:
                self.found.append((at, round(number) % NUMBERS, self.time_ns(at)))
                del peaks[:2]
            else:
                if self.found:  # else it is still fading in, or began in the middle of one
                    strays.append((self.found[-1][0], marker_at, f"{pulse:.2f}, and {marker:.2f} {marker_at - at} frames later"))
                del peaks[0]
        self.breaks = [entry for entry in sorted(strays + self.jumps())
                       if not self.near_loss(*entry[:2]) and not self.overlaps(excused, *entry[:2])]

    def jumps(self):
        return [(before_at, at, f"impulse {number} comes {at - before_at} frames after {before}")
                for (before_at, before, _), (at, number, _) in zip(self.found, self.found[1:])
                if number != (before + 1) % NUMBERS or abs(at - before_at - PERIOD) > SPACING]

    def near_loss(self, from_frame, to_frame):
        return any(from_frame - LOSS_NEAR <= loss <= to_frame + LOSS_NEAR for loss in self.losses + self.late)

    def time_ns(self, frame):
        first, cycle_ns = self.cycles[bisect.bisect(self.cycles, (frame, float("inf"))) - 1]
        return cycle_ns + (frame - first) * 1000000000 // RATE

    def overlaps(self, spans, from_frame, to_frame):
        from_ns, to_ns = self.time_ns(from_frame), self.time_ns(to_frame)
        return any(begin <= to_ns and end >= from_ns for begin, end in spans)

    def left(self, path, from_ns, to_ns):
        left, before = array.array("f"), None
        for cycle in captured.cycles(path):
            if not from_ns <= cycle.cycle_ns < to_ns:
                continue
            harness.check(cycle.rate == RATE, f"the graph runs at {cycle.rate} Hz")
            if before and cycle.position != before.position + before.frames:
                self.losses.append(len(left))
            elif captured.late(before, cycle):
                self.late.append(len(left))
            self.cycles.append((len(left), cycle.cycle_ns))
            left.extend(cycle.samples[::cycle.channels])
            before = cycle
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
