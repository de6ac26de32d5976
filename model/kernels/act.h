/*
 * Values of activations, whose precision is known when the program runs: for bodies compiled once
 * per CPU level, which define LANES first.
 */
#ifndef MODEL_KERNELS_ACT_H
#define MODEL_KERNELS_ACT_H

#include "model/kernels/kernels.h"
#include "model/kernels/simd.h"

/* Calls a body with the precision as a constant. */
#define SPECIALISE(p, body, ...)                                                                   \
    do {                                                                                           \
        if ((p) == KERNEL_BF16)                                                                    \
            body(KERNEL_BF16, __VA_ARGS__);                                                        \
        else                                                                                       \
            body(KERNEL_FP32, __VA_ARGS__);                                                        \
    } while (0)

/* Activations: LANES values, or one, from value i on. */
INLINE vf act_load(enum kernel_precision p, const void *x, int64_t i)
{
    return p == KERNEL_BF16 ? vf_load_bf16((const uint16_t *)x + i) : vf_load((const float *)x + i);
}

INLINE void act_store(enum kernel_precision p, void *x, int64_t i, vf value)
{
    if (p == KERNEL_BF16)
        vf_store_bf16((uint16_t *)x + i, value);
    else
        vf_store((float *)x + i, value);
}

INLINE void act_store_pair(enum kernel_precision p, void *x, int64_t i, vf a, vf b)
{
    if (p == KERNEL_BF16) {
        vf_store_bf16_pair((uint16_t *)x + i, a, b);
        return;
    }
    vf_store((float *)x + i, a);
    vf_store((float *)x + i + LANES, b);
}

/* The same past the caches, for what is not read soon; x + i at a multiple of 64 bytes. */
INLINE void act_stream_pair(enum kernel_precision p, void *x, int64_t i, vf a, vf b)
{
    if (p == KERNEL_BF16) {
        vf_stream_bf16_pair((uint16_t *)x + i, a, b);
        return;
    }
    vf_stream((float *)x + i, a);
    vf_stream((float *)x + i + LANES, b);
}

INLINE float act_get(enum kernel_precision p, const void *x, int64_t i)
{
    return p == KERNEL_BF16 ? bf16_value(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

INLINE void act_set(enum kernel_precision p, void *x, int64_t i, float value)
{
    if (p == KERNEL_BF16)
        ((uint16_t *)x)[i] = bf16_round(value);
    else
        ((float *)x)[i] = value;
}

#endif
