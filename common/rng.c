/* xoshiro256** 1.0 (Blackman and Vigna 2018), Lemire's bounded integers, Box-Muller. */
#include "common/rng.h"

#include "common/err.h"

#include <math.h>

#define TWO_PI 6.28318530717958647692

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t rng_mix(uint64_t a, uint64_t b)
{
    uint64_t state = a;
    state = splitmix64(&state) ^ b;
    return splitmix64(&state);
}

void rng_init(struct rng *r, uint64_t seed, uint64_t stream)
{
    uint64_t state = rng_mix(seed, stream);
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&state);
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Multiply-shift with rejection of the few values that would favour small results. */
uint64_t rng_below(struct rng *r, uint64_t n)
{
    MW_ASSERT(n > 0);
    uint64_t reject = (0 - n) % n;
    for (;;) {
        __extension__ unsigned __int128 product = (unsigned __int128)rng_u64(r) * n;
        if ((uint64_t)product >= reject)
            return (uint64_t)(product >> 64);
    }
}

double rng_f64(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_f64(r); /* (0, 1]: the logarithm stays finite */
    double angle = TWO_PI * rng_f64(r);
    return sqrt(-2.0 * log(u)) * cos(angle);
}

void rng_shuffle(struct rng *r, uint32_t *v, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = (size_t)rng_below(r, i);
        uint32_t swap = v[i - 1];
        v[i - 1] = v[j];
        v[j] = swap;
    }
}
