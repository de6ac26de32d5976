/*
 * Attention on blocks with bf16 operands in the AMX tile unit, D a multiple
 * of 32.
 *
 * Everything is transposed: Sᵀ = K Qᵀ has one key a row and one query a lane. A
 * block of keys is an operand A as it lies; probabilities of 32 keys and 32
 * queries turn into operands of the next product without leaving their lanes:
 * pairs of keys are rows of B (for O and dQ), keys rows of A (for dV and dK).
 * Statistics and sums stay fp32.
 *
 * A step works on three neighbours at once, so that the tile unit and the
 * vector units run side by side: it multiplies the scores of the next, takes
 * exp of this one's, and multiplies with the probabilities of the one before; a
 * few vectors of the second come after each two tiles of the others.
 *
 * exp is taken to base 2. Probabilities are relative to a power of two, `ref`,
 * that need not be the maximum: it is raised only when a sum gets near the end
 * of fp32's range (whatever lies below 2^-126 of it is 0), which after the
 * first keys hardly ever happens. Scaling by it is exact, and as a probability
 * of exactly 1 is nothing special, rounding them is not biased (arXiv
 * 2510.04212).
 */
#if defined(__x86_64__)
#include "model/kernels/amx.h"
#include "model/kernels/table.h"

#include <math.h>
#include <string.h>

enum {
    NQ_TASK = 512,     /* queries of a task, forward */
    CHUNK = 64,        /* keys of a step, forward */
    PAIRS = CHUNK / 2, /* pairs of them */
    BLOCK_BYTES = 2 * BLOCK_AREA
};
static const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;
static const float FAR_BELOW = -1e30f; /* instead of -Inf, which exp2 need not meet */
static const float SUM_MAX = 0x1p60f;

/* The compiler must have written what tiles are loaded from. */
#define WRITTEN __asm__ volatile("" ::: "memory")

/* 2^x = 2^floor(x) · p(x - floor(x)), relative error below 8e-5, a 26th of what
 * rounding to bf16 costs; FAR_BELOW gives 0, what does not fit Inf. `more` is added to p, a value
 * from 1 to 2. */
INLINE vf exp2_more(vf x, const float more)
{
    vf r = (vf)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vf p = vf_fma(vf_set(0.0780245227f), r, vf_set(0.226067155f));
    p = vf_fma(p, r, vf_set(0.695833541f));
    p = vf_fma(p, r, vf_set(0.999925219f + more));
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);
}

INLINE vf exp2_vector(vf x)
{
    return exp2_more(x, 0);
}

/* 2^x rounded to bf16 values: half a unit in the last place more, and the rest cut off. */
INLINE vf exp2_bf16(vf x)
{
    return (vf)((vi)exp2_more(x, 0x1p-8f) & (int32_t)0xffff0000);
}

/* Of positive x: exponent, and the logarithm of the mantissa m as 2
 * artanh((m-1)/(m+1)). */
INLINE vf log2_vector(vf x)
{
    vf m = (vf)_mm512_getmant_ps((__m512)x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    vf exponent = (vf)_mm512_getexp_ps((__m512)(x / m));
    vf z = (m - 1.0f) / (m + 1.0f), z2 = z * z;
    vf p = vf_fma(vf_set(1.0f / 9), z2, vf_set(1.0f / 7));
    p = vf_fma(p, z2, vf_set(1.0f / 5));
    p = vf_fma(p, z2, vf_set(1.0f / 3));
    p = vf_fma(p, z2, vf_set(1.0f));
    return vf_fma(p * z, vf_set(2 * LOG2_E), exponent);
}

INLINE int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

INLINE vf load_line(const uint16_t *p)
{
    return vf_load((const float *)(const void *)p);
}

INLINE void store_line(uint16_t *p, vf x)
{
    vf_store((float *)(void *)p, x);
}

/* A block (32 rows x 32 columns) as two tiles of B, columns being the rows of
 * the block, pairs of k its columns. */
INLINE void pack_pairs(uint16_t *to, const uint16_t *block)
{
    for (int half = 0; half < 2; half++) {
        vf r[16];
        for (int i = 0; i < 16; i++)
            r[i] = load_line(block + (half * 16 + i) * 32);
        vf_transpose(r);
        for (int i = 0; i < 16; i++)
            store_line(to + half * TILE + i * 32, r[i]);
    }
}

/* A block transposed: two tiles of A. */
INLINE void pack_columns(uint16_t *to, const uint16_t *block)
{
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36,
                                          34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6,
                                          4, 2, 0);
    const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
    vf r[2][16];
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 16; i++)
            r[half][i] = load_line(block + (half * 16 + i) * 32);
        vf_transpose(r[half]);
    }
    for (int i = 0; i < 16; i++) {
        __m512i low = (__m512i)r[0][i], high = (__m512i)r[1][i];
        store_line(to + 2 * i * 32, (vf)_mm512_permutex2var_epi16(low, even, high));
        store_line(to + (2 * i + 1) * 32, (vf)_mm512_permutex2var_epi16(low, odd, high));
    }
}

/* Lays from (D, 32), columns times a factor each, as 32 rows into blocks next
 * to each other. */
static void store_transposed(const float *from, uint16_t *to, int64_t D, const vf factor[2])
{
    for (int64_t d = 0; d < D; d += 32, to += BLOCK_AREA)
        for (int half = 0; half < 2; half++) {
            vf low[16], high[16];
            for (int i = 0; i < 16; i++) {
                low[i] = vf_load(from + (d + i) * 32 + half * 16) * factor[half];
                high[i] = vf_load(from + (d + 16 + i) * 32 + half * 16) * factor[half];
            }
            vf_transpose(low);
            vf_transpose(high);
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(to + (half * 16 + i) * 32,
                                    (__m512i)_mm512_cvtne2ps_pbh((__m512)high[i], (__m512)low[i]));
        }
}

/* --- forward
 * ------------------------------------------------------------------ */

/* 32 queries of a head, and what a task keeps in scratch memory. */
struct forward_memory {
    float s[2][CHUNK * 32];           /* scores of two chunks, (CHUNK, 32) */
    uint16_t p[2][CHUNK * 32];        /* probabilities: tiles of B, k = keys */
    float o[ATTENTION_D_MAX * 32];    /* (D, 32) */
    uint16_t q[ATTENTION_D_MAX * 32]; /* tiles of B, k = D */
    uint16_t v[]; /* values of the group, transposed: for each 32 keys D/16 tiles
                   of A */
};

struct forward_group {
    struct forward_memory *m;
    const uint16_t *keys; /* block of the group's first 32 keys */
    int64_t key_step;     /* values from a block to that of the next 32 keys */
    int64_t key_blocks;   /* in the sequence */
    int64_t first, last;  /* chunks */
    int64_t v_first;      /* first block in m->v */
    int64_t t;
    float scale; /* of scores, to base 2 */
    vf ref[2], sum[2];
    vi position[2], start[2]; /* of queries, and the first keys they see */
};

/* The vectors of one chunk, two keys at a time. */
struct forward_exp {
    const float *s;
    uint16_t *p;
    vf scale, ref[2], total[2];
    int64_t pair, key; /* next pair of keys; position of the chunk's first */
};

INLINE __mmask16 sees(const struct forward_group *f, int half, int64_t key)
{
    vi k = (int32_t)key - (vi){0};
    return _mm512_cmple_epi32_mask((__m512i)f->start[half], (__m512i)k) &
           _mm512_cmpge_epi32_mask((__m512i)f->position[half], (__m512i)k);
}

INLINE void exp_pair(const struct forward_group *f, struct forward_exp *e, const bool masked)
{
    const float *s = e->s + e->pair * 64;
    uint16_t *p = e->p + e->pair / 16 * 2 * TILE + e->pair % 16 * 32;
    for (int half = 0; half < 2; half++) {
        vf a = exp2_bf16(vf_fma(vf_load(s + half * 16), e->scale, -e->ref[half]));
        vf b = exp2_bf16(vf_fma(vf_load(s + half * 16 + 32), e->scale, -e->ref[half]));
        if (masked) {
            const int64_t key = e->key + 2 * e->pair;
            a = (vf)_mm512_maskz_mov_ps(sees(f, half, key), (__m512)a);
            b = (vf)_mm512_maskz_mov_ps(sees(f, half, key + 1), (__m512)b);
        }
        /* The sum of what was rounded, so that the weights of the values add up to 1. */
        e->total[half] += a + b;
        vi both = (vi)b | (vi)_mm512_srli_epi32((__m512i)a, 16);
        _mm512_storeu_si512(p + half * TILE, (__m512i)both);
    }
    e->pair++;
}

INLINE void exp_pairs(const struct forward_group *f, struct forward_exp *e, int n,
                      const bool masked)
{
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        if (e->pair < PAIRS)
            exp_pair(f, e, masked);
}

/* Sᵀ of a chunk, and after each two tile products 2 * units pairs of another
 * one's vectors. */
INLINE void scores_phase(struct forward_group *f, int64_t chunk, struct forward_exp *e,
                         const int64_t D, const int units, const bool masked)
{
    float *s = f->m->s[chunk % 2];
    const uint16_t *q = f->m->q;
    for (int row = 0; row < CHUNK; row += 16) {
        /* Beyond the sequence are keys that nobody sees: take its last ones. */
        const int64_t block = at_most(chunk * (CHUNK / 32) + row / 32, f->key_blocks - 1);
        const uint16_t *k = f->keys + block * f->key_step + row % 32 * 32;
        _tile_loadd(0, zeros, 64);
        _tile_loadd(1, zeros, 64);
#pragma GCC unroll 4
        for (int64_t d = 0; d < D / 32; d++) {
            _tile_loadd(2, k + d * BLOCK_AREA, 64);
            if (D == 64 && d == 0)
                _tile_dpbf16ps(0, 2, 4);
            else if (D == 64)
                _tile_dpbf16ps(0, 2, 6);
            else {
                _tile_loadd(4, q + d * 2 * TILE, 64);
                _tile_dpbf16ps(0, 2, 4);
            }
            exp_pairs(f, e, units / 2, masked);
            if (D == 64 && d == 0)
                _tile_dpbf16ps(1, 2, 5);
            else if (D == 64)
                _tile_dpbf16ps(1, 2, 7);
            else {
                _tile_loadd(5, q + d * 2 * TILE + TILE, 64);
                _tile_dpbf16ps(1, 2, 5);
            }
            exp_pairs(f, e, units - units / 2, masked);
        }
        _tile_stored(0, s + row * 32, 128);
        _tile_stored(1, s + row * 32 + 16, 128);
    }
}

/* Oᵀ = or += Vᵀ Pᵀ of a chunk, likewise. */
INLINE void output_phase(struct forward_group *f, int64_t chunk, struct forward_exp *e,
                         const int64_t D, const int units, const bool masked)
{
    const uint16_t *p = f->m->p[chunk % 2];
    const uint16_t *v = f->m->v + (chunk * (CHUNK / 32) - f->v_first) * D * 32;
    const int64_t step = chunk > f->first ? 128 : 64;
    for (int64_t d = 0; d < D; d += 16) {
        float *o = f->m->o + d * 32;
        const float *from = chunk > f->first ? o : zeros;
        _tile_loadd(0, from, step);
        _tile_loadd(1, from + (chunk > f->first ? 16 : 0), step);
#pragma GCC unroll 2
        for (int k = 0; k < CHUNK / 32; k++) {
            _tile_loadd(2, v + k * D * 32 + d * 32, 64);
            _tile_loadd(3, p + k * 2 * TILE, 64);
            _tile_dpbf16ps(0, 2, 3);
            exp_pairs(f, e, units / 2, masked);
            _tile_loadd(3, p + k * 2 * TILE + TILE, 64);
            _tile_dpbf16ps(1, 2, 3);
            exp_pairs(f, e, units - units / 2, masked);
        }
        _tile_stored(0, o, 128);
        _tile_stored(1, o + 16, 128);
    }
}

INLINE struct forward_exp exp_init(const struct forward_group *f, int64_t chunk)
{
    return (struct forward_exp){.s = f->m->s[chunk % 2],
                                .p = f->m->p[chunk % 2],
                                .scale = vf_set(f->scale),
                                .ref = {f->ref[0], f->ref[1]},
                                .key = chunk * CHUNK};
}

/* Raises the reference of queries whose sum over a chunk, `total`, got too
 * large, to the maximum of what they see of it; what was summed before follows.
 */
static __attribute__((noinline)) void raise_reference(struct forward_group *f, int64_t chunk,
                                                      const vf total[2], int64_t D)
{
    const float *s = f->m->s[chunk % 2];
    for (int half = 0; half < 2; half++) {
        vf max = vf_set(FAR_BELOW);
        for (int j = 0; j < CHUNK; j++)
            max = (vf)_mm512_mask_max_ps((__m512)max, sees(f, half, chunk * CHUNK + j), (__m512)max,
                                         (__m512)vf_load(s + j * 32 + half * 16));
        vf ref = (vf)_mm512_roundscale_ps((__m512)(max * f->scale),
                                          _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
        ref = vf_select(total[half] <= SUM_MAX, f->ref[half], vf_max(ref, f->ref[half]));
        vf shrink = (vf)_mm512_scalef_ps(_mm512_set1_ps(1.0f), (__m512)(f->ref[half] - ref));
        f->ref[half] = ref;
        f->sum[half] *= shrink;
        if (chunk > f->first)
            for (int64_t d = 0; d < D; d++) {
                float *o = f->m->o + d * 32 + half * 16;
                vf_store(o, vf_load(o) * shrink);
            }
    }
    WRITTEN;
}

/* One step: scores of chunk+1, exp of chunk, output of chunk-1, as far as there
 * are such. */
INLINE void forward_step(struct forward_group *f, int64_t chunk, const int64_t D, const bool masked)
{
    const int units = (int)(256 / D) > 1 ? (int)(256 / D) / 2 : 1;
    struct forward_exp e = exp_init(f, chunk);
    if (chunk < f->last)
        scores_phase(f, chunk + 1, &e, D, units, masked);
    if (chunk > f->first)
        output_phase(f, chunk - 1, &e, D, units, masked);
    while (e.pair < PAIRS)
        exp_pair(f, &e, masked);
    const __mmask16 fine =
        _mm512_cmp_ps_mask((__m512)e.total[0], _mm512_set1_ps(SUM_MAX), _CMP_LE_OQ) &
        _mm512_cmp_ps_mask((__m512)e.total[1], _mm512_set1_ps(SUM_MAX), _CMP_LE_OQ);
    if (__builtin_expect(fine != 0xffff, 0)) {
        raise_reference(f, chunk, e.total, D);
        e = exp_init(f, chunk);
        while (e.pair < PAIRS)
            exp_pair(f, &e, masked);
    }
    f->sum[0] += e.total[0];
    f->sum[1] += e.total[1];
    WRITTEN;
}

INLINE void load_queries(const struct forward_group *f, const int64_t D)
{
    if (D != 64)
        return;
    _tile_loadd(4, f->m->q, 64);
    _tile_loadd(5, f->m->q + TILE, 64);
    _tile_loadd(6, f->m->q + 2 * TILE, 64);
    _tile_loadd(7, f->m->q + 3 * TILE, 64);
}

/* All chunks; those up to `began` and the last one hold keys that some query
 * does not see. */
INLINE void forward_chunks(struct forward_group *f, int64_t began, const int64_t D)
{
    struct forward_exp none = {.pair = PAIRS};
    load_queries(f, D);
    scores_phase(f, f->first, &none, D, 0, false);
    raise_reference(f, f->first, (vf[2]){vf_set(INFINITY), vf_set(INFINITY)}, D);
    for (int64_t c = f->first; c <= f->last; c++)
        if (c < began || c == f->last)
            forward_step(f, c, D, true);
        else
            forward_step(f, c, D, false);
    output_phase(f, f->last, &none, D, 0, false);
}

/* The 32 queries from t of head h. */
static void forward_queries(struct forward_group *f, const struct heads_job *job, int64_t b,
                            int64_t h, int64_t t)
{
    const int64_t D = job->s.D, row = b * job->rows + t, real = at_most(job->s.T - t, 32);
    const uint16_t *q = (const uint16_t *)job->qkv + block_at(row, h * D, job->cols);
    int32_t start[32];
    for (int i = 0; i < 32; i++)
        start[i] = (int32_t)heads_start(job, b, t + i);
    for (int half = 0; half < 2; half++) {
        f->position[half] = (vi)LANE_INDEX + (int32_t)(t + half * 16);
        f->start[half] = (vi)_mm512_loadu_si512(start + half * 16);
        f->ref[half] = vf_set(FAR_BELOW);
        f->sum[half] = (vf){0};
    }
    f->t = t;
    f->first = start[0] / CHUNK;
    f->last = (t + 31) / CHUNK;
    for (int64_t d = 0; d < D / 32; d++)
        pack_pairs(f->m->q + d * 2 * TILE, q + d * BLOCK_AREA);
    WRITTEN;
    const int64_t began = (start[real - 1] + CHUNK - 1) / CHUNK;
    if (D == 64)
        forward_chunks(f, began, 64);
    else if (D == 128)
        forward_chunks(f, began, 128);
    else if (D == 32)
        forward_chunks(f, began, 32);
    else
        forward_chunks(f, began, 96);
    vf factor[2];
    float *lse = job->lse + (b * job->s.H + h) * job->rows + t;
    for (int half = 0; half < 2; half++) {
        vi is_real = f->position[half] < (int32_t)job->s.T;
        vf value = (f->ref[half] + log2_vector(f->sum[half])) * LN_2;
        factor[half] = vf_select(is_real, 1.0f / f->sum[half], (vf){0});
        vf_store(lse + half * 16, vf_select(is_real, value, (vf){0}));
    }
    store_transposed(f->m->o, (uint16_t *)job->out + block_at(row, h * D, job->q_cols), D, factor);
}

static void forward(const struct heads_job *job, int64_t b, int64_t g, int64_t t0, float *scratch)
{
    const int64_t D = job->s.D, heads = job->s.H / job->s.G, end = at_most(t0 + NQ_TASK, job->rows);
    const uint16_t *qkv = job->qkv;
    struct forward_group f = {.m = (struct forward_memory *)(void *)scratch};
    f.keys = qkv + block_at(b * job->rows, job->k_col + g * D, job->cols);
    f.key_step = job->cols * BLOCK;
    f.key_blocks = job->rows / BLOCK;
    f.v_first = heads_start(job, b, t0) / CHUNK * (CHUNK / 32);
    f.scale = LOG2_E / sqrtf((float)D);
    const uint16_t *v = qkv + block_at(b * job->rows, job->v_col + g * D, job->cols);
    for (int64_t block = f.v_first; block < (end + CHUNK - 1) / CHUNK * (CHUNK / 32); block++)
        for (int64_t d = 0; d < D / 32; d++)
            pack_columns(f.m->v + ((block - f.v_first) * (D / 32) + d) * BLOCK_AREA,
                         v + at_most(block, f.key_blocks - 1) * f.key_step + d * BLOCK_AREA);
    _tile_loadconfig(&tiles);
    for (int64_t h = g * heads; h < (g + 1) * heads; h++)
        for (int64_t t = t0; t < end; t += 32)
            forward_queries(&f, job, b, h, t);
    _tile_release();
}

/* --- backward
 * ----------------------------------------------------------------- */

/* Tiles of 64 queries and 64 keys, of four parts of 32 x 32 each. While the scores of the next
 * part are multiplied, the vector units turn those of this part into operands; after all four the
 * tile adds to the gradients. (To do these under the vectors of the next tile was slower: it
 * needs more memory than the first-level cache has.) */
enum { SPAN = 64, SPAN_BLOCKS = SPAN / BLOCK, NQ_PACKED = 512 };

struct backward_memory {
    float s[2][BLOCK_AREA], dp[2][BLOCK_AREA]; /* scores and their gradients of two parts */
    uint16_t p[SPAN * SPAN], ds[SPAN * SPAN];  /* rows of A, k = queries */
    uint16_t ds_pairs[SPAN * SPAN];            /* tiles of B, k = keys */
    float lse[NQ_PACKED], delta[NQ_PACKED];    /* to base 2; sum of dout * out */
};

struct backward_group {
    struct backward_memory *m;
    const uint16_t *k, *v;          /* blocks of the group's first 32 keys */
    int64_t key_step;               /* values from one to that of the next 32 keys */
    int64_t key_blocks;             /* in the sequence */
    int64_t b, q0, q_end;           /* packed queries, in spans */
    float scale;                    /* of scores, to base 2 */
    uint16_t *q_pairs, *dout_pairs; /* tiles of B, k = D, for each 32 queries */
    uint16_t *q_rows, *dout_rows;   /* tiles of B, k = queries, likewise */
    uint16_t *k_columns;            /* tiles of A, k = keys: of all keys */
    float *dq;                      /* (D, 32) for each 32 queries that are packed */
    float *dk, *dv;                 /* of all keys, in blocks */
};

struct backward_tile {
    int64_t key, query; /* in spans */
};

/* The vectors of one part, two keys at a time. */
struct backward_exp {
    const float *s, *dp;
    uint16_t *p, *ds, *ds_pairs;
    vf scale, lse[2], delta[2];
    vi position[2], start[2];
    int64_t row, key;
};

INLINE void gradient_rows(struct backward_exp *e, const bool masked)
{
    const __m512i mix = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __m512i rows[2];
    for (int i = 0; i < 2; i++) {
        const int64_t row = e->row + i;
        vf p[2], ds[2];
        for (int half = 0; half < 2; half++) {
            const int64_t at = row * 32 + half * 16;
            p[half] = exp2_vector(vf_fma(vf_load(e->s + at), e->scale, -e->lse[half]));
            if (masked) {
                vi key = (int32_t)(e->key + row) - (vi){0};
                p[half] = (vf)((e->start[half] <= key) & (e->position[half] >= key) & (vi)p[half]);
            }
            ds[half] = p[half] * (vf_load(e->dp + at) - e->delta[half]);
        }
        rows[i] = (__m512i)_mm512_cvtne2ps_pbh((__m512)ds[1], (__m512)ds[0]);
        _mm512_storeu_si512(e->p + row * SPAN,
                            (__m512i)_mm512_cvtne2ps_pbh((__m512)p[1], (__m512)p[0]));
        _mm512_storeu_si512(e->ds + row * SPAN, rows[i]);
    }
    uint16_t *to = e->ds_pairs + e->row / 2 * 32;
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(rows[0], mix, rows[1]));
    _mm512_storeu_si512(
        to + TILE,
        _mm512_permutex2var_epi16(rows[0], _mm512_add_epi16(mix, _mm512_set1_epi16(16)), rows[1]));
    e->row += 2;
}

INLINE void gradient_units(struct backward_exp *e, const int units, const bool masked)
{
#pragma GCC unroll 4
    for (int i = 0; i < units; i++)
        if (e && e->row < BLOCK)
            gradient_rows(e, masked);
}

/* An operand A of 32 rows: distance of rows in bytes, of its halves and steps
 * of k in values. */
struct operand {
    const uint16_t *at;
    int64_t line, half, step;
};

/* c (32, 32) = or += a b; 4 * units keys of e's vectors come between, if there is an e. */
INLINE void multiply(const struct operand a, const uint16_t *b, int64_t b_step, const int64_t depth,
                     float *c, const bool add, struct backward_exp *e, const int units,
                     const bool masked)
{
    const float *from = add ? c : zeros;
    const int64_t line = add ? 128 : 64, right = add ? 16 : 0, down = add ? 16 * 32 : 0;
    _tile_loadd(0, from, line);
    _tile_loadd(1, from + right, line);
    _tile_loadd(2, from + down, line);
    _tile_loadd(3, from + down + right, line);
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++) {
        const uint16_t *left = a.at + k * a.step, *top = b + k * b_step;
        _tile_loadd(4, left, a.line);
        _tile_loadd(6, top, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, top + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        gradient_units(e, units, masked);
        _tile_loadd(5, left + a.half, a.line);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        gradient_units(e, units, masked);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + 16, 128);
    _tile_stored(2, c + 16 * 32, 128);
    _tile_stored(3, c + 16 * 32 + 16, 128);
}

/* Part 0 … 3 of a tile: its keys are the half part % 2, its queries the half part / 2. e: the
 * vectors of another part, or NULL. */
INLINE void part_scores(const struct backward_group *g, const struct backward_tile *t, int part,
                        const int64_t D, struct backward_exp *e, const bool masked)
{
    const int units = D < 128 ? (int)(128 / D) : 1;
    /* Beyond the sequence are keys that no query sees: take its last ones. */
    const int64_t key = at_most(t->key * SPAN_BLOCKS + part % 2, g->key_blocks - 1);
    const int64_t query = (t->query - g->q0) * SPAN_BLOCKS + part / 2;
    const struct operand k = {g->k + key * g->key_step, 64, TILE, BLOCK_AREA};
    const struct operand v = {g->v + key * g->key_step, 64, TILE, BLOCK_AREA};
    multiply(k, g->q_pairs + query * D * BLOCK, BLOCK_AREA, D / 32, g->m->s[part % 2], false, e,
             units, masked);
    multiply(v, g->dout_pairs + query * D * BLOCK, BLOCK_AREA, D / 32, g->m->dp[part % 2], false, e,
             units, masked);
}

/* What a tile adds to dV = P dO, dK = dS Q (both (keys, D)) and dQᵀ = Kᵀ dS. */
INLINE void tile_gradients(const struct backward_group *g, const struct backward_tile *t,
                           const int64_t D)
{
    const int64_t query = (t->query - g->q0) * SPAN_BLOCKS, key = t->key * SPAN_BLOCKS;
    for (int product = 0; product < 2; product++) {
        const uint16_t *left = product ? g->m->ds : g->m->p;
        const uint16_t *right = (product ? g->q_rows : g->dout_rows) + query * D * BLOCK;
        float *sum = (product ? g->dk : g->dv) + key * D * BLOCK;
        for (int half = 0; half < SPAN_BLOCKS; half++)
            for (int64_t d = 0; d < D * BLOCK; d += BLOCK_AREA) {
                const struct operand a = {left + half * BLOCK * SPAN, 2 * SPAN, 16 * SPAN, BLOCK};
                multiply(a, right + d, D * BLOCK, SPAN_BLOCKS, sum + half * D * BLOCK + d, true,
                         NULL, 0, false);
            }
    }
    for (int half = 0; half < SPAN_BLOCKS; half++)
        for (int64_t d = 0; d < D * BLOCK; d += BLOCK_AREA) {
            const struct operand a = {g->k_columns + key * D * BLOCK + d, 64, TILE, D * BLOCK};
            multiply(a, g->m->ds_pairs + half * 2 * TILE, 4 * TILE, SPAN_BLOCKS,
                     g->dq + (query + half) * D * BLOCK + d, true, NULL, 0, false);
        }
}

/* Operands of one part of `now`, and the scores of the part that follows, in tile `next`, if it
 * is not NULL. */
INLINE void backward_part(const struct backward_group *g, const struct heads_job *job,
                          const struct backward_tile *now, const struct backward_tile *next,
                          int part, const int64_t D, const bool masked)
{
    const int64_t t = now->query * SPAN + part / 2 * BLOCK, at = t - g->q0 * SPAN;
    const int64_t key = part % 2 * BLOCK, to = key * SPAN + part / 2 * BLOCK;
    struct backward_exp e = {.s = g->m->s[part % 2],
                             .dp = g->m->dp[part % 2],
                             .p = g->m->p + to,
                             .ds = g->m->ds + to,
                             .ds_pairs = g->m->ds_pairs + (part % 2 * 4 + part / 2 * 2) * TILE,
                             .scale = vf_set(g->scale),
                             .key = now->key * SPAN + key};
    for (int half = 0; half < 2; half++) {
        e.lse[half] = vf_load(g->m->lse + at + half * 16);
        e.delta[half] = vf_load(g->m->delta + at + half * 16);
        if (masked) {
            e.position[half] = (vi)LANE_INDEX + (int32_t)(t + half * 16);
            for (int i = 0; i < 16; i++)
                e.start[half][i] = (int32_t)heads_start(job, g->b, t + half * 16 + i);
        }
    }
    if (next)
        part_scores(g, next, (part + 1) % 4, D, &e, masked);
    while (e.row < BLOCK)
        gradient_rows(&e, masked);
    WRITTEN;
}

/* The next tile whose keys a query of it sees; false after the last. */
static bool tile_next(const struct backward_group *g, const struct heads_job *job,
                      struct backward_tile *t)
{

    if (++t->query < g->q_end && heads_start(job, g->b, t->query * SPAN) < (t->key + 1) * SPAN)
        return true;
    t->key++;
    t->query = t->key > g->q0 ? t->key : g->q0;
    return t->key < g->q_end;
}

/* What all packed queries and the keys from span `first` on give each other. */
INLINE void backward_tiles(const struct backward_group *g, const struct heads_job *job,
                           int64_t first, const int64_t D)
{
    struct backward_tile now = {first, first > g->q0 ? first : g->q0}, next = now;
    part_scores(g, &now, 0, D, NULL, false);
    for (bool more = true; more; now = next) {
        const int64_t last = at_most((now.query + 1) * SPAN, job->s.T) - 1;
        const bool masked = now.key == now.query || heads_start(job, g->b, last) > now.key * SPAN;
        more = tile_next(g, job, &next);
        for (int part = 0; part < 4; part++) {
            const struct backward_tile *follows = part < 3 ? &now : more ? &next : NULL;
            if (masked)
                backward_part(g, job, &now, follows, part, D, true);
            else
                backward_part(g, job, &now, follows, part, D, false);
        }
        tile_gradients(g, &now, D);
    }
}

/* Two tiles of B, k being the rows of the block. */
INLINE void pack_rows(uint16_t *to, const uint16_t *block)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (int i = 0; i < 16; i++) {
        __m512i even = (__m512i)load_line(block + 2 * i * 32);
        __m512i odd = (__m512i)load_line(block + (2 * i + 1) * 32);
        store_line(to + i * 32, (vf)_mm512_permutex2var_epi16(even, low, odd));
        store_line(to + TILE + i * 32, (vf)_mm512_permutex2var_epi16(even, high, odd));
    }
}

/* 32 queries of head h from row t, number i of the packed ones; beyond the
 * sequence zeros. */
static void pack_queries(const struct backward_group *g, const struct heads_job *job, int64_t h,
                         int64_t t, int64_t i)
{
    static const uint16_t nobody[BLOCK_AREA] __attribute__((aligned(64)));
    const int64_t D = job->s.D, row = g->b * job->rows + t;
    const bool exists = t < job->rows;
    float *lse = g->m->lse + i * 32, *delta = g->m->delta + i * 32;
    __m512 sum[32];
    for (int j = 0; j < 32; j++) {
        sum[j] = _mm512_setzero_ps();
        lse[j] = exists ? LOG2_E * job->lse[(g->b * job->s.H + h) * job->rows + t + j] : 0.0f;
    }
    for (int64_t d = 0; d < D; d += 32) {
        const int64_t to = i * D * BLOCK + d * BLOCK;
        const int64_t at = exists ? block_at(row, h * D + d, job->q_cols) : 0;
        const uint16_t *q = nobody, *dout = nobody, *out = nobody;
        if (exists) {
            q = (const uint16_t *)job->qkv + block_at(row, h * D + d, job->cols);
            dout = (const uint16_t *)job->dout + at;
            out = (const uint16_t *)job->out + at;
        }
        pack_pairs(g->q_pairs + to, q);
        pack_pairs(g->dout_pairs + to, dout);
        pack_rows(g->q_rows + to, q);
        pack_rows(g->dout_rows + to, dout);
        for (int j = 0; j < 32; j++)
            sum[j] = _mm512_dpbf16_ps(sum[j], (__m512bh)load_line(dout + j * 32),
                                      (__m512bh)load_line(out + j * 32));
    }
    for (int j = 0; j < 32; j++)
        delta[j] = _mm512_reduce_add_ps(sum[j]);
}

/* All queries of head h, as many at a time as are packed. */
static void backward_head(struct backward_group *g, const struct heads_job *job, int64_t h)
{
    const int64_t D = job->s.D, spans = (job->rows + SPAN - 1) / SPAN;
    const vf factor[2] = {vf_set(1.0f / sqrtf((float)D)), vf_set(1.0f / sqrtf((float)D))};
    for (g->q0 = 0; g->q0 < spans; g->q0 += NQ_PACKED / SPAN) {
        g->q_end = at_most(g->q0 + NQ_PACKED / SPAN, spans);
        const int64_t blocks = (g->q_end - g->q0) * SPAN_BLOCKS, t = g->q0 * SPAN;
        for (int64_t i = 0; i < blocks; i++)
            pack_queries(g, job, h, t + i * BLOCK, i);
        memset(g->dq, 0, (size_t)(blocks * D * BLOCK) * sizeof(float));
        WRITTEN;
        const int64_t first = heads_start(job, g->b, t) / SPAN;
        if (D == 64)
            backward_tiles(g, job, first, 64);
        else if (D == 128)
            backward_tiles(g, job, first, 128);
        else if (D == 32)
            backward_tiles(g, job, first, 32);
        else
            backward_tiles(g, job, first, 96);
        uint16_t *dq = (uint16_t *)job->d_qkv;
        for (int64_t i = 0; i < blocks && t + i * BLOCK < job->rows; i++)
            store_transposed(g->dq + i * D * BLOCK,
                             dq + block_at(g->b * job->rows + t + i * BLOCK, h * D, job->cols), D,
                             factor);
    }
}

/* Blocks of 32 keys of fp32, rounded into those of a head. */
static void store_keys(const struct backward_group *g, const struct heads_job *job, int64_t col,
                       const float *from, float scale)
{
    const int64_t D = job->s.D;
    uint16_t *to = (uint16_t *)job->d_qkv + block_at(g->b * job->rows, col, job->cols);
    for (int64_t block = 0; block < g->key_blocks; block++, to += g->key_step, from += D * BLOCK)
        for (int64_t i = 0; i < D * BLOCK; i += 32) {
            vf low = vf_load(from + i) * scale, high = vf_load(from + i + 16) * scale;
            _mm512_storeu_si512(to + i, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
        }
}

static char *take(char **at, int64_t bytes)
{
    char *p = *at;
    *at += bytes;
    return p;
}

static void backward(const struct heads_job *job, int64_t b, int64_t group, float *scratch)
{
    const int64_t D = job->s.D, heads = job->s.H / job->s.G;
    const int64_t size = (job->rows + SPAN - 1) / SPAN * SPAN * D; /* of something of all keys */
    char *at = (char *)scratch;
    struct backward_group g = {.b = b, .key_step = job->cols * BLOCK, .scale = LOG2_E};
    g.scale /= sqrtf((float)D);
    g.m = (void *)take(&at, sizeof(*g.m));
    uint16_t **packed[] = {&g.q_pairs, &g.dout_pairs, &g.q_rows, &g.dout_rows};
    for (int i = 0; i < 4; i++)
        *packed[i] = (void *)take(&at, NQ_PACKED * D * 2);
    g.dq = (void *)take(&at, NQ_PACKED * D * 4);
    g.k_columns = (void *)take(&at, size * 2);
    g.dk = (void *)take(&at, size * 4);
    g.dv = (void *)take(&at, size * 4);
    const int64_t k_col = job->k_col + group * D, v_col = job->v_col + group * D;
    g.k = (const uint16_t *)job->qkv + block_at(b * job->rows, k_col, job->cols);
    g.v = (const uint16_t *)job->qkv + block_at(b * job->rows, v_col, job->cols);
    g.key_blocks = job->rows / BLOCK;
    memset(g.dk, 0, (size_t)(2 * size) * sizeof(float)); /* dv follows */
    for (int64_t i = 0; i < size / BLOCK_AREA; i++)
        pack_columns(g.k_columns + i * BLOCK_AREA,
                     g.k + at_most(i / (D / 32), g.key_blocks - 1) * g.key_step +
                         i % (D / 32) * BLOCK_AREA);
    _tile_loadconfig(&tiles);
    for (int64_t h = group * heads; h < (group + 1) * heads; h++)
        backward_head(&g, job, h);
    _tile_release();
    store_keys(&g, job, k_col, g.dk, 1.0f / sqrtf((float)D));
    store_keys(&g, job, v_col, g.dv, 1.0f);
}

void heads_fill_amx(struct kernels *k)
{
    k->heads_bf16 = (struct heads_engine){NQ_TASK, forward, backward};
}
#endif
