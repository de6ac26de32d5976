/*
 * Texts out of files, in order, worked on by all threads.
 *
 * What a file holds is seen from its content: gzip, zstd or plain (common/stream),
 * then JSON lines if the first visible byte is '{' or the name says .json, .jsonl or
 * .ndjson, else plain text. Of JSON lines each object is a text (its member "text",
 * or RedPajama-V2's "raw_content"); of plain text each line with its line ending is.
 * Files come in sorted order, texts in the order of the file. A file named
 * ledger.json in a folder is the account of `data prepare`, not a corpus; it is
 * passed over.
 *
 * A line of JSON that is malformed, not UTF-8, or lacks its text is counted, the
 * first ones are named as warnings, and work goes on. A file that cannot be read to
 * its end (truncated, damaged) ends the work with an error: half a corpus would
 * look like the whole.
 *
 *     corpus_init(&c, paths, count, e);
 *     corpus_run(&c, "counting words", &job, e);   batch by batch
 *     corpus_release(&c);
 */
#ifndef TOKENIZER_CORPUS_H
#define TOKENIZER_CORPUS_H

#include "common/err.h"
#include "common/fs.h"
#include "common/mem.h"
#include "common/stream.h"

#include <stdbool.h>
#include <stdint.h>

struct corpus {
    struct fs_list files;
    size_t file;          /* next to open */
    struct reader reader; /* of file - 1 while `open` */
    struct lines lines;
    bool open;
    bool json;
    bool plain_only;     /* set by corpus_init_lines(): never JSON */
    uint64_t file_bytes; /* of all files, as stored */
    uint64_t bytes_past; /* stored bytes of the files done */
    uint64_t texts;      /* given to the job and good */
    uint64_t bad;        /* lines that held no text */
};

/* One line of a batch. */
struct corpus_line {
    size_t start, len; /* in batch.bytes, with the line ending */
    uint64_t number;   /* in its file, from 1 */
    uint32_t file;     /* index in corpus.files */
    bool json;
    bool too_long;   /* skipped while reading; len 0 */
    const char *bad; /* why it holds no text (static); NULL = good */
    size_t bad_at;   /* byte of the line */
};

struct corpus_batch {
    struct buf bytes;
    struct corpus_line *lines;
    size_t count, capacity;
};

/* What is to be done. `work` is called for each line, by many threads at once, each with its
 * own `worker` < threads_count(); lines come in blocks of consecutive ones, so `block` (of
 * corpus_block_count() ones a batch, each worked on by one thread, in order) can collect results.
 * `finish` is called after each batch by one thread, in order. Either may fail. */
struct corpus_job {
    void *context;
    int (*work)(void *context, int worker, size_t block, const struct corpus *c,
                const struct corpus_batch *b, struct corpus_line *line, struct err *e);
    int (*finish)(void *context, const struct corpus *c, const struct corpus_batch *b,
                  struct err *e); /* may be NULL */
};

#define CORPUS_BLOCK_LINES 16
#define CORPUS_BLOCKS_MAX  4096 /* of a batch */

size_t corpus_block_count(const struct corpus_batch *b);

int corpus_init(struct corpus *c, char *const *paths, size_t count, struct err *e);
/* One file or "-", of which every line is a text whatever it looks like. */
void corpus_init_lines(struct corpus *c, const char *path);
void corpus_release(struct corpus *c);

/* label for the progress line; NULL = none. Reads the next batch while working on this one. */
int corpus_run(struct corpus *c, const char *label, const struct corpus_job *job, struct err *e);

/* The text of a line: of plain text the line itself, of JSON the unescaped member, which `store`
 * then holds. *id (may be NULL) is set to the member "id" if it is a string or a number, else to
 * "path:line number". False and line->bad if there is no text. */
bool corpus_text(const struct corpus *c, const struct corpus_batch *b, struct corpus_line *line,
                 struct buf *store, const char **text, size_t *len, struct buf *id);

/* The text of a line of plain text without its newline. */
static inline size_t corpus_line_len(const char *text, size_t len)
{
    return len && text[len - 1] == '\n' ? len - 1 : len;
}

#endif
