# SPDX-License-Identifier: MIT
"""What people do to a sink while a guest plays.

test_sink.py moved      the stream is moved to another sink, as pavucontrol does
             corked     the guest pauses, and plays on
             suspended  so long that the session manager suspends the sink
"""

import sys
import time

import harness

LATENCY_MS = 100
EXPECT_MS = harness.monitor_ms(LATENCY_MS, 20, 256)
HEALED_NS = 1500000000


def play(session, *guest, properties=""):
    session.start_server(quantum=256)
    session.sink(properties=properties)
    session.witnessed("-m", session.ring(), "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS, "-n", "vm1")
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
    expect_healed(first.analyse(log, expect_ms=EXPECT_MS, to_ns=moved_ns), 2, "before the move")
    result = second.analyse(log, expect_ms=EXPECT_MS, from_ns=moved_ns)
    print(f"on the other sink: {harness.describe(result)}")
    harness.check(result["tone_from_ns"] and result["tone_from_ns"] - moved_ns < HEALED_NS,
                  "not heard on the other sink in time")
    harness.fault_row("PipeWire: the stream is moved to another sink", "a gap", (result["tone_from_ns"] - moved_ns) / 1e9)
    expect_healed(second.analyse(log, expect_ms=EXPECT_MS, from_ns=moved_ns + HEALED_NS), 3, "after the move")
    harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")


def wait_for_state(session, state, seconds):
    harness.wait_for(f"the state {state}", lambda: (session.status("vm1") or {}).get("state") == state, seconds)
    return harness.now_ns()


def paused(session, capture, guest, log, fault, while_idle):
    """The guest has --pause-every 4: judges what is heard before and after its first pause."""
    wait_for_state(session, "playing", 4)
    idle_ns = wait_for_state(session, "idle", 6)
    while_idle()
    harness.check(session.stream_names() == ["vm1"], "the stream left the mixer")
    resumed_ns = wait_for_state(session, "playing", 6)
    time.sleep(3.5)
    capture.stop()
    guest.end()
    expect_healed(capture.analyse(log, expect_ms=EXPECT_MS, to_ns=idle_ns - 600000000), 1.5, "before the pause")
    result = capture.analyse(log, expect_ms=EXPECT_MS, from_ns=idle_ns)
    with open(log) as lines:
        published = [int(line.split()[1]) for line in lines if not line.startswith("#")]
    first_ns = next(ns for ns in published if ns > idle_ns)
    heard_ms = (result["tone_from_ns"] - first_ns) / 1e6
    print(f"after the pause: {harness.describe(result)}; whole {heard_ms:.0f} ms after the guest's first chunk")
    harness.check(0 < heard_ms < 500, "the guest is not heard again in time")
    harness.fault_row(fault, "silence, state idle", heard_ms / 1e3)
    expect_healed(capture.analyse(log, expect_ms=EXPECT_MS, from_ns=resumed_ns + 1000000000), 2, "a second later")


def corked(session):
    guest, log = play(session, "--pause-every", 4, "--pause", 2500)
    capture = session.capture().wait_running()
    paused(session, capture, guest, log, "PipeWire: the guest pauses, its stream is corked", lambda: None)


def suspended(session):
    # As the session manager does it to a sink that nobody plays to, here sooner.
    guest, log = play(session, "--pause-every", 4, "--pause", 4500, properties="session.suspend-timeout-seconds=1")
    capture = session.capture(passive=True).wait_running()
    fault = "PipeWire: the guest pauses for so long that the sink is suspended"
    paused(session, capture, guest, log, fault, lambda: harness.wait_for(
        "the sink to be suspended", lambda: session.node("testsink")["info"]["state"] == "suspended", 4))


def test():
    with harness.Session() as session:
        {"moved": moved, "suspended": suspended, "corked": corked}[sys.argv[1]](session)


harness.main(test)
