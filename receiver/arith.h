/* SPDX-License-Identifier: MIT
 *
 * fmax(), fmin() and llround() of what is a number, inline. The library's lie elsewhere in memory, behind a table of
 * jumps, and a pull finds little of either in the processor's caches: each call from afar costs more than what it does.
 * [any]
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

#endif
