/*
 * The next token of a text: what every command that writes text asks of the logits before
 * the sampler sees them.
 */
#ifndef EVAL_CHOOSE_H
#define EVAL_CHOOSE_H

#include "common/err.h"
#include "model/generate.h"
#include "tokenizer/tokenizer.h"

/* How text is sampled unless someone asks otherwise: `generate` and the samples of `eval run`. */
#define CHOOSE_TEMPERATURE 1
#define CHOOSE_TOP_NSIGMA  1

/* Picks the next id from logits (V) among the ids the tokenizer has: a model may have rows
 * beyond (model.vocab_multiple), whose logits become -inf. scratch is (V). Logits that are
 * not finite are an error: the weights of a run that went wrong give them. */
int choose_token(uint32_t *id, float *logits, int64_t V, const struct tokenizer *t,
                 const struct sampler *s, struct candidate *scratch, struct rng *rng,
                 struct err *e);

#endif
