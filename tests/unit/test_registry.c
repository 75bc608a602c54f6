/* SPDX-License-Identifier: MIT */
#include "backends/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_every_backend_is_complete(void **state)
{
    (void)state;
    const struct backend *const *list = backend_list();
    assert_non_null(list[0]);
    for (; *list; list++) {
        const struct backend *b = *list;
        assert_non_null(b->name);
        assert_non_null(b->title);
        assert_non_null(b->target_help);
        assert_non_null(b->probe);
        assert_non_null(b->context_open);
        assert_non_null(b->context_state);
        assert_non_null(b->context_close);
        assert_non_null(b->open);
        assert_non_null(b->start);
        assert_non_null(b->stop);
        assert_non_null(b->state);
        assert_non_null(b->close);
    }
}

static void test_names_are_found_and_unique(void **state)
{
    (void)state;
    for (const struct backend *const *list = backend_list(); *list; list++)
        assert_ptr_equal(backend_find((*list)->name), *list);
    assert_null(backend_find("no such backend"));
    assert_null(backend_find(""));
    assert_null(backend_find("raw")); /* fed, not pulled: backends/raw.h */
}

static void test_what_this_build_has(void **state)
{
    (void)state;
    assert_non_null(backend_find("null"));
    assert_false(backend_find("null")->for_auto);
#ifdef EARSHOT_WAV
    assert_true(backend_find("wav")->needs_target);
    assert_false(backend_find("wav")->for_auto);
#else
    assert_null(backend_find("wav"));
#endif
#ifdef EARSHOT_ALSA
    assert_true(backend_find("alsa")->holds_device);
    assert_true(backend_find("alsa")->for_auto && backend_find("alsa")->last_resort);
#else
    assert_null(backend_find("alsa"));
#endif
#ifdef EARSHOT_SNDIO
    assert_true(backend_find("sndio")->holds_device);
    assert_false(backend_find("sndio")->for_auto);
#else
    assert_null(backend_find("sndio"));
#endif
#ifdef EARSHOT_PULSE
    assert_true(backend_find("pulse")->for_auto);
#else
    assert_null(backend_find("pulse"));
#endif
#ifdef EARSHOT_PIPEWIRE
    assert_ptr_equal(backend_list()[0], backend_find("pipewire"));
    assert_true(backend_list()[0]->for_auto);
#else
    assert_null(backend_find("pipewire"));
#endif
#ifdef EARSHOT_JACK
    assert_non_null(backend_find("jack"));
    assert_true(backend_find("jack")->for_auto);
#else
    assert_null(backend_find("jack"));
#endif
}

/* What `auto` tries, best first; a last resort stands behind every server. */
static void test_order_of_auto(void **state)
{
    (void)state;
    static const char *const preferred[] = {"pipewire", "pulse", "jack", "alsa"};
    unsigned at = 0;
    for (const struct backend *const *list = backend_list(); *list; list++) {
        if (!(*list)->for_auto)
            continue;
        while (at < sizeof preferred / sizeof *preferred && strcmp(preferred[at], (*list)->name) != 0)
            at++;
        assert_true(at < sizeof preferred / sizeof *preferred);
        assert_int_equal((*list)->has_mixer, at < 2);
        assert_int_equal((*list)->last_resort, at == 3);
    }
}

static void test_nothing_to_close_is_fine(void **state)
{
    (void)state;
    for (const struct backend *const *list = backend_list(); *list; list++) {
        (*list)->close(NULL);
        (*list)->context_close(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_backend_is_complete), cmocka_unit_test(test_names_are_found_and_unique),
        cmocka_unit_test(test_what_this_build_has),       cmocka_unit_test(test_order_of_auto),
        cmocka_unit_test(test_nothing_to_close_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
