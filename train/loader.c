/* Owns the order in which a run sees its data. */
#include "train/loader.h"

#include "common/rng.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Rounds of the Feistel network; four make a permutation that looks random (Luby and
 * Rackoff 1988), two more cost nothing here. */
enum { ROUNDS = 6 };

int loader_init(struct loader *l, const struct shard *shard, int64_t T, uint64_t seed,
                struct err *e)
{
    MW_ASSERT(T > 0);
    if (shard->token_count < (uint64_t)T + 1)
        return err_set(e, "%s holds %" PRIu64 " tokens, one window needs %" PRIu64, shard->prefix,
                       shard->token_count, (uint64_t)T + 1);
    *l = (struct loader){
        .shard = shard,
        .T = T,
        .window_count = (shard->token_count - 1) / (uint64_t)T,
        .seed = seed,
    };
    return 0;
}

void loader_init_random(struct loader *l, uint32_t vocab_size, int64_t T, uint64_t seed)
{
    *l = (struct loader){.random_vocab = vocab_size, .T = T, .window_count = 1, .seed = seed};
}

/* Token t of position p: exp of a uniform number has density 1/n. */
static uint32_t random_token(const struct loader *l, uint64_t position, int64_t t)
{
    struct rng rng;
    rng_init(&rng, l->seed, position * (uint64_t)l->T + (uint64_t)t);
    double n = exp(rng_f64(&rng) * log((double)l->random_vocab));
    return (uint32_t)n - 1;
}

static void read_random(const struct loader *l, uint64_t position, uint32_t *inputs,
                        uint32_t *targets)
{
    for (int64_t t = 0; t < l->T; t++) {
        inputs[t] = random_token(l, position, t);
        targets[t] = random_token(l, position, t + 1);
    }
}

/* A permutation of 0 … 2^(2 half_bits) - 1. */
static uint64_t feistel(uint64_t x, unsigned half_bits, uint64_t key)
{
    const uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    uint64_t left = x >> half_bits, right = x & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t mixed = left ^ (rng_mix(key + round, right) & mask);
        left = right;
        right = mixed;
    }
    return left << half_bits | right;
}

uint64_t loader_window(const struct loader *l, uint64_t position)
{
    const uint64_t N = l->window_count;
    const uint64_t key = rng_mix(l->seed, position / N);
    uint64_t x = position % N;
    unsigned half_bits = 1;
    while (half_bits < 31 && N > (uint64_t)1 << (2 * half_bits))
        half_bits++;
    /* The network permutes up to 4 N numbers; following a cycle until it is below N
     * again gives a permutation of the first N. */
    do
        x = feistel(x, half_bits, key);
    while (x >= N);
    return x;
}

void loader_documents(const struct loader *l, uint64_t window, uint64_t *first, uint64_t *last)
{
    uint64_t at = window * (uint64_t)l->T;
    *first = shard_doc_at(l->shard, at);
    *last = shard_doc_at(l->shard, at + (uint64_t)l->T);
}

int loader_read(const struct loader *l, uint64_t window, uint32_t *inputs, uint32_t *targets,
                struct err *e)
{
    const size_t T = (size_t)l->T;
    uint64_t at = window * (uint64_t)T;
    if (shard_tokens(l->shard, at, T, inputs, e))
        return -1;
    memcpy(targets, inputs + 1, (T - 1) * sizeof(*targets));
    return shard_tokens(l->shard, at + T, 1, targets + T - 1, e);
}

int loader_next(struct loader *l, int64_t B, uint32_t *inputs, uint32_t *targets, struct err *e)
{
    for (int64_t b = 0; b < B; b++) {
        if (!l->shard) {
            read_random(l, l->position + (uint64_t)b, inputs + b * l->T, targets + b * l->T);
            continue;
        }
        uint64_t window = loader_window(l, l->position + (uint64_t)b);
        if (loader_read(l, window, inputs + b * l->T, targets + b * l->T, e))
            return -1;
    }
    l->position += (uint64_t)B;
    return 0;
}
