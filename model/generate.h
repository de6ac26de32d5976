/*
 * Generation: a KV cache, one token at a time, and the samplers.
 */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "model/model.h"

/* Keys and values of all layers for one sequence, and the scratch of one step. */
struct generator;

/* m is borrowed until generator_free(). context_max: 1 … max_position_embeddings. */
int generator_init(struct generator **g, const struct model *m, int64_t context_max,
                   enum kernel_precision precision, struct err *e);
void generator_free(struct generator *g);
void generator_reset(struct generator *g);             /* forgets the sequence */
int64_t generator_position(const struct generator *g); /* tokens seen so far */

/* Feeds tokens after what it has seen; returns the logits (V) after the last one, valid until
 * the next call, and the caller's to change. The sequence may not grow beyond context_max:
 * then NULL, and nothing was fed. count > 0; ids must be < V. How a prompt is cut into calls
 * changes logits by rounding only. */
float *generator_feed(struct generator *g, const uint32_t *tokens, size_t count);

/* Filters are applied to the raw logits in this order: top-nσ, top-k, then temperature,
 * top-p, min-p. 0 switches a filter off; temperature 0 is greedy. A logit of -infinity is a
 * token that cannot be chosen and takes no part in any statistic. */
struct sampler {
    double temperature;
    int64_t top_k;     /* keep the k largest; of equal logits the smaller id */
    double top_p;      /* smallest set with cumulative probability >= top_p */
    double min_p;      /* keep p >= min_p * max p */
    double top_nsigma; /* keep logit >= max - n * sigma, sigma over the V logits divided by V
                        * (arXiv 2411.07641; llammlein.md §8.1) */
};

/* 0, or a sentence that names the setting out of range: temperature, top_k, top_nsigma >= 0;
 * top_p, min_p in [0, 1]. */
int sampler_check(const struct sampler *s, struct err *e);

/* One token that survived the filters. */
struct candidate {
    uint32_t id;
    float logit;
    double p; /* probabilities of all that survived sum to 1 */
};

/* Applies the filters to logits (V), at least one of which is finite. Fills out (room for V)
 * with what survives, most probable first (equal ones: smaller id first), and returns how
 * many: 1 … V. */
int64_t sampler_filter(const struct sampler *s, const float *logits, int64_t V,
                       struct candidate *out);
/* Filters, then draws one id. Takes one number from rng unless greedy. scratch: room for V. */
uint32_t sampler_pick(const struct sampler *s, const float *logits, int64_t V,
                      struct candidate *scratch, struct rng *rng);

#endif
