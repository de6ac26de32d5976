/*
 * Owns a tokenizer's life: loading the folder, the questions others ask of it,
 * decoding, and copying it into another folder. The format is vocab_json.c's,
 * encoding is encoder.c's.
 */
#include "tokenizer/tokenizer.h"

#include "common/fs.h"
#include "common/hash.h"
#include "tokenizer/vocab.h"

#include <inttypes.h>
#include <string.h>

/* 128k-entry vocabularies take 10 MB; anything larger than this is another kind of file. */
#define JSON_BYTES_MAX   ((size_t)512 << 20)
#define CONFIG_BYTES_MAX ((size_t)16 << 20)

void ids_add(struct ids *ids, uint32_t id)
{
    if (ids->count == ids->capacity)
        ids->v = mem_grow(ids->v, &ids->capacity, ids->count + 1, sizeof(*ids->v));
    ids->v[ids->count++] = id;
}

void ids_release(struct ids *ids)
{
    free(ids->v);
    memset(ids, 0, sizeof(*ids));
}

int tokenizer_parse(struct tokenizer **out, const char *json, size_t len, const char *name,
                    struct err *e)
{
    struct tokenizer *t = mem_zalloc(1, sizeof(*t));
    *out = NULL;
    buf_add(&t->json, json, len);
    t->hash = hash64(json, len);
    if (vocab_read_json(t, name, e)) {
        tokenizer_free(t);
        return -1;
    }
    *out = t;
    return 0;
}

/* Reads a file of the folder that may be missing; NULL in *text then. */
static int read_optional(char **text, const char *dir, const char *name, struct err *e)
{
    struct buf b = {0};
    char *path = fs_join(dir, "%s", name);
    int failed = 0;
    if (fs_exists(path)) {
        failed = fs_read(&b, path, CONFIG_BYTES_MAX, e);
        if (!failed)
            *text = mem_strndup(b.data ? b.data : "", b.len);
    }
    buf_release(&b);
    free(path);
    return failed;
}

int tokenizer_load(struct tokenizer **t, const char *dir, struct err *e)
{
    struct buf json = {0};
    char *path = fs_join(dir, "tokenizer.json");
    *t = NULL;
    int failed = fs_read(&json, path, JSON_BYTES_MAX, e) ||
                 tokenizer_parse(t, json.data, json.len, path, e);
    if (!failed && (read_optional(&(*t)->config, dir, "tokenizer_config.json", e) ||
                    read_optional(&(*t)->special_map, dir, "special_tokens_map.json", e))) {
        tokenizer_free(*t);
        *t = NULL;
        failed = -1;
    }
    buf_release(&json);
    free(path);
    return failed ? -1 : 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    buf_release(&t->json);
    buf_release(&t->bytes);
    free(t->config);
    free(t->special_map);
    free(t->regex);
    pattern_free(t->pattern);
    free(t->tokens);
    free(t->added_lens);
    names_release(&t->added);
    names_release(&t->names);
    merges_release(&t->merges);
    free(t);
}

uint32_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->count;
}

uint64_t tokenizer_hash(const struct tokenizer *t)
{
    return t->hash;
}

const char *tokenizer_pattern_name(const struct tokenizer *t)
{
    return pattern_name(t->regex);
}

const char *tokenizer_token(const struct tokenizer *t, uint32_t id, size_t *len)
{
    MW_ASSERT(id < t->count);
    *len = t->tokens[id].len;
    return t->bytes.data + t->tokens[id].start;
}

bool tokenizer_has_specials(const struct tokenizer *t)
{
    static const char *const names[TOKEN_SPECIAL_COUNT] = {"<unk>", "<s>", "</s>", "<pad>"};
    for (uint32_t id = 0; id < TOKEN_SPECIAL_COUNT; id++) {
        size_t len = strlen(names[id]);
        if (id >= t->count || !t->tokens[id].special || t->tokens[id].len != len ||
            memcmp(t->bytes.data + t->tokens[id].start, names[id], len))
            return false;
    }
    return true;
}

static int write_file(const char *dir, const char *name, const char *text, size_t len,
                      struct err *e)
{
    char *path = fs_join(dir, "%s", name);
    int failed = fs_write(path, text, len, e);
    free(path);
    return failed;
}

int tokenizer_copy(const struct tokenizer *t, const char *dir, struct err *e)
{
    struct buf config = {0}, map = {0};
    /* A file that was not there is made only if it would tell the truth. */
    if (t->config)
        buf_puts(&config, t->config);
    else if (tokenizer_has_specials(t))
        vocab_write_config(&config);
    if (t->special_map)
        buf_puts(&map, t->special_map);
    else if (tokenizer_has_specials(t))
        vocab_write_special_map(&map);
    int failed = fs_mkdirs(dir, e) ||
                 write_file(dir, "tokenizer.json", t->json.data, t->json.len, e) ||
                 (config.len &&
                  write_file(dir, "tokenizer_config.json", config.data, config.len, e)) ||
                 (map.len && write_file(dir, "special_tokens_map.json", map.data, map.len, e));
    buf_release(&config);
    buf_release(&map);
    return failed ? -1 : 0;
}

int tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t count,
                     bool skip_special, struct buf *out, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= t->count)
            return err_set(e, "id %" PRIu32 " at place %zu is outside the vocabulary of %" PRIu32,
                           ids[i], i, t->count);
        const struct token *token = &t->tokens[ids[i]];
        if (!(skip_special && token->special))
            buf_add(out, t->bytes.data + token->start, token->len);
    }
    return 0;
}
