# SPDX-License-Identifier: MIT
"""backend_remote at the other end of a pipe, for the tests of what backends/backend.h promises."""

import os
import select
import subprocess
import time

import harness


def wait_for(condition, what, seconds=10):
    return harness.wait_for(what, condition, seconds)


class Remote:
    """backend_remote at the other end of a pipe."""

    def __init__(self, program, backend, env, target="-"):
        self.target = target  # of a stream that has no other
        self.process = subprocess.Popen([program, backend], env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=False, bufsize=0)
        self.pending = b""

    def line(self, seconds):
        end = time.monotonic() + seconds
        while b"\n" not in self.pending:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], "no answer: it hangs"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"backend_remote died: {self.process.wait()}"
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def ask(self, command, seconds=5):
        self.process.stdin.write(command.encode() + b"\n")
        return self.line(seconds)

    def ok(self, command, seconds=5):
        answer = self.ask(command, seconds)
        assert answer.startswith("ok"), f"{command}: {answer}"
        return answer.split()[1:]

    def open(self, name="guest", channels=2, mask=3, period_us=5333, target=None, connect="connect"):
        return int(self.ok(f"open {name} {channels} {mask:x} {period_us} {target or self.target} {connect}")[0])

    def play(self, *args, **options):
        """As open(), and it is pulled from."""
        index = self.open(*args, **options)
        self.ok(f"start {index}")
        self.wait_pulls(index)
        return index

    def stats(self, index):
        return {k: int(v) for k, v in (pair.split("=") for pair in self.ask(f"stats {index}").split())}

    def settle(self, index, seconds=0.7):
        """Stats of a window that begins now."""
        self.stats(index)
        time.sleep(seconds)
        return self.stats(index)

    def wait_state(self, command, state, seconds=8):
        wait_for(lambda: self.ask(command) == state, f"{command} to be {state}", seconds)

    def wait_pulls(self, index, seconds=5):
        self.stats(index)
        wait_for(lambda: self.stats(index)["pulls"] > 0, "a pull", seconds)

    def end(self):
        """In order, which it has to."""
        self.process.stdin.close()
        try:
            code = self.process.wait(8)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("backend_remote does not end")
        assert code == 0, f"backend_remote ended with {code}"

    def close(self):
        self.process.kill()
        self.process.wait()


def check_pulls(stats):
    assert stats["violations"] == 0, f"pulled after stop: {stats}"
    assert stats["overlaps"] == 0, f"two pulls at once: {stats}"
    assert stats["unflagged"] == 0, f"position did not continue and nobody said so: {stats}"
