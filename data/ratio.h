/*
 * The token-to-word ratio of paragraphs (llammlein.md §1.4): paragraphs with more
 * than 8 tokens a word are no running text. Guitar tabs, paths, and runs of
 * letters have a low perplexity and pass other filters.
 *
 * The paper counts tokens with a German byte-level BPE of 50,266 entries. Here they
 * are counted by a tokenizer the user names, or by a bootstrap tokenizer trained on
 * the corpus itself: byte-level BPE with GPT-2's pattern, as the paper's, on the
 * first 64 MB of text that selection and deduplication left.
 *
 * A tokenizer trained on what it then measures could learn nonsense by heart and take
 * it for one word: a run of 800 times "a" holds 400 pairs. So it is trained only on
 * paragraphs of at most 12 bytes a word, which running German text has (mean 7) and
 * such lines have not, and on pairs seen 3 times. On little text the vocabulary stays
 * small and words fall into more tokens than the paper's; calibration says how many,
 * and `note` says so in words where it matters. Measured against a tokenizer trained
 * on 400 MB (docs/LOG.md): all examples of the paper right from 2 kB of corpus on;
 * of 393 different paragraphs (50 kB) 10 removed that the large one keeps, of 5,590
 * (1 MB) 20, of 84,651 (16 MB) 40.
 *
 * No text has more tokens than bytes. So a paragraph with at most 8 bytes a word is kept
 * without counting, which is most of ordinary text, and for others counting ends when
 * the bytes not yet seen can no longer exceed the limit.
 */
#ifndef DATA_RATIO_H
#define DATA_RATIO_H

#include "common/err.h"
#include "common/mem.h"
#include "data/document.h"
#include "data/ledger.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

#define RATIO_SAMPLE_BYTES ((size_t)1 << 20) /* text that calibration counts */

struct ratio_options {
    double max;             /* tokens per word; 0 = no ratio step */
    const char *tokenizer;  /* folder; NULL or "" = bootstrap */
    uint32_t vocab_size;    /* of the bootstrap tokenizer */
    uint64_t min_frequency; /* of its pairs */
    uint64_t train_bytes;   /* of text it is trained on */
};

/* One thread's tools and counts. */
struct ratio_worker {
    struct encoder *encoder;
    struct ids ids;
    uint64_t counted;
};

struct ratio {
    struct tokenizer *tokenizer;
    struct ratio_worker *workers; /* threads_count() */
    double max;
};

/* Batches in canonical order; only documents and paragraphs that are kept count. */
struct ratio_text {
    struct batch *const *batches;
    size_t count;
};

/* What waits for the tokenizer, as bytes of kept paragraphs. */
struct ratio_supply {
    uint64_t kept;
    uint64_t usable; /* of them, what training and calibration take */
};

#define RATIO_SUPPLY_FACTOR 8 /* kept text is held to at most so many times what is wanted */

/* Adds a batch, after deduplication. */
void ratio_gather(struct ratio_supply *s, const struct batch *b);
/* Whether the batches gathered give training and calibration all they take, so that more
 * would change nothing; or so much lies there that the wait ends with less. Depends on the
 * batches alone: asked after each one in canonical order, it is true at the same one
 * whatever the number of threads. */
bool ratio_enough(const struct ratio_supply *s, const struct ratio_options *o);

/* Loads or trains the tokenizer and calibrates it on `text`, the first of the corpus.
 * Fills `facts`. Outside parallel regions. */
int ratio_init(struct ratio *r, const struct ratio_options *o, const struct ratio_text *text,
               struct ledger_ratio *facts, struct err *e);
void ratio_release(struct ratio *r);
/* FATE_KEPT, FATE_RATIO, or FATE_UNMEASURED if the tokenizer's pattern gave up on it.
 * worker is omp_get_thread_num(). */
enum fate ratio_judge(struct ratio *r, int worker, const char *text, size_t len, uint32_t words);
/* Paragraphs whose tokens were counted, over all workers. */
uint64_t ratio_counted(const struct ratio *r);

#endif
