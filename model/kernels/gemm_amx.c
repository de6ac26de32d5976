/*
 * Matrix products of bf16 operands in the AMX tile unit: 32 x 32 blocks of C in four tiles.
 * fp32 products of this level use the AVX-512 engine.
 *
 * A panel of A holds, for each 32 values of k, two tiles of 16 rows x 32 values; one of B two
 * tiles of 16 pairs of k x 16 columns (the pairs side by side, as TDPBF16PS wants them).
 */
#if defined(__x86_64__)
#include "model/kernels/amx.h"
#include "model/kernels/table.h"

#include <string.h>

enum { K_STEP = 1024 };

/* Values k … k+31 of a row as 16 pairs; beyond `n` zeros. */
INLINE __m512i pairs_near(const float *p, int64_t n, const float scale)
{
    vf low = n >= 16 ? vf_load(p) : vf_load_n(p, n > 0 ? n : 0);
    vf high = n >= 32 ? vf_load(p + 16) : vf_load_n(p + 16, n > 16 ? n - 16 : 0);
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)(high * scale), (__m512)(low * scale));
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

static void pack_a(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth)
{
    if (k_near)
        pack_panels(panels, src, ld, true, width, depth, false, 1.0f);
    else
        pack_panels(panels, src, ld, false, width, depth, false, 1.0f);
}

static void pack_b(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth)
{
    if (k_near)
        pack_panels(panels, src, ld, true, width, depth, true, 1.0f);
    else
        pack_panels(panels, src, ld, false, width, depth, true, 1.0f);
}

/* A block at the border goes through a full one. */
static void product_edge(const uint16_t *a, const uint16_t *b, int64_t depth, float *c, int64_t ldc,
                         int64_t rows, int64_t cols, bool add)
{
    float full[SIDE * SIDE] __attribute__((aligned(64)));
    for (int64_t i = 0; i < rows && add; i++)
        memcpy(full + i * SIDE, c + i * ldc, (size_t)cols * sizeof(float));
    panel_product(a, b, depth, full, SIDE, add, false);
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
                panel_product(ap, bp, depth, cp, ldc, add, true);
            else
                product_edge(ap, bp, depth, cp, ldc, rows - i < SIDE ? rows - i : SIDE,
                             cols - j < SIDE ? cols - j : SIDE, add);
        }
    }
    _tile_release();
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
                                   .block = block};
}
#endif
