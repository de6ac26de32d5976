/*
 * Cuts files into batches of whole lines; see source.h.
 */
#include "data/source.h"

#include <inttypes.h>
#include <string.h>

#define READ_BYTES ((size_t)1 << 18)

/* A file that expands so much is a bomb (zlib's best is 1,029 to 1, zstd's 32,500), no text. */
#define BOMB_RATIO 2000
#define BOMB_BYTES ((uint64_t)256 << 20)

void source_init(struct source *s, const char *path, size_t file, size_t max_line_bytes)
{
    memset(s, 0, sizeof(*s));
    s->path = path;
    s->file = file;
    s->max_line_bytes = max_line_bytes;
}

static void source_close(struct source *s)
{
    if (s->opened)
        reader_close(&s->reader);
    s->opened = false;
    buf_release(&s->rest);
}

void source_release(struct source *s)
{
    source_close(s);
    free(s->error);
    s->error = NULL;
}

static void source_end(struct source *s, const struct err *e)
{
    s->at_end = true;
    if (e && !s->error)
        s->error = mem_strdup(e->msg);
}

/* Appends the next piece of the file to b; at the end or an error only sets at_end. */
static void source_fill(struct source *s, struct buf *b)
{
    struct err e = {{0}};
    buf_reserve(b, READ_BYTES);
    ssize_t n = reader_read(&s->reader, b->data + b->len, READ_BYTES, &e);
    if (n <= 0) {
        source_end(s, n < 0 ? &e : NULL);
        return;
    }
    b->len += (size_t)n;
    b->data[b->len] = 0;
    s->bytes_out += (uint64_t)n;
    if (s->bytes_out > BOMB_BYTES && s->bytes_out / BOMB_RATIO > s->reader.bytes_in) {
        err_set(&e, "%s: byte %" PRIu64 " expands more than %d-fold, which no text does", s->path,
                s->reader.bytes_in, BOMB_RATIO);
        source_end(s, &e);
    }
}

/* Opens the file and looks at its first bytes, which stay in rest. */
static void source_open(struct source *s)
{
    struct err e = {{0}};
    if (reader_open(&s->reader, s->path, &e)) {
        source_end(s, &e);
        return;
    }
    s->opened = true;
    while (!s->at_end && s->rest.len < 4096)
        source_fill(s, &s->rest);
    struct buf *b = &s->rest;
    bool json = stream_holds_json(s->path, b->data, b->len);
    if (b->len >= 3 && !memcmp(b->data, "\xEF\xBB\xBF", 3)) {
        s->had_bom = true;
        b->len -= 3;
        memmove(b->data, b->data + 3, b->len + 1);
    }
    s->kind = json ? SOURCE_LINES : SOURCE_TEXT;
}

/* Length up to and with the last newline from `start` on; 0 if there is none. */
static size_t whole_lines(const struct buf *b, size_t start)
{
    size_t len = b->len;
    while (len > start && b->data[len - 1] != '\n')
        len--;
    return len > start ? len : 0;
}

/* Reads past the rest of an overlong record. */
static void source_skip(struct source *s, struct batch *b)
{
    while (true) {
        char *nl = s->kind == SOURCE_LINES && s->rest.len ? memchr(s->rest.data, '\n', s->rest.len)
                                                          : NULL;
        size_t gone = nl ? (size_t)(nl + 1 - s->rest.data) : s->rest.len;
        s->skipping += gone;
        s->rest.len -= gone;
        if (nl) {
            memmove(s->rest.data, nl + 1, s->rest.len);
            break;
        }
        if (s->at_end)
            break;
        source_fill(s, &s->rest);
    }
    b->kind = BATCH_REMOVED;
    b->removal = REMOVAL_TOO_LONG;
    b->removed_bytes = s->skipping;
    s->skipping = 0;
}

/* Turns what was gathered without a border into a record, or into what it is instead. */
static void source_remainder(struct source *s, struct batch *b)
{
    if (!b->raw.len) {
        b->kind = BATCH_NOTHING;
    } else if (s->error) {
        b->kind = BATCH_REMOVED;
        b->removal = REMOVAL_TRUNCATED;
        b->removed_bytes = b->raw.len;
        b->raw.len = 0;
    } else {
        b->kind = s->kind == SOURCE_LINES ? BATCH_LINES : BATCH_TEXT;
    }
}

/* Fills b->raw with whole lines, or with the whole of a text file. */
static void source_gather(struct source *s, struct batch *b)
{
    size_t want = SOURCE_BATCH_BYTES, searched = 0;
    if (s->rest.len)
        buf_add(&b->raw, s->rest.data, s->rest.len);
    s->rest.len = 0;
    while (true) {
        while (!s->at_end && b->raw.len < want)
            source_fill(s, &b->raw);
        size_t whole = s->kind == SOURCE_LINES ? whole_lines(&b->raw, searched) : 0;
        if (whole) {
            buf_add(&s->rest, b->raw.data + whole, b->raw.len - whole);
            b->raw.len = whole;
            b->kind = BATCH_LINES;
            return;
        }
        if (b->raw.len > s->max_line_bytes) {
            s->skipping = b->raw.len;
            b->raw.len = 0;
            source_skip(s, b);
            return;
        }
        if (s->at_end) {
            source_remainder(s, b);
            return;
        }
        searched = b->raw.len;
        want = b->raw.len + SOURCE_BATCH_BYTES;
    }
}

void source_read(struct source *s, struct batch *b)
{
    MW_ASSERT(!s->done);
    if (!s->opened && !s->at_end)
        source_open(s);
    b->file = s->file;
    source_gather(s, b);
    b->bytes_read = s->opened ? s->reader.bytes_in : 0;
    if (s->at_end && !s->rest.len) {
        b->last = true;
        b->error = s->error;
        s->error = NULL;
        s->done = true;
        source_close(s);
    }
}
