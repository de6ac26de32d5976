/*
 * One block handed out from front to back: the activations of a workspace, the
 * cache of a generator. Private to model/.
 *
 * The owner's placing function runs twice, first without a base to count the
 * bytes, then with one, so both always agree.
 */
#ifndef MODEL_ARENA_H
#define MODEL_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena {
    char *base;    /* NULL: only count */
    uint64_t used; /* bytes */
};

#define ARENA_ALIGN 64 /* a cache line, an AVX-512 register */

static inline void *arena_take(struct arena *a, uint64_t count, size_t size)
{
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (count * size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return p;
}

static inline float *arena_floats(struct arena *a, int64_t rows, int64_t cols)
{
    return arena_take(a, (uint64_t)rows * (uint64_t)cols, sizeof(float));
}

#endif
