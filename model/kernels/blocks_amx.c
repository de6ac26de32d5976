/*
 * Norms, rotation, softmax and embedding on matrices in blocks, with AVX-512 and its conversion to
 * bf16.
 */
#if defined(__x86_64__)
#define LANES 16
#include "model/kernels/blocks_body.h"

void blocks_fill_amx(struct kernels *k)
{
    blocks_fill(k);
}
#endif
