/*
 * Attention with AVX2 and FMA.
 */
#if defined(__x86_64__)
#define LANES 8
#define MR    6
#define NV    2
#include "model/kernels/attention_body.h"

void attention_fill_avx2(struct kernels *k)
{
    attention_fill(k);
}
#endif
