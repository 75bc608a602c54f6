/* SPDX-License-Identifier: MIT
 *
 * cmocka compares floating-point numbers as floats, which know no parts per million.
 */
#ifndef EARSHOT_TESTS_NEAR_H
#define EARSHOT_TESTS_NEAR_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static inline void near_check(double value, double expected, double distance, const char *text, const char *file,
                              int line)
{
    if (fabs(value - expected) <= distance)
        return; /* a NaN does not come here */
    print_error("%s is %.12g, not within %.3g of %.12g\n", text, value, distance, expected);
    _fail(file, line);
}

#define assert_near(value, expected, distance) near_check(value, expected, distance, #value, __FILE__, __LINE__)

#endif
