# SPDX-License-Identifier: MIT
"""A virtual machine that does nothing but play: Debian's kernel, and of this build `earshot guest`.

QEMU emulates the processor, so that it runs wherever tests do. The kernel is downloaded once and kept in
~/.cache/earshot-tests; machine.py by itself does only that.
"""

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness  # noqa: E402

QEMU = "qemu-system-x86_64"
META_PACKAGE = "linux-image-cloud-amd64"
BOOT_S = 60  # to the first sound; 7 on a machine that has nothing else to do
APT_S = 180
QMP_S = 10
MEMORY_MIB = 256
ADDRESS = "192.168.122.50"

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do [ ! -e $module ] || insmod $module; done
# As a firmware leaves devices that have no driver.
for device in /sys/bus/pci/devices/*; do
    case "$(cat $device/vendor $device/device)" in
        0x1af4*0x1110) printf '\\0\\0' | dd of=$device/config bs=1 seek=4 conv=notrunc 2>/dev/null ;;
    esac
done
if [ -d /sys/class/net/eth0 ]; then
    ip address add {address}/24 dev eth0
    ip link set eth0 up
fi
echo "clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
earshot guest $GUEST
echo "earshot guest ended with $?"
poweroff -f
"""


# --- the kernel


def _run(argv, directory, seconds):
    """The output, or a reason to skip."""
    try:
        done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8"})
    except subprocess.TimeoutExpired:
        raise harness.Skip(f"{' '.join(argv)}: not done within {seconds} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise harness.Skip(f"{' '.join(argv)}: {last}")
    return done.stdout


def _download(directory):
    """The package behind the name that always means the newest. Returns its file."""
    output = _run(["apt-cache", "depends", "--no-recommends", META_PACKAGE], directory, APT_S)
    package = re.search(r"Depends: (linux-image-\S+)", output)
    if not package:
        raise harness.Skip(f"apt-cache knows of no {META_PACKAGE}")
    _run(["apt-get", "-q", "download", package[1]], directory, APT_S)
    return next(os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".deb"))


def _modules(tree, wanted):
    """Paths of these and of what they depend on, in the order in which they load."""
    paths = {}
    for directory, _, names in os.walk(tree):
        paths.update({name.removesuffix(".ko").replace("-", "_"): os.path.join(directory, name)
                      for name in names if name.endswith(".ko")})
    order = []

    def add(name):
        if name not in paths:
            raise harness.Skip(f"{META_PACKAGE} has no {name}.ko")
        with open(paths[name], "rb") as file:
            depends = re.search(rb"\0depends=([^\0]*)\0", file.read())
        for other in filter(None, depends[1].decode().split(",")):
            add(other.replace("-", "_"))
        if paths[name] not in order:
            order.append(paths[name])

    for name in wanted:
        add(name)
    return order


def kernel():
    """A directory with `vmlinuz` and `modules/NN-NAME.ko`, in the order in which they load. Downloaded once."""
    if platform.machine() != "x86_64":
        raise harness.Skip("the virtual machine's kernel is for x86-64, and so must be the program")
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "earshot-tests")
    kept = os.path.join(cache, "kernel")
    if os.path.isdir(kept):
        return kept
    harness.need("apt-get", "apt-cache", "dpkg-deb")
    os.makedirs(cache, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="new-", dir=cache)
    try:
        try:
            package = _download(scratch)
        except harness.Skip:
            if os.geteuid() != 0:
                raise
            _run(["apt-get", "-q", "update"], scratch, APT_S)  # its lists are missing, or name what is no more
            package = _download(scratch)
        tree, made = os.path.join(scratch, "tree"), os.path.join(scratch, "made")
        _run(["dpkg-deb", "-x", package, tree], scratch, APT_S)
        os.makedirs(os.path.join(made, "modules"))
        image = next(name for name in os.listdir(os.path.join(tree, "boot")) if name.startswith("vmlinuz"))
        shutil.copy(os.path.join(tree, "boot", image), os.path.join(made, "vmlinuz"))
        for i, path in enumerate(_modules(tree, ("virtio_pci", "virtio_net"))):
            shutil.copy(path, os.path.join(made, "modules", f"{i:02}-{os.path.basename(path)}"))
        if not os.path.isdir(kept):
            os.rename(made, kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return kept


# --- what runs in it


def _with_libraries(program, root, name):
    """Copies a program to /bin, and what it is linked with to where it is looked for."""
    shutil.copy(program, os.path.join(root, "bin", name))
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=20).stdout  # nothing: it is static
    for library in set(re.findall(r"(/.*) \(0x", listed)):
        there = root + library
        os.makedirs(os.path.dirname(there), exist_ok=True)
        shutil.copy(library, there)


def initramfs(directory, modules=None):
    """Returns an archive with busybox, this build's earshot, and the modules of that directory."""
    root = os.path.join(directory, "initramfs")
    for name in ("bin", "dev", "modules", "proc", "sys"):
        os.makedirs(os.path.join(root, name))
    _with_libraries(shutil.which("busybox"), root, "busybox")
    _with_libraries(harness.built("earshot"), root, "earshot")
    for tool in ("sh", "mount", "insmod", "ip", "cat", "dd", "poweroff"):
        os.symlink("busybox", os.path.join(root, "bin", tool))
    for name in os.listdir(modules) if modules else ():
        shutil.copy(os.path.join(modules, name), os.path.join(root, "modules"))
    with open(os.path.join(root, "init"), "w") as file:
        file.write(INIT.format(address=ADDRESS))
        os.fchmod(file.fileno(), 0o755)
    path = os.path.join(directory, "initrd")
    names = [os.path.relpath(os.path.join(where, name), root)
             for where, directories, files in os.walk(root) for name in directories + files]
    with open(path, "wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input="\n".join(names).encode(), stdout=out,
                       check=True, timeout=60)
    shutil.rmtree(root)
    return path


# --- the machine


class Machine:
    """QEMU with these devices; in it `earshot guest` with these words."""

    def __init__(self, session, devices, modules=False):
        harness.need(QEMU, "busybox", "cpio", "ldd", "nice")
        self.session = session
        self.devices = devices
        self.directory = kernel()
        self.initrd = initramfs(session.directory, os.path.join(self.directory, "modules") if modules else None)
        self.process = None
        self.control = None
        self.started = 0

    def start(self, words):
        self.started += 1
        path = os.path.join(self.session.directory, f"qmp{self.started}")
        self.process = self.session.spawn(f"qemu{self.started}", [
            "nice", QEMU, "-accel", "tcg", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none",
            "-serial", "stdio", "-qmp", f"unix:{path},server=on,wait=off",
            "-kernel", os.path.join(self.directory, "vmlinuz"), "-initrd", self.initrd,
            "-append", f'console=ttyS0 quiet panic=-1 GUEST="{words}"', *self.devices])
        self.control = harness.wait_for("QEMU's control socket", lambda: self.connected(path), QMP_S)
        self.control.readline()  # its greeting
        self.command("qmp_capabilities")

    def connected(self, path):
        harness.check(self.process.running(), f"QEMU ended with {self.process.popen.returncode}")
        control = socket.socket(socket.AF_UNIX)
        control.settimeout(QMP_S)
        try:
            control.connect(path)
        except OSError:  # not there yet, or not listening yet
            control.close()
            return None
        return control.makefile("rw")

    def command(self, name):
        self.control.write(json.dumps({"execute": name}) + "\n")
        self.control.flush()
        while True:
            answer = json.loads(self.control.readline() or '{"error": "QEMU is gone"}')
            if "event" not in answer:
                harness.check("return" in answer, f"QMP {name}: {answer}")
                return answer["return"]

    def says(self, pattern):
        """On its console."""
        return re.search(pattern, self.process.log())

    def check(self):
        harness.check(self.process.running(), "the virtual machine is gone")
        harness.check(not self.says("earshot guest ended"), "the program in the virtual machine has ended")

    def kill(self):
        self.control.close()
        self.process.end(signal.SIGKILL)


if __name__ == "__main__":
    try:
        print(kernel())
    except harness.Skip as reason:
        sys.exit(str(reason))
