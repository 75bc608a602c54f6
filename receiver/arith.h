/* SPDX-License-Identifier: MIT
 *
 * fmax(), fmin(), llround(), floor() and ceil() of what is a number, inline. The library's lie elsewhere in memory,
 * behind a table of jumps, and a pull finds little of either in the processor's caches: each call from afar costs more
 * than what it does. [any]
 */
#ifndef EARSHOT_ARITH_H
#define EARSHOT_ARITH_H

#include <stdint.h>

static inline double larger(double a, double b)
{
    return a > b ? a : b;
}

static inline double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* Halves away from zero. Beyond 2^52 it may be off by one. */
static inline int64_t nearest(double x)
{
    return (int64_t)(x < 0.0 ? x - 0.5 : x + 0.5);
}

/* Within 2^63. */
static inline double whole_below(double x)
{
    double whole = (double)(int64_t)x;
    return whole > x ? whole - 1.0 : whole;
}

static inline double whole_above(double x)
{
    return -whole_below(-x);
}

#endif
