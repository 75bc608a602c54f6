# SPDX-License-Identifier: MIT
"""Senders of packets from any address of the loopback network: two guests, or somebody with nothing to say."""

import array
import math
import os
import random
import socket
import struct
import threading
import time

RATE = 48000
PACKET_FRAMES = 288
HEADER = struct.pack("<BBBH", 0x01, 16, 2, 0x0003)


class Sender(threading.Thread):
    """Calls send_next(socket) every `period_s` until stop()."""

    def __init__(self, address, port, period_s):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.connect(("127.0.0.1", port))
        self.period_s = period_s
        self.stopped = threading.Event()
        self.sent = 0

    def run(self):
        due = time.monotonic()
        while not self.stopped.is_set():
            try:
                self.send_next()
            except ConnectionRefusedError:
                pass  # nobody listens yet
            self.sent += 1
            due += self.period_s
            time.sleep(max(0.0, due - time.monotonic()))

    def stop(self):
        self.stopped.set()
        self.join(2)
        self.socket.close()


class ToneSender(Sender):
    """A guest that plays one sine on both channels. `hz` divides the rate into whole frames."""

    def __init__(self, address, port, hz, level=0.4):
        super().__init__(address, port, PACKET_FRAMES / RATE)
        period = RATE // hz
        wave = [round(32767 * level * math.sin(2 * math.pi * i / period)) for i in range(period)]
        frames = array.array("h")
        for i in range(period + PACKET_FRAMES):
            frames.extend((wave[i % period],) * 2)
        self.period = period
        self.samples = frames.tobytes()
        self.frame = 0

    def send_next(self):
        at = self.frame % self.period * 4
        self.frame += PACKET_FRAMES
        self.socket.send(HEADER + self.samples[at:at + PACKET_FRAMES * 4])


class Crowd(Sender):
    """As many guests as there are addresses, who all send at the same moment: the worst that a socket can get."""

    def __init__(self, addresses, port):
        super().__init__(addresses[0], port, PACKET_FRAMES / RATE)
        self.sockets = [self.socket]
        for address in addresses[1:]:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((address, 0))
            one.connect(("127.0.0.1", port))
            self.sockets.append(one)
        self.packet = HEADER + bytes(PACKET_FRAMES * 4)

    def run(self):
        try:  # a machine with much else to do would make it a smaller crowd
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            pass
        super().run()

    def send_next(self):
        for one in self.sockets:
            try:
                one.send(self.packet)
            except ConnectionRefusedError:
                pass

    def stop(self):
        super().stop()
        for one in self.sockets:
            one.close()


class GarbageSender(Sender):
    """What else comes to an open port. Nothing of it is a guest's; much of it is nearly."""

    def __init__(self, address, port, seed=1):
        super().__init__(address, port, 1 / 400)
        self.random = random.Random(seed)

    def send_next(self):
        rng = self.random
        payload = rng.randbytes(rng.choice((0, 1, 3, 1151, 1152, 1153, 8000)))
        headers = (
            b"",
            HEADER[:rng.randrange(5)],
            struct.pack("<BBBH", 0x01, rng.choice((0, 8, 17, 20, 64, 255)), 2, 3),
            struct.pack("<BBBH", 0x01, 16, rng.choice((0, 9, 255)), 3),
            struct.pack("<BBBH", rng.choice((0x00, 0x80, 0x7F, 0xFF, 0x05)), 16, 2, 3),
        )
        kind = rng.randrange(7)
        if kind < len(headers):
            packet = headers[kind] + (payload if kind > 1 else b"")
        elif kind == len(headers):
            packet = HEADER  # a header, and nothing to play
        else:
            # Noise after a number of bits that cannot be: random bytes alone make a valid header now and then.
            packet = bytes((rng.randrange(256), 1 + 2 * rng.randrange(128))) + payload
        self.socket.send(packet)
