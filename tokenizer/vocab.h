/*
 * What a loaded tokenizer holds; for the files of this folder only.
 *
 * A token has two faces: its name, the spelling in tokenizer.json (byte alphabet,
 * special tokens as they are), and its bytes, what it stands for in text.
 */
#ifndef TOKENIZER_VOCAB_H
#define TOKENIZER_VOCAB_H

#include "common/err.h"
#include "common/mem.h"
#include "tokenizer/pretoken.h"
#include "tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

#define VOCAB_NONE UINT32_MAX

/* Names to ids: open addressing over ids, compared by name. */
struct names {
    struct buf text; /* all names, one after the other */
    size_t *start;   /* (count + 1) offsets in text */
    uint32_t *ids;   /* id of each name, in the order they were added */
    uint32_t *slots; /* index + 1 of a name, 0 = free; (mask + 1) */
    uint32_t mask;
    size_t count, capacity, start_capacity;
};

/* The name added as number i. */
const char *names_get(const struct names *n, size_t i, size_t *len);
uint32_t names_find(const struct names *n, const char *name, size_t len); /* id or VOCAB_NONE */
/* false if the name is there already. */
bool names_add(struct names *n, const char *name, size_t len, uint32_t id);
void names_release(struct names *n);

/* Pairs of ids to what they merge to. */
struct merge {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank; /* VOCAB_NONE = free slot */
    uint32_t id;
};

struct merges {
    struct merge *slots; /* (mask + 1), at most half full */
    uint64_t mask;
};

void merges_init(struct merges *m, size_t count); /* room for count pairs */
/* false if the pair is there already. */
bool merges_add(struct merges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);
void merges_release(struct merges *m);

static inline uint64_t merges_slot(const struct merges *m, uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    return (h ^ h >> 32) & m->mask;
}

/* The merge of a pair or a slot whose rank is VOCAB_NONE. */
static inline const struct merge *merges_find(const struct merges *m, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    uint64_t at = merges_slot(m, pair);
    while (m->slots[at].rank != VOCAB_NONE && m->slots[at].pair != pair)
        at = (at + 1) & m->mask;
    return &m->slots[at];
}

struct token {
    size_t start; /* of its bytes in tokenizer.bytes */
    uint32_t len; /* VOCAB_NONE while unknown, only during loading */
    bool known;   /* has its id */
    bool added;   /* an added token: cut out of the text before all else */
    bool special; /* and only on demand */
};

struct tokenizer {
    struct buf json;   /* tokenizer.json as read */
    char *config;      /* tokenizer_config.json as read; NULL = none was there */
    char *special_map; /* special_tokens_map.json likewise */
    uint64_t hash;
    char *regex;
    struct pattern *pattern;
    struct token *tokens; /* (count) */
    uint32_t count;
    struct buf bytes;
    struct names names; /* of the model's vocabulary, without tokens added behind it */
    struct merges merges;
    uint32_t byte_id[256];
    bool ignore_merges; /* a piece that is a token is not cut further (Llama-3) */
    size_t name_len_max;
    struct names added;   /* added tokens by the text they are cut out of */
    uint32_t *added_lens; /* their different lengths, the longest first */
    size_t added_len_count;
};

/* Fills t from t->json. */
int vocab_read_json(struct tokenizer *t, const char *name, struct err *e);
/* The names every vocabulary of ours begins with: special tokens, then bytes. */
void vocab_first_names(struct names *n);
/* The id of each byte; VOCAB_NONE for one without a name. */
void vocab_byte_ids(const struct names *n, uint32_t ids[256]);
/* The tokenizer.json of such a vocabulary: names in order of their ids, merges as pairs of
 * ids, left << 32 | right. */
void vocab_write_json(struct buf *out, const char *regex, const struct names *names,
                      const uint64_t *merges, size_t merge_count);
void vocab_write_config(struct buf *out);
void vocab_write_special_map(struct buf *out);

#endif
