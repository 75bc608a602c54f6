#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The ALSA backend against simulated cards (alsa_test_plugin.c): what backends/backend.h promises, no more.

usage: backend_alsa_test.py BACKEND_REMOTE [SCENARIO ...]
"""

import os
import sys
import time

import backend_contract
import harness
from alsa_session import Devices
from remote import check_pulls, wait_for

PERIOD_US = 5333


class Machine(backend_contract.Server, harness.Session):
    """A computer with the cards one gives it."""

    tools = ("dbus-daemon",)
    target = "card"
    niceness = os.nice(0)  # ours, where backend_remote may not make its thread a real-time one
    probes = ("ok", "error ENODEV")  # of this machine's own default device

    def __init__(self):
        super().__init__()
        self.devices = Devices(self)
        self.env.update(self.devices.env())

    def start(self):
        self.played = self.card(options='formats "S16_LE"')

    def card(self, name="card", options=""):
        return self.devices.card(name, options)

    def targets(self, count):
        return [self.card(f"card{k}").name for k in range(count)]

    def check_playing(self, stats):
        assert stats["min"] == stats["max"] == 256, stats
        assert abs(stats["delay_min"] - 256) <= 48 and stats["delay_max"] <= 256 + 48, stats  # a millisecond

    def check_closed(self):
        assert os.path.getsize(self.played.path) > 48000, "the card has played nothing"


def granted(machine, remote):
    """Whatever sizes and rates a card has, they are used and reported."""
    cards = (
        ("exact", "", 5333, 256, 48000),
        ("short", "", 1333, 64, 48000),
        ("odd", "period_min 940 period_max 940", 5333, 940, 48000),
        ("huge", "period_min 4096 period_max 4096 buffer_min 8192", 5333, 4096, 48000),
        ("steps", "period_step 47 period_max 470", 5333, 235, 48000),
        ("slow", 'rates "44100"', 5333, 235, 44100),
        ("fast", 'rates "96000,192000"', 5333, 512, 96000),
        ("one", "period_min 256 period_max 256 buffer_min 4096", 5333, 256, 48000),
    )
    for name, options, *_ in cards:
        machine.card(name, options)
    remote.ok("context")
    for name, _, period_us, frames, rate in cards:
        index, granted_us = remote.ok(f"open guest 2 3 {period_us} {name} connect")
        remote.ok(f"start {index}")
        remote.wait_pulls(index)
        stats = remote.settle(index, 0.5)
        check_pulls(stats)
        assert stats["rate"] == rate, f"{name}: {stats}"
        assert stats["min"] == stats["max"] == frames, f"{name}: {stats}"
        assert abs(int(granted_us) - frames * 1e6 / rate) <= 1, f"{name}: {granted_us} us"
        # Two periods ahead, however large the buffer is.
        assert abs(stats["delay_max"] - frames) <= rate / 1000, f"{name}: {stats}"
        remote.ok(f"close {index}")


def clock(machine, remote):
    """Position and time are the card's, not the thread's: 700 ppm are seen as such within two seconds."""
    machine.card("card", "ppm 700 beyond 96")
    remote.ok("context")
    i = remote.play()
    time.sleep(0.5)
    before = remote.stats(i)
    time.sleep(2)
    after = remote.stats(i)
    check_pulls(after)
    rate = (after["position"] - before["position"]) / ((after["cycle_ns"] - before["cycle_ns"]) / 1e9)
    assert abs(rate / 48000 - 1.0007) < 50e-6, f"{(rate / 48000 - 1) * 1e6:.0f} ppm"
    assert abs(after["delay_max"] - (256 + 96)) <= 48, after


def dry(machine, remote):
    """An xrun is a gap that is told, with the position where it would have been; one every now and then changes
    nothing, and a card that keeps running dry gets more room."""
    card = machine.card()
    remote.ok("context")
    i = remote.play()
    time.sleep(0.3)
    for _ in range(3):
        remote.stats(i)
        card.fault("xrun")
        wait_for(lambda: not card.has("xrun"), "the xrun")
        time.sleep(1.2)
        stats = remote.stats(i)
        assert stats["discontinuities"] == 1 and stats["unflagged"] == 0, stats
        check_pulls(stats)
    assert remote.settle(i, 0.3)["delay_max"] >= 512 - 48, "three in fifteen seconds: no more room"
    assert remote.ask(f"state {i}") == "ok"


def asleep(machine, remote):
    """Suspended. What does not resume is opened again: alsa-lib keeps from us what a plug-in says to resuming."""
    card = machine.card()
    remote.ok("context")
    i = remote.play()
    time.sleep(0.2)
    card.fault("suspend")
    time.sleep(0.3)
    assert remote.settle(i, 0.2)["pulls"] == 0, "it sleeps"
    card.heal("suspend")
    remote.wait_pulls(i, 2)
    check_pulls(remote.settle(i, 0.3))
    assert remote.ask(f"state {i}") == "ok"
    card.fault("deaf")
    card.fault("suspend")
    time.sleep(0.3)
    card.heal("suspend")
    remote.wait_state(f"state {i}", "lost", 3)
    remote.ok(f"close {i}")
    remote.play()


def unplugged(machine, remote):
    """It is lost, with an event; opening fails while it is away, and plays when it is back."""
    card = machine.card()
    remote.ok("context")
    assert remote.ask("probe") in ("ok", "error ENODEV")  # of this machine's own default device
    for _ in range(2):
        i = remote.play()
        remote.ask("event")
        card.fault("gone")
        remote.wait_state(f"state {i}", "lost", 3)
        assert int(remote.ask("event")) > 0, "no event"
        assert remote.ask(f"start {i}") == "error EHOSTDOWN"
        remote.ok(f"stop {i}")
        remote.ok(f"close {i}")
        assert remote.ask(f"open guest 2 3 {PERIOD_US} card connect") == "error ENODEV"
        assert remote.ask("context-state") == "ok"
        card.heal("gone")
    i = remote.play()
    check_pulls(remote.settle(i, 0.3))


def silent(machine, remote):
    """A card whose clock stands still is given up after a while."""
    card = machine.card()
    remote.ok("context")
    i = remote.play()
    card.fault("stall")
    remote.wait_state(f"state {i}", "lost", 4)
    remote.ok(f"close {i}")


def errors(machine, remote):
    """What cannot be opened says why, and leaves nothing behind."""
    machine.card("busy").fault("busy")
    machine.card("narrow", 'channels "1"')
    remote.ok("context")
    threads = len(os.listdir(f"/proc/{remote.process.pid}/task"))
    assert remote.ask(f"open guest 2 3 {PERIOD_US} busy connect") == "error EBUSY"
    assert remote.ask(f"open guest 2 3 {PERIOD_US} no-such-card connect") == "error ENODEV"
    assert remote.ask(f"open guest 2 3 {PERIOD_US} hw:31 connect") == "error ENODEV"
    assert remote.ask(f"open guest 2 7 {PERIOD_US} narrow connect") == "error EINVAL"
    i = remote.play(target="narrow")  # two channels on a single speaker
    check_pulls(remote.settle(i, 0.2))
    assert len(os.listdir(f"/proc/{remote.process.pid}/task")) == threads + 1, "threads of what did not open"


def plugs(machine, remote):
    """Through alsa-lib's own plug-ins: plug, route, a device without a clock, and formats we do not write."""
    machine.card("card", 'formats "S16_LE"')
    machine.card("bigendian", 'formats "S16_BE"')
    machine.devices.write("""
        pcm.plugged { type plug slave.pcm "card" }
        pcm.crossed { type route slave { pcm "card" channels 2 } ttable { 0.1 1 1.0 1 } }
        """)
    remote.ok("context")
    for name in ("plugged", "crossed", "plug:card", "bigendian", "null"):
        i = remote.play(target=name)
        stats = remote.settle(i, 0.5)
        check_pulls(stats)
        assert 70 <= stats["pulls"] <= 130, f"{name} is not paced: {stats}"
        remote.ok(f"close {i}")


if __name__ == "__main__":
    sys.exit(backend_contract.run(Machine, "alsa", [
        *backend_contract.ALL, backend_contract.corked, granted, clock, dry, asleep, unplugged, silent, errors, plugs]))
