# SPDX-License-Identifier: MIT
"""The program's own cost, without a sound server: so many guests over shared memory, each written by a process of its
own, into the simulated device of backend null; playing, and half a minute after the guests have ended. Beside it what
as many resamplers cost alone, so that the machine's own speed can be told from the program's.

streams.py [--guests N ...] [--seconds S] [--qualities NAME ...] [--no-idle]
"""

import argparse

import figures
import harness
from cpu import IDLE_SETTLE_S, KNOWN_S, measure

PERIOD = 256
ARITHMETIC_S = 5
LIMIT_GUESTS = 64
LIMIT_PERCENT = 45.0  # of a core, at the quality "fastest"


def arithmetic(session, count, quality):
    """Percent of a core that so many resamplers take, and nothing else, while the guests' own processes run as well."""
    cost = session.run(harness.built("earshot-resampler-cost"), quality, str(PERIOD), str(count), str(ARITHMETIC_S),
                       seconds=4 * ARITHMETIC_S + 30)
    return float(cost) * count


def playing(session, count, quality, options):
    """Its row; by then the guests have ended."""
    guests = []
    for i in range(count):
        name = f"guest{i}"
        session.config(name, shm=session.ring(name), backend="null", target=f"period={PERIOD}", latency=60, quality=quality)
        guests.append(session.guest("--shm", session.ring(name), "--jitter", 2, name=name)[0])
    earshot = session.earshot()
    harness.wait_for("the streams", lambda: len([s for s in session.status() or () if s["frames"] > 0]) == count, 30)
    percent, wakeups, parts = measure(earshot, options.seconds, settle=KNOWN_S)
    alone = arithmetic(session, count, quality)
    underruns = sum(stream["underruns"] for stream in session.status())
    row = {"guests": count, "quality": quality, "percent": percent, "wakeups": wakeups, "underruns": underruns,
           "arithmetic": alone}
    print(f"  {count:2} guests, {quality}: {percent:.2f} % of a core, {percent / count:.3f} % each, "
          f"{wakeups:.0f} wake-ups a second, {underruns} drop-outs; resamplers alone {alone:.2f} %\n          {parts}", flush=True)
    for guest in guests:
        guest.end()
    if not options.no_idle and quality == "fastest":
        percent, wakeups, parts = measure(earshot, options.seconds, settle=IDLE_SETTLE_S)
        row.update(idle_percent=percent, idle_wakeups=wakeups)
        print(f"     nothing to play: {percent:.3f} % of a core, {wakeups:.1f} wake-ups a second\n          {parts}", flush=True)
    earshot.end()
    return row


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--guests", type=int, nargs="+",
                        default=[1, LIMIT_GUESTS] if figures.QUICK else [1, 2, 4, 8, 16, 32, LIMIT_GUESTS])
    parser.add_argument("--seconds", type=int, default=10 if figures.QUICK else 15)
    parser.add_argument("--qualities", nargs="+", default=["fastest"] if figures.QUICK else ["fastest", "medium"],
                        choices=("fastest", "medium", "best"))
    parser.add_argument("--no-idle", action="store_true", help="playing only")
    options = parser.parse_args()
    rows = []
    for quality in options.qualities:
        for count in options.guests:
            with harness.Session() as session:
                rows.append(playing(session, count, quality, options))
    figures.save("streams", rows, limit_guests=LIMIT_GUESTS, limit_percent=LIMIT_PERCENT)
    harness.check(not any(row["guests"] == LIMIT_GUESTS and row["quality"] == "fastest" and
                          row["percent"] >= LIMIT_PERCENT for row in rows),
                  f"{LIMIT_GUESTS} streams take {LIMIT_PERCENT} % of a core or more")


if __name__ == "__main__":
    harness.main(test, attempts=1)
