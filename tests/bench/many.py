# SPDX-License-Identifier: MIT
"""What a further guest costs in the same process: N streams cost at most one and (N - 1) times 1.3 resamplers. What a
resampler costs is measured as one more bare PipeWire stream that does nothing else (earshot-reference), of one context;
what its arithmetic alone costs, among others like it (earshot-resampler-cost), is printed besides. Alternated in rounds,
medians count.

many.py [--guests N] [--rounds N] [--seconds S] [--quality NAME] [--transport shm|udp]
"""

import argparse
import os

import figures
import harness
from cpu import measure
from figures import median

QUANTUM = 256
FACTOR = 1.3


def playing(session, count, options, port):
    """Percent of a core for so many guests, and the threads' parts."""
    guests = []
    for i in range(16):
        path = os.path.join(session.env["HOME"], ".config/earshot", f"guest{i}.conf")
        if os.path.exists(path):
            os.unlink(path)
    for i in range(count):
        name, address = f"guest{i}", f"127.0.1.{i + 1}"
        keys = {"backend": "pipewire", "target": "testsink", "latency": 60, "quality": options.quality}
        if options.transport == "shm":
            session.config(name, shm=session.ring(name), **keys)
            writes = ["--shm", session.ring(name)]
        else:
            session.config(name, unicast="yes", port=port, from_=address, **keys)
            writes = ["--udp", f"127.0.0.1:{port}", "-i", address]
        guests.append(session.guest(*writes, "--jitter", 2, name=name)[0])
    earshot = session.earshot()
    harness.wait_for("the streams", lambda: len(session.stream_names()) == count, 20)
    percent, wakeups, parts = measure(earshot, options.seconds, settle=5)
    earshot.end()
    for guest in guests:
        guest.end()
    print(f"    {count} guest{'s' * (count > 1)}: {percent:.2f} %, {wakeups:.0f} wake-ups a second: {parts}", flush=True)
    return percent


def bare(session, count, options):
    """The same of streams that only resample."""
    reference = session.spawn("reference", [harness.built("earshot-reference"), "testsink", options.quality,
                                            f"{QUANTUM}/48000", str(count)])
    harness.wait_for("the streams", lambda: len(session.stream_names()) == count, 20)
    percent, _, parts = measure(reference, options.seconds, settle=5)
    reference.end()
    print(f"    {count} bare: {percent:.2f} %: {parts}", flush=True)
    return percent


def arithmetic(session, options):
    cost = session.run(harness.built("earshot-resampler-cost"), options.quality, str(QUANTUM), str(options.guests),
                       str(options.seconds), seconds=4 * options.seconds + 30)
    print(f"    a resampler's arithmetic: {float(cost):.3f} %", flush=True)
    return float(cost)


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--guests", type=int, default=16, choices=range(2, 17))
    parser.add_argument("--rounds", type=int, default=1 if figures.QUICK else 3)
    parser.add_argument("--seconds", type=int, default=8 if figures.QUICK else 15)
    parser.add_argument("--quality", default="medium", choices=("fastest", "medium", "best"))
    parser.add_argument("--transport", default="shm", choices=("shm", "udp"))
    options = parser.parse_args()
    further = options.guests - 1
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        session.sink()
        port = harness.free_port()
        rounds = [(playing(session, 1, options, port), playing(session, options.guests, options, port),
                   bare(session, 1, options), bare(session, options.guests, options), arithmetic(session, options))
                  for _ in range(options.rounds)]
        one, every, bare_one, bare_every, alone = (median(values) for values in zip(*rounds))
        resampler = (bare_every - bare_one) / further
        limit = one + further * FACTOR * resampler
        each = (every - one) / further
        good = every <= limit
        print(f"  {'ok     ' if good else 'MISSED '} {options.guests} guests over {options.transport}, "
              f"{options.quality}: {every:.2f} % of a core, at most {limit:.2f}: one {one:.2f}, each further {each:.2f} = "
              f"{each / resampler:.2f} bare streams of {resampler:.2f} = {each / alone:.2f} of {alone:.2f}", flush=True)
    figures.save("many", [{"guests": options.guests, "transport": options.transport, "quality": options.quality, "one": one,
                           "every": every, "each": each, "bare_each": resampler, "arithmetic": alone, "limit": limit}],
                 quantum=QUANTUM, factor=FACTOR)
    harness.check(good, "a further guest costs too much")


if __name__ == "__main__":
    harness.main(test, attempts=1)
