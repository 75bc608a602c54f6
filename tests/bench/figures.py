# SPDX-License-Identifier: MIT
"""What the scripts here share: the tests' harness within reach, and figures as JSON in the build's bench/, one file a
section of doc/BENCHMARKS.md."""

import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(HERE, "../integration"))
import harness  # noqa: E402

QUICK = bool(os.environ.get("EARSHOT_BENCH_QUICK"))  # the whole in ten minutes instead of an hour


def path(name):
    directory = os.path.join(harness.build_dir(), "bench")
    os.makedirs(directory, exist_ok=True)
    return os.path.abspath(os.path.join(directory, name))


def output(*argv):
    """What a program prints, or nothing where it is missing."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def commit():
    changed = output("git", "status", "--porcelain", "-uno", "--", ".", ":!doc")
    return (output("git", "rev-parse", "--short", "HEAD") or "unknown") + (" and changes" if changed else "")


def cpu():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}"


def save(section, rows, **more):
    """What was measured. `more`: limits, settings; measured: when, where that was not now."""
    record = {"measured": time.strftime("%Y-%m-%d %H:%M"), "commit": commit(), "cpu": cpu(), "quick": QUICK, **more,
              "rows": rows}
    with open(path(f"{section}.json"), "w") as file:
        json.dump(record, file, indent=1)


def load(section):
    try:
        with open(path(f"{section}.json")) as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def median(values):
    return sorted(values)[len(values) // 2]
