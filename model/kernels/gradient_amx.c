/*
 * Gradients of weights, bf16, in the AMX tile unit: dW += dyᵀ x.
 *
 * The sum runs over rows, so neither operand lies as the unit wants it: dy has to be transposed,
 * and rows of x have to be paired. Both are done in scratch memory, a chunk of rows at a time: of
 * dy for a group of block rows of dW, which then stays in the second-level cache, of x for one
 * block column at a time. (Done between the steps of the products, as the epilogues of other
 * products are, it costs more: not vector operations are short then but lines of the caches.)
 */
#if defined(__x86_64__)
#include "model/kernels/linear_amx.h"

enum {
    CHUNK = 16, /* blocks of rows of dy and x */
    SPAN = CHUNK * BLOCK_AREA
};

const size_t gradient_amx_scratch = (1 + GRADIENT_ROWS) * (size_t)SPAN * sizeof(uint16_t);

/* The pairs of rows of a block of x, each pair side by side: two tiles of a right operand. */
INLINE void pair_rows(uint16_t *to, const uint16_t *block)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (int r = 0; r < BLOCK / 2; r++) {
        const __m512i even = _mm512_loadu_si512(block + 2 * r * BLOCK);
        const __m512i odd = _mm512_loadu_si512(block + (2 * r + 1) * BLOCK);
        _mm512_storeu_si512(to + r * BLOCK, _mm512_permutex2var_epi16(even, low, odd));
        _mm512_storeu_si512(to + TILE + r * BLOCK, _mm512_permutex2var_epi16(even, high, odd));
    }
}

INLINE __m512i load_lanes(const uint16_t *p, int64_t apart)
{
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)p));
    for (int q = 1; q < 4; q++) {
        const __m128i lane = _mm_loadu_si128((const __m128i *)(const void *)(p + q * apart));
        x = _mm512_mask_broadcast_i32x4(x, (__mmask16)(0xf << 4 * q), lane);
    }
    return x;
}

/* Eight columns of a block of dy become rows. Lane q of a vector holds rows 8 q … 8 q + 7, so
 * that only 8 x 8 values in each lane are left to be transposed. */
INLINE void transpose_columns(uint16_t *to, const uint16_t *block, int first_column)
{
    __m512i r[8], s[8];
    for (int i = 0; i < 8; i++)
        r[i] = load_lanes(block + i * BLOCK + first_column, 8 * BLOCK);
    for (int i = 0; i < 4; i++) {
        s[i] = _mm512_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        s[4 + i] = _mm512_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[2 * i] = _mm512_unpacklo_epi32(s[2 * i], s[2 * i + 1]);
        r[2 * i + 1] = _mm512_unpackhi_epi32(s[2 * i], s[2 * i + 1]);
    }
    /* r[0], r[2]: columns 0 and 1, of the first four rows and the last; r[1], r[3]: 2 and 3; … */
    for (int i = 0; i < 4; i++) {
        const __m512i first = r[i / 2 * 4 + i % 2], last = r[i / 2 * 4 + i % 2 + 2];
        uint16_t *row = to + (first_column + 2 * i) * BLOCK;
        _mm512_storeu_si512(row, _mm512_unpacklo_epi64(first, last));
        _mm512_storeu_si512(row + BLOCK, _mm512_unpackhi_epi64(first, last));
    }
}

/* Block rows [i0, i1) and columns [j0, j1) of dW, over the blocks [k0, k1) of rows of dy and x. */
struct part {
    int64_t i0, i1, j0, j1, k0, k1;
};

static void transpose_dy(const struct gradient *g, const struct part *p, uint16_t *dyt)
{
    const int64_t width = g->out / BLOCK, steps = p->k1 - p->k0;
    for (int64_t t = 0; t < steps; t++) {
        const uint16_t *block = (const uint16_t *)g->dy +
                                ((p->k0 + t) * width + p->i0) * BLOCK_AREA;
        for (int64_t i = 0; i < p->i1 - p->i0; i++, block += BLOCK_AREA)
            for (int column = 0; column < BLOCK; column += 8)
                transpose_columns(dyt + (i * steps + t) * BLOCK_AREA, block, column);
    }
}

static void pair_x(const struct gradient *g, const struct part *p, int64_t j, uint16_t *x)
{
    const int64_t width = g->in / BLOCK;
    const uint16_t *block = (const uint16_t *)g->x + (p->k0 * width + j) * BLOCK_AREA;
    for (int64_t k = p->k0; k < p->k1; k++, block += width * BLOCK_AREA, x += BLOCK_AREA)
        pair_rows(x, block);
}

INLINE void nothing(void *state, int unit)
{
    (void)state;
    (void)unit;
}

/* Fetches block t of a part's x in column j during `steps` steps. */
static struct fetch fetch_x(const struct gradient *g, const struct part *p, int64_t t, int64_t j,
                            int64_t steps)
{
    const uint16_t *block = (const uint16_t *)g->x +
                            ((p->k0 + t) * (g->in / BLOCK) + j) * BLOCK_AREA;
    return (struct fetch){(const char *)block, (int)divide_up(BLOCK, steps)};
}

/* Block column j of a part. */
static void gradient_column(const struct gradient *g, const struct part *p, int64_t j,
                            const uint16_t *dyt, const uint16_t *x)
{
    const int64_t down = g->in / BLOCK * BLOCK_AREA, steps = p->k1 - p->k0;
    float *dw = g->dw + p->i0 * down + j * BLOCK_AREA;
    struct work none = {NULL, 0, 0};
    for (int64_t i = 0; i < p->i1 - p->i0; i++, dw += down, dyt += steps * BLOCK_AREA) {
        struct block_product q = {.a = dyt, .b = x, .steps = steps, .from = dw, .to = dw};
        if (i + 1 < p->i1 - p->i0)
            q.sums = fetch_block(dw + down, steps);
        if (j + 1 < p->j1 && i < steps)
            q.panel = fetch_x(g, p, i, j + 1, steps);
        multiply_block(nothing, &q, &none);
    }
}

static void gradient_part(const struct gradient *g, const struct part *p, uint16_t *scratch)
{
    uint16_t *x = scratch, *dyt = x + SPAN;
    transpose_dy(g, p, dyt);
    for (int64_t j = p->j0; j < p->j1; j++) {
        pair_x(g, p, j, x);
        /* the intrinsics that load tiles do not say that they read memory */
        __asm__ volatile("" ::: "memory");
        gradient_column(g, p, j, dyt, x);
    }
}

void gradient_amx(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                  void *scratch)
{
    const int64_t depth = g->n / BLOCK, rows = even_part(i1 - i0, GRADIENT_ROWS);
    const int64_t chunk = even_part(depth, CHUNK);
    _tile_loadconfig(&tiles);
    for (int64_t i = i0; i < i1; i += rows)
        for (int64_t k = 0; k < depth; k += chunk) {
            const struct part p = {i, at_most(i + rows, i1), j0, j1, k, at_most(k + chunk, depth)};
            gradient_part(g, &p, scratch);
        }
    _tile_release();
}
#endif
