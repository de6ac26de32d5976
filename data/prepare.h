/*
 * The recipe: raw web text in, clean, deduplicated documents and a ledger out
 * (llammlein.md §1). In canonical order, that is files sorted by path and lines in
 * file order, each line goes through
 *
 *     reading → language → bucket → has text? → exact document deduplication
 *     → paragraph deduplication over the whole corpus → token-to-word ratio
 *     → text left?
 *
 * and of equal documents or paragraphs the first stays.
 *
 * Paragraphs are what stands between "\n"; a removed one goes with its newline.
 * Words stand between Unicode white space, as Python's str.split() sees it, here and
 * in the ratio (Dolma counts UAX-29 words; for "at least three" that rarely differs).
 *
 * How it runs: rounds. In one round all threads share tasks that do not touch each
 * other: reading on in some files, parsing batches that the round before read,
 * deduplicating (one task, in order) what the round before parsed, measuring and
 * formatting what was deduplicated, packing blocks, writing frames. So the steps run
 * at the same time though each result moves on only between rounds, and the output
 * depends on nothing but the input.
 *
 * Memory: 16 MiB of input a thread in flight, times about 4, at first also the 64 MB
 * of text for the bootstrap tokenizer, and the two sets of hashes, which grow with
 * the corpus: 16 bytes a document and 8 a paragraph of at least three words, over a
 * load of 3/8 to 3/4.
 */
#ifndef DATA_PREPARE_H
#define DATA_PREPARE_H

#include "common/config.h"
#include "common/err.h"
#include "data/ledger.h"

#include <stdbool.h>
#include <stdint.h>

struct prepare_settings {
    struct config_list in;
    char *out;
    char *config;
    char *ratio_tokenizer;
    int64_t threads;
    bool force;
    bool strict;
    bool quiet;
    struct config_list set;
    struct config_list languages; /* empty: de; "all" */
    struct config_list buckets;   /* empty: head, middle; "all" */
    bool dedup_documents;
    bool dedup_paragraphs;
    int64_t min_paragraph_words;
    double max_token_word_ratio;
    int64_t bootstrap_bytes;
    int64_t bootstrap_vocab_size;
    int64_t bootstrap_min_frequency;
    int64_t max_line_bytes;
    int64_t file_bytes;
};

/* The one table of all settings. */
extern const struct config_row prepare_rows[];

/* After config_args(): reads --config, then --set; puts the defaults into empty lists and
 * empties lists that say "all". */
int prepare_settle(struct prepare_settings *s, struct err *e);
/* The settings that shape the result, as members of a JSON object. */
void prepare_record(const struct prepare_settings *s, struct buf *out);
/* Does the work and leaves the balanced ledger in *l (release it in any case). Bad lines and
 * files are named on stderr, the first of each kind, and counted. */
int prepare_run(const struct prepare_settings *s, struct ledger *l, struct err *e);

#endif
