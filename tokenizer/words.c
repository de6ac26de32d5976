/* Owns the table of pieces and their counts. */
#include "tokenizer/words.h"

#include "common/hash.h"

#include <string.h>

static struct word *find(const struct words *w, const char *piece, size_t len, uint64_t hash)
{
    for (uint64_t at = hash;; at++) {
        struct word *slot = &w->slots[at & w->mask];
        if (!slot->count || (slot->hash == hash && slot->len == len &&
                             !memcmp(w->text.data + slot->start, piece, len)))
            return slot;
    }
}

static void grow(struct words *w)
{
    struct word *old = w->slots;
    uint64_t old_slots = old ? w->mask + 1 : 0;
    uint64_t slots = old ? 2 * old_slots : 1 << 14;
    w->slots = mem_zalloc(slots, sizeof(*w->slots));
    w->mask = slots - 1;
    for (uint64_t i = 0; i < old_slots; i++) {
        if (!old[i].count)
            continue;
        uint64_t at = old[i].hash;
        while (w->slots[at & w->mask].count)
            at++;
        w->slots[at & w->mask] = old[i];
    }
    free(old);
}

static void add_hashed(struct words *w, const char *piece, size_t len, uint64_t hash,
                       uint64_t count)
{
    if (!w->slots || 2 * w->distinct > w->mask)
        grow(w);
    struct word *slot = find(w, piece, len, hash);
    if (!slot->count) {
        *slot = (struct word){.hash = hash, .start = w->text.len, .len = (uint32_t)len};
        buf_add(&w->text, piece, len);
        w->distinct++;
    }
    slot->count += count;
}

void words_add(struct words *w, const char *piece, size_t len, uint64_t count)
{
    MW_ASSERT(len > 0 && len <= UINT32_MAX && count > 0);
    add_hashed(w, piece, len, hash64(piece, len), count);
}

void words_join(struct words *w, struct words *from)
{
    for (uint64_t i = 0; from->slots && i <= from->mask; i++) {
        const struct word *word = &from->slots[i];
        if (word->count)
            add_hashed(w, from->text.data + word->start, word->len, word->hash, word->count);
    }
    words_release(from);
}

void words_release(struct words *w)
{
    free(w->slots);
    buf_release(&w->text);
    memset(w, 0, sizeof(*w));
}
