/*
 * Measuring loops with AVX-512.
 */
#if defined(__x86_64__)
#define LANES 16
#include "model/kernels/peak_body.h"

void peak_fill_avx512(struct kernels *k)
{
    peak_fill(k);
}
#endif
