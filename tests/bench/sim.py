# SPDX-License-Identifier: MIT
"""The figures that need no machine: distortion of each quality, lock times and simulated days, from earshot-sim's table of
gates. All of it over 20 seeds takes an hour of processor time: a table that is newer than the program is used again.

sim.py [--again | --table FILE]

FILE: what earshot-sim --all printed elsewhere, over 20 seeds and --long.
"""

import argparse
import os
import re
import subprocess
import time

import figures
import harness

DONE = re.compile(r"\d+ trials, \d+ gates, \d+ failed")
ROW = re.compile(r"(ok|FAIL)\s+(.+?)\s{2,}(.+?)\s+(-?[\d.]+|-?inf|-?nan) \.\. (-?[\d.]+|-?inf|-?nan)")
STEADY = "shm tick 10.0 ms +500 ppm"
# Without the days, and of the rest what the sections want: (file, arguments)
QUICK_RUNS = (("quick-steady.txt", ("--seeds", "1", "--quick", "--only", "500 ppm")), ("quick-thd.txt", ("--seeds", "1", "--only", "THD")))
FULL_RUNS = (("sim.txt", ("--seeds", "20", "--long")),)


def run(name, arguments, again):
    """The table, and when it was made."""
    program, table = harness.built("earshot-sim"), figures.path(name)
    fresh = os.path.exists(table) and os.path.getmtime(table) > os.path.getmtime(program)
    if not fresh or again:
        with open(f"{table}.new", "w") as out:
            failed = subprocess.run([program, *arguments, "--all"], stdout=out).returncode
        harness.check(failed in (0, 1), f"earshot-sim ended with {failed}")
        os.rename(f"{table}.new", table)
    return read(table)


def read(table):
    """As run()."""
    with open(table) as lines:
        text = lines.read()
    done = DONE.search(text)
    harness.check(done, f"{table} is not complete")
    made = os.path.getmtime(table)
    print(f"{done[0]}, {os.path.basename(table)} of {time.strftime('%H:%M', time.localtime(made))}", flush=True)
    return text, made


def rows(text):
    """{trial: {gate: (low, high)}} over the seeds; fails where a gate did."""
    trials, failed = {}, []
    for line in text.splitlines():
        match = ROW.match(line)
        if match:
            verdict, trial, gate, low, high = match.groups()
            trials.setdefault(trial, {})[gate] = (float(low), float(high))
            if verdict == "FAIL":
                failed.append(f"{trial}: {gate}")
    harness.check(not failed, f"gates failed: {failed}")
    return trials


def curve():
    """The fill and its target of one steady trial, for the plot."""
    trial = "_".join(re.split(r"[ +%,/]", STEADY)) + ".csv"
    subprocess.run([harness.built("earshot-sim"), "--seeds", "1", "--only", STEADY, "--csv", figures.path("")],
                   stdout=subprocess.DEVNULL, check=False)
    harness.check(os.path.exists(figures.path(trial)), f"no {trial}")
    os.replace(figures.path(trial), figures.path("lock.csv"))


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--again", action="store_true", help="run the simulator also where its table is new enough")
    parser.add_argument("--table", metavar="FILE", help="a table that was made elsewhere")
    options = parser.parse_args()
    quick = figures.QUICK and not options.table
    runs = QUICK_RUNS if quick else FULL_RUNS
    tables = [read(options.table)] if options.table else [run(*one, options.again) for one in runs]
    curve()
    trials = rows("".join(text for text, _ in tables))
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(made for _, made in tables)))
    seeds = 1 if quick else 20
    for section, chosen in (("quality", "THD+N"), ("lock", "tick"), ("days", "24 h")):
        found = [{"trial": trial, "gates": gates} for trial, gates in trials.items() if chosen in trial]
        if found:
            figures.save(section, found, measured=when, quick=quick, seeds=seeds)


if __name__ == "__main__":
    harness.main(test, attempts=1)
