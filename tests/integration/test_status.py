# SPDX-License-Identifier: MIT
"""`earshot status` as people see it: the streams of two processes in one table, plain on a pipe; on a terminal --watch draws
over itself, knows no colour under NO_COLOR, and gives the terminal back when it is interrupted, stopped or told to end."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import harness

ENTER, LEAVE, HOME = b"\033[?1049h\033[?25l", b"\033[?25h\033[?1049l", b"\033[H"
COLOUR = re.compile(rb"\033\[\d+m")


class Terminal:
    """A program on a terminal of so many columns and lines."""

    def __init__(self, session, *argv, columns=80, lines=24, **env):
        self.text = b""
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.popen = subprocess.Popen([harness.built("earshot"), *argv], stdin=theirs, stdout=theirs, stderr=theirs,
                                      env={**session.env, "TERM": "xterm", **env}, start_new_session=True)
        os.close(theirs)

    def read(self, seconds=0.05):
        while select.select([self.ours], [], [], seconds)[0]:
            try:
                more = os.read(self.ours, 65536)
            except OSError:  # nobody has the other end any more
                return self.text
            if not more:
                break
            self.text += more
        return self.text

    def wait_for(self, what, condition):
        harness.wait_for(what, lambda: condition(self.read()))
        return self

    def end(self, number):
        self.popen.send_signal(number)
        harness.wait_for("the program to end", lambda: self.read(0.01) and self.popen.poll() is not None, 5)
        self.read()
        os.close(self.ours)
        return self.popen.returncode


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def last_picture(text):
    """What stands there, without how it got there."""
    return re.sub(rb"\033\[[?0-9]*[a-zA-Z]", b"", text.split(HOME)[-1]).decode()


def expect_restored(text):
    harness.check(text.startswith(ENTER) and text.endswith(LEAVE), f"{text[:40]} ... {text[-40:]}")
    harness.check(text.count(ENTER) == text.count(LEAVE), "the terminal was not given back each time")


def test():
    with harness.Session() as session:
        for name in ("desk", "window"):
            session.earshot("-o", "null", "-m", session.ring(name), name=name)
        guest, _ = session.guest("--shm", session.ring("desk"))
        harness.wait_for("both", lambda: {s["name"]: s["state"] for s in session.status() or []} ==
                         {"desk": "playing", "window": "waiting"}, 20)
        plain = session.run(harness.built("earshot"), "status")
        lines = plain.splitlines()
        harness.check([line.split()[0] for line in lines] == ["NAME", "desk", "window"], plain)
        harness.check(max(map(len, lines)) <= 80 and "\033" not in plain, plain)
        parts = session.run(harness.built("earshot"), "status", "desk")
        harness.check("resampler" in parts and "window" not in parts, parts)

        # A pipe: a new table each second, and no escapes.
        piped = subprocess.Popen([harness.built("earshot"), "status", "--watch"], stdout=subprocess.PIPE,
                                 env={**session.env, "TERM": "xterm"}, text=True)
        time.sleep(2.5)
        piped.send_signal(signal.SIGINT)
        text = piped.communicate(timeout=5)[0]
        harness.check(2 <= text.count("NAME ") <= 4 and "\033" not in text and "#" not in text, text)

        terminal = Terminal(session, "status", "--watch").wait_for("two pictures", lambda text: text.count(HOME) >= 2)
        picture = last_picture(terminal.text)
        rows = [line.rstrip("\r") for line in picture.splitlines()]
        harness.check(all(len(line) <= 80 for line in rows) and len(rows) <= 24, picture)
        for words in (r"desk +playing", r"window +waiting", r"desk +latency +\[#* *\|?#* *\] [\d.]+ of [\d.]+ ms",
                      r" fill +\[", r" drift +\["):
            harness.check(re.search(words, picture), f"no {words} in {picture}")
        harness.check(COLOUR.search(terminal.text), "no colour on a terminal")
        # Ctrl-Z gives the terminal back, too; then it goes on.
        terminal.popen.send_signal(signal.SIGTSTP)
        harness.wait_for("it to stop", lambda: stopped(terminal.popen.pid))
        terminal.wait_for("the terminal back", lambda text: text.endswith(LEAVE))
        terminal.popen.send_signal(signal.SIGCONT)
        terminal.wait_for("it to go on", lambda text: text.split(LEAVE)[-1].startswith(ENTER + HOME))
        harness.check(terminal.end(signal.SIGINT) == 0, "Ctrl-C is no failure")
        expect_restored(terminal.text)

        # A small window: never more than fits, and told of.
        terminal = Terminal(session, "status", "--watch", columns=60, lines=6, NO_COLOR="1")
        terminal.wait_for("a picture", lambda text: HOME in text and b"more" in text)
        harness.check(len(last_picture(terminal.text).splitlines()) <= 6, last_picture(terminal.text))
        harness.check(not COLOUR.search(terminal.text), "colour in spite of NO_COLOR")
        harness.check(terminal.end(signal.SIGTERM) == 0, "told to end, it failed")
        expect_restored(terminal.text)

        terminal = Terminal(session, "status", TERM="dumb")
        harness.wait_for("the table", lambda: b"window" in terminal.read() and terminal.popen.poll() == 0)
        harness.check(b"\033" not in terminal.text, "escapes for a terminal that knows none")
        os.close(terminal.ours)
        guest.end()


harness.main(test)
