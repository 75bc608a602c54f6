# SPDX-License-Identifier: MIT
"""A guest's stream on another machine: two network namespaces with a cable between them, each with a PipeWire of its own.
What comes out there is captured with what is played here, at the same time: the difference is what the way takes. Their
configuration is that of doc/network-sound.md, but for addresses and latencies.

rtp.py [--seconds S] [--settle S] [--quantum FRAMES] [--latency MS ...] [--way rtp|tunnel ...]
"""

import argparse
import os
import re
import time

import figures
import harness
import network

HERE_ADDRESS, THERE_ADDRESS = "192.168.122.1", "192.168.122.50"
PACKET = 288


class Machine(harness.Session):
    """A session whose servers run in the namespace of `cable`, or here."""

    tools = (*harness.Session.tools, "pipewire-pulse")

    def __init__(self, cable=None):
        super().__init__()
        self.cable = cable

    def spawn(self, name, argv, **env):
        enter = ["nsenter", "-n", "-t", str(self.cable.pid)] if self.cable and argv[0].startswith("pipewire") else []
        return super().spawn(name, [*enter, *argv], **env)

    def configure(self, text, server="pipewire"):
        """A drop-in for the server."""
        directory = os.path.join(self.env["HOME"], f".config/pipewire/{server}.conf.d")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "network-sound.conf"), "w") as file:
            file.write(text)


def recipe(name, interface, latency_ms):
    """The file that doc/network-sound.md has under this name, for this network."""
    with open(os.path.join(figures.ROOT, "doc/network-sound.md")) as file:
        found = re.search(rf"<!-- {name} -->\n```\n(.*?)```", file.read(), re.S)
    text = found[1].replace("192.168.1.20", THERE_ADDRESS).replace("local.ifname = eth0", f"local.ifname = {interface}")
    return re.sub(r"(sess\.latency\.msec|pulse\.latency) = \d+", rf"\1 = {latency_ms}", text)


def measure(way, latency_ms, options):
    with harness.Session() as rig:
        cable = network.Cable(rig)
        cable.bridge_up()
        network.ip("route add default via " + THERE_ADDRESS)  # as machines have one: announcements are multicast
        network.ip("route add default via " + HERE_ADDRESS, cable)
        with Machine() as here, Machine(cable) as there:
            here.configure(recipe(f"{way}-sink", "virbr0", latency_ms))
            if way == "rtp":
                there.configure(recipe("rtp-source", "eth0", latency_ms))
            else:
                there.configure(recipe("tunnel-server", "eth0", latency_ms), "pipewire-pulse")
            there.start_server(quantum=options.quantum)
            there.sink()
            if way == "tunnel":
                there.spawn("pipewire-pulse", ["pipewire-pulse"])
            here.start_server(quantum=options.quantum)
            harness.wait_for("the sink", lambda: here.node("network"))
            guest, log = here.guest("--udp", f"127.0.0.1:{network.PORT}", "--packet", PACKET)
            here.earshot("-u", "-p", network.PORT, "-o", "pipewire", "-d", "network", "-t", 30)
            captures = [here.capture("network").wait_running(), there.capture("testsink").wait_running()]
            time.sleep(options.settle)
            from_ns = harness.now_ns()
            time.sleep(options.seconds)
            for capture in captures:
                capture.stop()
            guest.end()
            results = [capture.analyse(log, from_ns=from_ns, stall_ms=1, guest_late_ms=2, expect_ms=expect_ms)
                       for capture, expect_ms in zip(captures, (30, 60 + latency_ms))]
            for name, result in zip(("here", "there"), results):
                print(f"{way} {latency_ms} ms, {name}: {harness.describe(result)}", flush=True)
            harness.check(all(result["latency"]["count"] for result in results), "nothing was heard")
            medians = [result["latency"]["median_ms"] for result in results]
            return {"name": "RTP" if way == "rtp" else "PulseAudio tunnel", "setting": f"{latency_ms} ms", "local_ms": medians[0],
                    "remote_ms": medians[1], "added_ms": medians[1] - medians[0],
                    "spread_ms": results[1]["latency"]["p99_ms"] - results[1]["latency"]["p1_ms"],
                    "breaks": results[1]["judged_events"], "excused": results[1]["excused_events"]}


def test():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10 if figures.QUICK else 30)
    parser.add_argument("--settle", type=float, default=8)
    parser.add_argument("--quantum", type=int, default=256)
    parser.add_argument("--latency", type=int, nargs="+")
    parser.add_argument("--way", nargs="+", choices=("rtp", "tunnel"), default=("rtp", "tunnel"))
    options = parser.parse_args()
    rows = []
    for way in options.way:
        for latency_ms in options.latency or ((40,) if figures.QUICK else (20, 40, 100)):
            network.enter()
            rows.append(measure(way, latency_ms, options))
    if not options.latency:
        figures.save("rtp", rows, quantum=options.quantum)


if __name__ == "__main__":
    harness.main(test, attempts=1)
