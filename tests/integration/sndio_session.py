# SPDX-License-Identifier: MIT
"""A sndiod of one's own, whose only device is a simulated card: alsa-lib's "hw" is one here."""

import os
import shutil
import time

import harness
from alsa_session import Card

UNIT = 9  # of the first server: not the one that somebody may run here
NICENESS = -20  # sndiod is an ordinary thread


class Sndiod:
    """A server with a card of its own."""

    def __init__(self, session, unit=UNIT, channels=2, options=""):
        harness.need("sndiod")
        self.session = session
        self.unit = unit
        self.channels = channels
        self.device = f"snd,{unit}/default"
        self.card = Card(session, f"card{unit}", f'channels "{channels}" rates "48000" formats "S16_LE" {options}')
        # sndiod gives up its rights before it opens a device: what it opens then lies where everybody may go.
        os.chmod(session.directory, 0o777)
        os.chmod(self.card.control, 0o777)
        # A copy each: to write to one that runs is to crash who runs it.
        plugin = shutil.copy(harness.built("alsa_test_plugin.so"), os.path.join(session.directory, f"plugin{unit}.so"))
        config = os.path.join(session.directory, f"sndiod{unit}.asoundrc")
        with open(config, "w") as out:
            out.write(f'pcm_type.earshot_test {{ lib "{plugin}" }}\n')
            arguments = "".join(f'@args.{name} {{ type string default "0" }} ' for name in ("CARD", "DEV", "SUBDEV"))
            out.write(self.card.config.replace(f"pcm.{self.card.name} {{",
                                               f"pcm.!hw {{ @args [ CARD DEV SUBDEV ] {arguments}"))
        self.env = {"ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{config}"}
        self.process = None
        self.start()

    def start(self):
        self.process = self.session.spawn(
            f"sndiod{self.unit}", ["sndiod", "-d", "-U", str(self.unit), "-m", "play", "-b", "1920", "-z", "480", "-c",
                                   f"0:{self.channels - 1}", "-f", "rsnd/0", "-s", "default"], **self.env)
        time.sleep(0.3)
        harness.check(self.process.running(), f"sndiod ended: {self.process.log()}")

    def kill(self):
        self.process.end(9)
