#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pages against the doctor: docs_doctor.py PAGE.md ... -- SOURCE.c ...

Every line of the pages that quotes the doctor ("FAIL  ...", "warn  ...") is one that the doctor can say.
"""
import re
import sys

STRING = r'"(?:[^"\\]|\\.)*"'
CONVERSION = re.compile(r"%[-.\d]*(?:ll|l|z)?[a-z]")


def said(paths):
    """What doctor_say() is called with: (verdicts, pattern)."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for call in re.findall(r"doctor_say\((.*?)\);", text, re.DOTALL):
            for group in re.findall(rf"{STRING}(?:\s*{STRING})*", call):
                line = "".join(string[1:-1] for string in re.findall(STRING, group))
                yield (set(re.findall(r"DOCTOR_(FAIL|WARN)", call.replace("missing(", "DOCTOR_FAIL DOCTOR_WARN"))),
                       re.compile(".*".join(re.escape(part) for part in CONVERSION.split(line)) + "$"))


def main():
    split = sys.argv.index("--")
    patterns = list(said(sys.argv[split + 1:]))
    count, faults = 0, []
    for page in sys.argv[1:split]:
        with open(page, encoding="utf-8") as file:
            quoted = re.findall(r"^ *(FAIL|warn)  (.*)$", file.read(), re.MULTILINE)
        count += len(quoted)
        faults += [f"{page} quotes '{text}', which the doctor never says" for word, text in quoted
                   if not any(word.upper() in verdicts and pattern.match(text) for verdicts, pattern in patterns)]
    print("\n".join(faults) or f"{count} lines agree")
    return bool(faults) or not count


if __name__ == "__main__":
    sys.exit(main())
