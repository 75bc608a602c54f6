#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Configuration files of one or more guests, read and read again: program_configs_test.py EARSHOT [TEST ...]

Waits have limits that only a fault reaches. Exit 77 where dbus-daemon is missing (ctest: skipped).
"""

import signal
import socket
import struct
import sys

sys.dont_write_bytecode = True
import senders  # noqa: E402
from place import Manager, Receiver, free_port, main, state, streams, wait_for  # noqa: E402


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


def test_faults_apart(place):
    """What is wrong with one guest is nobody else's business."""
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", port))
        place.config("busy", "backend = null", f"port = {port}", "unicast = yes")
        place.config("device", "backend = wav", "target = " + place.path("nowhere/take.wav"), "shm = " + place.path("device"))
        place.config("garbage", "backend = null", "shm = " + place.path("garbage"))
        place.config("good", "backend = null", "latency = 250", "shm = " + place.path("good"))
        place.config("missing", "backend = null", "shm = " + place.path("missing"))
        place.config("unread", "prot = 1")
        place.config("nonsense", "backend = null", "target = nonsense", "shm = " + place.path("nonsense"))
        for name in ("device", "good"):
            place.guest("--shm", place.path(name))
        with open(place.path("garbage"), "wb") as file:
            file.write(struct.pack("<I", 0x11112014) + b"\xff" * 5000)
        receiver = Receiver(place)
        for pattern in (f"port {port} is in use", "garbage makes no sense", "missing is not there yet",
                        "unread.conf:1: unknown key", "nonsense.conf:2: target = nonsense: must be rate=",
                        "cannot play through WAV file: No such file", "(?m)^good: 48 kHz"):
            receiver.says(pattern)
        wait_for(lambda: {s["name"]: s["state"] for s in streams(place)} == {
            "busy": "port-busy", "device": "no-server", "garbage": "waiting", "good": "playing", "missing": "waiting"},
            "each in its state")
    # A port that becomes free is taken, and a guest that comes is played.
    place.guest("--shm", place.path("missing"))
    send_from(place, port, "127.0.0.2")
    wait_for(lambda: {stream(place, name)["state"] for name in ("busy", "good", "missing")} == {"playing"}, "three")
    assert receiver.text.count("good: 48 kHz") == 1, receiver.text
    receiver.end()


if __name__ == "__main__":
    sys.exit(main(globals()))
