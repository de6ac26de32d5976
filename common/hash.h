/*
 * Hashes: XXH3 (64 and 128 bits), the same value on every CPU. They find
 * accidents, not malice. The only file that knows xxHash is hash.c.
 */
#ifndef COMMON_HASH_H
#define COMMON_HASH_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t high;
    uint64_t low;
};

uint64_t hash64(const void *data, size_t len);
uint64_t hash64_seeded(const void *data, size_t len, uint64_t seed);
struct hash128 hash128(const void *data, size_t len);

/* Streaming XXH3-64; the same value as hash64() over all parts joined. */
struct hash_state;
struct hash_state *hash_new(void);
void hash_add(struct hash_state *h, const void *data, size_t len);
uint64_t hash_end(const struct hash_state *h);
void hash_free(struct hash_state *h);

/* Reads exactly 16 lower-case hex digits, as "%016llx" writes them; -1 if text is not that. */
int hash_parse(const char *text, size_t len, uint64_t *hash);

int hash_file(const char *path, uint64_t *hash, uint64_t *bytes, struct err *e);

#endif
