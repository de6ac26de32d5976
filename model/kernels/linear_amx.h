/*
 * The product of 32 x 32 blocks in the AMX tile unit, with other work between its steps.
 *
 * The unit takes 64 cycles for a step (four TDPBF16PS) and leaves the vector units idle
 * meanwhile: about 64 vector operations are free if they come a few at a time. So what becomes
 * of the sums of a block is cut into units of some rows, and these are spread over the steps of
 * the block that follows; likewise the rearranging of operands.
 */
#ifndef MODEL_KERNELS_LINEAR_AMX_H
#define MODEL_KERNELS_LINEAR_AMX_H

#include "model/kernels/amx.h"
#include "model/kernels/table.h"

/* gradient_amx.c, for tasks of at most GRADIENT_ROWS block rows. */
enum { GRADIENT_ROWS = 32 };
void gradient_amx(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                  void *scratch);
extern const size_t gradient_amx_scratch;

static inline int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

static inline int64_t divide_up(int64_t n, int64_t d)
{
    return (n + d - 1) / d;
}

/* Equal parts of a length, of at most `limit`. */
static inline int64_t even_part(int64_t length, int64_t limit)
{
    return divide_up(length, divide_up(length, limit));
}

/* A cursor over memory that will be needed, some lines a step. */
struct fetch {
    const char *at;
    int lines; /* a step; 0 = nothing */
};

/* Fetches a block of fp32 values, or two of bf16, during `steps` steps. */
static inline struct fetch fetch_block(const void *block, int64_t steps)
{
    return (struct fetch){block, (int)divide_up(BLOCK_AREA * 4 / 64, steps)};
}

struct block_product {
    const uint16_t *a, *b; /* blocks of A, of a panel, one for each step */
    int64_t steps;
    const float *from; /* sums to go on from, NULL = 0 */
    float *to;
    struct fetch panel; /* into the second-level cache */
    struct fetch next;  /* likewise: what the next part of the product begins with */
    struct fetch sums;  /* into the first, to be written */
};

/* The first steps' part of a panel stays in the first-level cache while the rows of A pass by:
 * these go through TILELOADDT1, which leaves that cache alone. */
enum { STAY = 16 };

#define LOAD_STAY(tile, p)   _tile_loadd(tile, p, 64)
#define LOAD_STREAM(tile, p) _tile_stream_loadd(tile, p, 64)

#define STEP(load_b, a, b)                                                                         \
    do {                                                                                           \
        LOAD_STREAM(4, a);                                                                         \
        load_b(6, b);                                                                              \
        _tile_dpbf16ps(0, 4, 6);                                                                   \
        load_b(7, (b) + TILE);                                                                     \
        _tile_dpbf16ps(1, 4, 7);                                                                   \
        LOAD_STREAM(5, (a) + TILE);                                                                \
        _tile_dpbf16ps(2, 5, 6);                                                                   \
        _tile_dpbf16ps(3, 5, 7);                                                                   \
    } while (0)

/* The last two steps, accumulator by accumulator, so that each is stored while the unit is still
 * busy with the others. */
INLINE void last_steps(const uint16_t *a, const uint16_t *b, float *to)
{
    const uint16_t *a2 = a + BLOCK_AREA, *b2 = b + BLOCK_AREA;
    LOAD_STREAM(4, a);
    LOAD_STREAM(6, b);
    _tile_dpbf16ps(0, 4, 6);
    LOAD_STREAM(5, a2);
    LOAD_STREAM(7, b2);
    _tile_dpbf16ps(0, 5, 7);
    _tile_stored(0, to, BLOCK * 4);
    LOAD_STREAM(6, b + TILE);
    _tile_dpbf16ps(1, 4, 6);
    LOAD_STREAM(7, b2 + TILE);
    _tile_dpbf16ps(1, 5, 7);
    _tile_stored(1, to + 16, BLOCK * 4);
    LOAD_STREAM(4, a + TILE);
    _tile_dpbf16ps(3, 4, 6);
    LOAD_STREAM(5, a2 + TILE);
    _tile_dpbf16ps(3, 5, 7);
    _tile_stored(3, to + 16 * BLOCK + 16, BLOCK * 4);
    LOAD_STREAM(6, b);
    _tile_dpbf16ps(2, 4, 6);
    LOAD_STREAM(7, b2);
    _tile_dpbf16ps(2, 5, 7);
    _tile_stored(2, to + 16 * BLOCK, BLOCK * 4);
}

INLINE void load_sums(const float *from)
{
    if (from) {
        _tile_loadd(0, from, BLOCK * 4);
        _tile_loadd(1, from + 16, BLOCK * 4);
        _tile_loadd(2, from + 16 * BLOCK, BLOCK * 4);
        _tile_loadd(3, from + 16 * BLOCK + 16, BLOCK * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
}

INLINE void store_sums(float *to)
{
    _tile_stored(0, to, BLOCK * 4);
    _tile_stored(1, to + 16, BLOCK * 4);
    _tile_stored(2, to + 16 * BLOCK, BLOCK * 4);
    _tile_stored(3, to + 16 * BLOCK + 16, BLOCK * 4);
}

/* What is to be done between the steps: `units` of them, `done` of these already. */
struct work {
    void *state;
    int units, done;
};

typedef void work_unit(void *state, int unit);

INLINE void work_finish(work_unit *const unit, struct work *w)
{
    while (w->done < w->units)
        unit(w->state, w->done++);
}

/* Of `span` steps each gets its share of the units. */
INLINE void between_steps(work_unit *const unit, struct block_product *q, struct work *w,
                          int *credit, int span)
{
    for (*credit += w->units; *credit >= span && w->done < w->units; *credit -= span)
        unit(w->state, w->done++);
    for (int i = 0; i < q->panel.lines; i++, q->panel.at += 64)
        _mm_prefetch(q->panel.at, _MM_HINT_T1);
    for (int i = 0; i < q->next.lines; i++, q->next.at += 64)
        _mm_prefetch(q->next.at, _MM_HINT_T1);
    for (int i = 0; i < q->sums.lines; i++, q->sums.at += 64)
        __builtin_prefetch(q->sums.at, 1);
}

/* to (32, 32) = from + A B; what is left of `w` is done meanwhile. */
INLINE void multiply_block(work_unit *const unit, struct block_product *q, struct work *w)
{
    const uint16_t *a = q->a, *b = q->b;
    const int64_t last = q->steps >= 2 ? q->steps - 2 : q->steps;
    const int64_t stay = at_most(last, STAY);
    int credit = 0;
    load_sums(q->from);
    int64_t k = 0;
    for (; k < stay; k++, a += BLOCK_AREA, b += BLOCK_AREA) {
        between_steps(unit, q, w, &credit, (int)last);
        STEP(LOAD_STAY, a, b);
    }
    for (; k < last; k++, a += BLOCK_AREA, b += BLOCK_AREA) {
        between_steps(unit, q, w, &credit, (int)last);
        STEP(LOAD_STREAM, a, b);
    }
    work_finish(unit, w);
    if (q->steps >= 2)
        last_steps(a, b, q->to);
    else
        store_sums(q->to);
}

#endif
