# SPDX-License-Identifier: MIT
"""Surround arrives channel by channel: the guest plays N times 200 Hz on its Nth channel, and the sink's speaker of
the same name must play it, and nothing else."""

import time

import harness

HZ = 200
LEVEL = 10 ** (-1 / 20)
# What the guest says, and the sink's speakers in another order than the guest's where that can be.
LAYOUTS = (
    ("quad", 0x33, "FL FR RL RR", "FL,FR,RL,RR", (1, 2, 3, 4)),
    ("5.1", 0x3F, "FL FR FC LFE RL RR", "FL,FR,FC,LFE,RL,RR", (1, 2, 3, 4, 5, 6)),
    ("5.1 reordered", 0x3F, "FL FR RL RR FC LFE", "FL,FR,RL,RR,FC,LFE", (1, 2, 5, 6, 3, 4)),
    ("5.1 side", 0x60F, "FL FR FC LFE SL SR", "FL,FR,FC,LFE,SL,SR", (1, 2, 3, 4, 5, 6)),
    ("7.1", 0x63F, "FL FR FC LFE RL RR SL SR", "FL,FR,FC,LFE,RL,RR,SL,SR", (1, 2, 3, 4, 5, 6, 7, 8)),
)


def test():
    with harness.Session() as session:
        session.start_server(quantum=256)
        lanes = []
        for i, (title, mask, positions, order, expected) in enumerate(LAYOUTS):
            sink = session.sink(f"sink{i}", positions)
            session.earshot("-m", session.ring(sink), "-o", "pipewire", "-d", sink, "-t", 250, name=f"earshot{i}")
            session.guest("--shm", session.ring(sink), "--channels", len(expected), "--mask", mask, "--per-channel",
                          hz=HZ, name=f"guest{i}")
            lanes.append((title, session.capture(sink, positions=order).wait_running(), expected))
        time.sleep(4)
        for title, capture, expected in lanes:
            capture.stop()
            found = capture.analyse(per_channel=HZ, from_ns=harness.now_ns() - 2500000000)["channels"]
            print(f"{title}: {[(channel['multiple'], round(channel['level'], 3)) for channel in found]}", flush=True)
            harness.check(tuple(channel["multiple"] for channel in found) == expected, f"{title}: channels misplaced")
            for channel in found:
                level, other = channel["level"], channel["next_level"]
                harness.check(abs(level - LEVEL) < 0.02, f"{title}: level {level:.3f}")
                harness.check(other < 0.005, f"{title}: {other:.3f} of another channel")


harness.main(test)
