# SPDX-License-Identifier: MIT
"""The program's own pull, in the real backend's own thread, allocates nothing, takes no lock and makes no system call:
earshot-rt-trapped is the program with tests/rt_trap.h around pull, and ends where that does not hold.

test_rt_trap.py pipewire|pulse|jack|alsa|sndio|wav|raw|null

Nothing timed decides it: what a guest is to go through is tried until it has happened.
"""

import contextlib
import os
import sys

import harness
import pulse
from alsa_session import Devices
from jack_session import JackSession
from sndio_session import Sndiod

TRAPPED = 86  # RT_TRAP_STATUS
FAULTS = ("malloc", "pthread_mutex_lock", "write")
NAME = "vm"
CHUNK_MS = 60  # a guest is idle after four of them
LATENCY_MS = 120
DRY_S = 0.17  # longer than --latency, and with a chunk's time shorter than four of them


class BusSession(harness.Session):
    """No server at all."""

    tools = ("dbus-daemon",)


def server_session(backend):
    return {"pulse": pulse.Session, "pipewire": harness.Session, "jack": JackSession}.get(backend, BusSession)()


def set_up(session, backend):
    """What the backend plays to. Returns (options, environment) of the program."""
    if backend in ("pipewire", "pulse"):
        session.start_server()
        return ["-d", session.sink()], {}
    if backend == "jack":
        session.start_server()
    elif backend == "alsa":
        devices = Devices(session)
        devices.card("card")
        return ["-d", "card"], devices.env()
    elif backend == "sndio":
        return ["-d", Sndiod(session).device], {}
    elif backend == "wav":
        return ["-d", os.path.join(session.directory, "recorded.wav")], {}
    return [], {}


class Program:
    """earshot-rt-trapped, and what is seen of it from outside."""

    def __init__(self, session, backend, options, env, name="earshot", fault=None):
        self.session = session
        self.raw = os.path.join(session.directory, f"{name}.raw") if backend == "raw" else None
        argv = [harness.built("earshot-rt-trapped"), "-o", backend, "-m", session.ring(), "-n", NAME, "-t", str(LATENCY_MS),
                *options]
        if self.raw:  # its sound is not to be among its lines
            argv = ["sh", "-c", 'out=$1; shift; exec "$@" >"$out"', "sh", self.raw, *argv]
        self.process = session.spawn(name, argv, **env, **({"EARSHOT_RT_TRAP": fault} if fault else {}))

    def status(self):
        harness.check(self.process.running(), f"the program ended: {self.last_line()}")
        return self.session.status(NAME) or {"state": "none", "underruns": 0, "frames": 0, "format": {}}

    def wait_state(self, state):
        harness.wait_for(f"the state {state}", lambda: self.status()["state"] == state)

    def wait_sound(self):
        """Until more of it has gone through pull (or, of raw, out)."""
        def count():
            if not self.raw:
                return self.status()["frames"]
            harness.check(self.process.running(), f"the program ended: {self.last_line()}")
            return os.path.getsize(self.raw) if os.path.exists(self.raw) else 0

        before = count()
        harness.wait_for("sound", lambda: count() > before)

    def last_line(self):
        return (self.process.log().splitlines() or [""])[-1]

    def pulls(self):
        """Ends it. (pulls, those with sound)."""
        harness.check(self.process.end() == 0, f"it ended with {self.process.popen.returncode}: {self.last_line()}")
        print(self.last_line(), flush=True)
        words = self.last_line().split()
        harness.check(words[:1] == ["rt_trap:"], f"not the program with traps: {self.last_line()}")
        return int(words[1]), int(words[3])


def start_guest(session, name, *options):
    return session.guest("--shm", session.ring(), "--chunk", CHUNK_MS, *options, name=name)[0]


def whole_life(session, program):
    """Start, drop-out, pause, resume, another format, with the channels of another."""
    guest = start_guest(session, "guest")
    program.wait_sound()
    if not program.raw:
        program.wait_state("playing")

        def dry():
            guest.freeze(DRY_S)
            program.wait_state("playing")
            return program.status()["underruns"] > 0

        harness.wait_for("a drop-out", dry, 15)
    guest.send(harness.signal.SIGSTOP)
    if not program.raw:
        program.wait_state("idle")
    guest.send(harness.signal.SIGCONT)
    program.wait_sound()
    guest.end()
    guest = start_guest(session, "guest-surround", "--rate", 44100, "--channels", 6)
    if not program.raw:
        harness.wait_for("the new format", lambda: program.status()["format"].get("channels") == 6)
        program.wait_state("playing")
    program.wait_sound()


def traps(session, start):
    """The traps themselves, in this very program: what is put into a pull ends it."""
    for fault in FAULTS:
        program = start(name=f"earshot-{fault}", fault=fault)
        with contextlib.suppress(harness.subprocess.TimeoutExpired):
            program.process.popen.wait(10)
        status = program.process.popen.poll()
        harness.check(status == TRAPPED, f"{fault} in a pull: {'goes on' if status is None else f'ended with {status}'}")
        harness.check(program.last_line() == f"called within pull: {fault}", f"{fault}: {program.last_line()}")


def test():
    backend = sys.argv[1]
    with server_session(backend) as session:
        options, env = set_up(session, backend)

        def start(**more):
            return Program(session, backend, options, env, **more)

        program = start()
        whole_life(session, program)
        pulls, sounding = program.pulls()
        if backend == "raw":  # fed by [src], not pulled: backends/raw.h
            harness.check(pulls == 0, f"{pulls} pulls")
            return
        harness.check(sounding > 20, f"{pulls} pulls, {sounding} with sound: that is no test")
        traps(session, start)


harness.main(test)
