/* SPDX-License-Identifier: MIT */
#include "backends/jack_ports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TARGETS_MAX 8

static const struct row {
    const char *title;
    uint8_t channels;
    uint16_t mask;
    const char *names; /* of our ports */
    const char *targets[TARGETS_MAX + 1];
    int peers[BACKEND_CHANNELS_MAX][JACK_PORTS_PEERS];
} rows[] = {
#define SYSTEM(n) "system:playback_" #n
    {"stereo in order",                2, 0x3,   "FL FR",       {SYSTEM(1), SYSTEM(2), SYSTEM(3)},                                                                       {{0, -1}, {1, -1}}                  },
    {"5.1 in order",
                                           6,                                   0x3f,
                                           "FL FR FC LFE RL RR",                                      {SYSTEM(1), SYSTEM(2), SYSTEM(3), SYSTEM(4), SYSTEM(5), SYSTEM(6)},
                                           {{0, -1}, {1, -1}, {2, -1}, {3, -1}, {4, -1}, {5, -1}}                                                                                                                                                  },
    {"more channels than outputs",
                                           6,                                   0x60f,
                                           "FL FR FC LFE SL SR",                                      {SYSTEM(1), SYSTEM(2)},
                                           {{0, -1}, {1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}}                                                                                                                                              },
    {"nothing there",                  2, 0x3,   "FL FR",       {NULL},                                                                                                  {{-1, -1}, {-1, -1}}                },
    {"mono on both sides",             1, 0x4,   "FC",          {SYSTEM(1), SYSTEM(2), SYSTEM(3)},                                                                       {{0, 1}}                            },
    {"mono on one output",             1, 0x4,   "FC",          {SYSTEM(1)},                                                                                             {{0, -1}}                           },
    {"mono on a device with a centre", 1, 0x4,   "FC",          {"d:playback_FL", "d:playback_FR", "d:playback_FC"},                                                     {{0, 1}}                            },
    {"by name, in the device's order",
                                           6,                                   0x3f,
                                           "FL FR FC LFE RL RR",                                      {"d:playback_FL", "d:playback_FR", "d:playback_RL", "d:playback_RR", "d:playback_FC", "d:playback_LFE"},
                                           {{0, -1}, {1, -1}, {4, -1}, {5, -1}, {2, -1}, {3, -1}}                                                                                                                                                  },
    {"side for rear",
                                           6,                                   0x60f,
                                           "FL FR FC LFE SL SR",                                      {"d:playback_FL", "d:playback_FR", "d:playback_FC", "d:playback_LFE", "d:playback_RL", "d:playback_RR"},
                                           {{0, -1}, {1, -1}, {2, -1}, {3, -1}, {4, -1}, {5, -1}}                                                                                                                                                  },
    {"rear for side",                  4, 0x33,  "FL FR RL RR", {"d:SL", "d:SR", "d:FL", "d:FR"},                                                                        {{2, -1}, {3, -1}, {0, -1}, {1, -1}}},
    {"both pairs have but one",
                                           8,                                   0x63f,
                                           "FL FR FC LFE RL RR SL SR",                                {"d:FL", "d:FR", "d:FC", "d:LFE", "d:RL", "d:RR"},
                                           {{0, -1}, {1, -1}, {2, -1}, {3, -1}, {4, -1}, {5, -1}, {-1, -1}, {-1, -1}}                                                                                                                              },
    {"7.1 by name",
                                           8,                                   0x63f,
                                           "FL FR FC LFE RL RR SL SR",                                {"d:FL", "d:FR", "d:RL", "d:RR", "d:FC", "d:LFE", "d:SL", "d:SR"},
                                           {{0, -1}, {1, -1}, {4, -1}, {5, -1}, {2, -1}, {3, -1}, {6, -1}, {7, -1}}                                                                                                                                },
    {"names that are no speakers",     2, 0x3,   "FL FR",       {"d:playback_AUX0", "d:playback_AUX1"},                                                                  {{0, -1}, {1, -1}}                  },
};

static void test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char all[64] = "";
        for (unsigned c = 0; c < rows[i].channels; c++) {
            char name[JACK_PORTS_NAME_MAX];
            jack_ports_name(name, rows[i].mask, c);
            if (c > 0)
                strcat(all, " ");
            strcat(all, name);
        }
        assert_string_equal(all, rows[i].names);
    }
}

static void test_match(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int peers[BACKEND_CHANNELS_MAX][JACK_PORTS_PEERS];
        unsigned count = 0;
        while (rows[i].targets[count])
            count++;
        memset(peers, 0x55, sizeof peers);
        jack_ports_match(peers, rows[i].channels, rows[i].mask, rows[i].targets, count);
        for (unsigned c = 0; c < rows[i].channels; c++) {
            for (unsigned slot = 0; slot < JACK_PORTS_PEERS; slot++) {
                if (peers[c][slot] != rows[i].peers[c][slot])
                    fail_msg("%s: channel %u, %u: %d, not %d", rows[i].title, c, slot, peers[c][slot],
                             rows[i].peers[c][slot]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
