/*
 * Token shards: the writer. Documents stream through; what stays in memory is
 * four bytes a document (its length) and eight a block of .bin (its hash).
 * Every file is written as PREFIX.part.new and brought to the disk before the
 * first rename, so a full disk costs the new shard and nothing else.
 */
#include "common/file.h"
#include "common/fs.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/seal.h"
#include "tokenizer/shard_format.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char *const shard_part_names[SHARD_PART_COUNT] = {"bin", "idx", "ids", "bytes", "sum"};

struct shard_writer {
    char *prefix;
    struct file_out files[SHARD_PART_COUNT];
    struct shard_head head;
    unsigned token_bytes;
    int32_t *lengths; /* a document each */
    size_t lengths_capacity;
    struct buf block; /* bytes of .bin since the last block border */
    struct buf sums;  /* the file .sum */
    struct buf line;  /* scratch */
    bool failed;      /* a write failed: nothing more may be added */
    bool written;     /* all lies on the disk, under temporary names */
};

char *shard_path(const char *prefix, const char *part)
{
    struct buf b = {0};
    buf_printf(&b, "%s.%s", prefix, part);
    return b.data;
}

uint64_t shard_fingerprint(const void *sum, size_t sum_bytes, const void *idx, size_t idx_bytes)
{
    struct hash_state *h = hash_new();
    hash_add(h, sum, sum_bytes);
    hash_add(h, idx, idx_bytes);
    uint64_t v = hash_end(h);
    hash_free(h);
    return v;
}

static char *new_path(const struct shard_writer *w, const char *part)
{
    struct buf b = {0};
    buf_printf(&b, "%s.%s.new", w->prefix, part);
    return b.data;
}

/* The folder in which the shard lies, "." if the prefix names none; caller frees. */
static char *folder_of(const char *prefix)
{
    size_t len = (size_t)(fs_base(prefix) - prefix);
    return len ? mem_strndup(prefix, len) : mem_strdup(".");
}

int shard_writer_open(struct shard_writer **out, const char *prefix, uint32_t vocab_size,
                      uint64_t tokenizer_hash, struct err *e)
{
    MW_ASSERT(vocab_size >= 1 && vocab_size <= SHARD_VOCAB_MAX);
    struct shard_writer *w = mem_zalloc(1, sizeof(*w));
    char *folder = folder_of(prefix);
    int r = fs_mkdirs(folder, e);
    free(folder);
    w->prefix = mem_strdup(prefix);
    w->head.version = SHARD_VERSION;
    w->head.vocab_size = vocab_size;
    w->head.tokenizer = tokenizer_hash;
    w->token_bytes = shard_token_bytes(vocab_size);
    for (int i = 0; i < SHARD_PART_COUNT && !r; i++) {
        char *path = new_path(w, shard_part_names[i]);
        unlink(path); /* left by a run that was killed */
        r = file_create(&w->files[i], path, e);
        free(path);
    }
    if (r) {
        shard_writer_abort(w);
        return err_add(e, "token shard");
    }
    *out = w;
    return 0;
}

/* Closes the block: its hash goes to .sum, its bytes to .bin. */
static int end_block(struct shard_writer *w, struct err *e)
{
    uint64_t h = hash64(w->block.data, w->block.len);
    buf_add(&w->sums, &h, sizeof(h));
    int r = file_write(&w->files[SHARD_BIN], w->block.data, w->block.len, e);
    buf_clear(&w->block);
    return r;
}

static int add_tokens(struct shard_writer *w, const char *id, size_t id_len, const uint32_t *tokens,
                      size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] >= w->head.vocab_size)
            return err_set(e, "document %.*s: token %zu is id %u, but the vocabulary ends at %llu",
                           (int)(id_len < 200 ? id_len : 200), id, i, tokens[i],
                           (unsigned long long)w->head.vocab_size - 1);
        uint16_t narrow = (uint16_t)tokens[i];
        buf_add(&w->block, w->token_bytes == 2 ? (const void *)&narrow : &tokens[i],
                w->token_bytes);
        if (w->block.len == SHARD_BLOCK_BYTES && end_block(w, e))
            return -1;
    }
    return 0;
}

static void put_id(struct buf *b, const char *id, size_t len)
{
    buf_clear(b);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)id[i] < 0x20)
            buf_printf(b, "%%%02X", (unsigned)id[i]);
        else
            buf_putc(b, id[i]);
    }
    buf_putc(b, '\n');
}

int shard_writer_add(struct shard_writer *w, const char *id, size_t id_len, const uint32_t *tokens,
                     size_t count, uint64_t text_bytes, struct err *e)
{
    MW_ASSERT(!w->failed);
    if (count > INT32_MAX)
        return err_set(e, "token shard %s: document %.*s has %zu tokens; Megatron's limit is %d",
                       w->prefix, (int)(id_len < 200 ? id_len : 200), id, count, INT32_MAX);
    put_id(&w->line, id, id_len);
    if (add_tokens(w, id, id_len, tokens, count, e) ||
        file_write(&w->files[SHARD_IDS], w->line.data, w->line.len, e) ||
        file_write(&w->files[SHARD_BYTES], &text_bytes, sizeof(text_bytes), e)) {
        w->failed = true;
        return err_add(e, "token shard %s", w->prefix);
    }
    w->lengths = mem_grow(w->lengths, &w->lengths_capacity, (size_t)w->head.documents + 1,
                          sizeof(*w->lengths));
    w->lengths[w->head.documents++] = (int32_t)count;
    w->head.token_count += count;
    w->head.text_bytes += text_bytes;
    return 0;
}

static int write_idx(struct shard_writer *w, struct err *e)
{
    struct file_out *f = &w->files[SHARD_IDX];
    uint64_t docs = w->head.documents, borders = docs + 1, version = 1, at = 0;
    unsigned char code = w->token_bytes == 2 ? SHARD_CODE_U16 : SHARD_CODE_I32;
    int r = file_write(f, SHARD_MAGIC, 9, e) || file_write(f, &version, 8, e) ||
            file_write(f, &code, 1, e) || file_write(f, &docs, 8, e) ||
            file_write(f, &borders, 8, e) || file_write(f, w->lengths, 4 * docs, e);
    for (uint64_t i = 0; i < docs && !r; i++) {
        r = file_write(f, &at, 8, e);
        at += (uint64_t)w->lengths[i] * w->token_bytes;
    }
    for (uint64_t i = 0; i <= docs && !r; i++)
        r = file_write(f, &i, 8, e);
    return r ? -1 : 0;
}

static int write_head(struct shard_writer *w, struct err *e)
{
    const struct shard_head *h = &w->head;
    struct file_out f = {0};
    struct buf b = {0};
    buf_printf(&b, "{\n  \"format\": \"%s\",\n  \"version\": %d,\n", SHARD_FORMAT, SHARD_VERSION);
    buf_printf(&b, "  \"tokenizer\": \"%016llx\",\n", (unsigned long long)h->tokenizer);
    buf_printf(&b, "  \"vocab_size\": %llu,\n  \"documents\": %llu,\n  \"tokens\": %llu,\n",
               (unsigned long long)h->vocab_size, (unsigned long long)h->documents,
               (unsigned long long)h->token_count);
    buf_printf(&b, "  \"bytes\": %llu,\n  \"files\": {\n", (unsigned long long)h->text_bytes);
    for (int i = 0; i < SHARD_PART_COUNT; i++)
        buf_printf(&b, "    \"%s\": {\"bytes\": %llu, \"xxh3_64\": \"%016llx\"}%s\n",
                   shard_part_names[i], (unsigned long long)h->parts[i].bytes,
                   (unsigned long long)h->parts[i].hash, i + 1 < SHARD_PART_COUNT ? "," : "");
    buf_puts(&b, "  },\n");
    seal_put(&b, 0);
    char *path = new_path(w, "json");
    unlink(path);
    int r = file_create(&f, path, e) || file_write(&f, b.data, b.len, e);
    if (r)
        file_abort(&f);
    else
        r = file_finish(&f, NULL, e);
    if (r)
        unlink(path);
    free(path);
    buf_release(&b);
    return r ? -1 : 0;
}

static int write_all(struct shard_writer *w, struct err *e)
{
    if (w->failed)
        return err_set(e, "an earlier write failed");
    if ((w->block.len && end_block(w, e)) ||
        file_write(&w->files[SHARD_SUM], w->sums.data, w->sums.len, e) || write_idx(w, e))
        return -1;
    for (int i = 0; i < SHARD_PART_COUNT; i++) {
        w->head.parts[i].bytes = w->files[i].bytes;
        if (file_finish(&w->files[i], &w->head.parts[i].hash, e))
            return -1;
    }
    return write_head(w, e);
}

static int rename_part(const struct shard_writer *w, const char *part, struct err *e)
{
    char *from = new_path(w, part), *to = shard_path(w->prefix, part);
    int r = rename(from, to) ? err_set(e, "cannot rename %s to %s: %s", from, to, strerror(errno))
                             : 0;
    free(from);
    free(to);
    return r;
}

static int remove_part(const char *prefix, const char *part, struct err *e)
{
    char *path = shard_path(prefix, part);
    int r = unlink(path) && errno != ENOENT
                ? err_set(e, "cannot remove the old %s: %s", path, strerror(errno))
                : 0;
    free(path);
    return r;
}

/* Without .idx there is no shard, on the disk either once this has returned. */
static int remove_idx(const char *prefix, struct err *e)
{
    char *folder = folder_of(prefix), *idx = shard_path(prefix, "idx");
    int r = 0;
    if (!unlink(idx))
        r = fs_sync_folder(folder, e);
    else if (errno != ENOENT)
        r = err_set(e, "cannot remove the old %s: %s", idx, strerror(errno));
    free(idx);
    free(folder);
    return r;
}

int shard_remove(const char *prefix, struct err *e)
{
    if (remove_idx(prefix, e))
        return -1;
    for (int i = 0; i < SHARD_PART_COUNT; i++)
        if (remove_part(prefix, shard_part_names[i], e))
            return -1;
    return remove_part(prefix, "json", e);
}

/* .idx goes first when an old shard leaves and comes last when the new one arrives: with
 * it, a shard exists (shard_exists()). */
static int rename_all(const struct shard_writer *w, struct err *e)
{
    static const char *const order[] = {"bin", "ids", "bytes", "sum", "json", "idx"};
    char *folder = folder_of(w->prefix);
    int r = remove_idx(w->prefix, e);
    for (size_t i = 0; i < sizeof(order) / sizeof(*order) && !r; i++)
        r = rename_part(w, order[i], e);
    if (!r)
        r = fs_sync_folder(folder, e);
    free(folder);
    return r;
}

int shard_writer_finish(struct shard_writer *w, struct err *e)
{
    MW_ASSERT(!w->written);
    if (write_all(w, e)) {
        w->failed = true;
        return err_add(e, "token shard %s", w->prefix);
    }
    w->written = true;
    return 0;
}

int shard_writer_commit(struct shard_writer *w, struct err *e)
{
    int r = w->written ? 0 : shard_writer_finish(w, e);
    if (!r && rename_all(w, e))
        r = err_add(e, "token shard %s", w->prefix);
    shard_writer_abort(w); /* removes what was not renamed, frees */
    return r;
}

void shard_writer_abort(struct shard_writer *w)
{
    if (!w)
        return;
    for (int i = 0; i <= SHARD_PART_COUNT; i++) {
        char *path = new_path(w, i < SHARD_PART_COUNT ? shard_part_names[i] : "json");
        if (i < SHARD_PART_COUNT)
            file_abort(&w->files[i]);
        unlink(path);
        free(path);
    }
    free(w->prefix);
    free(w->lengths);
    buf_release(&w->block);
    buf_release(&w->sums);
    buf_release(&w->line);
    free(w);
}
