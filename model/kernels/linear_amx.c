/*
 * Products on matrices in blocks, bf16, in the AMX tile unit.
 *
 * A product takes its rows in groups whose part of A stays in the second-level cache, and for
 * each group the panels of B one after the other; the first half kilobyte of columns of a panel
 * stays in the first-level cache meanwhile (STAY). Deep products are cut into chunks of k with the
 * sums of the group in scratch memory in between. The unit adds in order of k and rounds sums to
 * fp32 after each pair of k, whether it keeps them or not: no cut shows in the bits.
 */
#if defined(__x86_64__)
#include "model/kernels/finish_amx.h"

enum {
    CHUNK = 48,               /* blocks of k */
    GROUP_BYTES = 768 * 1024, /* of A */
    NEXT_COLS = 3,            /* the last columns of a part, while the next one's A is fetched */
    SUMS_BLOCKS = 256         /* of a group, in scratch memory */
};

/* A part of a product: blocks [i0, i1) x [j0, j1) of C, [k0, k1) of k. */
struct part {
    int64_t i0, i1, j0, j1, k0, k1;
    int64_t next_i, next_j, next_k; /* where the next part begins; next_i -1 = there is none */
};

static int64_t at_least(int64_t x, int64_t limit)
{
    return x > limit ? x : limit;
}

/* Fetches, of `steps` blocks in a row, share number `share` of `shares`. */
static struct fetch fetch_share(const uint16_t *blocks, int64_t steps, int64_t shares,
                                int64_t share)
{
    const int64_t lines = divide_up(BLOCK, shares);
    if (share < 0 || share * lines >= BLOCK)
        return (struct fetch){NULL, 0};
    return (struct fetch){(const char *)blocks + share * steps * lines * 64, (int)lines};
}

/* Where the target of a row of block (i, j) is one of its columns. */
static void pick_targets(const struct product *p, const float *sums, int64_t i, int64_t j)
{
    const uint32_t *targets = p->targets + i * BLOCK;
    for (int half = 0; half < BLOCK; half += 16) {
        const __m512i t = _mm512_loadu_si512(targets + half);
        unsigned here = _mm512_cmpeq_epi32_mask(_mm512_srli_epi32(t, 5), _mm512_set1_epi32((int)j));
        for (; here; here &= here - 1) {
            const int row = half + __builtin_ctz(here);
            if (targets[row] < p->V)
                p->stats.at_target[i * BLOCK + row] = sums[row * BLOCK + targets[row] % BLOCK];
        }
    }
}

static __mmask16 first_lanes(int64_t n)
{
    return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

/* The block (i, j) of C, whose sums are complete; `gate` are those of block j - 1. */
INLINE struct finish finish_begin(const enum product_epilogue e, const struct product *p, int64_t i,
                                  int64_t j, const float *sums, const float *gate)
{
    const int64_t width = p->N / BLOCK, at = (i * width + j) * BLOCK_AREA;
    struct finish f = {.sums = sums};
    if (e == PRODUCT_SWIGLU) {
        f.sums = gate;
        f.up = sums;
        f.c = p->c ? (uint16_t *)p->c + at - BLOCK_AREA : NULL;
        f.y = (uint16_t *)p->y + (i * (width / 2) + j / 2) * BLOCK_AREA;
    } else if (e == PRODUCT_SWIGLU_BACKWARD) {
        f.c = (uint16_t *)p->c + 2 * at;
        f.gu = (const uint16_t *)p->gu + 2 * at;
        f.y = p->y ? (uint16_t *)p->y + at : NULL;
    } else {
        f.c = p->c ? (uint16_t *)p->c + at : NULL;
    }
    if (e == PRODUCT_SOFTMAX) {
        f.max = p->stats.max + j * p->n + i * BLOCK;
        f.sum = p->stats.sum + j * p->n + i * BLOCK;
        f.exists[0] = first_lanes(p->V - j * BLOCK);
        f.exists[1] = first_lanes(p->V - j * BLOCK - 16);
        pick_targets(p, sums, i, j);
    }
    return f;
}

/* Sums of block (i, j) of a part. They are kept for the whole group where k is cut, otherwise
 * until the block is finished, which with SWIGLU is when `up` is there too. */
INLINE float *sums_at(const enum product_epilogue e, const struct product *p,
                      const struct part *group, float *scratch, int64_t i, int64_t j)
{
    const int64_t rows = group->i1 - group->i0, depth = p->K / BLOCK;
    if (e == PRODUCT_ADD)
        return (float *)p->c + (i * (p->N / BLOCK) + j) * BLOCK_AREA;
    if (group->k1 - group->k0 < depth)
        return scratch + ((j - group->j0) * rows + i - group->i0) * BLOCK_AREA;
    if (e == PRODUCT_SWIGLU && j % 2 == 0)
        return scratch + (1 + i - group->i0) * BLOCK_AREA;
    return scratch;
}

/* The block that was multiplied last, while the next one is. */
struct pending {
    struct finish block;
    struct work work;
};

/* Where one operand's block for (row or column) `at` and k lies. */
static const uint16_t *operand(const struct product *p, const void *blocks, int64_t at, int64_t k)
{
    return (const uint16_t *)blocks + (at * (p->K / BLOCK) + k) * BLOCK_AREA;
}

/* What to fetch while block (i, j) of a part is multiplied: the next panel, and during the last
 * columns the rows of A that the next part begins with. */
static void fetch_ahead(const struct product *p, const struct part *t, int64_t i, int64_t j,
                        struct block_product *q)
{
    const int64_t rows = t->i1 - t->i0, row = i - t->i0;
    if (j + 1 < t->j1)
        q->panel = fetch_share(operand(p, p->b, j + 1, t->k0), q->steps, rows, row);
    else if (t->next_i >= 0)
        q->panel = fetch_share(operand(p, p->b, t->next_j, t->next_k), q->steps, rows, row);
    const int64_t cols = at_most(t->j1 - t->j0, NEXT_COLS);
    if (t->next_i >= 0 && (t->next_i != t->i0 || t->next_k != t->k0))
        q->next = fetch_share(operand(p, p->a, t->next_i + row, t->next_k), q->steps, cols,
                              j - (t->j1 - cols));
}

/* One chunk of k of a group; `pending` is the block still to be finished, also afterwards. */
INLINE void multiply_part(const enum product_epilogue e, const struct product *p,
                          const struct part *t, float *scratch, struct pending *pending)
{
    const int64_t depth = p->K / BLOCK, steps = t->k1 - t->k0;
    for (int64_t j = t->j0; j < t->j1; j++)
        for (int64_t i = t->i0; i < t->i1; i++) {
            float *sums = sums_at(e, p, t, scratch, i, j);
            struct block_product q = {.a = operand(p, p->a, i, t->k0),
                                      .b = operand(p, p->b, j, t->k0),
                                      .steps = steps,
                                      .from = e == PRODUCT_ADD || t->k0 > 0 ? sums : NULL,
                                      .to = sums};
            fetch_ahead(p, t, i, j, &q);
            if (e == PRODUCT_ADD && i + 1 < t->i1)
                q.sums = fetch_block(sums_at(e, p, t, scratch, i + 1, j), steps);
            if (e == PRODUCT_SWIGLU_BACKWARD) /* gate and up of this block, 4 KB likewise */
                q.sums = fetch_block(
                    (const uint16_t *)p->gu + 2 * (i * (p->N / BLOCK) + j) * BLOCK_AREA, steps);
            multiply_block(finishers[e].unit, &q, &pending->work);
            if (e != PRODUCT_ADD && t->k1 == depth && (e != PRODUCT_SWIGLU || j % 2 == 1)) {
                pending->block = finish_begin(e, p, i, j, sums,
                                              sums_at(e, p, t, scratch, i, j - 1));
                pending->work = (struct work){&pending->block, finishers[e].units, 0};
            }
        }
}

/* Parts follow each other by k, then columns, then rows, then to the caller's next task. */
static void set_next(const struct product *p, const struct part *all, struct part *t)
{
    t->next_i = t->i0;
    t->next_j = t->j0;
    t->next_k = 0;
    if (t->k1 < p->K / BLOCK) {
        t->next_k = t->k1;
    } else if (t->j1 < all->j1) {
        t->next_j = t->j1;
    } else if (t->i1 < all->i1) {
        t->next_i = t->i1;
        t->next_j = all->j0;
    } else {
        t->next_i = p->next_i;
        t->next_j = p->next_j;
    }
}

INLINE void product_as(const enum product_epilogue e, const struct product *p,
                       const struct part *all, float *scratch)
{
    const int64_t depth = p->K / BLOCK, chunk = even_part(depth, CHUNK);
    const int64_t block_bytes = BLOCK_AREA * 2;
    const int64_t rows = even_part(
        all->i1 - all->i0,
        at_most(at_least(GROUP_BYTES / (chunk * block_bytes), 1), SUMS_BLOCKS / 2));
    const int64_t cols = chunk < depth ? at_least(SUMS_BLOCKS / rows / 2 * 2, 2)
                                       : all->j1 - all->j0;
    struct pending pending = {.work.units = 0};
    for (int64_t i = all->i0; i < all->i1; i += rows)
        for (int64_t j = all->j0; j < all->j1; j += cols)
            for (int64_t k = 0; k < depth; k += chunk) {
                struct part t = {.i0 = i,
                                 .i1 = at_most(i + rows, all->i1),
                                 .j0 = j,
                                 .j1 = at_most(j + cols, all->j1),
                                 .k0 = k,
                                 .k1 = at_most(k + chunk, depth)};
                set_next(p, all, &t);
                multiply_part(e, p, &t, scratch, &pending);
            }
    work_finish(finishers[e].unit, &pending.work);
}

static void product(const struct product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                    void *scratch)
{
    const struct part all = {.i0 = i0, .i1 = i1, .j0 = j0, .j1 = j1};
    _tile_loadconfig(&tiles);
    switch (p->epilogue) {
    case PRODUCT_STORE:
        product_as(PRODUCT_STORE, p, &all, scratch);
        break;
    case PRODUCT_ADD:
        product_as(PRODUCT_ADD, p, &all, scratch);
        break;
    case PRODUCT_SWIGLU:
        product_as(PRODUCT_SWIGLU, p, &all, scratch);
        break;
    case PRODUCT_SWIGLU_BACKWARD:
        product_as(PRODUCT_SWIGLU_BACKWARD, p, &all, scratch);
        break;
    case PRODUCT_SOFTMAX:
        product_as(PRODUCT_SOFTMAX, p, &all, scratch);
        break;
    }
    _mm_sfence(); /* epilogues store past the caches */
    _tile_release();
}

void linear_fill_amx(struct kernels *k)
{
    const size_t sums = (SUMS_BLOCKS + 1) * BLOCK_AREA * sizeof(float);
    k->linear[KERNEL_BF16] = (struct linear_engine){
        .product = product,
        .gradient = gradient_amx,
        .gradient_rows = GRADIENT_ROWS,
        .scratch_bytes = sums > gradient_amx_scratch ? sums : gradient_amx_scratch,
    };
}
#endif
