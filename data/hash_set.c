/*
 * Open addressing in 64 partitions; see hash_set.h for the reasons.
 */
#include "data/hash_set.h"

#include "common/log.h"
#include "common/mem.h"

#include <math.h>
#include <string.h>

#define PART_CAPACITY_MIN 256
#define MAP_BYTES_MIN     ((size_t)4 << 20) /* from here on pages come from the system */

static uint64_t *slots_new(size_t bytes, struct err *e)
{
    if (bytes >= MAP_BYTES_MIN)
        return mem_map(bytes, "the set of hashes for deduplication", e);
    return mem_zalloc(bytes, 1);
}

static void slots_free(uint64_t *slots, size_t bytes)
{
    if (bytes >= MAP_BYTES_MIN)
        mem_unmap(slots, bytes);
    else
        free(slots);
}

void hash_set_init(struct hash_set *s, unsigned words)
{
    MW_ASSERT(words == 1 || words == 2);
    memset(s, 0, sizeof(*s));
    s->words = words;
}

void hash_set_release(struct hash_set *s)
{
    for (size_t i = 0; i < HASH_SET_PARTS; i++)
        slots_free(s->parts[i].slots, s->parts[i].capacity * s->words * sizeof(uint64_t));
    memset(s, 0, sizeof(*s));
}

/* The word 0 marks an empty slot. Two texts in 2^64 share the word 1 for that. */
static uint64_t first_word(const uint64_t *key)
{
    return key[0] ? key[0] : 1;
}

/* Puts a key into a part that has room; 0 if it was there already. */
static int part_add(struct hash_set_part *p, unsigned words, uint64_t first, uint64_t second)
{
    uint64_t mask = p->capacity - 1;
    for (uint64_t i = first & mask;; i = (i + 1) & mask) {
        uint64_t *slot = p->slots + i * words;
        if (!slot[0]) {
            slot[0] = first;
            if (words == 2)
                slot[1] = second;
            p->count++;
            return 1;
        }
        if (slot[0] == first && (words == 1 || slot[1] == second))
            return 0;
    }
}

static int part_grow(struct hash_set *s, struct hash_set_part *p, struct err *e)
{
    struct hash_set_part big = {0};
    size_t key_bytes = s->words * sizeof(uint64_t);
    size_t bytes_old = p->capacity * key_bytes;
    big.capacity = p->capacity ? 2 * p->capacity : PART_CAPACITY_MIN;
    big.slots = slots_new(big.capacity * key_bytes, e);
    if (!big.slots)
        return err_add(e, "%s hashes known so far", log_count((double)s->count));
    for (uint64_t i = 0; i < p->capacity; i++) {
        const uint64_t *slot = p->slots + i * s->words;
        if (slot[0])
            part_add(&big, s->words, slot[0], s->words == 2 ? slot[1] : 0);
    }
    slots_free(p->slots, bytes_old);
    s->bytes += big.capacity * key_bytes - bytes_old;
    *p = big;
    return 0;
}

int hash_set_add(struct hash_set *s, const uint64_t *key, struct err *e)
{
    uint64_t first = first_word(key);
    struct hash_set_part *p = &s->parts[first >> 58];
    if (4 * (p->count + 1) > 3 * p->capacity && part_grow(s, p, e))
        return -1;
    int added = part_add(p, s->words, first, s->words == 2 ? key[1] : 0);
    s->count += (uint64_t)added;
    return added;
}

void hash_set_prefetch(const struct hash_set *s, const uint64_t *key)
{
    uint64_t first = first_word(key);
    const struct hash_set_part *p = &s->parts[first >> 58];
    if (p->capacity)
        __builtin_prefetch(p->slots + (first & (p->capacity - 1)) * s->words, 1);
}

double hash_set_collisions(double count, unsigned bits)
{
    return ldexp(count * count, -(int)(bits + 1));
}
