/*
 * Generation: a KV cache, one token at a time, and the samplers.
 */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "model/model.h"

/* Keys and values of all layers for one sequence, and the scratch of one step. */
struct generator;
int generator_init(struct generator **g, const struct model *m, int64_t context_max,
                   enum kernel_precision precision, struct err *e);
void generator_free(struct generator *g);
void generator_reset(struct generator *g); /* forgets the sequence */
/* Feeds tokens after what it has seen; returns the logits (V) after the last one, valid until
 * the next call. The sequence may not grow beyond context_max: NULL then. */
const float *generator_feed(struct generator *g, const uint32_t *tokens, size_t count);

/* Filters are applied to the raw logits in this order: top-nσ, top-k, then temperature,
 * top-p, min-p. 0 switches a filter off; temperature 0 is greedy. */
struct sampler {
    double temperature;
    int64_t top_k;
    double top_p;      /* smallest set with cumulative probability >= top_p */
    double min_p;      /* keep p >= min_p * max p */
    double top_nsigma; /* keep logit >= max - n * sigma, arXiv 2411.07641 */
};
/* Chooses the next id; logits (V) are changed. scratch: V floats and V uint32. */
uint32_t sampler_pick(const struct sampler *s, float *logits, int64_t V, struct rng *rng);

#endif
