/* SPDX-License-Identifier: MIT
 *
 * The backend's contract for devices that are written to, each stream with one and with a thread of its own. There is
 * no server that all of them share: what happens happens to a stream. [main]
 */
#ifndef EARSHOT_DEVICE_BACKEND_H
#define EARSHOT_DEVICE_BACKEND_H

#include "backends/device_thread.h"

/* For the functions of the same names in struct backend; these two need to know the kind of device. */
int device_backend_probe(const struct backend_context_params *params, const struct device_ops *ops);
int device_backend_context_open(struct backend_context **context, const struct backend_context_params *params,
                                const struct device_ops *ops);

enum backend_state device_backend_context_state(struct backend_context *context);
void device_backend_context_close(struct backend_context *context);
int device_backend_open(struct backend_context *context, struct backend_stream_params *params,
                        struct backend_stream **stream);
int device_backend_start(struct backend_stream *stream);
void device_backend_stop(struct backend_stream *stream);
enum backend_state device_backend_state(struct backend_stream *stream);
void device_backend_close(struct backend_stream *stream);
void device_backend_info(struct backend_stream *stream, struct backend_info *info);

#endif
