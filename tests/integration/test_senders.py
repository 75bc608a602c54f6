# SPDX-License-Identifier: MIT
"""Two guests send to one port: two streams, each whole. And garbage sent to that port is not heard."""

import time

import harness
import senders

TONES = {"127.0.0.2": 200, "127.0.0.3": 400}
LATENCY_MS = 250


def two_guests(session):
    port = harness.free_port()
    earshot = session.earshot("-u", "-p", port, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS)
    capture = session.capture().wait_running()
    guests = [senders.ToneSender(address, port, hz) for address, hz in TONES.items()]
    for guest in guests:
        guest.start()
    time.sleep(4)
    names = session.stream_names()
    for guest in guests:
        guest.stop()
    capture.stop()
    harness.check(names == sorted(TONES), f"streams: {names}")
    end_ns = harness.now_ns() - 500000000
    for channel in capture.analyse(per_channel=200, from_ns=end_ns - 2000000000, to_ns=end_ns)["channels"]:
        print(f"two guests in one sink: {channel}")
        # Both at the level they were sent at; two streams that share one would be mixed up, not added.
        harness.check({channel["multiple"]} <= {1, 2}, "another tone is louder than both")
        harness.check(abs(channel["level"] - 0.4) < 0.01 and abs(channel["next_level"] - 0.4) < 0.01, "not whole")
    earshot.end()


def garbage(session):
    port = harness.free_port()
    earshot = session.witnessed("-u", "-p", port, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS)
    guest, log = session.guest("--udp", f"127.0.0.1:{port}")
    capture = session.capture().wait_running()
    time.sleep(2)
    from_ns = harness.now_ns()
    # From strangers, and from the guest's own address.
    noise = [senders.GarbageSender(address, port, seed) for seed, address in enumerate(("127.0.0.9", "127.0.0.1"))]
    for sender in noise:
        sender.start()
    time.sleep(6)
    sent = sum(sender.sent for sender in noise)
    for sender in noise:
        sender.stop()
    capture.stop()
    guest.end()
    result = capture.analyse(log, expect_ms=LATENCY_MS - 6, from_ns=from_ns, stall_ms=100, guest_late_ms=100)
    harness.check(earshot.running(), "the receiver is gone")
    harness.expect_clean(result, 5, f"under {sent} packets of garbage")
    names = session.stream_names()
    harness.check(names == ["127.0.0.1"], f"streams: {names}")
    status = earshot.end()
    harness.check(status == 0, f"the receiver ended with {status}")
    harness.fault_row("Garbage from strangers, and from the guest's own address", "the guest's sound is untouched", None)


def test():
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink()
        two_guests(session)
        garbage(session)


harness.main(test)
