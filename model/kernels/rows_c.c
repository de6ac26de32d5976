/*
 * Norms, rotation, activation, loss and optimiser in plain C.
 */
#define LANES 4
#include "model/kernels/rows_body.h"

void rows_fill_c(struct kernels *k)
{
    rows_fill(k);
}
