/*
 * Attention with AVX-512.
 */
#if defined(__x86_64__)
#define LANES 16
#define MR    12
#define NV    2
#include "model/kernels/attention_body.h"

void attention_fill_avx512(struct kernels *k)
{
    attention_fill(k);
}
#endif
