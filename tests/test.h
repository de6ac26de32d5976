/*
 * What every unit test begins with: cmocka, and a folder of its own for files.
 */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/fs.h"

/* A fresh temporary folder, removed when the program ends normally. */
static inline const char *test_folder(void)
{
    static char folder[64];
    if (!folder[0]) {
        snprintf(folder, sizeof(folder), "%s", "/tmp/mundwerk-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    return folder;
}

static inline int test_folder_remove(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(test_folder(), &e);
}

/* The call failed and its sentence holds the text. */
#define assert_fails(call, e, text)                                                                \
    do {                                                                                           \
        assert_int_equal((call), -1);                                                              \
        if (!strstr((e).msg, (text)))                                                              \
            fail_msg("'%s' does not say '%s'", (e).msg, (text));                                   \
    } while (0)

#define assert_works(call, e)                                                                      \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s", (e).msg);                                                               \
    } while (0)

#endif
