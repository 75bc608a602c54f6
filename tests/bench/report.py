# SPDX-License-Identifier: MIT
"""doc/BENCHMARKS.md and its plots, from the figures in the build's bench/. What this build has not measured stays as it
is in the file, marked.

report.py
"""

import os
import re
import shutil
import subprocess
import textwrap
import time

import figures
from figures import load, output

DOC = os.path.join(figures.ROOT, "doc")
PAGE = os.path.join(DOC, "BENCHMARKS.md")
NAMES = {"pipewire": "PipeWire", "pulseaudio": "PulseAudio", "pipewire-pulse": "pipewire-pulse", "jack": "JACK (jackd)",
         "alsa": "ALSA (simulated card)", "sndio": "sndio (simulated card)"}
TRANSPORTS = {"shm": "shared memory", "udp": "network"}
CAPTION = re.compile(r"^_(?:Not measured in the last run; kept from before\. )?(Measured .*?)_$", re.M)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def wrapped(text):
    """Paragraphs, and only those, as wide as the rest of doc/."""
    return "\n".join(line if line[:1] in ("|", "#", "<", "!", "_") else textwrap.fill(line, 118, break_on_hyphens=False)
                     for line in text.split("\n"))


def number(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def span(low_high, digits=1):
    low, high = (f"{value:.{digits}f}" for value in low_high)
    return low if low == high else f"{low} to {high}"


# --- the sections: each from its record to text


def backends(record):
    lines = {}
    for row in record["rows"]:
        lines.setdefault((row["kind"], row["quantum"]), {})[row["transport"]] = row
    rows = []
    for (kind, quantum), lanes in lines.items():
        cells = [NAMES[kind], quantum]
        for transport in ("shm", "udp"):
            row = lanes.get(transport, {})
            cells += [number(row.get(key)) for key in ("total_ms", "median_ms", "p99_ms", "spread_ms")]
        rows.append(cells)
    judged = sum(row["breaks"] for row in record["rows"])
    return "\n".join([
        "The least that can be asked for: `-t` is the sum of what chunk (20 ms; packets of 6 ms over the network), quantum, resampler "
        "and device need, 2 ms for chunks that are up to as much late, and 2 to spare. From the publication of a chunk or "
        "packet to its first frame where it is captured: the monitor of a null sink for PipeWire and PulseAudio (PipeWire's "
        "keeps a quantum to itself, which is counted), the program's own ports for JACK (the server's two or three periods come on "
        "top), and what a simulated card plays for ALSA and sndio. Milliseconds over "
        f"{record['seconds']:g} s, away from the machine's own stalls; the spread is from p1 to p99. *asked* counts from the chunk's "
        "first frame, which is as old as the chunk is long when it is published, to the device.", "",
        table(["backend", "quantum", "shm: asked", "median", "p99", "spread", "network: asked", "median", "p99", "spread"],
              rows), "",
        f"Breaks in the sound away from the machine's stalls: {judged}.", "",
        "![latency over the quantum, shared memory](benchmarks-latency.svg)"])


def latency(record):
    rows = [[TRANSPORTS[row["transport"]], f"`-t {row['asked']}`", f"{row['ppm']:+d}", f"{row['seconds']:.0f} s",
             number(row["median_ms"]), number(row["p99_ms"]), number(row["spread_ms"]), f"{row['moved_ms']:+.2f}",
             f"{row['breaks']} ({row['excused']})"] for row in record["rows"] if row["count"]]
    return "\n".join([
        f"PipeWire at a quantum of {record['quantum']}, the guest's clock off by so many ppm, each chunk up to 2 ms late, all lanes "
        "at once. From publication to the cycle in which the sink takes it (the monitor has it a quantum later). *moved*: the "
        "last 20 s against the first. Breaks near a stall of the machine itself are in parentheses.", "",
        table(["guest", "asked", "ppm", "heard", "median ms", "p99", "spread", "moved", "breaks"], rows)])


def chunks(record):
    rows = [[TRANSPORTS[row["transport"]], number(row["median_ms"], 2), number(row["p1_ms"], 2), number(row["p99_ms"], 2),
             f"{row['breaks']} ({row['excused']})"] for row in record["rows"] if row["count"]]
    where = "monitor" if record["at"] == "capture" else "cycle in which the sink takes it"
    return "\n".join([
        f"Chunks of {record['chunk_ms']:g} ms, `-t {record['asked_ms']:g}`, `-q {record['quality']}`, PipeWire at a quantum of "
        f"{record['quantum']}; from publication to the {where}, away from the machine's own stalls. At most "
        f"{record['limit_ms']:g} ms.", "",
        table(["guest", "median ms", "p1", "p99", "breaks (near stalls)"], rows)])


def lowest(record):
    kinds = {}
    for row in record["rows"]:
        kinds.setdefault(row["kind"], []).append(row)
    rows = []
    for kind, tried in kinds.items():
        good = [row for row in tried if row["kept"] and not row["breaks"] and row["count"]]
        best = min(good, key=lambda row: row["asked_ms"], default=None)
        rows.append([NAMES[kind], best and f"{best['asked_ms']:g}" or "none of these", best and number(best["median_ms"]) or "-",
                     ", ".join(f"{row['asked_ms']:g}" for row in tried)])
    return "\n".join([
        f"The lowest `-t` that is kept without a break for {record['seconds']:g} s, of those tried: shared memory, chunks of 20 "
        "ms, the guest's clock 100 ppm off, away from the machine's own stalls; a quantum or period of 256 frames (sndio: blocks of "
        "480).", "",
        table(["backend", "lowest `-t`", "publication to capture, median ms", "tried"], rows)])


def cpu(record):
    playing = [[row["transport"], row["quality"], number(row["percent"], 2), number(row["bare_percent"], 2),
                f"{row['above_percent']:+.2f}", f"{row['wakeups']:.0f}", f"{row['rss_kib'] / 1024:.1f}"]
               for row in record["rows"] if row["quality"]]
    idle = [[row["transport"], number(row["percent"], 3), number(row["wakeups"])]
            for row in record["rows"] if not row["quality"]]
    return "\n".join([
        f"A stereo guest (48 kHz, 16 bit) through PipeWire at a quantum of {record['quantum']}, with `-t 60`, which leaves room to "
        "wake up less often: percent of a core, all threads of the program. The bare stream does nothing but resample a tone "
        "(`earshot-reference`) while the same guest speaks to nobody; both are alternated in one run. "
        f"The difference is what the rest costs: the median of those of each pair, which lie side by side in time. It is to be at "
        f"most +{record['above_max']:g}.", "",
        table(["guest", "quality", "% of a core", "bare stream", "difference", "wake-ups a second", "resident MiB"], playing), "",
        f"Half a minute after the guest fell silent (at most {record['idle_max']:g} % and {record['wakeups_max']} wake-ups):", "",
        table(["guest", "% of a core", "wake-ups a second"], idle)])


def many(record):
    rows = [[row["guests"], row["transport"], row["quality"], number(row["one"], 2), number(row["every"], 2),
             number(row["each"], 2), number(row["bare_each"], 2), number(row["arithmetic"], 2), number(row["limit"], 2)]
            for row in record["rows"]]
    return "\n".join([
        f"Streams of one process through PipeWire at a quantum of {record['quantum']}, percent of a core. A further bare stream only "
        "resamples; *arithmetic* is the resampler's own, measured among as many others.", "",
        table(["guests", "over", "quality", "one", "all", "a further one", "a further bare one", "arithmetic", "all: at most"],
              rows)])


def streams(record):
    rows = [[row["guests"], row["quality"], number(row["percent"], 2), number(row["percent"] / row["guests"], 2),
             number(row.get("arithmetic"), 2), f"{row['wakeups']:.0f}", row["underruns"], number(row.get("idle_percent"), 2),
             number(row.get("idle_wakeups"))] for row in record["rows"]]
    return "\n".join([
        "The program without a server: guests over shared memory, each written by another process, into backend `null`, which "
        "paces like a device with a quantum of 256. By getrusage's clock of all threads: percent of a core and wake-ups a "
        "second, playing and half a minute after the guests fell silent. "
        f"{record['limit_guests']} streams at `fastest` have to stay under {record['limit_percent']:g} %. *Resamplers alone*: "
        "what libsamplerate takes for as many streams, right after it, for the machine's own speed changes by a third.", "",
        table(["streams", "quality", "% of a core", "each", "resamplers alone", "wake-ups", "drop-outs", "idle: %", "idle: wake-ups"], rows), "",
        "![processor time over the number of streams](benchmarks-streams.svg)"])


def instructions(record):
    rows = [[TRANSPORTS[row["transport"]], row["quality"], row["bits"], f"{row['per_frame']:.0f}", number(row["rest_per_frame"]),
             f"{100 * row['share']:.2f} %"] for row in record["rows"]]
    top = [f"{one['per_frame']:.1f} `{one['function']}`" for one in record["rows"][0]["top"]]
    return "\n".join([
        "Counted, not timed, so that load does not matter: the whole program under callgrind, playing a stereo guest at 48 kHz in real "
        "time into backend `null` at a quantum of 256. All instructions of all threads outside the kernel, by whose code they "
        "are in; *the rest* is all but libsamplerate's own, so what the resampler calls (`lrint`, `memset`) is in it. "
        f"It may be {100 * record['share_max']:g} % at `medium`.", "",
        table(["guest", "quality", "bits", "instructions a frame", "the rest", "its share"], rows), "",
        "Most of the rest, first row: " + ", ".join(top) + "."])


def quality(record):
    trials = {row["trial"]: row["gates"]["THD+N dB"] for row in record["rows"]}
    rows = []
    for name in ("fastest", "medium", "best"):
        cells = [trials.get(f"THD+N {name} {khz} kHz +300 ppm") for khz in (1, 15)]
        rows.append([name, *(cell and span(cell) or "-" for cell in cells)])
    return "\n".join([
        f"Everything but the tone against the tone, dB, while the resampler follows a guest that is 300 ppm fast: simulated, over "
        f"{record['seeds']} seed{'s' * (record['seeds'] > 1)}.", "", table(["quality", "1 kHz", "15 kHz"], rows)])


def lock(record):
    rows = [[row["trial"], *(span(row["gates"][gate], digits) for gate, digits in (
        ("lock s", 1), ("mean ppm", 2), ("std ppm", 2), ("fill std ms", 3), ("pitch steady cents", 3)))]
        for row in record["rows"] if "lock s" in row["gates"]]
    return "\n".join([
        f"The program's own code under a virtual clock, {record['seeds']} seed{'s' * (record['seeds'] > 1)}, least to largest: "
        "until the ratio is within 50 ppm for good, and the last two minutes of five.", "",
        table(["guest", "lock s", "mean error ppm", "deviation ppm", "fill, deviation ms", "pitch, cents"], rows), "",
        "![fill and target of a guest that begins](benchmarks-lock.svg)"])


def days(record):
    rows = [[row["trial"], *(f"{row['gates'][gate][1]:.0f}" for gate in ("underruns", "resyncs")),
             span(row["gates"]["fill trend ms"], 4)] for row in record["rows"]]
    return "\n".join(["A simulated day of each: the trend is the last hour's mean fill against the first's.", "",
                      table(["guest", "drop-outs", "resyncs", "trend of the fill, ms"], rows)])


def rtp(record):
    rows = [[row["name"], row["setting"], *(number(row[key]) for key in ("local_ms", "remote_ms", "added_ms", "spread_ms")),
             row["breaks"]] for row in record["rows"]]
    return "\n".join([
        "Two network namespaces, each with a PipeWire of its own and a cable between them: a guest plays on the first one, and its "
        "sound is captured there and, at the same time, from the monitor of a null sink on the second one. Milliseconds from the "
        "packet's publication, median. [The recipe](network-sound.md).", "",
        table(["way", "setting", "here", "there", "added", "spread there", "breaks"], rows)])


def guest(record):
    rows = [[row["server"], f"{row['chunk_ms']:g}", f"{row['asked_ms']:g}", number(row["median_ms"]), span(row["low_high_ms"]),
             row["underruns"]] for row in record["rows"]]
    return "\n".join([
        "`earshot guest --capture` in a sound server of its own, Earshot on another one, both on this machine, the host's "
        f"PipeWire at {record['quantum']}/48000: how much later what is played is in the host's monitor than in the guest's. "
        "Drop-outs are all there were, next to the machine's stalls or not.", "",
        table(["guest's server", "piece, ms", "host's `-t`", "median, ms", "p1 to p99", "drop-outs"], rows)])


SECTIONS = (("backends", "Latency of each backend", backends), ("latency", "A latency that is asked for", latency),
            ("chunks", "Small chunks", chunks), ("guest", "A Linux guest", guest),
            ("lowest", "The lowest latency", lowest), ("cpu", "Processor time of one stream", cpu),
            ("many", "A further PipeWire stream", many), ("streams", "1 to 64 streams without a server", streams),
            ("instructions", "Instructions a frame", instructions), ("quality", "Distortion", quality),
            ("lock", "Lock", lock), ("days", "A day", days), ("rtp", "Another machine", rtp))


# --- the page


def compiler():
    with open(os.path.join(figures.harness.build_dir(), "CMakeCache.txt")) as file:
        cache = dict(re.findall(r"^(\w+):\w+=(.*)$", file.read(), re.M))
    path = cache.get("CMAKE_C_COMPILER", "cc")
    return f"{(output(path, '--version').splitlines() or [path])[0]}, {cache.get('CMAKE_BUILD_TYPE', '')}"


def versions():
    def pkg(module):
        return output("pkg-config", "--modversion", module) or "-"

    memory = re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())
    virtual = "hypervisor" in open("/proc/cpuinfo").read()
    with open("/etc/os-release") as file:
        system = re.search(r'^PRETTY_NAME="?(.*?)"?$', file.read(), re.M)
    return [["processor", figures.cpu() + (", of a virtual machine" if virtual else "")],
            ["memory", f"{int(memory[1]) / 1024 ** 2:.1f} GiB"], ["system", system[1] if system else "-"],
            ["kernel", " ".join(os.uname()[0:1] + os.uname()[2:3] + os.uname()[4:5])], ["compiler", compiler()],
            ["libsamplerate", pkg("samplerate")], ["PipeWire", pkg("libpipewire-0.3")],
            ["PulseAudio", output("pulseaudio", "--version").rpartition(" ")[2] or "-"],
            ["JACK", pkg("jack")], ["alsa-lib", pkg("alsa")], ["sndio", pkg("sndio")],
            ["valgrind", output("valgrind", "--version") or "missing"]]


def kept():
    """{section: its text in the page as it is}"""
    try:
        with open(PAGE) as file:
            parts = re.split(r"^<!-- (\w+) -->\n", file.read(), flags=re.M)
    except FileNotFoundError:
        return {}
    # Behind each text comes the next section's heading.
    return {name: re.sub(r"\n## [^\n]*\n*\Z", "\n", text).strip() for name, text in zip(parts[1::2], parts[2::2])}


def measured_at(text):
    found = re.search(r"Measured (\d{4}-\d\d-\d\d \d\d:\d\d)", text)
    return found[1] if found else ""


def section(name, render, before, since):
    record = load(name)
    now = record and record["measured"] >= measured_at(before)
    if now:
        mode = "quick run" if record["quick"] else "full run"
        caption = f"Measured {record['measured']}, {mode}, at {record['commit']}, on {record['cpu']}."
        text = f"_{caption}_\n\n{render(record)}"
    else:
        text = before or "_Not measured yet._"
    if not now or record["measured"] < since:
        text = CAPTION.sub(r"_Not measured in the last run; kept from before. \1_", text, count=1)
    return text


def gnuplot(name, script):
    if not shutil.which("gnuplot"):
        return
    path = os.path.join(DOC, f"benchmarks-{name}.svg")
    done = subprocess.run(["gnuplot"], text=True, capture_output=True, input=(
        "set terminal svg size 760,420 background '#ffffff' font 'sans,13'\n"
        f"set output '{path}'\nset grid\nset key left top\n{script}"))
    figures.harness.check(done.returncode == 0, f"gnuplot: {done.stderr}")


def plots():
    record = load("backends")
    if record:
        curves, data = [], ""
        for kind in ("pipewire", "jack", "alsa"):
            points = sorted((row["quantum"], row["median_ms"]) for row in record["rows"]
                            if row["kind"] == kind and row["transport"] == "shm" and "median_ms" in row)
            if len(points) > 1:
                curves.append(f"'-' using 1:2 with linespoints title '{NAMES[kind]}'")
                data += "".join(f"{x} {y}\n" for x, y in points) + "e\n"
        if curves:
            gnuplot("latency", "set logscale x 2\nset yrange [0:*]\nset xlabel 'quantum, frames'\n"
                               "set ylabel 'publication to capture, median ms'\nplot " + ", ".join(curves) + f"\n{data}")
    record = load("streams")
    if record:
        curves, data = [], ""
        for quality_name in ("fastest", "medium"):
            for key, what in (("percent", "playing"), ("idle_percent", "nothing to play")):
                points = [(row["guests"], row[key]) for row in record["rows"]
                          if row["quality"] == quality_name and key in row]
                if len(points) > 1:
                    curves.append(f"'-' using 1:2 with linespoints title '{quality_name}, {what}'")
                    data += "".join(f"{x} {y}\n" for x, y in points) + "e\n"
        gnuplot("streams", "set yrange [0:*]\nset xlabel 'streams'\nset ylabel '% of a core'\nplot " + ", ".join(curves) +
                f"\n{data}")
    if os.path.exists(figures.path("lock.csv")):
        gnuplot("lock", "set datafile separator ','\nset datafile missing 'nan'\nset xrange [0:90]\nset key right top\n"
                        "set xlabel 's'\nset ylabel 'ms'\n"
                        f"plot '{figures.path('lock.csv')}' using 1:2 with lines title 'fill', "
                        "'' using 1:3 with lines lw 2 title 'target'\n")


def write(since=None):
    """The page; what was not measured since (seconds of the epoch) is marked. Returns its path."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(since)) if since else ""
    before = kept()
    parts = ["<!-- SPDX-License-Identifier: MIT -->\n# Benchmarks\n",
             "Made by `cmake --build build --target bench`, an hour and more; with `EARSHOT_BENCH_QUICK=1` in the environment in "
             "ten minutes, with fewer and shorter windows. `bench-NAME` measures one section. Each section says when it was "
             "measured, and at which commit; [where the time goes](cost.md) is about the reasons. What the machine itself does wrong is logged by a real-time thread that only "
             "sleeps and looks at the clock; what is near such a stall is not judged.\n",
             table(["", "of the last run"], versions()) + "\n"]
    for name, title, render in SECTIONS:
        parts.append(f"## {title}\n\n<!-- {name} -->\n{section(name, render, before.get(name, ''), since)}\n")
    with open(PAGE, "w") as file:
        file.write(wrapped("\n".join(parts)))
    plots()
    return PAGE


if __name__ == "__main__":
    print(write())
