# SPDX-License-Identifier: MIT
"""ALSA with cards of all kinds and with the plug-ins for PipeWire and PulseAudio.

test_alsa.py tone|formats|faults|servers|surround|file
"""

import array
import math
import os
import sys
import time

import harness
from alsa_session import Devices

LATENCY_MS = 250  # above what a guest is late by here: where this is about content
STALL_MS = 8  # two periods of sound are in a device; a longer stall of the machine empties it, whatever the latency
CARD_STALL_MS = 5  # ... and one is left when it asks for more: stalls of 5.6 ms have emptied it
FAULT_LATENCY_MS = 100
CAUGHT_UP_NS = 3000000000  # what the guest said meanwhile may be heard first
LEVEL = 10 ** (-1 / 20)


def play(session, devices, device, name, latency_ms, *guest_args, hz=harness.TONE_HZ):
    """A guest and its receiver. Returns (receiver, guest, the guest's log)."""
    earshot = devices.earshot(device, "-m", session.ring(name), "-t", latency_ms, "-n", name, name=f"earshot-{name}")
    guest, log = session.guest("--shm", session.ring(name), *guest_args, name=f"guest-{name}", hz=hz)
    return earshot, guest, log


def start_pulse(session):
    harness.need("pipewire-pulse")
    session.server.append(session.spawn("pipewire-pulse", ["pipewire-pulse"]))
    harness.wait_for("pipewire-pulse", lambda: os.path.exists(f"{session.runtime}/pulse/native"))


def check_status(session, name):
    """Its parts sum to its total."""
    status = session.status(name)
    harness.check(status and status["backend"] == "alsa" and status["state"] == "playing", f"status: {status}")
    parts = status["latency_ms"]
    total = sum(parts[part] for part in ("guest", "jitter", "quantum", "resampler", "device"))
    harness.check(abs(total - parts["total"]) < 0.01, f"the parts sum to {total:.3f}: {parts}")
    return status


def tone():
    """No frame lost or doubled for a minute, whatever the two clocks, the sizes and what is behind the device."""
    seconds = harness.MINUTE_S
    with harness.Session() as session:
        devices = Devices(session)
        session.start_server(quantum=256)
        start_pulse(session)
        # On the way through PulseAudio's plug-in are ordinary threads: theirs of this niceness, and ours.
        session.spawn("stalls-ordinary", [harness.built("earshot-stalls"), session.stalls_path, "-11"])
        lanes = []
        for name, ppm, options in (("fast", 500, "ppm -300 beyond 480"),
                                   ("slow", -500, 'period_min 940 period_max 940 formats "S16_LE" rates "44100"')):
            lanes.append((name, ppm, devices.card(name, options)))
        for name, ppm, plug in (("to-pipewire", 500, devices.pipewire), ("to-pulse", -500, devices.pulse)):
            sink = session.sink(f"sink-{name}")
            plug(name, sink)
            lanes.append((name, ppm, session.capture(sink).wait_running()))
        logs = [play(session, devices, name, name, LATENCY_MS, "--ppm", ppm, "--jitter", 2)[2]
                for name, ppm, _ in lanes]
        from_ns = harness.now_ns() + CAUGHT_UP_NS
        time.sleep(seconds + 5)
        for name, _, _ in lanes:
            check_status(session, name)
        for (name, ppm, capture), log in zip(lanes, logs):
            on_card = name in ("fast", "slow")
            # The fast card's 10 ms between buffer and ear are behind the capture.
            on_card_ms = LATENCY_MS - 20 - (10 if name == "fast" else 0)
            expected_ms = on_card_ms if on_card else harness.monitor_ms(LATENCY_MS, 20, 256)
            if not on_card:
                capture.stop()
            result = capture.analyse(log, ppm=ppm, expect_ms=expected_ms, from_ns=from_ns, stall_ms=STALL_MS,
                                     guest_late_ms=100)
            harness.expect_clean(result, seconds - 2, f"{name}, {ppm:+d} ppm")
            harness.expect_latency(result, expected_ms, 4 if name != "to-pulse" else 8, name)


def formats():
    """Whatever the card takes it gets, at the rate and in the sizes it has."""
    cards = (("s16", 'formats "S16_LE"'), ("s24", 'formats "S24_LE" rates "96000"'),
             ("s243", 'formats "S24_3LE" rates "44100"'), ("s32", 'formats "S32_LE" rates "192000" slow 20'),
             ("float", 'formats "FLOAT_LE"'), ("large", "period_min 4096 period_max 4096"),
             ("steps", "period_step 47 period_max 470"), ("ten", 'channels "10" formats "S32_LE"'))
    with harness.Session() as session:
        devices = Devices(session)
        lanes = [(name, devices.card(name, options)) for name, options in cards]
        logs = [play(session, devices, name, name, LATENCY_MS)[2] for name, _ in lanes]
        from_ns = harness.now_ns() + CAUGHT_UP_NS
        time.sleep(9)
        for (name, card), log in zip(lanes, logs):
            if name == "ten":
                continue  # the capture has no room for ten channels: that it plays is in its status
            result = card.analyse(log, expect_ms=LATENCY_MS - 20, from_ns=from_ns, stall_ms=STALL_MS, guest_late_ms=100)
            harness.expect_clean(result, 4, name)
            harness.expect_latency(result, LATENCY_MS - 20, 4, name)
        for name, _ in lanes:
            check_status(session, name)


def faults():
    """A card that is busy, runs dry, sleeps, stands still and is unplugged, each while a guest plays."""
    with harness.Session() as session:
        devices = Devices(session)
        card = devices.card("card", "ppm 100")
        card.fault("busy")
        earshot, _, log = play(session, devices, "card", "vm", FAULT_LATENCY_MS)
        busy = "another program is using the device"
        harness.wait_for("the line about a busy device", lambda: busy in earshot.log(), 6)
        harness.check(session.status("vm")["state"] == "no-server", f"status: {session.status()}")
        rows = [("card is busy", busy, card.heal("busy"))]
        time.sleep(6)

        def expect_back(fault, seen, healed_ns, settle_s=6.0):
            rows.append((fault, seen, healed_ns))
            time.sleep(settle_s)
            harness.check(earshot.running(), f"{fault}: the receiver is gone")

        card.fault("xrun")
        expect_back("card runs dry", "a gap", harness.now_ns(), 4)
        for deaf in (False, True):
            if deaf:
                card.fault("deaf")
            card.fault("suspend")
            time.sleep(0.7)
            expect_back("card sleeps" + (", and has to begin anew" if deaf else ""), "silence", card.heal("suspend"))
        card.fault("stall")
        time.sleep(2.5)
        expect_back("card stands still", "silence", card.heal("stall"))
        card.fault("gone")
        harness.wait_for("the loss to be noticed", lambda: session.status("vm")["state"] == "no-server", 3)
        time.sleep(3)
        expect_back("card is unplugged", "no-server", card.heal("gone"))

        for i, (fault, seen, healed_ns) in enumerate(rows):
            until_ns = rows[i + 1][2] - 3500000000 if i + 1 < len(rows) and rows[i + 1][1] != "a gap" else \
                rows[i + 1][2] - 100000000 if i + 1 < len(rows) else harness.now_ns()
            options = dict(expect_ms=FAULT_LATENCY_MS - 20, to_ns=until_ns, stall_ms=CARD_STALL_MS)
            back = card.analyse(log, from_ns=healed_ns, **options)
            harness.check(back["tone_from_ns"], f"{fault}: silent for good")
            # One that has to be opened anew is what a sound server is to others.
            limit_s = harness.BACK_S if fault in ("card runs dry", "card sleeps") else harness.SERVER_BACK_S
            harness.fault_row(f"ALSA: the {fault}", seen, max(back["tone_from_ns"] - healed_ns, 0) / 1e9, limit_s)
            settled = card.analyse(log, from_ns=back["tone_from_ns"] + CAUGHT_UP_NS, **options)
            print(f"{fault}: then {harness.describe(settled)}", flush=True)
            harness.check(settled["judged_events"] == 0, f"{fault}: {settled['judged_events']} discontinuities after")


def servers():
    """The server behind the plug-in is killed and comes back."""
    with harness.Session() as session:
        devices = Devices(session)
        session.start_server(quantum=256)
        start_pulse(session)
        lanes = []
        for name, plug in (("to-pipewire", devices.pipewire), ("to-pulse", devices.pulse)):
            plug(name, session.sink(f"sink-{name}"))
            lanes.append((name, *play(session, devices, name, name, FAULT_LATENCY_MS)))
        time.sleep(4)
        for name, *_ in lanes:
            check_status(session, name)
        session.kill_server()
        time.sleep(3)
        for name, earshot, *_ in lanes:
            harness.check(earshot.running(), f"{name}: the receiver died with the server")
        session.start_server(quantum=256)
        captures = [session.capture(session.sink(f"sink-{name}")) for name, *_ in lanes]
        for capture in captures:
            capture.wait_running()
        start_pulse(session)
        back_ns = harness.now_ns()
        time.sleep(9)
        for (name, earshot, _, log), capture in zip(lanes, captures):
            capture.stop()
            harness.check(earshot.running(), f"{name}: the receiver is gone")
            options = dict(expect_ms=harness.monitor_ms(FAULT_LATENCY_MS, 20, 256))
            result = capture.analyse(log, **options)
            print(f"{name}: {harness.describe(result)}")
            harness.check(result["tone_from_ns"], f"{name}: silent for good")
            harness.fault_row(f"ALSA, plugged {name}: the server is killed and started again", "silence",
                              max(result["tone_from_ns"] - back_ns, 0) / 1e9, harness.SERVER_BACK_S)
            settled = capture.analyse(log, from_ns=result["tone_from_ns"] + CAUGHT_UP_NS, **options)
            harness.expect_clean(settled, 2.5, name)


def surround():
    """The guest plays N times 200 Hz on its Nth channel: each arrives on the speaker of its name, whatever the
    card's order and whether it can be told another."""
    hz = 200
    alsa51, alsa71 = "FL,FR,RL,RR,FC,LFE", "FL,FR,RL,RR,FC,LFE,SL,SR"
    # The card, what the guest says, and which multiple is heard on each of the card's channels.
    cards = (
        ("free", f'channels "6" chmap "{alsa51}"', 0x3F, (1, 2, 3, 4, 5, 6)),  # takes the guest's order
        ("fixed", f'channels "6" chmap "{alsa51}" chmap_fixed 1', 0x3F, (1, 2, 5, 6, 3, 4)),
        ("unnamed", 'channels "6"', 0x3F, (1, 2, 5, 6, 3, 4)),
        ("sides", f'channels "6" chmap "{alsa51}" chmap_fixed 1', 0x60F, (1, 2, 5, 6, 3, 4)),
        ("large", f'channels "8" chmap "{alsa71}" chmap_fixed 1', 0x63F, (1, 2, 5, 6, 3, 4, 7, 8)),
        ("odd", 'channels "8" chmap "LFE,FC,FR,FL,SR,SL,RR,RL" chmap_fixed 1', 0x63F, (4, 3, 2, 1, 8, 7, 6, 5)),
        ("quad", 'channels "2,4,6"', 0x33, (1, 2, 3, 4)),
        ("mono", 'channels "2,6"', 0x4, (1, 1)),
    )
    plugged = (("quad", 0x33, "FL FR RL RR", "FL,FR,RL,RR", 4), ("mono", 0x4, "FL FR", "FL,FR", 1),
               ("back", 0x3F, "FL FR FC LFE RL RR", "FL,FR,FC,LFE,RL,RR", 6),
               ("side", 0x60F, "FL FR FC LFE SL SR", "FL,FR,FC,LFE,SL,SR", 6),
               ("large", 0x63F, "FL FR FC LFE RL RR SL SR", "FL,FR,FC,LFE,RL,RR,SL,SR", 8))
    with harness.Session() as session:
        devices = Devices(session)
        session.start_server(quantum=1024)
        start_pulse(session)

        def judge(lanes):
            """Lanes of (title, device, mask, capture, expected), all at once: each is heard for 2.5 s."""
            running = []
            for _, device, mask, _, expected in lanes:
                channels = ("--channels", bin(mask).count("1"), "--mask", mask)
                running += play(session, devices, device, device, LATENCY_MS, *channels, "--per-channel", hz=hz)[:2]
            time.sleep(6)
            for title, _, _, capture, expected in lanes:
                found = capture.analyse(per_channel=hz, from_ns=harness.now_ns() - 2500000000)["channels"]
                print(f"{title}: {[(channel['multiple'], round(channel['level'], 3)) for channel in found]}",
                      flush=True)
                harness.check(tuple(channel["multiple"] for channel in found) == expected,
                              f"{title}: channels misplaced")
                # PulseAudio's plug-in takes a while to tell its clock: a pitch that is still steered smears the tone.
                least, most_of_others = (0.5, 0.05) if title.endswith("-pulse") else (LEVEL - 0.02, 0.005)
                for channel in found:
                    harness.check(least < channel["level"] < LEVEL + 0.02, f"{title}: level {channel['level']:.3f}")
                    harness.check(channel["next_level"] < most_of_others,
                                  f"{title}: {channel['next_level']:.3f} of another")
            for process in running:
                process.end()

        judge([(f"card {name}", name, mask, devices.card(name, options), expected)
               for name, options, mask, expected in cards])
        for plug in (devices.pipewire, devices.pulse):
            lanes = []
            for title, mask, positions, order, count in plugged:
                name = f"{title}-{plug.__name__}"
                sink = session.sink(f"sink-{name}", positions)
                plug(name, sink)
                capture = session.capture(sink, positions=order).wait_running()
                lanes.append((name, name, mask, capture, tuple(range(1, count + 1)) if count > 1 else (1, 1)))
            judge(lanes)
            for lane in lanes:
                lane[3].stop()


def file():
    """A device without a clock gets sound at the pace of time, whole."""
    seconds, hz = 5, 100
    with harness.Session() as session:
        devices = Devices(session)
        path = f"{session.directory}/recording"
        devices.write(f'pcm.recorder {{ type file file "{path}" format "raw" slave.pcm "null" }}\n')
        earshot, guest, _ = play(session, devices, "recorder", "vm", LATENCY_MS, hz=hz)
        time.sleep(seconds)
        rate = 48000
        harness.check(earshot.end() == 0, "the receiver did not end in order")
        guest.end()
        samples = array.array("f")
        with open(path, "rb") as recording:
            data = recording.read()
        samples.frombytes(data[:len(data) // 8 * 8])
        frames = len(samples) // 2
        print(f"{frames / rate:.2f} s in the file", flush=True)
        harness.check(frames / rate < seconds + 1, f"{frames / rate:.2f} s recorded in {seconds} s: not paced")
        sounding = [i for i in range(frames) if math.hypot(samples[2 * i], samples[2 * i + 1]) > 0.99 * LEVEL]
        harness.check(len(sounding) > (seconds - 2) * rate, f"only {len(sounding) / rate:.2f} s of sound")
        first, last = sounding[0], sounding[-1]
        step = 2 * math.pi * hz / rate
        worst, before = 0.0, math.atan2(samples[2 * first + 1], samples[2 * first])
        for i in range(first + 1, last):
            phase = math.atan2(samples[2 * i + 1], samples[2 * i])
            turn = (phase - before - step + math.pi) % (2 * math.pi) - math.pi
            worst, before = max(worst, abs(turn)), phase
        print(f"largest step of the phase: {worst / step:.3f} frames", flush=True)
        harness.check(worst < 0.25 * step, f"a step of {worst / step:.2f} frames")


SCENARIOS = {scenario.__name__: scenario for scenario in (tone, formats, faults, servers, surround, file)}
harness.main(SCENARIOS[sys.argv[1]])
