# SPDX-License-Identifier: MIT
"""The program's own cost, without a sound server: so many guests over shared memory, each written by a process of its
own, into the simulated device of backend null.

streams.py [--guests N ...] [--seconds S] [--quality NAME]
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../integration"))
import harness  # noqa: E402
from cpu import measure  # noqa: E402

LIMIT_GUESTS = 64
LIMIT_PERCENT = 45.0  # of a core, at the quality "fastest"


def playing(session, count, options):
    """(percent of a core, wake-ups a second, drop-outs in all, the threads' parts)"""
    guests = []
    for i in range(count):
        name = f"guest{i}"
        session.config(name, shm=session.ring(name), backend="null", target="period=256", latency=60,
                       quality=options.quality)
        guests.append(session.guest("--shm", session.ring(name), "--jitter", 2, name=name)[0])
    earshot = session.earshot()
    harness.wait_for("the streams", lambda: len([s for s in session.status() or () if s["frames"] > 0]) == count, 30)
    percent, wakeups, parts = measure(earshot, options.seconds, settle=5)
    underruns = sum(stream["underruns"] for stream in session.status())
    earshot.end()
    for guest in guests:
        guest.end()
    return percent, wakeups, underruns, parts


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--guests", type=int, nargs="+", default=[1, 16, LIMIT_GUESTS])
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--quality", default="fastest", choices=("fastest", "medium", "best"))
    options = parser.parse_args()
    missed = False
    for count in options.guests:
        with harness.Session() as session:
            percent, wakeups, underruns, parts = playing(session, count, options)
        print(f"  {count:2} guests, {options.quality}: {percent:.2f} % of a core, {percent / count:.3f} % each, "
              f"{wakeups:.0f} wake-ups a second, {underruns} drop-outs\n          {parts}", flush=True)
        missed |= count == LIMIT_GUESTS and options.quality == "fastest" and percent >= LIMIT_PERCENT
    harness.check(not missed, f"{LIMIT_GUESTS} streams take {LIMIT_PERCENT} % of a core or more")


if __name__ == "__main__":
    harness.main(test, attempts=1)
