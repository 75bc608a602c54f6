# SPDX-License-Identifier: MIT
"""What people do to a sink while a guest plays.

test_sink.py moved      the stream is moved to another sink, as pavucontrol does
             suspended  the sink is suspended
             corked     the guest pauses, and plays on
"""

import sys
import time

import harness

LATENCY_MS = 100
EXPECT_MS = harness.monitor_ms(LATENCY_MS, 20, 256)
HEALED_NS = 1500000000


def play(session, *guest):
    session.start_server(quantum=256)
    session.sink()
    session.earshot("-m", session.ring(), "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS, "-n", "vm1")
    return session.guest("--shm", session.ring(), *guest)


def expect_healed(result, seconds, what):
    """Clean, at the latency it was to have."""
    harness.expect_clean(result, seconds, what)
    harness.expect_latency(result, EXPECT_MS, 5, what)


def moved(session):
    guest, log = play(session)
    session.sink("other")
    first = session.capture("testsink").wait_running()
    second = session.capture("other").wait_running()
    time.sleep(4)
    moved_ns = harness.now_ns()
    stream = harness.wait_for("the stream", lambda: session.node("vm1"))
    target = session.node("other")["info"]["props"]["object.serial"]
    session.run("pw-metadata", str(stream["id"]), "target.object", str(target))
    time.sleep(5)
    first.stop()
    second.stop()
    guest.end()
    expect_healed(first.analyse(log, expect_ms=EXPECT_MS, to_ns=moved_ns), 3, "before the move")
    result = second.analyse(log, expect_ms=EXPECT_MS, from_ns=moved_ns)
    print(f"on the other sink: {harness.describe(result)}")
    harness.check(result["tone_from_ns"] and result["tone_from_ns"] - moved_ns < HEALED_NS,
                  "not heard on the other sink in time")
    expect_healed(second.analyse(log, expect_ms=EXPECT_MS, from_ns=moved_ns + HEALED_NS), 3, "after the move")
    harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")


def suspended(session):
    guest, log = play(session)
    capture = session.capture(passive=True).wait_running()
    time.sleep(4)
    at_ns = harness.now_ns()
    session.run("pw-cli", "send-command", str(session.sinks["testsink"]), "Suspend", "{}")
    time.sleep(5)
    capture.stop()
    guest.end()
    expect_healed(capture.analyse(log, expect_ms=EXPECT_MS, to_ns=at_ns), 3, "before the suspend")
    expect_healed(capture.analyse(log, expect_ms=EXPECT_MS, from_ns=at_ns + HEALED_NS), 3, "after the suspend")


def corked(session):
    guest, log = play(session, "--pause-every", 4, "--pause", 2500)
    capture = session.capture().wait_running()

    def state():
        return (session.status("vm1") or {}).get("state")

    harness.wait_for("the guest to play", lambda: state() == "playing", 4)
    harness.wait_for("the stream to be idle", lambda: state() == "idle", 6)
    harness.check(session.stream_names() == ["vm1"], "the stream left the mixer")
    idle_ns = harness.now_ns()
    harness.wait_for("the guest to play on", lambda: state() == "playing", 4)
    resumed_ns = harness.now_ns()
    time.sleep(3.5)
    capture.stop()
    guest.end()
    expect_healed(capture.analyse(log, expect_ms=EXPECT_MS, to_ns=idle_ns - 600000000), 2, "before the pause")
    result = capture.analyse(log, expect_ms=EXPECT_MS, from_ns=idle_ns)
    first_ms = (result["tone_from_ns"] - resumed_ns) / 1e6
    print(f"after the pause: {harness.describe(result)}; first whole tone {first_ms:.0f} ms after status said so")
    harness.check(result["latency_all"]["count"] > 100, "the guest is not heard again")
    # Heard from its first chunk on: that is what the log has it publish first after the pause.
    first = [line.split() for line in open(log) if not line.startswith("#")]
    after = next(int(line[1]) for line in first if int(line[1]) > idle_ns)
    harness.check(result["tone_from_ns"] - after < 500000000, "the guest's first half second is not heard")
    expect_healed(capture.analyse(log, expect_ms=EXPECT_MS, from_ns=resumed_ns + 1000000000), 2, "a second later")


def test():
    with harness.Session() as session:
        {"moved": moved, "suspended": suspended, "corked": corked}[sys.argv[1]](session)


harness.main(test)
