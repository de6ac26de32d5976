/*
 * The classification head put on a frozen body: Linear(C, K) on one pooled vector
 * per document, weighted cross entropy summed over the batch (spec evaluation.md
 * §1.3; checked against vectors/eval/supergleber/heads.json).
 *
 * K classes, C hidden size, n documents in a batch. Serial loops in fixed order: a
 * batch is 8 documents and K a few classes.
 */
#ifndef EVAL_HEAD_H
#define EVAL_HEAD_H

#include <stddef.h>
#include <stdint.h>

struct head {
    int64_t K, C;
    float *params; /* weight (K, C), then bias (K) */
    size_t param_count;
};

/* Weight Xavier-uniform U(±sqrt(6/(K+C))), bias U(±1/sqrt(C)) as torch's Linear. */
void head_init(struct head *h, int64_t K, int64_t C, uint64_t seed);
void head_release(struct head *h);

/* logits (n, K) of pooled (n, C). */
void head_forward(const struct head *h, const float *pooled, size_t n, float *logits);
/* Adds to grads (layout of params), writes d_pooled (n, C). */
void head_backward(const struct head *h, const float *pooled, const float *d_logits, size_t n,
                   float *grads, float *d_pooled);

/* Σ_i weights[t_i] · (logsumexp(z_i) - z_i[t_i]), not divided by anything; d_logits (n, K)
 * gets its gradient unless NULL. weights (K); targets in 0 … K-1. */
double head_loss(const float *logits, const int32_t *targets, const double *weights, size_t n,
                 int64_t K, float *d_logits);
/* First of the largest. */
int32_t head_decide(const float *logits, int64_t K);
/* softmax of one row */
void head_probabilities(const float *logits, int64_t K, double *out);

/* w[c] = N / (K · counts[c]), N = Σ counts. A class without training items gets 0. */
void class_weights(const uint64_t *counts, int32_t K, double *weights);

#endif
