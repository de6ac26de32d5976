/*
 * What the files for the AMX tile unit share: the shape of the tiles, packing of fp32 values
 * into bf16 panels, the product of two panels.
 *
 * A panel of A holds, for each 32 values of k, two tiles of 16 rows x 32 values; one of B two
 * tiles of 16 pairs of k x 16 columns (the pairs side by side, as TDPBF16PS wants them).
 */
#ifndef MODEL_KERNELS_AMX_H
#define MODEL_KERNELS_AMX_H

#define LANES 16
#include "model/kernels/simd.h"

enum { SIDE = 32, TILE = 16 * 32 /* bf16 values */ };

/* All eight tiles are 16 rows of 64 bytes. In the data segment: gcc 12 tells the optimiser of
 * only 8 bytes that LDTILECFG reads. */
static const struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tiles = {.palette = 1,
           .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
           .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* To start sums from: loading it is cheaper than TILEZERO. */
static const float zeros[16 * 16] __attribute__((aligned(64)));

/* Values k … k+31 of a row as 16 pairs; beyond `n` zeros. */
INLINE __m512i pairs_near(const float *p, int64_t n, const float scale)
{
    vf low = n >= 16 ? vf_load(p) : vf_load_n(p, n > 0 ? n : 0);
    vf high = n >= 32 ? vf_load(p + 16) : vf_load_n(p + 16, n > 16 ? n - 16 : 0);
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)(high * scale), (__m512)(low * scale));
}

/* Pairs (low[i], high[i]). */
INLINE __m512i pairs(vf low, vf high)
{
    const __m512i mix = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(mix, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}

/* Values k and k+1 of 16 neighbours, which lie ld apart; k+1 may not exist. */
INLINE __m512i pairs_far(const float *p, int64_t ld, int64_t width, bool second, const float scale)
{
    int64_t n = width < 16 ? width : 16;
    vf low = vf_load_n(p, n), high = {0};
    if (second)
        high = vf_load_n(p + ld, n);
    return pairs(low * scale, high * scale);
}

/* One tile: 16 neighbours (rows of A, columns of B) x 32 values of k. With k_rows the rows of
 * the tile are pairs of k, otherwise the neighbours. */
INLINE void pack_tile(uint16_t *tile, const float *src, int64_t ld, bool k_near, int64_t width,
                      int64_t depth, const bool k_rows, const float scale)
{
    vf r[16];
    for (int i = 0; i < 16; i++) {
        r[i] = (vf){0};
        if (k_near && i < width)
            r[i] = (vf)pairs_near(src + i * ld, depth, scale);
        else if (!k_near && 2 * i < depth && width > 0)
            r[i] = (vf)pairs_far(src + 2 * i * ld, ld, width, 2 * i + 1 < depth, scale);
    }
    if (k_near == k_rows)
        vf_transpose(r);
    for (int i = 0; i < 16; i++)
        vf_store((float *)(void *)(tile + i * 32), r[i]);
}

/* Panels of 32 neighbours for depth rounded up to 32. Value (i, k) lies at src[i * ld + k] if
 * k_near, at src[k * ld + i] otherwise. k_rows makes panels of B. */
INLINE void pack_panels(uint16_t *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                        int64_t depth, const bool k_rows, const float scale)
{
    const int64_t padded = (depth + 31) / 32 * 32, wide = (width + SIDE - 1) / SIDE * SIDE;
    /* In the order in which src lies. */
    const int64_t i_block = k_near ? SIDE : wide, k_block = k_near ? padded : 32;
    for (int64_t k0 = 0; k0 < padded; k0 += k_block)
        for (int64_t i0 = 0; i0 < wide; i0 += i_block)
            for (int64_t k = k0; k < k0 + k_block; k += 32)
                for (int64_t i = i0; i < i0 + i_block; i += 16)
                    pack_tile(panels + i / SIDE * SIDE * padded + k * SIDE + i % SIDE / 16 * TILE,
                              src + (k_near ? i * ld + k : k * ld + i), ld, k_near, width - i,
                              depth - k, k_rows, scale);
}

/* c (32, 32) = or += a panel times b panel. cold: fetch the lines of c while there is time,
 * before they are stored to. */
INLINE void panel_product(const uint16_t *a, const uint16_t *b, int64_t depth, float *c,
                          int64_t ldc, bool add, const bool cold)
{
    const float *from = add ? c : zeros;
    const int64_t row = add ? ldc * 4 : 64, right = add ? 16 : 0, down = add ? 16 * ldc : 0;
    _tile_loadd(0, from, row);
    _tile_loadd(1, from + right, row);
    _tile_loadd(2, from + down, row);
    _tile_loadd(3, from + down + right, row);
    const char *line = (const char *)c;
    for (int64_t k = 0; k < depth; k += 32, a += 2 * TILE, b += 2 * TILE) {
        if (cold && k < 16 * 32) {
            __builtin_prefetch(line, 1);
            __builtin_prefetch(line + 64, 1);
            __builtin_prefetch(line + ldc * 4, 1);
            __builtin_prefetch(line + ldc * 4 + 64, 1);
            line += ldc * 8;
        }
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

#endif
