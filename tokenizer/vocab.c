/* Owns the two tables of a vocabulary: names to ids, pairs to merges. */
#include "tokenizer/vocab.h"

#include "common/hash.h"
#include "tokenizer/bytemap.h"

#include <string.h>

const char *names_get(const struct names *n, size_t i, size_t *len)
{
    MW_ASSERT(i < n->count);
    *len = n->start[i + 1] - n->start[i];
    return n->text.data + n->start[i];
}

/* The slot of a name: its own, or the free one where it belongs. */
static uint32_t *find_slot(const struct names *n, const char *name, size_t len)
{
    for (uint32_t at = (uint32_t)hash64(name, len);; at++) {
        uint32_t *slot = &n->slots[at & n->mask];
        if (!*slot)
            return slot;
        size_t have_len;
        const char *have = names_get(n, *slot - 1, &have_len);
        if (have_len == len && !memcmp(have, name, len))
            return slot;
    }
}

uint32_t names_find(const struct names *n, const char *name, size_t len)
{
    if (!n->slots)
        return VOCAB_NONE;
    uint32_t slot = *find_slot(n, name, len);
    return slot ? n->ids[slot - 1] : VOCAB_NONE;
}

static void rehash(struct names *n)
{
    uint32_t slots = n->slots ? 2 * (n->mask + 1) : 1024;
    free(n->slots);
    n->slots = mem_zalloc(slots, sizeof(*n->slots));
    n->mask = slots - 1;
    for (size_t i = 0; i < n->count; i++) {
        size_t len;
        const char *name = names_get(n, i, &len);
        *find_slot(n, name, len) = (uint32_t)i + 1;
    }
}

bool names_add(struct names *n, const char *name, size_t len, uint32_t id)
{
    MW_ASSERT(n->count < TOKENIZER_VOCAB_MAX);
    if (!n->slots || n->count * 2 > n->mask)
        rehash(n);
    uint32_t *slot = find_slot(n, name, len);
    if (*slot)
        return false;
    n->ids = mem_grow(n->ids, &n->capacity, n->count + 1, sizeof(*n->ids));
    n->start = mem_grow(n->start, &n->start_capacity, n->count + 2, sizeof(*n->start));
    buf_add(&n->text, name, len);
    n->start[0] = 0;
    n->ids[n->count++] = id;
    n->start[n->count] = n->text.len;
    *slot = (uint32_t)n->count;
    return true;
}

void vocab_byte_ids(const struct names *n, uint32_t ids[256])
{
    struct buf name = {0};
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        buf_clear(&name);
        bytemap_spell(&name, &byte, 1);
        ids[b] = names_find(n, name.data, name.len);
    }
    buf_release(&name);
}

void names_release(struct names *n)
{
    buf_release(&n->text);
    free(n->start);
    free(n->ids);
    free(n->slots);
    memset(n, 0, sizeof(*n));
}

void merges_init(struct merges *m, size_t count)
{
    uint64_t slots = 64;
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    m->slots = mem_alloc(slots * sizeof(*m->slots));
    m->mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++)
        m->slots[i] = (struct merge){.rank = VOCAB_NONE};
}

bool merges_add(struct merges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
    struct merge *slot = &m->slots[merges_find(m, left, right) - m->slots];
    if (slot->rank != VOCAB_NONE)
        return false;
    *slot = (struct merge){(uint64_t)left << 32 | right, rank, id};
    return true;
}

void merges_release(struct merges *m)
{
    free(m->slots);
    memset(m, 0, sizeof(*m));
}
