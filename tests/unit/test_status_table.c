/* SPDX-License-Identifier: MIT */
#include "receiver/status_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

static const struct status_row playing = {
    .name = "win10",
    .state = "playing",
    .backend = "pipewire",
    .format = {.rate = 48000, .bits = 16, .channels = 2, .mask = 3},
    .total_ms = 35.84,
    .target_ms = 36.0,
    .parts_ms = { 20.0,          4.5,       5.33,          0.68,      5.33},
    .drift_ppm = 53.2,
    .locked = true,
};
static const struct status_row surround = {
    .name = "A rather long name",
    .state = "port-busy",
    .backend = "pulse",
    .format = {.rate = 176400, .bits = 24, .channels = 8, .mask = 0x63f},
    .total_ms = 120.0,
    .target_ms = 100.0,
    .parts_ms = { 20.0,          70.0,       10.0,           0.0,          20.0},
    .drift_ppm = -1234.4,
    .locked = true,
    .underruns = 123456,
};
static const struct status_row waiting = {.name = "Gr\xc3\xbcn", .state = "waiting"};

typedef void print_function(FILE *out, const struct status_row *rows, size_t count, const struct status_look *look);

static void check(print_function *print, const struct status_row *rows, size_t count, struct status_look look,
                  const char *expected)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    print(out, rows, count, &look);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void test_table(void **state)
{
    (void)state;
    const struct status_row rows[] = {playing, waiting};
    check(status_table_print, rows, 2, (struct status_look){0},
          "NAME   STATE    FORMAT                     LATENCY    DRIFT  DROP-OUTS  OUTPUT\n"
          "win10  playing  48 kHz 16 bit stereo  35.8/36.0 ms  +53 ppm          0  pipewire\n"
          "Gr\xc3\xbcn   waiting  -                                -        -          -  -\n");
    check(status_table_print, rows, 0, (struct status_look){0},
          "NAME  STATE  FORMAT  LATENCY  DRIFT  DROP-OUTS  OUTPUT\n");
}

/* Formats give way first, then names; nothing else does. */
static void test_narrow(void **state)
{
    (void)state;
    const struct status_row rows[] = {playing, surround};
    check(status_table_print, rows, 2, (struct status_look){0},
          "NAME                STATE      FORMAT                LATENCY      DRIFT  DROP-OUTS  OUTPUT\n"
          "win10               playing    48k/16 stereo    35.8/36.0 ms    +53 ppm          0  pipewire\n"
          "A rather long name  port-busy  176.4k/24 7.1  120.0/100.0 ms  -1234 ppm     123456  pulse\n");
    check(status_table_print, rows, 2, (struct status_look){.columns = 84},
          "NAME        STATE      FORMAT                LATENCY      DRIFT  DROP-OUTS  OUTPUT\n"
          "win10       playing    48k/16 stereo    35.8/36.0 ms    +53 ppm          0  pipewire\n"
          "A rather ~  port-busy  176.4k/24 7.1  120.0/100.0 ms  -1234 ppm     123456  pulse\n");
    check(status_table_print, rows, 2, (struct status_look){.columns = 20},
          "NAME      STATE      FORMAT                LATENCY      DRIFT  DROP-OUTS  OUTPUT\n"
          "win10     playing    48k/16 stereo    35.8/36.0 ms    +53 ppm          0  pipewire\n"
          "A rathe~  port-busy  176.4k/24 7.1  120.0/100.0 ms  -1234 ppm     123456  pulse\n");
    /* Whole characters go. */
    struct status_row long_name = waiting;
    for (unsigned i = 0; i < 12; i++)
        strcat(long_name.name, "\xc3\xbc");
    check(status_table_print, &long_name, 1, (struct status_look){.columns = 20},
          "NAME      STATE    FORMAT  LATENCY  DRIFT  DROP-OUTS  OUTPUT\n"
          "Gr\xc3\xbcn\xc3\xbc\xc3\xbc\xc3\xbc~  waiting  -             -      -          -  -\n");
}

static void test_colour(void **state)
{
    (void)state;
    struct status_row row = playing;
    row.underruns = 2;
    check(status_table_print, &row, 1, (struct status_look){.colour = true},
          "\033[1mNAME\033[0m   \033[1mSTATE\033[0m    \033[1mFORMAT\033[0m                     "
          "\033[1mLATENCY\033[0m    "
          "\033[1mDRIFT\033[0m  \033[1mDROP-OUTS\033[0m  \033[1mOUTPUT\033[0m\n"
          "win10  \033[32mplaying\033[0m  48 kHz 16 bit stereo  35.8/36.0 ms  +53 ppm          \033[33m2\033[0m  "
          "pipewire\n");
}

static void test_bars(void **state)
{
    (void)state;
    struct status_row late = playing;
    strcpy(late.name, "late");
    late.total_ms = 20.33;
    late.locked = false;
    const struct status_row rows[] = {playing, waiting, late};
    const struct status_look look = {.columns = 58};
    check(status_table_bars, rows, 3, look,
          "win10  latency [##############|      ] 35.8 of 36.0 ms\n"
          "       fill    [############|        ] 30.5 of 30.7 ms\n"
          "       drift   [          |    *     ] +53.2 ppm\n"
          "late   latency [#########     |      ] 20.3 of 36.0 ms\n"
          "       fill    [######      |        ] 15.0 of 30.7 ms\n"
          "       drift   [          *          ] not known yet\n");
    check(status_table_bars, rows, 3, (struct status_look){.columns = 58, .lines = 5},
          "win10  latency [##############|      ] 35.8 of 36.0 ms\n"
          "       fill    [############|        ] 30.5 of 30.7 ms\n"
          "       drift   [          |    *     ] +53.2 ppm\n"
          "1 more: make this window higher, or name one.\n");
    check(status_table_bars, rows, 3, (struct status_look){.columns = 58, .lines = 1},
          "2 more: make this window higher, or name one.\n");
    check(status_table_bars, &waiting, 1, look, "");
    /* Beyond any scale, and narrower than there is room for. */
    struct status_row wild = playing;
    wild.total_ms = 1e300;
    wild.drift_ppm = -1e300;
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    status_table_bars(out, &wild, 1, &(struct status_look){.columns = 1});
    fclose(out);
    assert_non_null(strstr(text, "[##########]"));
    assert_non_null(strstr(text, "[*    |    ]"));
    free(text);
}

static void print_parts(FILE *out, const struct status_row *rows, size_t count, const struct status_look *look)
{
    (void)count;
    (void)look;
    status_table_parts(out, rows);
}

static void test_parts(void **state)
{
    (void)state;
    check(print_parts, &playing, 1, (struct status_look){0},
          "latency           35.8 ms\n"
          "  guest's piece   20.0\n"
          "  its lateness     4.5\n"
          "  quantum          5.3\n"
          "  resampler        0.7\n"
          "  device           5.3\n");
    check(print_parts, &waiting, 1, (struct status_look){0}, "");
}

static struct status_row read_text(const char *json)
{
    struct status_row row;
    struct json_object *object = json_tokener_parse(json);
    status_row_read(&row, object);
    json_object_put(object);
    return row;
}

static void test_read(void **state)
{
    (void)state;
    struct status_row row = read_text(
        "{\"name\":\"win10\",\"state\":\"playing\",\"backend\":\"pulse\",\"format\":{\"rate\":48000,\"bits\":16,"
        "\"channels\":2,\"mask\":3},\"latency_ms\":{\"total\":35.8,\"guest\":1,\"jitter\":2,\"quantum\":3,"
        "\"resampler\":4,\"device\":5},\"target_ms\":36,\"drift_ppm\":-2.5,\"locked\":true,\"underruns\":7}");
    assert_string_equal(row.name, "win10");
    assert_string_equal(row.state, "playing");
    assert_string_equal(row.backend, "pulse");
    assert_int_equal(row.format.rate, 48000);
    assert_int_equal(row.format.mask, 3);
    assert_true(row.total_ms == 35.8 && row.target_ms == 36.0 && row.drift_ppm == -2.5 && row.locked);
    for (unsigned i = 0; i < STATUS_PARTS; i++)
        assert_true(row.parts_ms[i] == i + 1.0);
    assert_int_equal(row.underruns, 7);
}

/* Another process may say anything: whatever is not as it ought to be is nothing, and no text moves the cursor. */
static void test_read_garbage(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}",
                                        "[]",
                                        "3",
                                        "null",
                                        "{\"target_ms\":1e300,\"latency_ms\":{\"total\":-1e99}}",
                                        "{\"name\":[1],\"format\":7,\"latency_ms\":\"x\",\"target_ms\":{}}"};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct status_row row = read_text(texts[i]);
        assert_int_equal(row.format.rate, 0);
        assert_true(row.total_ms == 0.0 && row.target_ms == 0.0 && !row.locked);
    }
    struct status_row row =
        read_text("{\"name\":\"a\\u001b[2Jb\",\"state\":\"playing and much more than fits here\"}");
    assert_string_equal(row.name, "a?[2Jb");
    assert_string_equal(row.state, "playing and muc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),        cmocka_unit_test(test_narrow), cmocka_unit_test(test_colour),
        cmocka_unit_test(test_bars),         cmocka_unit_test(test_parts),  cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
