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
import socket
import threading
import time

sys.dont_write_bytecode = True
import senders  # noqa: E402

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
        self.senders = []
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

    def config(self, name, *lines):
        """A configuration file, or none of that name any more."""
        path = self.path(f".config/earshot/{name}.conf")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if lines:
            with open(path + ".new", "w") as file:
                file.write("\n".join(lines))
            os.rename(path + ".new", path)
        else:
            os.unlink(path)
        return path

    def guest(self, *arguments):
        return self.spawn([PROGRAM, "guest", "--quiet", *arguments])

    def close(self):
        for sender in self.senders:
            sender.stop()
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
                              (["-P"], 2), (["-o", "wav"], 2), (["status"], 1), (["status", "x"], 1)):
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


def pipeline(place, line):
    """A shell's line with `scream` being ours, as an old script has it; RING and PORT are replaced."""
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    if not os.path.lexists(place.path("scream")):
        os.symlink(PROGRAM, place.path("scream"))
    line = line.replace("RING", place.path("ring")).replace("PORT", port)
    return port, place.spawn(["bash", "-c", f"PATH={place.dir}:$PATH; set -o pipefail; {line}"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_old_pipelines(place):
    """The guest's very bytes, in order, and an end without complaint when the reader has enough."""
    data = random.Random(1).randbytes(48000 * 4 * 3)
    with open(place.path("data"), "wb") as file:
        file.write(data)
    size = 96000
    for line in (f"truncate -s 0 RING && dd if=/dev/zero of=RING bs=1M count=2 status=none && "
                 f"scream -m RING -o raw | head -c {size}",
                 f"scream -uvpPORT -o raw | head -c {size}",
                 f"earshot=$(command -v scream); exec -a /usr/bin/scream $earshot -uo raw -pPORT | head -c {size}"):
        port, shell = pipeline(place, line)
        if "RING" in line:  # as it is when the script comes before the VM
            wait_for(lambda: os.path.exists(place.path("ring")) and os.path.getsize(place.path("ring")) == 2 << 20, "dd")
        # It repeats, because the receiver may not be there yet.
        guest = place.spawn(["bash", "-c", f"while cat {place.path('data')}; do :; done | {PROGRAM} guest --stdin -q "
                             + (f"--shm {place.path('ring')}" if "RING" in line else f"--udp 127.0.0.1:{port}")])
        heard, said = shell.communicate(timeout=LIMIT)
        assert shell.returncode == 0, (line, shell.returncode, said)
        assert len(heard) == size, (line, len(heard))
        at = (data * 2).find(heard[:64])
        assert at >= 0 and (data * 2)[at:at + size] == heard, (line, at, said)
        guest.terminate()
        guest.wait(LIMIT)


def test_old_latency(place):
    """Called as scream, -t is what comes on top of the guest's chunk; the daemon is told apart by its name alone."""
    place.guest("--shm", place.path("ring"))
    os.symlink(PROGRAM, place.path("scream"))
    for program, target_ms in (("scream", 120), ("earshot", 100)):
        executable = place.path("scream") if program == "scream" else PROGRAM
        receiver = place.spawn([executable, "-m", place.path("ring"), "-o", "null", "-t", "100", "-n", program])
        wait_for(lambda: [s["target_ms"] for s in streams(place) if s["name"] == program] == [target_ms],
                 f"{program}: {target_ms} ms, not {streams(place)}")
        receiver.terminate()
        assert receiver.wait(LIMIT) == 0


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
    """No server here: it records, ends by itself, and leaves nothing else behind; a configuration is none of its
    business."""
    place.config("desk", "backend = null", "shm = " + place.path("desk"))
    before = set(os.listdir(place.dir))
    result = place.run("demo", "--seconds", "2")
    assert result.returncode == 0, result
    assert "earshot-demo.wav" in result.stderr, result
    # libpulse makes its directories wherever it looks for a server.
    made = set(os.listdir(place.dir)) - before - {"pulse", ".config"}
    assert made == {"earshot-demo.wav"}, made
    size = os.path.getsize(place.path("earshot-demo.wav"))
    assert size > 48000 * 2 * 2, size


def test_notify(place):
    """Readiness and what it waits for, as systemd gets them; priorities where the journal reads."""
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


class Manager:
    """What systemd would hear."""

    def __init__(self, place):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(place.path("notify"))
        self.socket.settimeout(LIMIT)
        place.env["NOTIFY_SOCKET"] = place.path("notify")
        self.heard = []

    def hears(self, pattern):
        """Waits for a word that begins so, and returns it."""
        while True:
            for at, word in enumerate(self.heard):
                if re.match(pattern, word):
                    del self.heard[:at + 1]
                    return word
            self.heard += self.socket.recv(4096).decode().splitlines()


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


def names(place):
    return sorted(s["name"] for s in streams(place))


def stream(place, name):
    return next((s for s in streams(place) if s["name"] == name), None)


def send_from(place, port, *addresses):
    found = [senders.ToneSender(address, port, 200) for address in addresses]
    for sender in found:
        sender.start()
    place.senders += found
    return found


def test_configs(place):
    """A file a guest; a bad one among them; senders to whom they belong."""
    port = free_port()
    common = ("backend = null", f"port = {port}", "unicast = yes")
    place.config("alpha", *common, "from = 127.0.0.2", "latency = 60")
    place.config("beta", *common, "from = 127.0.0.3 127.0.0.4")
    place.config("gamma", "backend = null", f"port = {port}", "# a mistake:", "prot = 1")
    place.config("ring", "backend = null", "shm = " + place.path("desk"), "name = Desk")
    place.config("rest", *common)
    receiver = Receiver(place)
    receiver.says(r"beta\.conf:4: from = 127\.0\.0\.3 127\.0\.0\.4: must be")
    receiver.says(r"gamma\.conf:4: unknown key prot: it may be shm, ")
    wait_for(lambda: names(place) == ["Desk", "alpha", "rest"], "an entry for each")
    assert all(s["state"] == "waiting" for s in streams(place)), streams(place)

    place.config("beta", *common, "from = 127.0.0.3, 127.0.0.4")
    receiver.process.send_signal(signal.SIGHUP)
    receiver.says("read again, as far as it is good")
    # One that is claimed; two of one file; strangers; and shared memory.
    send_from(place, port, "127.0.0.2", "127.0.0.4")
    wait_for(lambda: names(place) == ["Desk", "alpha", "beta (127.0.0.4)", "rest"], "the second of beta's")
    send_from(place, port, "127.0.0.3", "127.0.0.9")
    wait_for(lambda: names(place) == ["Desk", "alpha", "beta", "beta (127.0.0.4)", "rest"], "the others")
    wait_for(lambda: stream(place, "rest")["source"]["address"] == "127.0.0.9", "the stranger")
    send_from(place, port, "127.0.0.8")
    wait_for(lambda: "rest (127.0.0.8)" in names(place), "another stranger")
    place.guest("--shm", place.path("desk"))
    receiver.says(r"(?m)^Desk: 48 kHz 16 bit stereo, \d+ ms\.$")
    wait_for(lambda: all(s["state"] == "playing" for s in streams(place)), "all to play")
    assert abs(stream(place, "alpha")["target_ms"] - 60) < 1e-6, stream(place, "alpha")
    receiver.end()


def test_ignored(place):
    """Where every file names its senders, nobody else is played; and the command line reads no file."""
    port = free_port()
    place.config("alpha", "backend = null", f"port = {port}", "unicast = yes", "from = 127.0.0.2")
    receiver = Receiver(place)
    receiver.says(f"Listening to unicast on port {port}")
    send_from(place, port, "127.0.0.9", "127.0.0.2")
    wait_for(lambda: state(place) == "playing", "the one that is wanted")
    assert names(place) == ["alpha"], streams(place)
    receiver.end()
    receiver = Receiver(place, "-o", "null", "-u", "-p", str(port))
    wait_for(lambda: names(place) == ["127.0.0.2", "127.0.0.9"], "both, by their addresses")
    receiver.end()


def test_config_option(place):
    place.config("alpha", "backend = null", "shm = " + place.path("one"))
    other = place.path("other.conf")
    with open(other, "w") as file:
        file.write("backend = null\nshm = " + place.path("two"))
    receiver = Receiver(place, "--config", other, "--config", place.path("none.conf"))
    receiver.says("none.conf: No such file")
    wait_for(lambda: names(place) == ["other"], "the file that was named")
    receiver.end()
    bad = place.path("bad.conf")
    with open(bad, "w") as file:
        file.write("latency = soon")
    result = place.run("--config", bad)
    assert result.returncode == 2 and "bad.conf:1: latency = soon: must be auto or" in result.stderr, result
    result = place.run("--config", other, "-t", "20")
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result


def test_doctor_reads(place):
    """The doctor looks at what the files would play, and says which of them is no good."""
    place.config("alpha", "backend = null", "shm = " + place.path("one"))
    place.config("beta", "backend = null", "shm = " + place.path("two"))
    place.config("gamma", "prot = 1")
    result = place.run("doctor", "-v")
    assert result.returncode == 1 and "gamma.conf:1: unknown key prot" in result.stderr, result
    assert place.path("one") in result.stdout and place.path("two") in result.stdout, result
    result = place.run("doctor", "-v", "-o", "null", "-m", place.path("three"))
    assert place.path("three") in result.stdout and place.path("one") not in result.stdout, result


def test_reload(place):
    """What a reload leaves alone plays on; what it changes begins anew; what is bad now stays what it was."""
    manager = Manager(place)
    for name in ("one", "two", "three"):
        place.config(name, "backend = null", "latency = 250", "shm = " + place.path(name))
        place.guest("--shm", place.path(name))
    receiver = Receiver(place)
    manager.hears("READY=1")
    wait_for(lambda: [s["state"] for s in streams(place)] == 3 * ["playing"], "three guests")
    for name in ("one", "two", "three"):
        receiver.says(f"(?m)^{name}: 48 kHz")
    one = stream(place, "one")

    place.config("one", "# nothing new", "backend=null", "latency=250", "shm=" + place.path("one"))
    place.config("two", "backend = null", "latency = 200", "shm = " + place.path("two"))
    place.config("three", "backend = null", "latency = 1e3", "shm = " + place.path("three"))
    place.config("four", "backend = null", "latency = 250", "shm = " + place.path("four"))
    place.guest("--shm", place.path("four"))
    receiver.process.send_signal(signal.SIGHUP)
    manager.hears("RELOADING=1")
    assert int(manager.hears("MONOTONIC_USEC=")[15:]) > 0
    manager.hears("READY=1")
    receiver.says(r"three\.conf:2: latency = 1e3: .*before still holds")
    wait_for(lambda: names(place) == ["four", "one", "three", "two"] and
             [s["state"] for s in streams(place)] == 4 * ["playing"], "four guests")
    wait_for(lambda: abs(stream(place, "two")["target_ms"] - 200) < 1e-6, "the new latency")
    assert stream(place, "three")["target_ms"] == 250, stream(place, "three")
    receiver.says(r"(?ms)^two: 48 kHz.*^two: 48 kHz")
    # The same stream, never interrupted.
    for name, frames in (("one", one["frames"]), ("three", 0)):
        now = stream(place, name)
        assert now["frames"] > frames and receiver.text.count(f"{name}: 48 kHz") == 1, receiver.text
        assert f"{name}: now" not in receiver.text, receiver.text

    place.config("four")
    place.config("two")
    receiver.process.send_signal(signal.SIGHUP)
    manager.hears("RELOADING=1")
    manager.hears("READY=1")
    wait_for(lambda: names(place) == ["one", "three"], "two to leave")
    # The file that was taken out is free for others.
    other = Receiver(place, "-o", "null", "-m", place.path("two"))
    other.says("(?m)^two: 48 kHz")
    other.end()
    receiver.end()


def test_reload_port(place):
    """A source that comes may want what one that goes has."""
    port = free_port()
    place.config("desk", "backend = null", f"port = {port}", "unicast = yes")
    receiver = Receiver(place)
    send_from(place, port, "127.0.0.2")
    wait_for(lambda: state(place) == "playing", "the guest")
    place.config("desk", "backend = null", f"port = {port}", "unicast = yes", "interface = 127.0.0.1")
    receiver.process.send_signal(signal.SIGHUP)
    receiver.says("interface 127.0.0.1")
    wait_for(lambda: state(place) == "playing", "the guest again")
    # Claimed, while another plays on.
    before = stream(place, "desk")
    place.config("other", "backend = null", f"port = {port}", "unicast = yes", "interface = 127.0.0.1",
                 "from = 127.0.0.3")
    receiver.process.send_signal(signal.SIGHUP)
    send_from(place, port, "127.0.0.3")
    wait_for(lambda: names(place) == ["desk", "other"] and stream(place, "other")["state"] == "playing", "both")
    assert stream(place, "desk")["frames"] > before["frames"], stream(place, "desk")
    assert receiver.text.count("Listening") == 2 and "in use" not in receiver.text, receiver.text
    receiver.end()


def test_taken(place):
    """Two players of one ring: the second says who has it, and waits."""
    ring = place.path("desk")
    place.guest("--shm", ring)
    first = Receiver(place, "-o", "null", "-m", ring, "-n", "Desk")
    first.says("desk: 48 kHz")
    second = Receiver(place, "-o", "null", "-m", os.path.join(place.dir, ".", "desk"))
    second.says(rf"desk is played by Desk \(pid {first.process.pid}\)")
    # Who only records disturbs nobody.
    recorder = Receiver(place, "-o", "raw", "-m", ring, stdout=subprocess.PIPE)
    assert len(recorder.process.stdout.read(48000)) == 48000
    recorder.process.kill()
    time.sleep(1)
    assert "48 kHz" not in second.text, second.text
    first.end(signal.SIGINT)
    second.says("desk: 48 kHz")
    second.end()


def test_faults_apart(place):
    """What is wrong with one guest is nobody else's business."""
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", port))
        place.config("busy", "backend = null", f"port = {port}", "unicast = yes")
        place.config("device", "backend = null", "target = nonsense", "shm = " + place.path("device"))
        place.config("garbage", "backend = null", "shm = " + place.path("garbage"))
        place.config("good", "backend = null", "latency = 250", "shm = " + place.path("good"))
        place.config("missing", "backend = null", "shm = " + place.path("missing"))
        place.config("unread", "prot = 1")
        for name in ("device", "good"):
            place.guest("--shm", place.path(name))
        with open(place.path("garbage"), "wb") as file:
            file.write(struct.pack("<I", 0x11112014) + b"\xff" * 5000)
        receiver = Receiver(place)
        for pattern in (f"port {port} is in use", "garbage makes no sense", "missing is not there yet",
                        "unread.conf:1: unknown key", "Invalid argument", "(?m)^good: 48 kHz"):
            receiver.says(pattern)
        found = {s["name"]: s["state"] for s in streams(place)}
        assert found == {"busy": "port-busy", "device": "no-server", "garbage": "waiting", "good": "playing",
                         "missing": "waiting"}, found
    # A port that becomes free is taken, and a guest that comes is played.
    place.guest("--shm", place.path("missing"))
    send_from(place, port, "127.0.0.2")
    wait_for(lambda: {stream(place, name)["state"] for name in ("busy", "good", "missing")} == {"playing"}, "three")
    assert receiver.text.count("good: 48 kHz") == 1, receiver.text
    receiver.end()


def test_watchdog(place):
    manager = Manager(place)
    place.env["WATCHDOG_USEC"] = "400000"
    receiver = Receiver(place, "-o", "null", "-m", place.path("none"))
    manager.hears("READY=1")
    for _ in range(3):
        manager.hears("WATCHDOG=1")
    receiver.end()


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
