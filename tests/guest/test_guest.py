# SPDX-License-Identifier: MIT
"""A real kernel plays, in a machine that is paused, reset, killed and started again; one Earshot plays on.

test_guest.py shm|udp: through the memory that the machine shares with us, which `earshot guest --shm auto` has to find
in there; or through its network card, a bridge, and the driver's multicast group.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness  # noqa: E402
import impulses  # noqa: E402
import machine  # noqa: E402
import network  # noqa: E402
import publications  # noqa: E402

QUANTUM = 256
LATENCY_MS = 250  # above the machines' own stalls: this is about content
STALL_MS = 100
TOLERANCE_MS = 4
LOCK_S = 20
PAUSE_S, EARLY_PAUSE_S = 3.0, 5.0
EARLY_S = 2.0  # so long has it played when it is paused again
HEALED_S = 3.0  # a guest that resumes may be late for two seconds first
AFTER_S = 2.5  # judged then
TAIL_S = LATENCY_MS / 1000 + 0.1  # so long is heard what came before
EVIDENCE_NS = 100000000
TITLES = {"shm": "shared memory", "udp": "network"}
TONE = f"--tone {harness.TONE_HZ} --level -1"
IMPULSES = f"--impulse {impulses.PERIOD}"
RING_MIB, PICTURES_MIB = 2, 4


class SharedMemory:
    words = "--shm auto"
    modules = False  # it needs no driver
    chunk_ms = 20

    def __init__(self, session):
        self.ring = session.ring()
        self.pictures = session.ring("pictures")  # at the lower address, and nothing for us
        self.reads = ["-m", self.ring]
        self.name = os.path.basename(self.ring)
        self.devices = []
        for path, mib in ((self.pictures, PICTURES_MIB), (self.ring, RING_MIB)):
            name = os.path.basename(path)
            self.devices += ["-object", f"memory-backend-file,id={name},share=on,mem-path={path},size={mib}M",
                             "-device", f"ivshmem-plain,memdev={name}"]
        self.publications = publications.Ring(session, self.ring)

    def plug_in(self):
        pass

    def unplug(self):
        pass

    def check(self, virtual):
        harness.check(virtual.says(rf"2 shared memories are here: takes the one of {RING_MIB} MiB"),
                      "it does not say which of two shared memories it takes")
        with open(self.pictures, "rb") as file:
            harness.check(not any(file.read()), "it has written into the larger of two shared memories")


class Network:
    words = f"--udp {network.GROUP}:{network.PORT} -i eth0"
    modules = True
    chunk_ms = 6
    name = machine.ADDRESS
    reads = ["-p", network.PORT]
    devices = ["-netdev", "tap,id=net,ifname=vnet0,script=no,downscript=no",
               "-device", "virtio-net-pci,netdev=net,romfile="]

    def __init__(self, session):
        network.ip("link add virbr0 type bridge")
        network.ip(f"address add {machine.ADDRESS.rpartition('.')[0]}.1/24 dev virbr0")
        network.ip("link set virbr0 up")
        self.publications = publications.Packets(session, "virbr0", network.PORT)

    def plug_in(self):
        network.ip("tuntap add vnet0 mode tap")
        network.ip("link set vnet0 master virbr0 up")

    def unplug(self):
        network.ip("link del vnet0")

    def check(self, virtual):
        pass


class Case:
    """The machine, the one Earshot, and what is to be judged when the capture has ended."""

    def __init__(self, session, transport):
        self.session = session
        self.title = TITLES[transport]
        self.link = SharedMemory(session) if transport == "shm" else Network(session)
        self.publications = self.link.publications
        self.expected_ms = harness.monitor_ms(LATENCY_MS, self.link.chunk_ms, QUANTUM)
        self.machine = machine.Machine(session, self.link.devices, self.link.modules)
        self.earshot = session.witnessed(*self.link.reads, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS)
        self.capture = session.capture(seconds=600).wait_running()
        self.judgements = []

    def start(self, what):
        """Switches the machine on. Returns when it played."""
        self.link.plug_in()
        self.machine.start(f"{self.link.words} {what}")
        return self.plays()

    def kill(self):
        """Returns when that was done."""
        self.machine.kill()
        self.link.unplug()
        return self.gone()

    def reset(self):
        self.machine.command("system_reset")
        return self.gone()

    def gone(self):
        self.publications.restart()
        return harness.now_ns()

    def plays(self):
        began = time.monotonic()
        first_ns = harness.wait_for("the virtual machine's first sound",
                                    lambda: self.machine.check() or self.publications.first_ns(), machine.BOOT_S, 0.05)
        print(f"plays {time.monotonic() - began:.1f} s after it was switched on", flush=True)
        return first_ns

    def pause(self, seconds):
        """Returns when it stood still, and when it went on."""
        self.machine.command("stop")
        stopped_ns = harness.now_ns()
        time.sleep(seconds)
        harness.check(self.publications.last_ns() < stopped_ns + STALL_MS * 1000000, "it plays while it is paused")
        self.machine.command("cont")
        return stopped_ns, harness.now_ns()

    def stream(self):
        """One stream under its name, which plays."""
        self.machine.check()
        names, streams = self.session.stream_names(), self.session.status()
        harness.check(names == [self.link.name], f"streams in the mixer: {names}")
        harness.check(streams and len(streams) == 1 and streams[0]["state"] == "playing", f"streams: {streams}")

    def wait_locked(self):
        harness.wait_for("the guest's clock to be known", lambda: (self.session.status(self.link.name) or {}).get("locked"),
                         LOCK_S, 0.2)
        return harness.now_ns()

    def later(self, judge, *args):
        """judge(capture's analysis from one time to another, log of whom plays now, *args) when the capture is whole."""
        self.judgements.append((judge, self.publications.log(), args))

    def back(self, fault, stood_ns, gone_ns, what="tone"):
        """It has just come back, and stays."""
        time.sleep(HEALED_S + AFTER_S)
        to_ns = harness.now_ns()
        self.stream()
        self.later(self.judge_silence, fault, stood_ns, gone_ns)
        self.later(self.judge_back if what == "tone" else self.judge_impulses, fault, gone_ns, to_ns)

    def judge(self):
        self.capture.stop()
        self.publications.end()
        for judge, log, args in self.judgements:
            judge(log, *args)

    def analyse(self, log, from_ns, to_ns):
        return self.capture.analyse(log, expect_ms=self.expected_ms, stall_ms=STALL_MS, guest_late_ms=STALL_MS,
                                    from_ns=from_ns, to_ns=to_ns)

    def evidence(self, log, result):
        """Around each discontinuity: whose fault it may have been."""
        with open(log) as lines:
            times = [int(line.split()[1]) for line in lines]
        with open(self.session.stalls_path) as lines:
            stalls = [tuple(map(int, line.split()[:2])) for line in lines if line.endswith("\n")]
        for event in result["events"]:
            from_ns, to_ns = event["from_ns"] - EVIDENCE_NS, event["to_ns"] + EVIDENCE_NS
            stood_ms = max([(end - begin) / 1e6 for begin, end in stalls if begin < to_ns and end > from_ns], default=0)
            gap_ms = max([(at - before) / 1e6 for before, at in zip(times, times[1:])
                          if before < to_ns and at > from_ns - self.expected_ms * 1000000], default=0)
            losses = [loss["frames"] for loss in result["losses"] if from_ns < loss["at_ns"] < to_ns]
            print(f"  {event['kind']} {event['frames']:+.1f} {(event['from_ns'] - result['from_ns']) / 1e9:.2f} s in: the host "
                  f"stood still for {stood_ms:.1f} ms, the guest published nothing for {gap_ms:.1f} ms, the capture "
                  f"lost {losses} frames", flush=True)

    def judge_whole(self, log, what, from_ns, to_ns):
        result = self.analyse(log, from_ns, to_ns)
        self.evidence(log, result)
        harness.expect_clean(result, (to_ns - from_ns) / 1e9 - 0.1, what)
        harness.expect_latency(result, self.expected_ms, TOLERANCE_MS, what)

    def judge_silence(self, _, fault, stood_ns, gone_ns):
        from_ns = stood_ns + int(TAIL_S * 1e9)
        heard = self.capture.analyse(from_ns=from_ns, to_ns=gone_ns)
        harness.check(not heard["tone_from_ns"], f"{fault}: something was heard meanwhile")

    def row(self, fault, gone_ns, back_ns):
        harness.fault_row(f"A virtual machine {fault}, {self.title}", "silence; one stream, which stays",
                          (back_ns - gone_ns) / 1e9)

    def judge_back(self, log, fault, gone_ns, to_ns):
        heard = self.capture.analyse(from_ns=gone_ns, to_ns=to_ns)
        harness.check(heard["tone_from_ns"], f"{fault}: no sound any more")
        self.row(fault, gone_ns, heard["tone_from_ns"])
        self.judge_whole(log, f"after it {fault}", gone_ns + int(HEALED_S * 1e9), to_ns)

    def judge_impulses(self, log, fault, gone_ns, to_ns):
        heard = impulses.Train(self.capture.path, gone_ns, to_ns).found
        harness.check(heard, f"{fault}: no sound any more")
        self.row(fault, gone_ns, heard[0][2])
        healed_ns = gone_ns + int(HEALED_S * 1e9)
        excused = self.analyse(log, healed_ns, to_ns)["late"]
        train = impulses.Train(self.capture.path, healed_ns, to_ns, excused)
        train.expect_whole((to_ns - healed_ns) / 1e9, f"after it {fault}")
        latency_ms = train.latency_ms(log, self.expected_ms)
        print(f"after it {fault}: latency {latency_ms:.2f} ms", flush=True)
        harness.check(abs(latency_ms - self.expected_ms) < TOLERANCE_MS, f"{fault}: latency {latency_ms:.2f} ms")


def test():
    transport = sys.argv[1]
    if transport == "udp":
        network.enter()
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        session.sink()
        case = Case(session, transport)

        case.start(TONE)
        from_ns = case.wait_locked()
        time.sleep(harness.MINUTE_S)
        case.stream()
        case.later(case.judge_whole, "playing", from_ns, harness.now_ns())

        case.back(f"is paused for {PAUSE_S:g} s", *case.pause(PAUSE_S))

        stood_ns, gone_ns = case.reset(), case.plays()
        time.sleep(EARLY_S)
        case.later(case.judge_silence, "is reset", stood_ns, gone_ns)
        case.back(f"is reset, and paused for {EARLY_PAUSE_S:g} s soon after", *case.pause(EARLY_PAUSE_S))

        case.back("is killed and started again", case.kill(), case.start(IMPULSES), "impulses")
        case.link.check(case.machine)

        case.judge()
        harness.check(case.earshot.running(), "Earshot is gone")
        harness.check(case.earshot.end() == 0, "Earshot did not end in order")


harness.main(test)
