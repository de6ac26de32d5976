/*
 * Matrix products with AVX2 and FMA: 6 x 16 register tiles, 12 sums, two vectors of B and
 * one broadcast in 16 registers.
 */
#if defined(__x86_64__)
#define LANES  8
#define MR     6
#define NV     2
#define K_STEP 256
#include "model/kernels/gemm_body.h"

void gemm_fill_avx2(struct kernels *k)
{
    gemm_fill(k);
}
#endif
