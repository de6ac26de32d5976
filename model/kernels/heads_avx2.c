/*
 * Attention with AVX2 and FMA.
 */
#if defined(__x86_64__)
#define LANES 8
#define MR    6
#define NV    2
#include "model/kernels/heads_body.h"

void heads_fill_avx2(struct kernels *k)
{
    heads_fill(k);
}
#endif
