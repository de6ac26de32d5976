/*
 * A classification task end to end for one model and one seed: texts to ids, a
 * fine-tuned head (eval/finetune.h), its decisions on the test items, their scores.
 */
#ifndef EVAL_CLASSIFY_H
#define EVAL_CLASSIFY_H

#include "common/err.h"
#include "common/log.h"
#include "eval/finetune.h"
#include "eval/metrics.h"
#include "eval/task.h"
#include "tokenizer/tokenizer.h"

#define CLASSIFY_BOOTSTRAP 1000 /* rounds of the standard error */

struct classify_options {
    uint64_t seed;
    enum kernel_precision precision;
    int64_t epochs; /* 0 = the task's */
    int64_t limit;  /* only the first so many items of train and of test; 0 = all */
};

struct classify_result {
    size_t train_count, count; /* items trained on; items tested */
    int32_t *pred;             /* (count) labels */
    float *logits;             /* (count, class_count) */
    struct metrics score, error;
    double train_loss;   /* last epoch, mean weighted loss an item, nats */
    uint64_t truncated;  /* items, train and test, cut to max_length */
    uint64_t tokens_max; /* longest item after cutting */
};

/* Items of both splits that `limit` leaves, and the work of one run for a progress bar:
 * one unit an item trained on or decided. */
uint64_t classify_work(const struct task *t, const struct task_data *d,
                       const struct classify_options *o);

/* The text is cut into words (eval/wordcut.h), each encoded with a blank in front, <s> before
 * all, no </s>, cut behind min(max_length, the model's longest sequence) tokens. */
int classify_run(struct classify_result *r, const struct model *m, const struct tokenizer *tok,
                 const struct task *t, const struct task_data *d, const struct classify_options *o,
                 struct progress *p, struct err *e);
void classify_result_release(struct classify_result *r);

#endif
