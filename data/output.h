/*
 * The folder of documents: lines are gathered into blocks, blocks become zstd
 * frames, frames are written to documents-00000.jsonl.zst and so on.
 *
 * Blocks end at the first line that fills them, files at the first block that
 * fills them, so the bytes depend on the lines alone. Packing blocks is the slow
 * part and may be done in parallel, in any order: output_block_pack().
 *
 * Everything is written to a folder FOLDER.tmp beside the target, which is renamed
 * by output_commit(): FOLDER never holds half a corpus. An older one there goes only when the
 * new one is safe; FOLDER.old.tmp is its name meanwhile, and the next run clears it up.
 */
#ifndef DATA_OUTPUT_H
#define DATA_OUTPUT_H

#include "common/err.h"
#include "common/mem.h"
#include "common/stream.h"
#include "data/ledger.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTPUT_BLOCK_BYTES ((size_t)4 << 20)

struct output_block {
    struct buf lines;
    struct buf frame; /* lines as one zstd frame, once packed */
    uint64_t documents;
};

struct output {
    char *folder;     /* the target */
    char *folder_tmp; /* where it is made */
    char *folder_old; /* where an older corpus may lie while it is replaced */
    bool replace;     /* an older corpus lies at the target */
    int lock;         /* descriptor of folder_tmp */
    uint64_t file_bytes;
    struct ledger *ledger;     /* borrowed; gets an output for each file */
    struct output_block *open; /* being filled */
    struct output_block **full;
    size_t full_count, full_capacity;
    struct writer writer;
    bool writing;
    struct hash_state *hash;
    struct ledger_output now; /* counts of the file being written */
};

/* Checks the target (absent, empty, or with `force` a corpus of ours) and makes folder_tmp,
 * removing what an interrupted run left. Fails if another run is writing there. */
int output_open(struct output *o, const char *folder, bool force, uint64_t file_bytes,
                struct ledger *l, struct err *e);
/* Whole lines, each a document, in canonical order. */
void output_add(struct output *o, const char *lines, size_t len);
void output_flush(struct output *o); /* closes the last block, full or not */
void output_block_pack(struct output_block *b);
/* Writes the first `count` full blocks, all packed, and forgets them. */
int output_write(struct output *o, size_t count, struct err *e);
int output_finish_files(struct output *o, struct err *e); /* after the last block */
/* Writes the ledger into the folder and gives the folder its name. */
int output_commit(struct output *o, struct err *e);
/* Removes what was written, if it was not committed; frees all. */
void output_release(struct output *o);

#endif
