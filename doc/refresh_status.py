#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes doc/status.svg of what `earshot status --watch` draws now, on a terminal of 80 columns. Run it after
./bootstrap build while earshot plays a machine or two, whenever the output has changed."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from xml.sax.saxutils import escape

COLUMNS, LINES, SECONDS = 80, 24, 3
CHARACTER, LINE, MARGIN = 8.4, 19, 14
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "2": "#8b949e", "1": "#ffffff"}


def picture(program):
    """What is drawn last, with its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    env = {**os.environ, "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    child = subprocess.Popen([program, "status", "--watch"], stdin=theirs, stdout=theirs, env=env, start_new_session=True)
    os.close(theirs)
    text, end = b"", time.monotonic() + SECONDS
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            text += os.read(ours, 65536)
    child.send_signal(signal.SIGINT)
    child.wait(5)
    # Pictures begin at home and end by clearing what is below; the last one may be half drawn.
    return re.findall(r"\033\[H(.*?)\033\[J", text.decode(), re.DOTALL)[-1].replace("\033[K", "").replace("\r", "")


def spans(line):
    colour = "#c9d1d9"
    for code, words in re.findall(r"(?:\033\[(\d+)m)?([^\033]*)", line):
        colour = "#c9d1d9" if code == "0" else COLOURS.get(code, colour)
        if words:
            yield f'<tspan fill="{colour}">{escape(words)}</tspan>'


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    lines = ["\033[2m$\033[0m earshot status --watch"] + picture(os.path.join(root, "build/earshot")).split("\n")
    if not any("\033[32m" in line for line in lines):
        sys.exit("Nothing plays: there is nothing to be seen.")
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    with open(os.path.join(root, "doc/status.svg"), "w", encoding="utf-8") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
                  f'height="{height:g}" font-family="monospace" font-size="14" xml:space="preserve" style="white-space:pre">\n'
                  "<!-- SPDX-License-Identifier: MIT; made by doc/refresh_status.py -->\n"
                  f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n')
        for i, line in enumerate(lines):
            columns = len(re.sub(r"\033\[\d+m", "", line))
            if columns:
                out.write(f'<text x="{MARGIN}" y="{MARGIN + (i + 0.75) * LINE:g}" '
                          f'textLength="{columns * CHARACTER:g}">{"".join(spans(line))}</text>\n')
        out.write("</svg>\n")


if __name__ == "__main__":
    main()
