/*
 * Random numbers that are the same everywhere: xoshiro256** (Blackman and
 * Vigna, 2018) seeded through splitmix64. The whole state is four words.
 */
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

/* Streams with the same seed and another number are independent. */
void rng_init(struct rng *r, uint64_t seed, uint64_t stream);
uint64_t rng_u64(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* 0 … n-1, unbiased; n > 0 */
double rng_f64(struct rng *r);                 /* [0, 1), 53 bits */
double rng_normal(struct rng *r);              /* N(0, 1), Box-Muller, one value a call */
void rng_shuffle(struct rng *r, uint32_t *v, size_t count); /* Fisher-Yates */

/* A hash-quality mix of two words: random access where a stream does not fit. */
uint64_t rng_mix(uint64_t a, uint64_t b);

#endif
