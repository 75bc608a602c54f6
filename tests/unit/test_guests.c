/* SPDX-License-Identifier: MIT
 *
 * Plans carried out: packets over loopback, through sources and guests, into the null backend, while the plan changes.
 * Waits have limits that only a fault reaches.
 */
#include "receiver/guests.h"
#include "ringbuf/scream_udp.h"
#include "tests/unit/said.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS_NS       INT64_C(1000000)
#define LIMIT_NS    (20000 * MS_NS)
#define FADE_NS     (200 * MS_NS)
#define SENDERS     4 /* 127.0.3.1 and so on */
#define FRAMES      288
#define STREAMS_MAX 16

struct fixture {
    struct said said;
    sd_event *event;
    struct outputs *outputs;
    struct sources *sources;
    struct guests *guests;
    struct plan *plan;
    uint16_t port;
    int sockets[SENDERS];
    bool silent[SENDERS];
    int64_t send_ns;
    struct stream_status streams[STREAMS_MAX];
    unsigned count;
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 * MS_NS + t.tv_nsec;
}

static int bound(const char *address, uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t length = sizeof(in);
    assert_true(fd >= 0);
    assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
    *port = ntohs(in.sin_port);
    return fd;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    said_open(&f->said);
    close(bound("0.0.0.0", &f->port));
    for (unsigned i = 0; i < SENDERS; i++) {
        char address[16];
        uint16_t unused;
        snprintf(address, sizeof(address), "127.0.3.%u", i + 1);
        f->sockets[i] = bound(address, &unused);
        f->silent[i] = true;
    }
    assert_true(sd_event_new(&f->event) >= 0);
    assert_int_equal(sources_create(&f->sources, &(struct sources_params){.log = &f->said.log}), 0);
    assert_int_equal(outputs_create(&f->outputs, f->event, nothing, f, &f->said.log), 0);
    assert_int_equal(guests_create(&f->guests, f->outputs, f->sources, NULL, &f->said.log), 0);
    assert_int_equal(sources_start(f->sources), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    sources_stop(f->sources);
    guests_destroy(f->guests);
    sources_destroy(f->sources);
    outputs_destroy(f->outputs);
    plan_free(f->plan);
    free(f->plan);
    sd_event_unref(f->event);
    for (unsigned i = 0; i < SENDERS; i++)
        close(f->sockets[i]);
    said_close(&f->said);
    free(f);
    return 0;
}

/* A configuration of the fixture's port, or with more in it. */
static struct config *config(const struct fixture *f, const char *name, const char *text)
{
    char error[CONFIG_ERROR_MAX], all[256];
    struct config *c = NULL;
    snprintf(all, sizeof(all), "backend = null\nunicast = yes\nport = %u\n%s", f->port, text);
    if (config_parse(&c, name, all, strlen(all), error) != 0)
        fail_msg("%s", error);
    return c;
}

/* Takes the references. */
static void apply(struct fixture *f, unsigned count, struct config *const *configs)
{
    struct config_set set = {.count = count};
    struct plan *plan = malloc(sizeof(*plan));
    assert_non_null(plan);
    memcpy(set.configs, configs, count * sizeof(*configs));
    plan_make(plan, &set, &f->said.log);
    config_set_free(&set);
    assert_int_equal(sources_apply(f->sources, plan, clock_ns(), FADE_NS), 0);
    assert_int_equal(guests_apply(f->guests, plan, clock_ns(), FADE_NS), 0);
    if (f->plan)
        plan_free(f->plan);
    free(f->plan);
    f->plan = plan;
}

static void send_all(struct fixture *f)
{
    uint8_t packet[SCREAM_UDP_HEADER_BYTES + FRAMES * 4] = {0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    scream_udp_build(packet, &(struct scream_udp_header){1, 16, 2, 3});
    for (unsigned i = 0; i < SENDERS; i++) {
        if (!f->silent[i])
            (void)sendto(f->sockets[i], packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to));
    }
}

static void run(struct fixture *f)
{
    struct source_event event;
    if (clock_ns() >= f->send_ns) {
        send_all(f);
        f->send_ns = clock_ns() + 6 * MS_NS;
    }
    while (sources_next_event(f->sources, &event))
        guests_event(f->guests, &event, clock_ns());
    sources_run(f->sources, clock_ns());
    guests_run(f->guests, clock_ns());
    sd_event_run(f->event, 1000);
}

/* Who has a stream, as "name=address", or waits for its guest ("name"), in this order, joined by spaces. */
static const char *heard(struct fixture *f)
{
    static char text[512];
    size_t length = 0;
    text[0] = 0;
    f->count = guests_collect(f->guests, f->streams, STREAMS_MAX);
    for (unsigned i = 0; i < f->count; i++) {
        const struct stream_status *s = &f->streams[i];
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s%s%s", i ? " " : "", s->name,
                                   s->format.rate ? "=" : "", s->format.rate ? s->address : "");
    }
    return text;
}

static void wait_heard(struct fixture *f, const char *wanted)
{
    int64_t end_ns = clock_ns() + LIMIT_NS;
    while (strcmp(heard(f), wanted) != 0) {
        if (clock_ns() > end_ns)
            fail_msg("heard \"%s\", wanted \"%s\"", heard(f), wanted);
        run(f);
    }
}

static uint64_t frames_of(struct fixture *f, const char *name)
{
    heard(f);
    for (unsigned i = 0; i < f->count; i++) {
        if (!strcmp(f->streams[i].name, name))
            return f->streams[i].stats.frames;
    }
    return 0;
}

static void wait_frames(struct fixture *f, const char *name, uint64_t more_than)
{
    int64_t end_ns = clock_ns() + LIMIT_NS;
    while (frames_of(f, name) <= more_than) {
        assert_true(clock_ns() < end_ns);
        run(f);
    }
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    apply(f, 2, (struct config *[]){config(f, "a", "from = 127.0.3.1, 127.0.3.2"), config(f, "b", "")});
    wait_heard(f, "a b");
    f->silent[1] = false; /* the second of a's */
    wait_heard(f, "a (127.0.3.2)=127.0.3.2 b");
    f->silent[2] = false;
    wait_heard(f, "a (127.0.3.2)=127.0.3.2 b=127.0.3.3");
    f->silent[0] = false;
    wait_heard(f, "a (127.0.3.2)=127.0.3.2 b=127.0.3.3 a=127.0.3.1");
    f->silent[3] = false;
    wait_heard(f, "a (127.0.3.2)=127.0.3.2 b=127.0.3.3 a=127.0.3.1 b (127.0.3.4)=127.0.3.4");
    assert_int_equal(guests_count(f->guests), 4);
}

/* A sender changes hands; another one, of the same socket, never notices. */
static void test_claims_change(void **state)
{
    struct fixture *f = *state;
    struct config *stays = config(f, "stays", "from = 127.0.3.1"), *rest = config(f, "rest", "");
    f->silent[0] = f->silent[1] = false;
    apply(f, 2, (struct config *[]){config_ref(stays), config_ref(rest)});
    wait_frames(f, "stays", 0);
    wait_frames(f, "rest", 0);
    uint64_t before = frames_of(f, "stays");

    apply(f, 3, (struct config *[]){config_ref(stays), config_ref(rest), config(f, "new", "from = 127.0.3.2")});
    wait_frames(f, "new", 0);
    wait_heard(f, "stays=127.0.3.1 new=127.0.3.2 rest");
    wait_frames(f, "stays", before);

    /* Nobody's any more, and then somebody's again. */
    before = frames_of(f, "stays");
    apply(f, 1, (struct config *[]){config_ref(stays)});
    wait_heard(f, "stays=127.0.3.1");
    for (int64_t end_ns = clock_ns() + 50 * MS_NS; clock_ns() < end_ns;)
        run(f);
    assert_string_equal(heard(f), "stays=127.0.3.1");
    apply(f, 2, (struct config *[]){stays, rest});
    wait_heard(f, "stays=127.0.3.1 rest=127.0.3.2");
    wait_frames(f, "stays", before);
    assert_null(strstr(said_text(&f->said), "127.0.3.1: now"));
    assert_null(strstr(said_text(&f->said), "gone"));
}

/* Sources go and come, also at the same port, also before the last ones have gone. */
static void test_sources_change(void **state)
{
    struct fixture *f = *state;
    char elsewhere[64];
    f->silent[0] = false;
    snprintf(elsewhere, sizeof(elsewhere), "unicast = yes\ninterface = 127.0.0.1");
    for (unsigned turn = 0; turn < 2; turn++) {
        apply(f, 1, (struct config *[]){config(f, "one", "")});
        wait_frames(f, "one", 0);
        apply(f, 1, (struct config *[]){config(f, "two", elsewhere)});
        wait_heard(f, "two=127.0.3.1");
        apply(f, 1, (struct config *[]){config(f, "three", "")});
        apply(f, 1, (struct config *[]){config(f, "four", elsewhere)});
        apply(f, 0, (struct config *[]){NULL});
        apply(f, 1, (struct config *[]){config(f, "five", "")});
        wait_frames(f, "five", 0);
        assert_string_equal(heard(f), "five=127.0.3.1");
    }
    assert_null(strstr(said_text(&f->said), "in use"));
}

static void test_nothing_to_play(void **state)
{
    struct fixture *f = *state;
    apply(f, 1, (struct config *[]){config(f, "a", "shm = /dev/shm/earshot-test-of-nothing")});
    int64_t end_ns = clock_ns() + LIMIT_NS;
    while (!sources_waiting(f->sources) && clock_ns() < end_ns)
        run(f);
    assert_non_null(strstr(sources_waiting(f->sources), "earshot-test-of-nothing is not there yet"));
    assert_string_equal(heard(f), "a");
    assert_int_equal(f->streams[0].state, STREAM_WAITING);
    assert_int_equal(guests_count(f->guests), 0);
    assert_true(guests_silent(f->guests));
}

/* Which stream is meant, what its file is, and what is said where none is. */
static void test_tune(void **state)
{
    struct fixture *f = *state;
    const char *file = NULL;
    char error[OPTABLE_ERROR_MAX];
    f->silent[0] = f->silent[1] = false;
    apply(f, 2,
          (struct config *[]){config(f, "/etc/one.conf", "from = 127.0.3.1\nlatency = 100"),
                              config(f, "/etc/three.conf", "from = 127.0.3.3")});
    wait_frames(f, "one", 0);
    assert_int_equal(guests_tune(f->guests, "one", "latency", "80", clock_ns(), &file, error), 0);
    assert_string_equal(file, "/etc/one.conf");
    int64_t end_ns = clock_ns() + LIMIT_NS;
    while (f->streams[0].stats.target_ns != 80 * MS_NS && clock_ns() < end_ns) {
        run(f);
        heard(f);
    }
    assert_int_equal(f->streams[0].stats.target_ns, 80 * MS_NS);

    assert_int_equal(guests_tune(f->guests, "one", "latency", "many", clock_ns(), &file, error), -EINVAL);
    assert_non_null(strstr(error, "auto or milliseconds"));
    assert_int_equal(guests_tune(f->guests, "one", "port", "4011", clock_ns(), &file, error), -EINVAL);
    assert_non_null(strstr(error, "latency, max-latency"));
    assert_int_equal(guests_tune(f->guests, "three", "latency", "80", clock_ns(), &file, error), -EAGAIN);
    assert_non_null(strstr(error, "has not been heard"));
    assert_int_equal(guests_tune(f->guests, "two", "latency", "80", clock_ns(), &file, error), -ENOENT);
    assert_int_equal(guests_tune(f->guests, "", "latency", "80", clock_ns(), &file, error), -ENOENT);

    /* A file that says something else is another configuration, and its latency holds. */
    apply(f, 1, (struct config *[]){config(f, "/etc/one.conf", "from = 127.0.3.1\nlatency = 120")});
    end_ns = clock_ns() + LIMIT_NS;
    while (f->streams[0].stats.target_ns != 120 * MS_NS && clock_ns() < end_ns) {
        run(f);
        heard(f);
    }
    assert_int_equal(f->streams[0].stats.target_ns, 120 * MS_NS);
}

int main(void)
{
    unsetenv("XDG_RUNTIME_DIR"); /* no locks */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_claims_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sources_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_play, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tune, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
