/*
 * Norms, rotation, activation, loss and optimiser with AVX-512.
 */
#if defined(__x86_64__)
#define LANES 16
#include "model/kernels/rows_body.h"

void rows_fill_avx512(struct kernels *k)
{
    rows_fill(k);
}
#endif
