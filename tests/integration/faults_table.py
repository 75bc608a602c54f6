# SPDX-License-Identifier: MIT
"""FAULTS.md from what the tests recorded when they last ran: faults_table.py BUILD_DIR [OUTPUT]

faults_table.py BUILD_DIR --keep    What was not recorded now stays as FAULTS.md has it.
faults_table.py BUILD_DIR --check   Writes nothing; fails where a limit is broken, in what was recorded or in FAULTS.md,
                                    and where a fault that was recorded is not in FAULTS.md.
"""

import json
import os
import re
import sys

import harness

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "FAULTS.md")
NEVER = "it never went"

# What issues no row, because it is not about sound that comes back, and where it is held.
ELSEWHERE = (
    ("SIGTERM: fades, and is gone within 200 ms", "integration.reload"),
    ("A configuration that makes no sense is refused, the old one plays on", "integration.program_configs"),
    ("systemd's watchdog is served, readiness and reloads are told", "integration.program, integration.program_configs"),
    ("A guest scribbles over the whole header while it plays", "integration.hostile_ring"),
    ("A million headers that lie, one after the other", "unit.hostile_rings"),
    ("Sixteen guests at once: none touches another's sound", "integration.many"),
    ("64 senders: none is lost; more are refused, never one that was asked for", "integration.crowd"),
    ("Capturing without the right to: one line with the command", "integration.pcap.faults"),
    ("Packets that the kernel had no room for: counted, and told of", "integration.network.buffer"),
    ("Senders that `--from` leaves out: never heard, counted, named once", "integration.network.chosen"),
    ("Memberships where nobody asks who listens: renewed each minute", "integration.memberships"),
    ("Memberships through links that come, go, and change their addresses", "integration.memberships"),
    ("The host's clock is set while packets come", "unit.packets"),
    ("A header of six bytes is named, once", "unit.source_udp"),
    ("A fault of one guest's, or its configuration's, is nobody else's", "integration.program_configs"),
    ("Devices that are late, ask twice, change their period, lie about their clock", "unit.device_faults"),
    ("Three hours of all faults in random order and the host asleep (20 minutes of it in each run)", "sim.soak"),
)


def recorded(build):
    """[row], each with its test."""
    directory, rows = os.path.join(build, "faults"), []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        with open(os.path.join(directory, name)) as file:
            found = json.load(file)
        if isinstance(found, list):  # not what an earlier version wrote here
            rows += [{**row, "test": name.removesuffix(".json")} for row in found]
    return sorted(rows, key=lambda row: row["fault"].lower())


def write(rows, path):
    lines = ["<!-- SPDX-License-Identifier: MIT -->", "# Faults, and how Earshot gets over them", "",
             "Written by `python3 tests/integration/faults_table.py build` from the integration tests' last run, each of",
             "which fails where its limit is broken. After the cause is gone there is sound within a second; within two",
             "where that was the sound server.", "",
             "| fault | what is seen | sound is back after | limit | test |", "|---|---|---|---|---|"]
    for row in rows:
        back = NEVER if row["back_s"] is None else f"{row['back_s']:.2f} s"
        lines.append(f"| {row['fault']} | {row['seen']} | {back} | {row['limit_s']:g} s | {row['test']} |")
    lines += ["", "What has no such time is held by other tests:", "", "| fault | test |", "|---|---|"]
    lines += [f"| {what} | {test} |" for what, test in ELSEWHERE]
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    print(f"{len(rows)} faults: {path}")


def written():
    """The rows of FAULTS.md."""
    with open(PAGE) as file:
        cells = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in file if line.startswith("| ")]
    return [{"fault": row[0], "seen": row[1], "back_s": None if row[2] == NEVER else float(row[2].split()[0]),
             "limit_s": float(row[3].split()[0]), "test": row[4].rstrip(" |")}
            for row in cells if len(row) == 5 and row[0] != "fault"]


def nameless(fault):
    """Without the numbers: how often and how long is each run's own business."""
    return re.sub(r"[0-9.]+", "N", fault)


def check(build):
    page, failed = written(), 0
    known = {nameless(row["fault"]) for row in page}
    for row in page + recorded(build):
        wrong = []
        if row["limit_s"] not in (harness.BACK_S, harness.SERVER_BACK_S):
            wrong.append(f"a limit of {row['limit_s']:g} s")
        if row["back_s"] is not None and not 0 <= row["back_s"] <= row["limit_s"]:
            wrong.append(f"sound was back after {row['back_s']:.2f} s, not {row['limit_s']:g}")
        if nameless(row["fault"]) not in known:
            wrong.append("is not in FAULTS.md: make it anew")
        for what in wrong:
            print(f"{row['fault']}: {what}")
        failed += len(wrong)
    if not page:
        print("FAULTS.md has no faults")
    sys.exit(1 if failed or not page else 0)


if sys.argv[2:] == ["--check"]:
    check(sys.argv[1])
if sys.argv[2:] == ["--keep"]:
    now = recorded(sys.argv[1])
    known = {nameless(row["fault"]) for row in now}
    kept = [row for row in written() if nameless(row["fault"]) not in known]
    write(sorted(now + kept, key=lambda row: row["fault"].lower()), PAGE)
    sys.exit()
write(recorded(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else PAGE)
