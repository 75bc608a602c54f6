# SPDX-License-Identifier: MIT
"""FAULTS.md from what the tests' last run recorded: faults_table.py BUILD_DIR [OUTPUT]"""

import json
import os
import sys


def main():
    directory = os.path.join(sys.argv[1], "faults")
    rows = []
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name)) as file:
            rows.append(json.load(file))
    lines = ["<!-- SPDX-License-Identifier: MIT -->", "# Faults, and how Earshot gets over them", "",
             "Written by `python3 tests/integration/faults_table.py build` from the integration tests' last run.", "",
             "| fault | what is seen | sound is back after | limit |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["fault"].lower()):
        back = "it never went" if row["back_s"] is None else f"{row['back_s']:.2f} s"
        lines.append(f"| {row['fault']} | {row['seen']} | {back} | {row['limit_s']:g} s |")
    output = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(__file__), "FAULTS.md")
    with open(output, "w") as file:
        file.write("\n".join(lines) + "\n")
    print(f"{len(rows)} faults: {output}")


main()
