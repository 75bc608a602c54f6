# SPDX-License-Identifier: MIT
"""The lowest -t without a break in a minute: shared memory, 20 ms chunks, the guest's clock 100 ppm off, away from the
machine's own stalls. ALSA and sndio play to a simulated card; for jackd see jack.latency.

lowest.py pipewire|pulseaudio|pipewire-pulse|alsa|sndio [--seconds S] [--quantum FRAMES] [--quality NAME] [--jitter MS]
          [MS ...]
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../integration"))
import harness  # noqa: E402
import pulse  # noqa: E402
from alsa_session import Devices  # noqa: E402
from sndio_session import NICENESS, UNIT, Sndiod  # noqa: E402

PPM = 100
SETTLE_S = 12
AT_ONCE = 3
CARD = 'channels "2" rates "48000" formats "S16_LE"'


class Servers:
    """Where lanes play to: a session, and for each lane what captures it and earshot's options and environment."""

    def __init__(self, kind, quantum):
        self.kind, self.quantum = kind, quantum
        self.units = UNIT

    def session(self):
        return pulse.session(self.kind) if "pulse" in self.kind else harness.Session()

    def start(self, session):
        if self.kind == "alsa":
            self.devices = Devices(session)
        elif self.kind == "sndio":
            session.watch_ordinary_threads(NICENESS)
        else:
            session.start_server(quantum=self.quantum)

    def lane(self, session, name):
        if self.kind == "alsa":
            return self.devices.card(name, CARD), ("-o", "alsa", "-d", name), self.devices.env()
        if self.kind == "sndio":
            server = Sndiod(session, self.units)
            self.units += 1
            return server.card, ("-o", "sndio", "-d", server.device), {}
        sink = session.sink(name)
        capture = session.capture(sink, seconds=1000, name=f"capture-{name}").wait_running()
        return capture, ("-o", "pipewire" if self.kind == "pipewire" else "pulse", "-d", sink), {}

    def expected_ms(self, session, total_ms):
        """From publication to the capture."""
        if self.kind in ("alsa", "sndio"):
            return total_ms - 20
        if self.kind == "pipewire":
            return harness.monitor_ms(total_ms, 20, self.quantum)
        return pulse.monitor_ms(session, total_ms, 20)


class Lane:
    def __init__(self, servers, session, latency_ms):
        self.servers, self.session, self.latency_ms = servers, session, latency_ms
        self.name = f"at{str(latency_ms).replace('.', '-')}"
        self.capture, self.where, self.env = servers.lane(session, self.name)

    def play(self, options):
        session, ring = self.session, self.session.ring(self.name)
        session.spawn(f"earshot-{self.name}", [
            harness.built("earshot"), "-m", ring, *self.where, "-t", str(self.latency_ms), "-n", self.name, "-q",
            options.quality], **self.env)
        self.guest, self.log = session.guest("--shm", ring, "--ppm", PPM, "--jitter", options.jitter,
                                             name=f"guest-{self.name}")
        self.from_ns = harness.now_ns() + SETTLE_S * 1000000000

    def finish(self):
        self.status = self.session.status(self.name)
        if self.servers.kind not in ("alsa", "sndio"):  # a card captures by itself
            self.capture.stop()
        self.guest.end()

    def judge(self, jitter):
        result = self.capture.analyse(self.log, ppm=PPM, from_ns=self.from_ns, stall_ms=1, guest_late_ms=1 + jitter,
                                      expect_ms=self.servers.expected_ms(self.session, self.latency_ms))
        target_ms = self.status["target_ms"]
        kept = "" if abs(target_ms - self.latency_ms) < 0.05 else f", below the floor: plays at {target_ms:.1f}"
        parts = ", ".join(f"{key} {value:.2f}" for key, value in self.status["latency_ms"].items())
        print(f"-t {self.latency_ms}: {harness.describe(result)}{kept}; {result['latency']['count']} away from stalls of "
              f"{result['latency_all']['count']} chunks; {parts}; {self.status['underruns']} drop-outs", flush=True)


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("kind", choices=("pipewire", "pulseaudio", "pipewire-pulse", "alsa", "sndio"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--quantum", type=int, default=256, help="PipeWire's")
    parser.add_argument("--quality", default="medium")
    parser.add_argument("--jitter", type=float, default=0, help="each chunk up to so many ms late")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("latencies", nargs="*", type=float, metavar="MS", default=[30, 32, 34, 36, 38, 40])
    options = parser.parse_intermixed_args()
    for at in range(0, len(options.latencies), options.at_once):
        servers = Servers(options.kind, options.quantum)
        with servers.session() as session:
            servers.start(session)
            lanes = [Lane(servers, session, latency_ms) for latency_ms in options.latencies[at:at + options.at_once]]
            for lane in lanes:
                lane.play(options)
            time.sleep(SETTLE_S + options.seconds)
            for lane in lanes:
                lane.finish()
            for lane in lanes:
                lane.judge(options.jitter)


harness.main(test, attempts=1)
