# SPDX-License-Identifier: MIT
"""The judge on the real monitor path, without Earshot: a bare stream with known faults. What this does not pass, no
other result here means anything."""

import os
import time

import harness


def play(session, quantum, skip_every, skip):
    log = os.path.join(session.directory, "player.deliveries")
    player = session.spawn("player", [harness.built("earshot-tone-player"), "testsink", str(harness.TONE_HZ),
                                      f"{quantum}/48000", log, str(skip_every), str(skip)])
    capture = session.capture().wait_running()
    time.sleep(4)
    capture.stop()
    harness.check(player.end() == 0, "the player failed")
    return capture.analyse(log, expect_ms=0)


def test():
    with harness.Session() as session:
        session.start_server()
        session.sink()
        for quantum in (128, 256, 1024):
            session.setting("clock.force-quantum", quantum)
            result = play(session, quantum, 0, 0)
            harness.expect_clean(result, 3, f"quantum {quantum}")
            # A quantum: see harness.UNTOLD_QUANTA.
            harness.check(abs(result["drift_ppm"]) < 1, "the monitor drifts")
            harness.expect_latency(result, quantum / 48, 0.05, "clean")
        for skip in (1, 480):
            result = play(session, 1024, 24000, skip)
            print(f"{skip} frames skipped each 24000: {harness.describe(result)}", flush=True)
            found = [event for event in result["events"] if not event["near_loss"]]
            harness.check(6 <= len(found) <= 9, f"{len(found)} steps found of some 8")
            for event in found:
                harness.check(abs(event["frames"] - skip) < 0.3, f"a step of {event['frames']} frames, not {skip}")


harness.main(test)
