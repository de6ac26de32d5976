/*
 * Attention in plain C.
 */

#define LANES 4
#define MR    4
#define NV    2
#include "model/kernels/attention_body.h"

void attention_fill_c(struct kernels *k)
{
    attention_fill(k);
}
