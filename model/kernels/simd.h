/*
 * A vector of LANES floats, for bodies that are compiled once per CPU level.
 *
 * The including file defines LANES (4, 8 or 16) first. Arithmetic is that of GCC's vector
 * extensions; only what they cannot say (fused multiply-add, partial loads, …) is spelled
 * differently for AVX2 and AVX-512. LANES 4 is plain C for any machine. Sums over lanes
 * are taken in a fixed tree, so nothing here needs -ffast-math.
 */
#ifndef MODEL_KERNELS_SIMD_H
#define MODEL_KERNELS_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if LANES > 4
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef float vf_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2)));
typedef uint16_t vh_unaligned __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vf vf_set(float x)
{
    return x - (vf){0};
}

INLINE vf vf_load(const float *p)
{
    return *(const vf_unaligned *)p;
}

INLINE void vf_store(float *p, vf x)
{
    *(vf_unaligned *)p = x;
}

INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* Past the caches, for what is only written; p at a multiple of the vector's bytes. simd_fence()
 * orders such stores before what other threads may see next. */
INLINE void vf_stream(float *p, vf x)
{
#if LANES == 16
    _mm512_stream_ps(p, (__m512)x);
#elif LANES == 8
    _mm256_stream_ps(p, (__m256)x);
#else
    vf_store(p, x);
#endif
}

INLINE void simd_fence(void)
{
#if LANES > 4
    _mm_sfence();
#endif
}

/* The lowest n lanes, 0 <= n <= LANES; a partial load fills with zeros and touches nothing
 * beyond them. */
#if LANES == 16
INLINE vf vf_load_n(const float *p, int64_t n)
{
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void vf_store_n(float *p, vf x, int64_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
/* a > b ? a : b and a < b ? a : b: a NaN in b passes. */
INLINE vf vf_max(vf a, vf b)
{
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}
INLINE vf vf_min(vf a, vf b)
{
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}
INLINE vf vf_sqrt(vf x)
{
    return (vf)_mm512_sqrt_ps((__m512)x);
}
#define LANE_INDEX                                                                                 \
    {                                                                                              \
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15                                       \
    }
#elif LANES == 8
#define LANE_INDEX                                                                                 \
    {                                                                                              \
        0, 1, 2, 3, 4, 5, 6, 7                                                                     \
    }
INLINE vf vf_load_n(const float *p, int64_t n)
{
    vi mask = (vi)LANE_INDEX < (int32_t)n;
    return (vf)_mm256_maskload_ps(p, (__m256i)mask);
}
INLINE void vf_store_n(float *p, vf x, int64_t n)
{
    vi mask = (vi)LANE_INDEX < (int32_t)n;
    _mm256_maskstore_ps(p, (__m256i)mask, (__m256)x);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
INLINE vf vf_max(vf a, vf b)
{
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}
INLINE vf vf_min(vf a, vf b)
{
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
}
INLINE vf vf_sqrt(vf x)
{
    return (vf)_mm256_sqrt_ps((__m256)x);
}
#else
#define LANE_INDEX                                                                                 \
    {                                                                                              \
        0, 1, 2, 3                                                                                 \
    }
INLINE vf vf_load_n(const float *p, int64_t n)
{
    vf x = {0};
    for (int64_t i = 0; i < n; i++)
        x[i] = p[i];
    return x;
}
INLINE void vf_store_n(float *p, vf x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = x[i];
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return a * b + c;
}
INLINE vf vf_max(vf a, vf b)
{
    return vf_select(a > b, a, b);
}
INLINE vf vf_min(vf a, vf b)
{
    return vf_select(a < b, a, b);
}
INLINE vf vf_sqrt(vf x)
{
    return (vf){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
}
#endif

/* Sum of the lanes: halves onto halves. */
INLINE float vf_sum(vf x)
{
    float t[LANES];
    vf_store(t, x);
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

/* The largest lane; NaN if there is one. */
INLINE float vf_largest(vf x)
{
    float t[LANES];
    vf_store(t, x);
    float m = t[0];
    for (int i = 1; i < LANES; i++)
        m = m > t[i] || m != m ? m : t[i];
    return m;
}

/* The bf16 value nearest to x, ties to even, as fp32; a NaN stays one. */
INLINE vf vf_round_bf16(vf x)
{
    vu u = (vu)x;
    vu rounded = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000u;
    return vf_select(x != x, x, (vf)rounded);
}

/* bf16 values in memory: the upper halves of floats. Stored nearest, ties to even; a quiet NaN
 * stays one and, where the CPU has an instruction for it (level amx), a subnormal becomes 0. */
INLINE vf vf_load_bf16(const uint16_t *p)
{
#if LANES == 16
    vu u = (vu)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)p));
#elif LANES == 8
    vu u = (vu)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i_u *)p));
#else
    vu u = __builtin_convertvector(*(const vh_unaligned *)p, vu);
#endif
    return (vf)(u << 16);
}
/* The upper halves, rounded, as numbers below 2^16. */
INLINE vu vf_upper_bf16(vf x)
{
    vu u = (vu)x, half = ((u >> 16) & 1) + 0x7fff;
#if LANES == 16
    __mmask16 number = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_ORD_Q);
    return (vu)_mm512_mask_add_epi32((__m512i)u, number, (__m512i)u, (__m512i)half) >> 16;
#else
    return (u + (half & (vu)(x == x))) >> 16;
#endif
}
INLINE void vf_store_bf16(uint16_t *p, vf x)
{
#if LANES == 16 && defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i_u *)p, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    *(vh_unaligned *)p = __builtin_convertvector(vf_upper_bf16(x), vh);
#endif
}
#if LANES > 4
/* Two neighbouring vectors rounded into one, which takes fewer instructions than one and one. */
INLINE vf vf_round_pair(vf a, vf b)
{
#if LANES == 16 && defined(__AVX512BF16__)
    return (vf)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
#elif LANES == 16
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i x = _mm512_packus_epi32((__m512i)vf_upper_bf16(a), (__m512i)vf_upper_bf16(b));
    return (vf)_mm512_permutexvar_epi64(order, x);
#else
    __m256i x = _mm256_packus_epi32((__m256i)vf_upper_bf16(a), (__m256i)vf_upper_bf16(b));
    return (vf)_mm256_permute4x64_epi64(x, 0xd8);
#endif
}
#endif

INLINE void vf_store_bf16_pair(uint16_t *p, vf a, vf b)
{
#if LANES > 4
    vf_store((float *)(void *)p, vf_round_pair(a, b));
#else
    vf_store_bf16(p, a);
    vf_store_bf16(p + LANES, b);
#endif
}

/* The same past the caches; p as for vf_stream(). */
INLINE void vf_stream_bf16_pair(uint16_t *p, vf a, vf b)
{
#if LANES > 4
    vf_stream((float *)(void *)p, vf_round_pair(a, b));
#else
    vf_store_bf16_pair(p, a, b);
#endif
}

/* exp(x): 2^n · e^r with |r| <= ln2/2 and a polynomial of degree 6 (Cephes' expf). Relative
 * error below 2e-7 where the result is a normal number; 0 below that, e^88.37 above that;
 * NaN passes. */
INLINE vf vf_exp(vf x)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds to an integer */
    vi vanishes = x < -87.33654f;
    x = vf_min(vf_set(88.37f), vf_max(vf_set(-87.33654f), x));
    vf t = vf_fma(x, vf_set(1.44269504f), vf_set(magic));
    vf n = t - magic;
    vf r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_fma(r, vf_set(1.9875691500e-4f), vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + 1.0f;
    vf power = (vf)(((vu)t + 127u) << 23);
    return (vf)(~vanishes & (vi)(p * power));
}

/* Rows r[0 … LANES-1] become columns. */
INLINE void vf_transpose(vf r[LANES])
{
#if LANES == 8
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps((__m256)r[2 * i], (__m256)r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps((__m256)r[2 * i], (__m256)r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = (vf)_mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = (vf)_mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
#elif LANES == 16
    /* log2(LANES) times: deal the upper half of the rows between the lower half. */
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for (int stage = 0; stage < 4; stage++) {
        vf t[16];
        for (int i = 0; i < 8; i++) {
            t[2 * i] = (vf)_mm512_permutex2var_ps((__m512)r[i], low, (__m512)r[i + 8]);
            t[2 * i + 1] = (vf)_mm512_permutex2var_ps((__m512)r[i], high, (__m512)r[i + 8]);
        }
        for (int i = 0; i < 16; i++)
            r[i] = t[i];
    }
#else
    vf t[4];
    for (int i = 0; i < 4; i++)
        t[i] = (vf){r[0][i], r[1][i], r[2][i], r[3][i]};
    for (int i = 0; i < 4; i++)
        r[i] = t[i];
#endif
}

#endif
