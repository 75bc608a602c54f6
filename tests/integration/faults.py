# SPDX-License-Identifier: MIT
"""One fault after the other in one session: each has a receiver of its own, all of them one sink, whose capture says at
the end when there was sound again."""

import contextlib
import os
import re
import time

import harness

LATENCY_MS = 100
CORE_PERCENT = 2.0  # at most, while it waits
WAKEUPS = 10  # a second, likewise
PLAY_S = 2.2
TAIL_S = LATENCY_MS / 1000 + 0.05  # so long is heard what came before the fault


class Usage:
    """Processor time and wake-ups of a process since this was made."""

    def __init__(self, pid):
        self.pid = pid
        self.since_ns = harness.now_ns()
        self.before = self.read()

    def read(self):
        busy_ns = wakeups = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                with open(f"/proc/{self.pid}/task/{thread}/schedstat") as file:
                    busy_ns += int(file.read().split()[0])
                with open(f"/proc/{self.pid}/task/{thread}/status") as file:
                    wakeups += int(re.search(r"(?m)^voluntary_ctxt_switches:\s*(\d+)", file.read())[1])
        return busy_ns, wakeups

    def rates(self):
        """(percent of a core, wake-ups a second)"""
        seconds = (harness.now_ns() - self.since_ns) / 1e9
        busy_ns, wakeups = self.read()
        return (busy_ns - self.before[0]) / seconds / 1e7, (wakeups - self.before[1]) / seconds


class Faults:
    """Runs faults and collects what is to be judged when the capture has ended."""

    def __init__(self, session, sink="testsink"):
        self.session = session
        self.sink = sink
        self.capture = session.capture(sink).wait_running()
        self.cases = []

    def add(self, fault, seen, gone_ns, to_ns, silent_from_ns=None, tail=False):
        """Sound is due after gone_ns, and until to_ns; nothing may be heard between silent_from_ns and gone_ns. tail:
        what is heard within TAIL_S may be old."""
        self.cases.append((fault, seen, gone_ns, to_ns, silent_from_ns, tail))

    def judge(self):
        self.capture.stop()
        for fault, seen, gone_ns, to_ns, silent_from_ns, tail in self.cases:
            if silent_from_ns:
                silent = self.capture.analyse(from_ns=silent_from_ns, to_ns=gone_ns)
                harness.check(not silent["tone_from_ns"], f"{fault}: something was heard meanwhile")
            heard = self.capture.analyse(from_ns=gone_ns + int(tail * TAIL_S * 1e9), to_ns=to_ns)
            harness.check(heard["tone_from_ns"], f"{fault}: no sound any more")
            harness.fault_row(fault, seen, (heard["tone_from_ns"] - gone_ns) / 1e9)


class Receiver:
    """One fault's earshot."""

    count = 0

    def __init__(self, session, *args, sink="testsink", prefix=(), **env):
        Receiver.count += 1
        argv = [*prefix, harness.built("earshot"), *map(str, args), "-o", "pipewire", "-d", sink, "-t", str(LATENCY_MS)]
        self.process = session.spawn(f"earshot{Receiver.count}", argv, **env)

    def says(self, pattern, seconds=5):
        harness.wait_for(f"{pattern!r}", lambda: re.search(pattern, self.process.log()), seconds)

    def waits(self, seconds=1.5):
        """For so long it costs next to nothing: not at once, what it has just said comes with other things to do."""
        for _ in range(3):
            usage = Usage(self.process.pid)
            time.sleep(seconds)
            percent, wakeups = usage.rates()
            print(f"waits: {percent:.2f} % of a core, {wakeups:.1f} wake-ups a second", flush=True)
            if percent < CORE_PERCENT and wakeups <= WAKEUPS:
                return
        harness.check(percent < CORE_PERCENT, f"{percent:.1f} % of a core while it waits")
        harness.check(wakeups <= WAKEUPS, f"{wakeups:.0f} wake-ups a second while it waits")

    def end(self):
        harness.check(self.process.running(), f"the receiver is gone: {self.process.popen.returncode}")
        status = self.process.end()
        harness.check(status == 0, f"the receiver ended with {status}")


def first_delivery_ns(log):
    """When a guest, which has ended in order, published its first chunk."""
    with open(log) as file:
        for line in file:
            if line[0].isdigit():
                return int(line.split()[1])
    raise harness.Failed(f"the guest delivered nothing: {log}")
