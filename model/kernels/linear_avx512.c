/*
 * Products on matrices in blocks with AVX-512: tiles of 12 x 32 and 8 x 32, up to 24 sums in 32
 * registers.
 */
#if defined(__x86_64__)
#define LANES        16
#define TILE_VECTORS 2
#define TALL         12
#define TALL_TILES   2
#define LOW          8
#include "model/kernels/linear_body.h"

void linear_fill_avx512(struct kernels *k)
{
    linear_fill(k);
}
#endif
