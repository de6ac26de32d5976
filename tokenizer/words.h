/*
 * Pieces and how often each was seen: an exact open-addressing table with 64-bit
 * counts. One per thread while counting, joined afterwards.
 */
#ifndef TOKENIZER_WORDS_H
#define TOKENIZER_WORDS_H

#include "common/mem.h"

#include <stdint.h>

struct word {
    uint64_t hash;
    uint64_t count; /* 0: free slot */
    uint64_t start; /* of its bytes in words.text */
    uint32_t len;   /* 1 … 2^32-1 */
};

struct words {
    struct word *slots; /* (mask + 1), at most half full */
    uint64_t mask;
    uint64_t distinct;
    struct buf text;
};

void words_add(struct words *w, const char *piece, size_t len, uint64_t count);
/* Adds all of from to w and releases from. */
void words_join(struct words *w, struct words *from);
void words_release(struct words *w);

#endif
