/*
 * What the files for the AMX tile unit share: the shape of the tiles, bf16 pairs.
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

/* To start sums from: on some CPUs loading it is cheaper than TILEZERO. */
static const float zeros[16 * 16] __attribute__((aligned(64)));

/* Pairs (low[i], high[i]). */
INLINE __m512i pairs(vf low, vf high)
{
    const __m512i mix = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(mix, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}

#endif
