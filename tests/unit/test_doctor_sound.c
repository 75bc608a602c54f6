/* SPDX-License-Identifier: MIT
 *
 * From the receiver on: the service, real time, and what the sound servers' own programs say.
 */
#include "receiver/doctor_check.h"
#include "tests/unit/doctor_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

/* --- service and real time */

static void test_not_running(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4343");
    rig_expect(rig, "No earshot is running", "systemctl --user enable --now earshot");
    rig_command(rig, "systemctl --user show", 1, "");
    rig_expect(rig, "No earshot is running", "earshot    # with the options you gave to doctor");
}

/* That somebody else's receiver runs helps nobody. */
static void test_other_receivers(void **state)
{
    struct rig *rig = *state;
    rig->env.uid = 1001;
    rig_expect(rig, "No earshot is running", "systemctl --user");
    rig->env.uid = 1000;
    rig_write(rig, "/proc/4343/environ", "XDG_RUNTIME_DIR=/run/user/7");
    rig_expect(rig, "No earshot is running", "systemctl --user");
    rig->env.runtime_dir = "/run/user/7";
    rig_expect_healthy(rig);
    rig_write_bytes(rig, "/proc/4343/cmdline", "earshot\0doctor", sizeof "earshot\0doctor"); /* no receiver */
    rig_expect(rig, "No earshot is running", "systemctl --user");
}

static void test_failed(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4343");
    rig_command(rig, "systemctl --user show", 0,
                "LoadState=loaded\nActiveState=failed\nSubState=failed\nUnitFileState=enabled\nResult=exit-code\n");
    rig_expect(rig, "The service earshot has failed (exit-code)", "journalctl --user -u earshot -n 20");
    rig_command(
        rig, "systemctl --user show", 0,
        "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\nResult=signal\n");
    rig_expect(rig, "The service earshot has failed (signal)", "systemctl --user restart earshot");
}

static void test_masked(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4343");
    rig_command(rig, "systemctl --user show", 0, "LoadState=masked\nActiveState=inactive\nUnitFileState=masked\n");
    rig_expect(rig, "No earshot is running", "systemctl --user unmask earshot");
}

static void test_not_enabled(void **state)
{
    struct rig *rig = *state;
    rig_command(rig, "systemctl --user show", 0,
                "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=disabled\nResult=success\n");
    rig_expect_warning(rig, "The service earshot does not start by itself after the next login",
                       "systemctl --user enable earshot");
}

static void test_linger(void **state)
{
    struct rig *rig = *state;
    rig_write(rig, "/var/lib/systemd/linger/anna", "");
    rig_run(rig, true);
    assert_non_null(strstr(rig->text, "ok    The service starts with the computer (linger)\n"));
}

static void test_plays_something_else(void **state)
{
    struct rig *rig = *state;
    rig->streams = "[{\"name\":\"x\",\"state\":\"playing\",\"source\":{\"kind\":\"shm\",\"address\":\"/other\"}}]";
    rig_expect(rig, "It does not play ", "earshot status    # says what it plays");
    rig->streams = NULL;
    rig_expect_warning(rig, "It cannot be asked what it plays", "DBUS_SESSION_BUS_ADDRESS");
}

static void test_starved(void **state)
{
    struct rig *rig = *state;
    char streams[300];
    snprintf(streams, sizeof streams,
             "[{\"name\":\"win10\",\"state\":\"starved\",\"source\":{\"kind\":\"shm\",\"address\":\"%s\"}}]",
             rig->ring);
    rig->streams = streams;
    rig_expect_warning(rig, "win10: the guest's sound comes too late", "(-t) may be too small");
}

static void test_realtime(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4343/task/4344");
    rig->rtkit = 0;
    rig_expect_warning(rig,
                       "Earshot has no real-time priority: a busy computer makes it crackle (rtkit is not installed)",
                       "Install the package rtkit");
    assert_non_null(strstr(rig->text, "printf '%s\\n' 'anna - rtprio 95' 'anna - memlock 262144' | sudo tee "
                                      "/etc/security/limits.d/95-earshot.conf    # real time; log in anew\n"));
    rig->rtkit = -ENOENT;
    rig_expect_warning(rig, "Earshot has no real-time priority: a busy computer makes it crackle (no system bus",
                       "Install the package rtkit");

    /* None runs: what would it get? */
    rig_remove(rig, "/proc/4343");
    rig_run(rig, false);
    assert_non_null(strstr(rig->text, "warn  Earshot would get no real-time priority"));
    rig_write(rig, "/proc/self/limits",
              "Limit  Soft Limit  Hard Limit  Units\nMax realtime priority     95      95\n");
    rig_run(rig, false);
    assert_null(strstr(rig->text, "real-time"));
    rig_remove(rig, "/proc/self");
    rig->rtkit = 1;
    rig_run(rig, false);
    assert_null(strstr(rig->text, "real-time"));
}

/* --- servers */

static void test_plain_outputs(void **state)
{
    struct rig *rig = *state;
    rig->options.raw = false;
    rig->options.backend = "null";
    rig_expect_warning(rig, "-o null is a device that nobody hears", "Leave -o away.");
#ifdef EARSHOT_WAV
    char path[128];
    snprintf(path, sizeof path, "%s/record.wav", rig->root);
    rig->options.backend = "wav";
    rig->options.target = path;
    rig_expect_healthy(rig);
    rig->options.target = "/no/such/directory/record.wav";
    rig_expect(rig, "/no/such/directory/record.wav cannot be written: No such file or directory",
               "another file for -d");
#endif
}

static void test_no_server(void **state)
{
    struct rig *rig = *state;
    rig->options.raw = false;
    rig->options.backend = "auto";
    rig->probe_result = -EHOSTDOWN;
    rig_expect(rig, "No sound server is running", "XDG_RUNTIME_DIR is not set");
    rig->env.runtime_dir = rig->root;
    rig_expect(rig, "No sound server is running", "systemctl --user enable --now pipewire.socket");
    rig->options.server = "elsewhere";
    rig_expect(rig, "No sound server is running", "--server elsewhere: is that right?");
}

#ifdef EARSHOT_PIPEWIRE
static void test_no_device(void **state)
{
    struct rig *rig = *state;
    rig->options.raw = false;
    rig->options.backend = "pipewire";
    rig->probe_result = -ENODEV;
    rig_expect(rig, "PipeWire has no output device", "lspci -k");
    rig->options.backend = "auto";
    rig_expect(rig, "PipeWire has no output device", "lspci -k");
    rig->probe_result = -EHOSTDOWN;
    rig->env.runtime_dir = rig->root;
    rig->options.backend = "pipewire";
    rig_expect(rig, "PipeWire is not running", "pipewire.socket");
    rig->probe_result = 0;
    rig_expect_healthy(rig); /* pw-dump is not installed */
    rig_run(rig, true);
    assert_non_null(strstr(rig->text, "-     pw-dump does not answer"));
}
#endif

/* --- PipeWire: a sink, a stream that plays to it, and what a test changes in them */

struct graph {
    const char *sink_state, *sink_props, *stream_props, *links, *manager, *settings, *more;
};

static const struct graph good = {
    "running",
    "{\"mute\":false,\"volume\":1.0,\"channelVolumes\":[0.064,0.064]}",
    "{\"mute\":false,\"channelVolumes\":[1.0,1.0]}",
    "{\"id\":70,\"type\":\"PipeWire:Interface:Link\",\"info\":{\"output-node-id\":41,\"input-node-id\":36}},",
    "{\"id\":30,\"type\":\"PipeWire:Interface:Client\",\"info\":{\"props\":{\"application.name\":\"WirePlumber\"}}},",
    "{\"subject\":0,\"key\":\"clock.min-quantum\",\"value\":32},"
    "{\"subject\":0,\"key\":\"clock.quantum\",\"value\":1024}",
    ""};

static void set_graph(struct rig *rig, const struct graph *g, char text[4096])
{
    snprintf(
        text, 4096,
        "[{\"id\":31,\"type\":\"PipeWire:Interface:Metadata\",\"props\":{\"metadata.name\":\"settings\"},"
        "\"metadata\":"
        "[{\"subject\":0,\"key\":\"clock.rate\",\"value\":48000},%s]},"
        "{\"id\":32,\"type\":\"PipeWire:Interface:Metadata\",\"props\":{\"metadata.name\":\"default\"},\"metadata\":"
        "[{\"subject\":0,\"key\":\"default.audio.sink\",\"value\":{\"name\":\"speakers\"}}]},%s%s"
        "{\"id\":36,\"type\":\"PipeWire:Interface:Node\",\"info\":{\"state\":\"%s\",\"error\":\"busy\",\"props\":"
        "{\"node.name\":\"speakers\",\"node.description\":\"Desk speakers\",\"media.class\":\"Audio/Sink\","
        "\"object.serial\":136},\"params\":{\"Props\":[%s]}}},"
        "{\"id\":44,\"type\":\"PipeWire:Interface:Node\",\"info\":{\"props\":{\"node.name\":\"muted\",\"media."
        "class\":"
        "\"Stream/Output/Audio\"},\"params\":{\"Props\":[{\"mute\":true}]}}}," /* another guest's: not asked about */
        "%s{\"id\":41,\"type\":\"PipeWire:Interface:Node\",\"info\":{\"state\":\"running\",\"props\":{\"node.name\":"
        "\"win10\",\"media.class\":\"Stream/Output/Audio\"},\"params\":{\"Props\":[%s]}}}]",
        g->settings, g->manager, g->links, g->sink_state, g->sink_props, g->more, g->stream_props);
    rig->command_count = 0;
    rig_command(rig, "pw-dump", 0, text);
}

/* Only this area is run, so that it goes also where PipeWire is not built in. */
static void look(struct rig *rig, struct doctor *doctor, const struct graph *g)
{
    char text[4096];
    doctor->finding_count = 0;
    if (g)
        set_graph(rig, g, text);
    doctor_check_pipewire(doctor, &rig->options);
}

static void expect_only(const struct doctor *doctor, enum doctor_verdict verdict, const char *line, const char *fix)
{
    const struct doctor_finding *found = NULL;
    for (unsigned i = 0; i < doctor->finding_count; i++) {
        const struct doctor_finding *finding = &doctor->findings[i];
        if (finding->verdict < DOCTOR_WARN)
            continue;
        if (found || !line)
            fail_msg("also found: %s", finding->text);
        found = finding;
    }
    if (!line)
        return;
    if (!found || found->verdict != verdict || strncmp(found->text, line, strlen(line)) != 0)
        fail_msg("wanted: %s\nfound: %s", line, found ? found->text : "nothing");
    if (!strstr(found->fix, fix))
        fail_msg("wanted as the cure: %s\nfound: %s", fix, found->fix);
}

static int doctor_setup(void **state)
{
    static struct doctor doctor;
    static struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
    if (rig_setup(state) < 0)
        return -1;
    struct rig *rig = *state;
    doctor = (struct doctor){.env = &rig->env, .findings = findings};
    doctor.streams = json_tokener_parse(
        "[{\"name\":\"muted\",\"state\":\"playing\",\"source\":{\"kind\":\"shm\",\"address\":\"/y\"}},"
        "{\"name\":\"win10\",\"state\":\"playing\",\"source\":{\"kind\":\"shm\",\"address\":\"/x\"}}]");
    rig->options.shm_path = "/x";
    rig->options.raw = false;
    rig->doctor = &doctor;
    return 0;
}

static int doctor_teardown(void **state)
{
    struct rig *rig = *state;
    json_object_put(rig->doctor->streams);
    return rig_teardown(state);
}

static void test_pipewire(void **state)
{
    struct rig *rig = *state;
    struct doctor *d = rig->doctor;
    struct graph g = good;
    look(rig, d, &g);
    expect_only(d, DOCTOR_OK, NULL, NULL);
    assert_true(d->finding_count >= 3);

    g.sink_props = "{\"mute\":true,\"channelVolumes\":[1.0,1.0]}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "The output Desk speakers is muted", "wpctl set-mute 36 0");
    g.sink_props = "{\"mute\":false,\"channelVolumes\":[0.0,0.0]}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "The output Desk speakers is at volume 0", "wpctl set-volume 36 1.0");
    g.sink_props = "{\"mute\":false,\"channelVolumes\":[0.0,0.2]}"; /* one side is heard */
    look(rig, d, &g);
    expect_only(d, DOCTOR_OK, NULL, NULL);

    g = good;
    g.stream_props = "{\"mute\":true,\"channelVolumes\":[1.0,1.0]}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "win10 is muted in the mixer", "wpctl set-mute 41 0");
    g.stream_props = "{\"mute\":false,\"channelVolumes\":[0.0,0.0]}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "win10 is at volume 0 in the mixer", "wpctl set-volume 41 1.0");

    g = good;
    g.sink_state = "suspended";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "The output Desk speakers is suspended although",
                "systemctl --user restart wireplumber");
    g.sink_state = "error";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "The output Desk speakers does not work: busy", "fuser -v /dev/snd/*");
}

static void test_pipewire_links(void **state)
{
    struct rig *rig = *state;
    struct doctor *d = rig->doctor;
    struct graph g = good;
    g.manager = g.links = ""; /* the one follows from the other */
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "PipeWire has no session manager", "systemctl --user enable --now wireplumber");

    g = good;
    g.links = "";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "win10 is connected to no output", "pavucontrol, Playback");
    rig->options.no_connect = true; /* wanted so */
    look(rig, d, &g);
    expect_only(d, DOCTOR_OK, NULL, NULL);
    rig->options.no_connect = false;

    static const char headset[] =
        "{\"id\":50,\"type\":\"PipeWire:Interface:Node\",\"info\":{\"state\":\"running\",\"props\":{\"node.name\":"
        "\"headset\",\"media.class\":\"Audio/Sink\"}}},";
    g = good;
    g.more = headset;
    g.links =
        "{\"id\":70,\"type\":\"PipeWire:Interface:Link\",\"info\":{\"output-node-id\":41,\"input-node-id\":50}},";
    look(rig, d, &g);
    expect_only(d, DOCTOR_WARN, "win10 plays to headset, other programs to Desk speakers", "pavucontrol, Playback");
    rig->options.target = "headset"; /* as he asked for */
    look(rig, d, &g);
    expect_only(d, DOCTOR_OK, NULL, NULL);

    rig->options.target = "136"; /* a serial number */
    look(rig, d, &good);
    expect_only(d, DOCTOR_OK, NULL, NULL);
    rig->options.target = "gone";
    look(rig, d, &good);
    expect_only(d, DOCTOR_FAIL, "There is no output gone (-d)", "-d speakers    # Desk speakers");
}

/* With nobody playing the default sink is what counts, and its sleep is no fault. */
static void test_pipewire_idle(void **state)
{
    struct rig *rig = *state;
    struct doctor *d = rig->doctor;
    struct graph g = good;
    json_object_put(d->streams);
    d->streams = json_object_new_array();
    g.sink_state = "suspended";
    look(rig, d, &g);
    expect_only(d, DOCTOR_OK, NULL, NULL);
    g.sink_props = "{\"mute\":true}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_FAIL, "The output Desk speakers is muted", "wpctl set-mute 36 0");
    rig->command_count = 0;
    rig_command(rig, "pw-dump", 0,
                "[{\"id\":3,\"type\":\"PipeWire:Interface:Client\",\"info\":{\"props\":"
                "{\"application.name\":\"WirePlumber\"}}}]");
    look(rig, d, NULL);
    expect_only(d, DOCTOR_WARN, "No default output is chosen", "wpctl set-default ID");
}

static void test_pipewire_quantum(void **state)
{
    struct rig *rig = *state;
    struct doctor *d = rig->doctor;
    struct graph g = good;
    g.settings = "{\"subject\":0,\"key\":\"clock.force-quantum\",\"value\":2048}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_WARN, "PipeWire's period is 42.7 ms (2048/48000): the latency is longer",
                "pw-metadata -n settings 0 clock.force-quantum 0");
    g.settings = "{\"subject\":0,\"key\":\"clock.force-quantum\",\"value\":32}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_WARN, "PipeWire's period is forced to 32 frames", "clock.force-quantum 0");
    g.settings = "{\"subject\":0,\"key\":\"clock.min-quantum\",\"value\":1024}";
    look(rig, d, &g);
    expect_only(d, DOCTOR_OK, NULL, NULL);
    rig->options.latency_ns = 20000000;
    look(rig, d, &g);
    expect_only(d, DOCTOR_WARN, "PipeWire's period is 21.3 ms (1024/48000), more than --latency",
                "pw-metadata -n settings 0 clock.min-quantum 64");
}

/* What another program prints may be anything. */
static void test_pipewire_garbage(void **state)
{
    struct rig *rig = *state;
    struct doctor *d = rig->doctor;
    static const char list[] =
        "[{\"type\":\"PipeWire:Interface:Node\",\"info\":{\"props\":{\"media.class\":\"Audio/Sink\"},\"params\":"
        "{\"Props\":{\"mute\":true}}}}]";
    static const char *const texts[] = {"",  "{}", "[", "[1,null,\"x\",{}]", "[{\"type\":5,\"info\":7,\"props\":[]}]",
                                        list};
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        rig->command_count = 0;
        rig_command(rig, "pw-dump", 0, texts[i]);
        look(rig, d, NULL);
        for (unsigned k = 0; k < d->finding_count; k++)
            assert_null(strstr(d->findings[k].text, "muted"));
    }
    rig->command_count = 0;
    rig_command(rig, "pw-dump", -ETIMEDOUT, "");
    look(rig, d, NULL);
    expect_only(d, DOCTOR_OK, NULL, NULL);
}

/* --- PulseAudio */

#define SINK(number, name, state, mute, left, right)                                                                 \
    "Sink #" number "\n\tState: " state "\n\tName: " name "\n\tDescription: " name " card\n\tMute: " mute            \
    "\n\tVolume: front-left: 65536 / " left "% / 0.00 dB,   front-right: 65536 / " right                             \
    "% / 0.00 dB\n\t        balance 0.00\n\tBase Volume: 65536 / 100% / 0.00 dB\n"
#define INPUT(mute, volume)                                                                                          \
    "Sink Input #9\n\tMute: no\n\tVolume: mono: 0 /  0% / -inf dB\n\tProperties:\n\t\tapplication.name = "           \
    "\"other\"\n"                                                                                                    \
    "Sink Input #12\n\tMute: " mute "\n\tVolume: mono: 1 / " volume                                                  \
    "% / 0 dB\n\tProperties:\n\t\tapplication.name = \"win10\"\n"

static void look_at_pulse(struct rig *rig, struct doctor *d, const char *sinks, const char *inputs)
{
    rig->command_count = 0;
    d->finding_count = 0;
    rig_command(rig, "pactl info", 0, "Server Name: pulseaudio\nDefault Sink: two\nDefault Source: two.monitor\n");
    rig_command(rig, "pactl list sinks", 0, sinks);
    rig_command(rig, "pactl list sink-inputs", 0, inputs);
    doctor_check_pulse(d, &rig->options);
}

static void test_pulse(void **state)
{
    static const char one[] = SINK("1", "one", "RUNNING", "yes", "  0", "  0");
    struct rig *rig = *state;
    struct doctor *d = rig->doctor;
    char sinks[2000];
#define LOOK(two, inputs) (snprintf(sinks, sizeof sinks, "%s\n%s", one, two), look_at_pulse(rig, d, sinks, inputs))
    LOOK(SINK("12", "two", "SUSPENDED", "no", " 40", " 40"), INPUT("no", "100"));
    expect_only(d, DOCTOR_OK, NULL, NULL);
    LOOK(SINK("12", "two", "RUNNING", "yes", " 40", " 40"), "");
    expect_only(d, DOCTOR_FAIL, "The output two card is muted", "pactl set-sink-mute two 0");
    LOOK(SINK("12", "two", "RUNNING", "no", "  0", "  0"), "");
    expect_only(d, DOCTOR_FAIL, "The output two card is at volume 0", "pactl set-sink-volume two 100%");
    LOOK(SINK("12", "two", "RUNNING", "no", "  0", "  3"), "");
    expect_only(d, DOCTOR_OK, NULL, NULL);
    LOOK(SINK("12", "two", "RUNNING", "no", " 40", " 40"), INPUT("yes", "100"));
    expect_only(d, DOCTOR_FAIL, "win10 is muted in the mixer", "pactl set-sink-input-mute 12 0");
    LOOK(SINK("12", "two", "RUNNING", "no", " 40", " 40"), INPUT("no", "0"));
    expect_only(d, DOCTOR_FAIL, "win10 is at volume 0 in the mixer", "pactl set-sink-input-volume 12 100%");
    LOOK("", "");
    expect_only(d, DOCTOR_WARN, "No default output is chosen", "pactl set-default-sink NAME");
    rig->options.target = "three";
    LOOK(SINK("12", "two", "RUNNING", "no", " 40", " 40"), "");
    expect_only(d, DOCTOR_FAIL, "There is no output three (-d)", "pactl list short sinks");
    rig->options.target = NULL;
    rig->options.server = "unix:/x";
    LOOK("", "");
    expect_only(d, DOCTOR_OK, NULL, NULL); /* that server was not asked: the rig knows no pactl -s */
}

/* --- the report */

static void test_report(void **state)
{
    struct rig *rig = *state;
    rig_ring(rig, 0, (size_t)2 << 20); /* two links are broken: the nearer to the guest comes first */
    rig_remove(rig, "/proc/4343");
    rig->options.raw = false;
    rig->options.backend = "null";
    rig_run(rig, false);
    const char *file = strstr(rig->text, "FAIL  /tmp/"), *service = strstr(rig->text, "FAIL  No earshot");
    const char *null = strstr(rig->text, "warn  -o null");
    assert_ptr_equal(file, rig->text);
    assert_true(service > file && null > service);
    assert_non_null(strstr(rig->text, "\n2 broken: mend the first one first. 1 to look at. "));
    assert_null(strstr(rig->text, "\nok "));
    assert_null(strchr(rig->text, '\033'));

    rig_run(rig, true);
    assert_ptr_equal(strstr(rig->text, "FAIL  /tmp/"), rig->text);
    assert_non_null(strstr(rig->text, "\n\nVirtual machines\nok    win10 runs"));
    assert_non_null(strstr(rig->text, "\n\nShared memory\n"));
}

/* What several sources have in common is said once. */
static void test_several_sources(void **state)
{
    struct rig *rig = *state;
    struct options missing = rig->options, network = rig->options;
    missing.shm_path = "/dev/shm/no-such-earshot-ring";
    network.source = FROM_UNICAST;
    const struct options *sources[] = {&rig->options, &missing, &network, &rig->options};
    char streams[600];
    snprintf(streams, sizeof streams,
             "[{\"name\":\"4010\",\"state\":\"waiting\",\"source\":{\"kind\":\"udp\",\"address\":"
             "\"unicast:4010\"}},%s",
             rig->streams + 1);
    rig->streams = streams;
    size_t size;
    FILE *out = open_memstream(&rig->text, &size);
    assert_non_null(out);
    struct doctor_params params = {
        .sources = sources, .source_count = 4, .verbose = true, .out = out, .env = &rig->env};
    rig->status = doctor_run(&params);
    fclose(out);
    assert_int_equal(rig->status, 1);
    const char *const once[] = {"\nok    Earshot runs (pid 4343)\n", "\nok    win10 runs and has 2 MiB",
                                "\nok    UDP port 4010 is earshot", "\nok    Earshot (pid 4343) has real-time"};
    for (unsigned i = 0; i < sizeof once / sizeof *once; i++) {
        const char *found = strstr(rig->text, once[i]);
        if (!found || strstr(found + 1, once[i]))
            fail_msg("wanted once: %s\nin:\n%s", once[i], rig->text);
    }
    /* One machine plays; that the other one is off is no fault. */
    const char *first = "FAIL  It does not play /dev/shm/no-such-earshot-ring";
    assert_ptr_equal(strstr(rig->text, first), rig->text);
    assert_non_null(strstr(rig->text, "\nwarn  No running VM has the shared memory /dev/shm/no-such-earshot-ring"));
    assert_non_null(strstr(rig->text, "\n1 broken"));
}

static void test_quote(void **state)
{
    (void)state;
    assert_string_equal(doctor_quote("/dev/shm/a-b_c.1").text, "/dev/shm/a-b_c.1");
    assert_string_equal(doctor_quote("").text, "''");
    assert_string_equal(doctor_quote("a b").text, "'a b'");
    assert_string_equal(doctor_quote("$(rm)").text, "'$(rm)'");
    assert_string_equal(doctor_quote("it's").text, "'it'\\''s'");
    char big[2000];
    memset(big, '\'', sizeof big - 1);
    big[sizeof big - 1] = 0;
    const struct doctor_quoted quoted = doctor_quote(big);
    size_t length = strlen(quoted.text);
    assert_true(length < sizeof quoted.text && quoted.text[length - 1] == '\'');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_not_running, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_other_receivers, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_failed, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_masked, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_not_enabled, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_linger, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_plays_something_else, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_starved, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_realtime, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_plain_outputs, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_server, rig_setup, rig_teardown),
#ifdef EARSHOT_PIPEWIRE
        cmocka_unit_test_setup_teardown(test_no_device, rig_setup, rig_teardown),
#endif
        cmocka_unit_test_setup_teardown(test_pipewire, doctor_setup, doctor_teardown),
        cmocka_unit_test_setup_teardown(test_pipewire_links, doctor_setup, doctor_teardown),
        cmocka_unit_test_setup_teardown(test_pipewire_idle, doctor_setup, doctor_teardown),
        cmocka_unit_test_setup_teardown(test_pipewire_quantum, doctor_setup, doctor_teardown),
        cmocka_unit_test_setup_teardown(test_pipewire_garbage, doctor_setup, doctor_teardown),
        cmocka_unit_test_setup_teardown(test_pulse, doctor_setup, doctor_teardown),
        cmocka_unit_test_setup_teardown(test_report, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_several_sources, rig_setup, rig_teardown),
        cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
