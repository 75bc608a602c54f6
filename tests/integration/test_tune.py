# SPDX-License-Identifier: MIT
"""`earshot tune` while a guest plays: status and what is heard have the new latency, without a break in the tone; the period
follows where less than the present one allows is asked for. What cannot be is said, with the exit status that the manual
has."""

import subprocess
import time

import harness

BEFORE_MS, AFTER_MS = 150, 140  # above the machine's own stalls
SMALL_MS = 30  # a millisecond and more above what that can be
LEAST_MS = 25  # 20 ms of chunk, and less than PipeWire's usual two periods of 5.3 ms leave
MOVE_S = (BEFORE_MS - AFTER_MS) / 3.0
QUANTUM = 256
TOLERANCE_MS = 1.5
SETTLED_MS = 0.7
STAYS_S = 2
SETTLE_S = 35  # ten seconds until it knows the clocks; what a busy machine has disturbed meanwhile, the slow loop mends


def tune(session, *args, status=0):
    """What it says, on standard output or, where it fails, as an error."""
    done = subprocess.run([harness.built("earshot"), "tune", *args], env=session.env, capture_output=True, text=True,
                          timeout=20, check=False)
    harness.check(done.returncode == status, f"tune {args}: {done.returncode}, {done.stdout}{done.stderr}")
    said = done.stderr if status else done.stdout
    print(said.rstrip(), flush=True)
    harness.check(bool(said) and not (done.stdout if status else done.stderr), f"tune {args}: {done}")
    return said


def settle(session, target_ms):
    """Until it has been at its target for a while: on the way it may only pass there. Returns its status."""
    since_s = None

    def stays():
        nonlocal since_s
        stream = session.status("vm")
        if not stream or not stream["locked"] or stream["target_ms"] != target_ms or \
                abs(stream["latency_ms"]["total"] - target_ms) >= SETTLED_MS:
            since_s = None
            return None
        since_s = since_s or time.monotonic()
        return stream if time.monotonic() - since_s >= STAYS_S else None

    return harness.wait_for(f"a latency of {target_ms} ms", stays, SETTLE_S)


def expect_refusals(session):
    for args, status, words in ((("vm", "latency=20ms"), 2, ("20ms", "auto or milliseconds")),
                                (("vm", "latency=1001"), 2, ("1001", "from 0 to 1000")),
                                (("vm", "latency"), 2, ("KEY=VALUE",)), (("vm",), 2, ("latency=20",)),
                                (("vm", "lateny=20"), 2, ("lateny", "latency")),
                                (("vm", "port=4011"), 2, ("port", "latency")),
                                (("mv", "latency=20"), 1, ("mv", "earshot status")),
                                (("silent", "latency=20"), 1, ("not been heard",))):
        said = tune(session, *args, status=status)
        harness.check(said.count("\n") == 1 and all(word in said for word in words), f"tune {args}: {said}")


def test():
    with harness.Session() as session:
        tune(session, "vm", "latency=20", status=1)
        session.start_server()
        session.sink()
        capture = session.capture().wait_running()
        guest, log = session.guest("--shm", session.ring())
        session.config("vm", shm=session.ring(), backend="pipewire", latency=BEFORE_MS)
        session.config("silent", shm=session.ring("silent"), backend="pipewire")
        earshot = session.witnessed()
        settle(session, BEFORE_MS)
        from_ns = harness.now_ns()
        expect_refusals(session)
        time.sleep(2)
        asked_ns = harness.now_ns()
        said = tune(session, "vm", f"latency={AFTER_MS}")
        harness.check(f"latency = {AFTER_MS}" in said and "vm.conf" in said, said)
        stream = settle(session, AFTER_MS)
        there_ns = harness.now_ns()
        time.sleep(3)
        end_ns = harness.now_ns()
        capture.stop()
        quantum = round(stream["latency_ms"]["quantum"] * 48)
        harness.check(stream["resyncs"] == 0, f"it jumped: {stream}")
        for what, latency_ms, span in (("before", BEFORE_MS, {"from_ns": from_ns, "to_ns": asked_ns}),
                                       ("after", AFTER_MS, {"from_ns": there_ns, "to_ns": end_ns})):
            expected_ms = harness.monitor_ms(latency_ms, 20, quantum)
            result = capture.analyse(log, expect_ms=expected_ms, **span)
            print(f"{what}: {harness.describe(result)}, quantum {quantum}, status {latency_ms}")
            harness.expect_latency(result, expected_ms, TOLERANCE_MS, what)
        result = capture.analyse(log, expect_ms=harness.monitor_ms(AFTER_MS, 20, quantum), from_ns=from_ns,
                                 to_ns=end_ns)
        harness.expect_clean(result, MOVE_S + 3, "all the way")

        # What the present period has room for leaves the period alone; less than that, and PipeWire is asked for another.
        tune(session, "vm", f"latency={SMALL_MS}")
        small = session.status("vm")
        harness.check(small["target_ms"] == SMALL_MS and small["latency_ms"]["quantum"] == stream["latency_ms"]["quantum"],
                      f"{SMALL_MS} ms: {small}")
        tune(session, "vm", f"latency={LEAST_MS}")
        least = session.status("vm")
        harness.check(least["target_ms"] == LEAST_MS and least["latency_ms"]["quantum"] < stream["latency_ms"]["quantum"],
                      f"{LEAST_MS} ms: {least}")
        # What cannot be had is said, and plays as auto.
        harness.check("cannot be had" in tune(session, "vm", "latency=5"), "5 ms")
        tune(session, "vm", "latency=auto", "max-latency=90")
        guest.end()
        harness.check(earshot.end() == 0, "the receiver did not end in order")
        # It was for as long as that ran.
        session.guest("--shm", session.ring(), name="again")
        session.earshot(name="restarted")
        harness.wait_for("the file's latency", lambda: (session.status("vm") or {}).get("target_ms") == BEFORE_MS, 20)


harness.main(test)
