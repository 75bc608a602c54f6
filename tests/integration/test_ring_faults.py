# SPDX-License-Identifier: MIT
"""Whatever happens to a ring's file, sound is back within a second of its being whole, and waiting costs nothing.

test_ring_faults.py file|memory
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import faults
import harness

RING_BYTES = 2 << 20
ANNOUNCED_S = 10  # it is told at once where the latency is right from the start, else 5 s later
LOOKED_AT_S = 4  # a ring that is there is looked at nine times a second: so long no other wake-up or two decide


class Case:
    """One fault: a ring, a receiver, guests."""

    def __init__(self, all_faults, name):
        self.all = all_faults
        self.session = all_faults.session
        self.name = name
        self.ring = self.session.ring(name)
        self.guests = 0

    def receiver(self, **kwargs):
        return faults.Receiver(self.session, "-m", self.ring, **kwargs)

    def guest(self, path=None):
        self.guests += 1
        process, log = self.session.guest("--shm", path or self.ring, name=f"guest-{self.name}{self.guests}")
        self.log = log
        return process

    def wait_ring(self):
        """Until a guest has opened its stream."""
        def opened():
            with open(self.ring, "rb") as file:
                return file.read(6)[4:] not in (b"", b"\0\0")
        harness.wait_for("the guest's stream", lambda: os.path.exists(self.ring) and opened(), every=0.005)

    def back(self, fault, seen, guest, receiver, gone_ns=None, silent_from_ns=None, tail=False):
        """The cause is gone at gone_ns; without one, when this guest delivered its first chunk."""
        time.sleep(faults.PLAY_S)
        to_ns = harness.now_ns()
        guest.end()
        self.all.add(fault, seen, gone_ns or faults.first_delivery_ns(self.log), to_ns, silent_from_ns, tail)
        receiver.end()


def absent(case):
    receiver = case.receiver()
    receiver.says("is not there yet")
    receiver.waits()
    guest = case.guest()
    case.back("Shared memory: the file is not there yet", "waits, and says so", guest, receiver)


def no_directory(case):
    """No inotify before there is a directory: the slow look finds it."""
    directory = os.path.join(case.session.shm_directory, "later")
    case.ring = os.path.join(directory, "ring")
    receiver = case.receiver()
    receiver.says("is not there yet")
    receiver.waits()
    os.mkdir(directory)
    guest = case.guest()
    case.back("Shared memory: not even its directory is there yet", "waits, and says so", guest, receiver)


def unreadable(case):
    guest = case.guest()
    case.wait_ring()
    os.chmod(case.ring, 0)
    # Root reads everything, unless it gives that up.
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    receiver = case.receiver(prefix=prefix)
    receiver.says("no permission to read")
    receiver.waits()
    os.chmod(case.ring, 0o644)
    case.back("Shared memory: the file may not be read", "names the file, and the doctor, who prints the fix",
              guest, receiver, harness.now_ns())


def zero_length(case):
    open(case.ring, "w").close()
    receiver = case.receiver()
    receiver.says("is empty")
    receiver.waits(LOOKED_AT_S)
    guest = case.guest()
    case.back("Shared memory: the file has no length", "says that it fills when the VM starts", guest, receiver)


def wrong_size(case):
    guest = case.guest()
    case.wait_ring()
    guest.end(signal.SIGKILL)
    os.truncate(case.ring, 100 << 10)
    receiver = case.receiver()
    receiver.says("makes no sense: max_chunks is")
    receiver.waits(LOOKED_AT_S)
    guest = case.guest()
    case.back("Shared memory: the file is smaller than its header says", "says which field makes no sense", guest, receiver)


def truncated(case):
    receiver = case.receiver()
    guest = case.guest()
    receiver.says(r"48 kHz .* ms", ANNOUNCED_S)
    guest.end(signal.SIGKILL)
    os.truncate(case.ring, 0)
    time.sleep(0.3)
    with open(case.ring, "r+b", buffering=0) as file:
        for _ in range(8):
            file.write(bytes(RING_BYTES // 8))
            time.sleep(0.03)
    guest = case.guest()
    case.back("Shared memory: truncated and refilled while playing", "silence, and then the new stream", guest, receiver)


def recreated(case):
    receiver = case.receiver()
    guest = case.guest()
    receiver.says(r"48 kHz .* ms", ANNOUNCED_S)
    guest.end(signal.SIGKILL)
    os.unlink(case.ring)
    receiver.says(r"(?s)48 kHz .* is not there yet", ANNOUNCED_S)
    time.sleep(0.5)  # and the sound server stops asking
    receiver.waits()
    guest = case.guest()
    case.back("Shared memory: deleted, and made anew by a VM restart", "says that it waits for the file", guest, receiver)


def replaced(case):
    receiver = case.receiver()
    guest = case.guest()
    receiver.says(r"48 kHz .* ms", ANNOUNCED_S)
    guest.end(signal.SIGKILL)
    os.unlink(case.ring)
    guest = case.guest()
    case.back("Shared memory: another file under its name at once", "nothing but a pause", guest, receiver, tail=True)


def stale(case):
    guest = case.guest()
    time.sleep(1)
    guest.end(signal.SIGKILL)
    silent_from_ns = harness.now_ns()
    receiver = case.receiver()
    time.sleep(1)
    usage = faults.Usage(receiver.process.pid)
    time.sleep(1)
    percent, wakeups = usage.rates()  # of these more: it may be a live one that was paused
    print(f"before a dead ring: {percent:.2f} % of a core, {wakeups:.0f} wake-ups a second", flush=True)
    harness.check(percent < faults.CORE_PERCENT, f"{percent:.1f} % of a core, {wakeups:.0f} wake-ups before a dead ring")
    guest = case.guest()
    case.back("Shared memory: the header of a guest that is dead", "silence: what it left is not played", guest, receiver,
              silent_from_ns=silent_from_ns)


def zeros(case):
    with open(case.ring, "wb") as file:
        file.truncate(RING_BYTES)
    receiver = case.receiver()
    receiver.says("nothing has played in the guest yet")
    receiver.waits(LOOKED_AT_S)
    guest = case.guest()
    case.back("Shared memory: all zero for long", "says what that can mean", guest, receiver)


def restarted(case):
    receiver = case.receiver()
    guest = case.guest()
    receiver.says(r"48 kHz .* ms", ANNOUNCED_S)
    receiver.process.send(signal.SIGSTOP)
    guest.end()
    guest = case.guest()
    case.wait_ring()
    receiver.process.send(signal.SIGCONT)
    case.back("Shared memory: a stream that is restarted between two looks", "the new stream from its start", guest,
              receiver, harness.now_ns(), tail=True)


def huge_pages_free():
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["HugePages_Free"]) - int(fields["HugePages_Rsvd"])


def hugepages(case):
    """QEMU's memory can lie in huge pages."""
    directory = os.path.join(case.session.directory, "huge")
    os.mkdir(directory)
    pages = "/proc/sys/vm/nr_hugepages"
    before, mounted = None, False
    try:
        try:
            with open(pages) as file:
                before = file.read()
            with open(pages, "w") as file:
                file.write(str(int(before) + 2))
            mounted = subprocess.run(["mount", "-t", "hugetlbfs", "none", directory], capture_output=True).returncode == 0
        except OSError:
            pass  # not allowed to, or nobody is
        # A machine that has been up for long has no pages of that size left, or none it cares to make.
        if not mounted or not huge_pages_free():
            print("hugetlbfs cannot be mounted here, or there are no huge pages: left out")
            return
        case.ring = os.path.join(directory, "ring")
        receiver = case.receiver()
        receiver.says("is not there yet")
        receiver.waits()
        guest = case.guest()
        case.back("Shared memory: in huge pages, there later than Earshot", "waits, and says so", guest, receiver)
        os.unlink(case.ring)
    finally:
        if mounted:
            subprocess.run(["umount", directory], check=False)
        if before and os.access(pages, os.W_OK):
            with open(pages, "w") as file:
                file.write(before)


def device(case):
    """No length, cannot be read, only mapped; and only as much of it as there is."""
    memory = case.ring + "-memory"
    with open(memory, "wb") as file:
        file.truncate(RING_BYTES)
    shim = shutil.copy(harness.built("libdevice_shim.so"), case.session.directory)  # LD_PRELOAD takes no path with a space
    receiver = case.receiver(LD_PRELOAD=shim, EARSHOT_DEVICE_MEMORY=memory)
    receiver.says("is not there yet")
    os.symlink("/dev/zero", case.ring)
    receiver.says("nothing has played in the guest yet")
    receiver.waits(LOOKED_AT_S)
    guest = case.guest(memory)
    case.back("Shared memory: a character device that is mapped, there later than Earshot", "waits, and says so", guest, receiver)


GROUPS = {
    "file": (absent, no_directory, unreadable, zero_length, wrong_size, recreated, replaced),
    "memory": (truncated, stale, zeros, restarted, hugepages, device),
}


def test():
    with harness.Session() as session:
        session.start_server(quantum=256)
        session.sink()
        all_faults = faults.Faults(session)
        for fault in GROUPS[sys.argv[1]]:
            fault(Case(all_faults, fault.__name__))
        all_faults.judge()


harness.main(test)
