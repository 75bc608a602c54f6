# SPDX-License-Identifier: MIT
"""Random packets, 20000 a second, to the port that a guest plays to, half of them from its own address: the guest's
sound is untouched, nothing of them is heard, none is lost, and one line says so: test_flood.py [PACKETS]
"""

import random
import socket
import sys
import threading
import time

import harness
import network

LATENCY_MS = 250
PER_SECOND = 20000
ADDRESSES = ("127.0.0.9", "127.0.0.1")


class Flood(threading.Thread):
    def __init__(self, port, packets):
        super().__init__(daemon=True)
        self.random = random.Random(4)
        self.left = packets
        self.sockets = []
        for address in ADDRESSES:
            self.sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.sockets[-1].bind((address, 0))
            self.sockets[-1].connect(("127.0.0.1", port))
        self.refused = 0
        self.lasted_s = 0.0

    def run(self):
        began = due = time.monotonic()
        count = 0
        rng = self.random
        while self.left:
            for _ in range(min(20, self.left)):
                payload = rng.randbytes(rng.choice((rng.randrange(16), rng.randrange(1500), 1157)))
                try:
                    self.sockets[count & 1].send(payload)
                except ConnectionRefusedError:
                    self.refused += 1
                count += 1
                self.left -= 1
            due += 20 / PER_SECOND
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            elif pause < -0.1:
                due -= pause  # we were stopped ourselves: no burst to make up for it
        self.lasted_s = time.monotonic() - began


def test():
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink()
        port = harness.free_port()
        earshot = session.witnessed("-u", "-p", port, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS)
        guest, log = session.guest("--udp", f"127.0.0.1:{port}")
        capture = session.capture(seconds=packets // PER_SECOND * 2 + 60).wait_running()
        harness.wait_for("the stream", lambda: (session.status("127.0.0.1") or {}).get("state") == "playing")
        time.sleep(3)
        cpu, _ = network.wakeups(earshot)
        from_ns = harness.now_ns()
        flood = Flood(port, packets)
        flood.start()
        flood.join(packets / PER_SECOND * 3 + 30)
        to_ns = harness.now_ns()
        harness.check(not flood.is_alive() and not flood.refused, "the flood was not sent")
        share = (network.wakeups(earshot)[0] - cpu) / flood.lasted_s
        time.sleep(1.5)
        status = session.status()
        capture.stop()
        guest.end()
        harness.check(earshot.running(), "the receiver is gone")

        result = capture.analyse(log, expect_ms=LATENCY_MS - 6, from_ns=from_ns, to_ns=to_ns, stall_ms=100,
                                 guest_late_ms=100)
        harness.expect_clean(result, (to_ns - from_ns) / 1e9 - 0.5, f"under {packets} random packets")
        harness.check([stream["name"] for stream in status] == ["127.0.0.1"], f"streams: {status}")
        source = status[0]["source"]
        print(f"{packets} packets in {flood.lasted_s:.1f} s, {share * 100:.1f} % of a core; {source}", flush=True)
        harness.check(source["lost_packets"] == 0, f"{source['lost_packets']} packets lost at the socket")
        # One in some 200000 is a packet of the driver's by chance, and waits for a second of its kind.
        harness.check(packets - source["rejected_packets"] <= 2 + packets // 20000, f"{source}")
        told = [line for line in earshot.log().splitlines() if "not the Scream driver's" in line]
        harness.check(len(told) == 1, f"said {len(told)} times")
        harness.check(earshot.end() == 0, "the receiver did not end in order")
        harness.fault_row(f"Random packets, {PER_SECOND} a second, also from the guest's own address",
                          f"one line; of {packets} not one is heard or lost, the guest's sound is untouched", None)


harness.main(test)
