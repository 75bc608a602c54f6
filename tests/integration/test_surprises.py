# SPDX-License-Identifier: MIT
"""A guest plays quietly, and then packets come that a lie, a stranger or a fault would make full-scale noise of. What
the sink gets is never louder than what was playing."""

import array
import random
import struct
import time

import captured
import harness
import senders

LEVEL = 0.05
LATENCY_MS = 100
ALLOWED = 1.25  # times LEVEL: the resampler rings at edges
SOFT_S = 0.5  # in which a new format may reach full scale
STRADDLE = "frames that straddle lost packets"
LIE = struct.pack("<BBBH", 0x01, 24, 2, 0x0003)
FIVE = struct.pack("<BBBH", 0x01, 16, 5, 0x0000)


def samples_of(capture):
    """[(nanoseconds of the first frame, rate, channels, samples)], a cycle each."""
    return [(cycle.cycle_ns, cycle.rate, cycle.channels, cycle.samples) for cycle in captured.cycles(capture.path)]


def peaks(cycles, from_ns, to_ns):
    """[(seconds since from_ns, peak)], a cycle each."""
    return [((cycle_ns - from_ns) / 1e9, max(max(samples), -min(samples)))
            for cycle_ns, _, _, samples in cycles if samples and from_ns <= cycle_ns < to_ns]


class Liar(senders.ToneSender):
    """A guest whose packets get other headers now and then: turn() returns the header of the next one."""

    def __init__(self, port, turn=None, address="127.0.0.2"):
        super().__init__(address, port, 200, LEVEL)
        self.turn = turn
        self.number = 0

    def send_next(self):
        at = self.frame % self.period * 4
        self.frame += senders.PACKET_FRAMES
        header = self.turn(self.number) if self.turn else senders.HEADER
        self.number += 1
        if header:
            self.socket.send(header + self.samples[at:at + senders.PACKET_FRAMES * 4])


class Stranger(senders.Sender):
    """Full-scale noise with the right header, from the guest's address, a packet every 50 ms."""

    def __init__(self, port, header, ports):
        super().__init__("127.0.0.2", port, 0.05)
        self.random = random.Random(1)
        self.packet = header + self.random.randbytes(1152)
        self.target = port
        self.ports = ports

    def send_next(self):
        if self.ports:  # each from a port of its own
            with senders.socket.socket(senders.socket.AF_INET, senders.socket.SOCK_DGRAM) as once:
                once.bind(("127.0.0.2", 0))
                once.sendto(self.packet, ("127.0.0.1", self.target))
        else:
            self.socket.send(self.packet)


class Straddler(senders.Sender):
    """Five channels, of which the first alone is loud, as frames that straddle packets; some packets get lost."""

    def __init__(self, port, lose):
        super().__init__("127.0.0.4", port, 1152 / (senders.RATE * 10))
        wave = [round(32767 * LEVEL * v) for v in (0, .5, .87, 1, .87, .5, 0, -.5, -.87, -1, -.87, -.5)]
        frames = array.array("h")
        for i in range(12 * 1152):
            frames.extend((wave[i // 4 % 12], 0, 0, 0, 0))
        self.data = frames.tobytes()
        self.at = 0
        self.lose = lose
        self.random = random.Random(2)

    def send_next(self):
        payload = self.data[self.at:self.at + 1152]
        self.at = (self.at + 1152) % (len(self.data) // 1152 * 1152)
        if not self.lose or self.random.random() > 0.02:
            self.socket.send(FIVE + payload)


def attack(port, what):
    """Returns who sends, the quiet guest among them."""
    if what == "a header that lies every other time":
        return [Liar(port, lambda n: LIE if n > 200 and n % 2 else senders.HEADER)]
    if what == "a header that lies twice, and not twice":
        return [Liar(port, lambda n: LIE if n > 200 and n // 2 % 2 else senders.HEADER)]
    if what == "a header that lies from now on":
        return [Liar(port, lambda n: LIE if n > 200 else senders.HEADER)]
    if what == "noise in the guest's format, from other ports":
        return [Liar(port), Stranger(port, senders.HEADER, True)]
    if what == "noise in another format, from another port":
        return [Liar(port), Stranger(port, LIE, False)]
    return [Straddler(port, True)]


ATTACKS = ("a header that lies every other time", "a header that lies twice, and not twice",
           "noise in the guest's format, from other ports", "noise in another format, from another port",
           STRADDLE, "a header that lies from now on")


def test():
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink()
        session.sink("wide", "FL FR FC RL RR")  # nobody mixes channels there
        captures = {"testsink": session.capture().wait_running(),
                    "wide": session.capture("wide", positions="FL,FR,FC,RL,RR").wait_running()}
        times = []
        for i, what in enumerate(ATTACKS):
            port = harness.free_port()
            sink = "wide" if what == STRADDLE else "testsink"
            earshot = session.earshot("-u", "-p", port, "-o", "pipewire", "-d", sink, "-t", LATENCY_MS,
                                      name=f"earshot{i}")
            harness.wait_for("the receiver", lambda: "Listening" in earshot.log())
            from_ns = harness.now_ns()
            guests = attack(port, what)
            for guest in guests:
                guest.start()
            time.sleep(3.5)
            to_ns = harness.now_ns()
            harness.check(earshot.running() and earshot.end() == 0, f"{what}: the receiver is gone")
            for guest in guests:
                guest.stop()
            times.append((what, sink, from_ns, to_ns))
        cycles = {sink: samples_of(capture.stop()) for sink, capture in captures.items()}
        for what, sink, from_ns, to_ns in times:
            heard = peaks(cycles[sink], from_ns, to_ns)
            loudest = max(peak for _, peak in heard)
            sounding = sum(peak > LEVEL / 2 for _, peak in heard) / len(heard)
            print(f"{what}: at most {loudest:.3f}, sound for {sounding:.0%} of the time", flush=True)
            if what != ATTACKS[-1]:
                harness.check(loudest <= LEVEL * ALLOWED, f"{what}: {loudest:.3f} is louder than {LEVEL}")
                harness.check(sounding > 0.3, f"{what}: the guest is not heard")
                harness.fault_row(f"Full-scale noise: {what}", "never louder than what was playing", None)
                continue
            # It is believed: what a half second allows, from the moment on that it is above what was playing.
            began = next((at for at, peak in heard if peak > LEVEL * ALLOWED), None)
            harness.check(began, "the lie was not played: that is no test of how")
            for at, peak in heard:
                allowed = LEVEL * (1 / LEVEL) ** min(max((at - began) / SOFT_S, 0) + 0.15, 1) * ALLOWED
                harness.check(peak <= allowed, f"{what}: {peak:.2f} after {at - began:.2f} s, not {allowed:.2f}")
            harness.fault_row(f"Full-scale noise: {what}", "gets louder within half a second, never at once", None)


harness.main(test)
