# SPDX-License-Identifier: MIT
"""Bridges come late, go and come back while guests play: test_network.py bridges|chosen|port|buffer|forgotten|snooping

The last takes 100 seconds: as long as the program's own minute between two renewals of a membership wants.
"""

import re
import socket
import sys
import time

import harness
import network

LATENCY_MS = 100
CYCLES = harness.MINUTE_S // 3


class Judge:
    """Where in a capture a tone is."""

    def __init__(self, capture, log):
        self.capture = capture
        self.log = log

    def back_s(self, gone_ns, until_ns, what):
        """Seconds from `gone_ns`, when the cause was gone, to the tone, which then has to be heard to the end."""
        result = self.capture.analyse(self.log, expect_ms=LATENCY_MS, from_ns=gone_ns, to_ns=until_ns)
        from_ns, to_ns = result["tone_from_ns"], result["tone_to_ns"]
        harness.check(from_ns, f"{what}: nothing is heard")
        harness.check(to_ns > until_ns - 100000000, f"{what}: it is not heard for long")
        return (from_ns - gone_ns) / 1e9


def idle_cost(earshot, what, seconds=3):
    """What it takes while it waits."""
    time.sleep(1)
    cpu, woken = network.wakeups(earshot)
    began = time.monotonic()
    time.sleep(seconds)
    cpu_end, woken_end = network.wakeups(earshot)
    lasted = time.monotonic() - began
    share, rate = (cpu_end - cpu) / lasted, (woken_end - woken) / lasted
    print(f"{what}: {share * 100:.2f} % of a core, {rate:.1f} wake-ups a second", flush=True)
    harness.check(share < 0.02, f"{what}: it takes {share * 100:.1f} % of a core to wait")
    harness.check(rate <= 10, f"{what}: it wakes {rate:.0f} times a second to wait")


def receiver(session, *args):
    return session.witnessed("-p", network.PORT, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS, *args)


def bridges(session):
    """Started before the bridge, and then the bridge comes and goes."""
    cable = network.Cable(session)
    earshot = receiver(session)
    capture = session.capture().wait_running()
    idle_cost(earshot, "before the bridge exists")
    up_ns = [cable.bridge_up()]
    guest, log = cable.guest()
    time.sleep(1.5)
    until_ns = [harness.now_ns()]
    for _ in range(CYCLES):
        cable.bridge_down()
        time.sleep(0.5)
        up_ns.append(cable.bridge_up())
        time.sleep(1.2)
        until_ns.append(harness.now_ns())
    names = session.stream_names()
    guest.end()
    idle_cost(earshot, "while nobody plays")
    capture.stop()
    harness.check(names == [cable.address], f"streams: {names}")
    harness.check(earshot.running(), "the receiver is gone")
    judge = Judge(capture, log)
    back_s = [judge.back_s(up, until, f"bridge {i}") for i, (up, until) in enumerate(zip(up_ns, until_ns))]
    print("heard after " + " ".join(f"{s:.2f}" for s in back_s) + " s")
    harness.fault_row("Earshot is started before the bridge exists",
                      "nothing: it listens to the bridge as soon as it appears", back_s[0])
    harness.fault_row(f"The bridge is deleted and made again, {CYCLES} times, while the guest plays",
                      "silence while it is gone; one stream, which stays", max(back_s[1:]))


def chosen(session):
    """-i names what is not there yet: a bridge, an address. Two bridges, two guests."""
    cables = [network.Cable(session, n) for n in range(2)]
    by_name = receiver(session, "-i", "virbr0")
    harness.wait_for("a word about virbr0", lambda: "waiting for the network interface virbr0" in by_name.log())
    idle_cost(by_name, "waiting for virbr0")
    capture = session.capture().wait_running()
    logs = [cable.guest()[1] for cable in cables]
    up_ns = cables[0].bridge_up()
    cables[1].bridge_up()
    time.sleep(1.5)
    until_ns = harness.now_ns()
    names = session.stream_names()
    harness.check(names == [cables[0].address], f"streams with -i virbr0: {names}")
    harness.check(by_name.end() == 0, "the receiver did not end in order")
    harness.fault_row("-i names a bridge that does not exist yet", "\"waiting for the network interface virbr0\"",
                      Judge(capture.stop(), logs[0]).back_s(up_ns, until_ns, "-i virbr0"))

    cables[1].bridge_down()
    cables[1].bridge_up(address=False)
    address = f"{cables[1].net}.1"
    by_address = receiver(session, "-i", address)
    harness.wait_for("a word about the address", lambda: f"network interface {address}" in by_address.log())
    capture = session.capture().wait_running()
    time.sleep(0.5)
    up_ns = cables[1].bridge_address()
    time.sleep(1.5)
    until_ns = harness.now_ns()
    names = session.stream_names()
    harness.check(names == [cables[1].address], f"streams with -i {address}: {names}")
    harness.check(by_address.end() == 0, "the receiver did not end in order")
    harness.fault_row("-i names an address that no interface has yet", "\"waiting for the network interface ...\"",
                      Judge(capture.stop(), logs[1]).back_s(up_ns, until_ns, "-i ADDRESS"))

    every = receiver(session)
    harness.wait_for("both guests", lambda: session.stream_names() == sorted(cable.address for cable in cables), 5)
    cables[0].bridge_down()
    time.sleep(1)
    states = {stream["name"]: stream["state"] for stream in session.status()}
    harness.check(states == {cables[0].address: "idle", cables[1].address: "playing"}, f"one bridge down: {states}")
    harness.fault_row("One of two bridges goes", "its guest's stream is idle, the other's plays on", None)
    harness.check(every.end() == 0, "the receiver did not end in order")

    cables[0].bridge_up()
    one = receiver(session, "--from", cables[0].address)
    harness.wait_for("the one", lambda: session.stream_names() == [cables[0].address], 5)
    harness.wait_for("a word about the other", lambda: f"{cables[1].address} sends, too" in one.log(), 5)
    time.sleep(2)
    harness.check(session.stream_names() == [cables[0].address], f"streams with --from: {session.stream_names()}")
    harness.check(one.log().count("sends, too") == 1, "it says so more than once")
    harness.wait_for("the other's packets to be counted", lambda: session.status()[0]["source"]["ignored_packets"] > 200)
    harness.check(one.end() == 0, "the receiver did not end in order")


def port(session):
    """Somebody has the port."""
    number = harness.free_port()
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("0.0.0.0", number))
    earshot = session.earshot("-u", "-p", number, "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS)
    guest, log = session.guest("--udp", f"127.0.0.1:{number}")
    harness.wait_for("a word about the port", lambda: re.search(r"in use by python3?.* \(pid \d+\)", earshot.log()))
    state = harness.wait_for("the status", session.status)[0]["state"]
    harness.check(state == "port-busy", f"state: {state}")
    idle_cost(earshot, "while the port is taken")
    capture = session.capture().wait_running()
    harness.check(earshot.log().count("in use by") == 1, "it says so more than once")
    holder.close()
    free_ns = harness.now_ns()
    time.sleep(2)
    until_ns = harness.now_ns()
    back_s = Judge(capture.stop(), log).back_s(free_ns, until_ns, "a port that was taken")
    harness.fault_row("Another program has the UDP port", "state port-busy, and a line that names the program", back_s)
    guest.end()
    harness.check(earshot.end() == 0, "the receiver did not end in order")


def buffer(session):
    """The densest stream there is, and a reader that stands still."""
    number = harness.free_port()
    earshot = session.earshot("-u", "-p", number, "-o", "null", "-t", 900)
    guest, _ = session.guest("--udp", f"127.0.0.1:{number}", "--rate", 192000, "--bits", 32, "--channels", 8)
    harness.wait_for("the stream", lambda: (session.status("127.0.0.1") or {}).get("state") == "playing")
    with open("/proc/sys/net/core/rmem_max") as file:
        small = int(file.read()) < 4 << 20 and not network.force_allowed()
    time.sleep(1)

    def lost():
        return session.status("127.0.0.1")["source"]["lost_packets"]

    before = lost()
    short_s = 0.02 if small else 0.4
    earshot.freeze(short_s)
    time.sleep(1)
    harness.check(lost() == before, f"{lost() - before} packets lost by a short stop")
    harness.fault_row(f"Earshot stands still for {short_s} s under 8 channels of 32 bit at 192 kHz",
                      "no packet is lost", None)
    earshot.freeze(1.5)
    harness.wait_for("losses in status", lambda: lost() > before, 5)
    harness.wait_for("losses in the log", lambda: re.search(r"\d+ packets? lost", earshot.log()), 5)
    time.sleep(2)
    after = lost()
    time.sleep(1)
    harness.check(lost() == after, "it goes on losing")
    print(f"{after} packets lost by a stop of 1.5 s, none by one of {short_s} s", flush=True)
    harness.check((session.status("127.0.0.1") or {}).get("state") == "playing", f"{session.status()}")
    guest.end()
    harness.check(earshot.end() == 0, "the receiver did not end in order")


def snooping_bridge(session, forgets_s):
    """A bridge that forgets listeners after so long, and asks nobody. See memberships_test.c."""
    cable = network.Cable(session)
    cable.bridge_up("mcast_startup_query_count 1 mcast_query_interval 100000 mcast_query_response_interval 10 "
                    f"mcast_membership_interval {100 * forgets_s}")
    network.ip("link set virbr0 type bridge mcast_querier 1")
    time.sleep(1)
    return cable


def forgotten(session):
    """It forgets sooner than memberships are renewed, again and again."""
    cable = snooping_bridge(session, 3)
    with open("/proc/sys/net/ipv4/conf/virbr0/igmpv2_unsolicited_report_interval", "w") as file:
        file.write("500")  # the kernel repeats what it reports so soon: it is not to do our work
    earshot = receiver(session)
    guest, log = cable.guest()
    capture = session.capture().wait_running()
    time.sleep(3)
    from_ns = harness.now_ns()
    time.sleep(12)
    names = session.stream_names()
    capture.stop()
    guest.end()
    harness.check(names == [cable.address], f"streams: {names}")
    result = capture.analyse(log, expect_ms=LATENCY_MS, from_ns=from_ns)
    print(f"with a switch that forgets: {harness.describe(result)}")
    silences = [(event["to_ns"] - event["from_ns"]) / 1e9 for event in result["events"]]
    silences = [silence_s for silence_s in silences if silence_s > 0.3]
    harness.check(2 <= len(silences) <= 5, f"it was to forget some four times: {silences}")
    harness.fault_row("A switch has forgotten who listens: it was restarted, or told to",
                      "silence: a membership is renewed when what was heard falls silent, too", max(silences))
    harness.check(earshot.end() == 0, "the receiver did not end in order")


def snooping(session):
    cable = snooping_bridge(session, 75)
    earshot = receiver(session)
    guest, log = cable.guest()
    capture = session.capture().wait_running()
    time.sleep(3)
    from_ns = harness.now_ns()
    time.sleep(97)
    capture.stop()
    guest.end()
    result = capture.analyse(log, expect_ms=LATENCY_MS, from_ns=from_ns)
    harness.expect_clean(result, 95, "with renewed memberships")
    harness.fault_row("A switch forgets who listens, because nobody asks (after 75 s here, 260 s as a rule)",
                      "nothing: memberships are renewed each minute", None)
    harness.check(earshot.end() == 0, "the receiver did not end in order")


def test():
    network.enter()
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink()
        tests = {"bridges": bridges, "chosen": chosen, "port": port, "buffer": buffer, "forgotten": forgotten,
                 "snooping": snooping}
        tests[sys.argv[1]](session)


harness.main(test)
