/* SPDX-License-Identifier: MIT
 *
 * A sound server that does nothing for the first connection that chooses a default output, and says that it did:
 * preloaded. PipeWire's 0.3.65 is one for who connects while it starts.
 */
#include <dlfcn.h>
#include <pulse/context.h>
#include <pulse/introspect.h>

typedef pa_operation *set_default_function(pa_context *, const char *, pa_context_success_cb_t, void *);

pa_operation *pa_context_set_default_sink(pa_context *context, const char *name, pa_context_success_cb_t done,
                                          void *arg)
{
    static uint32_t first = PA_INVALID_INDEX;
    set_default_function *real;
    *(void **)&real = dlsym(RTLD_NEXT, "pa_context_set_default_sink");
    if (first == PA_INVALID_INDEX)
        first = pa_context_get_index(context);
    return real(context, pa_context_get_index(context) == first ? "nobody's" : name, done, arg);
}
