/*
 * JSON in and out: a strict RFC 8259 pull reader over memory and a few writers.
 *
 * The reader allocates nothing and keeps pointers into the text. It walks; it
 * builds no tree:
 *
 *     struct json j;
 *     json_open(&j, text, len);
 *     if (json_object(&j)) ...
 *     while ((r = json_next_key(&j, key, sizeof(key))) > 0)
 *         if (!strcmp(key, "text")) json_string(&j, out) else json_skip(&j);
 *     if (r < 0 || json_end(&j)) report j.error at byte j.error_at
 *
 * What it refuses: anything RFC 8259 forbids, invalid UTF-8, lone surrogates,
 * nesting deeper than JSON_DEPTH_MAX, NUL inside a key, bytes after the end.
 * Keys are unescaped before they are compared. Duplicate keys are the caller's
 * to refuse (json_seen() helps): the reader keeps no set of names.
 * Numbers are parsed when asked for, so 64-bit integers lose nothing.
 *
 * Every function returns 0 or -1 unless said; after -1 the reader is dead and
 * j->error holds a short phrase, j->error_at the byte offset.
 */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 64

enum json_type {
    JSON_NONE, /* end of text or error */
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

struct json {
    const char *text;
    size_t len;
    size_t at;
    unsigned depth;
    bool first[JSON_DEPTH_MAX]; /* no member read yet at this depth */
    char close[JSON_DEPTH_MAX];
    const char *error; /* NULL while all is well; static text */
    size_t error_at;
};

void json_open(struct json *j, const char *text, size_t len);
enum json_type json_peek(struct json *j); /* type of the next value */
int json_object(struct json *j);          /* enter an object */
int json_array(struct json *j);           /* enter an array */
/* Next member of the object: 1 and its key, 0 at '}' (left), -1 error. A key that does not fit
 * into key_cap bytes with its NUL is cut: make room for more than the longest wanted key. */
int json_next_key(struct json *j, char *key, size_t key_cap);
int json_next(struct json *j); /* next element of the array: 1, 0 at ']' (left), -1 */
int json_string(struct json *j, struct buf *out); /* unescaped; replaces out's contents */
int json_u64(struct json *j, uint64_t *out);
int json_i64(struct json *j, int64_t *out);
int json_f64(struct json *j, double *out);
int json_bool(struct json *j, bool *out);
int json_null(struct json *j);
int json_skip(struct json *j);                  /* validates what it skips */
int json_end(struct json *j);                   /* only blanks may follow */
int json_fail(struct json *j, const char *why); /* marks an error at the current place; -1 */
/* For duplicate keys: sets bit `field` in *seen; -1 and an error if it was set. */
int json_seen(struct json *j, uint64_t *seen, unsigned field);
/* "path: byte 17: why" into e; always -1. */
int json_report(const struct json *j, const char *path, struct err *e);

/* --- writing ------------------------------------------------------------- */
/* With quotes. UTF-8 is kept; a byte that is none becomes U+FFFD: names of files may hold any
 * bytes, JSON may not. */
void json_put_string(struct buf *b, const char *s, size_t len);
void json_put_cstring(struct buf *b, const char *s);
/* Shortest text that reads back as the same double; NaN and infinities become null. */
void json_put_f64(struct buf *b, double x);

#endif
