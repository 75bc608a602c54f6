# SPDX-License-Identifier: MIT
"""From a clean machine to sound: `./bootstrap install` by a user, `earshot setup NAME --shm 2M --install`, a guest that plays,
and what is heard; then the service under a real `systemd --user`, to the removal and `./bootstrap uninstall`.

Needs a mount namespace (systemd looks into /run whether it is there), and brings a network of its own.
"""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import harness

VM = f"test{os.getpid()}"
CHECKOUT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
RING = f"/dev/shm/scream-{VM}"
UNIT = "earshot.service"
GUEST_UNIT = "earshot-guest.service"
SYSTEMD = next((path for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd") if os.path.exists(path)), None)
BRIDGE = "earshot9"
INSIDE = "EARSHOT_TEST_NAMESPACE"


def enter_namespace():
    """Runs this test again, in namespaces of its own."""
    harness.need("unshare", "mount", "ip", "systemctl", "systemd-analyze", "cmake")
    if not SYSTEMD:
        raise harness.Skip("not installed: systemd")
    for rights in ([], ["--map-root-user"]):
        unshare = ["unshare", *rights, "--mount", "--net", "--propagation", "private"]
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
            os.execvpe(unshare[0], [*unshare, sys.executable, "-B", __file__], {**os.environ, INSIDE: "1"})
    raise harness.Skip("no namespaces may be made here")


class Manager:
    """The user's service manager, and earshot installed for him."""

    def __init__(self, session):
        self.session = session
        self.home = session.env["HOME"]
        self.program = f"{self.home}/.local/bin/earshot"
        self.unit = f"{self.home}/.local/share/systemd/user/{UNIT}"
        self.process = None
        self.mounted = False
        # What plays here is started by the test.
        self.write(".config/systemd/user/pipewire.socket", None)

    def write(self, name, text):
        """A file in the home directory; without text, a link to /dev/null."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if text is None:
            os.symlink("/dev/null", path)
            return
        with open(path, "w") as out:
            out.write(text)

    def drop_in(self, name, text):
        self.write(f".config/systemd/user/{UNIT}.d/{name}.conf", text)
        self.systemctl("daemon-reload")

    def remove_drop_in(self, name):
        os.remove(f"{self.home}/.config/systemd/user/{UNIT}.d/{name}.conf")
        self.systemctl("daemon-reload")

    def bootstrap(self, command):
        """By a user who is not root."""
        said = self.session.run("unshare", "--user", "--map-user=1000", "--map-group=1000", f"{CHECKOUT}/bootstrap", command,
                                seconds=100)
        print(f"./bootstrap {command}: {' / '.join(said.splitlines())}", flush=True)

    def start(self):
        if os.path.realpath(harness.build_dir()) == f"{CHECKOUT}/build":
            # A copy in the checkout's place, so that it is configured anew for no one else, and has little to build.
            copy = os.path.join(self.session.directory, "checkout")
            shutil.copytree(CHECKOUT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "build-*", "Testing"))
            subprocess.run(["mount", "--bind", copy, CHECKOUT], check=True)
            self.mounted = True
            self.bootstrap("install")
        else:  # the sanitizers' and other compilers' builds; it is the checkout's own that ./bootstrap makes
            self.session.run("cmake", "--install", harness.build_dir(), "--prefix", f"{self.home}/.local", seconds=60)
        self.process = self.session.spawn("systemd", [SYSTEMD, "--user", "--unit=basic.target", "--log-target=console"])
        harness.wait_for("the user's service manager", lambda: self.session.run(
            "systemctl", "--user", "is-active", "basic.target", may_fail=True) == "active\n")

    def undo(self):
        """The next attempt begins in the same namespaces."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", CHECKOUT], check=True)
        for link in (BRIDGE, "port0"):
            self.session.run("ip", "link", "delete", link, may_fail=True)

    def systemctl(self, *argv, may_fail=False):
        return self.session.run("systemctl", "--user", *argv, seconds=40, may_fail=may_fail)

    def shows(self, *names, unit=UNIT):
        lines = self.systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return [values[name] for name in names] if len(names) > 1 else values[names[0]]

    def wait_active(self, after_pid="0", unit=UNIT):
        """Until it runs as another process than that. Returns its id."""
        def active():
            state, pid = self.shows("ActiveState", "MainPID", unit=unit)
            return state == "active" and pid not in ("0", after_pid) and pid
        return harness.wait_for("the service to be active", active, 20)

    def earshot(self, *argv, may_fail=False):
        return self.session.run(self.program, *argv, seconds=30, may_fail=may_fail)

    def no_orphans(self):
        """Ends it: with it goes what it started."""
        self.process.end(signal.SIGTERM, 10)


def check_unit(manager):
    units = (manager.unit, os.path.join(os.path.dirname(manager.unit), GUEST_UNIT))
    verify = subprocess.run(["systemd-analyze", "--user", "--man=no", "verify", *units], capture_output=True,
                            text=True, env=manager.session.env, timeout=30, check=False)
    said = verify.stdout + verify.stderr
    harness.check(verify.returncode == 0 and not said.strip(), f"systemd-analyze verify: {said}")
    manager.systemctl("daemon-reload")
    harness.check(manager.shows("LoadState") == "loaded", "the unit is not found below ~/.local")
    harness.check("pipewire.socket" in manager.shows("Wants"), "it does not want the sound server")
    for unit in (UNIT, GUEST_UNIT):
        harness.check(not re.search("pipewire|pulse", "".join(manager.shows("Requires", "BindsTo", unit=unit))),
                      f"{unit} requires a sound server")


def status_field(pid, name):
    with open(f"/proc/{pid}/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def check_process(pid, limits=((resource.RLIMIT_RTPRIO, 95), (resource.RLIMIT_MEMLOCK, 256 << 20))):
    """The hardening holds, and takes nothing that is needed: limits, real time, shared memory."""
    harness.check(status_field(pid, "NoNewPrivs") == "1", "it may gain rights")
    harness.check(status_field(pid, "Seccomp") == "2", "no system call is filtered")
    for kind, wanted in limits:
        # As much of it as this session may have.
        most = resource.getrlimit(kind)[1]
        wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        limit = resource.prlimit(int(pid), kind)
        harness.check(limit == (wanted, wanted), f"limit {kind} is {limit}, not {wanted}")
    policies = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat") as stat:
            line = stat.read()
        policies[line[line.index("(") + 1:line.rindex(")")]] = int(line[line.rindex(")") + 1:].split()[38])
    harness.check(os.SCHED_FIFO in {policy & 0xff for policy in policies.values()},
                  f"no thread has real time: {policies}")


def bound(sock, port):
    try:
        sock.bind(("", port))
    except OSError:
        return False
    return True


def playing(manager):
    stream = manager.session.status(VM)
    return stream and stream["state"] == "playing" and stream


def check_guest(manager):
    """The other service: this session as a Linux guest's, in which nothing but PipeWire runs."""
    session = manager.session
    tried = subprocess.run([manager.program, "guest", "--capture", "--shm", "/no/such"], capture_output=True, text=True,
                           timeout=10, check=False)
    if "libpulse" in tried.stderr:
        print("built without libpulse: no earshot-guest", flush=True)
        return
    harness.need("pipewire-pulse", "pactl")
    ring = f"{RING}-of-the-guest"
    manager.write(".config/earshot/guest.env", f"EARSHOT_GUEST=--shm {ring} --chunk 2.5ms\n")
    manager.systemctl("start", GUEST_UNIT)
    pid = manager.wait_active(unit=GUEST_UNIT)
    check_process(pid, ((resource.RLIMIT_RTPRIO, 95),))

    def says(words):
        harness.wait_for(words, lambda: words in manager.shows("StatusText", unit=GUEST_UNIT))
    says("Waiting for a sound server")
    session.spawn("pipewire-pulse", ["pipewire-pulse"])
    says("What plays here goes to")
    harness.wait_for("its output to be the default one", lambda: session.run("pactl", "get-default-sink").strip() == "earshot")
    harness.check(session.run("stat", "-c", "%s %a", ring).split() == [str(2 << 20), "600"], "the ring it was told to make")
    os.remove(ring)
    manager.systemctl("stop", GUEST_UNIT)
    harness.check(manager.shows("Result", "ActiveState", unit=GUEST_UNIT) == ["success", "inactive"],
                  "it did not end in order")
    harness.wait_for("its output to be gone", lambda: "earshot" not in session.run("pactl", "list", "short", "sinks"))


def whole_life(session, manager):
    manager.start()
    check_unit(manager)

    # Two commands after the installation. No sound server runs, no ring exists: nothing fails.
    said = manager.earshot("setup", VM, "--shm", "2M", "--install")
    harness.check("it was enabled for that" in said, said)
    pid = manager.wait_active()
    harness.check(manager.shows("UnitFileState") == "enabled", "setup did not enable it")
    harness.wait_for("a word to the manager about what it waits for", lambda: manager.shows("StatusText"))

    session.start_server(quantum=256)
    session.sink()
    capture = session.capture().wait_running()
    guest, log = session.guest("--shm", RING, "--ppm", 100)
    harness.wait_for("the guest to be played", lambda: playing(manager))
    check_process(pid)
    time.sleep(3)
    result = capture.stop().analyse(log)
    print(f"heard through the service: {harness.describe(result)}", flush=True)
    harness.check(result["tone_from_ns"] and result["tone_to_ns"] - result["tone_from_ns"] > 2e9,
                  "nothing was heard")
    table = manager.earshot("status")
    harness.check(re.search(rf"(?m)^{VM} +playing +48 ?k\S* .* pipewire$", table), f"status: {table}")

    # What it is not allowed takes none of this away: links' messages, other processes' ports, and the bus.
    manager.earshot("setup", "bridged", "--bridge", BRIDGE, "--install")
    harness.wait_for("both guests", lambda: {s["name"] for s in session.status() or []} >= {VM, "bridged"})
    for argv in (["link", "add", BRIDGE, "type", "bridge"], ["addr", "add", "10.99.0.1/24", "dev", BRIDGE],
                 ["link", "add", "port0", "type", "veth", "peer", "name", "port1"],
                 ["link", "set", "port0", "master", BRIDGE, "up"], ["link", "set", "port1", "up"],
                 ["link", "set", BRIDGE, "up"]):
        session.run("ip", *argv)
    sender, _ = session.guest("--udp", "239.255.77.77", "-i", BRIDGE, name="bridged-guest")
    harness.wait_for("the guest on a bridge that came later",
                     lambda: (session.status("bridged") or {}).get("state") == "playing", 20)
    sender.end()
    harness.check("Removed" in manager.earshot("setup", "bridged", "--remove"), "setup --remove")
    harness.wait_for("one guest", lambda: [s["name"] for s in session.status()] == [VM])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        harness.wait_for("the port to be free", lambda: bound(taken, 4010))
        manager.earshot("setup", "unicast", "--unicast", "--install")
        harness.wait_for("the holder of the port by name",
                         lambda: re.search(rf"4010.*\b{os.getpid()}\b", session.run(
                             "systemctl", "--user", "show", UNIT, "--property=StatusText")))
    manager.earshot("setup", "unicast", "--remove")

    # A reload is the same process.
    config = f"{session.env['HOME']}/.config/earshot/{VM}.conf"
    with open(config) as lines:
        ours = lines.read()
    with open(config, "a") as out:
        out.write("latency = 80\n")
    manager.systemctl("reload", UNIT)
    harness.wait_for("the new latency", lambda: abs((playing(manager) or {"target_ms": 0})["target_ms"] - 80) < 1)
    harness.check(manager.shows("MainPID") == pid, "a reload restarted it")

    # It feeds the watchdog; hanging, it is ended and started anew, and plays again. So when it crashes.
    manager.drop_in("quick", "[Service]\nWatchdogSec=1\nRestartSec=100ms\n")
    manager.systemctl("restart", UNIT)
    pid = manager.wait_active()
    time.sleep(3)
    harness.check(manager.shows("MainPID", "NRestarts") == [pid, "0"], "the watchdog bit while it was well")
    os.kill(int(pid), signal.SIGSTOP)
    stopped = pid
    pid = manager.wait_active(stopped)
    harness.check(manager.shows("NRestarts") == "1", "it was not the watchdog")
    harness.wait_for("sound after it hung", lambda: playing(manager), 20)
    os.kill(int(pid), signal.SIGSEGV)
    pid = manager.wait_active(pid)
    harness.wait_for("sound after it crashed", lambda: playing(manager), 20)
    manager.remove_drop_in("quick")

    # A wrong command line is not tried again.
    manager.drop_in("wrong", f"[Service]\nRestartSec=100ms\nExecStart=\nExecStart={manager.program} --no-such\n")
    manager.systemctl("restart", UNIT, may_fail=True)
    time.sleep(1)
    harness.check(manager.shows("ActiveState", "ExecMainStatus", "NRestarts") == ["failed", "2", "0"],
                  f"a wrong option: {manager.shows('ActiveState', 'ExecMainStatus', 'NRestarts')}")
    manager.remove_drop_in("wrong")
    manager.systemctl("reset-failed", UNIT)
    manager.systemctl("start", UNIT)

    # What was changed stays; what was not goes, and the service with it, in order.
    refused = manager.earshot("setup", VM, "--remove", may_fail=True)
    harness.check("left alone" in refused and os.path.exists(config), refused)
    with open(config, "w") as out:
        out.write(ours)
    manager.earshot("setup", VM, "--remove")
    harness.check(not os.path.exists(config), "setup --remove left the configuration")
    harness.wait_for("the service to be off", lambda: manager.shows("ActiveState", "UnitFileState") ==
                     ["inactive", "disabled"], 20)
    harness.check(manager.shows("Result") == "success", f"it did not end in order: {manager.shows('Result')}")
    guest.end()
    check_guest(manager)
    manager.no_orphans()
    if os.path.exists(f"{manager.home}/.local/share/doc/earshot/installed"):
        manager.bootstrap("uninstall")
        left = [name for _, _, files in os.walk(f"{manager.home}/.local") for name in files if "earshot" in name]
        harness.check(not left, f"./bootstrap uninstall left {left}")


def test():
    with harness.Session() as session:
        manager = Manager(session)
        try:
            whole_life(session, manager)
        finally:
            manager.undo()


def inside():
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    # WirePlumber watches logind's directories where there is a systemd.
    for name in ("system", "seats", "sessions", "users", "machines"):
        os.makedirs(f"/run/systemd/{name}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Version 1 of control groups gives a new group no real time at all; version 2, which desktops have, knows no such
    # thing. Without the controller here, the manager leaves what it runs where it is.
    if os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        subprocess.run(["umount", "--lazy", os.path.realpath("/sys/fs/cgroup/cpu")], check=True)
    try:
        harness.main(test)
    finally:
        if os.path.exists(RING):
            os.remove(RING)


if INSIDE in os.environ:
    inside()
else:
    harness.main(enter_namespace)
