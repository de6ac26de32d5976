/*
 * The hot loops. Letters as in model/model.h.
 *
 * Each has a plain C body, which is its specification, and faster bodies for
 * CPUs that have more; kernels_init() picks by cpu_level() once, before threads
 * start. tests/model/test_kernels.c compares every level with the plain one.
 *
 * Parallel kernels cut their output into fixed blocks and sum each element in
 * one fixed order, so the bits do not depend on the number of threads. They do
 * depend on the level, within rounding.
 */
#ifndef MODEL_KERNELS_KERNELS_H
#define MODEL_KERNELS_KERNELS_H

#include "common/cpu.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kernel_precision {
    KERNEL_FP32, /* fp32 operands, fp32 sums */
    KERNEL_BF16  /* gemm: operands rounded to bf16 (nearest even), products exact, fp32 sums; the
                    AMX unit takes subnormals for 0. attention: the same at level amx, fp32
                    elsewhere */
};

/* Fills the tables and reserves packing scratch for threads_count() threads. Idempotent; call
 * again after cpu_level_force() or threads_init(). */
int kernels_init(struct err *e);
enum cpu_level kernels_level(void);

/* --- matrix products: one interface, replaced as a whole by faster engines ---- */
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

/* FLOP/s of all threads that never leave registers: what gemm() is held against. Takes about
 * 2 * seconds. Outside parallel regions only. */
double gemm_peak(enum kernel_precision precision, double seconds);

/* --- attention ---------------------------------------------------------------
 * Causal, grouped-query, scale 1/sqrt(D), never T x T in memory (block by block as in
 * FlashAttention-2, arXiv 2307.08691). Query head h uses group h / (H/G).
 * q, out: (B, T, H, D)   k, v: (B, T, G, D)   lse: (B, H, T) log-sum-exp of scaled scores. */
struct attention_shape {
    int64_t B, T, H, G, D;
};
void attention_forward(const struct attention_shape *s, enum kernel_precision precision,
                       const float *q, const float *k, const float *v, float *out, float *lse);
/* Writes (not adds) dq, dk, dv. */
void attention_backward(const struct attention_shape *s, enum kernel_precision precision,
                        const float *q, const float *k, const float *v, const float *out,
                        const float *lse, const float *dout, float *dq, float *dk, float *dv);

/* --- norms, rotation, activation; n rows, parallel over rows ------------------ */
/* y = x * rstd * w, rstd = 1 / sqrt(mean(x²) + eps).   x, y: (n, C)  w: (C)  rstd: (n) */
void rmsnorm_forward(const float *x, const float *w, float *y, float *rstd, int64_t n, int64_t C,
                     double eps);
/* Adds to dx (n, C) and, if not NULL, to dw (C). */
void rmsnorm_backward(const float *x, const float *w, const float *rstd, const float *dy, float *dx,
                      float *dw, int64_t n, int64_t C);
/* cos, sin: (T, D/2) for angle t * theta^(-2i/D), computed in double, kept in fp32. */
void rope_table(float *cos, float *sin, int64_t T, int64_t D, double theta);
/* Rotates pairs (i, i + D/2) of each head in place (half-split, as Hugging Face). x: (B, T,
 * heads, D), the first position of each sequence being pos0. inverse = backward pass. */
void rope_apply(float *x, const float *cos, const float *sin, int64_t B, int64_t T, int64_t heads,
                int64_t D, int64_t pos0, bool inverse);
/* y = silu(gate) * up, silu(x) = x / (1 + exp(-x)).   All (n) floats. */
void swiglu_forward(const float *gate, const float *up, float *y, int64_t n);
void swiglu_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup,
                     int64_t n);
/* Cross entropy of rows of logits (n, V) with targets (n); a target UINT32_MAX is ignored (loss
 * 0, gradient 0). If scale != 0 the logits are replaced by (softmax - onehot) * scale. */
void cross_entropy(float *logits, const uint32_t *targets, float *losses, int64_t n, int64_t V,
                   float scale);
void vector_add(float *x, const float *y, int64_t n); /* x += y */
/* AdamW on one run of n parameters, serial (train/optimizer.h states the formula). c1, c2 =
 * 1 - beta^t; g is multiplied by grad_scale first. */
struct adamw_constants {
    float lr, beta1, beta2, eps, weight_decay, c1, c2, grad_scale;
};
void adamw_run(float *p, const float *g, float *m, float *v, int64_t n,
               const struct adamw_constants *k);
double sum_squares(const float *x, int64_t n); /* fp64 sum in fixed order, serial */

#endif
