/*
 * Packing: a corpus becomes token shards for training and for validation.
 *
 * Each document is <s> its ids </s>. Which documents are held out is decided by the
 * document's id alone: those with hash64(id) < valid_share * 2^64 (XXH3-64). So the
 * split is the same whatever the order of files and the number of threads, and a
 * larger share holds out all that a smaller one does. Ids: the member "id" of JSON
 * lines; else, and in text files, "path:line number" with the path as given.
 */
#ifndef TOKENIZER_PACK_H
#define TOKENIZER_PACK_H

#include "common/err.h"
#include "tokenizer/corpus.h"
#include "tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

struct pack_part {
    uint64_t documents;
    uint64_t tokens; /* with <s> and </s> */
    uint64_t bytes;  /* of text */
};

struct pack_stats {
    struct pack_part train, valid;
    uint64_t empty; /* documents without text, left out */
};

/* Whether a document is held out. */
bool pack_holds_out(const char *id, size_t id_len, double valid_share);

/* Writes PREFIX.* and, if any document is held out, PREFIX.valid.*; if none is, those of an
 * older packing go: they would be of another split. None left for training is an error. On
 * failure what stood there before is unharmed. Bad lines are counted in c->bad. While it runs
 * PREFIX.lock keeps a second packing out, which fails. */
int pack_corpus(const struct tokenizer *t, struct corpus *c, const char *prefix, double valid_share,
                struct pack_stats *stats, struct err *e);

#endif
