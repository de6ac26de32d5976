/*
 * The one rule of batch.h.
 */
#include "eval/batch.h"

#include "common/err.h"

#include <stdbool.h>

/* Do rows of this number end in a remainder that another kernel would compute? */
static bool ends_in_few(int64_t rows)
{
    int64_t rest = rows % BATCH_MULTIPLE;
    return rest >= 1 && rest <= 8;
}

struct batch_shape batch_shape(int64_t B, int64_t longest, int64_t L)
{
    MW_ASSERT(B >= 1 && longest >= 1 && longest <= L);
    int64_t T = (longest + BATCH_MULTIPLE - 1) / BATCH_MULTIPLE * BATCH_MULTIPLE;
    if (T <= L)
        return (struct batch_shape){B, T};
    while (ends_in_few(B * L)) /* ends: 16 sequences have 16 L rows */
        B++;
    return (struct batch_shape){B, L};
}
