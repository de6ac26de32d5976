/*
 * The optimiser's pass over memory in plain C.
 */
#define LANES 4
#include "model/kernels/update_body.h"

void update_fill_c(struct kernels *k)
{
    k->update = update_blocks;
}
