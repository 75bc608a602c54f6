/* SPDX-License-Identifier: MIT
 *
 * One output for each backend and server that configurations name, shared by all that name the same. [main]
 */
#ifndef EARSHOT_OUTPUTS_H
#define EARSHOT_OUTPUTS_H

#include "receiver/config.h"
#include "receiver/output.h"

#include <systemd/sd-event.h>

struct outputs;

/* `changed` is called from the event loop when a server or a stream has something to say. -ENOMEM. */
int outputs_create(struct outputs **outputs, sd_event *event, void (*changed)(void *arg), void *arg,
                   const struct log *log);
void outputs_destroy(struct outputs *outputs); /* after all streams; NULL is fine */

/* The output for this configuration, made where there is none, to be given back. -ENOMEM, -errno. */
int outputs_take(struct outputs *outputs, struct config *config, struct output **output);
void outputs_give_back(struct outputs *outputs, struct output *output);

/* Does what is due. `drop` closes the streams of an output whose server is lost. Returns when to call again. */
int64_t outputs_run(struct outputs *outputs, int64_t now_ns, void (*drop)(void *arg, struct output *output),
                    void *arg);

/* Is one of them waiting for its server? */
bool outputs_wait(const struct outputs *outputs);

/* No `changed` any more. */
void outputs_silence(struct outputs *outputs);

#endif
