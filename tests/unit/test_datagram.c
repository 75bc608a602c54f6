/* SPDX-License-Identifier: MIT */
#include "receiver/datagram.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FRAME_MAX 2048

/* A frame from 192.168.122.50:4321 to 239.255.77.77:4010 whose payload counts from 1. */
struct frame {
    uint8_t bytes[FRAME_MAX];
    size_t size, ip, udp, payload;
};

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void build(struct frame *f, unsigned tags, unsigned options, size_t payload)
{
    static const uint16_t tag_types[] = {0x88a8, 0x8100};
    static const uint8_t from[] = {192, 168, 122, 50}, to[] = {239, 255, 77, 77};
    memset(f, 0, sizeof *f);
    size_t at = 12;
    for (unsigned i = 0; i < tags; i++, at += 4) {
        put16(f->bytes + at, tag_types[i % 2]);
        put16(f->bytes + at + 2, 5 + i);
    }
    put16(f->bytes + at, 0x0800);
    f->ip = at + 2;
    f->udp = f->ip + 20 + options * 4;
    f->payload = f->udp + 8;
    f->size = f->payload + payload;
    uint8_t *ip = f->bytes + f->ip;
    ip[0] = (uint8_t)(0x45 + options);
    put16(ip + 2, (unsigned)(f->size - f->ip));
    put16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = 17;
    memcpy(ip + 12, from, 4);
    memcpy(ip + 16, to, 4);
    for (unsigned i = 0; i < options * 4; i++)
        ip[20 + i] = 1;
    put16(f->bytes + f->udp, 4321);
    put16(f->bytes + f->udp + 2, 4010);
    put16(f->bytes + f->udp + 4, (unsigned)(8 + payload));
    for (size_t i = 0; i < payload; i++)
        f->bytes[f->payload + i] = (uint8_t)(i + 1);
}

static enum datagram_kind find(struct frame *f, struct datagram *d, size_t captured)
{
    /* On the heap, and no longer than told: a sanitizer sees what reads beyond. */
    uint8_t *copy = malloc(captured ? captured : 1);
    assert_non_null(copy);
    memcpy(copy, f->bytes, captured);
    memset(d, 0x55, sizeof *d);
    enum datagram_kind kind = datagram_find(d, copy, captured, f->size);
    free(copy);
    return kind;
}

static void test_finds(void **state)
{
    (void)state;
    struct frame f;
    struct datagram d;
    for (unsigned tags = 0; tags <= 2; tags++) {
        for (unsigned options = 0; options <= 10; options += 5) {
            build(&f, tags, options, 1157);
            assert_int_equal(find(&f, &d, f.size), DATAGRAM_WHOLE);
            assert_int_equal(d.at, f.payload);
            assert_int_equal(d.bytes, 1157);
            assert_int_equal(d.from.s_addr, htonl(0xc0a87a32));
            assert_int_equal(d.from_port, htons(4321));
            assert_int_equal(d.to_port, htons(4010));
        }
    }
    build(&f, 3, 0, 100); /* a third tag is not known to anyone */
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
}

static void test_padding_is_left_out(void **state)
{
    (void)state;
    struct frame f;
    struct datagram d;
    build(&f, 0, 0, 6);
    f.size = 60;
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_WHOLE);
    assert_int_equal(d.bytes, 6);
    build(&f, 0, 0, 0);
    f.size = 60;
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_WHOLE);
    assert_int_equal(d.bytes, 0);
    /* UDP may say less than IP, never more. */
    build(&f, 0, 0, 20);
    put16(f.bytes + f.udp + 4, 8 + 10);
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_WHOLE);
    assert_int_equal(d.bytes, 10);
    put16(f.bytes + f.udp + 4, 8 + 21);
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    put16(f.bytes + f.udp + 4, 7);
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
}

static void test_fragments(void **state)
{
    (void)state;
    struct frame f;
    struct datagram d;
    static const unsigned fields[] = {0x2000, 0x2001, 0x0001, 0x1fff};
    for (unsigned i = 0; i < 4; i++) {
        build(&f, i % 3, 0, 1157);
        put16(f.bytes + f.ip + 6, fields[i]);
        assert_int_equal(find(&f, &d, f.size), DATAGRAM_FRAGMENT);
        assert_int_equal(d.from.s_addr, htonl(0xc0a87a32));
    }
}

static void test_others(void **state)
{
    (void)state;
    struct frame f;
    struct datagram d;
    build(&f, 0, 0, 100);
    put16(f.bytes + 12, 0x86dd);
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    build(&f, 0, 0, 100);
    f.bytes[f.ip] = 0x65;
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    build(&f, 0, 0, 100);
    f.bytes[f.ip] = 0x44;
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    build(&f, 0, 0, 100);
    f.bytes[f.ip + 9] = 6;
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    build(&f, 0, 0, 100);
    put16(f.bytes + f.ip + 2, (unsigned)(f.size - f.ip + 1));
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    put16(f.bytes + f.ip + 2, 27);
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
    put16(f.bytes + f.ip + 2, 19);
    assert_int_equal(find(&f, &d, f.size), DATAGRAM_OTHER);
}

/* Wherever the capture ends, nothing behind it is looked at, and nobody takes a part for the whole. */
static void test_cut_anywhere(void **state)
{
    (void)state;
    struct frame f;
    struct datagram d;
    for (unsigned tags = 0; tags <= 2; tags++) {
        build(&f, tags, 2, 64);
        for (size_t captured = 0; captured < f.size; captured++)
            assert_int_equal(find(&f, &d, captured), captured < f.ip + 20 ? DATAGRAM_OTHER : DATAGRAM_CUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds),  cmocka_unit_test(test_padding_is_left_out), cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_others), cmocka_unit_test(test_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
