/*
 * Measuring loops of the AMX tile unit: four tiles of sums, as products use them.
 */
#if defined(__x86_64__)
#include "model/kernels/amx.h"
#include "model/kernels/table.h"

#include <string.h>

static void keep(void)
{
    float sums[16 * 16] __attribute__((aligned(64)));
    _tile_stored(0, sums, 64);
    _tile_release();
    volatile float sink = sums[0];
    (void)sink;
}

static void begin(void)
{
    _tile_loadconfig(&tiles);
    _tile_loadd(0, zeros, 64);
    _tile_loadd(1, zeros, 64);
    _tile_loadd(2, zeros, 64);
    _tile_loadd(3, zeros, 64);
}

static double spin_nominal(int64_t rounds)
{
    begin();
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    _tile_loadd(6, zeros, 64);
    _tile_loadd(7, zeros, 64);
    for (int64_t r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    keep();
    return 2.0 * SIDE * SIDE * 32 * (double)rounds;
}

/* Sums of four uniform numbers are near enough to gaussian ones. */
static void fill_gaussian(uint16_t *values, int n)
{
    uint32_t state = 1;
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int j = 0; j < 4; j++) {
            state = state * 1664525u + 1013904223u;
            sum += (float)(state >> 8) / (float)(1 << 24) - 0.5f;
        }
        values[i] = bf16_round(sum);
    }
}

static double spin_gaussian(int64_t rounds)
{
    uint16_t values[4 * TILE] __attribute__((aligned(64)));
    fill_gaussian(values, 4 * TILE);
    begin();
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
    keep();
    return 2.0 * SIDE * SIDE * 32 * (double)rounds;
}

void peak_fill_amx(struct kernels *k)
{
    k->peak.amx_nominal = spin_nominal;
    k->peak.amx_gaussian = spin_gaussian;
}
#endif
