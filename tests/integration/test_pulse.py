# SPDX-License-Identifier: MIT
"""Earshot through PulseAudio's protocol, from the guest to the sink's monitor.

test_pulse.py pulseaudio|pipewire-pulse content    a minute at +-500 ppm: every sample, and the latency asked for
                                        server     it comes late, and is killed while a guest plays
                                        replaced   (server: replaced) by PipeWire's
                                        surround   a tone per channel
                                        moved      to another sink, also one of another rate
                                        paused     by the guest, and by who suspends the sink
                                        mixer      mute and volume hold
"""

import sys
import time

import harness
import pulse

# What the server itself leaves out on a loaded machine: the thread that hands on what it gets is no real-time thread.
# Its buffers hold 10 ms at the least.
STALL_MS = 5
HEALED_NS = 1500000000
TITLES = {"pulseaudio": "PulseAudio", "pipewire-pulse": "PipeWire's PulseAudio"}


def play(session, name="vm1", sink="testsink", latency_ms=60, guest=(), **options):
    session.earshot("-m", session.ring(name), "-o", "pulse", "-d", sink, "-t", latency_ms, "-n", name,
                    name=f"earshot-{name}")
    return session.guest("--shm", session.ring(name), *guest, name=f"guest-{name}", **options)


def expect(session, result, seconds, latency_ms, what, tolerance_ms=4):
    harness.expect_clean(result, seconds, what)
    harness.expect_latency(result, pulse.monitor_ms(session, latency_ms, 20), tolerance_ms, what)


def content(session):
    session.start_server()
    lanes = []
    # Above the machine's own stalls, for the content; and the latency that people ask for, for the latency.
    for name, ppm, latency_ms in (("plus", 500, 250), ("minus", -500, 250), ("short", 100, 60)):
        session.sink(name)
        capture = session.capture(name, name=f"capture-{name}").wait_running()
        guest, log = play(session, name, name, latency_ms, ("--ppm", ppm))
        lanes.append((name, ppm, latency_ms, capture, guest, log))
    time.sleep(6)
    settled_ns = harness.now_ns()
    polls = []
    for _ in range(harness.MINUTE_S // 5):
        time.sleep(5)
        polls.append({stream["name"]: stream for stream in session.status()})
    for _, _, _, capture, guest, _ in lanes:
        capture.stop()
        guest.end()
    for name, ppm, latency_ms, capture, _, log in lanes:
        stream = polls[-1][name]
        parts = dict(stream["latency_ms"])
        total = parts.pop("total")
        print(f"{name}: {total} ms, {parts}, {stream['drift_ppm']} ppm, {stream['underruns']} underruns")
        harness.check(abs(total - sum(parts.values())) < 1e-6, "the parts are not the total")
        drift = sorted(poll[name]["drift_ppm"] for poll in polls)[len(polls) // 2]
        harness.check(abs(drift - ppm) < 30, f"drift {drift}, not {ppm}")
        result = capture.analyse(log, ppm=ppm, expect_ms=pulse.monitor_ms(session, latency_ms, 20), stall_ms=STALL_MS,
                                 guest_late_ms=STALL_MS, from_ns=settled_ns)
        expect(session, result, harness.MINUTE_S - 5, latency_ms, name)


def server(session):
    earshot = session.earshot("-m", session.ring("vm1"), "-o", "pulse", "-d", "testsink", "-t", 100, "-n", "vm1")
    guest, log = session.guest("--shm", session.ring("vm1"))
    time.sleep(2)
    harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
    rounds = []
    for what in ("it comes later than Earshot", "it is killed and started again", "and once more"):
        session.start_server(quantum=256)
        session.sink()
        sink_ns = harness.now_ns()
        capture = session.capture().wait_running()
        time.sleep(6)
        rounds.append((what, capture.stop(), sink_ns))
        harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")
        session.kill_server()
        time.sleep(1)
        harness.check(earshot.running(), "the receiver died with the server")
        harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
    guest.end()
    harness.check(earshot.end() == 0, "the receiver did not end in order")
    for what, capture, sink_ns in rounds:
        expected_ms = pulse.monitor_ms(session, 100, 20)
        result = capture.analyse(log, expect_ms=expected_ms)
        heard_ns = result["tone_from_ns"]
        print(f"{what}: {harness.describe(result)}, {(heard_ns - sink_ns) / 1e9:.2f} s after the sink")
        harness.check(heard_ns, f"{what}: no sound")
        harness.fault_row(f"{TITLES[sys.argv[1]]}: {what}", "state no-server; the stream is there again as soon as a sink is",
                          (heard_ns - sink_ns) / 1e9, harness.SERVER_BACK_S)
        settled = capture.analyse(log, expect_ms=expected_ms, from_ns=heard_ns + 2500000000, stall_ms=STALL_MS,
                                  guest_late_ms=STALL_MS)
        expect(session, settled, 1.5, 100, what, 5)


def replaced(session):
    """As a distribution's upgrade does it, in a running session."""
    session.start_pulseaudio()
    session.pulseaudio_sink()
    earshot = session.earshot("-m", session.ring("vm1"), "-o", "pulse", "-d", "testsink", "-t", 100, "-n", "vm1")
    guest, log = session.guest("--shm", session.ring("vm1"))
    harness.wait_for("the guest", lambda: (session.status("vm1") or {}).get("state") == "playing")
    time.sleep(2)
    session.kill_server()
    time.sleep(1)
    harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
    session.start_server(quantum=256)
    session.sink()
    sink_ns = harness.now_ns()
    capture = session.capture().wait_running()
    time.sleep(6)
    harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")
    capture.stop()
    guest.end()
    harness.check(earshot.end() == 0, "the receiver did not end in order")
    result = capture.analyse(log, expect_ms=pulse.monitor_ms(session, 100, 20))
    print(f"PipeWire in PulseAudio's place: {harness.describe(result)}")
    harness.check(result["tone_from_ns"], "silent for good")
    harness.fault_row("PulseAudio is replaced by PipeWire", "state no-server, and then the stream in the new one",
                      (result["tone_from_ns"] - sink_ns) / 1e9, harness.SERVER_BACK_S)
    settled = capture.analyse(log, expect_ms=pulse.monitor_ms(session, 100, 20), stall_ms=STALL_MS,
                              guest_late_ms=STALL_MS, from_ns=result["tone_from_ns"] + 2500000000)
    expect(session, settled, 1.5, 100, "in the new one", 5)


def surround(session):
    session.start_server()
    lanes = []
    for i, (mask, positions, expected) in enumerate((
            (0x4, "MONO", (1,)), (0x33, "FL FR RL RR", (1, 2, 3, 4)),
            (0x3F, "FL FR FC LFE RL RR", (1, 2, 3, 4, 5, 6)), (0x3F, "FL FR RL RR FC LFE", (1, 2, 5, 6, 3, 4)),
            (0x60F, "FL FR FC LFE SL SR", (1, 2, 3, 4, 5, 6)),
            (0x63F, "FL FR FC LFE RL RR SL SR", (1, 2, 3, 4, 5, 6, 7, 8)))):
        sink = session.sink(f"sink{i}", positions)
        play(session, sink, sink, 250, ("--channels", len(expected), "--mask", mask, "--per-channel"), hz=200)
        capture = session.capture(sink, positions=positions.replace(" ", ","))
        lanes.append((f"{mask:#x} on {positions}", capture.wait_running(), expected))
    time.sleep(5)
    for what, capture, expected in lanes:
        capture.stop()
        found = capture.analyse(per_channel=200, from_ns=harness.now_ns() - 3000000000)["channels"]
        print(f"{what}: {[(channel['multiple'], round(channel['level'], 3)) for channel in found]}", flush=True)
        harness.check(tuple(channel["multiple"] for channel in found) == expected, f"{what}: channels misplaced")
        for channel in found:
            harness.check(abs(channel["level"] - 10 ** (-1 / 20)) < 0.03, f"{what}: level {channel['level']:.3f}")
            harness.check(channel["next_level"] < 0.005, f"{what}: {channel['next_level']:.3f} of another channel")


def moved(session):
    session.start_server(quantum=256)
    captures = {}
    for sink, rate in (("first", 48000), ("second", 48000), ("third", 96000)):
        session.sink(sink, rate=rate)
        captures[sink] = session.capture(sink).wait_running()
    guest, log = play(session, sink="first", latency_ms=100)
    time.sleep(4)
    moves = []
    for sink in ("second", "third", "second"):
        moves.append((sink, session.move("vm1", sink)))
        time.sleep(4.5)
    end_ns = harness.now_ns()
    for capture in captures.values():
        capture.stop()
    guest.end()
    harness.check(session.stream_names() == ["vm1"], f"streams: {session.stream_names()}")
    for (sink, at_ns), (_, until_ns) in zip(moves, moves[1:] + [("", end_ns)]):
        options = {"expect_ms": pulse.monitor_ms(session, 100, 20), "to_ns": until_ns, "stall_ms": STALL_MS,
                   "guest_late_ms": STALL_MS}
        result = captures[sink].analyse(log, from_ns=at_ns, **options)
        heard_ms = (result["tone_from_ns"] - at_ns) / 1e6
        print(f"moved to {sink}: heard there after {heard_ms:.0f} ms")
        harness.check(result["tone_from_ns"] and heard_ms < HEALED_NS / 1e6, f"not heard on {sink} in time")
        expect(session, captures[sink].analyse(log, from_ns=at_ns + HEALED_NS, **options), 2, 100, f"on {sink}")


def paused(session):
    session.start_server(quantum=256)
    session.sink()
    capture = session.capture().wait_running()
    guest, log = play(session, latency_ms=100, guest=("--pause-every", 4, "--pause", 2500))

    def state(wanted, seconds):
        harness.wait_for(f"the state {wanted}", lambda: (session.status("vm1") or {}).get("state") == wanted, seconds)
        return harness.now_ns()

    state("playing", 5)
    idle_ns = state("idle", 7)
    harness.wait_for("it to be corked", lambda: (session.stream("vm1") or {}).get("corked"), 2)
    resumed_ns = state("playing", 6)
    time.sleep(2.5)
    capture.stop()
    guest.end()
    options = {"expect_ms": pulse.monitor_ms(session, 100, 20), "stall_ms": STALL_MS, "guest_late_ms": STALL_MS}
    result = capture.analyse(log, from_ns=idle_ns, **options)
    with open(log) as lines:
        published = [int(line.split()[1]) for line in lines if not line.startswith("#")]
    heard_ms = (result["tone_from_ns"] - next(ns for ns in published if ns > idle_ns)) / 1e6
    print(f"after the pause: {harness.describe(result)}; whole {heard_ms:.0f} ms after the guest's first chunk")
    harness.check(0 < heard_ms < 600, "the guest is not heard again in time")
    harness.fault_row(f"{TITLES[sys.argv[1]]}: the guest pauses, its stream is corked", "silence, state idle",
                      heard_ms / 1e3)
    expect(session, capture.analyse(log, from_ns=resumed_ns + 1000000000, **options), 1, 100, "a second later", 6)


def mixer(session):
    session.start_server()
    session.sink()
    capture = session.capture().wait_running()
    guest, _ = play(session, latency_ms=100, hz=200, guest=("--per-channel",))
    time.sleep(2.5)
    levels = []

    def chosen(stream):
        return {"mute": str(int(stream["mute"])), "volume": stream["volume"]["front-left"]["value_percent"]}

    for command, argument, expected in (("volume", "50%", 0.125), ("mute", "1", 0), ("mute", "0", 0.125),
                                        ("volume", "100%", 1)):
        session.change("vm1", lambda stream: chosen(stream)[command] == argument, f"set-sink-input-{command}", argument)
        time.sleep(1)
        levels.append((harness.now_ns(), expected, f"{command} {argument}"))
    capture.stop()
    guest.end()
    for at_ns, expected, what in levels:
        found = capture.analyse(per_channel=200, from_ns=at_ns - 500000000, to_ns=at_ns - 100000000)["channels"][0]
        print(f"{what}: {found}")
        harness.check(abs(found["level"] - expected * 10 ** (-1 / 20)) < 0.02, f"{what}: level {found['level']:.3f}")


def test():
    kind, scenario = sys.argv[1:]
    with pulse.session(kind) as session:
        {"content": content, "server": server, "replaced": replaced, "surround": surround, "moved": moved, "paused": paused,
         "mixer": mixer}[scenario](session)


harness.main(test)
