# SPDX-License-Identifier: MIT
"""A PipeWire of one's own, without hardware, and what is run against it.

Everything lives in a private runtime directory with a private session bus; every process started here is ended here,
also when the test itself is killed. Needs only Python's standard library.

Exit status: 0, 1 (failed; the logs' ends are shown), 77 (skipped: a tool is missing; with CI=true that is a failure).
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
TONE_HZ = 2  # half a second a turn: every latency that occurs is told apart
LOG_TAIL = 25  # lines of each log shown after a failure
# The null sink drives its graph: what streams play into a cycle is in the monitor at the start of the next, which is
# when it counts as captured. The server does not tell the stream of that quantum.
UNTOLD_QUANTA = 1
MINUTE_S = 60 if os.environ.get("EARSHOT_MINUTES") else 10  # what is to hold for a minute: of all of it, by request
ATTEMPTS = 3  # a test that fails on a machine that stands still meanwhile
STALLS_MS = 3  # ... for longer than this, or that makes the server or a capture miss a cycle
STALL_MS = 60  # shorter stalls of the machine excuse nothing where the latency is above them

BACK_S = 1.0  # after a fault's cause is gone there is sound again
SERVER_BACK_S = 2.0  # where that was the sound server

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_rows = []  # of this test, for FAULTS.md


class Failed(Exception):
    """The program did not do what the test wants."""



class Skip(Exception):
    """This machine lacks what the test needs."""


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def check(condition, text):
    if not condition:
        raise Failed(text)


def wait_for(what, condition, seconds=10.0, every=0.02):
    """Returns condition()'s first true value; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {seconds:g} s for {what}")
        time.sleep(every)


def build_dir():
    return os.environ.get("EARSHOT_BUILD") or os.path.join(os.path.dirname(__file__), "../../build")


def built(name):
    """A program of this build."""
    where = {"earshot": "", "earshot-reference": "tests/bench", "earshot-resampler-cost": "tests/bench",
             "earshot-sim": "tests/sim"}.get(name, "tests/integration")
    path = os.path.abspath(os.path.join(build_dir(), where, name))
    if not os.access(path, os.X_OK):
        raise Skip(f"{path} is not built")
    return path


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise Skip(f"not installed: {', '.join(missing)}")


class Process:
    """A child in a process group of its own, with its output in a file. Dies with this process."""

    def __init__(self, name, argv, directory, env):
        self.name = name
        self.log_path = os.path.join(directory, f"{name}.log")
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def send(self, number):
        if self.running():
            os.killpg(self.pid, number)

    def freeze(self, seconds):
        return freeze([self], seconds)

    def end(self, number=signal.SIGTERM, seconds=3.0):
        """Ends it, by force if need be. Returns its exit status."""
        self.send(number)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.popen.wait(5)
        return self.popen.returncode

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()


def freeze(processes, seconds):
    """SIGSTOP for so long, to all of them. Returns (from_ns, to_ns)."""
    from_ns = now_ns()
    try:
        for process in processes:
            process.send(signal.SIGSTOP)
        time.sleep(seconds)
    finally:
        for process in processes:
            process.send(signal.SIGCONT)
    return from_ns, now_ns()


class Capture:
    """A recording of a sink's monitor."""

    def __init__(self, session, name, sink, seconds, positions, passive, program="earshot-capture"):
        self.session = session
        self.path = os.path.join(session.directory, f"{name}.capture")
        argv = [built(program), sink, self.path, str(seconds), positions] + ["passive"] * passive
        self.process = session.spawn(name, argv)

    def wait_running(self, seconds=5.0):
        wait_for("the capture to run", lambda: "capturing" in self.process.log(), seconds)
        return self

    def stop(self):
        self.process.end()
        return self

    def analyse(self, log=None, pulls=None, **options):
        """earshot-analyse's result. pulls: of Session.witnessed(), if it was called more than once. Options:
        expect_ms=230 for --expect-ms 230."""
        if not pulls and len(self.session.witnesses) == 1:
            pulls = self.session.witnesses[0].pulls
        argv = [built("earshot-analyse"), self.path]
        options.setdefault("hz", TONE_HZ)
        options.setdefault("stall_ms", STALL_MS)
        options.setdefault("guest_late_ms", STALL_MS)
        options.setdefault("loss_after_ms", self.session.loss_after_ms)
        if log:
            argv += ["--log", log]
        if pulls:
            argv += ["--pulls", pulls]
        if self.session.stalls_path:
            argv += ["--stalls", self.session.stalls_path]
        for key, value in options.items():
            argv += ["--" + key.replace("_", "-"), str(value)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        check(done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        missed = max(len(result.get("losses", ())), len(result.get("late", ())))
        self.session.missed_cycles = max(self.session.missed_cycles, missed)
        return result


class Session:
    """Private directories, a session bus and, between start_server() and stop_server(), a PipeWire."""

    tools = ("dbus-daemon", "pipewire", "wireplumber", "pw-cli", "pw-dump", "pw-metadata")
    loss_after_ms = 20  # so long after a loss of the capture's, what is heard comes of it

    def __init__(self):
        need(*self.tools)
        self.directory = tempfile.mkdtemp(prefix="earshot-test-")
        # The ring lies where people's rings lie: writing it must not wait for a disk.
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.shm_directory = tempfile.mkdtemp(prefix="earshot-test-", dir=shared)
        self.processes = []
        self.server = []
        self.sinks = {}
        self.stalls_path = None
        self.witnesses = []
        self.missed_cycles = 0
        runtime = os.path.join(self.directory, "run")
        home = os.path.join(self.directory, "home")
        os.mkdir(runtime, 0o700)
        os.mkdir(home, 0o700)
        self.env = {key: value for key, value in os.environ.items()
                    if not key.startswith(("PIPEWIRE_", "PULSE_", "XDG_", "DBUS_", "DISPLAY", "WAYLAND_"))}
        self.env.update(XDG_RUNTIME_DIR=runtime, HOME=home, LC_ALL="C.UTF-8",
                        DBUS_SESSION_BUS_ADDRESS=f"unix:path={runtime}/bus")
        self.runtime = runtime

    def __enter__(self):
        try:
            self.spawn("dbus", ["dbus-daemon", "--session", "--nofork", "--nopidfile",
                                f"--address={self.env['DBUS_SESSION_BUS_ADDRESS']}"])
            wait_for("the session bus", lambda: os.path.exists(os.path.join(self.runtime, "bus")))
            self.stalls_path = os.path.join(self.directory, "stalls")
            self.spawn("stalls", [built("earshot-stalls"), self.stalls_path])
            wait_for("the stall log", lambda: os.path.exists(self.stalls_path))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind not in (None, Skip):
                self.show_logs()
            if value and kind is not Skip:
                value.stalls_ms = self.stalls_ms()
                value.missed_cycles = max(self.missed_cycles, getattr(value, "missed_cycles", 0))
        finally:
            self.close()

    def close(self):
        for process in reversed(self.processes):
            if process.running():
                process.send(signal.SIGCONT)
                process.end()
        if os.environ.get("EARSHOT_KEEP"):
            print(f"kept: {self.directory} {self.shm_directory}")
            return
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.shm_directory, ignore_errors=True)

    def watch_ordinary_threads(self, niceness):
        """Counts as stalls also what ordinary threads of so much could not do in time."""
        self.spawn("stalls-ordinary", [built("earshot-stalls"), self.stalls_path, str(niceness)])

    def stalls_ms(self):
        with open(self.stalls_path) as lines:
            stalls = [line.split() for line in lines if line.endswith("\n")]
        return [(int(to_ns) - int(from_ns)) / 1e6 for from_ns, to_ns, _ in stalls]

    def worst_stall_ms(self):
        return max(self.stalls_ms(), default=0.0)

    def show_logs(self):
        for process in {process.log_path: process for process in self.processes}.values():
            lines = process.log().splitlines()
            state = "running" if process.running() else f"ended with {process.popen.returncode}"
            print(f"--- {process.name} ({state})")
            print("\n".join(lines[-LOG_TAIL:]))

    def spawn(self, name, argv, **env):
        process = Process(name, argv, self.directory, {**self.env, **env})
        self.processes.append(process)
        return process

    def run(self, *argv, seconds=10, may_fail=False):
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=seconds)
        check(may_fail or done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    # --- the server

    def start_server(self, rate=None, quantum=None):
        self.sinks = {}
        socket_path = os.path.join(self.runtime, "pipewire-0")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket_path)  # one that was killed leaves it behind
        self.server = [self.spawn("pipewire", ["pipewire"])]
        wait_for("PipeWire", lambda: os.path.exists(socket_path))
        self.server.append(self.spawn("wireplumber", ["wireplumber"]))
        wait_for("WirePlumber", lambda: '"WirePlumber"' in self.run("pw-dump", may_fail=True))
        if rate:
            self.setting("clock.force-rate", rate)
        if quantum:
            self.setting("clock.force-quantum", quantum)

    def kill_server(self, number=signal.SIGKILL):
        for process in reversed(self.server):
            process.send(signal.SIGCONT)
            process.end(number)
        self.server = []

    def setting(self, key, value):
        self.run("pw-metadata", "-n", "settings", "0", key, str(value))

    def objects(self):
        try:
            return json.loads(self.run("pw-dump", may_fail=True) or "[]")
        except ValueError:
            return []  # an object changed while it was printed

    def node(self, name):
        """The node of that name, as pw-dump has it, or None."""
        for entry in self.objects():
            if entry.get("type") == "PipeWire:Interface:Node" and \
                    entry["info"].get("props", {}).get("node.name") == name:
                return entry
        return None

    def stream_names(self):
        return sorted(entry["info"]["props"].get("node.name") for entry in self.objects()
                      if entry.get("type") == "PipeWire:Interface:Node" and
                      entry["info"].get("props", {}).get("media.class") == "Stream/Output/Audio")

    def sink(self, name="testsink", positions="FL FR", properties=""):
        self.run("pw-cli", "create-node", "adapter",
                 f"{{ factory.name=support.null-audio-sink node.name={name} media.class=Audio/Sink "
                 f"object.linger=true audio.position=[{positions}] monitor.channel-volumes=true {properties} }}")
        self.sinks[name] = wait_for(f"the sink {name}", lambda: self.node(name))["id"]
        return name

    def capture(self, sink="testsink", seconds=120, positions="FL,FR", name=None, passive=False):
        name = name or f"capture-{sink}-{len(self.processes)}"
        return Capture(self, name, sink, seconds, positions, passive)

    # --- the program

    def ring(self, name="ring"):
        return os.path.join(self.shm_directory, name)

    def config(self, name, **keys):
        """A configuration file; max_latency=30 for `max-latency = 30`. Without keys: none of that name any more."""
        path = os.path.join(self.env["HOME"], ".config/earshot", f"{name}.conf")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not keys:
            os.unlink(path)
            return
        with open(path, "w") as file:
            file.writelines(f"{key.rstrip('_').replace('_', '-')} = {value}\n" for key, value in keys.items())

    def earshot(self, *args, name="earshot"):
        return self.spawn(name, [built("earshot"), *map(str, args)])

    def witnessed(self, *args, name="earshot", **env):
        """The program, which writes down when the server asked it for sound: .pulls of the process is its record."""
        pulls = os.path.join(self.shm_directory, f"{name}.pulls")
        process = self.spawn(name, [built("earshot-witnessed"), *map(str, args)], EARSHOT_PULLS=pulls, **env)
        process.pulls = pulls
        self.witnesses.append(process)
        return process

    def guest(self, *args, name="guest", hz=TONE_HZ):
        """`earshot guest` with the tone that the analysis wants. Returns (process, its log's path)."""
        log = os.path.join(self.directory, f"{name}.deliveries")
        process = self.spawn(name, [built("earshot"), "guest", "--tone", str(hz), "--level", "-1", "--log", log, "-q",
                                    *map(str, args)])
        return process, log

    def status(self, name=None):
        """The streams of `earshot status --json`, or the one of that name; None where there is none."""
        try:
            streams = json.loads(self.run(built("earshot"), "status", "--json", may_fail=True))["streams"]
        except (ValueError, KeyError):
            return None
        if name is None:
            return streams
        return next((stream for stream in streams if stream["name"] == name), None)


def monitor_ms(total_ms, unit_ms, quantum, rate=48000):
    """When a delivery's first frame is captured after its publication, where --latency is kept: the first frame of a
    chunk is as old as the chunk is long when it is published."""
    return total_ms - unit_ms + UNTOLD_QUANTA * quantum * 1000 / rate


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def describe(result):
    """An analysis in a line."""
    latency = result.get("latency_all", {})
    events = ", ".join(f"{event['kind']} {event['frames']:+.1f} ({(event['to_ns'] - event['from_ns']) / 1e6:.0f} ms"
                       f"{', stall' if event['near_stall'] else ''}{', loss' if event['near_loss'] else ''}"
                       f"{', late' if event['near_late'] else ''})"
                       for event in result["events"][:8])
    more = len(result["events"]) - 8
    return (f"tone {(result['tone_to_ns'] - result['tone_from_ns']) / 1e9:.1f} s, "
            f"latency {latency.get('median_ms', float('nan')):.2f} ms "
            f"({latency.get('p1_ms', 0):.1f}..{latency.get('p99_ms', 0):.1f}), "
            f"drift {result['drift_ppm'] or 0:.1f} ppm, losses {len(result['losses'])}, late {len(result['late'])}, "
            f"judged {result['judged_events']}, excused {result['excused_events']}: {events or 'nothing'}"
            f"{f' and {more} more' if more > 0 else ''}")


def expect_clean(result, seconds, what):
    """A tone of at least so long without a judged event."""
    print(f"{what}: {describe(result)}", flush=True)
    lasted = (result["tone_to_ns"] - result["tone_from_ns"]) / 1e9 if result["tone_from_ns"] else 0
    check(lasted >= seconds, f"{what}: the tone lasted {lasted:.1f} s, not {seconds:g}")
    check(result["judged_events"] == 0, f"{what}: {result['judged_events']} discontinuities")


def expect_latency(result, expected_ms, tolerance_ms, what):
    median = result["latency_all"].get("median_ms")
    check(median is not None, f"{what}: nothing of the guest's was heard")
    check(abs(median - expected_ms) <= tolerance_ms,
          f"{what}: latency {median:.2f} ms, not {expected_ms:g} +-{tolerance_ms:g}")


def _rows_path():
    test = os.path.splitext(os.path.basename(sys.argv[0]))[0].removeprefix("test_")
    return os.path.join(build_dir(), "faults", ".".join([test, *sys.argv[1:]]) + ".json")


def fault_row(fault, seen, back_s, limit_s=BACK_S):
    """A line of FAULTS.md: what was done to the program, what people see of it, how long after the cause was gone
    sound was back (None: it never went). Fails where that took longer than `limit_s`; faults_table.py makes the page."""
    path = _rows_path()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _rows.append({"fault": fault, "seen": seen, "back_s": back_s, "limit_s": limit_s})
    with open(path, "w") as out:
        json.dump(_rows, out)
    print(f"{fault}: {seen}; " + ("never went" if back_s is None else f"back after {back_s:.2f} s"), flush=True)
    check(back_s is None or back_s <= limit_s, f"{fault}: sound was back after {back_s} s, not {limit_s:g}")


def attempt(test, attempts=ATTEMPTS):
    """Runs test(). What fails while the machine stands still, or makes others miss cycles, is tried again; on a quiet
    machine a failure is one."""
    for attempts_left in reversed(range(attempts)):
        _rows.clear()
        if os.path.exists(_rows_path()):
            os.unlink(_rows_path())
        try:
            test()
            return
        except Skip:
            raise
        except Exception as reason:  # what a slow machine gives no answer in time is found missing somewhere
            stalls_ms = [stall_ms for stall_ms in getattr(reason, "stalls_ms", ()) if stall_ms > STALLS_MS]
            missed = getattr(reason, "missed_cycles", 0)
            if not attempts_left or not (stalls_ms or missed):
                raise
            print(f"FAILED: {reason!r}\nThe machine itself stood still {len(stalls_ms)} times for {STALLS_MS} to "
                  f"{max(stalls_ms, default=0):.0f} ms, and made others miss {missed} cycles: once more.", flush=True)


def main(test, attempts=ATTEMPTS):
    """attempt(), and what comes of it as an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        attempt(test, attempts)
    except Skip as reason:
        print(f"skipped: {reason}")
        sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)
    except Failed as reason:
        print(f"FAILED: {reason}", flush=True)
        sys.exit(1)
