/*
 * The optimiser's pass over memory with AVX2.
 */
#if defined(__x86_64__)
#define LANES 8
#include "model/kernels/update_body.h"

void update_fill_avx2(struct kernels *k)
{
    k->update = update_blocks;
}
#endif
