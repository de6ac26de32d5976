/*
 * A set of hashes that only grows: which texts has the corpus shown already?
 *
 * Keys are 64 or 128 bits of XXH3, stored whole, so two texts are taken for the
 * same only if their hashes are. The expected number of such accidents among n
 * different texts is n² / 2^(bits + 1): at the 5·10¹⁰ paragraphs of German
 * RedPajama-V2 68 paragraphs with 64 bits, and none with 128.
 *
 * Open addressing, linear probing, at most three quarters full. 64 partitions
 * (by the key's top bits) grow one after another, so that growing needs 1/64 of
 * the set as extra memory and not the set once more.
 */
#ifndef DATA_HASH_SET_H
#define DATA_HASH_SET_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

#define HASH_SET_PARTS 64

struct hash_set_part {
    uint64_t *slots; /* capacity × words; an empty slot's first word is 0 */
    uint64_t capacity;
    uint64_t count;
};

struct hash_set {
    unsigned words; /* 64-bit words a key: 1 or 2 */
    uint64_t count;
    uint64_t bytes; /* of all slots */
    struct hash_set_part parts[HASH_SET_PARTS];
};

void hash_set_init(struct hash_set *s, unsigned words);
void hash_set_release(struct hash_set *s);
/* 1: the key was not in the set and is now; 0: it was; -1: no memory for the set to grow. */
int hash_set_add(struct hash_set *s, const uint64_t *key, struct err *e);
/* Starts loading the place where the key would be; call some keys ahead of hash_set_add(). */
void hash_set_prefetch(const struct hash_set *s, const uint64_t *key);
/* Expected number of different texts that were taken for the same. */
double hash_set_collisions(double count, unsigned bits);

#endif
