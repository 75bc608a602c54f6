#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program as people run it: program_test.py EARSHOT [TEST ...]

Waits have limits that only a fault reaches. Exit 77 where dbus-daemon is missing (ctest: skipped).
"""

import os
import random
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from place import LIMIT, PROGRAM, Manager, Receiver, free_port, main, state, streams, wait_for  # noqa: E402


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
    assert re.search(r"(?m)^NAME +STATE +FORMAT +LATENCY +DRIFT +DROP-OUTS +OUTPUT$", table), table
    wait_for(lambda: re.search(r"(?m)^desk +playing +48 kHz 16 bit stereo +\d+\.\d/\d+\.\d ms .* null$",
                               place.run("status").stdout), f"another line than in {table}")

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
    port = str(free_port())
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
        guest = place.spawn(["bash", "-c", f"while cat {place.path('data')}; do :; done | "
                             f"{shlex.quote(PROGRAM)} guest --stdin -q "
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


def test_watchdog(place):
    manager = Manager(place)
    place.env["WATCHDOG_USEC"] = "400000"
    receiver = Receiver(place, "-o", "null", "-m", place.path("none"))
    manager.hears("READY=1")
    for _ in range(3):
        manager.hears("WATCHDOG=1")
    receiver.end()


if __name__ == "__main__":
    sys.exit(main(globals()))
