/* SPDX-License-Identifier: MIT
 *
 * A JACK server that hangs, without a server: what the backend calls of the library is here, and hangs when it is told
 * to. Nothing here measures time: who waits for the worker gives up once it hangs.
 */
#include "backends/jack_client.h"
#include "backends/registry.h"

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TRIES 100

/* Shared between the test and the worker: one server. */
struct server {
    atomic_bool hangs;
    atomic_uint asked; /* for a client that is to play */
    sem_t hung, go_on;
};

static struct server server;

jack_client_t *jack_client_open(const char *name, jack_options_t options, jack_status_t *status, ...)
{
    (void)options;
    if (strcmp(name, "earshot-look") == 0)
        return (jack_client_t *)(void *)&server;
    atomic_fetch_add(&server.asked, 1);
    if (atomic_load(&server.hangs)) {
        sem_post(&server.hung);
        sem_wait(&server.go_on);
    }
    *status = JackFailure;
    return NULL;
}

const char **jack_get_ports(jack_client_t *client, const char *name, const char *type, unsigned long flags)
{
    (void)client, (void)name, (void)type, (void)flags;
    return NULL;
}

int jack_client_close(jack_client_t *client)
{
    (void)client;
    return 0;
}

int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *deadline);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *deadline);

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *deadline)
{
    if (!atomic_load(&server.hangs))
        return __real_pthread_cond_timedwait(cond, lock, deadline);
    pthread_mutex_unlock(lock);
    sem_wait(&server.hung);
    pthread_mutex_lock(lock);
    return ETIMEDOUT;
}

static int open_stream(struct backend_context *context)
{
    struct backend_stream_params params = {.name = "win10", .channels = 2, .mask = 3};
    struct backend_stream *stream;
    return backend_jack.open(context, &params, &stream);
}

static unsigned count_streams(struct backend_context *context)
{
    unsigned count = 0;
    pthread_mutex_lock(&context->lock);
    for (const struct backend_stream *s = context->streams; s; s = s->next)
        count++;
    pthread_mutex_unlock(&context->lock);
    return count;
}

/* Main tries again each second, for as long as the server hangs. */
static void test_tries_do_not_pile_up(void **state)
{
    (void)state;
    assert_int_equal(sem_init(&server.hung, 0, 0), 0);
    assert_int_equal(sem_init(&server.go_on, 0, 0), 0);
    struct backend_context *context;
    assert_int_equal(backend_jack.context_open(&context, &(struct backend_context_params){.event_fd = -1}), 0);

    atomic_store(&server.hangs, true);
    for (unsigned i = 0; i < TRIES; i++)
        assert_int_equal(open_stream(context), -EHOSTDOWN);
    assert_int_equal(count_streams(context), 1);
    assert_int_equal(atomic_load(&server.asked), 1);
    assert_int_equal(backend_jack.context_state(context), BACKEND_OK);

    /* It goes on, and is asked again; that it wants nobody is another matter. */
    atomic_store(&server.hangs, false);
    sem_post(&server.go_on);
    pthread_mutex_lock(&context->lock);
    while (context->stuck || context->streams)
        pthread_cond_wait(&context->changed, &context->lock);
    pthread_mutex_unlock(&context->lock);
    assert_int_equal(open_stream(context), -EIO);
    assert_int_equal(atomic_load(&server.asked), 2);
    backend_jack.context_close(context);
    sem_destroy(&server.hung);
    sem_destroy(&server.go_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tries_do_not_pile_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
