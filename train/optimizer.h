/*
 * AdamW (Loshchilov and Hutter 2019) as in llammlein.md §3.4: decoupled weight decay
 * on all parameters, bias-corrected moments.
 *
 *     m ← β1 m + (1-β1) g          v ← β2 v + (1-β2) g²
 *     p ← p - lr (wd p + (m / (1-β1ᵗ)) / (sqrt(v / (1-β2ᵗ)) + eps))
 */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

struct adamw {
    double beta1, beta2, eps, weight_decay;
};

/* One step on n parameters; t counts from 1. g is multiplied by grad_scale (clipping) on the
 * way. Parallel over fixed blocks: the same bits for any number of threads. */
void adamw_step(const struct adamw *o, float *p, const float *g, float *m, float *v, size_t n,
                uint64_t t, double lr, double grad_scale);

/* Euclidean norm, summed in double over fixed blocks in order; NaN and Inf pass through. */
double grad_norm(const float *g, size_t n);

#endif
