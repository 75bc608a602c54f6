# SPDX-License-Identifier: MIT
"""A network without hardware: bridges as libvirt makes them, and guests behind them, each in a namespace of its own.

Everything is in a network namespace that this process enters for good, and goes with it.
"""

import ctypes
import os
import socket
import subprocess

import harness

GROUP = "239.255.77.77"
PORT = 4010

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter():
    """A network of our own: as root at once, else as the root of a user namespace. For good: the next call's is another one."""
    harness.need("ip", "unshare", "nsenter")
    if os.geteuid() == 0 and _libc.unshare(_CLONE_NEWNET) == 0:
        pass
    else:
        uid = os.getuid()
        if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            raise harness.Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"0 {uid} 1")
    ip("link set lo up")


def ip(arguments, namespace=None):
    argv = ["ip", *arguments.split()]
    if namespace:
        argv = ["nsenter", "-n", "-t", str(namespace.pid), *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
    harness.check(done.returncode == 0, f"ip {arguments}: {done.stderr.strip()}")


class Cable:
    """A cable from a namespace for a guest, its `eth0`, to `vnetN` here, which a bridge takes as its port."""

    def __init__(self, session, number=0):
        self.session = session
        self.number = number
        self.net = f"192.168.{122 + number}"
        self.address = f"{self.net}.50"
        ours = os.readlink("/proc/self/ns/net")
        self.namespace = session.spawn(f"namespace{number}", ["unshare", "--net", "sleep", "3600"])
        harness.wait_for("a namespace", lambda: os.readlink(f"/proc/{self.namespace.pid}/ns/net") != ours)
        self.pid = self.namespace.pid
        ip(f"link add vnet{number} type veth peer name peer{number}")
        # Without a bridge it would be an interface to listen on by itself; as a port it does not care.
        ip(f"link set vnet{number} multicast off up")
        ip(f"link set peer{number} netns {self.pid} name eth0")
        for arguments in ("link set lo up", f"address add {self.address}/24 dev eth0", "link set eth0 up"):
            ip(arguments, self)

    def bridge_up(self, options="", address=True):
        """The bridge virbrN with our cable in it. Returns when that was done."""
        n = self.number
        ip(f"link add virbr{n} type bridge {options}")
        ip(f"link set vnet{n} master virbr{n}")
        if address:
            self.bridge_address()
        ip(f"link set virbr{n} up")
        return harness.now_ns()

    def bridge_address(self):
        ip(f"address add {self.net}.1/24 dev virbr{self.number}")
        return harness.now_ns()

    def bridge_down(self):
        ip(f"link del virbr{self.number}")
        return harness.now_ns()

    def guest(self, *args, name=None, hz=harness.TONE_HZ):
        """`earshot guest` in the namespace, to the group. Returns (process, its log's path)."""
        name = name or f"guest{self.number}"
        log = os.path.join(self.session.directory, f"{name}.deliveries")
        process = self.session.spawn(name, [
            "nsenter", "-n", "-t", str(self.pid), harness.built("earshot"), "guest", "--udp", f"{GROUP}:{PORT}", "-i",
            "eth0", "--tone", str(hz), "--level", "-1", "--log", log, "-q", *map(str, args)])
        return process, log


def wakeups(process):
    """(processor seconds of the process, times its source thread woke up) so far."""
    directory = f"/proc/{process.pid}/task"
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    for tid in os.listdir(directory):
        with open(f"{directory}/{tid}/comm") as file:
            if file.read().strip() != "earshot-src":
                continue
        with open(f"{directory}/{tid}/status") as file:
            for line in file:
                if line.startswith("voluntary_ctxt_switches"):
                    return seconds, int(line.split()[1])
    raise harness.Failed("no source thread")


def force_allowed():
    """May we have receive buffers beyond the system's limit?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)  # SO_RCVBUFFORCE
        except PermissionError:
            return False
    return True
