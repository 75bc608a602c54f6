/* SPDX-License-Identifier: MIT
 *
 * Connecting to PipeWire, and asking it whether it has anything to play to. [main]
 */
#include "backends/pipewire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pipewire/pipewire.h>

#define PROBE_TIMEOUT_MS 1000

/* Is the library that runs, which need not be the one we were built with, at least this version? */
static bool library_is(unsigned long major, unsigned long minor, unsigned long micro)
{
    const unsigned long wanted[] = {major, minor, micro};
    const char *text = pw_get_library_version();
    for (size_t i = 0; i < SPA_N_ELEMENTS(wanted); i++) {
        char *end;
        const unsigned long part = strtoul(text, &end, 10);
        if (end == text || part != wanted[i])
            return end != text && part > wanted[i];
        text = *end == '.' ? end + 1 : end;
    }
    return true;
}

struct pw_context *pipewire_context_new(struct pw_loop *loop)
{
    /* The default client.conf leaves the data thread SCHED_OTHER; client-rt.conf adds module-rt. From 1.3.81 on
     * client.conf does that, and asking for the other one is a warning on the user's terminal. */
    if (!library_is(1, 3, 81)) {
        struct pw_context *context =
            pw_context_new(loop, pw_properties_new(PW_KEY_CONFIG_NAME, "client-rt.conf", NULL), 0);
        if (context)
            return context;
        /* A distribution may leave that file out: better without real time than without sound. */
    }
    return pw_context_new(loop, NULL, 0);
}

int pipewire_connect(struct pw_core **core, struct pw_context *context, const struct backend_context_params *params)
{
    struct pw_properties *props = pw_properties_new(PW_KEY_APP_NAME, params->app_name, NULL);
    if (!props)
        return -ENOMEM;
    if (params->server)
        pw_properties_set(props, PW_KEY_REMOTE_NAME, params->server);
    *core = pw_context_connect(context, props, 0);
    if (*core)
        return 0;
    return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -errno : -EHOSTDOWN;
}

struct probe {
    int seq;
    bool done, lost, sink;
};

static void on_done(void *arg, uint32_t id, int seq)
{
    struct probe *probe = arg;
    if (id == PW_ID_CORE && seq == probe->seq)
        probe->done = true;
}

static void on_error(void *arg, uint32_t id, int seq, int res, const char *message)
{
    struct probe *probe = arg;
    (void)seq, (void)message;
    if (id == PW_ID_CORE && res == -EPIPE)
        probe->lost = true;
}

static const struct pw_core_events core_events = {PW_VERSION_CORE_EVENTS, .done = on_done, .error = on_error};

static void on_global(void *arg, uint32_t id, uint32_t permissions, const char *type, uint32_t version,
                      const struct spa_dict *props)
{
    struct probe *probe = arg;
    (void)id, (void)permissions, (void)version;
    if (!props || strcmp(type, PW_TYPE_INTERFACE_Node) != 0)
        return;
    const char *class = spa_dict_lookup(props, PW_KEY_MEDIA_CLASS);
    const char *name = spa_dict_lookup(props, PW_KEY_NODE_NAME);
    if (!class || (strcmp(class, "Audio/Duplex") != 0 && strncmp(class, "Audio/Sink", strlen("Audio/Sink")) != 0))
        return;
    /* What pipewire-pulse puts up where there is no sink, so that players have something to play to. */
    if (name && strcmp(name, "auto_null") == 0)
        return;
    probe->sink = true;
}

static const struct pw_registry_events registry_events = {PW_VERSION_REGISTRY_EVENTS, .global = on_global};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Runs the loop in the caller's thread until the server has listed all there is. */
static int look(struct pw_loop *loop, struct pw_core *core)
{
    struct probe probe = {0};
    struct spa_hook core_listener = {0}, registry_listener = {0};

    struct pw_registry *registry = pw_core_get_registry(core, PW_VERSION_REGISTRY, 0);
    if (!registry)
        return -ENOMEM;
    pw_core_add_listener(core, &core_listener, &core_events, &probe);
    pw_registry_add_listener(registry, &registry_listener, &registry_events, &probe);
    probe.seq = pw_core_sync(core, PW_ID_CORE, 0);

    const int64_t end = now_ms() + PROBE_TIMEOUT_MS;
    pw_loop_enter(loop);
    for (int64_t left = PROBE_TIMEOUT_MS; left > 0 && !probe.done && !probe.lost; left = end - now_ms()) {
        if (pw_loop_iterate(loop, (int)left) < 0)
            break;
    }
    pw_loop_leave(loop);
    spa_hook_remove(&registry_listener);
    spa_hook_remove(&core_listener);
    pw_proxy_destroy((struct pw_proxy *)registry);
    if (!probe.done)
        return -EHOSTDOWN;
    return probe.sink ? 0 : -ENODEV;
}

int pipewire_probe(const struct backend_context_params *params)
{
    struct pw_context *context = NULL;
    struct pw_core *core = NULL;
    int rc = -ENOMEM;

    pw_init(NULL, NULL);
    struct pw_loop *loop = pw_loop_new(NULL);
    if (!loop)
        goto out;
    context = pw_context_new(loop, NULL, 0);
    if (!context)
        goto out;
    rc = pipewire_connect(&core, context, params);
    if (rc == 0) {
        rc = look(loop, core);
        pw_core_disconnect(core);
    }
out:
    if (context)
        pw_context_destroy(context);
    if (loop)
        pw_loop_destroy(loop);
    pw_deinit();
    return rc;
}
