/* SPDX-License-Identifier: MIT */
#include "receiver/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void check_clean(const char *in, const char *out)
{
    char text[64];
    strcpy(text, in);
    text_clean(text);
    assert_string_equal(text, out);
}

static void test_clean(void **state)
{
    (void)state;
    check_clean("scream-ivshmem", "scream-ivshmem");
    check_clean("B\xc3\xbcro \xe2\x82\xac \xf0\x9f\x8e\xa7", "B\xc3\xbcro \xe2\x82\xac \xf0\x9f\x8e\xa7");
    check_clean("\033[2Jx\ny\x7f", "?[2Jx?y?");
    check_clean("\xc2\x9b", "??");           /* CSI in one character */
    check_clean("\xff\xc0\x80", "???");      /* never UTF-8; overlong */
    check_clean("\xe0\x80\xaf", "???");      /* overlong */
    check_clean("\xed\xa0\x80", "???");      /* surrogate */
    check_clean("\xf4\x90\x80\x80", "????"); /* beyond U+10FFFF */
    check_clean("a\xe2\x82", "a??");         /* cut short by the end */
    check_clean("\xc3(", "?(");
}

static void test_copy(void **state)
{
    (void)state;
    char out[6];
    assert_string_equal(text_copy(out, sizeof(out), "abcdefgh"), "abcde");
    /* Not half a character, although its first bytes would fit. */
    assert_string_equal(text_copy(out, sizeof(out), "abc\xe2\x82\xac"), "abc");
    assert_string_equal(text_copy(out, sizeof(out), "ab\xe2\x82\xac"), "ab\xe2\x82\xac");
    assert_string_equal(text_copy(out, 1, "x"), "");
}

static void test_columns(void **state)
{
    (void)state;
    assert_int_equal(text_columns(""), 0);
    assert_int_equal(text_columns("B\xc3\xbcro"), 4);
    assert_int_equal(text_columns("\xe2\x82\xac"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
