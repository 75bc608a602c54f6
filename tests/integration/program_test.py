#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program as people run it, with nothing but files and a private D-Bus: program_test.py EARSHOT [TEST ...]

Waits have limits that only a fault reaches. Exit 77 where dbus-daemon is missing (ctest: skipped).
"""

import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = os.path.abspath(sys.argv[1])
LIMIT = 30
STREAM = {"name", "state", "source", "format", "backend", "latency_ms", "target_ms", "drift_ppm", "locked",
          "underruns", "resyncs", "dropped_frames", "frames"}


def wait_for(condition, what):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited {LIMIT} s for {what}"
        time.sleep(0.05)


class Place:
    """A directory to play in, and a session bus."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="earshot-test-")
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith(("PIPEWIRE", "PULSE", "DBUS", "XDG_", "NOTIFY", "JOURNAL", "WATCHDOG"))}
        self.env = dict(keep, XDG_RUNTIME_DIR=self.dir, HOME=self.dir, LC_ALL="C",
                        DBUS_SESSION_BUS_ADDRESS=f"unix:path={self.dir}/bus")
        self.processes = []
        self.bus = self.spawn(["dbus-daemon", "--session", "--nofork", "--nopidfile",
                               "--address=" + self.env["DBUS_SESSION_BUS_ADDRESS"]])
        wait_for(lambda: os.path.exists(self.path("bus")), "the bus")

    def path(self, name):
        return os.path.join(self.dir, name)

    def spawn(self, command, **kwargs):
        kwargs.setdefault("stderr", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.DEVNULL)
        process = subprocess.Popen(command, env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, **kwargs)
        self.processes.append(process)
        return process

    def run(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)

    def guest(self, *arguments):
        return self.spawn([PROGRAM, "guest", "--quiet", *arguments])

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(self.dir)


class Receiver:
    """A running earshot; its messages in `text`."""

    def __init__(self, place, *arguments, **kwargs):
        self.text = ""
        self.process = place.spawn([PROGRAM, *arguments], stderr=subprocess.PIPE, **kwargs)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.text += line.decode()

    def says(self, pattern):
        wait_for(lambda: re.search(pattern, self.text) or self.process.poll() is not None, pattern)
        assert re.search(pattern, self.text), f"ended with {self.process.poll()}: {self.text}"

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        self.reader.join(LIMIT)
        assert status == 0, f"exit status {status}: {self.text}"


def test_exit_status(place):
    for arguments, status in ((["--help"], 0), (["--version"], 0), (["status", "--help"], 0), (["demo", "--help"], 0),
                              (["guest", "--help"], 0), (["-p", "0"], 2), (["--nonsense"], 2), (["nonsense"], 2),
                              (["-P", "-i", "lo"], 2), (["-o", "wav"], 2), (["status"], 1), (["status", "x"], 1)):
        result = place.run(*arguments)
        assert result.returncode == status, (arguments, result)
        if status:
            assert result.stderr.count("\n") == 1 and "\n" not in result.stderr[:-1], (arguments, result.stderr)
        else:
            assert not result.stderr and result.stdout, (arguments, result)
    assert re.fullmatch(r"earshot \d+\.\d+\.\d+\n", place.run("-V").stdout)


def streams(place, *arguments):
    result = place.run("status", "--json", *arguments)
    answer = json.loads(result.stdout)
    assert list(answer) == ["streams"]
    for stream in answer["streams"]:
        assert set(stream) == STREAM, stream
        parts = dict(stream["latency_ms"])
        assert abs(parts.pop("total") - sum(parts.values())) < 1e-6, stream
    return answer["streams"]


def state(place):
    found = streams(place)
    return found[0]["state"] if found else None


def test_play_pause_stop(place):
    ring = place.path("desk")
    receiver = Receiver(place, "-o", "null", "-m", ring)
    receiver.says(re.escape(ring))
    receiver.says("No sound\\? earshot doctor")
    wait_for(lambda: state(place) == "waiting", "waiting")

    guest = place.guest("--shm", ring)
    receiver.says(r"(?m)^desk: 48 kHz 16 bit stereo, \d+ ms\.$")
    wait_for(lambda: state(place) == "playing", "playing")
    stream = streams(place, "desk")[0]
    assert stream["source"] == {"kind": "shm", "address": ring, "lost_packets": 0, "rejected_packets": 0,
                                "ignored_packets": 0}, stream
    assert stream["format"] == {"rate": 48000, "bits": 16, "channels": 2, "mask": 3}, stream
    assert stream["backend"] == "null" and stream["latency_ms"]["guest"] == 20, stream
    assert stream["frames"] > 0, stream
    table = place.run("status").stdout
    assert re.search(r"(?m)^NAME +STATE +FORMAT +LATENCY +DRIFT +DROP-OUTS$", table), table
    assert re.search(r"(?m)^desk +playing +48 kHz 16 bit stereo +\d+\.\d ms ", table), table

    guest.terminate()
    guest.wait(LIMIT)
    wait_for(lambda: state(place) == "idle", "idle")
    receiver.says("desk: paused")
    guest = place.guest("--shm", ring, "--rate", "44100", "--channels", "6")
    receiver.says(r"desk: now 44\.1 kHz 16 bit 5\.1, \d+ ms")
    receiver.end()


def test_names(place):
    """Two processes, one of them called what its -n says, in one answer."""
    one = Receiver(place, "-o", "null", "-m", place.path("one"))
    two = Receiver(place, "-o", "null", "-m", place.path("two"), "-n", "Gr\u00fcn")
    wait_for(lambda: {s["name"] for s in streams(place)} == {"one", "Gr\u00fcn"}, "both names")
    assert place.run("status", "Gr\u00fcn").returncode == 0
    assert place.run("status", "three").returncode == 1

    # One that does not answer costs a bounded wait, and hides nobody else.
    one.process.send_signal(signal.SIGSTOP)
    result = place.run("status")
    assert "Gr\u00fcn" in result.stdout and "does not answer" in result.stderr, result
    one.process.send_signal(signal.SIGCONT)
    one.end()
    two.end(signal.SIGINT)


def test_no_bus(place):
    place.bus.terminate()
    place.bus.wait(LIMIT)
    if os.path.exists(place.path("bus")):
        os.unlink(place.path("bus"))
    receiver = Receiver(place, "-o", "null", "-m", place.path("desk"))
    place.guest("--shm", place.path("desk"))
    receiver.says("desk: 48 kHz")
    assert place.run("status").returncode == 1
    receiver.end()


def test_garbage(place):
    """Files that are no ring, and rings that lie, while it looks."""
    numbers = random.Random(1)
    ring = place.path("ring")
    receiver = Receiver(place, "-o", "null", "-m", ring)
    receiver.says("ring")
    fields = struct.Struct("<IHBxHxxIBBBxHxx")
    assert fields.size == 24
    for turn in range(150):
        with open(ring, "wb" if turn % 7 else "r+b" if os.path.exists(ring) else "wb") as file:
            kind = turn % 5
            if kind == 0:
                file.write(numbers.randbytes(numbers.choice([0, 1, 23, 24, 4096, 1 << 20])))
            elif kind == 1:
                file.truncate(numbers.choice([0, 10, 1 << 21]))
            else:
                file.truncate(1 << 16)
                file.write(fields.pack(0x11112014, numbers.choice([0, 1, 65535]), numbers.choice([0, 24, 255]),
                                       numbers.choice([0, 1, 17, 65535]), numbers.choice([0, 1, 3840, 0xffffffff]),
                                       numbers.choice([0, 1, 0x81, 255]), numbers.choice([0, 16, 17, 32]),
                                       numbers.choice([0, 2, 255]), numbers.choice([0, 3, 0xffff])))
        time.sleep(0.01)
        assert receiver.process.poll() is None, receiver.text
    os.unlink(ring)
    place.guest("--shm", ring)
    receiver.says(r"ring: (now )?48 kHz 16 bit stereo")
    assert receiver.text.count("\n") < 40, receiver.text
    receiver.end()


def test_raw(place):
    """The guest's very bytes, and the end when the reader leaves."""
    ring = place.path("ring")
    receiver = Receiver(place, "-o", "raw", "-m", ring, stdout=subprocess.PIPE)
    receiver.says("ring")
    place.guest("--shm", ring, "--tone", "440")
    data = b""
    while len(data) < 48000:
        data += receiver.process.stdout.read(4096)
    left = struct.unpack(f"<{48000 // 2}h", data[:48000])[::2]
    assert max(left) > 5000 and min(left) < -5000
    receiver.process.stdout.close()
    assert receiver.process.wait(LIMIT) == 0, receiver.text


def test_raw_stuck(place):
    """A reader that does not read holds up nobody who wants to end."""
    ring = place.path("ring")
    place.guest("--shm", ring)
    receiver = Receiver(place, "-o", "raw", "-m", ring, stdout=subprocess.PIPE)
    receiver.says("ring")
    time.sleep(1)
    start = time.monotonic()
    receiver.end()
    assert time.monotonic() - start < 10


def test_demo(place):
    """No server here: it records, ends by itself, and leaves nothing else behind."""
    before = set(os.listdir(place.dir))
    result = place.run("demo", "--seconds", "2")
    assert result.returncode == 0, result
    assert "earshot-demo.wav" in result.stderr, result
    assert set(os.listdir(place.dir)) - before == {"earshot-demo.wav"}, os.listdir(place.dir)
    size = os.path.getsize(place.path("earshot-demo.wav"))
    assert size > 48000 * 2 * 2, size


def test_notify(place):
    """Readiness and what it waits for, as systemd gets them; priorities where the journal reads."""
    import socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(place.path("notify"))
        manager.settimeout(LIMIT)
        place.env["NOTIFY_SOCKET"] = place.path("notify")
        read_end, write_end = os.pipe()
        status = os.fstat(write_end)
        place.env["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        process = place.spawn([PROGRAM, "-o", "null", "-m", place.path("none")], stderr=write_end)
        os.close(write_end)
        heard = ""
        while "READY=1" not in heard or "none" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        process.terminate()
        while "STOPPING=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        assert process.wait(LIMIT) == 0
        with os.fdopen(read_end) as file:
            lines = file.read().splitlines()
        assert lines and all(re.match(r"<[3-7]>\S", line) for line in lines), lines


def main():
    if not shutil.which("dbus-daemon"):
        print("skipped: no dbus-daemon")
        return 77
    wanted = sys.argv[2:]
    failed = []
    for name, test in sorted(globals().items()):
        if not name.startswith("test_") or (wanted and name[5:] not in wanted):
            continue
        place = Place()
        try:
            test(place)
            print(f"ok   {name[5:]}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired, ValueError) as error:
            failed.append(name)
            print(f"FAIL {name[5:]}: {error}", flush=True)
        finally:
            place.close()
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
