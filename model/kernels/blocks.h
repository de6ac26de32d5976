/*
 * Matrices in blocks: how activations and weights lie in memory.
 *
 * A matrix (rows, cols), both multiples of BLOCK, is cut into blocks of 32 x 32 values: block
 * (i, j) is number i * (cols/32) + j and lies row by row, 1,024 values one after the other. A
 * row of a bf16 block is one cache line, and a block of a product's result is a block of the
 * next product's operand: what a kernel writes, the next one reads as it is, without packing.
 *
 * Three kinds of values occur:
 *
 *     act     the values of activations, of the precision that is trained in: bf16 (uint16_t,
 *             the upper half of a float) with KERNEL_BF16, float with KERNEL_FP32. Pointers to
 *             them are void *.
 *     fp32    the residual stream, its gradient, and gradients of weights, always float
 *     panels  a weight packed for products, below
 *
 * Tokens: the rows of an activation are the tokens of B sequences, each of which starts at a
 * multiple of 32: token t of sequence b is row b * block_up(T) + t, N = B * block_up(T). What
 * fills up rows and columns is zero in every activation and gradient, and stays zero.
 *
 * Panels of a right operand (K, N) of a product: for each 32 columns n, for each 32 values of k,
 * a block; number (n/32) * (K/32) + k/32. Within it
 *
 *     fp32    32 rows of k, each with 32 columns n
 *     bf16    two tiles of 512 values, columns 0-15 and 16-31; a tile has 16 rows, one for each
 *             pair k, k+1, with 16 times the two values of a column side by side (what TDPBF16PS
 *             takes)
 */
#ifndef MODEL_KERNELS_BLOCKS_H
#define MODEL_KERNELS_BLOCKS_H

#include <stdint.h>
#include <string.h>

enum { BLOCK = 32, BLOCK_AREA = BLOCK * BLOCK };

static inline int64_t block_up(int64_t n)
{
    return (n + BLOCK - 1) / BLOCK * BLOCK;
}

/* Where value (row, col) of a matrix with `cols` columns lies. */
static inline int64_t block_at(int64_t row, int64_t col, int64_t cols)
{
    return (row / BLOCK * (cols / BLOCK) + col / BLOCK) * BLOCK_AREA + row % BLOCK * BLOCK +
           col % BLOCK;
}

/* Where value (k, n) of a right operand of depth K lies in its bf16 panels. */
static inline int64_t panel_at_bf16(int64_t k, int64_t n, int64_t K)
{
    return (n / BLOCK * (K / BLOCK) + k / BLOCK) * BLOCK_AREA + n % BLOCK / 16 * 512 +
           k % BLOCK / 2 * 32 + n % 16 * 2 + k % 2;
}

/* … and in its fp32 panels. */
static inline int64_t panel_at_fp32(int64_t k, int64_t n, int64_t K)
{
    return (n / BLOCK * (K / BLOCK) + k / BLOCK) * BLOCK_AREA + k % BLOCK * BLOCK + n % BLOCK;
}

static inline float bf16_value(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* Nearest, ties to even; a NaN stays one. */
static inline uint16_t bf16_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    if (x != x)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
