# SPDX-License-Identifier: MIT
"""Earshot as a JACK client, end to end.

test_jack.py tone       60 s at +500 and -500 ppm: no frame lost or doubled
             latency    --latency is what is on Earshot's own ports, and what status says adds up
             server     jackd comes late, is killed and comes back, while a guest plays
             surround   a tone per channel on the ports of its speaker
             format     the guest changes its rate: cables laid by hand stay
             pipewire   PipeWire's libjack, with a sink whose channels are in another order
"""

import glob
import os
import sys
import time

import harness
from jack_session import JackSession

CONTENT_MS = 250  # above the machine's own stalls
TONE_S = harness.MINUTE_S + 1
HZ = 200
LEVEL = 10 ** (-1 / 20)
CAUGHT_UP_NS = 2500000000
LAYOUTS = (("mono", 0x4, "FC"), ("quad", 0x33, "FL FR RL RR"), ("back", 0x3F, "FL FR FC LFE RL RR"),
           ("side", 0x60F, "FL FR FC LFE SL SR"), ("large", 0x63F, "FL FR FC LFE RL RR SL SR"))


def stereo(client):
    return f"{client}:FL", f"{client}:FR"


def ports_ms(session, client, latency_ms, unit_ms, rate=48000):
    """When a delivery's first frame is on the client's ports after its publication."""
    def told():
        ranges = [session.latency(port, "playback") for port in stereo(client)]
        return all(ranges) and ranges
    ranges = harness.wait_for("a playback latency", told)
    return latency_ms - unit_ms - max(most for _, most in ranges) * 1000 / rate


def tone():
    with JackSession() as session:
        session.start_server(period=256)
        lanes = []
        for client, ppm in (("faster", 500), ("slower", -500)):
            earshot = session.witnessed("-m", session.ring(client), "-o", "jack", "-n", client, "-t", CONTENT_MS, name=client)
            guest, log = session.guest("--shm", session.ring(client), "--ppm", ppm, "--jitter", 2,
                                       name=f"guest-{client}")
            lanes.append((client, ppm, guest, log, earshot.pulls, session.capture_ports(*stereo(client)).wait_running()))
        time.sleep(TONE_S + 1.5)
        for client, ppm, guest, log, pulls, capture in lanes:
            capture.stop()
            expected_ms = ports_ms(session, client, CONTENT_MS, 20)
            guest.end()
            result = capture.analyse(log, pulls, ppm=ppm, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100)
            harness.expect_clean(result, TONE_S - 1, f"{ppm:+d} ppm")
            harness.expect_latency(result, expected_ms, 4, f"{ppm:+d} ppm")


def latency():
    with JackSession() as session:
        session.start_server(period=128)
        lanes = []
        for latency_ms in (48, 90):
            client = f"t{latency_ms}"
            session.earshot("-m", session.ring(client), "-o", "jack", "-n", client, "-t", latency_ms, name=client)
            guest, log = session.guest("--shm", session.ring(client), "--ppm", 200, name=f"guest-{client}")
            lanes.append((client, latency_ms, guest, log, session.capture_ports(*stereo(client)).wait_running()))
        time.sleep(4)
        settled_ns = harness.now_ns()
        for _ in range(10):
            time.sleep(1)
            for client, latency_ms, *_ in lanes:
                parts = session.status(client)["latency_ms"]
                total = parts.pop("total")
                harness.check(abs(sum(parts.values()) - total) < 0.06, f"{client}: {parts} do not sum to {total}")
        for client, latency_ms, guest, log, capture in lanes:
            told = session.latency(f"{client}:FL", "capture")[1] / 48
            expected_ms = ports_ms(session, client, latency_ms, 20)
            device = session.status(client)["latency_ms"]["device"]
            capture.stop()
            guest.end()
            result = capture.analyse(log, ppm=200, expect_ms=expected_ms, stall_ms=2, guest_late_ms=2,
                                     from_ns=settled_ns)
            print(f"-t {latency_ms}: {harness.describe(result)}; {expected_ms:.2f} wanted, status says device {device},"
                  f" others are told {told:.1f} ms", flush=True)
            # Away from stalls, which is most of the time; a machine that stalls all the time tells nothing.
            judged = result["latency"]
            harness.check(judged["count"] > 100, f"only {judged['count']} deliveries away from stalls")
            harness.check(abs(judged["median_ms"] - expected_ms) <= 2,
                          f"-t {latency_ms}: {judged['median_ms']:.2f} ms, not {expected_ms:.2f}")
            harness.check(abs(told + device - latency_ms) < 2.5, f"-t {latency_ms}: others are told {told:.1f} ms")


def server():
    with JackSession() as session:
        earshot = session.witnessed("-m", session.ring(), "-o", "jack", "-n", "vm1", "-t", 100)
        guest, log = session.guest("--shm", session.ring())
        time.sleep(2)
        harness.check(earshot.running(), "the receiver did not wait for a server")
        harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
        runs = []
        for what in ("it comes later than Earshot", "it is killed and started again", "it ends and is started again"):
            session.start_server(period=256)
            up_ns = harness.now_ns()
            capture = session.capture_ports(*stereo("vm1")).wait_running()
            time.sleep(6)
            runs.append((what, up_ns, capture, ports_ms(session, "vm1", 100, 20)))
            capture.stop()
            harness.check(session.connections().get("vm1:FL") == ["system:playback_1"], f"{session.connections()}")
            if len(runs) == 3:
                break
            if len(runs) == 1:
                session.kill_server()
            else:
                session.server[0].end()
            time.sleep(1.5)
            harness.check(earshot.running(), "the receiver died with the server")
            harness.check((session.status("vm1") or {}).get("state") == "no-server", f"status: {session.status()}")
        guest.end()
        harness.check(earshot.end() == 0, "the receiver did not end in order")
        for what, up_ns, capture, expected_ms in runs:
            result = capture.analyse(log, expect_ms=expected_ms)
            print(f"{what}: {harness.describe(result)}, {(result['tone_from_ns'] - up_ns) / 1e9:.2f} s after it was up")
            harness.check(result["tone_from_ns"], f"{what}: no sound")
            harness.fault_row(f"JACK: {what}", "state no-server; its ports and their cables are there again",
                              (result["tone_from_ns"] - up_ns) / 1e9, harness.SERVER_BACK_S)
            settled = capture.analyse(log, expect_ms=expected_ms, from_ns=result["tone_from_ns"] + CAUGHT_UP_NS)
            harness.expect_clean(settled, 2, what)
            harness.expect_latency(settled, expected_ms, 5, what)


def check_tones(found, expected, what):
    print(f"{what}: {[(channel['multiple'], round(channel['level'], 3)) for channel in found]}", flush=True)
    harness.check(tuple(channel["multiple"] for channel in found) == tuple(expected), f"{what}: channels misplaced")
    for channel in found:
        harness.check(abs(channel["level"] - LEVEL) < 0.02, f"{what}: level {channel['level']:.3f}")
        harness.check(channel["next_level"] < 0.005, f"{what}: {channel['next_level']:.3f} of another channel")


def surround():
    with JackSession() as session:
        session.start_server(period=1024, outputs=8)
        lanes = []
        for name, mask, speakers in LAYOUTS:
            speakers = speakers.split()
            session.earshot("-m", session.ring(name), "-o", "jack", "-n", name, "-t", CONTENT_MS, name=name)
            session.guest("--shm", session.ring(name), "--channels", len(speakers), "--mask", mask, "--per-channel",
                          hz=HZ, name=f"guest-{name}")
            lanes.append((name, speakers, session.capture_ports(*(f"{name}:{s}" for s in speakers)).wait_running()))
        time.sleep(4.5)
        cables = session.connections()
        for name, speakers, capture in lanes:
            capture.stop()
            found = capture.analyse(per_channel=HZ, from_ns=harness.now_ns() - 2500000000)["channels"]
            check_tones(found, range(1, len(speakers) + 1), name)
            for number, speaker in enumerate(speakers, 1):
                outputs = [port for port in cables[f"{name}:{speaker}"] if port.startswith("system:")]
                wanted = [number] if len(speakers) > 1 else [1, 2]
                harness.check(outputs == [f"system:playback_{n}" for n in wanted], f"{name}:{speaker}: {outputs}")


def format_change():
    with JackSession() as session:
        session.start_server(period=256, outputs=4)
        session.witnessed("-m", session.ring(), "-o", "jack", "-n", "vm1", "-t", CONTENT_MS)
        capture = session.capture_ports(*stereo("vm1")).wait_running()
        guest, _ = session.guest("--shm", session.ring())
        harness.wait_for("the client's cables", lambda: "system:playback_2" in session.connections().get("vm1:FR", ()))
        session.run("jack_disconnect", "vm1:FL", "system:playback_1")
        session.run("jack_connect", "vm1:FR", "system:playback_4")
        time.sleep(2.5)
        by_hand = {port: sorted(to) for port, to in session.connections().items() if port.startswith("vm1:")}
        guest.end()
        time.sleep(1)
        guest, log = session.guest("--shm", session.ring(), "--rate", 44100, name="guest-cd")
        harness.wait_for("the new format", lambda: session.status("vm1")["format"]["rate"] == 44100)
        changed_ns = harness.now_ns()
        time.sleep(6)
        now = {port: sorted(to) for port, to in session.connections().items() if port.startswith("vm1:")}
        harness.check(by_hand == now, f"cables before: {by_hand}, after: {now}")
        harness.check("system:playback_4" in now["vm1:FR"] and "system:playback_1" not in now["vm1:FL"], f"{now}")
        expected_ms = ports_ms(session, "vm1", CONTENT_MS, 20)
        capture.stop()
        result = capture.analyse(log, rate=44100, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100,
                                 from_ns=changed_ns + 2000000000)
        harness.expect_clean(result, 3, "after the change")
        harness.expect_latency(result, expected_ms, 4, "after the change")


def pipewire_libjack():
    found = glob.glob("/usr/lib*/pipewire-0.3/jack/libjack.so.0") + \
        glob.glob("/usr/lib/*/pipewire-0.3/jack/libjack.so.0")
    if not found:
        raise harness.Skip("not installed: PipeWire's libjack")
    return os.path.dirname(found[0])


def pipewire():
    libjack = pipewire_libjack()
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink("speakers", "FL FR RL RR FC LFE")
        session.env["LD_LIBRARY_PATH"] = libjack
        capture = session.capture("speakers", positions="FL,FR,RL,RR,FC,LFE").wait_running()
        earshot = session.witnessed("-m", session.ring(), "-o", "jack", "-n", "vm1", "-t", CONTENT_MS)
        guest, _ = session.guest("--shm", session.ring(), "--channels", 6, "--mask", 0x60F, "--per-channel", hz=HZ)
        time.sleep(5)
        capture.stop()
        tones = capture.analyse(per_channel=HZ, from_ns=harness.now_ns() - 2500000000)["channels"]
        guest.end()
        check_tones(tones, (1, 2, 5, 6, 3, 4), "side speakers on rear ones")

        # Stereo to the same sink: its fronts, and nothing lost.
        capture = session.capture("speakers", positions="FL,FR").wait_running()
        guest, log = session.guest("--shm", session.ring(), "--ppm", 300, name="guest-stereo")
        time.sleep(11)  # a new guest's latency is steered to where it belongs, not jumped
        settled_ns = harness.now_ns()
        time.sleep(7)
        status = session.status("vm1")
        capture.stop()
        expected_ms = harness.monitor_ms(CONTENT_MS - status["latency_ms"]["device"], 20, 256)
        result = capture.analyse(log, ppm=300, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100,
                                 from_ns=settled_ns)
        harness.expect_clean(result, 6, "through PipeWire's libjack")
        harness.expect_latency(result, expected_ms, 4, "through PipeWire's libjack")

        # Its server dies and comes back.
        session.kill_server()
        time.sleep(1)
        harness.check(earshot.running(), "the receiver died with the server")
        del session.env["LD_LIBRARY_PATH"]
        session.start_server(quantum=256)
        session.sink("speakers", "FL FR")
        up_ns = harness.now_ns()
        capture = session.capture("speakers").wait_running()
        time.sleep(5)
        capture.stop()
        guest.end()
        harness.check(earshot.end() == 0, "the receiver did not end in order")
        result = capture.analyse(log, ppm=300, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100)
        print(f"back: {harness.describe(result)}, {(result['tone_from_ns'] - up_ns) / 1e9:.2f} s after the sink")
        harness.check(result["tone_from_ns"], "no sound")
        harness.fault_row("JACK's library of PipeWire: its server is killed and started again", "state no-server",
                          (result["tone_from_ns"] - up_ns) / 1e9, harness.SERVER_BACK_S)


harness.main({"tone": tone, "latency": latency, "server": server, "surround": surround, "format": format_change,
              "pipewire": pipewire}[sys.argv[1]])
