/*
 * The hot loops. Letters as in model/model.h.
 *
 * Each has a plain C body, which is its specification, and faster bodies for
 * CPUs that have more; kernels_init() picks by cpu_level() once, before threads
 * start. tests/model/ compares every level with the plain one.
 *
 * Parallel kernels cut their output into fixed blocks and sum each element in
 * one fixed order, so the bits do not depend on the number of threads. They do
 * depend on the level, within rounding.
 */
#ifndef MODEL_KERNELS_KERNELS_H
#define MODEL_KERNELS_KERNELS_H

#include "common/cpu.h"
#include "common/err.h"
#include "model/kernels/blocks.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kernel_precision {
    KERNEL_FP32, /* fp32 operands, fp32 sums */
    KERNEL_BF16  /* operands are bf16 (gemm() rounds them, to nearest even), products exact, sums
                    fp32; the AMX unit takes subnormals for 0. Attention: the same at level amx;
                    elsewhere it reads and writes bf16 and computes in fp32 */
};

/* Fills the tables and reserves packing scratch for threads_count() threads. Idempotent; call
 * again after cpu_level_force() or threads_init(). */
int kernels_init(struct err *e);
enum cpu_level kernels_level(void);
size_t kernels_bytes(void); /* of that scratch memory */

/* --- products of matrices that lie row by row: generation, adapters, Muon ------ */
enum gemm_layout {
    GEMM_NT, /* C (M, N) = A (M, K) · B (N, K)ᵀ     y = x Wᵀ   */
    GEMM_NN, /* C (M, N) = A (M, K) · B (K, N)      dx = dy W  */
    GEMM_TN  /* C (M, N) = A (K, M)ᵀ · B (K, N)     dW = dyᵀ x */
};
/* lda, ldb, ldc: distance of rows in floats. accumulate adds to C. Uses all threads when
 * called outside a parallel region, one inside. */
void gemm(enum gemm_layout layout, enum kernel_precision precision, int64_t M, int64_t N, int64_t K,
          const float *A, int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc,
          bool accumulate);

/* --- the engine: products and their neighbours on matrices in blocks -----------------------
 * Layouts and the words act, fp32 and panels: model/kernels/blocks.h. n is the number of rows
 * (tokens), a multiple of 32; every width is one too. All of these are parallel, and to be
 * called outside parallel regions; each value is computed by one thread in one order. */

/* Bytes of one value of an activation. */
static inline size_t act_bytes(enum kernel_precision precision)
{
    return precision == KERNEL_BF16 ? 2 : 4;
}

/* A weight W (out, in), both multiples of 32, applied as y = x Wᵀ. */
struct weight {
    int64_t out, in;
    void *forward;  /* panels (K = in, N = out): value (k, n) is W[n][k] */
    void *backward; /* panels (K = out, N = in): value (k, n) is W[k][n]; NULL without a
                       backward pass. fp32: W in blocks, with blocks of one column together */
};

/* y (n, out) act = x (n, in) act · Wᵀ */
void linear_forward(enum kernel_precision p, const struct weight *W, const void *x, void *y,
                    int64_t n);
/* y (n, out) fp32 += x (n, in) act · Wᵀ: a block's way back into the residual stream. */
void linear_forward_add(enum kernel_precision p, const struct weight *W, const void *x, float *y,
                        int64_t n);
/* W (2F, in) holds gate and up by turns, 32 rows each: gu (n, 2F) act = x Wᵀ, likewise by turns
 * (NULL = not wanted; else aligned to 64 bytes: it may be stored past the caches), and y (n, F)
 * act = silu(gate) * up, computed before gate and up are rounded. */
void linear_forward_swiglu(enum kernel_precision p, const struct weight *W, const void *x, void *gu,
                           void *y, int64_t n);
/* dx (n, in) act = dy (n, out) act · W */
void linear_backward(enum kernel_precision p, const struct weight *W, const void *dy, void *dx,
                     int64_t n);
/* W (C, F) is the one after SwiGLU. With d = dy (n, C) act · W, (n, F), and gate and up from gu
 * (n, 2F): d_gu (n, 2F) act = gradients of gate and up by turns, and y (n, F) act = silu(gate) *
 * up once more (NULL = not wanted). d_gu may be gu. */
void linear_backward_swiglu(enum kernel_precision p, const struct weight *W, const void *dy,
                            const void *gu, void *d_gu, void *y, int64_t n);
/* dW (out, in) fp32 blocks += dyᵀ x,   dy (n, out) act, x (n, in) act */
void linear_gradient(enum kernel_precision p, const void *dy, const void *x, float *dW, int64_t n,
                     int64_t out, int64_t in);

/* The head and its softmax: for logits l = x Wᵀ (n, out), of which only the first V columns
 * exist, each block column j of 32 gives for each row its maximum and sum,
 *     max[j][r] = max of l, sum[j][r] = Σ exp(l - max[j][r])          max, sum: (out/32, n)
 * (-INFINITY and 0 where the whole block column is beyond V).
 * at_target (n) = l at targets[r], untouched where targets[r] >= V. e (n, out) act =
 * exp(l - max[j][r]), zero beyond V (NULL = not wanted, when only the loss is). Logits
 * themselves are not kept. */
struct softmax_stats {
    float *max, *sum; /* (out/32, n) */
    float *at_target; /* (n) */
};
void linear_forward_softmax(enum kernel_precision p, const struct weight *W, const void *x,
                            const uint32_t *targets, int64_t V, void *e,
                            const struct softmax_stats *stats, int64_t n);
/* From these: losses (n) = lse - at_target + z_loss * lse², lse = log Σ exp(l) (Chowdhery et al.
 * 2022, PaLM §5, for z_loss); and, if e is not NULL, e becomes the gradient of Σ losses * scale:
 * ((1 + 2 z_loss lse) softmax - onehot) * scale. Rows whose target is UINT32_MAX: loss 0,
 * gradient 0. */
void softmax_finish(enum kernel_precision p, const uint32_t *targets, int64_t V, int64_t out,
                    void *e, const struct softmax_stats *stats, float *losses, float scale,
                    float z_loss, int64_t n);

enum { HEADS_T_MAX = 16 * 1024 }; /* longest sequence that attention on blocks takes */

/* Attention on blocks. T tokens a sequence, rows as in blocks.h; causal; scale 1/sqrt(D). qkv
 * (N, W) act holds the H query heads, then the G key heads, then the G value heads, each of the
 * three filled up to a multiple of 32 columns: W = block_up(H*D) + 2 block_up(G*D). */
struct heads_shape {
    int64_t B, T, H, G, D;
    const uint32_t *starts; /* (N): first position of its sequence a token may see (its
                               document's beginning; not decreasing within a sequence); NULL = 0 */
};
/* out (N, block_up(H*D)) act, lse (B, H, block_up(T)) log-sum-exp of scaled scores. */
void heads_forward(enum kernel_precision p, const struct heads_shape *s, const void *qkv, void *out,
                   float *lse);
/* Writes d_qkv, like qkv. dout like out. */
void heads_backward(enum kernel_precision p, const struct heads_shape *s, const void *qkv,
                    const void *out, const float *lse, const void *dout, void *d_qkv);
/* Rotates query and key heads of qkv in place, positions 0 … T-1 in each sequence; cosine, sine:
 * rope_table(). inverse = backward pass. */
void heads_rotate(enum kernel_precision p, const struct heads_shape *s, void *qkv,
                  const float *cosine, const float *sine, bool inverse);

/* RMSNorm of each query and key head of qkv in place, before rotation: qkv = raw * rstd * weight,
 * raw (like qkv) = what qkv was, in its query and key columns, rstd (N, H + G); weights (D). */
void heads_norm_forward(enum kernel_precision p, const struct heads_shape *s, void *qkv, void *raw,
                        float *rstd, const float *q_weight, const float *k_weight, double eps);
/* d_qkv in place; weights' gradients (D) += (both NULL = not wanted). */
void heads_norm_backward(enum kernel_precision p, const struct heads_shape *s, const void *raw,
                         const float *rstd, const float *q_weight, const float *k_weight,
                         void *d_qkv, float *dq_weight, float *dk_weight);

/* RMSNorm of the residual stream x (n, C) fp32 blocks, C its true width (the mean is over C):
 * h act = x * rstd * w, rstd (n); saved act = x, for the backward pass, at a multiple of 64
 * bytes (NULL = not wanted).
 * w: (C) floats. */
void norm_forward(enum kernel_precision p, const float *x, const float *w, void *h, void *saved,
                  float *rstd, int64_t n, int64_t C, double eps);
/* h once more, from what was saved. */
void norm_again(enum kernel_precision p, const void *saved, const float *w, const float *rstd,
                void *h, int64_t n, int64_t C);
/* dx fp32 (n, C) = (add ? dx : 0) + gradient of x given dh act; dx_act = dx rounded, for the
 * products (NULL = not wanted); dw (C) += (NULL = not wanted). */
void norm_backward(enum kernel_precision p, const void *saved, const float *w, const float *rstd,
                   const void *dh, float *dx, void *dx_act, float *dw, bool add, int64_t n,
                   int64_t C);

/* The embedding table (V, C), row by row without filling: fp32, or split (below). */
struct embedding {
    const float *fp32;     /* NULL = split */
    const uint16_t *upper; /* bf16 halves */
    const int16_t *lower;
};
/* x (n, C) fp32 blocks = rows of the table; ids (n), UINT32_MAX = a row of zeros (filling). */
void embed_forward(const struct embedding *table, const uint32_t *ids, float *x, int64_t n,
                   int64_t C);
/* dtable (V, C) row by row += dx (n, C) fp32 blocks. */
void embed_backward(const float *dx, const uint32_t *ids, float *dtable, int64_t n, int64_t C);

/* Between rows (floats, ld apart) and blocks: rows, cols as given, filled with zeros up to
 * multiples of 32 on the way into blocks. */
void blocks_from_rows(enum kernel_precision p, void *blocks, const float *src, int64_t ld,
                      int64_t rows, int64_t cols);
void blocks_to_rows(enum kernel_precision p, const void *blocks, float *dst, int64_t ld,
                    int64_t rows, int64_t cols);
/* Packs fp32 blocks src (rows, W->in): its block rows become block rows first, first + step, …
 * of W, in both of its forms. */
void weight_pack(enum kernel_precision p, const struct weight *W, const float *src, int64_t rows,
                 int64_t first, int64_t step);

/* A float split without loss: value = upper half rounded to nearest (ties away from zero), a
 * bf16, plus a signed rest: bits(value) = (upper << 16) + lower. */
static inline uint16_t split_upper(uint32_t bits)
{
    return (uint16_t)((bits + 0x8000u) >> 16);
}

/* --- row by row, fp32: what generation needs; n rows, parallel over rows ------- */
/* y = x * rstd * w, rstd = 1 / sqrt(mean(x²) + eps).   x, y: (n, C)  w: (C)  rstd: (n) */
void rmsnorm_forward(const float *x, const float *w, float *y, float *rstd, int64_t n, int64_t C,
                     double eps);
/* cos, sin: (T, D/2) for angle t * theta^(-2i/D), computed in double, kept in fp32. */
void rope_table(float *cos, float *sin, int64_t T, int64_t D, double theta);
/* Rotates pairs (i, i + D/2) of each head in place (half-split, as Hugging Face). x: (B, T,
 * heads, D), the first position of each sequence being pos0. inverse = backward pass. */
void rope_apply(float *x, const float *cos, const float *sin, int64_t B, int64_t T, int64_t heads,
                int64_t D, int64_t pos0, bool inverse);
/* y = silu(gate) * up, silu(x) = x / (1 + exp(-x)).   All (n) floats. */
void swiglu_forward(const float *gate, const float *up, float *y, int64_t n);
/* AdamW on one run of n parameters, serial (update.h states the formula). c1, c2 =
 * 1 - beta^t; g is multiplied by grad_scale first. */
struct adamw_constants {
    float lr, beta1, beta2, eps, weight_decay, c1, c2, grad_scale;
};
void adamw_run(float *p, const float *g, float *m, float *v, int64_t n,
               const struct adamw_constants *k);
double sum_squares(const float *x, int64_t n); /* fp64 sum in fixed order, serial */

#endif
