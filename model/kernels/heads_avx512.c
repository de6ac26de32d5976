/*
 * Attention with AVX-512.
 */
#if defined(__x86_64__)
#define LANES 16
#define MR    12
#define NV    2
#include "model/kernels/heads_body.h"

void heads_fill_avx512(struct kernels *k)
{
    heads_fill(k);
}
#endif
