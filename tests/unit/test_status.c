/* SPDX-License-Identifier: MIT */
#include "receiver/status.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

static struct json_object *get(struct json_object *object, const char *path)
{
    char key[32];
    for (;;) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof(key), "%.*s", (int)length, path);
        if (!json_object_object_get_ex(object, key, &object))
            fail_msg("no %s", path);
        if (!path[length])
            return object;
        path += length + 1;
    }
}

static struct json_object *parse(const struct stream_status *streams, unsigned count)
{
    char *text = status_json(streams, count);
    assert_non_null(text);
    struct json_object *root = json_tokener_parse(text);
    assert_non_null(root);
    free(text);
    return root;
}

static void check_keys(struct json_object *object, const char *const *keys)
{
    unsigned count = 0;
    for (; keys[count]; count++)
        get(object, keys[count]);
    assert_int_equal(json_object_object_length(object), count);
}

static void test_fields(void **state)
{
    (void)state;
    static const char *const stream_keys[] = {"name",   "state",      "source",         "format",    "backend",
                                              "locked", "latency_ms", "target_ms",      "drift_ppm", "underruns",
                                              "frames", "resyncs",    "dropped_frames", NULL};
    static const char *const latency_keys[] = {"total", "guest", "jitter", "quantum", "resampler", "device", NULL};
    static const char *const format_keys[] = {"rate", "bits", "channels", "mask", NULL};
    static const char *const source_keys[] = {
        "kind", "address", "lost_packets", "rejected_packets", "ignored_packets", NULL};

    struct stream_status streams[2] = {
        {.name = "Desk \"1\"",
         .address = "/dev/shm/a",
         .state = STREAM_PLAYING,
         .kind = SOURCE_SHM,
         .format = {.rate = 48000, .bits = 16, .channels = 2, .mask = 3},
         .backend = "null",
         .stats = {.locked = true,
                   .drift_ppm = -12.345,
                   .underruns = 3,
                   .resyncs = 2,
                   .dropped_frames = 7,
                   .frames = 1ull << 40,
                   .target_ns = 27500000}},
        {.name = "239.255.77.77:4010",
         .state = STREAM_PORT_BUSY,
         .kind = SOURCE_UDP,
         .backend = "",
         .counters = {.lost_packets = 5, .rejected = 6, .ignored = 7}                                             },
    };
    struct json_object *root = parse(streams, 2), *list = get(root, "streams");
    assert_int_equal(json_object_object_length(root), 1);
    assert_int_equal(json_object_array_length(list), 2);
    for (size_t i = 0; i < 2; i++) {
        struct json_object *stream = json_object_array_get_idx(list, i);
        check_keys(stream, stream_keys);
        check_keys(get(stream, "latency_ms"), latency_keys);
        check_keys(get(stream, "format"), format_keys);
        check_keys(get(stream, "source"), source_keys);
    }

    struct json_object *first = json_object_array_get_idx(list, 0), *second = json_object_array_get_idx(list, 1);
    assert_string_equal(json_object_get_string(get(first, "name")), "Desk \"1\"");
    assert_string_equal(json_object_get_string(get(first, "state")), "playing");
    assert_string_equal(json_object_get_string(get(first, "source.kind")), "shm");
    assert_int_equal(json_object_get_int(get(first, "format.rate")), 48000);
    assert_true(json_object_get_boolean(get(first, "locked")));
    assert_true(fabs(json_object_get_double(get(first, "drift_ppm")) + 12.35) < 0.011);
    assert_true(json_object_get_int64(get(first, "frames")) == INT64_C(1) << 40);
    assert_true(json_object_get_double(get(first, "target_ms")) == 27.5);
    assert_string_equal(json_object_get_string(get(second, "state")), "port-busy");
    assert_string_equal(json_object_get_string(get(second, "source.kind")), "udp");
    assert_int_equal(json_object_get_int(get(second, "source.lost_packets")), 5);
    assert_int_equal(json_object_get_int(get(second, "source.rejected_packets")), 6);
    assert_int_equal(json_object_get_int(get(second, "source.ignored_packets")), 7);
    json_object_put(root);
}

/* As it is printed, not just as it is meant: parts with fractions of microseconds still add up. */
static void test_parts_sum_to_total(void **state)
{
    (void)state;
    struct stream_status stream = {.backend = ""};
    stream.stats = (struct playout_stats){.guest_ns = 20000999,
                                          .jitter_ns = 1234567,
                                          .quantum_ns = 5333333,
                                          .resampler_ns = 979166,
                                          .device_ns = 10666666};
    struct json_object *root = parse(&stream, 1);
    struct json_object *latency = get(json_object_array_get_idx(get(root, "streams"), 0), "latency_ms");
    static const char *const parts[] = {"guest", "jitter", "quantum", "resampler", "device"};
    long long sum_us = 0;
    for (unsigned i = 0; i < 5; i++)
        sum_us += llround(json_object_get_double(get(latency, parts[i])) * 1e3);
    assert_int_equal(sum_us, llround(json_object_get_double(get(latency, "total")) * 1e3));
    assert_true(sum_us > 38000);
    json_object_put(root);
}

static void test_none(void **state)
{
    (void)state;
    char *text = status_json(NULL, 0);
    assert_string_equal(text, "{\"streams\":[]}");
    free(text);
}

static void test_state_names(void **state)
{
    (void)state;
    static const char *const names[] = {"waiting", "starting",  "playing",  "idle",
                                        "starved", "no-server", "port-busy"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        assert_string_equal(stream_state_name((enum stream_state)i), names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_parts_sum_to_total),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_state_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
