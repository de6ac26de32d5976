/* Owns what stands between the logits and the sampler; see choose.h. */
#include "eval/choose.h"

#include <math.h>

/* Weights of a run that went wrong, or of a file that was tampered with, give NaN. */
static int check_logits(const float *logits, int64_t V, struct err *e)
{
    for (int64_t v = 0; v < V; v++)
        if (!isfinite(logits[v]))
            return err_set(e,
                           "the model's logits are not finite (id %lld): its weights are damaged "
                           "or its training diverged",
                           (long long)v);
    return 0;
}

int choose_token(uint32_t *id, float *logits, int64_t V, const struct tokenizer *t,
                 const struct sampler *s, struct candidate *scratch, struct rng *rng, struct err *e)
{
    if (check_logits(logits, V, e))
        return -1;
    for (int64_t v = tokenizer_vocab_size(t); v < V; v++)
        logits[v] = -INFINITY;
    *id = sampler_pick(s, logits, V, scratch, rng);
    return 0;
}
