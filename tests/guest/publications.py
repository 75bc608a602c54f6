# SPDX-License-Identifier: MIT
"""When what a virtual machine plays becomes visible on its host: the log that `earshot guest --log` writes where guest
and host share a clock.

It also tells a virtual machine that stood still from an Earshot that lost something.
"""

import mmap
import os
import socket
import struct
import threading
import time

import harness

MAGIC = 0x11112014
FRAME_BYTES = 4
LOOK_S = 0.001
WAIT_S = 0.2
SO_TIMESTAMPNS = 35
ETH_P_IP = 0x0800
IP_UDP_BYTES = 28
HEADER_BYTES = 5


class Publications:
    """Watches in a thread of its own. A stream is what is published between two restart()s."""

    def __init__(self, session):
        self.session = session
        self.lock = threading.Lock()
        self.streams = [[]]  # of each: [(first frame, ns, frames)]
        self.restarted = False
        self.over = False
        self.failure = None
        self.thread = threading.Thread(target=self.guarded, daemon=True)
        self.thread.start()

    def guarded(self):
        try:
            self.watch()
        except Exception as failure:  # told by whoever waits
            self.failure = failure

    def watch(self):
        raise NotImplementedError

    def published(self, frames, at_ns):
        with self.lock:
            stream = self.streams[-1]
            first = stream[-1][0] + stream[-1][2] if stream else 0
            stream.append((first, at_ns, frames))

    def restart(self):
        """The guest is gone: what comes from now on is another stream."""
        with self.lock:
            self.streams.append([])
            self.restarted = True

    def first_ns(self):
        """When the present stream began; None: it has not."""
        harness.check(self.failure is None, f"the publications cannot be watched: {self.failure}")
        with self.lock:
            return self.streams[-1][0][1] if self.streams[-1] else None

    def last_ns(self):
        with self.lock:
            return self.streams[-1][-1][1] if self.streams[-1] else None

    def log(self):
        """The present stream as a file for earshot-analyse."""
        with self.lock:
            path = os.path.join(self.session.directory, f"machine{len(self.streams)}.deliveries")
            lines = [f"{first} {at_ns} {frames}\n" for first, at_ns, frames in self.streams[-1]]
        with open(path, "w") as file:
            file.writelines(lines)
        return path

    def end(self):
        self.over = True
        self.thread.join(5)


class Ring(Publications):
    """In shared memory: the index is looked at each millisecond."""

    def __init__(self, session, path):
        self.path = path
        super().__init__(session)

    def watch(self):
        while not (os.path.exists(self.path) and os.path.getsize(self.path)):
            if self.over:
                return
            time.sleep(LOOK_S)
        with open(self.path, "rb") as file:
            memory = mmap.mmap(file.fileno(), os.path.getsize(self.path), prot=mmap.PROT_READ)
        last, left = None, None
        while not self.over:
            time.sleep(LOOK_S)
            magic, index, _, chunks, size = struct.unpack_from("<IHHHxxI", memory)
            if self.restarted:  # the dead guest's header lies there until the next one's
                left = (magic, index) if left is None else left
                if (magic, index) == left:
                    continue
                self.restarted, left, last = False, None, None
            if magic != MAGIC or not chunks:
                last = None
                continue
            new = (index - (last or 0)) % chunks
            if new:
                self.published(new * size // FRAME_BYTES, harness.now_ns())
            last = index


class Packets(Publications):
    """On a bridge: stamped by the kernel when they come in."""

    def __init__(self, session, interface, port):
        self.interface, self.port = interface, port
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((interface, ETH_P_IP))
        self.socket.settimeout(WAIT_S)
        super().__init__(session)

    def watch(self):
        while not self.over:
            try:
                data, stamp, _, _ = self.socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            if len(data) <= IP_UDP_BYTES + HEADER_BYTES or struct.unpack_from("!H", data, 22)[0] != self.port:
                continue
            seconds, nanoseconds = struct.unpack_from("qq", stamp[0][2])
            age_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - (seconds * 1000000000 + nanoseconds)
            self.published((len(data) - IP_UDP_BYTES - HEADER_BYTES) // FRAME_BYTES, harness.now_ns() - age_ns)
