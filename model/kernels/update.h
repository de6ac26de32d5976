/*
 * The pass over memory of an optimiser step: reads gradients, moments and masters, writes
 * moments, masters and both packed forms of every weight (model/kernels/blocks.h), a block of
 * 1,024 values at a time, which stays in the first-level cache from its first stage to the last.
 *
 * AdamW (Loshchilov and Hutter 2019; llammlein.md §3.4), with c1, c2 = 1 - beta^t and g
 * multiplied by grad_scale first:
 *
 *     m ← β1 m + (1-β1) g          v ← β2 v + (1-β2) g²
 *     p ← p - lr (wd p + (m / c1) / (sqrt(v / c2) + eps))
 *
 * Muon (train/muon.h) needs two passes instead, with other work between them:
 *
 *     m ← β1 m + (1-β1) g,   g ← β1 m + (1-β1) g (Nesterov)
 *     p ← p - lr (wd p + g)
 *
 * The arithmetic has no fused multiply-add, so that all levels give the same bits.
 *
 * Masters. MASTERS_SPLIT keeps of each master only its lower 16 bits, as a signed number: the
 * upper half is the packed bf16 weight itself, read from the backward panels. Nothing is lost
 * (split_upper() in kernels.h), and 4 bytes a value are saved. The packed copies are rounded the
 * same way with MASTERS_FP32, so that both give the same model.
 *
 * Moments. All are used at full precision for the step that computes them; what is kept may be
 * less. MOMENTS_BF16 rounds stochastically (a nearest bf16 would hide any change below 2^-9 of
 * itself: arXiv 2502.20566). MOMENTS_INT8 keeps one byte a value and one scale a block, the
 * largest magnitude in it (block-wise, as in arXiv 2110.02861, here with closed codes):
 *
 *     mean     scale * k |k| / 127²     k = -127 … 127
 *     square   scale * (k / 255)⁴       k = 0 … 255, and 0 only for exactly 0: where a
 *                                       square vanished before its mean, steps would blow up
 *
 * Both are rounded stochastically between the two neighbours, without bias. The random bits are
 * a hash of rule.noise and the value's place in block order.
 */
#ifndef MODEL_KERNELS_UPDATE_H
#define MODEL_KERNELS_UPDATE_H

#include "model/kernels/kernels.h"

#include <math.h>

enum masters { MASTERS_FP32, MASTERS_SPLIT };
enum moments { MOMENTS_FP32, MOMENTS_BF16, MOMENTS_INT8 };

/* Parameters that follow each other in block order and are kept alike: one weight, or the
 * embedding table, or the norms. Arrays begin at multiples of 64 bytes. */
struct update {
    uint64_t first; /* number of its first block of 1,024 in block order … */
    int64_t count;  /* … and how many there are */
    enum masters masters;
    enum moments moments;
    enum kernel_precision precision; /* of the weight */
    const struct weight *weight;     /* NULL: row by row, without packed forms */
    float *grads;
    float *master;   /* MASTERS_FP32 */
    uint16_t *upper; /* MASTERS_SPLIT without a weight */
    int16_t *lower;  /* MASTERS_SPLIT */
    void *mean;      /* float, bf16 or int8_t */
    void *square;    /* float, bf16 or uint8_t */
    float *scales;   /* MOMENTS_INT8: (count, 2), of mean and square */
};

struct update_rule {
    struct adamw_constants adamw;
    uint64_t noise; /* another one for each step */
};

/* One step on `n` of them. Parallel over fixed runs of blocks. */
void update_adamw(const struct update *updates, int64_t n, const struct update_rule *rule);
/* Muon's first and second pass; there are no squares, and means are not in 8 bits. */
void update_momentum(const struct update *updates, int64_t n, const struct update_rule *rule);
void update_apply(const struct update *updates, int64_t n, const struct update_rule *rule);
/* Writes the packed forms from the masters; with MASTERS_SPLIT only the forward one is left to
 * write. */
void update_pack(const struct update *updates, int64_t n);

/* The codes of MOMENTS_INT8: their values, and the nearest code of a value. */
static inline float mean_value(int8_t k, float scale)
{
    return scale * ((float)(k * (k < 0 ? -k : k)) * (1.0f / (127 * 127)));
}

static inline float square_value(uint8_t k, float scale)
{
    float root = (float)(k * k) * (1.0f / (255 * 255));
    return scale * (root * root);
}

static inline int8_t mean_code(float x, float scale)
{
    int k = scale > 0 ? (int)(127.0f * sqrtf(fabsf(x) / scale) + 0.5f) : 0;
    return (int8_t)(x < 0 ? -k : k);
}

static inline uint8_t square_code(float x, float scale)
{
    int k = scale > 0 ? (int)(255.0f * sqrtf(sqrtf(x / scale)) + 0.5f) : 0;
    return (uint8_t)(x > 0 && k == 0 ? 1 : k);
}

#endif
