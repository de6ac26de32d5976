/*
 * Fine-tuning as SuperGLEBer does it (spec evaluation.md §1.3-1.4): the body frozen,
 * LoRA on q_proj and v_proj, a linear head on the last token's hidden state, AdamW,
 * flair's schedule.
 *
 *     struct finetune f;
 *     finetune_init(&f, model, &options, class_count, longest, e);
 *     finetune_train(&f, train, n, weights, &progress, e);
 *     finetune_predict(&f, test, m, logits, NULL);
 *     finetune_release(&f);
 *
 * Deviations from flair, none of which the protocol depends on: sequences are padded
 * to the longest of their batch, not to 512 (the same numbers, causal attention never
 * looks right); no fp16 and so no loss scaling; the frozen body is not quantised to
 * four bits; the random numbers are ours. The result depends on model, items, options
 * and CPU level, not on the number of threads.
 */
#ifndef EVAL_FINETUNE_H
#define EVAL_FINETUNE_H

#include "common/err.h"
#include "common/log.h"
#include "eval/head.h"
#include "model/model.h"

struct finetune_options {
    int64_t epochs, batch;
    double lr, weight_decay;
    double grad_clip;    /* 0 = none */
    double warmup_share; /* of the steps */
    int64_t lora_rank;
    double lora_alpha, lora_dropout;
    uint64_t seed;
    enum kernel_precision precision;
};

/* One document; ids are borrowed. 1 <= count <= longest. */
struct example {
    const uint32_t *ids;
    size_t count;
    int32_t label; /* 0 … K-1 for training */
};

struct finetune {
    struct finetune_options options;
    const struct model *model;
    struct lora lora;
    struct head head;
    struct workspace *workspace;
    size_t longest;
    /* scratch and state, sized once */
    uint32_t *tokens;         /* (B, T) of the largest pass */
    float *d_hidden;          /* (B, T, C) */
    float *pooled, *d_pooled; /* (batch, C) */
    float *logits, *d_logits; /* (batch, K) */
    int32_t *targets;         /* (batch) */
    float *lora_grads, *lora_m, *lora_v;
    float *head_grads, *head_m, *head_v;
    double epoch_loss; /* mean weighted loss of an item in the last epoch, nats */
};

/* T = int((n + batch - 1) / batch * epochs) with a real division, as flair computes it:
 * a little more than the steps there are. */
uint64_t finetune_schedule_steps(uint64_t n, int64_t batch, int64_t epochs);
/* Rate of step s = 0, 1, … : rises to lr over int(share * T) steps, then falls to 0 at T. */
double finetune_rate(double lr, double warmup_share, uint64_t T, uint64_t s);

int finetune_init(struct finetune *f, const struct model *m, const struct finetune_options *o,
                  int64_t K, size_t longest, struct err *e);
void finetune_release(struct finetune *f);

/* All epochs. weights: one a class. The progress bar (may be NULL) advances from its `done`
 * by one a training item. Fails if the loss stops being finite. */
int finetune_train(struct finetune *f, const struct example *items, size_t n, const double *weights,
                   struct progress *p, struct err *e);

/* logits (n, K) in the order of the items. */
void finetune_predict(struct finetune *f, const struct example *items, size_t n, float *logits,
                      struct progress *p);

#endif
