/*
 * Matrix products in plain C: what every machine has, and what the others are held against.
 */
#define LANES  4
#define MR     4
#define NV     2
#define K_STEP 256
#include "model/kernels/gemm_body.h"

void gemm_fill_c(struct kernels *k)
{
    gemm_fill(k);
}
