/*
 * Attention in plain C.
 */

#define LANES 4
#define MR    4
#define NV    2
#include "model/kernels/heads_body.h"

void heads_fill_c(struct kernels *k)
{
    heads_fill(k);
}
