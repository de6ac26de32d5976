/*
 * Matrix products with AVX-512: 14 x 32 register tiles, 28 sums in 32 registers.
 */
#if defined(__x86_64__)
#define LANES  16
#define MR     14
#define NV     2
#define K_STEP 256
#include "model/kernels/gemm_body.h"

void gemm_fill_avx512(struct kernels *k)
{
    gemm_fill(k);
}
#endif
