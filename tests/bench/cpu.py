# SPDX-License-Identifier: MIT
"""What playing one stereo guest costs: processor time above a bare stream that only resamples (alternated with it in
one run), wake-ups and processor time with nothing to play, and memory.

cpu.py [--rounds N] [--seconds S] [--idle S] [--growth S]
"""

import argparse
import os
import socket
import time

import figures
import harness
from figures import median

QUANTUM = 256
QUALITIES = ("fastest", "medium")
ABOVE_MAX = 0.40  # percent of a core
IDLE_MAX = 0.08
WAKEUPS_MAX = 10
RSS_MAX_KIB = 25 * 1024
SETTLE_S = 3
KNOWN_S = 12  # until Earshot knows the guest's pace: how it goes on for hours
IDLE_SETTLE_S = 31  # a ring is looked at ever more seldom until then


class Usage:
    """Processor time and wake-ups of all threads of a process since it was made."""

    def __init__(self, pid):
        self.pid = pid
        self.start_ns = harness.now_ns()
        self.before = self.read()

    def read(self):
        """{thread: (name, nanoseconds on a processor, context switches)}"""
        threads = {}
        directory = f"/proc/{self.pid}/task"
        for thread in os.listdir(directory):
            try:
                with open(f"{directory}/{thread}/schedstat") as file:
                    busy_ns = int(file.read().split()[0])
                with open(f"{directory}/{thread}/status") as file:
                    fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            except FileNotFoundError:
                continue  # it has just ended
            switches = int(fields["voluntary_ctxt_switches"])
            threads[thread] = (fields["Name"], busy_ns, switches)
        return threads

    def since(self):
        """(percent of a core, wake-ups a second, the same by thread)"""
        seconds = (harness.now_ns() - self.start_ns) / 1e9
        busy = wakeups = 0
        parts = []
        for thread, (name, busy_ns, switches) in self.read().items():
            _, busy_before, switches_before = self.before.get(thread, (name, 0, 0))
            busy += busy_ns - busy_before
            wakeups += switches - switches_before
            parts.append(f"{name} {(busy_ns - busy_before) / seconds / 1e7:.2f} % "
                         f"{(switches - switches_before) / seconds:.0f}/s")
        return busy / seconds / 1e7, wakeups / seconds, ", ".join(parts)


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def measure(process, seconds, settle=SETTLE_S):
    time.sleep(settle)
    usage = Usage(process.pid)
    time.sleep(seconds)
    harness.check(process.running(), f"{process.name} has ended:\n{process.log()}")
    return usage.since()


class Bench:
    def __init__(self, session, options):
        self.session = session
        self.options = options
        self.missed = []
        self.rows = []

    def judge(self, good, text):
        print(("  ok      " if good else "  MISSED  ") + text, flush=True)
        if not good:
            self.missed.append(text)

    def guest(self, transport, where, name):
        writes = ["--shm", where] if transport == "shm" else ["--udp", f"127.0.0.1:{where}"]
        if transport == "udp":  # in bursts, as the driver's timer fires
            writes += ["--tick", 1]
        return self.session.guest(*writes, "--jitter", 2, name=f"guest-{name}")[0]

    def start(self, transport, quality, name="earshot"):
        session = self.session
        where = session.ring() if transport == "shm" else harness.free_port()
        reads = ["-m", where] if transport == "shm" else ["-u", "-p", where]
        earshot = session.earshot(*reads, "-o", "pipewire", "-d", "testsink", "-q", quality, "-t", 60, name=name)
        return earshot, self.guest(transport, where, name)

    def bare(self, transport, quality):
        """Beside the same guest, to whom nobody listens: what runs on the other core, or the other half of one, makes
        all that runs slower."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            nobody.bind(("127.0.0.1", 0))
            where = self.session.ring("unread") if transport == "shm" else nobody.getsockname()[1]
            guest = self.guest(transport, where, "unheard")
            reference = self.session.spawn("reference", [harness.built("earshot-reference"), "testsink", quality,
                                                         f"{QUANTUM}/48000"])
            percent = measure(reference, self.options.seconds)[0]
            reference.end()
            guest.end()
            return percent

    def playing(self, transport, quality):
        reference_all, earshot_all, above_all, parts = [self.bare(transport, quality)], [], [], ""
        for _ in range(self.options.rounds):
            earshot, guest = self.start(transport, quality)
            percent, wakeups, parts = measure(earshot, self.options.seconds, settle=KNOWN_S)
            earshot_all.append(percent)
            memory = rss_kib(earshot.pid)
            guest.end()
            earshot.end()
            reference_all.append(self.bare(transport, quality))
            # Each with its neighbours in time, before and after: the machine's own speed changes.
            above_all.append(percent - sum(reference_all[-2:]) / 2)
        above = median(above_all)
        self.judge(above <= ABOVE_MAX,
                   f"{transport} {quality}: {median(earshot_all):.2f} % of a core, the bare stream "
                   f"{median(reference_all):.2f} %: {above:+.2f} (at most +{ABOVE_MAX}; "
                   f"{', '.join(f'{one:+.2f}' for one in above_all)})")
        print(f"          {parts}")
        self.judge(memory <= RSS_MAX_KIB, f"{transport} {quality}: {memory / 1024:.1f} MiB resident "
                                          f"(at most {RSS_MAX_KIB / 1024:.0f})")
        self.rows.append({"transport": transport, "quality": quality, "percent": median(earshot_all),
                          "bare_percent": median(reference_all), "above_percent": above, "wakeups": wakeups,
                          "rss_kib": memory})

    def idle(self, transports):
        """All of them at the same time, each in a process of its own."""
        started = [self.start(transport, "medium", name=f"earshot-{transport}") for transport in transports]
        time.sleep(SETTLE_S)
        for _, guest in started:
            guest.end()
        time.sleep(IDLE_SETTLE_S)
        usages = [Usage(earshot.pid) for earshot, _ in started]
        time.sleep(self.options.idle)
        for transport, usage, (earshot, _) in zip(transports, usages, started):
            percent, wakeups, parts = usage.since()
            harness.check(earshot.running(), f"{earshot.name} has ended:\n{earshot.log()}")
            earshot.end()
            self.rows.append({"transport": transport, "quality": None, "percent": percent, "wakeups": wakeups})
            self.judge(percent <= IDLE_MAX and wakeups <= WAKEUPS_MAX,
                       f"{transport}, nothing to play: {percent:.3f} % of a core, {wakeups:.1f} wake-ups a second "
                       f"(at most {IDLE_MAX}, {WAKEUPS_MAX})")
            print(f"          {parts}")

    def growth(self):
        earshot, _ = self.start("shm", "medium")
        time.sleep(60)
        before = rss_kib(earshot.pid)
        time.sleep(self.options.growth)
        after = rss_kib(earshot.pid)
        earshot.end()
        self.judge(after - before <= 128, f"{self.options.growth:.0f} s of playing: {before} KiB, then {after} KiB")


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=1 if figures.QUICK else 5)
    parser.add_argument("--seconds", type=float, default=8 if figures.QUICK else 10)
    parser.add_argument("--idle", type=float, default=15 if figures.QUICK else 30)
    parser.add_argument("--growth", type=float, default=0, help="also watch the memory for so many seconds")
    options = parser.parse_args()
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        session.sink()
        bench = Bench(session, options)
        for transport in ("shm", "udp"):
            for quality in QUALITIES:
                bench.playing(transport, quality)
        bench.idle(("shm", "udp"))
        bench.playing("udp, one packet at a time,", "fastest")
        if options.growth:
            bench.growth()
    figures.save("cpu", bench.rows, quantum=QUANTUM, above_max=ABOVE_MAX, idle_max=IDLE_MAX, wakeups_max=WAKEUPS_MAX,
                 rss_max_kib=RSS_MAX_KIB)
    harness.check(not bench.missed, f"{len(bench.missed)} of the figures were missed")


if __name__ == "__main__":
    harness.main(test, attempts=1)
