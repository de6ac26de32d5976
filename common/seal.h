/*
 * Sealed JSON: an object whose last line is the XXH3-64 of all bytes before that
 * line. The small files that tell sizes and hashes of large ones carry it, so
 * that one flipped bit in them is not taken for a damaged large file, or for none.
 *
 *     {
 *       …,
 *       "sealed_xxh3_64": "0123456789abcdef"
 *     }
 */
#ifndef COMMON_SEAL_H
#define COMMON_SEAL_H

#include "common/mem.h"

#include <stdbool.h>
#include <stddef.h>

#define SEAL_KEY "sealed_xxh3_64"

/* Ends the object that began at b->data[start]; the text before must end with ",\n". */
void seal_put(struct buf *b, size_t start);
/* Whether the text ends with the line that seal_put() would write. */
bool seal_holds(const char *text, size_t len);

#endif
