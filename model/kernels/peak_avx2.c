/*
 * Measuring loops with AVX2 and FMA.
 */
#if defined(__x86_64__)
#define LANES 8
#include "model/kernels/peak_body.h"

void peak_fill_avx2(struct kernels *k)
{
    peak_fill(k);
}
#endif
