/*
 * An optimiser step on blocks of 1,024 values, for one CPU level; serial. The including file
 * defines LANES. A block goes through small stages: load the masters, moments and AdamW, store
 * the masters, pack. Each stage asks for its lines of the next block ahead of time; what is only
 * written goes past the caches.
 */
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

#include "common/rng.h"

#include <string.h>

enum { PAIR_ROW = 32 /* bf16 values: 16 columns of two rows */, TILE = 16 * PAIR_ROW };

/* What a block goes through: scratch memory of the first-level cache. */
struct block_scratch {
    _Alignas(64) float p[BLOCK_AREA], m[BLOCK_AREA], v[BLOCK_AREA];
    _Alignas(64) uint16_t upper[BLOCK_AREA];
};

INLINE void ahead(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}

/* Integers of 16 and 8 bits in memory. GCC 12 takes such conversions apart, so they are spelled. */
INLINE vu load_half(const uint16_t *p)
{
    return (vu)vf_load_bf16(p) >> 16;
}

INLINE vu load_half_signed(const int16_t *p)
{
#if LANES == 16
    return (vu)_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i_u *)p));
#elif LANES == 8
    return (vu)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i_u *)p));
#else
    return (vu){(uint32_t)p[0], (uint32_t)p[1], (uint32_t)p[2], (uint32_t)p[3]};
#endif
}

/* Two neighbouring vectors of numbers below 2^16. */
INLINE void store_halves(void *p, vu a, vu b)
{
#if LANES == 16
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i x = _mm512_packus_epi32((__m512i)a, (__m512i)b);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi64(order, x));
#elif LANES == 8
    __m256i x = _mm256_packus_epi32((__m256i)a, (__m256i)b);
    _mm256_storeu_si256((__m256i_u *)p, _mm256_permute4x64_epi64(x, 0xd8));
#else
    for (int i = 0; i < LANES; i++) {
        ((uint16_t *)p)[i] = (uint16_t)a[i];
        ((uint16_t *)p)[LANES + i] = (uint16_t)b[i];
    }
#endif
}

INLINE vi load_byte(const uint8_t *p)
{
#if LANES == 16
    return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i_u *)p));
#elif LANES == 8
    return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i_u *)p));
#else
    return (vi){p[0], p[1], p[2], p[3]};
#endif
}

INLINE vi load_byte_signed(const int8_t *p)
{
    return load_byte((const uint8_t *)p) << 24 >> 24;
}

/* The lowest 8 bits of each. */
INLINE void store_byte(void *p, vi x)
{
#if LANES == 16
    _mm_storeu_si128((__m128i_u *)p, _mm512_cvtepi32_epi8((__m512i)x));
#elif LANES == 8
    __m256i low = (__m256i)(x & 0xff);
    __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    _mm_storel_epi64((__m128i_u *)p, _mm_packus_epi16(half, half));
#else
    for (int i = 0; i < LANES; i++)
        ((uint8_t *)p)[i] = (uint8_t)x[i];
#endif
}

INLINE vu load_bits(const void *p)
{
    return (vu)vf_load(p);
}

/* The upper half of each value as split_upper() rounds it, in place: not shifted down. */
INLINE vu upper_of(vf x)
{
    return ((vu)x + 0x8000u) & 0xffff0000u;
}

/* --- masters ----------------------------------------------------------------------- */

/* Number of block b of a weight in its backward panels. */
INLINE int64_t backward_number(const struct weight *W, int64_t b)
{
    int64_t across = W->in / BLOCK;
    return b % across * (W->out / BLOCK) + b / across;
}

INLINE uint16_t *backward_bf16(const struct weight *W, int64_t b)
{
    return (uint16_t *)W->backward + backward_number(W, b) * BLOCK_AREA;
}

/* Where in a backward block the pairs of rows 2 r, 2 r + 1 at columns c, … lie. */
INLINE int64_t pair_at(int64_t r, int64_t c)
{
    return c / 16 * TILE + r * PAIR_ROW + c % 16 * 2;
}

/* The next blocks of a column follow each other, those of a row do not: the caches' own
 * prefetching does not see them coming. */
static void load_split_weight(const uint16_t *upper, const uint16_t *upper_next,
                              const int16_t *lower, float *p)
{
    for (int64_t r = 0; r < BLOCK / 2; r++) {
        ahead(upper_next + 2 * r * PAIR_ROW);
        ahead(upper_next + (2 * r + 1) * PAIR_ROW);
        ahead(lower + BLOCK_AREA + 2 * r * BLOCK);
        ahead(lower + BLOCK_AREA + (2 * r + 1) * BLOCK);
        for (int64_t c = 0; c < BLOCK; c += LANES) {
            int64_t even = 2 * r * BLOCK + c, odd = even + BLOCK;
            vu pairs = load_bits(upper + pair_at(r, c));
            vf_store(p + even, (vf)((pairs << 16) + load_half_signed(lower + even)));
            vf_store(p + odd, (vf)((pairs & 0xffff0000u) + load_half_signed(lower + odd)));
        }
    }
}

static void store_split_weight(const float *p, uint16_t *upper, int16_t *lower)
{
    for (int64_t r = 0; r < BLOCK / 2; r++)
        for (int64_t c = 0; c < BLOCK; c += 2 * LANES) {
            int64_t even = 2 * r * BLOCK + c, odd = even + BLOCK;
            vf x[2] = {vf_load(p + even), vf_load(p + even + LANES)};
            vf y[2] = {vf_load(p + odd), vf_load(p + odd + LANES)};
            store_halves(lower + even, (vu)x[0] & 0xffff, (vu)x[1] & 0xffff);
            store_halves(lower + odd, (vu)y[0] & 0xffff, (vu)y[1] & 0xffff);
            for (int64_t i = 0; i < 2; i++)
                vf_store((float *)(void *)(upper + pair_at(r, c + i * LANES)),
                         (vf)(upper_of(x[i]) >> 16 | upper_of(y[i])));
        }
}

static void load_split_rows(const uint16_t *upper, const int16_t *lower, float *p)
{
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES) {
        ahead(upper + BLOCK_AREA + i);
        ahead(lower + BLOCK_AREA + i);
        vf_store(p + i, (vf)((load_half(upper + i) << 16) + load_half_signed(lower + i)));
    }
}

static void store_upper(const float *p, uint16_t *upper)
{
    for (int64_t i = 0; i < BLOCK_AREA; i += 2 * LANES)
        store_halves(upper + i, upper_of(vf_load(p + i)) >> 16,
                     upper_of(vf_load(p + i + LANES)) >> 16);
}

static void store_split_rows(const float *p, uint16_t *upper, int16_t *lower)
{
    store_upper(p, upper);
    for (int64_t i = 0; i < BLOCK_AREA; i += 2 * LANES)
        store_halves(lower + i, load_bits(p + i) & 0xffff, load_bits(p + i + LANES) & 0xffff);
}

/* --- moments and AdamW ------------------------------------------------------------- */

/* 32 random bits a value: the lower half rounds means, the upper one squares. The key alone makes
 * them uniform, the multiplication tells neighbours apart. */
INLINE vu noise_of(uint32_t key, int64_t i)
{
    vu x = ((vu)LANE_INDEX + (uint32_t)i) ^ key;
    x = (x ^ x >> 16) * 0x7feb352du;
    return x ^ x >> 15;
}

INLINE uint32_t block_key(const struct update *u, const struct update_rule *rule, int64_t b)
{
    return (uint32_t)rng_mix(rule->noise, u->first + (uint64_t)b);
}

INLINE vf adamw(const struct adamw_constants *k, vf p, vf g, vf *m, vf *v)
{
    g = g * k->grad_scale;
    *m = *m * k->beta1 + g * (1.0f - k->beta1);
    *v = *v * k->beta2 + g * g * (1.0f - k->beta2);
    vf step = *m * (1.0f / k->c1) / (vf_sqrt(*v * (1.0f / k->c2)) + k->eps);
    return p - k->lr * (p * k->weight_decay + step);
}

static void adamw_fp32(const struct adamw_constants *rule, const float *g, float *m, float *v,
                       float *p)
{
    const struct adamw_constants k = *rule;
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES) {
        ahead(g + BLOCK_AREA + i);
        ahead(m + BLOCK_AREA + i);
        ahead(v + BLOCK_AREA + i);
        ahead(p + BLOCK_AREA + i);
        vf mean = vf_load(m + i), square = vf_load(v + i);
        vf_store(p + i, adamw(&k, vf_load(p + i), vf_load(g + i), &mean, &square));
        vf_store(m + i, mean);
        vf_store(v + i, square);
    }
}

static void adamw_bf16(const struct adamw_constants *rule, uint32_t key, const float *g,
                       uint16_t *m, uint16_t *v, float *p)
{
    const struct adamw_constants k = *rule;
    for (int64_t i = 0; i < BLOCK_AREA; i += 2 * LANES) {
        vu mean[2], square[2];
        ahead(m + BLOCK_AREA + i);
        ahead(v + BLOCK_AREA + i);
        for (int64_t j = 0; j < 2; j++) {
            int64_t at = i + j * LANES;
            ahead(g + BLOCK_AREA + at);
            vf mj = vf_load_bf16(m + at), vj = vf_load_bf16(v + at);
            vf_store(p + at, adamw(&k, vf_load(p + at), vf_load(g + at), &mj, &vj));
            vu noise = noise_of(key, at);
            mean[j] = ((vu)mj + (noise & 0xffff)) >> 16;
            square[j] = ((vu)vj + (noise >> 16)) >> 16;
        }
        store_halves(m + i, mean[0], mean[1]);
        store_halves(v + i, square[0], square[1]);
    }
}

/* Muon's momentum, and its direction before it is made orthogonal in place of the gradient. */
INLINE vf momentum(const struct adamw_constants *k, float *g, vf m)
{
    vf gi = vf_load(g) * k->grad_scale * (1.0f - k->beta1);
    m = m * k->beta1 + gi;
    vf_store(g, m * k->beta1 + gi);
    return m;
}

static void momentum_block(const struct update *u, const struct update_rule *rule, int64_t b)
{
    const struct adamw_constants k = rule->adamw;
    const uint32_t key = block_key(u, rule, b);
    const int64_t at = b * BLOCK_AREA;
    float *g = u->grads + at;
    for (int64_t i = 0; i < BLOCK_AREA; i += 2 * LANES) {
        if (u->moments == MOMENTS_FP32) {
            float *m = (float *)u->mean + at + i;
            vf_store(m, momentum(&k, g + i, vf_load(m)));
            vf_store(m + LANES, momentum(&k, g + i + LANES, vf_load(m + LANES)));
        } else {
            uint16_t *m = (uint16_t *)u->mean + at + i;
            vu low = (vu)momentum(&k, g + i, vf_load_bf16(m));
            vu high = (vu)momentum(&k, g + i + LANES, vf_load_bf16(m + LANES));
            store_halves(m, (low + (noise_of(key, i) & 0xffff)) >> 16,
                         (high + (noise_of(key, i + LANES) & 0xffff)) >> 16);
        }
    }
}

static void apply_block(const struct adamw_constants *rule, const float *g, float *p)
{
    const float lr = rule->lr, decay = rule->weight_decay;
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES) {
        ahead(g + BLOCK_AREA + i);
        vf x = vf_load(p + i);
        vf_store(p + i, x - lr * (x * decay + vf_load(g + i)));
    }
}

/* --- moments in 8 bits ------------------------------------------------------------- */

INLINE vf vf_abs(vf x)
{
    return (vf)((vu)x & 0x7fffffffu);
}

/* Uniform in [0, 1) from 16 bits. */
INLINE vf fraction(vu bits)
{
    return __builtin_convertvector((vi)bits, vf) * 0x1p-16f;
}

INLINE vi choose(vi mask, vi yes, vi no)
{
    return (mask & yes) | (~mask & no);
}

INLINE vf whole(vf x)
{
    return __builtin_convertvector(__builtin_convertvector(x, vi), vf);
}

static void load_int8(const int8_t *mean, const uint8_t *square, const float scales[2], float *m,
                      float *v)
{
    const float mean_step = 1.0f / (127 * 127), square_step = 1.0f / (255 * 255);
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES) {
        ahead(mean + BLOCK_AREA + i);
        ahead(square + BLOCK_AREA + i);
        vi k = load_byte_signed(mean + i);
        vf code = __builtin_convertvector(k * choose(k < 0, -k, k), vf);
        vf_store(m + i, scales[0] * (code * mean_step));
        vi q = load_byte(square + i);
        vf root = __builtin_convertvector(q * q, vf) * square_step;
        vf_store(v + i, scales[1] * (root * root));
    }
}

/* Without their sign floats are in the order of their bits; NaN is above all. */
static float largest_magnitude(const float *x)
{
    vi high = {0};
    int32_t t[LANES];
    float f;
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES) {
        vi bits = (vi)vf_abs(vf_load(x + i));
        high = choose(bits > high, bits, high);
    }
    memcpy(t, &high, sizeof(t));
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] = t[i] > t[i + w] ? t[i] : t[i + w];
    memcpy(&f, t, sizeof(f));
    return f;
}

/* 1 / scale, finite: below the normal numbers codes are only smaller than they should be. */
static float inverse(float scale)
{
    return scale > 0x1p-126f ? 1.0f / scale : 0x1p126f;
}

/* Of the codes k and k + 1 around y the upper one with the probability that makes the mean y;
 * they stand for k², (k + 1)² (mean) and k⁴, (k + 1)⁴ (square). The largest is met
 * exactly. */
static void store_int8(const float *m, const float *v, uint32_t key, int8_t *mean, uint8_t *square,
                       float scales[2])
{
    const float high_m = largest_magnitude(m), high_v = largest_magnitude(v);
    const float per_m = inverse(high_m), per_v = inverse(high_v);
    scales[0] = high_m;
    scales[1] = high_v;
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES) {
        vu noise = noise_of(key, i);
        vf x = vf_load(m + i), y = vf_abs(x) * per_m * (127.0f * 127.0f);
        vf k = whole(vf_sqrt(y));
        vi up = fraction(noise & 0xffff) * (2.0f * k + 1.0f) < y - k * k;
        vi code = __builtin_convertvector(k, vi) - up;
        code = choose((code > 127) | (vf_abs(x) == high_m), code * 0 + 127, code);
        code = choose(x < 0.0f, -code, code) & (x != 0.0f);
        store_byte(mean + i, code);

        x = vf_load(v + i);
        y = x * per_v * (255.0f * 255.0f * 255.0f * 255.0f);
        k = whole(vf_sqrt(vf_sqrt(y)));
        vf k2 = k * k, gap = (2.0f * k + 1.0f) * (2.0f * k2 + 2.0f * k + 1.0f);
        up = fraction(noise >> 16) * gap < y - k2 * k2;
        code = __builtin_convertvector(k, vi) - up;
        code = choose((code > 255) | (x == high_v), code * 0 + 255, code);
        code = choose(code < 1, code * 0 + 1, code) & (x > 0.0f);
        store_byte(square + i, code);
    }
}

static void step_block(const struct update *u, const struct update_rule *rule, int64_t b,
                       struct block_scratch *s, float *p)
{
    const int64_t at = b * BLOCK_AREA;
    const float *g = u->grads + at;
    const uint32_t key = block_key(u, rule, b);
    switch (u->moments) {
    case MOMENTS_FP32:
        adamw_fp32(&rule->adamw, g, (float *)u->mean + at, (float *)u->square + at, p);
        break;
    case MOMENTS_BF16:
        adamw_bf16(&rule->adamw, key, g, (uint16_t *)u->mean + at, (uint16_t *)u->square + at, p);
        break;
    case MOMENTS_INT8: {
        int8_t *mean = (int8_t *)u->mean + at;
        uint8_t *square = (uint8_t *)u->square + at;
        load_int8(mean, square, u->scales + 2 * b, s->m, s->v);
        adamw_fp32(&rule->adamw, g, s->m, s->v, p);
        store_int8(s->m, s->v, key, mean, square, u->scales + 2 * b);
    }
    }
}

/* --- packed forms ------------------------------------------------------------------ */

/* dst (size, size) = srcᵀ, values of 32 bits, past the caches. */
INLINE void stream_transposed(const float *src, float *dst, int64_t size)
{
    for (int64_t c = 0; c < size; c += LANES)
        for (int64_t r = 0; r < size; r += LANES) {
            vf rows[LANES];
            for (int64_t i = 0; i < LANES; i++)
                rows[i] = vf_load(src + (r + i) * size + c);
            vf_transpose(rows);
            for (int64_t i = 0; i < LANES; i++)
                vf_stream(dst + (c + i) * size + r, rows[i]);
        }
}

/* Pairs of neighbours in a row are the forward panels' rows: transposed, 16 rows a tile. */
static void pack_forward_bf16(const float *p, uint16_t *upper, uint16_t *forward)
{
    store_upper(p, upper);
    for (int64_t tile = 0; tile < 2; tile++)
        stream_transposed((const float *)(const void *)(upper + tile * TILE),
                          (float *)(void *)(forward + tile * TILE), 16);
}

static void pack_backward_bf16(const float *p, uint16_t *backward)
{
    for (int64_t r = 0; r < BLOCK / 2; r++)
        for (int64_t c = 0; c < BLOCK; c += LANES) {
            vf even = vf_load(p + 2 * r * BLOCK + c), odd = vf_load(p + (2 * r + 1) * BLOCK + c);
            vf_stream((float *)(void *)(backward + pair_at(r, c)),
                      (vf)(upper_of(even) >> 16 | upper_of(odd)));
        }
}

static void pack_fp32(const float *p, float *forward, float *backward)
{
    stream_transposed(p, forward, BLOCK);
    for (int64_t i = 0; i < BLOCK_AREA; i += LANES)
        vf_stream(backward + i, vf_load(p + i));
}

/* --- a block from front to back ---------------------------------------------------- */

static float *load_master(const struct update *u, int64_t b, struct block_scratch *s)
{
    const int64_t at = b * BLOCK_AREA, next = b + 1 < u->count ? b + 1 : b;
    if (u->masters == MASTERS_FP32)
        return u->master + at;
    if (u->weight)
        load_split_weight(backward_bf16(u->weight, b), backward_bf16(u->weight, next),
                          u->lower + at, s->p);
    else
        load_split_rows(u->upper + at, u->lower + at, s->p);
    return s->p;
}

static void store_master(const struct update *u, int64_t b, const float *p)
{
    const int64_t at = b * BLOCK_AREA;
    if (u->masters == MASTERS_FP32)
        return;
    if (u->weight)
        store_split_weight(p, backward_bf16(u->weight, b), u->lower + at);
    else
        store_split_rows(p, u->upper + at, u->lower + at);
}

static void pack(const struct update *u, int64_t b, const float *p, struct block_scratch *s)
{
    const struct weight *W = u->weight;
    const int64_t at = b * BLOCK_AREA;
    if (!W)
        return;
    if (u->precision == KERNEL_FP32) {
        pack_fp32(p, (float *)W->forward + at,
                  (float *)W->backward + backward_number(W, b) * BLOCK_AREA);
        return;
    }
    pack_forward_bf16(p, s->upper, (uint16_t *)W->forward + at);
    if (u->masters == MASTERS_FP32)
        pack_backward_bf16(p, backward_bf16(W, b));
}

static void update_blocks(const struct update *u, enum update_pass pass,
                          const struct update_rule *rule, int64_t begin, int64_t end)
{
    struct block_scratch s;
    for (int64_t b = begin; b < end; b++) {
        if (pass == UPDATE_MOMENTUM) {
            momentum_block(u, rule, b);
            continue;
        }
        float *p = load_master(u, b, &s);
        if (pass == UPDATE_ADAMW)
            step_block(u, rule, b, &s, p);
        else if (pass == UPDATE_APPLY)
            apply_block(&rule->adamw, u->grads + b * BLOCK_AREA, p);
        if (pass != UPDATE_PACK)
            store_master(u, b, p);
        pack(u, b, p, &s);
    }
    simd_fence();
}
