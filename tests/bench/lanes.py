# SPDX-License-Identifier: MIT
"""A guest, an Earshot and a capture of what it plays, through any backend; several of them side by side."""

import contextlib

import figures  # noqa: F401
import harness
import pulse
from alsa_session import Devices
from jack_session import JackSession
from sndio_session import NICENESS, UNIT, Sndiod

KINDS = ("pipewire", "pulseaudio", "pipewire-pulse", "jack", "alsa", "sndio")
BACKENDS = {"pulseaudio": "pulse", "pipewire-pulse": "pulse"}
CARD = 'channels "2" rates "48000" formats "S16_LE"'
PACKET = 288
UNIT_MS = {"shm": 20, "udp": PACKET / 48}


class Servers:
    """Where lanes play to: a session, and for each lane what captures it and earshot's options and environment."""

    def __init__(self, kind, quantum):
        self.kind, self.quantum = kind, quantum
        self.units = UNIT

    @contextlib.contextmanager
    def session(self):
        kinds = {"jack": JackSession, "pulseaudio": lambda: pulse.session(self.kind),
                 "pipewire-pulse": lambda: pulse.session(self.kind)}
        with kinds.get(self.kind, harness.Session)() as session:
            if self.kind == "alsa":
                self.devices = Devices(session)
            elif self.kind == "sndio":
                session.watch_ordinary_threads(NICENESS)
            elif self.kind == "jack":
                session.start_server(period=self.quantum)
            else:
                session.start_server(quantum=self.quantum)
            yield session

    def lane(self, session, name):
        if self.kind == "alsa":
            card = self.devices.card(name, f"{CARD} period_min {self.quantum} period_max {self.quantum}")
            return card, ("-d", name), self.devices.env()
        if self.kind == "sndio":
            server = Sndiod(session, self.units)
            self.units += 1
            return server.card, ("-d", server.device), {}
        if self.kind == "jack":
            return session.capture_ports(f"{name}:FL", f"{name}:FR").wait_running(), (), {}
        sink = session.sink(name)
        return session.capture(sink, seconds=1000, name=f"capture-{name}").wait_running(), ("-d", sink), {}

    def expected_ms(self, session, status, unit_ms):
        """From publication to the capture, as status has it."""
        total_ms = status["latency_ms"]["total"]
        if self.kind == "jack":  # captured on the program's own ports
            return total_ms - unit_ms - status["latency_ms"]["device"]
        if self.kind in ("alsa", "sndio"):
            return total_ms - unit_ms
        if self.kind == "pipewire":
            return harness.monitor_ms(total_ms, unit_ms, self.quantum)
        return pulse.monitor_ms(session, total_ms, unit_ms)


class Lane:
    def __init__(self, servers, session, name, transport="shm"):
        self.servers, self.session, self.name, self.transport = servers, session, name, transport
        self.capture, self.where, self.env = servers.lane(session, name)

    def play(self, latency, quality="medium", ppm=0, jitter=0):
        session, self.ppm, self.jitter = self.session, ppm, jitter
        if self.transport == "shm":
            reads, writes = ["-m", session.ring(self.name)], ["--shm", session.ring(self.name)]
        else:
            port = harness.free_port()
            reads, writes = ["-u", "-p", str(port)], ["--udp", f"127.0.0.1:{port}", "--packet", PACKET]
        backend = BACKENDS.get(self.servers.kind, self.servers.kind)
        session.spawn(f"earshot-{self.name}", [
            harness.built("earshot"), *reads, "-o", backend, *self.where, "-t", str(latency), "-n", self.name, "-q",
            quality], **self.env)
        self.guest, self.log = session.guest(*writes, "--ppm", ppm, "--jitter", jitter, name=f"guest-{self.name}")

    def ask_status(self):
        """None: it is not among the streams."""
        streams = self.session.status() or []
        # Senders that no config names are called by their address.
        return next((stream for stream in streams if stream["name"] == self.name), None) or next(
            (stream for stream in streams if self.transport == "udp" and stream["source"]["kind"] != "shm"), None)

    def finish(self):
        self.status = self.ask_status()
        harness.check(self.status, f"{self.name} is not among the streams")
        if self.servers.kind not in ("alsa", "sndio"):  # a card captures by itself
            self.capture.stop()
        self.guest.end()

    def analyse(self, from_ns):
        """Away from the machine's own stalls."""
        expect_ms = self.servers.expected_ms(self.session, self.status, UNIT_MS[self.transport])
        return self.capture.analyse(self.log, ppm=self.ppm, from_ns=from_ns, stall_ms=1, guest_late_ms=1.2 + self.jitter,
                                    expect_ms=expect_ms)
