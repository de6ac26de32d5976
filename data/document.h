/*
 * Batches of documents: lines of a file become records whose text is cut into
 * paragraphs, counted and hashed.
 *
 * A batch is the unit of work of `data prepare`: some MiB of whole lines of one
 * file (or one plain-text file, which is one document). Where a file is cut into
 * batches depends on the file alone. batch_parse() touches nothing but the batch,
 * so batches are parsed in parallel; everything that depends on order happens
 * later, one batch after the other.
 *
 * What a line of JSON must be: an object with a string member `text` (or
 * `raw_content`, RedPajama-V2's name for it; `text` wins). Members that are kept:
 * `id` and the provenance fields below; the rest is checked for syntax and left.
 * `language` and `bucket` decide about selection. null counts as absent.
 */
#ifndef DATA_DOCUMENT_H
#define DATA_DOCUMENT_H

#include "common/err.h"
#include "common/hash.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>

/* Why a line did not become a document of the output. The order is that of the steps. */
enum removal {
    REMOVAL_NONE,
    REMOVAL_TRUNCATED,      /* the compressed file broke off within this line */
    REMOVAL_TOO_LONG,       /* more bytes than prepare.max_line_bytes */
    REMOVAL_BLANK_LINE,     /* nothing but white space */
    REMOVAL_INVALID_UTF8,   /* bytes that are not UTF-8 */
    REMOVAL_MALFORMED_JSON, /* not one JSON object (RFC 8259) */
    REMOVAL_DUPLICATE_KEY,  /* a field that we read stands twice in the object */
    REMOVAL_MISSING_TEXT,   /* no field text or raw_content that is a string */
    REMOVAL_NUL,            /* U+0000 in the text */
    REMOVAL_LANGUAGE,       /* not one of prepare.languages */
    REMOVAL_BUCKET,         /* not one of prepare.buckets */
    REMOVAL_NO_TEXT,        /* the text is white space only */
    REMOVAL_DUPLICATE,      /* the same text stood earlier in the corpus */
    REMOVAL_EMPTY,          /* no text left after the paragraph steps */
    REMOVAL_COUNT
};

extern const char *const removal_names[REMOVAL_COUNT]; /* as in ledger.json */
extern const char *const removal_helps[REMOVAL_COUNT]; /* a few words for tables */
bool removal_is_damage(enum removal r);                /* bad input, not a choice of the recipe */

/* What happened to a paragraph. */
enum fate {
    FATE_KEPT,
    FATE_DUPLICATE,
    FATE_RATIO,
    FATE_UNMEASURED,
    FATE_EMPTY_DOCUMENT,
    FATE_COUNT
};

extern const char *const fate_names[FATE_COUNT];

struct paragraph {
    uint64_t hash; /* XXH3-64 of its bytes if it has the words for deduplication */
    uint32_t at;   /* byte offset in batch.text */
    uint32_t len;  /* bytes, without the newline */
    uint32_t words;
    uint32_t fate; /* enum fate */
};

/* A line that passed reading and selection. */
struct document {
    struct hash128 hash; /* of the whole text */
    uint32_t line;       /* in its batch, from 0 */
    bool has_id;         /* its own id opens meta; otherwise the place is its id */
    bool is_raw_content; /* RedPajama's field: the id may follow from the path */
    uint32_t removal;    /* enum removal, once known */
    uint32_t text_at, text_len;
    uint32_t id_at, id_len;     /* in meta: a JSON string with its quotes */
    uint32_t meta_at, meta_len; /* in meta: `,"url":"…","language":"de"` */
    uint32_t paragraph_at, paragraph_count;
};

/* One bad line, to be named to the user. */
struct bad_line {
    uint32_t line; /* in its batch, from 0 */
    enum removal removal;
    size_t byte; /* offset in the line */
    const char *why;
};

#define BATCH_BAD_LINES 64 /* named lines a batch; the rest is only counted */

enum batch_kind {
    BATCH_LINES,   /* whole JSON lines */
    BATCH_TEXT,    /* one document, the whole file */
    BATCH_REMOVED, /* one record that could not be read: `removal` says why */
    BATCH_NOTHING  /* only the end of a file */
};

struct batch {
    /* from the source */
    size_t file; /* number of the file in canonical order */
    enum batch_kind kind;
    enum removal removal;   /* of BATCH_REMOVED */
    uint64_t removed_bytes; /* length of the record of BATCH_REMOVED, as far as known */
    bool last;              /* of its file */
    char *error;            /* of the file, with last; owned; NULL if it ended well */
    struct buf raw;         /* emptied by batch_parse() */
    uint64_t bytes_read;    /* of the compressed file so far, for progress */

    /* from batch_parse() */
    uint64_t line_count;
    uint64_t text_bytes; /* of all lines that could be read */
    uint64_t text_words;
    uint64_t unlabelled_language, unlabelled_bucket;
    uint64_t removed[REMOVAL_COUNT];
    struct bad_line bad[BATCH_BAD_LINES];
    size_t bad_count;
    struct document *docs;
    size_t doc_count, doc_capacity;
    struct paragraph *paragraphs;
    size_t paragraph_count, paragraph_capacity;
    struct buf text; /* of docs, one after the other */
    struct buf meta;
};

/* The steps of reading that have settings. */
struct selection {
    char *const *languages; /* borrowed */
    size_t language_count;  /* 0: all */
    char *const *buckets;
    size_t bucket_count; /* 0: all */
    size_t max_line_bytes;
    uint32_t min_words; /* paragraphs with fewer are not hashed */
};

/* What one thread needs to parse, kept between batches. */
struct parser {
    struct buf text, alt; /* values of `text` and `raw_content` */
};

void parser_release(struct parser *p);
void batch_parse(struct batch *b, struct parser *p, const struct selection *sel);
#define BATCH_KEEP_BYTES ((size_t)4 << 20)

/* Leaves an empty batch with its memory, but of no buffer more than BATCH_KEEP_BYTES: one giant
 * line must not leave its memory in every batch. */
void batch_clear(struct batch *b);
void batch_release(struct batch *b);
/* Drops removed documents and paragraphs and unused memory: for batches that have to wait. */
void batch_compact(struct batch *b);

/* Appends the kept paragraphs of a document, joined by newlines; false if they hold no text. */
bool document_text(const struct batch *b, const struct document *d, struct buf *out);

/* Number of code points; s is valid UTF-8. */
uint64_t text_characters(const char *s, size_t len);

#endif
