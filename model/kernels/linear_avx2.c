/*
 * Products on matrices in blocks with AVX2 and FMA: tiles of 6 x 16 and 4 x 16, up to 12 sums,
 * two vectors of B and one broadcast in 16 registers.
 */
#if defined(__x86_64__)
#define LANES        8
#define TILE_VECTORS 2
#define TALL         6
#define TALL_TILES   4
#define LOW          4
#include "model/kernels/linear_body.h"

void linear_fill_avx2(struct kernels *k)
{
    linear_fill(k);
}
#endif
