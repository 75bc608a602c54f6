# SPDX-License-Identifier: MIT
"""The lowest -t without a break in a minute through PulseAudio or pipewire-pulse: shared memory, 20 ms chunks, the guest's
clock 100 ppm off, away from the machine's own stalls.

lowest.py pulseaudio|pipewire-pulse [--seconds S] [--quantum FRAMES] [--quality NAME] [--jitter MS] [MS ...]
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../integration"))
import harness  # noqa: E402
import pulse  # noqa: E402

PPM = 100
SETTLE_S = 12
AT_ONCE = 3


class Lane:
    def __init__(self, session, latency_ms, options):
        self.session, self.latency_ms = session, latency_ms
        self.name = f"at{str(latency_ms).replace('.', '-')}"
        sink = session.sink(self.name)
        self.capture = session.capture(sink, seconds=1000, name=f"capture-{self.name}").wait_running()
        session.earshot("-m", session.ring(self.name), "-o", "pulse", "-d", sink, "-t", latency_ms, "-n", self.name,
                        "-q", options.quality, name=f"earshot-{self.name}")
        self.guest, self.log = session.guest("--shm", session.ring(self.name), "--ppm", PPM, "--jitter", options.jitter,
                                             name=f"guest-{self.name}")
        self.from_ns = harness.now_ns() + SETTLE_S * 1000000000

    def finish(self):
        self.status = self.session.status(self.name)
        self.capture.stop()
        self.guest.end()

    def judge(self, jitter):
        result = self.capture.analyse(self.log, ppm=PPM, from_ns=self.from_ns, stall_ms=1, guest_late_ms=1 + jitter,
                                      expect_ms=pulse.monitor_ms(self.session, self.latency_ms, 20))
        target_ms = self.status["target_ms"]
        kept = "" if abs(target_ms - self.latency_ms) < 0.05 else f", below the floor: plays at {target_ms:.1f}"
        parts = ", ".join(f"{key} {value:.2f}" for key, value in self.status["latency_ms"].items())
        print(f"-t {self.latency_ms}: {harness.describe(result)}{kept}; {result['latency']['count']} away from stalls of "
              f"{result['latency_all']['count']} chunks; {parts}; {self.status['underruns']} drop-outs", flush=True)


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("server", choices=("pulseaudio", "pipewire-pulse"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--quantum", type=int, default=256, help="PipeWire's")
    parser.add_argument("--quality", default="medium")
    parser.add_argument("--jitter", type=float, default=0, help="each chunk up to so many ms late")
    parser.add_argument("latencies", nargs="*", type=float, metavar="MS", default=[30, 32, 34, 36, 38, 40])
    options = parser.parse_intermixed_args()
    for at in range(0, len(options.latencies), AT_ONCE):
        with pulse.session(options.server) as session:
            session.start_server(quantum=options.quantum)
            lanes = [Lane(session, latency_ms, options) for latency_ms in options.latencies[at:at + AT_ONCE]]
            time.sleep(SETTLE_S + options.seconds)
            for lane in lanes:
                lane.finish()
            for lane in lanes:
                lane.judge(options.jitter)


harness.main(test, attempts=1)
