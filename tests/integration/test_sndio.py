# SPDX-License-Identifier: MIT
"""sndio through a real sndiod, whose only device is a simulated card: alsa-lib's "hw" is one here.

test_sndio.py tone|server|surround
"""

import sys
import time

import harness
from sndio_session import NICENESS, UNIT, Sndiod

LATENCY_MS = 250
FAULT_LATENCY_MS = 120
CAUGHT_UP_NS = 3000000000
STALL_MS = 8  # sndiod keeps two blocks in its device
LEVEL = 10 ** (-1 / 20)


def play(session, server, name, latency_ms, *guest_args, hz=harness.TONE_HZ):
    earshot = session.earshot("-o", "sndio", "-d", server.device, "-m", session.ring(name), "-t", latency_ms, "-n", name,
                              name=f"earshot-{name}")
    guest, log = session.guest("--shm", session.ring(name), *guest_args, name=f"guest-{name}", hz=hz)
    return earshot, guest, log


def tone():
    """No frame lost or doubled for a minute at either end of the clocks there are."""
    seconds = harness.MINUTE_S
    with harness.Session() as session:
        session.watch_ordinary_threads(NICENESS)
        lanes = []
        for unit, ppm, card_ppm in ((UNIT, 500, -200), (UNIT + 1, -500, 0)):
            server = Sndiod(session, unit, options=f"ppm {card_ppm}")
            lanes.append((server, ppm, play(session, server, f"vm{unit}", LATENCY_MS, "--ppm", ppm, "--jitter", 2)[2]))
        time.sleep(seconds + 3)
        for server, ppm, log in lanes:
            status = session.status(f"vm{server.unit}")
            harness.check(status and status["state"] == "playing" and status["backend"] == "sndio", f"{status}")
            parts = status["latency_ms"]
            total = sum(parts[part] for part in ("guest", "jitter", "quantum", "resampler", "device"))
            harness.check(abs(total - parts["total"]) < 0.01, f"the parts sum to {total:.3f}: {parts}")
            result = server.card.analyse(log, ppm=ppm, expect_ms=LATENCY_MS - 20, stall_ms=STALL_MS, guest_late_ms=100)
            harness.expect_clean(result, seconds - 2, f"{ppm:+d} ppm")
            harness.expect_latency(result, LATENCY_MS - 20, 12, f"{ppm:+d} ppm")  # the server's block, which it tells


def server():
    """sndiod is killed and comes back."""
    with harness.Session() as session:
        session.watch_ordinary_threads(NICENESS)
        sndiod = Sndiod(session)
        earshot, _, log = play(session, sndiod, "vm", FAULT_LATENCY_MS)
        time.sleep(4)
        harness.check(session.status("vm")["state"] == "playing", f"status: {session.status()}")
        sndiod.kill()
        harness.wait_for("the loss to be noticed", lambda: session.status("vm")["state"] == "no-server", 3)
        time.sleep(2)
        sndiod.start()
        back_ns = harness.now_ns()
        time.sleep(8)
        harness.check(earshot.running(), "the receiver is gone")
        options = dict(expect_ms=FAULT_LATENCY_MS - 20, stall_ms=STALL_MS)
        result = sndiod.card.analyse(log, from_ns=back_ns, **options)
        harness.check(result["tone_from_ns"], "silent for good")
        harness.fault_row("sndio: its server is killed and started again", "state no-server",
                          (result["tone_from_ns"] - back_ns) / 1e9, harness.SERVER_BACK_S)
        settled = sndiod.card.analyse(log, from_ns=result["tone_from_ns"] + CAUGHT_UP_NS, **options)
        harness.expect_clean(settled, 2, "after")


def surround():
    """Each channel on its speaker, in the order that sound cards have; what the server has not is folded."""
    hz = 200
    lanes = ((6, 0x3F, (1, 2, 5, 6, 3, 4)), (6, 0x60F, (1, 2, 5, 6, 3, 4)), (8, 0x63F, (1, 2, 5, 6, 3, 4, 7, 8)),
             (4, 0x33, (1, 2, 3, 4)), (2, 0x4, (1, 1)))
    with harness.Session() as session:
        servers = []
        for i, (channels, mask, _) in enumerate(lanes):
            servers.append(Sndiod(session, UNIT + i, channels))
            play(session, servers[i], f"vm{i}", LATENCY_MS, "--channels", bin(mask).count("1"), "--mask", mask,
                 "--per-channel", hz=hz)
        time.sleep(6)
        for sndiod, (channels, mask, expected) in zip(servers, lanes):
            found = sndiod.card.analyse(per_channel=hz, from_ns=harness.now_ns() - 2500000000)["channels"]
            title = f"{mask:#x} on {channels} channels"
            print(f"{title}: {[(channel['multiple'], round(channel['level'], 3)) for channel in found]}", flush=True)
            harness.check(tuple(channel["multiple"] for channel in found) == expected, f"{title}: channels misplaced")
            for channel in found:
                harness.check(abs(channel["level"] - LEVEL) < 0.02, f"{title}: level {channel['level']:.3f}")


SCENARIOS = {scenario.__name__: scenario for scenario in (tone, server, surround)}
harness.main(SCENARIOS[sys.argv[1]])
