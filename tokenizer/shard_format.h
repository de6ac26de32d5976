/*
 * What the reader and the writer of token shards share: names, numbers and the
 * record in PREFIX.json. Users of shards need shard.h only.
 */
#ifndef TOKENIZER_SHARD_FORMAT_H
#define TOKENIZER_SHARD_FORMAT_H

#include "tokenizer/shard.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "token shards are little-endian and mapped as they are"
#endif

#define SHARD_FORMAT      "mundwerk-shard"
#define SHARD_VERSION     1
#define SHARD_MAGIC       "MMIDIDX\0" /* and the NUL that ends the literal: 9 bytes */
#define SHARD_IDX_HEAD    34          /* magic 9, version 8, dtype 1, two counts 16 */
#define SHARD_CODE_I32    4
#define SHARD_CODE_U16    8
#define SHARD_BLOCK_BYTES ((uint64_t)64 << 10)
#define SHARD_ID_STRIDE   64
#define SHARD_VOCAB_MAX   (1 << 24)
#define SHARD_JSON_MAX    ((size_t)64 << 10)
#define SHARD_HEAD_KEYS   9
#define SHARD_UNSEALED    "the file was changed after packing (its last line does not fit)"

enum shard_part_id { SHARD_BIN, SHARD_IDX, SHARD_IDS, SHARD_BYTES, SHARD_SUM, SHARD_PART_COUNT };
extern const char *const shard_part_names[SHARD_PART_COUNT]; /* "bin", "idx", … */

struct shard_part {
    uint64_t bytes;
    uint64_t hash; /* XXH3-64 of the whole file */
};

/* PREFIX.json */
struct shard_head {
    uint64_t version;
    uint64_t tokenizer;
    uint64_t vocab_size;
    uint64_t documents;
    uint64_t token_count;
    uint64_t text_bytes;
    struct shard_part parts[SHARD_PART_COUNT];
};

static inline unsigned shard_token_bytes(uint32_t vocab_size)
{
    return vocab_size <= 65536 ? 2 : 4;
}

char *shard_path(const char *prefix, const char *part); /* "PREFIX.part"; caller frees */
uint64_t shard_fingerprint(const void *sum, size_t sum_bytes, const void *idx, size_t idx_bytes);

#endif
