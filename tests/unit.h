/*
 * What unit tests share: cmocka with what it wants included before it, a folder
 * of their own, and a look into the sentence of an error.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/err.h"
#include "common/fs.h"

/* The sentence must hold the text; prints both where it does not. */
#define assert_says(e, text) unit_says((e)->msg, text, __FILE__, __LINE__)

static inline void unit_says(const char *msg, const char *text, const char *file, int line)
{
    if (!strstr(msg, text)) {
        print_error("sentence: %s\nmisses:   %s\n", msg, text);
        _fail(file, line);
    }
}

/* A fresh folder for small files; caller frees the path and removes it. In memory where the
 * system offers it: on a busy disk the fsyncs of hundreds of tiny files take a minute. */
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

#endif
