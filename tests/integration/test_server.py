# SPDX-License-Identifier: MIT
"""The sound server comes late, and dies while a guest plays: sound within two seconds of there being a sink."""

import time

import harness

LATENCY_MS = 100
SOUND_NS = 2000000000


def expect_sound(session, log, sink_ns, what):
    capture = session.capture().wait_running()
    time.sleep(5.5)
    capture.stop()
    result = capture.analyse(log, expect_ms=LATENCY_MS - 20)
    print(f"{what}: {harness.describe(result)}, {(result['tone_from_ns'] - sink_ns) / 1e9:.2f} s after the sink")
    harness.check(result["tone_from_ns"] and result["tone_from_ns"] - sink_ns < SOUND_NS, f"{what}: no sound in time")
    settled = capture.analyse(log, expect_ms=LATENCY_MS - 20, from_ns=sink_ns + SOUND_NS)
    harness.expect_clean(settled, 2.5, what)
    harness.expect_latency(settled, LATENCY_MS - 20, 5, what)


def start(session):
    session.start_server(quantum=256)
    session.sink()
    return harness.now_ns()


def test():
    with harness.Session() as session:
        earshot = session.earshot("-m", session.ring(), "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS, "-n", "vm1")
        _, log = session.guest("--shm", session.ring())
        time.sleep(2)
        harness.check(earshot.running(), "the receiver did not wait for a server")
        harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
        expect_sound(session, log, start(session), "a server that comes late")

        session.kill_server()
        time.sleep(1.5)
        harness.check(earshot.running(), "the receiver died with the server")
        harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
        expect_sound(session, log, start(session), "a server that was killed")
        harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")
        harness.check(earshot.end() == 0, "the receiver did not end in order")


harness.main(test)
