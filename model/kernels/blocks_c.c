/*
 * Norms, rotation, softmax and embedding on matrices in blocks, in plain C, for any machine.
 */
#define LANES 4
#include "model/kernels/blocks_body.h"

void blocks_fill_c(struct kernels *k)
{
    blocks_fill(k);
}
