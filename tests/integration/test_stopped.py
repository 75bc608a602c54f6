# SPDX-License-Identifier: MIT
"""Someone is stopped for 0.3 s, while a guest plays over shared memory and another one over the network: the sound heals,
the damage is bounded and the latency is what it was. And all of them together for longer, which is what a host that was
asleep looks like to who reads CLOCK_MONOTONIC and is told nothing; where that clock stands still meanwhile, and nothing but
the device has gone on, is in the simulator's soak.

test_stopped.py ends|server|host    ends: a receiver, and another one's guest
test_stopped.py brief               a guest, for less than what is held ready of its sound: nobody hears it
"""

import sys
import time

import harness

LATENCY_MS = 60
STOP_S = 0.3
BRIEF_S, BRIEF_LATENCY_MS = 0.2, 300
BRIEF_TIMES = 2
BLENDED_FRAMES = 5  # where packets go on after a gap, 3 ms lead from what was before to what is after
ASLEEP_S = 20.35  # what is heard from before that is early by 150 ms, which a turn of the tone tells apart
HEALED_NS = 3000000000  # after it no corner of the sound: a guest that resumes may be late for two seconds first
STEERED_NS = 7000000000  # after it the latency is what it was: up to 20 ms are steered away, not jumped
TITLES = {"receiver": "Earshot is", "server": "PipeWire is", "guest": "The guest is",
          "host": "The host is asleep: Earshot, PipeWire and the guest are all"}
OLD_NS = 150000000  # what was in the ring and the server's buffers is still played
EARLY_MS = 20
TRANSPORTS = {"shm": "shared memory", "udp": "network"}
SETTLE_S = 3.5  # what the guest said before the receiver was ready is dropped within two seconds
TOLERANCE_MS = 6.5  # a cycle that the graph itself missed shows as a quantum for a while


class Lane:
    """A guest, its receiver and its sink, and who is stopped."""

    def __init__(self, session, who, transport, latency_ms=LATENCY_MS):
        self.who = who
        self.transport = transport
        sink = session.sink(f"{who}-{transport}")
        if transport == "shm":
            reads, writes, unit_ms = ["-m", session.ring(sink)], ["--shm", session.ring(sink)], 20
        else:
            port = harness.free_port()
            reads, writes, unit_ms = ["-u", "-p", port], ["--udp", f"127.0.0.1:{port}", "--packet", 288], 6
        self.expected_ms = harness.monitor_ms(latency_ms, unit_ms, 256)
        self.earshot = session.witnessed(*reads, "-o", "pipewire", "-d", sink, "-t", latency_ms, name=f"earshot-{sink}")
        self.guest, self.log = session.guest(*writes, "--ppm", 200, name=f"guest-{sink}")
        self.capture = session.capture(sink).wait_running()

    def analyse(self, stall_ms=15, **span):
        return self.capture.analyse(self.log, self.earshot.pulls, ppm=200, expect_ms=self.expected_ms, stall_ms=stall_ms,
                                    guest_late_ms=stall_ms, **span)

    def judge(self, settled_ns, from_ns, to_ns):
        who = self.who
        row, stop_s = TRANSPORTS[self.transport], ASLEEP_S if who == "host" else STOP_S
        what = f"{who}, {row}"
        harness.check(self.earshot.running(), f"{what}: the receiver is gone")
        before = self.analyse(from_ns=settled_ns, to_ns=from_ns - 50000000)
        # A capture that was stopped, too, has nothing of the time.
        during = self.analyse(from_ns=to_ns if who == "host" else from_ns - 200000000, to_ns=to_ns + HEALED_NS)
        print(f"{what}, around the stop: {harness.describe(during)}")
        back = self.analyse(from_ns=to_ns)
        harness.check(back["tone_from_ns"], f"{what}: silent for good")
        harness.fault_row(f"{TITLES[who]} stopped for {stop_s} s (SIGSTOP), {row}",
                          "one gap, then the latency that it was", (back["tone_from_ns"] - to_ns) / 1e9)
        harness.expect_clean(before, 2, f"{what}, before")
        harness.expect_latency(before, self.expected_ms, 4, f"{what}, before")
        # One hole as long as the stop, and a little more to come back; never a stutter.
        silent_ms = during["silent_ms"]
        harness.check(silent_ms < (0 if who == "host" else stop_s * 1000) + 400,
                      f"{what}: {silent_ms:.0f} ms of silence after {stop_s} s")
        harness.check(len(during["events"]) <= 6, f"{what}: {len(during['events'])} discontinuities from one stop")
        if who == "host":
            earliest_ms = self.analyse(from_ns=to_ns + OLD_NS)["latency_all"]["p1_ms"]
            harness.check(earliest_ms > self.expected_ms - EARLY_MS, f"{what}: {earliest_ms} ms: played from before the sleep")
        harness.expect_clean(self.analyse(from_ns=to_ns + HEALED_NS), 4.5, f"{what}, after")
        harness.expect_latency(self.analyse(from_ns=to_ns + STEERED_NS), before["latency_all"]["median_ms"], TOLERANCE_MS,
                               f"{what}, after")


def brief():
    with harness.Session() as session:
        session.start_server(quantum=256)
        lanes = [Lane(session, "guest", transport, BRIEF_LATENCY_MS) for transport in TRANSPORTS]
        time.sleep(SETTLE_S)
        from_ns = harness.now_ns()
        time.sleep(1)
        for _ in range(BRIEF_TIMES):
            harness.freeze([lane.guest for lane in lanes], BRIEF_S)
            time.sleep(2)
        streams = session.status()
        for lane in lanes:
            lane.capture.stop()
            lane.guest.end()
        for lane in lanes:
            what = f"The guest is stopped for {BRIEF_S} s (SIGSTOP), less than `-t`, {TRANSPORTS[lane.transport]}"
            result = lane.analyse(stall_ms=BRIEF_LATENCY_MS - 50, step_frames=BLENDED_FRAMES, from_ns=from_ns)
            harness.expect_clean(result, 4, what)
            harness.fault_row(what, "nothing", None)
        for stream in streams:
            harness.check(stream["underruns"] == stream["resyncs"] == 0, f"{stream['name']}: {stream}")


def test():
    what = sys.argv[1]
    with harness.Session() as session:
        session.start_server(quantum=256)
        lanes = [Lane(session, who, transport) for who in (("receiver", "guest") if what == "ends" else (what,))
                 for transport in TRANSPORTS]
        time.sleep(SETTLE_S)
        settled_ns = harness.now_ns()
        time.sleep(3)
        frozen = {"ends": [lane.earshot if lane.who == "receiver" else lane.guest for lane in lanes],
                  "server": session.server[:1],
                  "host": [process for process in session.processes if process.name != "stalls"]}[what]
        from_ns, to_ns = harness.freeze(frozen, ASLEEP_S if what == "host" else STOP_S)
        time.sleep(8.5)
        for lane in lanes:
            lane.capture.stop()
            lane.guest.end()
        for lane in lanes:
            lane.judge(settled_ns, from_ns, to_ns)


harness.main(brief if sys.argv[1] == "brief" else test)
