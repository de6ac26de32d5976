/*
 * Norms, rotation, softmax and embedding on matrices in blocks, with AVX2.
 */
#if defined(__x86_64__)
#define LANES 8
#include "model/kernels/blocks_body.h"

void blocks_fill_avx2(struct kernels *k)
{
    blocks_fill(k);
}
#endif
