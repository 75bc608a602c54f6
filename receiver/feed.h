/* SPDX-License-Identifier: MIT
 *
 * The writing side of one guest's stream: blocks in, float frames, the guest's clock and its lateness out. Made and
 * written by [src]; read by one playout [rt]. One feed has one format for life; another format is another feed.
 */
#ifndef EARSHOT_FEED_H
#define EARSHOT_FEED_H

#include "receiver/source.h"

#include <stdbool.h>
#include <stdint.h>

struct feed;

/* [src] -ENOMEM. The feed belongs to the caller; feed_destroy() once no thread uses it. */
int feed_create(struct feed **feed, const struct pcm_format *format, enum source_kind kind);
void feed_destroy(struct feed *feed);

/* [src] Decodes and stores; updates clock and lateness. Frames that do not fit are dropped and counted. */
void feed_write(struct feed *feed, const struct block *block);

/* [src] CLOCK_MONOTONIC at which the feed becomes idle if nothing arrives before: last arrival plus the larger of
 * 120 ms and four chunks. INT64_MAX before the first block. */
int64_t feed_idle_at_ns(const struct feed *feed);

/* [any] Immutable. */
const struct pcm_format *feed_format(const struct feed *feed);

#endif
