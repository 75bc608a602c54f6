# SPDX-License-Identifier: MIT
"""`earshot doctor` on a computer with one thing broken: it says that first, and nothing that is not so.

test_doctor.py sound     sound servers, sinks and what people do to them in a mixer
               memory    shared memory and what looks like the VM that has it
               network   a guest on a bridge, in network namespaces (root only)
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import harness

LIMIT_S = 20
# Who develops this may have VMs of his own.
NO_VM = r"No VM is running|No running VM has the shared memory|.* runs.* but without shared memory"


class Doctor:
    """What one run of it says."""

    def __init__(self, session, *arguments, prefix=(), ignore=()):
        began = time.monotonic()
        done = subprocess.run([*prefix, harness.built("earshot"), "doctor", *map(str, arguments)], env=session.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
        self.seconds = time.monotonic() - began
        self.text = done.stdout + done.stderr
        self.status = done.returncode
        self.failed = [line[6:] for line in self.text.splitlines() if line.startswith("FAIL  ")]
        # This computer's own real time, and its having no service manager, are nobody's fault.
        self.warned = [line[6:] for line in self.text.splitlines()
                       if line.startswith("warn  ") and not re.search("|".join(("real-time", *ignore)), line)]
        harness.check(self.status == (1 if self.failed else 0), f"exit status {self.status}:\n{self.text}")

    def healthy(self, what):
        print(f"{what}: {self.seconds:.2f} s", flush=True)
        harness.check(not self.failed and not self.warned, f"{what}: nothing is wrong, but it says:\n{self.text}")
        return self

    def names(self, what, wanted, cure, others=0):
        """First of all `wanted`; besides, at most so many that follow from it."""
        print(f"{what}: {self.failed[:1]}, {self.seconds:.2f} s", flush=True)
        harness.check(self.failed and re.match(wanted, self.failed[0]) and cure in self.text and
                      len(self.failed) <= 1 + others, f"{what}: wanted '{wanted}', '{cure}':\n{self.text}")

    def warns(self, what, wanted, cure):
        print(f"{what}: {self.warned[:1]}, {self.seconds:.2f} s", flush=True)
        harness.check(not self.failed and self.warned and re.match(wanted, self.warned[0]) and cure in self.text,
                      f"{what}: wanted '{wanted}', '{cure}':\n{self.text}")


def playing(session, name):
    harness.wait_for(f"{name} to play", lambda: (session.status(name) or {}).get("state") == "playing")


def mixer(session, node, **props):
    """What a mixer does to a node: mute=True, channelVolumes=[0.0, 0.0]."""
    text = ", ".join(f"{key}: {str(value).lower()}" for key, value in props.items())
    session.run("pw-cli", "set-param", str(session.node(node)["id"]), "Props", f"{{ {text} }}")

    def done():
        shown = session.node(node)["info"]["params"]["Props"][0]
        return all(shown.get(key) == value for key, value in props.items())
    harness.wait_for(f"{node} to have {text}", done)


def sound():
    with harness.Session() as session:
        ring = session.ring("windows")
        source = ("-m", ring)
        session.earshot(*source, "-n", "windows", "-t", 200)
        guest, _ = session.guest("--shm", ring)
        harness.wait_for("the stream", lambda: session.status("windows"))
        Doctor(session, *source).names("no server", "No sound server is running", "pipewire.socket")

        session.start_server(quantum=256)
        Doctor(session, *source).names("no sink", "PipeWire has no output device", "/proc/asound/cards")
        Doctor(session, *source, "-d", "gone").names("no sink, one named", "PipeWire has no output device", "lspci")

        session.sink()
        playing(session, "windows")
        harness.wait_for("the default sink", lambda: "testsink" in session.run("pw-metadata", "0", "default.audio.sink"))
        before = session.status("windows")
        for _ in range(5):
            Doctor(session, *source).healthy("it plays")
        after = session.status("windows")
        harness.check(after["underruns"] == before["underruns"] and after["resyncs"] == before["resyncs"] or
                      session.worst_stall_ms() > 100, f"the doctor was heard: {before}, {after}")
        Doctor(session, *source, "-d", "gone").names("a sink that is not there", "There is no output gone",
                                                     "-d testsink")

        mixer(session, "testsink", mute=True)
        Doctor(session, *source).names("a muted sink", "The output testsink is muted", "wpctl set-mute")
        mixer(session, "testsink", mute=False, channelVolumes=[0.0, 0.0])
        Doctor(session, *source).names("a sink at 0", "The output testsink is at volume 0", "wpctl set-volume")
        mixer(session, "testsink", channelVolumes=[1.0, 1.0])
        mixer(session, "windows", mute=True)
        Doctor(session, *source).names("a muted stream", "windows is muted in the mixer", "wpctl set-mute")
        mixer(session, "windows", mute=False, channelVolumes=[0.0, 0.0])
        Doctor(session, *source).names("a stream at 0", "windows is at volume 0 in the mixer", "wpctl set-volume")
        mixer(session, "windows", channelVolumes=[1.0, 1.0])
        session.setting("clock.force-quantum", 2048)
        Doctor(session, *source).warns("a long period", "PipeWire's period is 42.7 ms", "clock.force-quantum 0")
        session.setting("clock.force-quantum", 256)
        Doctor(session, *source).healthy("all mended")

        # Silence of the guest's is no fault of the host's, nor is a sink that sleeps meanwhile.
        guest.end()
        harness.wait_for("idle", lambda: session.status("windows")["state"] == "idle")
        harness.wait_for("the sink to sleep", lambda: session.node("testsink")["info"]["state"] == "suspended", 15)
        Doctor(session, *source).names("a VM that is off", NO_VM, "")

        guest, _ = session.guest("--shm", ring, name="guest-again")
        playing(session, "windows")
        session.server.pop().end()  # WirePlumber
        Doctor(session, *source).names("no session manager", "PipeWire has no session manager",
                                       "enable --now wireplumber")
        session.kill_server()
        Doctor(session, *source).names("a server that died", "No sound server is running", "pipewire.socket")


QEMU = """
import mmap, sys, time
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
print("mapped", flush=True)
time.sleep(600)
"""


def memory():
    with harness.Session() as session:
        ring = session.ring("windows")

        def doctor():
            return Doctor(session, "-o", "null", "-m", ring, ignore=("-o null",))

        session.earshot("-m", ring, "-o", "null", "-n", "windows")
        harness.wait_for("the stream", lambda: session.status("windows"))
        doctor().names("a VM that is off", NO_VM, "")

        def qemu(path, name):
            """A process with a QEMU's arguments that has mapped the file."""
            if not os.path.exists(path):
                with open(path, "wb") as file:
                    file.truncate(2 << 20)
            process = session.spawn(name, [
                sys.executable, "-c",
                f"import os, sys; os.execv({sys.executable!r}, ['qemu-system-x86_64', '-c', {QEMU!r}, {path!r}, '-name', "
                f"'guest=windows,debug-threads=on', '-object', 'memory-backend-file,id=m,share=on,mem-path={path},size=2M',"
                f"'-device', 'ivshmem-plain,memdev=m'])"])
            harness.wait_for("the mapping", lambda: "mapped" in process.log())
            return process

        other = qemu(session.ring("other"), "qemu-other")
        doctor().names("another VM", "No running VM has the shared memory", f"earshot -m {session.ring('other')}")
        other.end()

        vm = qemu(ring, "qemu")
        doctor().names("a driver that cannot map", f"{ring} is all zero", "/v UseIVSHMEM /t REG_DWORD /d 2 /f")
        guest, _ = session.guest("--shm", ring)
        playing(session, "windows")
        doctor().healthy("it plays")
        guest.end(signal.SIGKILL)
        doctor().warns("a guest that stands still", f"{ring}: the guest has a stream open", "Play something in the guest")
        guest, _ = session.guest("--shm", ring, "--seconds", "0.5", name="guest-short")
        harness.wait_for("the guest to end", lambda: not guest.running())
        doctor().warns("a silent guest", "The guest has played into", "Play something in the guest")

        os.truncate(ring, 0)
        doctor().names("a file emptied", f"{ring} was emptied while windows runs", "truncates the file")
        os.unlink(ring)
        doctor().names("a file deleted", f"{ring} was deleted while windows runs", "Shut the VM down")
        with open(ring, "wb") as file:
            file.truncate(2 << 20)
        doctor().names("a file replaced", f"{ring} is another file than the one windows has", "Shut the VM down")
        vm.end()


class Network:
    """A host with a bridge, and a machine on it: two namespaces."""

    def __init__(self):
        self.host, self.guest = (f"earshot-{os.getpid()}-{end}" for end in ("host", "guest"))
        self.made = []

    def ip(self, *arguments):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10)
        harness.check(done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def sysctl(self, name, value):
        subprocess.run(["ip", "netns", "exec", self.host, "sh", "-c", f"echo {value} >/proc/sys/net/ipv4/conf/{name}"],
                       check=True, timeout=10)

    def __enter__(self):
        try:
            for name in (self.host, self.guest):
                self.ip("netns", "add", name)
                self.made.append(name)
            self.ip("-n", self.host, "link", "set", "lo", "up")
            self.ip("-n", self.host, "link", "add", "virbr0", "type", "bridge")
            self.ip("-n", self.host, "link", "set", "virbr0", "up")
            self.ip("-n", self.host, "addr", "add", "192.168.177.1/24", "dev", "virbr0")
            self.ip("-n", self.host, "link", "add", "vnet0", "type", "veth", "peer", "name", "eth0", "netns", self.guest)
            self.ip("-n", self.host, "link", "set", "vnet0", "master", "virbr0", "up")
            self.ip("-n", self.guest, "link", "set", "eth0", "up")
            self.ip("-n", self.guest, "addr", "add", "192.168.177.50/24", "dev", "eth0")
            self.ip("-n", self.guest, "route", "add", "default", "dev", "eth0")
            self.sysctl("all/rp_filter", 0)
            self.sysctl("virbr0/rp_filter", 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name], timeout=10, check=False)

    def on_host(self):
        return ("ip", "netns", "exec", self.host)

    def on_guest(self):
        return ("ip", "netns", "exec", self.guest)


def nft(network, rules):
    """False where this computer has no nftables."""
    program = shutil.which("nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    done = program and subprocess.run([*network.on_host(), program, "-f", "-"], input=rules, capture_output=True, text=True,
                                      timeout=10)
    if not done or done.returncode:
        print(f"no nftables here{': ' + done.stderr.strip() if done else ''}")
    return bool(done) and not done.returncode


def port_table(network):
    return subprocess.run([*network.on_host(), "cat", "/proc/net/udp"], capture_output=True, text=True,
                          timeout=10).stdout


def network():
    if os.geteuid() != 0:
        raise harness.Skip("network namespaces need root")
    harness.need("ip")
    with harness.Session() as session, Network() as net:
        def doctor(*arguments):
            # No VM is a QEMU here, and -o null is a device that nobody hears.
            return Doctor(session, "-o", "null", *arguments, prefix=net.on_host(), ignore=(NO_VM, "-o null"))

        def earshot(*arguments, name):
            return session.spawn(name, [*net.on_host(), harness.built("earshot"), "-o", "null", *map(str, arguments)])

        def guest(name):
            return session.spawn(name, [*net.on_guest(), harness.built("earshot"), "guest", "-q", "-i", "eth0"])

        def heard():
            return any(stream["state"] == "playing" for stream in session.status() or [])

        earshot_running = earshot("-i", "virbr0", name="earshot")
        sender = guest("guest")
        harness.wait_for("the guest to be heard", heard)
        doctor("-i", "virbr0").healthy("heard")
        doctor().healthy("heard, on every interface")
        doctor("-i", "192.168.177.1").healthy("heard, by address")
        if nft(net, "table inet filter { chain input { type filter hook input priority 0; policy drop; "
                    "ct state established accept; tcp dport { 22, 4010 } accept; }; }"):
            harness.wait_for("silence", lambda: any(stream["state"] == "idle" for stream in session.status() or []))
            dropped = doctor("-i", "virbr0")
            dropped.names("a firewall", "nftables' rules in inet filter, chain input, stop UDP port 4010",
                          "sudo nft insert rule inet filter input iifname virbr0 udp dport 4010 accept")
            # What it prints is what helps.
            rule = re.search(r"sudo nft (insert rule [^#]*)", dropped.text).group(1)
            nft(net, rule)
            harness.wait_for("the guest to be heard", heard)
            doctor("-i", "virbr0").healthy("the firewall's rule as it was printed")
            nft(net, "flush ruleset")
        doctor("-i", "virbr9").names("no such interface", "There is no network interface virbr9", "net-start default")
        earshot_running.end()

        doctor("-i", "virbr0").names("not running", "No earshot is running", "earshot    # with the options")

        # Heard by an earshot that wants another sender: on the wire, but not at the stream.
        other = earshot("-i", "virbr0", "--from", "192.168.177.99", name="other")
        harness.wait_for("the port, and an answer", lambda: ":0FAA" in port_table(net) and session.status())
        doctor("-i", "virbr0").names(
            "a sender left out", r"\d+ packets a second come from 192.168.177.50 by virbr0, but earshot gets none", "")
        doctor("-i", "virbr0", "--from", "192.168.177.99").warns(
            "a sender left out", "Packets come from 192.168.177.50 by virbr0, which --from leaves out",
            "add 192.168.177.50 to --from")
        sender.end()
        doctor("-i", "virbr0").warns("a silent guest", "No packet for port 4010 came", "is Scream the output")
        other.end()

        unicast = earshot("-u", name="unicast")
        harness.wait_for("the port, and an answer", lambda: ":0FAA" in port_table(net) and session.status())
        doctor("-i", "virbr0").names("not a member", "The running earshot has not joined the group", "(-g, -i)")
        unicast.end()

        holder = session.spawn("holder", [*net.on_host(), sys.executable, "-c",
                                          "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); "
                                          "s.bind(('', 4010)); time.sleep(60)"])
        harness.wait_for("the port", lambda: ":0FAA" in port_table(net))
        doctor("-i", "virbr0").names("a taken port", r"UDP port 4010 is taken by python3\S* \(pid \d+\)",
                                     f"kill {holder.pid}", others=1)
        holder.end()

        receiver = earshot("-i", "virbr0", name="receiver")
        sender = guest("guest-again")
        harness.wait_for("the guest to be heard", heard)
        sender.end()
        receiver.end()
        receiver = earshot("-i", "virbr0", name="receiver-again")
        harness.wait_for("the port, and an answer", lambda: ":0FAA" in port_table(net) and session.status())
        net.sysctl("virbr0/rp_filter", 1)
        net.ip("-n", net.host, "addr", "flush", "dev", "virbr0")
        sender = guest("guest-filtered")
        doctor("-i", "virbr0").names("rp_filter", r"The kernel \(rp_filter = 1\) drops what comes in by virbr0",
                                     "sudo sysctl net.ipv4.conf.all.rp_filter=0", others=1)
        harness.check(not heard(), "the kernel did not drop what it should")
        net.sysctl("virbr0/rp_filter", 0)
        harness.wait_for("the guest to be heard", heard)
        doctor("-i", "virbr0").healthy("a bridge without an address")
        sender.end()
        receiver.end()

        net.ip("-n", net.host, "link", "set", "vnet0", "nomaster")
        doctor("-i", "virbr0").names("nobody on the bridge", "No VM is connected to virbr0", "domiflist", others=1)
        net.ip("-n", net.host, "link", "set", "virbr0", "down")
        doctor("-i", "virbr0").names("a bridge that is down", "virbr0 is down", "ip link set virbr0 up", others=1)
        try:
            net.ip("-n", net.host, "link", "add", "link", "vnet0", "name", "nic7", "type", "macvtap", "mode", "bridge")
        except harness.Failed as reason:
            print(f"no macvtap in this kernel: {reason}")
            return
        net.ip("-n", net.host, "link", "set", "nic7", "up")
        doctor("-i", "nic7").names("macvtap", "nic7: a VM that is connected by macvtap cannot be heard",
                                   "attach-interface", others=1)


harness.main({"sound": sound, "memory": memory, "network": network}[sys.argv[1]])
