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
 * OPTIMIZER_ADAMW is AdamW with decoupled weight decay on all parameters; the formula, and how
 * masters and moments may be kept, are in model/kernels/update.h. The norms are always fp32; with
 * MOMENTS_INT8 the embedding's moments are bf16.
 *
 * OPTIMIZER_MUON moves each matrix of the layers (q, k, v, o, gate, up, down) by the direction of
 * train/muon.h, times 0.2 sqrt(max(rows, cols)), which makes its values as large as AdamW's: rate
 * and weight decay carry over (Liu et al. 2025, arXiv 2502.16982). The momentum is kept as means,
 * in bf16 with MOMENTS_INT8; there are no squares. Embedding, head and norms are AdamW's.
 *
 * All results are the same to the bit for any number of threads; AdamW's at all CPU levels too.
 */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "common/err.h"
#include "model/kernels/update.h"
#include "model/weights.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum optimizer_name { OPTIMIZER_ADAMW, OPTIMIZER_MUON };

struct optimizer_options {
    enum optimizer_name name;
    enum masters masters; /* MASTERS_SPLIT wants bf16 weights */
    enum moments moments;
    double beta1, beta2, eps, weight_decay;
    double momentum; /* Muon's, Nesterov; usually 0.95 */
    uint64_t seed;   /* of stochastic rounding */
};

/* Bytes optimizer_init() reserves. Masters: what is kept beside the packed weights. */
struct optimizer_bytes {
    uint64_t masters, moments, grads, scratch;
};

struct optimizer {
    struct optimizer_options options;
    struct weights *weights; /* borrowed */
    float *grads;            /* (weights->size), block order */
    struct update *updates;  /* embedding, weights, norms */
    int64_t count;
    void *masters, *moments; /* memory the updates point into */
    float *scratch;          /* Muon's, for one matrix of each worker */
    int workers;             /* threads that take a matrix of Muon's each */
    struct optimizer_bytes bytes;
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
/* Step number t, from 1. Gradients are multiplied by grad_scale (clipping) on the way. Muon
 * uses their memory, AdamW leaves them as they are. */
void optimizer_step(struct optimizer *o, uint64_t t, double lr, double grad_scale);

/* Rows [row, row + count) of tensor number i (the order of model.tensors) as floats, place.cols
 * apart. What get gives, put restores to the bit: masters and fp32 and bf16 moments are given as
 * they are, and 8-bit moments as the values of their codes, which code to the same again. Squares
 * that Muon does not keep are zeros, and putting them does nothing (optimizer_keeps()). put
 * wants whole rows of blocks of 8-bit moments: row is a multiple of 32, and count too unless
 * the tensor ends there; then a block's scale becomes its largest value. After the last put of
 * masters, optimizer_pack() writes the packed forms. */
enum optimizer_part { OPTIMIZER_MASTER, OPTIMIZER_MEAN, OPTIMIZER_SQUARE };
/* Whether this part of a tensor is kept. */
bool optimizer_keeps(const struct optimizer *o, enum optimizer_part part, size_t tensor);
void optimizer_get(const struct optimizer *o, enum optimizer_part part, size_t tensor, int64_t row,
                   int64_t count, float *rows);
void optimizer_put(struct optimizer *o, enum optimizer_part part, size_t tensor, int64_t row,
                   int64_t count, const float *rows);
void optimizer_pack(struct optimizer *o);
/* Whether get gives bf16 values of that tensor, which a file can keep as such without loss. */
bool optimizer_in_bf16(const struct optimizer *o, enum optimizer_part part, size_t tensor);
/* Bytes of all that is kept, in a file with bf16 values as such and all others as floats. */
uint64_t optimizer_saved_bytes(const struct model_config *c,
                               const struct optimizer_options *options);

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
