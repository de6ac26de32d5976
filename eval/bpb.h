/*
 * Bits per byte on held-out documents, with an error bar.
 *
 * A document is scored as lm-eval's rolling rule does (spec evaluation.md §2.2): its
 * text tokens t_1 … t_n follow the prefix <s>, and windows of L = the model's longest
 * sequence predict each token once. The first window predicts t_1 … t_L; each later
 * one L new tokens; the last one is filled up with earlier context on the left.
 * </s> is not predicted: it spells no byte, and lm-eval and others leave it out too.
 *
 *     bits per byte = Σ nats over all documents / ln 2 / Σ UTF-8 bytes of their text
 *
 * The error is that of the ratio estimator over documents (eval/stats.h), because
 * tokens within a document are not independent.
 *
 * Documents are those of PREFIX.valid.*, all of them or, with a limit, in the order of
 * a hash of their id until the limit is reached: always the same ones, whatever else
 * is in the shard. Windows run sorted by length and padded on the right; neither that
 * nor the batch size nor the number of threads changes a bit of the result.
 */
#ifndef EVAL_BPB_H
#define EVAL_BPB_H

#include "common/err.h"
#include "common/log.h"
#include "eval/stats.h"
#include "model/model.h"
#include "tokenizer/shard.h"

struct bpb_options {
    uint64_t max_tokens;  /* stop choosing documents at this many tokens; 0 = all */
    int64_t batch_tokens; /* tokens in a forward pass, at least one window */
    enum kernel_precision precision;
};

struct bpb_document {
    uint64_t doc;    /* number in the shard */
    uint64_t from;   /* flat position of t_1 in it */
    uint64_t tokens; /* predicted */
    uint64_t bytes;  /* of UTF-8 text */
    double nats;     /* Σ -ln p */
};

struct bpb_set {
    struct bpb_document *docs; /* in shard order */
    size_t count;
    uint64_t tokens, bytes;
};

/* The documents a limit chooses; nats are 0 still. Documents without text are left out. */
int bpb_choose(struct bpb_set *set, const struct shard *s, uint64_t max_tokens, struct err *e);
void bpb_set_release(struct bpb_set *set);

/* Window k of a document of n tokens: inputs are s[from] … s[from+count-1] of the sequence
 * s_0 = <s>, s_1 = t_1, …; input i predicts s_{i+1}, and the last `scored` predictions count.
 * There are ceil(n / L) windows. */
struct bpb_window {
    uint64_t from;
    size_t count, scored;
};
struct bpb_window bpb_window(uint64_t n, size_t L, uint64_t k);

/* Fills in nats. The progress bar (may be NULL) advances from its `done` by one a predicted
 * token. */
int bpb_score(struct bpb_set *set, const struct shard *s, const struct model *m,
              const struct bpb_options *o, struct progress *p, struct err *e);
/* Bits per byte and its standard error. */
struct stats_ratio bpb_result(const struct bpb_set *set);

#endif
