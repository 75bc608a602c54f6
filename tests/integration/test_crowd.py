# SPDX-License-Identifier: MIT
"""Sixty-four senders at one port, each a stream, and nothing is lost at the socket; more are refused, but never one that
a configuration names, though it comes last."""

import time

import harness
import senders

STRANGERS = 64  # as many as are played
MORE = 20
SECONDS = 15


def drops(port):
    """What the kernel had no room for, as it counts for the socket at this port."""
    with open("/proc/net/udp") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == port:
                return int(fields[-1])
    return None


def heard(session):
    """Who has a stream. Whether all of them play at this very moment is the machine's business."""
    return sorted(stream["name"] for stream in session.status() or () if stream["format"]["rate"])


def test():
    with harness.Session() as session:
        port = harness.free_port()
        session.config("wanted", backend="null", unicast="yes", port=port, from_="127.0.0.2")
        session.config("others", backend="null", unicast="yes", port=port)
        earshot = session.earshot()
        harness.wait_for("the port", lambda: drops(port) is not None)
        crowd = senders.Crowd([f"127.0.1.{i + 1}" for i in range(STRANGERS)], port)
        late = None
        crowd.start()
        try:
            harness.wait_for("64 streams", lambda: len(heard(session)) == STRANGERS, 20)
            time.sleep(SECONDS)
            lost, sent = drops(port), crowd.sent * STRANGERS
            print(f"{lost} of {sent} packets lost at the socket", flush=True)
            harness.check(sent > 0.9 * STRANGERS * SECONDS * senders.RATE / senders.PACKET_FRAMES, "not sent in time")
            harness.check(lost == 0, f"{lost} packets lost")

            late = senders.Crowd([f"127.0.2.{i + 1}" for i in range(MORE)] + ["127.0.0.2"], port)
            late.start()
            harness.wait_for("the one that is wanted", lambda: "wanted" in heard(session), 20)
            names = heard(session)
            harness.check(len(names) == STRANGERS + 1, f"{len(names)} streams: {names}")
            harness.wait_for("its first sound", lambda: session.status("wanted")["frames"] > 0)
            harness.wait_for("a line about those refused",
                             lambda: "senders already that nobody asked for" in earshot.log())
        finally:
            crowd.stop()
            if late:
                late.stop()
        status = earshot.end()
        harness.check(status == 0, f"the receiver ended with {status}")


harness.main(test)
