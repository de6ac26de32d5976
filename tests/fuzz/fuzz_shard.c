/*
 * Any bytes as the files of a token shard whose sizes and hashes are right, so that the
 * checks of what they hold are reached. What opens must be readable whole.
 */
#include "common/fs.h"
#include "common/hash.h"
#include "common/seal.h"
#include "tokenizer/shard_format.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile uint64_t sink;
static char *prefix;

static void put(const char *part, const void *data, size_t len)
{
    char *path = shard_path(prefix, part);
    FILE *f = fopen(path, "wb");
    MW_ASSERT(f && fwrite(data, 1, len, f) == len && !fclose(f));
    free(path);
}

/* Takes up to `want` bytes off the input, the rest zeros, and writes them as a file. */
static void put_part(struct buf *json, int part, const uint8_t **data, size_t *len, size_t want)
{
    struct buf b = {0};
    size_t n = *len < want ? *len : want;
    buf_add(&b, *data, n);
    *data += n;
    *len -= n;
    while (b.len < want)
        buf_putc(&b, 0);
    if (part == SHARD_SUM) {
        char *path = shard_path(prefix, "bin");
        uint64_t bytes, hash;
        struct err e;
        MW_ASSERT(!hash_file(path, &hash, &bytes, &e));
        memcpy(b.data, &hash, want); /* one block: .bin is small here */
        free(path);
    }
    put(shard_part_names[part], want ? b.data : "", want);
    buf_printf(json, "%s\"%s\": {\"bytes\": %zu, \"xxh3_64\": \"%016llx\"}", part ? ", " : "",
               shard_part_names[part], want, (unsigned long long)hash64(b.data, want));
    buf_release(&b);
}

static void read_all(void)
{
    struct shard s;
    struct err e;
    uint32_t tokens[256];
    size_t id_len;
    if (shard_open(&s, prefix, &e))
        return;
    MW_ASSERT(s.token_count <= 256);
    if (!shard_tokens(&s, 0, s.token_count, tokens, &e))
        for (uint64_t i = 0; i < s.token_count; i++) {
            uint64_t doc = shard_doc_at(&s, i);
            MW_ASSERT(tokens[i] < s.vocab_size);
            MW_ASSERT(s.doc_start[doc] <= i && i < s.doc_start[doc + 1]);
        }
    for (uint64_t d = 0; d < s.doc_count; d++) {
        const char *id = shard_doc_id(&s, d, &id_len);
        for (size_t i = 0; i < id_len; i++)
            sink += (unsigned char)id[i];
        sink += shard_doc_bytes(&s, d);
    }
    shard_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf json = {0};
    if (!prefix) {
        const char *folder = getenv("TMPDIR"); /* run-fuzz.sh makes one and removes it */
        prefix = fs_join(folder ? folder : "/tmp", "fuzz-shard");
    }
    if (len < 8)
        return 0;
    uint64_t docs = data[0] % 8, tokens = data[1];
    uint32_t vocab = data[2] & 1 ? 70000 : 1u + data[3] * 256u;
    size_t sizes[SHARD_PART_COUNT] = {tokens * shard_token_bytes(vocab), 42 + 20 * docs, data[4],
                                      8 * docs, tokens ? 8 : 0};
    buf_printf(&json, "{\"format\": \"%s\", \"version\": 1, \"tokenizer\": \"0123456789abcdef\", ",
               SHARD_FORMAT);
    buf_printf(&json, "\"vocab_size\": %u, \"documents\": %llu, \"tokens\": %llu, \"bytes\": %u, ",
               vocab, (unsigned long long)docs, (unsigned long long)tokens, data[5]);
    buf_puts(&json, "\"files\": {");
    data += 6;
    len -= 6;
    for (int i = 0; i < SHARD_PART_COUNT; i++)
        put_part(&json, i, &data, &len, sizes[i]);
    buf_puts(&json, "},\n");
    seal_put(&json, 0);
    put("json", json.data, json.len);
    buf_release(&json);
    read_all();
    return 0;
}
