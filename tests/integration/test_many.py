# SPDX-License-Identifier: MIT
"""Sixteen guests at once in one process: two formats, over shared memory and one UDP port together, each in a stream of
its own through one connection to PipeWire. Every one is clean for a minute."""

import os
import time

import harness

GUESTS = 16
SECONDS = harness.MINUTE_S
SETTLE_S = 3  # sixteen streams are linked one after the other
LATENCY_MS = 250  # above the machine's own stalls: this is about content
QUANTUM = 1024
STALL_MS = 20  # of the machine, and the graph itself loses a cycle
FORMATS = ((48000, 16), (44100, 24))


def test():
    with harness.Session() as session:
        session.start_server(quantum=QUANTUM)
        port = harness.free_port()
        lanes = []
        for i in range(GUESTS):
            name = f"guest{i}"
            rate, bits = FORMATS[i // 2 % 2]
            keys = {"backend": "pipewire", "target": session.sink(f"sink{i}"), "latency": LATENCY_MS}
            if i % 2:
                address = f"127.0.1.{i}"
                session.config(name, unicast="yes", port=port, from_=address, **keys)
                writes = ["--udp", f"127.0.0.1:{port}", "-i", address]
            else:
                session.config(name, shm=session.ring(name), **keys)
                writes = ["--shm", session.ring(name)]
            guest, log = session.guest(*writes, "--rate", rate, "--bits", bits, "--ppm", 40 * i - 300, name=name)
            lanes.append((name, rate, 40 * i - 300, guest, log))
        earshot = session.witnessed()
        names = sorted(lane[0] for lane in lanes)
        harness.wait_for("sixteen streams", lambda: session.stream_names() == names, 20)
        clients = {entry["info"]["props"]["client.id"] for entry in session.objects()
                   if entry.get("info", {}).get("props", {}).get("media.class") == "Stream/Output/Audio"}
        harness.check(len(clients) == 1, f"{len(clients)} connections to PipeWire")
        captures = [session.capture(f"sink{i}") for i in range(GUESTS)]
        for capture in captures:
            capture.wait_running()
        time.sleep(SETTLE_S)
        from_ns = harness.now_ns()
        before = {stream["name"]: stream for stream in session.status()}
        time.sleep(SECONDS)
        streams = {stream["name"]: stream for stream in session.status()}
        for capture in captures:
            capture.stop()
        for lane in lanes:
            lane[3].end()
        status = earshot.end()
        harness.check(status == 0, f"the receiver ended with {status}")
        for (name, rate, ppm, _, log), capture in zip(lanes, captures):
            result = capture.analyse(log, rate=rate, ppm=ppm, expect_ms=LATENCY_MS, stall_ms=STALL_MS, guest_late_ms=100,
                                     from_ns=from_ns)
            os.unlink(capture.path)
            harness.expect_clean(result, SECONDS - 1, f"{name}, {rate} Hz")
            harness.check(streams[name]["state"] == "playing", f"{name}: {streams[name]}")
            changed = {key: streams[name][key] - before[name][key] for key in ("underruns", "resyncs")}
            print(f"{name}: {changed}", flush=True)


harness.main(test)
