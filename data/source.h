/*
 * A file as a row of batches: opened late, read as a stream, closed early.
 *
 * What a file holds is seen from its content: gzip, zstd or plain (common/stream),
 * then JSON lines if its first visible byte is '{' or its name says .json, .jsonl
 * or .ndjson, else plain text. A byte-order mark at the very start is skipped.
 *
 * Memory stays bounded whatever the file holds: a line (or text file) of more
 * than max_line_bytes is read past and counted, never stored.
 */
#ifndef DATA_SOURCE_H
#define DATA_SOURCE_H

#include "common/err.h"
#include "common/stream.h"
#include "data/document.h"

#include <stdbool.h>

#define SOURCE_BATCH_BYTES ((size_t)1 << 19) /* of lines a batch, uncompressed, about */

enum source_kind { SOURCE_UNKNOWN, SOURCE_LINES, SOURCE_TEXT };

struct source {
    const char *path; /* borrowed */
    size_t file;      /* its number in canonical order */
    size_t max_line_bytes;
    enum source_kind kind;
    struct reader reader;
    struct buf rest; /* read, not yet given out */
    bool opened;
    bool at_end; /* of the data; `error` says whether it ended badly */
    bool done;   /* the last batch was given out */
    bool had_bom;
    uint64_t bytes_out; /* decompressed so far */
    uint64_t skipping;  /* bytes of an overlong record passed so far; 0 = none */
    char *error;        /* owned */
};

void source_init(struct source *s, const char *path, size_t file, size_t max_line_bytes);
void source_release(struct source *s);
/* The next batch into b (empty or cleared). A file that cannot be read is no failure: its last
 * batch carries the error. After the last batch the file is closed and `done` is set. */
void source_read(struct source *s, struct batch *b);

#endif
