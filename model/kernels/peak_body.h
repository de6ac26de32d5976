/*
 * Loops for measuring: as much arithmetic, or as many loads, as vectors of LANES floats allow.
 */
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

/* Independent sums: latency of a multiply-add times how many start at a time, and within the
 * registers there are. */
enum { CHAINS = LANES > 4 ? 12 : 8 };

static double spin(int64_t rounds)
{
    vf sum[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        sum[i] = vf_set((float)i); /* equal chains would become one */
    vf x = vf_set(0.999f), y = vf_set(0.001f);
    for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            sum[i] = vf_fma(sum[i], x, y);
    vf all = {0};
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        all += sum[i];
    volatile float sink = vf_sum(all);
    (void)sink;
    return 2.0 * LANES * CHAINS * (double)rounds;
}

/* n is a multiple of 128. */
static float load(const float *p, int64_t n)
{
    vf sum[8] = {{0}};
    for (int64_t i = 0; i < n; i += 8 * LANES)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            sum[j] += vf_load(p + i + j * LANES);
    return vf_sum(sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7]);
}

INLINE void store_past_caches(float *p, vf x)
{
#if LANES == 16
    _mm512_stream_ps(p, (__m512)x);
#elif LANES == 8
    _mm256_stream_ps(p, (__m256)x);
#else
    vf_store(p, x);
#endif
}

/* a = b + s c; a is aligned to 64 bytes, n a multiple of 16. */
static void triad(float *a, const float *b, const float *c, float s, int64_t n)
{
    const vf factor = vf_set(s);
    for (int64_t i = 0; i < n; i += LANES)
        store_past_caches(a + i, vf_fma(factor, vf_load(c + i), vf_load(b + i)));
}

static void peak_fill(struct kernels *k)
{
    k->peak = (struct peak_engine){.fp32 = spin, .load = load, .triad = triad};
}
