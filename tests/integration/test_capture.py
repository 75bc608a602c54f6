# SPDX-License-Identifier: MIT
"""`earshot guest --capture` in a Linux guest's sound server, and Earshot on its host's: two servers side by side.

test_capture.py pulseaudio|pipewire-pulse heard|left|deaf
"""

import math
import os
import shutil
import struct
import subprocess
import sys
import time

import harness
import pulse

TONE_S = 3
RATE = 48000
PLAYS = 3
SILENCE_S = 5  # after which nothing is sent any more
FAULTS = {"pulseaudio": "PulseAudio", "pipewire-pulse": "PipeWire"}


def tone(session, seconds):
    """A file with the tone that the analysis wants."""
    path = os.path.join(session.directory, "tone")
    turn = 2 * math.pi * harness.TONE_HZ / RATE
    with open(path, "wb") as file:
        for i in range(int(seconds * RATE)):
            file.write(struct.pack("<hh", round(29000 * math.cos(turn * i)), round(29000 * math.sin(turn * i))))
    return path


def play(session, path):
    """As a program in the guest that does not care where it plays."""
    session.run("pacat", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=2", "--latency-msec=300", path)


def sinks(session):
    return sorted(sink["name"] for sink in session.list("sinks"))


def default(session):
    return session.run("pactl", "get-default-sink", may_fail=True).strip()


def wait_sinks(session, *names):
    """These outputs, and no others."""
    harness.wait_for(f"the outputs {', '.join(names)}", lambda: sinks(session) == list(names))


def wait_default(session, name):
    harness.wait_for(f"{name} to be the default", lambda: default(session) == name)


def choose(session, name):
    """As somebody does in a mixer. pactl hangs up so soon that PipeWire 0.3.65 may not have heard of it."""
    def chosen():
        session.run("pactl", "set-default-sink", name)
        time.sleep(0.1)
        return default(session) == name
    harness.wait_for(f"{name} to be the default", chosen)


def capture(session, *args, name="capture", **environment):
    return session.spawn(name, [harness.built("earshot"), "guest", "--capture", *map(str, args)], **environment)


def wait_ready(session, process, times=1, name="earshot"):
    """The output is recorded, and the default one for everybody."""
    harness.wait_for("an output", lambda: process.log().count("What plays here") == times)
    wait_default(session, name)


def hear(guest, host, recording, path, what):
    from_ns = harness.now_ns()
    play(guest, path)
    time.sleep(0.5)
    tone_ns = recording.analyse(from_ns=from_ns)["tone_from_ns"]
    harness.check(tone_ns, f"{what}: nothing was heard")
    # Both edges are another test's: here the host's stream fades in.
    result = recording.analyse(from_ns=tone_ns + 50000000, to_ns=tone_ns + int((TONE_S - 0.1) * 1e9))
    harness.expect_clean(result, TONE_S - 0.3, what)
    harness.check(host.status("vm1")["format"]["rate"] == RATE, "another rate")


def heard(kind):
    with pulse.session(kind) as guest, harness.Session() as host:
        host.watch_ordinary_threads(pulse.NICENESS)
        path = tone(guest, TONE_S)
        host.start_server(quantum=256)
        host.sink()
        recording = host.capture().wait_running()
        if kind == "pulseaudio":
            reads, writes = ("-m", host.ring()), ("--shm", host.ring())
        else:
            port = harness.free_port()
            reads, writes = ("-u", "-p", port), ("--udp", f"127.0.0.1:{port}")
        host.earshot(*reads, "-o", "pipewire", "-t", "100", "-n", "vm1")

        # The guest's session begins before its sound server does, and goes on after it.
        process = capture(guest, *writes, "--chunk", "2.5ms")
        harness.wait_for("a line about the server", lambda: "Waiting for a sound server" in process.log())
        guest.start_server()
        wait_ready(guest, process)
        guest.sink("card")
        hear(guest, host, recording, path, "a tone in the guest")

        guest.kill_server()
        harness.wait_for("a line about the output", lambda: "The output is gone" in process.log())
        guest.start_server()
        began_ns = harness.now_ns()
        wait_ready(guest, process, 2)
        back_s = (harness.now_ns() - began_ns) / 1e9
        guest.sink("card")
        hear(guest, host, recording, path, "after the guest's server was killed")
        harness.fault_row(f"A Linux guest's {FAULTS[kind]} is killed and starts again",
                          "silence, then its output to the host is there again", back_s, harness.SERVER_BACK_S)
        harness.check(process.end() == 0, f"it did not end in order:\n{process.log()}")
        wait_sinks(guest, "card")
        harness.wait_for("the host's stream to be idle", lambda: host.status("vm1")["state"] == "idle")


def expect_bits(got, wanted, plays):
    """Silence around it is no matter. The guest's own server misses a period now and then on a busy machine, so it is
    played more than once."""
    if plays >= got.count(wanted) >= 1:
        return
    began = next((i for i in range(0, len(got), 4) if any(got[i:i + 4])), len(got))
    heard = got[began:].rstrip(b"\0")
    same = next((i for i in range(0, len(heard), 4) if heard[i:i + 4] != wanted[i:i + 4]), len(heard))
    raise harness.Failed(f"not what was played: {len(heard) // 4} frames, the first {same // 4} of them right")


def index(ring):
    with open(ring, "rb") as file:
        return struct.unpack("<H", file.read(6)[4:])[0]


def left(kind):
    """What it finds, and what it leaves; and what comes out, bit by bit."""
    with pulse.session(kind) as guest:
        path, ring, bits = tone(guest, 1), guest.ring(), os.path.join(guest.directory, "bits")
        guest.start_server()
        guest.sink("card")
        guest.sink("earshot")  # somebody else's
        choose(guest, "card")

        killed = capture(guest, "--shm", ring)
        wait_ready(guest, killed, name="earshot-2")
        killed.end(9)
        wait_sinks(guest, "card", "earshot", "earshot-2")
        process = capture(guest, "--shm", ring, name="again")
        wait_ready(guest, process, name="earshot-2")
        wait_sinks(guest, "card", "earshot", "earshot-2")
        names = [sink["description"] for sink in guest.list("sinks") if sink["name"] == "earshot-2"]
        harness.check(names == ["Host (Earshot)"], f"mixers call it {names}")

        with open(bits, "wb") as out:
            raw = subprocess.Popen([harness.built("earshot"), "-m", ring, "-o", "raw"], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=subprocess.DEVNULL, env=guest.env)
        try:
            harness.wait_for("bytes", lambda: os.path.getsize(bits))
            for _ in range(PLAYS):
                play(guest, path)
                time.sleep(0.5)
        finally:
            raw.kill()
            raw.wait()
        with open(bits, "rb") as got, open(path, "rb") as wanted:
            expect_bits(got.read(), wanted.read(), PLAYS)

        time.sleep(SILENCE_S + 0.5)
        still = index(ring)
        time.sleep(0.3)
        harness.check(index(ring) == still, "silence is sent for ever")
        play(guest, path)
        harness.check(index(ring) != still, "nothing is sent after a silence")

        harness.check(process.end() == 0, f"it did not end in order:\n{process.log()}")
        wait_sinks(guest, "card", "earshot")
        wait_default(guest, "card")
        harness.check(index(ring) == 0, "the ring was not closed")

        # Who chose another output meanwhile keeps it.
        process = capture(guest, "--shm", ring, name="chosen")
        wait_ready(guest, process, name="earshot-2")
        choose(guest, "earshot")
        harness.check(process.end() == 0, "it did not end in order")
        wait_default(guest, "earshot")


def deaf(kind):
    """A connection without effect is replaced; the output that it made is not."""
    with pulse.session(kind) as guest:
        guest.start_server()
        guest.sink("card")
        choose(guest, "card")
        shim = shutil.copy(harness.built("libdeaf_connection_shim.so"), guest.directory)  # takes no path with a space
        process = capture(guest, "--shm", guest.ring(), LD_PRELOAD=shim)
        harness.wait_for("an output", lambda: "earshot" in sinks(guest))
        made = guest.list("sinks")
        wait_ready(guest, process)
        harness.check("again" not in process.log(), f"gave up:\n{process.log()}")
        now = {sink["name"]: sink["index"] for sink in guest.list("sinks")}
        harness.check(now == {sink["name"]: sink["index"] for sink in made}, f"another output: {now}")
        harness.check(process.end() == 0, f"it did not end in order:\n{process.log()}")
        wait_sinks(guest, "card")
        wait_default(guest, "card")


def test():
    kind, scenario = sys.argv[1:]
    harness.need("pacat")
    {"heard": heard, "left": left, "deaf": deaf}[scenario](kind)


harness.main(test)
