/* SPDX-License-Identifier: MIT
 *
 * What the tests of the pull expect of a rig.
 */
#ifndef EARSHOT_TESTS_PLAYOUT_EXPECT_H
#define EARSHOT_TESTS_PLAYOUT_EXPECT_H

#include "tests/unit/near.h"
#include "tests/unit/playout_rig.h"

#define FADES 0.0035 /* what fades of 5 and crossfades of 10 ms may add to a tone's slope */

static inline void assert_smooth(const struct rig *rig, const struct rig_ear *ear)
{
    const double most = rig_slope(rig) * 1.03 + FADES;
    if (!(ear->worst <= most))
        print_error("a step of %g (%g is smooth) at frame %llu of %llu\n", ear->worst, most,
                    (unsigned long long)ear->at, (unsigned long long)ear->frames);
    assert_true(ear->worst <= most);
}

#endif
