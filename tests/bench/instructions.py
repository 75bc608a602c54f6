# SPDX-License-Identifier: MIT
"""How many instructions a frame takes, and whose they are: the whole program plays a stereo guest (48 kHz, 16 bit) in real
time under callgrind, into the simulated device of backend null at a quantum of 256. Counted are the instructions of all
its threads outside the kernel, from a moment when it plays steadily, for some seconds; each belongs to the library or
program whose code it is (what libsamplerate calls is not libsamplerate). Counts do not depend on the machine's load.

instructions.py [--seconds S] [TRANSPORT:QUALITY:BITS ...]
"""

import argparse
import glob
import os
import re
import time

import figures
import harness

RATE = 48000
SETTLE_S = 8
SHARE_MAX = 0.25  # of all but libsamplerate, at the quality "medium"
CASES = ("shm:medium:16", "udp:medium:16", "shm:fastest:16", "shm:medium:24", "shm:medium:32")
QUICK_CASES = CASES[:2]


def read_profile(path):
    """({object: instructions}, {(object, function): instructions}), each its own, without what it calls."""
    names = {}

    def name(text):
        number, _, rest = text.partition(" ")
        return names.setdefault((kind, number), rest)

    objects, functions = {}, {}
    skip = False
    ob = fn = ""
    with open(path) as lines:
        for line in lines:
            line = line.rstrip("\n")
            if re.match(r"[\d+*-]", line):
                if not skip:
                    cost = int(line.split()[1])
                    objects[ob] = objects.get(ob, 0) + cost
                    functions[ob, fn] = functions.get((ob, fn), 0) + cost
                skip = False
                continue
            key, is_assignment, text = line.partition("=")
            if not is_assignment:
                continue
            kind = key[1:] if key in ("cob", "cfn") else key
            if kind in ("ob", "fn"):
                value = name(text)
                if key == "ob":
                    ob = os.path.basename(value)
                elif key == "fn":
                    fn = value
            skip = key == "calls"  # the line behind it is what the called one took
    return objects, functions


def count(session, case, seconds):
    transport, quality, bits = case.split(":")
    if transport == "shm":
        reads, writes = ["-m", session.ring(case.replace(":", "-"))], ["--shm", session.ring(case.replace(":", "-"))]
    else:
        port = harness.free_port()
        reads, writes = ["-u", "-p", str(port)], ["--udp", f"127.0.0.1:{port}"]
    session.guest(*writes, "--bits", bits, "--channels", 2, name=f"guest-{case.replace(':', '-')}")
    # callgrind_control's own name: it looks for the process by it.
    out = os.path.join(session.directory, f"callgrind-{case.replace(':', '-')}")
    process = session.spawn(f"valgrind-{case.replace(':', '-')}", [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", harness.built("earshot"), *reads,
        "-o", "null", "-d", "period=256", "-t", "250", "-q", quality])
    time.sleep(SETTLE_S)
    session.run("callgrind_control", "-i", "on", str(process.pid), seconds=20)
    began_ns = harness.now_ns()
    time.sleep(seconds)
    session.run("callgrind_control", "-i", "off", str(process.pid), seconds=20)
    lasted_s = (harness.now_ns() - began_ns) / 1e9
    status = (session.status() or [{}])[0]
    harness.check(process.end(seconds=20) == 0, f"{case}: it did not end in order:\n{process.log()}")
    session.processes[-2].end()
    parts = glob.glob(f"{out}*")
    harness.check(parts, f"{case}: callgrind wrote nothing")
    objects, functions = {}, {}
    for part in parts:
        some_objects, some_functions = read_profile(part)
        for whole, some in ((objects, some_objects), (functions, some_functions)):
            for key, cost in some.items():
                whole[key] = whole.get(key, 0) + cost
    total = sum(objects.values())
    harness.check(total > 0, f"{case}: nothing was counted")
    rest = total - sum(cost for name, cost in objects.items() if name.startswith("libsamplerate"))
    frames = lasted_s * RATE
    top = sorted(((cost, ob, fn) for (ob, fn), cost in functions.items() if not ob.startswith("libsamplerate")), reverse=True)
    row = {"case": case, "transport": transport, "quality": quality, "bits": int(bits), "seconds": lasted_s,
           "per_frame": total / frames, "rest_per_frame": rest / frames, "share": rest / total,
           "underruns": status.get("underruns"), "objects": {name: cost / frames for name, cost in objects.items()},
           "top": [{"function": fn, "object": ob, "per_frame": cost / frames} for cost, ob, fn in top[:8]]}
    print(f"{case}: {row['per_frame']:.0f} instructions a frame, {row['rest_per_frame']:.1f} of them ({100 * row['share']:.2f} %) "
          f"not libsamplerate's", flush=True)
    for one in row["top"]:
        print(f"    {one['per_frame']:7.2f}  {one['function']} [{one['object']}]")
    return row


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10 if figures.QUICK else 20)
    parser.add_argument("cases", nargs="*", metavar="TRANSPORT:QUALITY:BITS")
    options = parser.parse_args()
    harness.need("valgrind", "callgrind_control")
    rows = []
    with harness.Session() as session:
        for case in options.cases or (QUICK_CASES if figures.QUICK else CASES):
            rows.append(count(session, case, options.seconds))
    if not options.cases:
        figures.save("instructions", rows, share_max=SHARE_MAX)
    missed = [row["case"] for row in rows if row["quality"] == "medium" and row["share"] > SHARE_MAX]
    harness.check(not missed, f"more than {100 * SHARE_MAX:.0f} % of the instructions are not libsamplerate's: {missed}")


if __name__ == "__main__":
    harness.main(test, attempts=1)
