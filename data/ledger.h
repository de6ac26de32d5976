/*
 * The ledger of a prepared corpus: where every input line went.
 *
 * For each file and for all of them together
 *
 *     lines_in = kept + the sum of removed
 *
 * and likewise for paragraphs. lines_in is counted where lines are read, kept
 * where documents are written, removed by each step for itself, so that the sum
 * can fail; ledger_check() is called before a ledger is written and after one is
 * read. ledger.json holds nothing that depends on time or threads: the same input
 * and settings give the same bytes.
 */
#ifndef DATA_LEDGER_H
#define DATA_LEDGER_H

#include "common/err.h"
#include "common/mem.h"
#include "data/document.h"

#include <stdbool.h>
#include <stdint.h>

#define LEDGER_NAME      "ledger.json"
#define LEDGER_BYTES_MAX ((size_t)4 << 30)

struct ledger_counts {
    uint64_t lines_in;
    uint64_t kept;
    uint64_t removed[REMOVAL_COUNT];
    uint64_t removed_other; /* only when read: reasons that this version does not know */
};

struct ledger_file {
    char *path;     /* owned */
    char *error;    /* owned; NULL if the file could be read to its end */
    uint64_t bytes; /* of the file as it lies on disk */
    struct ledger_counts counts;
};

/* One file of documents. */
struct ledger_output {
    char *name; /* in the folder; owned */
    uint64_t documents;
    uint64_t bytes;      /* as it lies on disk */
    uint64_t text_bytes; /* of the lines in it, uncompressed */
    uint64_t hash;       /* XXH3-64 of the file */
};

struct ledger_set {
    uint64_t count;
    uint64_t bytes;
    uint64_t bits;
};

/* How the token-to-word ratio was measured (llammlein.md §1.4). */
struct ledger_ratio {
    char *tokenizer; /* "bootstrap", a folder, or "off"; owned */
    char *pattern;   /* its pre-tokenization pattern; owned, may be NULL */
    char *note;      /* a sentence if the measure deserves doubt; owned, may be NULL */
    double max;      /* tokens per word; paragraphs above are removed */
    uint64_t vocab_size;
    uint64_t trained_bytes;               /* of text; 0 unless bootstrap */
    uint64_t sample_words, sample_tokens; /* calibration: on the first text of the corpus */
    uint64_t counted;                     /* paragraphs whose tokens had to be counted */
};

struct ledger {
    struct ledger_counts total;
    struct ledger_file *files;
    size_t file_count, file_capacity;
    uint64_t paragraphs_in;
    uint64_t paragraphs[FATE_COUNT];
    uint64_t unlabelled_language, unlabelled_bucket;
    uint64_t bytes_read;    /* of files on disk */
    uint64_t text_bytes;    /* of all lines that could be read */
    uint64_t kept_bytes;    /* of the texts written */
    uint64_t written_bytes; /* of the output files on disk */
    uint64_t words_selected, words_kept, characters_kept;
    struct ledger_ratio ratio;
    struct ledger_set documents, texts; /* the two sets: whole documents, paragraphs */
    struct ledger_output *outputs;
    size_t output_count, output_capacity;
    struct buf settings; /* members of a JSON object, ready to write */
};

void ledger_release(struct ledger *l);
struct ledger_file *ledger_add_file(struct ledger *l, const char *path);
struct ledger_output *ledger_add_output(struct ledger *l, const char *name);
uint64_t ledger_removed(const struct ledger_counts *c); /* sum over all reasons */
/* Lines that bad input cost, and files with errors. */
uint64_t ledger_damaged_lines(const struct ledger *l);
size_t ledger_damaged_files(const struct ledger *l);

/* Adds up the files and compares; the sentence names the place and both numbers. */
int ledger_check(const struct ledger *l, struct err *e);

void ledger_format(const struct ledger *l, struct buf *out);        /* ledger.json */
int ledger_read(struct ledger *l, const char *path, struct err *e); /* does not check */
void ledger_table(const struct ledger *l, struct buf *out);         /* for people */

#endif
