/*
 * Owns the format of tokenizer.json: strict reading of the byte-level BPE files
 * that Hugging Face tokenizers writes, and writing our own (spec/tokenizer.md §4.1).
 *
 * Everything later code relies on is checked here: ids are 0 … count-1 without
 * gap or double, every byte has a token, both parts and the result of each merge
 * are tokens. What could change ids and is not supported (normalizers, other
 * pre-tokenizers, dropout …) is refused by name, never ignored.
 */
#include "tokenizer/vocab.h"

#include "common/json.h"
#include "tokenizer/bytemap.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define NAME_BYTES_MAX (64 * 1024)

struct loader {
    struct tokenizer *t;
    const char *name; /* opens error sentences */
    struct err *e;
    struct json vocab, merges, added; /* readers at these values; text NULL if absent */
    bool ignore_merges;
    char key[NAME_BYTES_MAX + 1];
};

__attribute__((format(printf, 3, 4))) static int fail(struct loader *l, const struct json *j,
                                                      const char *fmt, ...)
{
    char why[512];
    va_list ap;
    if (j->error)
        return json_report(j, l->name, l->e);
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    return err_set(l->e, "%s: byte %zu: %s", l->name, j->at, why);
}

/* The reader stopped, unless what it stopped at has its sentence already. */
static int broken(struct loader *l, const struct json *j)
{
    return l->e->msg[0] ? -1 : json_report(j, l->name, l->e);
}

/* --- the parts around the model ------------------------------------------- */

static int expect_string(struct loader *l, struct json *j, const char *what, const char *wanted)
{
    struct buf got = {0};
    int failed = 0;
    if (json_string(j, &got))
        failed = broken(l, j);
    else if (strcmp(got.data, wanted))
        failed = fail(l, j, "%s is \"%.60s\"; only \"%s\" is supported", what, got.data, wanted);
    buf_release(&got);
    return failed;
}

/* null, or also "" and 0 and false where they mean the same. */
static int expect_nothing(struct loader *l, struct json *j, const char *what)
{
    struct buf s = {0};
    double x = 0;
    bool b = false;
    int failed = 0;
    switch (json_peek(j)) {
    case JSON_STRING:
        failed = json_string(j, &s);
        break;
    case JSON_NUMBER:
        failed = json_f64(j, &x);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        failed = json_bool(j, &b);
        break;
    case JSON_NULL:
        failed = json_null(j);
        break;
    default:
        b = true;
    }
    if (failed || s.len || x != 0 || b)
        failed = fail(l, j, "%s is set, which is not supported", what);
    buf_release(&s);
    return failed;
}

static int expect_bool(struct loader *l, struct json *j, const char *what, bool wanted)
{
    bool got;
    if (json_bool(j, &got))
        return broken(l, j);
    if (got != wanted)
        return fail(l, j, "%s is %s, which is not supported", what, got ? "true" : "false");
    return 0;
}

/* {"Regex": "…"} → t->regex. */
static int read_regex(struct loader *l, struct json *j)
{
    struct buf regex = {0};
    int more;
    if (json_object(j))
        return broken(l, j);
    while ((more = json_next_key(j, l->key, sizeof(l->key))) > 0) {
        if (strcmp(l->key, "Regex")) {
            buf_release(&regex);
            return fail(l, j, "the pattern of Split is a \"%.60s\"; only \"Regex\" is supported",
                        l->key);
        }
        if (json_string(j, &regex)) {
            more = -1;
            break;
        }
    }
    if (more < 0 || !regex.len || memchr(regex.data, '\0', regex.len)) {
        buf_release(&regex);
        return fail(l, j, "the pattern of Split is empty or has a NUL in it");
    }
    free(l->t->regex);
    l->t->regex = mem_strndup(regex.data, regex.len);
    buf_release(&regex);
    return 0;
}

struct splits {
    unsigned splits, byte_levels;
    bool use_regex;
};

/* One pre-tokenizer: Split, ByteLevel or a Sequence of them. */
static int read_pre_tokenizer(struct loader *l, struct json *j, struct splits *seen, int depth)
{
    struct buf type = {0};
    int more, failed = 0;
    bool use_regex = true;
    bool split_parts = false;
    if (json_object(j))
        return fail(l, j, "the pre-tokenizer must be an object");
    while (!failed && (more = json_next_key(j, l->key, sizeof(l->key))) > 0) {
        if (!strcmp(l->key, "type"))
            failed = json_string(j, &type);
        else if (!strcmp(l->key, "pretokenizers") && depth == 0) {
            failed = json_array(j);
            while (!failed && (more = json_next(j)) > 0)
                if (read_pre_tokenizer(l, j, seen, depth + 1)) {
                    buf_release(&type);
                    return -1;
                }
            failed |= more < 0;
        } else if (!strcmp(l->key, "pattern")) {
            failed = read_regex(l, j);
            split_parts = true;
        } else if (!strcmp(l->key, "behavior"))
            failed = expect_string(l, j, "the behavior of Split", "Isolated");
        else if (!strcmp(l->key, "invert"))
            failed = expect_bool(l, j, "invert of Split", false);
        else if (!strcmp(l->key, "add_prefix_space"))
            failed = expect_bool(l, j, "add_prefix_space", false);
        else if (!strcmp(l->key, "use_regex"))
            failed = json_bool(j, &use_regex);
        else
            failed = json_skip(j);
    }
    if (failed || more < 0) {
        buf_release(&type);
        return broken(l, j);
    }
    if (type.data && !strcmp(type.data, "Split") && split_parts && !seen->byte_levels) {
        seen->splits++;
    } else if (type.data && !strcmp(type.data, "ByteLevel") && !split_parts) {
        seen->byte_levels++;
        seen->use_regex |= use_regex;
    } else if (!type.data || strcmp(type.data, "Sequence") || depth > 0) {
        failed = fail(l, j,
                      "pre-tokenizer \"%.60s\" at this place is not supported; expected "
                      "Split, then ByteLevel",
                      type.data ? type.data : "");
    }
    buf_release(&type);
    return failed;
}

static int read_pre_tokenizers(struct loader *l, struct json *j)
{
    struct splits seen = {0};
    if (read_pre_tokenizer(l, j, &seen, 0))
        return -1;
    if (seen.byte_levels != 1 || seen.splits > 1 || (seen.splits && seen.use_regex))
        return fail(l, j,
                    "the pre-tokenizer must be one Split and one ByteLevel with use_regex "
                    "false, or one ByteLevel");
    if (!seen.splits)
        l->t->regex = mem_strdup(seen.use_regex ? pattern_regex("gpt2") : "");
    return 0;
}

/* --- tokens ---------------------------------------------------------------- */

/* Gives an id its bytes; a double id is an error. */
static int set_token(struct loader *l, const struct json *j, uint32_t id, struct token token)
{
    struct tokenizer *t = l->t;
    if (id >= t->count)
        return fail(l, j, "id %" PRIu32 " leaves a gap: there are %" PRIu32 " tokens", id,
                    t->count);
    if (t->tokens[id].known)
        return fail(l, j, "id %" PRIu32 " is given twice", id);
    t->tokens[id] = token;
    return 0;
}

/* Counts the members, so that ids can be checked against their number. */
static int count_members(struct loader *l, struct json j, uint32_t *count)
{
    int more;
    uint64_t n = 0;
    if (json_object(&j))
        return broken(l, &j);
    while ((more = json_next_key(&j, l->key, sizeof(l->key))) > 0) {
        if (json_skip(&j))
            break;
        n++;
    }
    if (j.error)
        return broken(l, &j);
    if (n >= TOKENIZER_VOCAB_MAX)
        return fail(l, &j, "the vocabulary has %" PRIu64 " tokens, more than %d", n,
                    TOKENIZER_VOCAB_MAX);
    *count = (uint32_t)n;
    return 0;
}

static void reserve_tokens(struct tokenizer *t, uint32_t count)
{
    t->tokens = mem_realloc(t->tokens, (size_t)count * sizeof(*t->tokens));
    for (uint32_t i = t->count; i < count; i++)
        t->tokens[i] = (struct token){.len = VOCAB_NONE};
    t->count = count;
}

static int read_vocab(struct loader *l)
{
    struct tokenizer *t = l->t;
    struct json j = l->vocab;
    uint32_t count = 0;
    int more;
    if (count_members(l, j, &count))
        return -1;
    reserve_tokens(t, count);
    if (json_object(&j))
        return broken(l, &j);
    while ((more = json_next_key(&j, l->key, sizeof(l->key))) > 0) {
        uint64_t id;
        size_t len = strlen(l->key);
        struct token token = {.start = t->bytes.len, .len = VOCAB_NONE, .known = true};
        if (len == NAME_BYTES_MAX)
            return fail(l, &j, "a token of more than %d bytes", NAME_BYTES_MAX);
        if (json_u64(&j, &id))
            return broken(l, &j);
        if (id >= TOKENIZER_VOCAB_MAX)
            return fail(l, &j, "id %" PRIu64 " is too large", id);
        /* Added tokens are spelled as they are; until those are read, a name with foreign
         * characters only has no bytes yet. */
        if (bytemap_read(&t->bytes, l->key, len)) {
            token.len = (uint32_t)(t->bytes.len - token.start);
        } else {
            t->bytes.len = token.start;
        }
        if (set_token(l, &j, (uint32_t)id, token))
            return -1;
        if (!names_add(&t->names, l->key, len, (uint32_t)id))
            return fail(l, &j, "token \"%.60s\" is there twice", l->key);
        if (len > t->name_len_max)
            t->name_len_max = len;
    }
    return more < 0 ? broken(l, &j) : 0;
}

static int read_added_token(struct loader *l, struct json *j)
{
    struct tokenizer *t = l->t;
    struct buf content = {0};
    struct token token = {.added = true, .known = true};
    uint64_t id = TOKENIZER_VOCAB_MAX;
    int more, failed = json_object(j);
    while (!failed && (more = json_next_key(j, l->key, sizeof(l->key))) > 0) {
        if (!strcmp(l->key, "id"))
            failed = json_u64(j, &id);
        else if (!strcmp(l->key, "content"))
            failed = json_string(j, &content);
        else if (!strcmp(l->key, "special"))
            failed = json_bool(j, &token.special);
        else if (!strcmp(l->key, "lstrip") || !strcmp(l->key, "rstrip") ||
                 !strcmp(l->key, "single_word"))
            failed = expect_bool(l, j, "lstrip, rstrip or single_word of an added token", false);
        else
            failed = json_skip(j);
    }
    if (failed || more < 0) {
        failed = broken(l, j);
    } else if (!content.len || id >= TOKENIZER_VOCAB_MAX) {
        failed = fail(l, j, "an added token needs \"content\" and an \"id\"");
    } else {
        uint32_t known = names_find(&t->names, content.data, content.len);
        if (known == VOCAB_NONE && id == t->count)
            reserve_tokens(t, t->count + 1);
        else if (known != id)
            failed = fail(l, j, "added token \"%.60s\" has id %" PRIu64 ", expected %" PRIu32,
                          content.data, id, known == VOCAB_NONE ? t->count : known);
    }
    if (!failed &&
        (t->tokens[id].added || !names_add(&t->added, content.data, content.len, (uint32_t)id)))
        failed = fail(l, j, "added token \"%.60s\" is there twice", content.data);
    if (!failed) {
        token.start = t->bytes.len;
        token.len = (uint32_t)content.len;
        buf_add(&t->bytes, content.data, content.len);
        t->tokens[id] = token;
    }
    buf_release(&content);
    return failed;
}

/* Notes a length of an added token, so that the longest is tried first. */
static void note_length(struct tokenizer *t, uint32_t len)
{
    size_t at = t->added_len_count;
    while (at > 0 && t->added_lens[at - 1] < len)
        at--;
    if (at > 0 && t->added_lens[at - 1] == len)
        return;
    t->added_lens = mem_realloc(t->added_lens, (t->added_len_count + 1) * sizeof(*t->added_lens));
    memmove(&t->added_lens[at + 1], &t->added_lens[at],
            (t->added_len_count++ - at) * sizeof(*t->added_lens));
    t->added_lens[at] = len;
}

static int read_added(struct loader *l)
{
    struct json j = l->added;
    int more;
    if (json_array(&j))
        return broken(l, &j);
    while ((more = json_next(&j)) > 0)
        if (read_added_token(l, &j))
            return -1;
    for (size_t i = 0; i < l->t->added.count; i++) {
        size_t len;
        names_get(&l->t->added, i, &len);
        note_length(l->t, (uint32_t)len);
    }
    return more < 0 ? broken(l, &j) : 0;
}

/* Every id must stand for something and every byte must have an id. */
static int check_tokens(struct loader *l)
{
    struct tokenizer *t = l->t;
    int failed = 0;
    for (size_t i = 0; i < t->names.count && !failed; i++) {
        size_t len;
        const char *s = names_get(&t->names, i, &len);
        if (t->tokens[t->names.ids[i]].len == VOCAB_NONE)
            failed = err_set(l->e,
                             "%s: token \"%.*s\" (id %" PRIu32 ") is neither in byte-level "
                             "spelling nor an added token",
                             l->name, (int)(len < 60 ? len : 60), s, t->names.ids[i]);
    }
    vocab_byte_ids(&t->names, t->byte_id);
    for (unsigned b = 0; b < 256 && !failed; b++)
        if (t->byte_id[b] == VOCAB_NONE)
            failed = err_set(l->e,
                             "%s: byte 0x%02X has no token, so text with it could not be encoded",
                             l->name, b);
    return failed;
}

/* --- merges ---------------------------------------------------------------- */

/* The two names of the merge at j: ["a", "b"] or "a b". */
static int read_merge_names(struct json *j, struct buf *left, struct buf *right)
{
    if (json_peek(j) == JSON_STRING) {
        if (json_string(j, left))
            return -1;
        char *space = memchr(left->data, ' ', left->len);
        if (!space || memchr(space + 1, ' ', left->len - (size_t)(space + 1 - left->data)))
            return json_fail(j, "a merge must be two tokens and one space between them");
        buf_clear(right);
        buf_add(right, space + 1, left->len - (size_t)(space + 1 - left->data));
        left->len = (size_t)(space - left->data);
        *space = '\0';
        return 0;
    }
    if (json_peek(j) != JSON_ARRAY)
        return json_fail(j, "a merge must be a pair of tokens");
    if (json_array(j) || json_next(j) <= 0 || json_string(j, left) || json_next(j) <= 0 ||
        json_string(j, right) || json_next(j) != 0)
        return json_fail(j, "a merge must be a pair of tokens");
    return 0;
}

static int read_merge(struct loader *l, struct json *j, uint32_t rank, struct buf *left,
                      struct buf *right)
{
    struct tokenizer *t = l->t;
    if (read_merge_names(j, left, right))
        return broken(l, j);
    uint32_t a = names_find(&t->names, left->data, left->len);
    uint32_t b = names_find(&t->names, right->data, right->len);
    if (a == VOCAB_NONE || b == VOCAB_NONE)
        return fail(l, j, "merge %" PRIu32 ": \"%.60s\" is not in the vocabulary", rank,
                    a == VOCAB_NONE ? left->data : right->data);
    buf_add(left, right->data, right->len);
    uint32_t id = names_find(&t->names, left->data, left->len);
    if (id == VOCAB_NONE)
        return fail(l, j, "merge %" PRIu32 ": its result \"%.60s\" is not in the vocabulary", rank,
                    left->data);
    if (!merges_add(&t->merges, a, b, rank, id))
        return fail(l, j, "merge %" PRIu32 " to \"%.60s\" is there twice", rank, left->data);
    return 0;
}

static int read_merges(struct loader *l)
{
    struct json j = l->merges;
    struct json ahead = j;
    struct buf left = {0}, right = {0};
    uint32_t rank = 0;
    size_t count = 0;
    int more, failed = 0;
    if (json_array(&ahead))
        return broken(l, &ahead);
    while ((more = json_next(&ahead)) > 0 && !json_skip(&ahead))
        count++;
    if (ahead.error)
        return broken(l, &ahead);
    if (count >= 2 * (size_t)TOKENIZER_VOCAB_MAX)
        return fail(l, &j, "%zu merges are too many", count);
    merges_init(&l->t->merges, count);
    json_array(&j);
    while (!failed && (more = json_next(&j)) > 0)
        failed = read_merge(l, &j, rank++, &left, &right);
    buf_release(&left);
    buf_release(&right);
    return failed;
}

/* --- the file --------------------------------------------------------------- */

/* Remembers where a value stands and steps over it. */
static int remember(struct json *j, struct json *place)
{
    *place = *j;
    return json_skip(j);
}

enum { KEY_VOCAB, KEY_MERGES, KEY_ADDED, KEY_PRE, KEY_MODEL };

static int read_model(struct loader *l, struct json *j)
{
    uint64_t seen = 0;
    int more, failed = 0;
    if (json_object(j))
        return broken(l, j);
    while (!failed && (more = json_next_key(j, l->key, sizeof(l->key))) > 0) {
        if (!strcmp(l->key, "type"))
            failed = expect_string(l, j, "the type of the model", "BPE");
        else if (!strcmp(l->key, "dropout") || !strcmp(l->key, "continuing_subword_prefix") ||
                 !strcmp(l->key, "end_of_word_suffix")) {
            char what[64];
            snprintf(what, sizeof(what), "%.40s", l->key);
            failed = expect_nothing(l, j, what);
        } else if (!strcmp(l->key, "ignore_merges"))
            failed = json_bool(j, &l->t->ignore_merges);
        else if (!strcmp(l->key, "vocab"))
            failed = json_seen(j, &seen, KEY_VOCAB) || remember(j, &l->vocab);
        else if (!strcmp(l->key, "merges"))
            failed = json_seen(j, &seen, KEY_MERGES) || remember(j, &l->merges);
        else
            failed = json_skip(j);
    }
    if (failed || more < 0)
        return broken(l, j);
    return 0;
}

static int read_file(struct loader *l)
{
    struct json j;
    uint64_t seen = 0;
    int more, failed = 0;
    json_open(&j, l->t->json.data, l->t->json.len);
    if (json_object(&j))
        return broken(l, &j);
    while (!failed && (more = json_next_key(&j, l->key, sizeof(l->key))) > 0) {
        if (!strcmp(l->key, "version"))
            failed = expect_string(l, &j, "the version", "1.0");
        else if (!strcmp(l->key, "normalizer"))
            failed = expect_nothing(l, &j, "a normalizer");
        else if (!strcmp(l->key, "added_tokens"))
            failed = json_seen(&j, &seen, KEY_ADDED) || remember(&j, &l->added);
        else if (!strcmp(l->key, "pre_tokenizer"))
            failed = json_seen(&j, &seen, KEY_PRE) || read_pre_tokenizers(l, &j);
        else if (!strcmp(l->key, "model"))
            failed = json_seen(&j, &seen, KEY_MODEL) || read_model(l, &j);
        else
            failed = json_skip(&j);
    }
    if (failed || more < 0 || json_end(&j))
        return broken(l, &j);
    if (!l->t->regex)
        return err_set(l->e, "%s: pre_tokenizer is missing", l->name);
    if (!l->vocab.text || !l->merges.text)
        return err_set(l->e, "%s: model.%s is missing", l->name,
                       l->vocab.text ? "merges" : "vocab");
    return 0;
}

int vocab_read_json(struct tokenizer *t, const char *name, struct err *e)
{
    struct loader *l = mem_zalloc(1, sizeof(*l));
    l->t = t;
    l->name = name;
    l->e = e;
    e->msg[0] = '\0'; /* see broken() */
    int failed = read_file(l) || read_vocab(l) || (l->added.text && read_added(l)) ||
                 check_tokens(l) || read_merges(l);
    if (!failed && pattern_compile(&t->pattern, t->regex, e))
        failed = err_add(e, "%s: pre_tokenizer", name);
    free(l);
    return failed ? -1 : 0;
}

/* --- writing ---------------------------------------------------------------- */

static const char *const special_names[TOKEN_SPECIAL_COUNT] = {"<unk>", "<s>", "</s>", "<pad>"};

void vocab_first_names(struct names *n)
{
    unsigned char sorted[256];
    struct buf name = {0};
    for (unsigned i = 0; i < TOKEN_SPECIAL_COUNT; i++)
        names_add(n, special_names[i], strlen(special_names[i]), i);
    for (unsigned b = 0; b < 256; b++)
        sorted[bytemap_order((unsigned char)b)] = (unsigned char)b;
    for (unsigned i = 0; i < 256; i++) {
        buf_clear(&name);
        bytemap_spell(&name, (const char *)&sorted[i], 1);
        names_add(n, name.data, name.len, TOKEN_SPECIAL_COUNT + i);
    }
    buf_release(&name);
}

static void put_name(struct buf *out, const struct names *names, size_t id)
{
    size_t len;
    const char *name = names_get(names, id, &len);
    json_put_string(out, name, len);
}

/* "a b", which every version of Hugging Face's reader takes; pairs only those since 0.20. No
 * name holds a blank: byte-level BPE spells it Ġ. */
static void put_merge(struct buf *out, const struct names *names, uint64_t merge)
{
    size_t left_len, right_len;
    const char *left = names_get(names, (size_t)(merge >> 32), &left_len);
    const char *right = names_get(names, (size_t)(merge & UINT32_MAX), &right_len);
    struct buf both = {0};
    buf_add(&both, left, left_len);
    buf_putc(&both, ' ');
    buf_add(&both, right, right_len);
    json_put_string(out, both.data, both.len);
    buf_release(&both);
}

void vocab_write_json(struct buf *out, const char *regex, const struct names *names,
                      const uint64_t *merges, size_t merge_count)
{
    buf_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                  "  \"added_tokens\": [\n");
    for (unsigned i = 0; i < TOKEN_SPECIAL_COUNT; i++)
        buf_printf(out,
                   "    {\"id\": %u, \"content\": \"%s\", \"single_word\": false, "
                   "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                   "\"special\": true}%s\n",
                   i, special_names[i], i + 1 < TOKEN_SPECIAL_COUNT ? "," : "");
    buf_puts(out, "  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\n"
                  "    \"type\": \"Sequence\",\n    \"pretokenizers\": [\n"
                  "      {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    json_put_cstring(out, regex);
    buf_puts(out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n"
                  "      {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                  "\"trim_offsets\": true, \"use_regex\": false}\n    ]\n  },\n"
                  "  \"post_processor\": null,\n"
                  "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                  "\"trim_offsets\": true, \"use_regex\": true},\n"
                  "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                  "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
                  "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
                  "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
                  "    \"vocab\": {");
    for (size_t i = 0; i < names->count; i++) {
        buf_puts(out, i ? ",\n      " : "\n      ");
        put_name(out, names, i);
        buf_printf(out, ": %zu", i);
    }
    buf_puts(out, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < merge_count; i++) {
        buf_puts(out, i ? ",\n      " : "\n      ");
        put_merge(out, names, merges[i]);
    }
    buf_puts(out, merge_count ? "\n    ]\n  }\n}\n" : "]\n  }\n}\n");
}

void vocab_write_config(struct buf *out)
{
    /* PreTrainedTokenizerFast and an explicit clean_up_tokenization_spaces: with other
     * classes or the old default, transformers damages text (spec/tokenizer.md §4.2).
     * model_input_names leaves out token_type_ids, which a Llama's generate() refuses. */
    buf_puts(out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                  "  \"unk_token\": \"<unk>\",\n  \"bos_token\": \"<s>\",\n"
                  "  \"eos_token\": \"</s>\",\n  \"pad_token\": \"<pad>\",\n"
                  "  \"add_bos_token\": false,\n  \"add_eos_token\": false,\n"
                  "  \"clean_up_tokenization_spaces\": false,\n"
                  "  \"model_input_names\": [\"input_ids\", \"attention_mask\"]\n}\n");
}

void vocab_write_special_map(struct buf *out)
{
    buf_puts(out, "{\n  \"unk_token\": \"<unk>\",\n  \"bos_token\": \"<s>\",\n"
                  "  \"eos_token\": \"</s>\",\n  \"pad_token\": \"<pad>\"\n}\n");
}
