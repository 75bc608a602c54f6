# SPDX-License-Identifier: MIT
"""Guests that the host cannot hear but can capture, in a network namespace of the test's own: one behind a macvlan
interface, whose packets a socket of the host's does not get, and one behind macvtap, as QEMU writes them.

test_pcap.py clean|faults
"""

import ctypes
import fcntl
import os
import struct
import subprocess
import sys
import time

import faults
import harness
import senders

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
GROUP = "239.255.77.77"
LATENCY_MS = 250


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    harness.check(done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}")


class Network:
    """This process's own. `card` is the host's card; `behind` prefixes what runs in the guest, which is 10.0.0.2."""

    def __init__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
            raise harness.Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        run("mount", "--make-rprivate", "/")
        run("ip", "link", "set", "lo", "up")
        # Who holds the guest's namespace open.
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        self.behind = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        harness.wait_for("the guest's namespace", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") !=
                         os.readlink("/proc/self/ns/net"))
        self.add_card()

    def add_card(self):
        run("ip", "link", "add", "card", "type", "veth", "peer", "name", "cable")
        run("ip", "link", "set", "cable", "up")
        run("ip", "address", "add", "10.0.0.1/24", "dev", "card")
        run("ip", "link", "set", "card", "up")
        run("ip", "link", "add", "link", "card", "name", "guest", "type", "macvlan", "mode", "bridge")
        run("ip", "link", "set", "guest", "netns", str(self.holder.pid))
        run(*self.behind, "ip", "address", "add", "10.0.0.2/24", "dev", "guest")
        run(*self.behind, "ip", "link", "set", "guest", "up")
        run(*self.behind, "ip", "route", "add", "default", "dev", "guest")

    def remove_card(self):
        run("ip", "link", "delete", "card")

    def macvtap(self, directory):
        """Returns the descriptor that QEMU would have."""
        run("ip", "link", "add", "link", "card", "name", "macvtap0", "type", "macvtap", "mode", "bridge")
        run("ip", "link", "set", "macvtap0", "up")
        sys_directory = os.path.join(directory, "sys")
        os.makedirs(sys_directory, exist_ok=True)
        run("mount", "-t", "sysfs", "none", sys_directory)  # /sys shows the namespace that it was mounted in
        try:
            base = os.path.join(sys_directory, "class/net/macvtap0/macvtap")
            tap = os.listdir(base)[0]
            with open(os.path.join(base, tap, "dev")) as file:
                major, minor = map(int, file.read().split(":"))
        finally:
            run("umount", sys_directory)
        node = os.path.join(directory, tap)
        os.mknod(node, 0o600 | 0o020000, os.makedev(major, minor))
        tap_fd = os.open(node, os.O_RDWR)
        fcntl.ioctl(tap_fd, TUNSETIFF, struct.pack("16sH22x", b"macvtap0", IFF_TAP | IFF_NO_PI))
        return tap_fd

    def close(self):
        self.holder.kill()
        self.holder.wait()


class TapSender(senders.ToneSender):
    """A guest's card: whole frames, with the tag of its VLAN if it has one."""

    def __init__(self, fd, address, hz, tags=b"", options=b""):
        super().__init__("127.0.0.1", 9, hz)
        self.fd = fd
        self.prefix = b"\x01\x00\x5e\x7f\x4d\x4d" + b"\x52\x54\x00\x12\x34\x56" + tags + b"\x08\x00"
        self.address = bytes(map(int, address.split(".")))
        self.options = options
        self.socket.close()
        self.socket = self

    def close(self):
        os.close(self.fd)

    def send(self, packet):
        udp = struct.pack(">HHHH", 4321, 4010, 8 + len(packet), 0) + packet
        length = 20 + len(self.options) + len(udp)
        ip = struct.pack(">BBHHHBBH", 0x45 + len(self.options) // 4, 0, length, 0, 0x4000, 1, 17, 0)
        os.write(self.fd, self.prefix + ip + self.address + bytes((239, 255, 77, 77)) + self.options + udp)


def start_guest(session, network, name="guest"):
    log = os.path.join(session.directory, f"{name}.deliveries")
    argv = [*network.behind, harness.built("earshot"), "guest", "--udp", GROUP, "-i", "guest", "--packet", "288",
            "--tone", str(harness.TONE_HZ), "--level", "-1", "--log", log, "-q"]
    return session.spawn(name, argv), log


def clean(session, network):
    """A tone through a capture is as whole as through a socket, and as much on time; the socket hears nothing."""
    deaf = session.earshot("-o", "null", "-g", GROUP, "-i", "card", name="deaf")
    earshot = session.witnessed("-P", "-i", "card", "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS, "-v")
    guest, log = start_guest(session, network)
    capture = session.capture().wait_running()
    time.sleep(9)
    capture.stop()
    harness.check("10.0.0.2" not in deaf.log(), "the host hears its guest: macvlan is not what it was")
    guest.end()
    expected_ms = harness.monitor_ms(LATENCY_MS, 6, 256)
    result = capture.analyse(log, expect_ms=expected_ms, stall_ms=100, guest_late_ms=100)
    harness.expect_clean(result, 6, "captured")
    harness.expect_latency(result, expected_ms, 4, "captured")
    stream = session.status("10.0.0.2")
    harness.check(stream and stream["source"]["kind"] == "pcap", f"status: {stream}")
    for process in (earshot, deaf):
        harness.check(process.end() == 0, "did not end in order")


def macvtap(session, network):
    """As QEMU does it: frames into macvtap's device, one guest with IPv4 options, one in a VLAN of a VLAN."""
    earshot = session.earshot("-P", "-i", "macvtap0", "-o", "pipewire", "-d", "testsink", "-t", LATENCY_MS,
                              name="earshot-macvtap")
    time.sleep(1)  # the interface comes later
    tap = network.macvtap(session.directory)
    capture = session.capture().wait_running()
    guests = [TapSender(tap, "10.0.0.3", 200, options=b"\x01" * 8),
              TapSender(os.dup(tap), "10.0.0.4", 400, tags=b"\x88\xa8\x00\x05\x81\x00\x00\x07")]
    for guest in guests:
        guest.start()
    time.sleep(4)
    names = session.stream_names()
    for guest in guests:
        guest.stop()
    capture.stop()
    harness.check(names == ["10.0.0.3", "10.0.0.4"], f"streams: {names}\n{earshot.log()}")
    end_ns = harness.now_ns() - 500000000
    for channel in capture.analyse(per_channel=200, from_ns=end_ns - 2000000000, to_ns=end_ns)["channels"]:
        harness.check({channel["multiple"]} <= {1, 2}, "another tone is louder than both")
        harness.check(abs(channel["level"] - 0.4) < 0.01 and abs(channel["next_level"] - 0.4) < 0.01, "not whole")
    print("macvtap: both guests are whole")
    earshot.end()


def expect_faults(session, network):
    network.remove_card()
    all_faults = faults.Faults(session)

    receiver = faults.Receiver(session, "-P", "-i", "card")
    receiver.says("waiting for the network interface card")
    receiver.waits()
    network.add_card()
    guest, log = start_guest(session, network, "late")
    time.sleep(faults.PLAY_S)
    to_ns = harness.now_ns()
    guest.end()
    all_faults.add("Capture: the interface is not there yet", "waits, and says so", faults.first_delivery_ns(log), to_ns)

    guest, log = start_guest(session, network, "first")
    time.sleep(1)
    network.remove_card()
    guest.end()
    receiver.says("(?s)waiting.*waiting")
    time.sleep(0.5)
    receiver.waits()
    network.add_card()
    guest, log = start_guest(session, network, "again")
    time.sleep(faults.PLAY_S)
    to_ns = harness.now_ns()
    guest.end()
    all_faults.add("Capture: the interface is deleted and made anew", "says that it waits",
                   faults.first_delivery_ns(log), to_ns)

    guest, log = start_guest(session, network, "down")
    time.sleep(1)
    run("ip", "link", "set", "card", "down")
    time.sleep(1)
    receiver.waits()
    run("ip", "link", "set", "card", "up")
    gone_ns = harness.now_ns()
    time.sleep(faults.PLAY_S)
    all_faults.add("Capture: the interface is down for a while", "silence", gone_ns, harness.now_ns())
    guest.end()
    receiver.end()

    prefix = ["setpriv", "--bounding-set=-net_raw"]
    receiver = faults.Receiver(session, "-P", "-i", "card", prefix=prefix)
    receiver.says(r"no permission to capture on card: sudo setcap cap_net_raw\+ep /")
    receiver.waits()
    receiver.end()
    all_faults.judge()


def test():
    harness.need("ip", "unshare", "nsenter", "setpriv", "mount")
    if os.geteuid() != 0:
        raise harness.Skip("only root may capture and make networks")
    network = Network()
    try:
        with harness.Session() as session:
            session.start_server(quantum=256)
            session.sink()
            if sys.argv[1] == "clean":
                clean(session, network)
                macvtap(session, network)
            else:
                expect_faults(session, network)
    finally:
        network.close()


harness.main(test)
