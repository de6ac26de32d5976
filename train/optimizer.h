/*
 * The optimiser of a training run. It owns masters, moments and gradients, all in block order
 * (model/weights.h), and writes the packed weights the engine multiplies with: after
 * optimizer_step() the model is the new one, nothing is left to pack.
 *
 *     optimizer_init(&o, &weights, &options, e)    weights: weights_init() with a backward pass
 *     optimizer_put(…) each tensor, optimizer_pack(&o)
 *     each step:  optimizer_clear(&o), backward passes add to o.grads,
 *                 norm = optimizer_norm(&o), optimizer_step(&o, t, lr, clip / norm)
 *
 * The rule is AdamW with decoupled weight decay on all parameters; the formula, and how masters
 * and moments may be kept, are in model/kernels/update.h. The norms are always fp32; with
 * MOMENTS_INT8 the embedding's moments are bf16. All results are the same to the bit for any
 * number of threads, and at all CPU levels.
 */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "common/err.h"
#include "model/kernels/update.h"
#include "model/weights.h"

#include <stddef.h>
#include <stdint.h>

struct optimizer_options {
    enum masters masters; /* MASTERS_SPLIT wants bf16 weights */
    enum moments moments;
    double beta1, beta2, eps, weight_decay;
    uint64_t seed; /* of stochastic rounding */
};

struct optimizer {
    struct optimizer_options options;
    struct weights *weights; /* borrowed */
    float *grads;            /* (weights->size), block order */
    struct update *updates;  /* embedding, weights, norms */
    int64_t count;
    void *masters, *moments; /* memory the updates point into */
    uint64_t masters_bytes, moments_bytes, grads_bytes;
};

/* Bytes optimizer_init() reserves. Masters: what is kept beside the packed weights. */
struct optimizer_bytes {
    uint64_t masters, moments, grads;
};
struct optimizer_bytes optimizer_bytes(const struct model_config *c,
                                       const struct optimizer_options *options);

/* Reserves everything, zero. w (borrowed) has its own panels; its embedding and norms are set
 * to the masters kept here. Fails with a sentence if memory is short, or if w is fp32 and
 * masters are to be split. */
int optimizer_init(struct optimizer *o, struct weights *w, const struct optimizer_options *options,
                   struct err *e);
void optimizer_release(struct optimizer *o);

/* Sets the gradients to zero. */
void optimizer_clear(struct optimizer *o);
/* Euclidean norm of the gradients, summed in double in one order; NaN and Inf pass through. */
double optimizer_norm(const struct optimizer *o);
/* Step number t, from 1. Gradients are multiplied by grad_scale (clipping) on the way, and stay
 * as they are. */
void optimizer_step(struct optimizer *o, uint64_t t, double lr, double grad_scale);

/* Rows [row, row + count) of tensor number i (the order of model.tensors) as floats, place.cols
 * apart. What get gives, put restores to the bit: masters and fp32 and bf16 moments are given as
 * they are, and 8-bit moments as the values of their codes, which code to the same again. put
 * wants whole rows of blocks of 8-bit moments: row is a multiple of 32, and count too unless
 * the tensor ends there; then a block's scale becomes its largest value. After the last put of
 * masters, optimizer_pack() writes the packed forms. */
enum optimizer_part { OPTIMIZER_MASTER, OPTIMIZER_MEAN, OPTIMIZER_SQUARE };
void optimizer_get(const struct optimizer *o, enum optimizer_part part, size_t tensor, int64_t row,
                   int64_t count, float *rows);
void optimizer_put(struct optimizer *o, enum optimizer_part part, size_t tensor, int64_t row,
                   int64_t count, const float *rows);
void optimizer_pack(struct optimizer *o);

/* --- flat arrays: the few parameters of fine-tuned heads ------------------------------------ */

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
