/*
 * Matrix products of bf16 operands in the AMX tile unit: 32 x 32 blocks of C in four tiles.
 *
 * A panel of A holds, for each 32 values of k, two tiles of 16 rows x 32 values; one of B two
 * tiles of 16 pairs of k x 16 columns (the pairs side by side, as TDPBF16PS wants them).
 * fp32 products of this level use the AVX-512 engine.
 */
#if defined(__x86_64__)
#define LANES 16
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

#include <string.h>

enum { SIDE = 32, TILE = 16 * 32 /* bf16 values */, K_STEP = 1024 };

/* All eight tiles are 16 rows of 64 bytes. In the data segment: gcc 12 tells the optimiser of
 * only 8 bytes that LDTILECFG reads. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tiles = {.palette = 1,
           .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
           .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* To start sums from: loading it is cheaper than TILEZERO. */
static const float zeros[16 * 16] __attribute__((aligned(64)));

/* Values k … k+31 of a row as 16 pairs; beyond `n` zeros. */
INLINE __m512i pairs_near(const float *p, int64_t n)
{
    vf low = n >= 16 ? vf_load(p) : vf_load_n(p, n > 0 ? n : 0);
    vf high = n >= 32 ? vf_load(p + 16) : vf_load_n(p + 16, n > 16 ? n - 16 : 0);
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

/* Values k and k+1 of 16 neighbours, which lie ld apart; k+1 may not exist. */
INLINE __m512i pairs_far(const float *p, int64_t ld, int64_t width, bool second)
{
    const __m512i mix = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    int64_t n = width < 16 ? width : 16;
    vf low = vf_load_n(p, n), high = {0};
    if (second)
        high = vf_load_n(p + ld, n);
    return _mm512_permutexvar_epi16(mix, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}

/* One tile: 16 neighbours (rows of A, columns of B) x 32 values of k. With k_rows the rows of
 * the tile are pairs of k, otherwise the neighbours. */
INLINE void pack_tile(uint16_t *tile, const float *src, int64_t ld, bool k_near, int64_t width,
                      int64_t depth, const bool k_rows)
{
    vf r[16];
    for (int i = 0; i < 16; i++) {
        r[i] = (vf){0};
        if (k_near && i < width)
            r[i] = (vf)pairs_near(src + i * ld, depth);
        else if (!k_near && 2 * i < depth && width > 0)
            r[i] = (vf)pairs_far(src + 2 * i * ld, ld, width, 2 * i + 1 < depth);
    }
    if (k_near == k_rows)
        vf_transpose(r);
    for (int i = 0; i < 16; i++)
        vf_store((float *)(void *)(tile + i * 32), r[i]);
}

INLINE void pack(uint16_t *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                 int64_t depth, const bool k_rows)
{
    const int64_t padded = (depth + 31) / 32 * 32;
    for (int64_t k = 0; k < depth; k += 32) {
        for (int64_t i = 0; i < (width + SIDE - 1) / SIDE * SIDE; i += 16) {
            uint16_t *tile = panels + i / SIDE * SIDE * padded + k * SIDE + i % SIDE / 16 * TILE;
            const float *from = src + (k_near ? i * ld + k : k * ld + i);
            pack_tile(tile, from, ld, k_near, width - i, depth - k, k_rows);
        }
    }
}

static void pack_a(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth)
{
    if (k_near)
        pack(panels, src, ld, true, width, depth, false);
    else
        pack(panels, src, ld, false, width, depth, false);
}

static void pack_b(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth)
{
    if (k_near)
        pack(panels, src, ld, true, width, depth, true);
    else
        pack(panels, src, ld, false, width, depth, true);
}

/* c (32, 32) = or += a panel times b panel. */
INLINE void product(const uint16_t *a, const uint16_t *b, int64_t depth, float *c, int64_t ldc,
                    bool add)
{
    const float *from = add ? c : zeros;
    const int64_t row = add ? ldc * 4 : 64, right = add ? 16 : 0, down = add ? 16 * ldc : 0;
    _tile_loadd(0, from, row);
    _tile_loadd(1, from + right, row);
    _tile_loadd(2, from + down, row);
    _tile_loadd(3, from + down + right, row);
    for (int64_t k = 0; k < depth; k += 32, a += 2 * TILE, b += 2 * TILE) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, ldc * 4);
    _tile_stored(1, c + 16, ldc * 4);
    _tile_stored(2, c + 16 * ldc, ldc * 4);
    _tile_stored(3, c + 16 * ldc + 16, ldc * 4);
}

/* A block at the border goes through a full one. */
static void product_edge(const uint16_t *a, const uint16_t *b, int64_t depth, float *c, int64_t ldc,
                         int64_t rows, int64_t cols, bool add)
{
    float full[SIDE * SIDE] __attribute__((aligned(64)));
    for (int64_t i = 0; i < rows && add; i++)
        memcpy(full + i * SIDE, c + i * ldc, (size_t)cols * sizeof(float));
    product(a, b, depth, full, SIDE, add);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * ldc, full + i * SIDE, (size_t)cols * sizeof(float));
}

static void block(const void *a, const void *b, int64_t depth, float *c, int64_t ldc, int64_t rows,
                  int64_t cols, bool add)
{
    _tile_loadconfig(&tiles);
    for (int64_t j = 0; j < cols; j += SIDE) {
        const uint16_t *bp = (const uint16_t *)b + j * depth;
        for (int64_t i = 0; i < rows; i += SIDE) {
            const uint16_t *ap = (const uint16_t *)a + i * depth;
            float *cp = c + i * ldc + j;
            if (i + SIDE <= rows && j + SIDE <= cols)
                product(ap, bp, depth, cp, ldc, add);
            else
                product_edge(ap, bp, depth, cp, ldc, rows - i < SIDE ? rows - i : SIDE,
                             cols - j < SIDE ? cols - j : SIDE, add);
        }
    }
    _tile_release();
}

/* Four tiles of gaussian-like values from the first-level cache: with zeros the unit draws
 * less power and runs a sixth faster than it ever will at work. */
static double spin(int64_t rounds)
{
    uint16_t values[4 * TILE] __attribute__((aligned(64)));
    float sums[16 * 16] __attribute__((aligned(64)));
    uint32_t state = 1;
    for (int i = 0; i < 4 * TILE; i++) {
        float sum = 0;
        for (int j = 0; j < 4; j++) {
            state = state * 1664525u + 1013904223u;
            sum += (float)(state >> 8) / (float)(1 << 24) - 0.5f;
        }
        uint32_t bits;
        memcpy(&bits, &sum, sizeof(bits));
        values[i] = (uint16_t)(bits >> 16);
    }
    _tile_loadconfig(&tiles);
    _tile_loadd(0, zeros, 64);
    _tile_loadd(1, zeros, 64);
    _tile_loadd(2, zeros, 64);
    _tile_loadd(3, zeros, 64);
    for (int64_t r = 0; r < rounds; r++) {
        _tile_loadd(4, values, 64);
        _tile_loadd(6, values + 2 * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, values + 3 * TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, values + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_release();
    volatile float sink = sums[0];
    (void)sink;
    return 2.0 * SIDE * SIDE * 32 * (double)rounds;
}

void gemm_fill_amx(struct kernels *k)
{
    k->bf16 = (struct gemm_engine){.mr = SIDE,
                                   .nr = SIDE,
                                   .k_step = K_STEP,
                                   .k_pad = 32,
                                   .element_bytes = sizeof(uint16_t),
                                   .pack_a = pack_a,
                                   .pack_b = pack_b,
                                   .spin = spin,
                                   .block = block};
}
#endif
