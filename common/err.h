/*
 * Errors the caller can meet: full disks, broken files, wrong options.
 *
 * A function that the world can make fail returns 0 for success and -1 for
 * failure and takes a `struct err *` as its last argument (never NULL). It
 * calls err_set() once, where it knows most; callers on the way up only put
 * context in front with err_add(). Only cmd_*.c prints the sentence.
 *
 *     return err_set(e, "cannot open %s: %s", path, strerror(errno));
 *     if (shard_open(&s, prefix, e))
 *         return err_add(e, "training data");
 *
 * Sentences are lower case, without a full stop, the fault first, and name
 * the place: file and line or byte offset. Bugs are not errors: they stop the
 * program through MW_ASSERT, which stays on in every build.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stdio.h>
#include <stdlib.h>

struct err {
    char msg[1024]; /* always NUL-terminated; empty until err_set() */
};

/* Writes the sentence; always returns -1. A longer text is cut. */
int err_set(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " in front of the sentence; always returns -1. */
int err_add(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A condition that only a bug can break. Prints where, then aborts. */
#define MW_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (!(cond))                                                                               \
            err_bug(__FILE__, __LINE__, #cond);                                                    \
    } while (0)

void err_bug(const char *file, int line, const char *cond) __attribute__((noreturn));

#endif
