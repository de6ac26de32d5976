/*
 * Learns a byte-level BPE vocabulary from text; the merges are those of Hugging
 * Face's BpeTrainer, to the last tie (spec/tokenizer.md §1.1), but counted in 64
 * bits, so that they stay right beyond 2^31 occurrences of a pair.
 *
 *     struct bpe_train_options o = {.vocab_size = 32000, .pattern = "llama3"};
 *     if (bpe_trainer_new(&tr, &o, e)) ...
 *     for each document: bpe_trainer_feed(tr, text, len, e)
 *     bpe_trainer_train(tr, &tok, e);      tokenizer_copy(tok, dir, e) stores it
 *     bpe_trainer_free(tr);
 *
 * What is fed in one call is one sequence: no piece crosses its ends. Neither the
 * order of the sequences nor the number of threads changes the result.
 *
 * Ids: <unk> 0, <s> 1, </s> 2, <pad> 3; the 256 bytes, in order of the code point
 * that stands for them in tokenizer.json; then the merges in order of their making:
 * each time the pair with the highest count, of equals the one with the smaller left
 * id, then the smaller right id.
 *
 * Memory: at its highest about 450 bytes per distinct piece (German: 300,000 in 40 MB of
 * text, 1.4 million in 400 MB).
 */
#ifndef TOKENIZER_BPE_TRAIN_H
#define TOKENIZER_BPE_TRAIN_H

#include "common/err.h"
#include "tokenizer/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

struct bpe_train_options {
    uint32_t vocab_size;    /* all ids, the 4 special ones and 256 bytes included; ≥ 260 */
    uint64_t min_frequency; /* pairs seen less often are not merged; 0 is as good as 1 */
    const char *pattern;    /* a name of pretoken.h; NULL = "llama3" */
};

struct bpe_trainer;

int bpe_trainer_new(struct bpe_trainer **t, const struct bpe_train_options *o, struct err *e);
void bpe_trainer_free(struct bpe_trainer *t);

/* Counts the pieces of one sequence. Collects copies and counts them a few megabytes at a
 * time on all threads; called from one thread, outside parallel regions. */
int bpe_trainer_feed(struct bpe_trainer *t, const char *text, size_t len, struct err *e);
/* The same at once and without a copy, inside a parallel region: worker is
 * omp_get_thread_num(), less than threads_count(). */
int bpe_trainer_count(struct bpe_trainer *t, int worker, const char *text, size_t len,
                      struct err *e);

/* Merges until the vocabulary is full or no pair is frequent enough, which is not an error:
 * see tokenizer_vocab_size(). Shows progress. Ends the trainer's feeding; call it once.
 * The caller frees *tok. */
int bpe_trainer_train(struct bpe_trainer *t, struct tokenizer **tok, struct err *e);

struct bpe_train_stats {
    uint64_t bytes;          /* fed */
    uint64_t sequences;      /* fed */
    uint64_t pieces;         /* counted */
    uint64_t distinct;       /* different pieces */
    uint32_t merges;         /* made */
    uint64_t last_frequency; /* count of the pair merged last */
    double count_seconds;    /* spent in feed() and in bringing the counts together */
    double merge_seconds;
};

const struct bpe_train_stats *bpe_trainer_stats(const struct bpe_trainer *t);

#endif
