# SPDX-License-Identifier: MIT
"""The judge on the real monitor path: a bare stream with known faults, then Earshot with a fault of its own. What this
does not pass, no other result here means anything."""

import os
import time

import harness

QUANTUM = 256  # Earshot's


def play(session, quantum, *skips):
    """The players of these (skip_every, skip), all at once. Returns what is found of each."""
    players = []
    for i, (skip_every, skip) in enumerate(skips):
        name, sink = f"player{quantum}-{i}", session.sink(f"sink{quantum}-{i}")
        log = os.path.join(session.directory, f"{name}.deliveries")
        player = session.spawn(name, [harness.built("earshot-tone-player"), sink, str(harness.TONE_HZ),
                                      f"{quantum}/48000", log, str(skip_every), str(skip)])
        players.append((player, session.capture(sink).wait_running(), log))
    time.sleep(4)
    for player, capture, _ in players:
        capture.stop()
        harness.check(player.end() == 0, "the player failed")
    return [capture.analyse(log, expect_ms=0) for _, capture, log in players]


def faulty():
    """Earshot that throws every 200th pull away: that it writes down when it was asked does not excuse it."""
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        capture = session.capture(session.sink()).wait_running()
        session.witnessed("-m", session.ring(), "-o", "pipewire", "-d", "testsink", "-t", 250, EARSHOT_PULLS_FAULT="200")
        _, log = session.guest("--shm", session.ring())
        time.sleep(6)
        result = capture.stop().analyse(log, expect_ms=harness.monitor_ms(250, 20, QUANTUM))
        print(f"Earshot with a fault: {harness.describe(result)}", flush=True)
        harness.check(result["judged_events"] >= 2, f"{result['judged_events']} faults found of some 5")


def test():
    skips = (1, 480)
    with harness.Session() as session:
        session.start_server()
        for quantum in (128, 256, 1024):
            session.setting("clock.force-quantum", quantum)
            result, *skipped = play(session, quantum, (0, 0), *((24000, skip) for skip in skips if quantum == 1024))
            harness.expect_clean(result, 3, f"quantum {quantum}")
            # A quantum: see harness.UNTOLD_QUANTA.
            harness.check(abs(result["drift_ppm"]) < 1, "the monitor drifts")
            harness.expect_latency(result, quantum / 48, 0.05, "clean")
        for skip, result in zip(skips, skipped):
            print(f"{skip} frames skipped each 24000: {harness.describe(result)}", flush=True)
            found = [event for event in result["events"] if not event["near_loss"]]
            harness.check(6 <= len(found) <= 9, f"{len(found)} steps found of some 8")
            for event in found:
                harness.check(abs(event["frames"] - skip) < 0.3, f"a step of {event['frames']} frames, not {skip}")
    faulty()


harness.main(test)
