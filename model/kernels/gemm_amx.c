/*
 * Matrix products of bf16 operands in the AMX tile unit: 32 x 32 blocks of C in four tiles.
 * fp32 products of this level use the AVX-512 engine.
 */
#if defined(__x86_64__)
#include "model/kernels/amx.h"
#include "model/kernels/table.h"

#include <string.h>

enum { K_STEP = 1024 };

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
