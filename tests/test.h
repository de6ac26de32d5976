/*
 * What every unit test begins with: cmocka and what it wants included before it, a folder
 * for files, and looks into the sentence of an error.
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
#include <unistd.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/fs.h"

/* A fresh folder; caller frees the path and removes the folder. In memory where the system
 * offers it: on a busy disk the fsyncs of hundreds of tiny files take a minute. */
static inline char *unit_folder(void)
{
    const char *base = getenv("TMPDIR");
    if (!base || !*base)
        base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    char *path = fs_join(base, "mundwerk-test-XXXXXX");
    if (!mkdtemp(path))
        abort();
    return path;
}

static inline void unit_folder_remove(char *path)
{
    struct err e;
    if (fs_remove_tree(path, &e))
        print_error("%s\n", e.msg);
    free(path);
}

/* One such folder for the whole program; test_folder_remove() is the group's teardown. */
static inline char **test_folder_place(void)
{
    static char *folder;
    return &folder;
}

static inline const char *test_folder(void)
{
    char **folder = test_folder_place();
    if (!*folder)
        *folder = unit_folder();
    return *folder;
}

static inline int test_folder_remove(void **state)
{
    (void)state;
    char **folder = test_folder_place();
    if (*folder)
        unit_folder_remove(*folder);
    *folder = NULL;
    return 0;
}

static inline void unit_says(const char *msg, const char *text, const char *file, int line)
{
    if (!strstr(msg, text)) {
        print_error("sentence: %s\nmisses:   %s\n", msg, text);
        _fail(file, line);
    }
}

/* The sentence holds the text. */
#define assert_says(e, text) unit_says((e)->msg, text, __FILE__, __LINE__)

/* The call failed and its sentence holds the text. */
#define assert_fails(call, e, text)                                                                \
    do {                                                                                           \
        assert_int_equal((call), -1);                                                              \
        unit_says((e).msg, (text), __FILE__, __LINE__);                                            \
    } while (0)

#define assert_works(call, e)                                                                      \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s", (e).msg);                                                               \
    } while (0)

#endif
