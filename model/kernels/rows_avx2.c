/*
 * Norms, rotation, activation, loss and optimiser with AVX2.
 */
#if defined(__x86_64__)
#define LANES 8
#include "model/kernels/rows_body.h"

void rows_fill_avx2(struct kernels *k)
{
    rows_fill(k);
}
#endif
