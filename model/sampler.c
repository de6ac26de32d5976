/*
 * From logits to one id. The filters work on a list of candidates that is sorted
 * once; each filter then keeps a prefix of it.
 */
#include "model/generate.h"

#include <math.h>

int sampler_check(const struct sampler *s, struct err *e)
{
    if (!(s->temperature >= 0) || isinf(s->temperature))
        return err_set(e, "temperature is %g, must be 0 (greedy) or more", s->temperature);
    if (s->top_k < 0)
        return err_set(e, "top-k is %lld, must be 0 (off) or more", (long long)s->top_k);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return err_set(e, "top-p is %g, must be between 0 (off) and 1", s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return err_set(e, "min-p is %g, must be between 0 (off) and 1", s->min_p);
    if (!(s->top_nsigma >= 0) || isinf(s->top_nsigma))
        return err_set(e, "top-nsigma is %g, must be 0 (off) or more", s->top_nsigma);
    return 0;
}

/* The lowest logit top-nσ keeps. On raw logits: dividing by a temperature would scale the
 * maximum, sigma and every logit alike. */
static double nsigma_threshold(const float *logits, int64_t V, double n)
{
    double max = -INFINITY, sum = 0, squares = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < V; i++) {
        if (!isfinite(logits[i]))
            continue;
        max = fmax(max, logits[i]);
        sum += logits[i];
        count++;
    }
    for (int64_t i = 0; i < V; i++)
        if (isfinite(logits[i]))
            squares += (logits[i] - sum / count) * (logits[i] - sum / count);
    return max - n * sqrt(squares / count);
}

static int compare_candidates(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    if (a->logit != b->logit)
        return a->logit < b->logit ? 1 : -1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Sets p of all candidates, softmax(logit / temperature). */
static void set_probabilities(struct candidate *c, int64_t count, double temperature)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        c[i].p = exp(((double)c[i].logit - c[0].logit) / temperature);
        sum += c[i].p;
    }
    for (int64_t i = 0; i < count; i++)
        c[i].p /= sum;
}

static int64_t keep_top_p(const struct candidate *c, int64_t count, double top_p)
{
    double cumulative = 0;
    for (int64_t i = 0; i < count; i++) {
        cumulative += c[i].p;
        if (cumulative >= top_p)
            return i + 1;
    }
    return count;
}

static int64_t keep_min_p(const struct candidate *c, int64_t count, double min_p)
{
    int64_t kept = 1;
    while (kept < count && c[kept].p >= min_p * c[0].p)
        kept++;
    return kept;
}

/* The first candidate of all, without sorting. */
static int64_t keep_greedy(struct candidate *c, int64_t count)
{
    for (int64_t i = 1; i < count; i++)
        if (compare_candidates(&c[i], &c[0]) < 0)
            c[0] = c[i];
    c[0].p = 1;
    return 1;
}

int64_t sampler_filter(const struct sampler *s, const float *logits, int64_t V,
                       struct candidate *out)
{
    double lowest = s->top_nsigma > 0 ? nsigma_threshold(logits, V, s->top_nsigma) : -INFINITY;
    int64_t count = 0;
    for (int64_t i = 0; i < V; i++)
        if (isfinite(logits[i]) && logits[i] >= lowest)
            out[count++] = (struct candidate){.id = (uint32_t)i, .logit = logits[i]};
    MW_ASSERT(count > 0);
    if (s->temperature == 0)
        return keep_greedy(out, count);

    qsort(out, (size_t)count, sizeof(*out), compare_candidates);
    if (s->top_k > 0 && s->top_k < count)
        count = s->top_k;
    set_probabilities(out, count, s->temperature);
    if (s->top_p > 0 && s->top_p < 1)
        count = keep_top_p(out, count, s->top_p);
    if (s->min_p > 0)
        count = keep_min_p(out, count, s->min_p);
    set_probabilities(out, count, s->temperature);
    return count;
}

uint32_t sampler_pick(const struct sampler *s, const float *logits, int64_t V,
                      struct candidate *scratch, struct rng *rng)
{
    int64_t count = sampler_filter(s, logits, V, scratch);
    if (s->temperature == 0)
        return scratch[0].id;
    double u = rng_f64(rng), cumulative = 0;
    for (int64_t i = 0; i < count; i++) {
        cumulative += scratch[i].p;
        if (u < cumulative)
            return scratch[i].id;
    }
    return scratch[count - 1].id; /* u within rounding of 1 */
}
