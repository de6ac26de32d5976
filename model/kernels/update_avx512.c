/*
 * The optimiser's pass over memory with AVX-512.
 */
#if defined(__x86_64__)
#define LANES 16
#include "model/kernels/update_body.h"

void update_fill_avx512(struct kernels *k)
{
    k->update = update_blocks;
}
#endif
