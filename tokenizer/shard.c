/*
 * Token shards: the reader. It maps what pack wrote and trusts nothing in it:
 * shard.json gives sizes and hashes, every file is held against them, and the
 * index against the size of .bin, before anything is allocated by a number
 * from a file. The writer is in shard_write.c, the format in shard_format.h.
 */
#include "tokenizer/shard.h"

#include "common/file.h"
#include "common/fs.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/seal.h"
#include "tokenizer/shard_format.h"

#include <string.h>

struct shard_map {
    struct file_map bin, idx, ids, bytes, sum;
    uint64_t *doc_start; /* (D + 1), from mem_map */
    size_t doc_start_bytes;
    uint64_t *id_at;   /* byte in .ids of every SHARD_ID_STRIDE-th line */
    uint64_t *checked; /* a bit per block of .bin: its hash and ids were found right */
};

static uint64_t u64_at(const unsigned char *p, uint64_t i)
{
    uint64_t v;
    memcpy(&v, p + 8 * i, sizeof(v));
    return v;
}

/* --- shard.json ------------------------------------------------------------ */

static int read_part(struct json *j, struct shard_part *part)
{
    char key[32];
    uint64_t seen = 0;
    if (json_object(j))
        return -1;
    for (int r; (r = json_next_key(j, key, sizeof(key))) != 0;) {
        if (r < 0)
            return -1;
        struct buf hex = {0};
        if (!strcmp(key, "bytes")) {
            r = json_seen(j, &seen, 0) || json_u64(j, &part->bytes);
        } else if (!strcmp(key, "xxh3_64")) {
            r = json_seen(j, &seen, 1) || json_string(j, &hex) ||
                (hash_parse(hex.data, hex.len, &part->hash) && json_fail(j, "not 16 hex digits"));
        } else {
            r = json_fail(j, "unknown key");
        }
        buf_release(&hex);
        if (r)
            return -1;
    }
    return seen == 3 ? 0 : json_fail(j, "needs bytes and xxh3_64");
}

static int read_parts(struct json *j, struct shard_head *h)
{
    char key[32];
    uint64_t seen = 0;
    if (json_object(j))
        return -1;
    for (int r; (r = json_next_key(j, key, sizeof(key))) != 0;) {
        unsigned i = 0;
        if (r < 0)
            return -1;
        while (i < SHARD_PART_COUNT && strcmp(key, shard_part_names[i]))
            i++;
        if (i == SHARD_PART_COUNT)
            return json_fail(j, "unknown file");
        if (json_seen(j, &seen, i) || read_part(j, &h->parts[i]))
            return -1;
    }
    return seen == (1u << SHARD_PART_COUNT) - 1 ? 0 : json_fail(j, "a file is missing");
}

static int read_head_member(struct json *j, const char *key, struct shard_head *h, uint64_t *seen)
{
    static const char *const names[] = {"format", "version", "tokenizer", "vocab_size", "documents",
                                        "tokens", "bytes",   "files",     SEAL_KEY};
    struct buf text = {0};
    uint64_t *numbers[] = {NULL,           &h->version,   NULL,
                           &h->vocab_size, &h->documents, &h->token_count,
                           &h->text_bytes, NULL,          NULL};
    unsigned i = 0;
    int r;
    while (i < SHARD_HEAD_KEYS && strcmp(key, names[i]))
        i++;
    if (i == SHARD_HEAD_KEYS)
        return json_fail(j, "unknown key");
    if (json_seen(j, seen, i))
        return -1;
    if (numbers[i])
        return json_u64(j, numbers[i]);
    if (i == 7)
        return read_parts(j, h);
    r = json_string(j, &text);
    if (!r && i == 0 && strcmp(text.data, SHARD_FORMAT))
        r = json_fail(j, "format is not \"" SHARD_FORMAT "\"");
    if (!r && i == 2 && hash_parse(text.data, text.len, &h->tokenizer))
        r = json_fail(j, "tokenizer is not 16 hex digits");
    buf_release(&text);
    return r;
}

static int read_head(struct shard_head *h, const char *path, struct err *e)
{
    struct buf text = {0};
    struct json j;
    char key[32];
    uint64_t seen = 0;
    int r;
    memset(h, 0, sizeof(*h));
    if (fs_read(&text, path, SHARD_JSON_MAX, e)) {
        buf_release(&text);
        return -1;
    }
    json_open(&j, text.data, text.len);
    r = seal_holds(text.data, text.len) ? json_object(&j) : json_fail(&j, SHARD_UNSEALED);
    while (!r && (r = json_next_key(&j, key, sizeof(key))) > 0)
        r = read_head_member(&j, key, h, &seen);
    if (!r)
        r = json_end(&j);
    if (!r && seen != (1u << SHARD_HEAD_KEYS) - 1)
        r = json_fail(&j, "a key is missing");
    if (r)
        json_report(&j, path, e);
    else if (h->version != SHARD_VERSION)
        r = err_set(e, "%s: version is %llu, this program reads %d", path,
                    (unsigned long long)h->version, SHARD_VERSION);
    else if (h->vocab_size < 1 || h->vocab_size > SHARD_VOCAB_MAX)
        r = err_set(e, "%s: vocab_size %llu is out of range (1 to %d)", path,
                    (unsigned long long)h->vocab_size, SHARD_VOCAB_MAX);
    buf_release(&text);
    return r ? -1 : 0;
}

/* --- opening ---------------------------------------------------------------- */

static struct file_map *part_map(struct shard_map *m, enum shard_part_id i)
{
    struct file_map *maps[] = {&m->bin, &m->idx, &m->ids, &m->bytes, &m->sum};
    return maps[i];
}

static int open_part(struct shard *s, const struct shard_head *h, enum shard_part_id i,
                     struct err *e)
{
    struct file_map *m = part_map(s->map, i);
    char *path = shard_path(s->prefix, shard_part_names[i]);
    int r = file_map(m, path, e);
    if (!r && m->bytes != h->parts[i].bytes)
        r = err_set(e, "%s has %zu bytes, but %s.json says %llu; pack the documents again", path,
                    m->bytes, s->prefix, (unsigned long long)h->parts[i].bytes);
    if (!r && i != SHARD_BIN && hash64(m->data, m->bytes) != h->parts[i].hash)
        r = err_set(e, "%s was changed after packing: its hash differs from the one in %s.json",
                    path, s->prefix);
    free(path);
    return r;
}

/* Sizes that follow from the counts; products cannot overflow after the first test. */
static int check_sizes(const struct shard *s, const struct shard_head *h, struct err *e)
{
    const struct shard_part *p = h->parts;
    uint64_t blocks = p[SHARD_BIN].bytes / SHARD_BLOCK_BYTES +
                      (p[SHARD_BIN].bytes % SHARD_BLOCK_BYTES != 0);
    const char *what = NULL;
    if (h->documents > p[SHARD_IDX].bytes || h->token_count > p[SHARD_BIN].bytes)
        what = "more documents or tokens than bytes";
    else if (p[SHARD_BIN].bytes != h->token_count * s->token_bytes)
        what = ".bin does not fit the number of tokens";
    else if (p[SHARD_IDX].bytes != SHARD_IDX_HEAD + 12 * h->documents + 8 * (h->documents + 1))
        what = ".idx does not fit the number of documents";
    else if (p[SHARD_BYTES].bytes != 8 * h->documents)
        what = ".bytes does not fit the number of documents";
    else if (p[SHARD_SUM].bytes != 8 * blocks)
        what = ".sum does not fit the size of .bin";
    return what ? err_set(e, "%s.json: sizes do not agree: %s", s->prefix, what) : 0;
}

static int check_idx_head(const struct shard *s, struct err *e)
{
    const unsigned char *p = s->map->idx.data;
    unsigned code = s->token_bytes == 2 ? SHARD_CODE_U16 : SHARD_CODE_I32;
    if (memcmp(p, SHARD_MAGIC, 9))
        return err_set(e, "%s.idx: byte 0: not a Megatron index (MMIDIDX)", s->prefix);
    if (u64_at(p + 9, 0) != 1)
        return err_set(e, "%s.idx: byte 9: version is not 1 in little-endian", s->prefix);
    if (p[17] != code)
        return err_set(e, "%s.idx: byte 17: dtype code %u, but the vocabulary needs %u", s->prefix,
                       p[17], code);
    if (u64_at(p + 18, 0) != s->doc_count || u64_at(p + 26, 0) != s->doc_count + 1)
        return err_set(e, "%s.idx: byte 18: number of documents differs from %s.json", s->prefix,
                       s->prefix);
    return 0;
}

/* Lengths, offsets and borders against each other; fills doc_start and sums the text bytes. */
static int check_idx(struct shard *s, struct err *e)
{
    uint64_t docs = s->doc_count, at = 0, text = 0;
    const unsigned char *lengths = s->map->idx.data + SHARD_IDX_HEAD;
    const unsigned char *offsets = lengths + 4 * docs, *borders = offsets + 8 * docs;
    for (uint64_t i = 0; i < docs; i++) {
        int32_t length;
        uint64_t bytes = u64_at(s->map->bytes.data, i);
        memcpy(&length, lengths + 4 * i, sizeof(length));
        if (length < 0 || (uint64_t)length > s->token_count - at ||
            u64_at(offsets, i) != at * s->token_bytes || u64_at(borders, i) != i)
            return err_set(e, "%s.idx: document %llu does not follow the one before it", s->prefix,
                           (unsigned long long)i);
        if (bytes > UINT64_MAX - text)
            return err_set(e, "%s.bytes: byte %llu: sum of the sizes is too large", s->prefix,
                           (unsigned long long)(8 * i));
        s->map->doc_start[i] = at;
        at += (uint64_t)length;
        text += bytes;
    }
    s->map->doc_start[docs] = at;
    if (u64_at(borders, docs) != docs || at != s->token_count)
        return err_set(e, "%s.idx: documents hold %llu tokens, %s.json says %llu", s->prefix,
                       (unsigned long long)at, s->prefix, (unsigned long long)s->token_count);
    if (text != s->bytes)
        return err_set(e, "%s.bytes: sizes sum to %llu, %s.json says %llu", s->prefix,
                       (unsigned long long)text, s->prefix, (unsigned long long)s->bytes);
    return 0;
}

/* Remembers every SHARD_ID_STRIDE-th line: a full index would be 8 bytes a document. */
static int index_ids(struct shard *s, struct err *e)
{
    const char *text = (const char *)s->map->ids.data;
    size_t len = s->map->ids.bytes;
    uint64_t line = 0;
    s->map->id_at = mem_zalloc(s->doc_count / SHARD_ID_STRIDE + 1, sizeof(uint64_t));
    for (size_t at = 0; at < len; line++) {
        const char *end = memchr(text + at, '\n', len - at);
        if (!end || line == s->doc_count)
            return err_set(e, "%s.ids: byte %zu: %s", s->prefix, at,
                           end ? "more lines than documents" : "last line has no end");
        if (line % SHARD_ID_STRIDE == 0)
            s->map->id_at[line / SHARD_ID_STRIDE] = at;
        at = (size_t)(end - text) + 1;
    }
    return line == s->doc_count
               ? 0
               : err_set(e, "%s.ids has %llu lines for %llu documents", s->prefix,
                         (unsigned long long)line, (unsigned long long)s->doc_count);
}

static int open_all(struct shard *s, struct err *e)
{
    struct shard_head h;
    struct shard_map *m = s->map;
    char *path = shard_path(s->prefix, "json");
    int r = read_head(&h, path, e);
    free(path);
    if (r)
        return -1;
    s->token_count = h.token_count;
    s->doc_count = h.documents;
    s->token_bytes = shard_token_bytes((uint32_t)h.vocab_size);
    s->tokenizer_hash = h.tokenizer;
    s->vocab_size = (uint32_t)h.vocab_size;
    s->bytes = h.text_bytes;
    for (int i = 0; i < SHARD_PART_COUNT; i++)
        if (open_part(s, &h, (enum shard_part_id)i, e))
            return -1;
    if (check_sizes(s, &h, e) || check_idx_head(s, e))
        return -1;
    m->doc_start_bytes = (s->doc_count + 1) * sizeof(uint64_t);
    m->doc_start = mem_map(m->doc_start_bytes, "the borders of the documents", e);
    if (!m->doc_start || check_idx(s, e) || index_ids(s, e))
        return -1;
    s->doc_start = m->doc_start;
    m->checked = mem_zalloc(m->sum.bytes / 8 / 64 + 1, sizeof(uint64_t));
    s->fingerprint = shard_fingerprint(m->sum.data, m->sum.bytes, m->idx.data, m->idx.bytes);
    return 0;
}

int shard_open(struct shard *s, const char *prefix, struct err *e)
{
    memset(s, 0, sizeof(*s));
    s->prefix = mem_strdup(prefix);
    s->map = mem_zalloc(1, sizeof(*s->map));
    if (!open_all(s, e))
        return 0;
    shard_close(s);
    return err_add(e, "token shard");
}

void shard_close(struct shard *s)
{
    if (s->map) {
        for (int i = 0; i < SHARD_PART_COUNT; i++)
            file_unmap(part_map(s->map, (enum shard_part_id)i));
        mem_unmap(s->map->doc_start, s->map->doc_start_bytes);
        free(s->map->id_at);
        free(s->map->checked);
        free(s->map);
    }
    free(s->prefix);
    memset(s, 0, sizeof(*s));
}

bool shard_exists(const char *prefix)
{
    char *path = shard_path(prefix, "idx");
    bool yes = fs_exists(path);
    free(path);
    return yes;
}

/* --- reading ---------------------------------------------------------------- */

/* `p` holds count ids of token_bytes each. */
static void widen(uint32_t *out, const unsigned char *p, size_t count, unsigned token_bytes)
{
    if (token_bytes == 4) {
        memcpy(out, p, 4 * count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t id;
        memcpy(&id, p + 2 * i, sizeof(id));
        out[i] = id;
    }
}

static int check_block(const struct shard *s, uint64_t block, struct err *e)
{
    const struct shard_map *m = s->map;
    uint64_t at = block * SHARD_BLOCK_BYTES;
    size_t len = m->bin.bytes - at < SHARD_BLOCK_BYTES ? m->bin.bytes - at : SHARD_BLOCK_BYTES;
    uint32_t ids[512];
    if (hash64(m->bin.data + at, len) != u64_at(m->sum.data, block))
        return err_set(e,
                       "%s.bin was changed after packing: bytes %llu to %llu do not have their "
                       "hash in %s.sum; pack the documents again",
                       s->prefix, (unsigned long long)at, (unsigned long long)(at + len - 1),
                       s->prefix);
    for (size_t i = 0, n; i < len / s->token_bytes; i += n) {
        n = len / s->token_bytes - i < 512 ? len / s->token_bytes - i : 512;
        widen(ids, m->bin.data + at + i * s->token_bytes, n, s->token_bytes);
        for (size_t k = 0; k < n; k++)
            if (ids[k] >= s->vocab_size)
                return err_set(e, "%s.bin: byte %llu: id %u, but the vocabulary ends at %u",
                               s->prefix, (unsigned long long)(at + (i + k) * s->token_bytes),
                               ids[k], s->vocab_size - 1);
    }
    return 0;
}

int shard_tokens(const struct shard *s, uint64_t at, size_t count, uint32_t *out, struct err *e)
{
    uint64_t *checked = s->map->checked;
    MW_ASSERT(at <= s->token_count && count <= s->token_count - at);
    if (!count)
        return 0;
    uint64_t last = ((at + count) * s->token_bytes - 1) / SHARD_BLOCK_BYTES;
    for (uint64_t b = at * s->token_bytes / SHARD_BLOCK_BYTES; b <= last; b++) {
        /* two threads may check the same block: the same answer twice */
        if (__atomic_load_n(&checked[b / 64], __ATOMIC_RELAXED) >> b % 64 & 1)
            continue;
        if (check_block(s, b, e))
            return err_add(e, "token shard");
        __atomic_fetch_or(&checked[b / 64], (uint64_t)1 << b % 64, __ATOMIC_RELAXED);
    }
    widen(out, s->map->bin.data + at * s->token_bytes, count, s->token_bytes);
    return 0;
}

uint64_t shard_doc_at(const struct shard *s, uint64_t at)
{
    uint64_t low = 0, high = s->doc_count; /* doc_start[low] <= at < doc_start[high] */
    MW_ASSERT(at < s->token_count);
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (s->doc_start[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const char *shard_doc_id(const struct shard *s, uint64_t doc, size_t *len)
{
    MW_ASSERT(doc < s->doc_count);
    const char *text = (const char *)s->map->ids.data, *end = text + s->map->ids.bytes;
    const char *p = text + s->map->id_at[doc / SHARD_ID_STRIDE];
    for (uint64_t i = doc % SHARD_ID_STRIDE; i; i--)
        p = (const char *)memchr(p, '\n', (size_t)(end - p)) + 1;
    *len = (size_t)((const char *)memchr(p, '\n', (size_t)(end - p)) - p);
    return p;
}

uint64_t shard_doc_bytes(const struct shard *s, uint64_t doc)
{
    MW_ASSERT(doc < s->doc_count);
    return u64_at(s->map->bytes.data, doc);
}
