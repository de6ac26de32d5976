/*
 * Token shards on disk: Megatron's PREFIX.bin (the ids of all documents, one
 * after the other) and PREFIX.idx (their lengths and places), which other
 * trainers can read, and four files of our own:
 *
 *   PREFIX.ids    one document id a line; bytes below 0x20 stand as %0A etc.
 *   PREFIX.bytes  u64 per document: UTF-8 bytes of its text
 *   PREFIX.sum    u64 per 64 KiB block of .bin: its XXH3-64
 *   PREFIX.json   tokenizer hash, counts, size and XXH3-64 of each file (sealed)
 *
 * Written by `tokenizer pack`, read by train and eval. Ids are uint16 for
 * vocabularies up to 65,536 and int32 above. Each document begins with <s> and
 * ends with </s> (llammlein.md §3.5a). All numbers are little-endian.
 *
 * .idx: "MMIDIDX\0\0" (9 bytes), u64 version 1, u8 dtype code (4 = int32,
 * 8 = uint16), u64 sequence count S, u64 D, i32 lengths[S], i64 byte
 * offsets[S], i64 document borders[D] (0, 1, …, S: each sequence is a document,
 * so D = S + 1).
 *
 * What is checked when: shard_open() checks every file but .bin whole (hash, and
 * the index against the sizes). .bin may be larger than memory, so each of its
 * blocks is checked (hash, and every id < vocab_size) when it is first read. A
 * flipped bit is thus found before it reaches the model, at the price of one pass.
 */
#ifndef TOKENIZER_SHARD_H
#define TOKENIZER_SHARD_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shard {
    char *prefix;
    uint64_t token_count;
    uint64_t doc_count;
    unsigned token_bytes;      /* 2 or 4 */
    uint64_t tokenizer_hash;   /* of the tokenizer that wrote it */
    uint32_t vocab_size;       /* every id is smaller */
    uint64_t bytes;            /* of UTF-8 text behind the tokens, without specials */
    uint64_t fingerprint;      /* XXH3-64 of .sum and .idx joined: of all tokens and borders */
    const uint64_t *doc_start; /* (doc_count + 1) token index of each document's first token */
    struct shard_map *map;
};

/* Maps the files, checks sizes and the index against each other. A missing file's error
 * is a sentence; `shard_exists()` tells whether to give advice instead. */
int shard_open(struct shard *s, const char *prefix, struct err *e);
void shard_close(struct shard *s);
bool shard_exists(const char *prefix);

/* Copies `count` tokens from flat position `at` of all documents joined; at + count <=
 * token_count. Fails if .bin was damaged there; the sentence names the byte. Threads may
 * call it at the same time. */
int shard_tokens(const struct shard *s, uint64_t at, size_t count, uint32_t *out, struct err *e);
/* The document that holds flat token position `at`. */
uint64_t shard_doc_at(const struct shard *s, uint64_t at);
/* Its id as in PREFIX.ids (the writer spells control characters %XX), not NUL-terminated;
 * borrowed until shard_close(). */
const char *shard_doc_id(const struct shard *s, uint64_t doc, size_t *len);
/* UTF-8 bytes of its text, for bits per byte. */
uint64_t shard_doc_bytes(const struct shard *s, uint64_t doc);

/* Writes shards document by document, in order. All files carry temporary names until
 * shard_writer_commit(), which fsyncs them all and then renames, .idx last. An older shard
 * of that name stays as it is until the new one lies whole on the disk. */
struct shard_writer;
int shard_writer_open(struct shard_writer **w, const char *prefix, uint32_t vocab_size,
                      uint64_t tokenizer_hash, struct err *e);
/* tokens with their <s> and </s>, ids < vocab_size; text_bytes of UTF-8 behind them. */
int shard_writer_add(struct shard_writer *w, const char *id, size_t id_len, const uint32_t *tokens,
                     size_t count, uint64_t text_bytes, struct err *e);
/* Brings all to the disk under its temporary names, so that of several shards the first is
 * committed when the last can no longer fail for lack of room. May be left out. */
int shard_writer_finish(struct shard_writer *w, struct err *e);
int shard_writer_commit(struct shard_writer *w, struct err *e); /* frees w in any case */
void shard_writer_abort(struct shard_writer *w);                /* removes what was written */
/* Removes the shard at prefix, .idx first: from then on there is none. None there is no error. */
int shard_remove(const char *prefix, struct err *e);

#endif
