# SPDX-License-Identifier: MIT
"""PulseAudio, and PipeWire's, for harness.py's sessions."""

import contextlib
import json
import os
import signal

import harness

POSITIONS = {"FL": "front-left", "FR": "front-right", "FC": "front-center", "LFE": "lfe", "RL": "rear-left",
             "RR": "rear-right", "SL": "side-left", "SR": "side-right", "MONO": "mono"}
NICENESS = -11  # of the servers' threads that hand on what clients write


def channel_map(positions):
    return ",".join(POSITIONS[name] for name in positions.split())


class Session(harness.Session):
    """A session with a PulseAudio. What is captured has the time at which the sink plays it, which is what Earshot
    reckons with: unlike PipeWire's null sink, this one keeps no quantum to itself."""

    tools = ("dbus-daemon", "pulseaudio", "pactl")
    quantum = 0  # untold; see harness.monitor_ms
    tells = 1  # how often pactl may have to tell it something

    def __init__(self):
        super().__init__()
        os.mkdir(os.path.join(self.runtime, "pulse"), 0o700)

    @property
    def socket(self):
        return os.path.join(self.runtime, "pulse", "native")

    def start_server(self, rate=None, quantum=None):
        modules = (f"module-native-protocol-unix socket={self.socket} auth-anonymous=1", "module-stream-restore")
        self.server = [self.spawn("pulseaudio", [
            "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
            *(word for module in modules for word in ("-L", module))])]
        harness.wait_for("PulseAudio", lambda: os.path.exists(self.socket) and
                         "Server Name" in self.run("pactl", "info", may_fail=True))

    def kill_server(self, number=signal.SIGKILL):
        super().kill_server(number)
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def list(self, what):
        return json.loads(self.run("pactl", "-f", "json", "list", what) or "[]")

    def stream(self, name):
        return next((stream for stream in self.list("sink-inputs")
                     if stream["properties"].get("application.name") == name), None)

    def change(self, name, so, command, *arguments):
        """pactl COMMAND, for the stream of that name. so(stream): has it come true? Returns when that was told."""
        for left in reversed(range(self.tells)):
            index = harness.wait_for(f"the stream {name}", lambda: self.stream(name))["index"]
            told_ns = harness.now_ns()
            self.run("pactl", command, str(index), *arguments)
            try:
                harness.wait_for(f"{command} {name}", lambda: any(map(so, filter(None, [self.stream(name)]))), 1)
                return told_ns
            except harness.Failed:
                if left == 0:
                    raise

    def move(self, name, sink):
        return self.change(name, lambda stream: any(
            other["name"] == sink and other["index"] == stream["sink"] for other in self.list("sinks")),
            "move-sink-input", sink)

    def stream_names(self):
        return sorted(stream["properties"]["application.name"] for stream in self.list("sink-inputs"))

    def sink(self, name="testsink", positions="FL FR", properties="", rate=48000):
        # norewinds: or it begins with two seconds of silence that nobody gets out of it.
        self.run("pactl", "load-module", "module-null-sink", f"sink_name={name}", "format=float32le", f"rate={rate}",
                 "norewinds=1", f"channels={len(positions.split())}", f"channel_map={channel_map(positions)}")
        return name

    def capture(self, sink="testsink", seconds=120, positions="FL,FR", name=None, passive=False):
        name = name or f"capture-{sink}-{len(self.processes)}"
        return harness.Capture(self, name, sink, seconds, positions, False, "earshot-pulse-capture")


class PipeWireSession(harness.Session):
    """A PipeWire that speaks PulseAudio's protocol."""

    tools = harness.Session.tools + ("pipewire-pulse", "pactl")
    # A cycle that the graph loses is lost to who plays through this server, too, and is told only with its next timing.
    loss_after_ms = 300
    quantum = 512  # a period of 256 that the server does not tell, and the one that PipeWire's null sink does not tell

    # 0.3.65 answers before it has passed on to PipeWire what pactl wants, and forgets it if pactl has hung up by then.
    # Who stays connected is not concerned.
    tells = 6

    socket = Session.socket
    list = Session.list
    stream = Session.stream
    change = Session.change
    move = Session.move

    def sink(self, name="testsink", positions="FL FR", properties="", rate=48000):
        return super().sink(name, positions, f"audio.rate={rate}")

    def start_server(self, rate=None, quantum=256):
        super().start_server(rate, quantum)
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.server.append(self.spawn("pipewire-pulse", ["pipewire-pulse"]))
        harness.wait_for("pipewire-pulse", lambda: os.path.exists(self.socket))


class ReplacedSession(PipeWireSession):
    """A PulseAudio at first, and then PipeWire's in its place."""

    tools = tuple({*Session.tools, *PipeWireSession.tools})
    start_pulseaudio = Session.start_server
    pulseaudio_sink = Session.sink

    def __init__(self):
        super().__init__()
        os.mkdir(os.path.join(self.runtime, "pulse"), 0o700)


@contextlib.contextmanager
def session(kind):
    """Either. Counts as stalls also what ordinary threads of PulseAudio's niceness could not do in time: in both
    servers the one that hands on what clients write is such a thread."""
    kinds = {"pulseaudio": Session, "pipewire-pulse": PipeWireSession, "replaced": ReplacedSession}
    with kinds[kind]() as a_session:
        a_session.watch_ordinary_threads(NICENESS)
        yield a_session


def monitor_ms(a_session, total_ms, unit_ms):
    """harness.monitor_ms for either."""
    return harness.monitor_ms(total_ms, unit_ms, a_session.quantum)


