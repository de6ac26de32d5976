/*
 * Lines to documents to paragraphs; see document.h for what a line must be.
 */
#include "data/document.h"

#include "common/json.h"
#include "common/utf8.h"

#include <string.h>

const char *const removal_names[REMOVAL_COUNT] = {
    "none",           "truncated",     "too_long",           "blank_line", "invalid_utf8",
    "malformed_json", "duplicate_key", "missing_text",       "nul",        "language",
    "bucket",         "no_text",       "duplicate_document", "empty"};

const char *const removal_helps[REMOVAL_COUNT] = {
    "",
    "the file broke off within the line",
    "longer than prepare.max_line_bytes",
    "nothing but white space",
    "bytes that are not UTF-8",
    "not a JSON object",
    "a field stands twice",
    "no string text or raw_content",
    "U+0000 in the text",
    "not in prepare.languages",
    "not in prepare.buckets",
    "the text is white space only",
    "the same text stood earlier",
    "no text left after the paragraph steps",
};

const char *const fate_names[FATE_COUNT] = {"kept", "duplicate", "token_word_ratio", "unmeasured",
                                            "empty_document"};

bool removal_is_damage(enum removal r)
{
    return r >= REMOVAL_TRUNCATED && r <= REMOVAL_NUL && r != REMOVAL_BLANK_LINE;
}

/* --- one object ---------------------------------------------------------- */

/* What is read of an object. From FIELD_URL on it is provenance, kept in this order. */
enum field {
    FIELD_ID,
    FIELD_TEXT,
    FIELD_RAW_CONTENT,
    FIELD_URL,
    FIELD_SOURCE_DOMAIN,
    FIELD_DATE_DOWNLOAD,
    FIELD_LANGUAGE,
    FIELD_LANGUAGE_SCORE,
    FIELD_PERPLEXITY,
    FIELD_BUCKET,
    FIELD_COUNT
};

static const char *const field_names[FIELD_COUNT] = {
    "id",       "text",           "raw_content", "url",   "source_domain", "date_download",
    "language", "language_score", "perplexity",  "bucket"};

/* A value as it stands in the line; len 0 = absent or null. */
struct span {
    const char *s;
    size_t len;
    enum json_type type;
};

struct object {
    struct span fields[FIELD_COUNT];
    bool has_text, has_raw_content; /* as strings, in the parser's buffers */
    size_t text_byte;               /* where a text of another type stands */
};

static int field_find(const char *key)
{
    for (int f = 0; f < FIELD_COUNT; f++)
        if (!strcmp(key, field_names[f]))
            return f;
    return -1;
}

static int value_read(struct json *j, int field, struct object *o, struct parser *p)
{
    struct span *v = &o->fields[field];
    v->type = json_peek(j);
    v->s = j->text + j->at;
    bool text = field == FIELD_TEXT || field == FIELD_RAW_CONTENT;
    if (text && v->type == JSON_STRING) {
        *(field == FIELD_TEXT ? &o->has_text : &o->has_raw_content) = true;
        return json_string(j, field == FIELD_TEXT ? &p->text : &p->alt);
    }
    if (text)
        o->text_byte = j->at;
    if (json_skip(j))
        return -1;
    v->len = v->type == JSON_NULL ? 0 : (size_t)(j->text + j->at - v->s);
    return 0;
}

static enum removal object_read(struct object *o, struct parser *p, const char *line, size_t len,
                                struct bad_line *bad)
{
    struct json j;
    char key[32];
    uint64_t seen = 0;
    int r = -1;
    json_open(&j, line, len);
    if (!json_object(&j)) {
        while ((r = json_next_key(&j, key, sizeof(key))) > 0) {
            int field = field_find(key);
            if (field >= 0 && seen >> field & 1) {
                bad->byte = j.at;
                bad->why = "the field stands twice in the object";
                return REMOVAL_DUPLICATE_KEY;
            }
            if (field >= 0)
                seen |= 1u << field;
            if (field >= 0 ? value_read(&j, field, o, p) : json_skip(&j)) {
                r = -1;
                break;
            }
        }
    }
    if (!r && !json_end(&j))
        return REMOVAL_NONE;
    size_t invalid = utf8_invalid_at(line, len);
    bad->byte = invalid < len ? invalid : j.error_at;
    bad->why = invalid < len ? "invalid UTF-8" : j.error;
    return invalid < len ? REMOVAL_INVALID_UTF8 : REMOVAL_MALFORMED_JSON;
}

/* --- selection ----------------------------------------------------------- */

/* Whether a value is one of the list's words; strings are compared without their quotes. */
static bool span_in(const struct span *v, char *const *list, size_t count)
{
    const char *s = v->s;
    size_t len = v->len;
    struct buf unescaped = {0};
    if (v->type == JSON_STRING && memchr(s, '\\', len)) {
        struct json j;
        json_open(&j, s, len);
        if (!json_string(&j, &unescaped)) {
            s = unescaped.data;
            len = unescaped.len;
        }
    } else if (v->type == JSON_STRING) {
        s++;
        len -= 2;
    }
    bool found = false;
    for (size_t i = 0; i < count && !found; i++)
        found = strlen(list[i]) == len && !memcmp(list[i], s, len);
    buf_release(&unescaped);
    return found;
}

static bool is_unlabelled(const struct span *v)
{
    return !v->len || (v->type == JSON_STRING && v->len == 2);
}

static enum removal object_select(struct batch *b, const struct object *o,
                                  const struct selection *sel)
{
    const struct span *language = &o->fields[FIELD_LANGUAGE];
    const struct span *bucket = &o->fields[FIELD_BUCKET];
    if (is_unlabelled(language))
        b->unlabelled_language++;
    else if (sel->language_count && !span_in(language, sel->languages, sel->language_count))
        return REMOVAL_LANGUAGE;
    if (is_unlabelled(bucket))
        b->unlabelled_bucket++;
    else if (sel->bucket_count && !span_in(bucket, sel->buckets, sel->bucket_count))
        return REMOVAL_BUCKET;
    return REMOVAL_NONE;
}

/* --- paragraphs ---------------------------------------------------------- */

/* Bytes that continue a character are 10xxxxxx; all others begin one. */
uint64_t text_characters(const char *s, size_t len)
{
    uint64_t continuing = 0;
    size_t i = 0;
    for (; len - i >= 8; i += 8) {
        uint64_t w;
        memcpy(&w, s + i, 8);
        w = (w >> 7) & ~(w >> 6) & 0x0101010101010101u;
        continuing += (w * 0x0101010101010101u) >> 56;
    }
    for (; i < len; i++)
        continuing += ((unsigned char)s[i] & 0xC0) == 0x80;
    return len - continuing;
}

static void add_paragraph(struct batch *b, const char *s, size_t at, size_t len, uint32_t min_words)
{
    b->paragraphs = mem_grow(b->paragraphs, &b->paragraph_capacity, b->paragraph_count + 1,
                             sizeof(*b->paragraphs));
    struct paragraph *p = &b->paragraphs[b->paragraph_count++];
    p->at = (uint32_t)at;
    p->len = (uint32_t)len;
    p->words = (uint32_t)utf8_count_words(s, len);
    p->hash = p->words >= min_words ? hash64(s, len) : 0;
    p->fate = FATE_KEPT;
}

/* Takes over a text that passed selection: cut at newlines, counted, hashed. */
static enum removal add_document(struct batch *b, const char *text, size_t len, uint32_t line,
                                 const struct selection *sel)
{
    size_t words = 0, first = b->paragraph_count, base = b->text.len;
    for (size_t at = 0; at <= len;) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - text) - at : len - at;
        add_paragraph(b, text + at, base + at, n, sel->min_words);
        words += b->paragraphs[b->paragraph_count - 1].words;
        at += n + 1;
    }
    b->text_words += words;
    if (!words) {
        b->paragraph_count = first;
        return REMOVAL_NO_TEXT;
    }
    b->docs = mem_grow(b->docs, &b->doc_capacity, b->doc_count + 1, sizeof(*b->docs));
    b->docs[b->doc_count++] = (struct document){
        .hash = hash128(text, len),
        .line = line,
        .text_at = (uint32_t)base,
        .text_len = (uint32_t)len,
        .meta_at = (uint32_t)b->meta.len,
        .paragraph_at = (uint32_t)first,
        .paragraph_count = (uint32_t)(b->paragraph_count - first),
    };
    buf_add(&b->text, text, len);
    return REMOVAL_NONE;
}

/* Keeps id and provenance of the document added last. */
static void add_meta(struct batch *b, const struct object *o)
{
    struct document *d = &b->docs[b->doc_count - 1];
    const struct span *id = &o->fields[FIELD_ID];
    d->is_raw_content = !o->has_text;
    d->has_id = (id->type == JSON_STRING && id->len > 2) || id->type == JSON_NUMBER;
    d->id_at = (uint32_t)b->meta.len;
    if (d->has_id && id->type == JSON_NUMBER) {
        buf_putc(&b->meta, '"');
        buf_add(&b->meta, id->s, id->len);
        buf_putc(&b->meta, '"');
    } else if (d->has_id) {
        buf_add(&b->meta, id->s, id->len);
    }
    d->id_len = (uint32_t)b->meta.len - d->id_at;
    d->meta_at = (uint32_t)b->meta.len;
    for (int f = FIELD_URL; f < FIELD_COUNT; f++) {
        if (!o->fields[f].len)
            continue;
        buf_puts(&b->meta, ",\"");
        buf_puts(&b->meta, field_names[f]);
        buf_puts(&b->meta, "\":");
        buf_add(&b->meta, o->fields[f].s, o->fields[f].len);
    }
    d->meta_len = (uint32_t)b->meta.len - d->meta_at;
}

/* --- lines --------------------------------------------------------------- */

static bool is_blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r' && s[i] != '\n')
            return false;
    return true;
}

static enum removal parse_line(struct batch *b, struct parser *p, const struct selection *sel,
                               const char *line, size_t len, struct bad_line *bad)
{
    struct object o = {0};
    if (len > sel->max_line_bytes) {
        bad->byte = sel->max_line_bytes;
        bad->why = "longer than prepare.max_line_bytes";
        return REMOVAL_TOO_LONG;
    }
    if (is_blank(line, len))
        return REMOVAL_BLANK_LINE;
    enum removal r = object_read(&o, p, line, len, bad);
    if (r)
        return r;
    if (!o.has_text && !o.has_raw_content) {
        bad->byte = o.text_byte;
        bad->why = o.fields[FIELD_TEXT].type || o.fields[FIELD_RAW_CONTENT].type
                       ? "the text is not a string"
                       : "no field text or raw_content";
        return REMOVAL_MISSING_TEXT;
    }
    const struct buf *text = o.has_text ? &p->text : &p->alt;
    b->text_bytes += text->len;
    if (memchr(text->data, 0, text->len)) {
        bad->why = "the text holds U+0000";
        return REMOVAL_NUL;
    }
    r = object_select(b, &o, sel);
    if (!r)
        r = add_document(b, text->data, text->len, bad->line, sel);
    if (!r)
        add_meta(b, &o);
    return r;
}

/* "\r\n" becomes "\n": in a text file it is how the file ends lines, not text. */
static size_t drop_carriage_returns(char *s, size_t len)
{
    size_t out = 0;
    for (size_t i = 0; i < len; i++)
        if (s[i] != '\r' || i + 1 == len || s[i + 1] != '\n')
            s[out++] = s[i];
    return out;
}

static enum removal parse_text(struct batch *b, const struct selection *sel, struct bad_line *bad)
{
    struct buf *raw = &b->raw;
    size_t invalid = utf8_invalid_at(raw->data, raw->len);
    if (invalid < raw->len) {
        bad->byte = invalid;
        bad->why = "invalid UTF-8 in a text file";
        return REMOVAL_INVALID_UTF8;
    }
    const char *nul = memchr(raw->data, 0, raw->len);
    if (nul) {
        bad->byte = (size_t)(nul - raw->data);
        bad->why = "a NUL byte in a text file";
        return REMOVAL_NUL;
    }
    if (memchr(raw->data, '\r', raw->len))
        raw->len = drop_carriage_returns(raw->data, raw->len);
    b->text_bytes += raw->len;
    b->unlabelled_language++;
    b->unlabelled_bucket++;
    return add_document(b, raw->data, raw->len, 0, sel);
}

static void count_line(struct batch *b, enum removal r, const struct bad_line *bad)
{
    b->line_count++;
    if (!r)
        return;
    b->removed[r]++;
    if (removal_is_damage(r) && b->bad_count < BATCH_BAD_LINES) {
        b->bad[b->bad_count] = *bad;
        b->bad[b->bad_count++].removal = r;
    }
}

static void parse_lines(struct batch *b, struct parser *p, const struct selection *sel)
{
    const char *s = b->raw.data, *end = s + b->raw.len;
    while (s < end) {
        const char *nl = memchr(s, '\n', (size_t)(end - s));
        size_t len = (size_t)((nl ? nl : end) - s);
        struct bad_line bad = {.line = (uint32_t)b->line_count};
        count_line(b, parse_line(b, p, sel, s, len, &bad), &bad);
        s += len + 1;
    }
}

void parser_release(struct parser *p)
{
    buf_release(&p->text);
    buf_release(&p->alt);
}

void batch_parse(struct batch *b, struct parser *p, const struct selection *sel)
{
    struct bad_line bad = {.line = 0};
    switch (b->kind) {
    case BATCH_LINES:
        parse_lines(b, p, sel);
        break;
    case BATCH_TEXT:
        count_line(b, parse_text(b, sel, &bad), &bad);
        break;
    case BATCH_REMOVED:
        bad.byte = b->removed_bytes;
        bad.why = removal_helps[b->removal];
        count_line(b, b->removal, &bad);
        break;
    case BATCH_NOTHING:
        break;
    }
    b->raw.len = 0;
}

/* --- batches ------------------------------------------------------------- */

static void *keep_array(void *array, size_t *capacity, size_t size)
{
    if (*capacity <= BATCH_KEEP_BYTES / size)
        return array;
    free(array);
    *capacity = 0;
    return NULL;
}

void batch_clear(struct batch *b)
{
    struct batch old = *b;
    free(old.error);
    memset(b, 0, sizeof(*b));
    b->raw = old.raw;
    b->text = old.text;
    b->meta = old.meta;
    b->doc_capacity = old.doc_capacity;
    b->docs = keep_array(old.docs, &b->doc_capacity, sizeof(*b->docs));
    b->paragraph_capacity = old.paragraph_capacity;
    b->paragraphs = keep_array(old.paragraphs, &b->paragraph_capacity, sizeof(*b->paragraphs));
    struct buf *const bufs[] = {&b->raw, &b->text, &b->meta};
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        bufs[i]->len = 0;
        if (bufs[i]->capacity > BATCH_KEEP_BYTES)
            buf_release(bufs[i]);
    }
}

void batch_release(struct batch *b)
{
    free(b->error);
    free(b->docs);
    free(b->paragraphs);
    buf_release(&b->raw);
    buf_release(&b->text);
    buf_release(&b->meta);
    memset(b, 0, sizeof(*b));
}

void batch_compact(struct batch *b)
{
    struct batch n = {.file = b->file, .kind = b->kind, .last = b->last, .error = b->error};
    n.bytes_read = b->bytes_read;
    n.line_count = b->line_count;
    b->error = NULL;
    for (size_t i = 0; i < b->doc_count; i++) {
        const struct document *d = &b->docs[i];
        if (d->removal)
            continue;
        struct document k = *d;
        k.text_at = (uint32_t)n.text.len;
        k.paragraph_at = (uint32_t)n.paragraph_count;
        k.paragraph_count = 0;
        for (uint32_t j = 0; j < d->paragraph_count; j++) {
            struct paragraph p = b->paragraphs[d->paragraph_at + j];
            if (p.fate != FATE_KEPT)
                continue;
            if (k.paragraph_count)
                buf_putc(&n.text, '\n');
            size_t at = n.text.len;
            buf_add(&n.text, b->text.data + p.at, p.len);
            p.at = (uint32_t)at;
            n.paragraphs = mem_grow(n.paragraphs, &n.paragraph_capacity, n.paragraph_count + 1,
                                    sizeof(*n.paragraphs));
            n.paragraphs[n.paragraph_count++] = p;
            k.paragraph_count++;
        }
        k.text_len = (uint32_t)n.text.len - k.text_at;
        k.id_at = (uint32_t)n.meta.len;
        buf_add(&n.meta, b->meta.data + d->id_at, d->id_len);
        k.meta_at = (uint32_t)n.meta.len;
        buf_add(&n.meta, b->meta.data + d->meta_at, d->meta_len);
        n.docs = mem_grow(n.docs, &n.doc_capacity, n.doc_count + 1, sizeof(*n.docs));
        n.docs[n.doc_count++] = k;
    }
    batch_release(b);
    *b = n;
}

bool document_text(const struct batch *b, const struct document *d, struct buf *out)
{
    size_t words = 0;
    uint32_t dropped = 0, kept = 0;
    const struct paragraph *p = b->paragraphs + d->paragraph_at;
    for (uint32_t i = 0; i < d->paragraph_count; i++) {
        dropped += p[i].fate != FATE_KEPT;
        words += p[i].fate == FATE_KEPT ? p[i].words : 0;
    }
    if (!words)
        return false;
    if (!dropped) {
        buf_add(out, b->text.data + d->text_at, d->text_len);
        return true;
    }
    for (uint32_t i = 0; i < d->paragraph_count; i++) {
        if (p[i].fate != FATE_KEPT)
            continue;
        if (kept++)
            buf_putc(out, '\n');
        buf_add(out, b->text.data + p[i].at, p[i].len);
    }
    return true;
}
