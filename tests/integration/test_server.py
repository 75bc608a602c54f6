# SPDX-License-Identifier: MIT
"""The sound server comes late, and dies while a guest plays: sound within two seconds of there being a sink."""

import time

import harness

LATENCY_MS = 100
EXPECT_MS = harness.monitor_ms(LATENCY_MS, 20, 256)
CAUGHT_UP_NS = 2500000000  # what the guest said meanwhile may be heard first


def start(session):
    """A server with a sink. Returns the capture of it, and since when the sink is there."""
    session.start_server(quantum=256)
    session.sink()
    sink_ns = harness.now_ns()
    capture = session.capture().wait_running()
    time.sleep(7)
    return capture.stop(), sink_ns


def expect_sound(capture, sink_ns, log, what):
    result = capture.analyse(log, expect_ms=EXPECT_MS)
    print(f"{what}: {harness.describe(result)}, {(result['tone_from_ns'] - sink_ns) / 1e9:.2f} s after the sink")
    harness.check(result["tone_from_ns"], f"{what}: no sound")
    harness.fault_row(f"PipeWire: {what}", "state no-server; the stream is there again as soon as a sink is",
                      (result["tone_from_ns"] - sink_ns) / 1e9, harness.SERVER_BACK_S)
    settled = capture.analyse(log, expect_ms=EXPECT_MS, from_ns=result["tone_from_ns"] + CAUGHT_UP_NS)
    harness.expect_clean(settled, 2.5, what)
    harness.expect_latency(settled, EXPECT_MS, 5, what)


def test():
    with harness.Session() as session:
        earshot = session.witnessed("-m", session.ring(), "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS,
                                  "-n", "vm1")
        guest, log = session.guest("--shm", session.ring())
        time.sleep(2)
        harness.check(earshot.running(), "the receiver did not wait for a server")
        harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
        late = start(session)

        session.kill_server()
        time.sleep(1.5)
        harness.check(earshot.running(), "the receiver died with the server")
        harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
        again = start(session)
        harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")
        guest.end()
        harness.check(earshot.end() == 0, "the receiver did not end in order")
        expect_sound(*late, log, "it comes later than Earshot")
        expect_sound(*again, log, "it is killed and started again")


harness.main(test)
