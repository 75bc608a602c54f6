/* SPDX-License-Identifier: MIT */
#include "ringbuf/scream_udp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void driver_packet(void **state)
{
    (void)state;
    uint8_t packet[SCREAM_UDP_HEADER_BYTES + SCREAM_UDP_PAYLOAD_BYTES] = {0x81, 24, 6, 0x0f, 0x06};
    struct scream_udp_header header;
    assert_int_equal(scream_udp_parse(&header, packet, sizeof packet), 1152);
    assert_int_equal(header.sample_rate, 0x81);
    assert_int_equal(header.sample_size, 24);
    assert_int_equal(header.channels, 6);
    assert_int_equal(header.channel_map, 0x060f);
    uint8_t built[SCREAM_UDP_HEADER_BYTES];
    scream_udp_build(built, &header);
    assert_memory_equal(built, packet, sizeof built);
}

static void lengths(void **state)
{
    (void)state;
    static uint8_t packet[70000] = {1, 16, 5, 0, 0};
    struct scream_udp_header header;
    for (size_t size = 0; size <= SCREAM_UDP_HEADER_BYTES; size++)
        assert_int_equal(scream_udp_parse(&header, packet, size), -EBADMSG);
    assert_int_equal(scream_udp_parse(&header, packet, 6), -EBADMSG);
    assert_int_equal(scream_udp_parse(&header, packet, 7), 2);               /* a sample, no frame: frames straddle */
    assert_int_equal(scream_udp_parse(&header, packet, 5 + 1153), -EBADMSG); /* a six-byte header's packet */
    assert_int_equal(scream_udp_parse(&header, packet, 65507), 65502);
    assert_int_equal(scream_udp_parse(&header, packet, 65509), -EBADMSG);
}

static void every_field(void **state)
{
    (void)state;
    uint8_t packet[5 + 24] = {0};
    for (unsigned field = 0; field < 3; field++)
        for (unsigned value = 0; value < 256; value++) {
            uint8_t good[3] = {1, 32, 2};
            good[field] = (uint8_t)value;
            memcpy(packet, good, sizeof good);
            bool valid = field == 0   ? (value & 0x7f) >= 1 && (value & 0x7f) <= 4
                         : field == 1 ? value == 16 || value == 24 || value == 32
                                      : value >= 1 && value <= 8;
            struct scream_udp_header header = {.channels = 99};
            assert_int_equal(scream_udp_parse(&header, packet, sizeof packet), valid ? 24 : -EBADMSG);
            if (!valid)
                assert_int_equal(header.channels, 99);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(driver_packet),
        cmocka_unit_test(lengths),
        cmocka_unit_test(every_field),
    };
    return cmocka_run_group_tests_name("scream_udp", tests, NULL, NULL);
}
