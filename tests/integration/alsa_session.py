# SPDX-License-Identifier: MIT
"""ALSA devices without hardware: simulated cards (alsa_test_plugin.c) whose sound is captured and whose faults are
dialled in, and the plug-ins that play to PipeWire and PulseAudio."""

import glob
import os

import harness

SYSTEM_CONFIG = "/usr/share/alsa/alsa.conf"
PLUGIN_DIRECTORIES = ("/usr/lib/*/alsa-lib", "/usr/lib/alsa-lib", "/usr/lib64/alsa-lib", "/usr/local/lib/alsa-lib")


def plugin(kind):
    """The path of alsa-lib's plug-in for PCMs of this type. pipewire-alsa cannot be installed beside PulseAudio on
    Debian: .ci/run unpacks it into /usr/local."""
    name = f"libasound_module_pcm_{kind}.so"
    directories = [os.environ.get("EARSHOT_ALSA_PLUGINS", "")] + list(PLUGIN_DIRECTORIES)
    for directory in directories:
        for path in glob.glob(os.path.join(directory, name)) if directory else []:
            return path
    raise harness.Skip(f"not installed: {name}")


class Card(harness.Capture):
    """A simulated card: its configuration, its faults, and a capture of what it plays."""

    def __init__(self, session, name, options=""):
        self.session = session
        self.name = name
        self.path = os.path.join(session.directory, f"{name}.capture")
        self.control = os.path.join(session.directory, f"{name}.control")
        os.mkdir(self.control)
        self.config = (f'pcm.{name} {{ type earshot_test control "{self.control}" capture "{self.path}" '
                       f'{options} }}\n')

    def fault(self, what):
        with open(os.path.join(self.control, what), "w"):
            pass

    def heal(self, what):
        """Returns when, in nanoseconds."""
        os.unlink(os.path.join(self.control, what))
        return harness.now_ns()

    def has(self, what):
        return os.path.exists(os.path.join(self.control, what))


class Devices:
    """What an asoundrc has, as an environment."""

    def __init__(self, session):
        self.session = session
        self.path = os.path.join(session.directory, "asoundrc")
        self.text = f'pcm_type.earshot_test {{ lib "{harness.built("alsa_test_plugin.so")}" }}\n'
        self.write("")

    def write(self, text):
        self.text += text
        with open(self.path, "w") as out:
            out.write(self.text)

    def card(self, name, options=""):
        card = Card(self.session, name, options)
        self.write(card.config)
        return card

    # Not by the names that the system has for them, whose configuration comes after ours.
    def pipewire(self, name, sink):
        self.write(f'pcm_type.pipewire {{ lib "{plugin("pipewire")}" }}\n'
                   f'pcm.{name} {{ type pipewire playback_node "{sink}" }}\n')

    def pulse(self, name, sink):
        self.write(f'pcm_type.pulse {{ lib "{plugin("pulse")}" }}\npcm.{name} {{ type pulse device "{sink}" }}\n')

    def env(self):
        return {"ALSA_CONFIG_PATH": f"{SYSTEM_CONFIG}:{self.path}"}

    def earshot(self, device, *args, name="earshot"):
        argv = [harness.built("earshot"), "-o", "alsa", "-d", device, *map(str, args)]
        return self.session.spawn(name, argv, **self.env())
