/*
 * Owns masters, moments and gradients of a training run, and where each of them lies. The
 * arithmetic is a kernel (model/kernels/update.h), as is that of the flat AdamW below.
 */
#include "train/optimizer.h"

#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "model/layers.h"
#include "train/muon.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Scratch memory of a matrix of Muon's up to which it is one thread's work, floats: below it the
 * threads' waiting for each other takes longer than the products. */
#define MUON_SMALL ((size_t)1 << 20)

/* --- what is kept, and where ------------------------------------------------------- */

enum region { REGION_EMBEDDING, REGION_LAYERS, REGION_HEAD, REGION_NORMS, REGION_COUNT };

static enum masters masters_of(const struct optimizer_options *o, enum region region)
{
    return region == REGION_NORMS ? MASTERS_FP32 : o->masters;
}

static bool is_muon(const struct optimizer_options *o, enum region region)
{
    return o->name == OPTIMIZER_MUON && region == REGION_LAYERS;
}

static enum moments moments_of(const struct optimizer_options *o, enum region region)
{
    if (region == REGION_NORMS)
        return MOMENTS_FP32;
    bool whole = region == REGION_EMBEDDING || is_muon(o, region);
    return whole && o->moments == MOMENTS_INT8 ? MOMENTS_BF16 : o->moments;
}

/* Bytes of one moment of a value. */
static size_t moment_bytes(enum moments m)
{
    return m == MOMENTS_FP32 ? 4 : m == MOMENTS_BF16 ? 2 : 1;
}

/* Bytes of the moments of a region. */
struct moments_bytes {
    size_t mean, square, scales;
};

static struct moments_bytes moments_bytes(const struct optimizer_options *o, enum region region,
                                          size_t values)
{
    enum moments m = moments_of(o, region);
    size_t one = values * moment_bytes(m);
    return (struct moments_bytes){
        .mean = one,
        .square = is_muon(o, region) ? 0 : one,
        .scales = m == MOMENTS_INT8 ? values / BLOCK_AREA * 2 * sizeof(float) : 0,
    };
}

static size_t head_tensor(const struct model_config *c)
{
    return 2 + LAYER_TENSOR_COUNT * (size_t)c->num_hidden_layers;
}

static void region_sizes(const struct model_config *c, size_t values[REGION_COUNT])
{
    size_t layers = weights_place(c, 1 + LAYER_Q).offset;
    size_t head = weights_place(c, head_tensor(c)).offset;
    size_t norms = weights_place(c, 1 + LAYER_NORM_ATTN).offset;
    values[REGION_EMBEDDING] = layers;
    values[REGION_LAYERS] = head - layers;
    values[REGION_HEAD] = norms - head;
    values[REGION_NORMS] = weights_size(c) - norms;
}

/* Muon's matrices are all tensors of a layer but its norms. */
static bool is_matrix(const struct model_config *c, size_t tensor)
{
    return tensor >= 1 && tensor <= LAYER_TENSOR_COUNT * (size_t)c->num_hidden_layers &&
           (tensor - 1) % LAYER_TENSOR_COUNT < LAYER_NORM_ATTN;
}

static enum region region_of(const struct model_config *c, size_t tensor)
{
    if (is_matrix(c, tensor))
        return REGION_LAYERS;
    if (tensor == 0)
        return REGION_EMBEDDING;
    return tensor == head_tensor(c) ? REGION_HEAD : REGION_NORMS;
}

static bool keeps(const struct optimizer_options *o, enum optimizer_part part, enum region region)
{
    return part != OPTIMIZER_SQUARE || !is_muon(o, region);
}

static bool in_bf16(const struct optimizer_options *o, enum optimizer_part part, enum region region)
{
    return part != OPTIMIZER_MASTER && moments_of(o, region) == MOMENTS_BF16;
}

uint64_t optimizer_saved_bytes(const struct model_config *c, const struct optimizer_options *o)
{
    const size_t qk_norms = c->qk_norm ? 2 * (size_t)c->num_hidden_layers : 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < head_tensor(c) + 1 + qk_norms; i++) {
        const struct weights_place place = weights_place(c, i);
        const enum region region = region_of(c, i);
        for (int part = OPTIMIZER_MASTER; part <= OPTIMIZER_SQUARE; part++)
            if (keeps(o, (enum optimizer_part)part, region))
                sum += (uint64_t)(place.rows * place.cols) *
                       (in_bf16(o, (enum optimizer_part)part, region) ? 2 : 4);
    }
    return sum;
}

static size_t scratch_floats(const struct model_config *c)
{
    size_t most = 0;
    for (size_t i = 1; is_matrix(c, i); i++) { /* of the first layer */
        struct weights_place place = weights_place(c, i);
        size_t need = muon_scratch(place.rows, place.cols);
        most = need > most ? need : most;
    }
    return most;
}

/* Threads that take a matrix each. */
static int muon_workers(const struct model_config *c)
{
    return scratch_floats(c) <= MUON_SMALL ? threads_count() : 1;
}

struct optimizer_bytes optimizer_bytes(const struct model_config *c,
                                       const struct optimizer_options *options)
{
    struct optimizer_bytes sum = {.grads = weights_size(c) * sizeof(float)};
    size_t values[REGION_COUNT];
    region_sizes(c, values);
    for (int r = 0; r < REGION_COUNT; r++) {
        struct moments_bytes m = moments_bytes(options, (enum region)r, values[r]);
        bool packed = r == REGION_LAYERS || r == REGION_HEAD;
        bool split = packed && options->masters == MASTERS_SPLIT;
        sum.masters += values[r] * (split ? sizeof(int16_t) : sizeof(float));
        sum.moments += m.mean + m.square + m.scales;
    }
    if (options->name == OPTIMIZER_MUON)
        sum.scratch = (size_t)muon_workers(c) * scratch_floats(c) * sizeof(float);
    return sum;
}

/* Takes memory from the front of a reservation. Regions are multiples of 1,024 values, so all
 * but the scales, which are last, begin at multiples of a cache line. */
static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += bytes;
    return p;
}

/* What is taken from: each array runs through all of block order before the next begins. */
struct supply {
    char *masters, *means, *squares, *scales;
};

static struct update *add_update(struct optimizer *o, enum region region, size_t offset,
                                 size_t values, const struct weight *weight, struct supply *from)
{
    struct update *u = &o->updates[o->count++];
    *u = (struct update){
        .first = offset / BLOCK_AREA,
        .count = (int64_t)(values / BLOCK_AREA),
        .masters = masters_of(&o->options, region),
        .moments = moments_of(&o->options, region),
        .precision = o->weights->precision,
        .weight = weight,
        .grads = o->grads + offset,
    };
    if (u->masters == MASTERS_FP32)
        u->master = take(&from->masters, values * sizeof(float));
    else if (!weight)
        u->upper = take(&from->masters, values * sizeof(uint16_t));
    if (u->masters == MASTERS_SPLIT)
        u->lower = take(&from->masters, values * sizeof(int16_t));
    struct moments_bytes bytes = moments_bytes(&o->options, region, values);
    u->mean = take(&from->means, bytes.mean);
    u->square = bytes.square ? take(&from->squares, bytes.square) : NULL;
    u->scales = bytes.scales ? (void *)take(&from->scales, bytes.scales) : NULL;
    return u;
}

/* Where each kind of array begins. */
static struct supply supply_of(const struct optimizer *o)
{
    size_t values[REGION_COUNT], means = 0, squares = 0;
    region_sizes(&o->weights->config, values);
    for (int r = 0; r < REGION_COUNT; r++) {
        struct moments_bytes bytes = moments_bytes(&o->options, (enum region)r, values[r]);
        means += bytes.mean;
        squares += bytes.square;
    }
    char *moments = o->moments;
    return (struct supply){.masters = o->masters,
                           .means = moments,
                           .squares = moments + means,
                           .scales = moments + means + squares};
}

static void add_updates(struct optimizer *o)
{
    struct weights *w = o->weights;
    struct supply from = supply_of(o);
    o->updates = mem_zalloc((size_t)w->count + 2, sizeof(*o->updates));
    struct update *u = add_update(o, REGION_EMBEDDING, 0, w->offsets[0], NULL, &from);
    w->embedding = (struct embedding){.fp32 = u->master, .upper = u->upper, .lower = u->lower};
    for (int64_t i = 0; i < w->count; i++) {
        const struct weight *W = &w->list[i];
        MW_ASSERT(W->backward);
        add_update(o, i + 1 < w->count ? REGION_LAYERS : REGION_HEAD, w->offsets[i],
                   (size_t)(W->out * W->in), W, &from);
    }
    u = add_update(o, REGION_NORMS, w->norms_offset, w->size - w->norms_offset, NULL, &from);
    w->norms = u->master;
    MW_ASSERT(from.masters == (char *)o->masters + o->bytes.masters);
    MW_ASSERT(from.scales == (char *)o->moments + o->bytes.moments);
}

int optimizer_init(struct optimizer *o, struct weights *w, const struct optimizer_options *options,
                   struct err *e)
{
    const struct optimizer_bytes bytes = optimizer_bytes(&w->config, options);
    *o = (struct optimizer){.options = *options, .weights = w, .bytes = bytes};
    o->workers = muon_workers(&w->config);
    if (options->masters == MASTERS_SPLIT && w->precision != KERNEL_BF16)
        return err_set(e, "masters can be split only if weights are bf16");
    o->masters = mem_map(bytes.masters, "master weights", e);
    o->moments = o->masters ? mem_map(bytes.moments, "moments", e) : NULL;
    o->grads = o->moments ? mem_map(bytes.grads, "gradients", e) : NULL;
    o->scratch = o->grads ? mem_map(bytes.scratch, "scratch memory of the optimiser", e) : NULL;
    if (!o->scratch) {
        optimizer_release(o);
        return -1;
    }
    add_updates(o);
    return 0;
}

void optimizer_release(struct optimizer *o)
{
    mem_unmap(o->masters, o->bytes.masters);
    mem_unmap(o->moments, o->bytes.moments);
    mem_unmap(o->grads, o->bytes.grads);
    mem_unmap(o->scratch, o->bytes.scratch);
    free(o->updates);
    *o = (struct optimizer){0};
}

/* --- steps ------------------------------------------------------------------------- */

void optimizer_clear(struct optimizer *o)
{
    const int64_t blocks = (int64_t)(o->weights->size / BLOCK_AREA);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++)
        memset(o->grads + b * BLOCK_AREA, 0, BLOCK_AREA * sizeof(float));
}

double optimizer_norm(const struct optimizer *o)
{
    return grad_norm(o->grads, o->weights->size);
}

static struct adamw_constants constants(double beta1, double beta2, double eps, double weight_decay,
                                        uint64_t t, double lr, double grad_scale)
{
    MW_ASSERT(t > 0);
    return (struct adamw_constants){
        .lr = (float)lr,
        .beta1 = (float)beta1,
        .beta2 = (float)beta2,
        .eps = (float)eps,
        .weight_decay = (float)weight_decay,
        .c1 = (float)(1.0 - pow(beta1, (double)t)),
        .c2 = (float)(1.0 - pow(beta2, (double)t)),
        .grad_scale = (float)grad_scale,
    };
}

/* Rows of a tensor between block order and the scratch memory, scaled on the way back. */
static void gather(struct optimizer *o, const struct weights_place *place, float *rows)
{
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < place->rows; row += BLOCK)
        weights_get(place, o->grads, row, place->rows - row < BLOCK ? place->rows - row : BLOCK,
                    rows + row * place->cols);
}

static void scatter(struct optimizer *o, const struct weights_place *place, float *rows,
                    float scale)
{
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < place->rows; row += BLOCK) {
        int64_t count = place->rows - row < BLOCK ? place->rows - row : BLOCK;
        float *at = rows + row * place->cols;
        for (int64_t i = 0; i < count * place->cols; i++)
            at[i] *= scale;
        weights_put(place, o->grads, row, count, at);
    }
}

/* One matrix: its momentum, where gradients are, becomes the step. */
static void muon_tensor(struct optimizer *o, size_t tensor, float *scratch)
{
    struct weights_place place = weights_place(&o->weights->config, tensor);
    double longer = (double)(place.rows > place.cols ? place.rows : place.cols);
    gather(o, &place, scratch);
    scatter(o, &place, muon_direction(scratch, place.rows, place.cols),
            (float)(0.2 * sqrt(longer)));
}

/* Small matrices are one thread's each, large ones all threads' one after the other: the same
 * bits. */
static void muon_step(struct optimizer *o, const struct update_rule *adamw)
{
    const struct model_config *c = &o->weights->config;
    const struct update *layers = o->updates + 1;
    const int64_t count = o->weights->count - 1;
    const int64_t tensors = LAYER_TENSOR_COUNT * c->num_hidden_layers;
    const size_t room = scratch_floats(c);
    const int workers = o->workers < threads_count() ? o->workers : threads_count();
    struct update_rule rule = *adamw;
    rule.adamw.beta1 = (float)o->options.momentum;
    update_momentum(layers, count, &rule);
    if (workers == 1) {
        for (int64_t i = 1; i <= tensors; i++)
            if (is_matrix(c, (size_t)i))
                muon_tensor(o, (size_t)i, o->scratch);
    } else {
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
        for (int64_t i = 1; i <= tensors; i++)
            if (is_matrix(c, (size_t)i))
                muon_tensor(o, (size_t)i, o->scratch + (size_t)omp_get_thread_num() * room);
    }
    update_apply(layers, count, &rule);
}

void optimizer_step(struct optimizer *o, uint64_t t, double lr, double grad_scale)
{
    const struct optimizer_options *s = &o->options;
    const struct update_rule rule = {
        .adamw = constants(s->beta1, s->beta2, s->eps, s->weight_decay, t, lr, grad_scale),
        .noise = rng_mix(s->seed, t),
    };
    if (s->name == OPTIMIZER_ADAMW) {
        update_adamw(o->updates, o->count, &rule);
        return;
    }
    update_adamw(o->updates, 1, &rule);                /* embedding */
    update_adamw(o->updates + o->count - 2, 2, &rule); /* head and norms */
    muon_step(o, &rule);
}

void optimizer_pack(struct optimizer *o)
{
    update_pack(o->updates, o->count);
}

/* --- values one by one ------------------------------------------------------------- */

/* A run of values of one row that follow each other in one block. */
struct run {
    int64_t block, at, n; /* of the update; first value in the block; values */
    int64_t col;          /* of the tensor */
};

/* The run at column col of a row; u holds the tensor. */
static struct run run_at(const struct weights_place *place, const struct update *u, int64_t row,
                         int64_t col)
{
    size_t value = place->offset - u->first * BLOCK_AREA;
    if (place->in_blocks)
        value += (size_t)(row / BLOCK * place->step + col / BLOCK * BLOCK_AREA +
                          row % BLOCK * BLOCK + col % BLOCK);
    else
        value += (size_t)(row * place->cols + col);
    struct run run = {(int64_t)(value / BLOCK_AREA), (int64_t)(value % BLOCK_AREA), 0, col};
    int64_t room = place->in_blocks ? BLOCK - col % BLOCK : BLOCK_AREA - run.at;
    run.n = place->cols - col < room ? place->cols - col : room;
    return run;
}

static const struct update *holder(const struct optimizer *o, const struct weights_place *place)
{
    const struct update *u = o->updates;
    while (place->offset >= (u->first + (uint64_t)u->count) * BLOCK_AREA)
        u++;
    return u;
}

/* The upper half of a split master: in the backward panels (K = out, N = in) or in an array. */
static uint16_t *upper_half(const struct update *u, int64_t block, int64_t at)
{
    const struct weight *W = u->weight;
    if (!W)
        return u->upper + block * BLOCK_AREA + at;
    int64_t row = block / (W->in / BLOCK) * BLOCK + at / BLOCK;
    int64_t col = block % (W->in / BLOCK) * BLOCK + at % BLOCK;
    return (uint16_t *)W->backward + panel_at_bf16(row, col, W->out);
}

/* How far behind the first upper half of a run number i of it lies. Runs of a weight begin in the
 * first column of a block. */
static int64_t upper_step(const struct update *u, int64_t i)
{
    return u->weight ? panel_at_bf16(0, i, BLOCK) : i;
}

static void get_master(const struct update *u, const struct run *r, float *out)
{
    const int64_t first = r->block * BLOCK_AREA + r->at;
    if (u->masters == MASTERS_FP32) {
        memcpy(out, u->master + first, (size_t)r->n * sizeof(float));
        return;
    }
    const uint16_t *upper = upper_half(u, r->block, r->at);
    for (int64_t i = 0; i < r->n; i++) {
        uint32_t bits = ((uint32_t)upper[upper_step(u, i)] << 16) +
                        (uint32_t)(int32_t)u->lower[first + i];
        memcpy(out + i, &bits, sizeof(bits));
    }
}

static void put_master(const struct update *u, const struct run *r, const float *in)
{
    const int64_t first = r->block * BLOCK_AREA + r->at;
    if (u->masters == MASTERS_FP32) {
        memcpy(u->master + first, in, (size_t)r->n * sizeof(float));
        return;
    }
    uint16_t *upper = upper_half(u, r->block, r->at);
    for (int64_t i = 0; i < r->n; i++) {
        uint32_t bits;
        memcpy(&bits, in + i, sizeof(bits));
        upper[upper_step(u, i)] = split_upper(bits);
        u->lower[first + i] = (int16_t)(uint16_t)bits;
    }
}

static void get_moment(const struct update *u, enum optimizer_part part, const struct run *r,
                       float *out)
{
    const bool square = part == OPTIMIZER_SQUARE;
    const void *values = square ? u->square : u->mean;
    const int64_t first = r->block * BLOCK_AREA + r->at;
    const float scale = u->moments == MOMENTS_INT8 ? u->scales[2 * r->block + square] : 0;
    for (int64_t i = 0; i < r->n; i++)
        switch (u->moments) {
        case MOMENTS_FP32:
            out[i] = ((const float *)values)[first + i];
            break;
        case MOMENTS_BF16:
            out[i] = bf16_value(((const uint16_t *)values)[first + i]);
            break;
        case MOMENTS_INT8:
            out[i] = square ? square_value(((const uint8_t *)values)[first + i], scale)
                            : mean_value(((const int8_t *)values)[first + i], scale);
        }
}

static void put_moment(const struct update *u, enum optimizer_part part, const struct run *r,
                       const float *in)
{
    const bool square = part == OPTIMIZER_SQUARE;
    void *values = square ? u->square : u->mean;
    const int64_t first = r->block * BLOCK_AREA + r->at;
    const float scale = u->moments == MOMENTS_INT8 ? u->scales[2 * r->block + square] : 0;
    for (int64_t i = 0; i < r->n; i++)
        switch (u->moments) {
        case MOMENTS_FP32:
            ((float *)values)[first + i] = in[i];
            break;
        case MOMENTS_BF16:
            ((uint16_t *)values)[first + i] = bf16_round(in[i]);
            break;
        case MOMENTS_INT8:
            if (square)
                ((uint8_t *)values)[first + i] = square_code(in[i], scale);
            else
                ((int8_t *)values)[first + i] = mean_code(in[i], scale);
        }
}

/* The scales of a row of blocks, from the rows of a tensor that are in it. */
static void put_scales(const struct update *u, enum optimizer_part part,
                       const struct weights_place *place, int64_t row, int64_t count,
                       const float *rows)
{
    for (int64_t col = 0; col < place->cols; col += BLOCK) {
        struct run run = run_at(place, u, row, col);
        float high = 0;
        for (int64_t r = 0; r < count; r++)
            for (int64_t i = 0; i < run.n; i++)
                high = fmaxf(high, fabsf(rows[r * place->cols + col + i]));
        u->scales[2 * run.block + (part == OPTIMIZER_SQUARE)] = high;
    }
}

bool optimizer_keeps(const struct optimizer *o, enum optimizer_part part, size_t tensor)
{
    return keeps(&o->options, part, region_of(&o->weights->config, tensor));
}

bool optimizer_in_bf16(const struct optimizer *o, enum optimizer_part part, size_t tensor)
{
    return in_bf16(&o->options, part, region_of(&o->weights->config, tensor));
}

void optimizer_get(const struct optimizer *o, enum optimizer_part part, size_t tensor, int64_t row,
                   int64_t count, float *rows)
{
    const struct weights_place place = weights_place(&o->weights->config, tensor);
    const struct update *u = holder(o, &place);
    MW_ASSERT(row >= 0 && count >= 0 && row + count <= place.rows);
    if (!optimizer_keeps(o, part, tensor)) {
        memset(rows, 0, (size_t)(count * place.cols) * sizeof(float));
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < count; r++)
        for (int64_t col = 0; col < place.cols;) {
            struct run run = run_at(&place, u, row + r, col);
            if (part == OPTIMIZER_MASTER)
                get_master(u, &run, rows + r * place.cols + col);
            else
                get_moment(u, part, &run, rows + r * place.cols + col);
            col += run.n;
        }
}

/* Up to 32 rows that share a row of blocks. */
static void put_rows(const struct update *u, enum optimizer_part part,
                     const struct weights_place *place, int64_t row, int64_t count,
                     const float *rows)
{
    if (part != OPTIMIZER_MASTER && u->moments == MOMENTS_INT8)
        put_scales(u, part, place, row, count, rows);
    for (int64_t r = 0; r < count; r++)
        for (int64_t col = 0; col < place->cols;) {
            struct run run = run_at(place, u, row + r, col);
            if (part == OPTIMIZER_MASTER)
                put_master(u, &run, rows + r * place->cols + col);
            else
                put_moment(u, part, &run, rows + r * place->cols + col);
            col += run.n;
        }
}

void optimizer_put(struct optimizer *o, enum optimizer_part part, size_t tensor, int64_t row,
                   int64_t count, const float *rows)
{
    const struct weights_place place = weights_place(&o->weights->config, tensor);
    const struct update *u = holder(o, &place);
    MW_ASSERT(row >= 0 && count >= 0 && row + count <= place.rows);
    MW_ASSERT(part == OPTIMIZER_MASTER || u->moments != MOMENTS_INT8 ||
              (row % BLOCK == 0 && (count % BLOCK == 0 || row + count == place.rows)));
    if (!optimizer_keeps(o, part, tensor))
        return;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < count; r += BLOCK)
        put_rows(u, part, &place, row + r, count - r < BLOCK ? count - r : BLOCK,
                 rows + r * place.cols);
}

/* --- flat arrays ------------------------------------------------------------------- */

/* Floats in a run: 64 KiB of gradients, so p, g, m and v of one run stay in L2. */
#define RUN ((size_t)1 << 14)
/* Runs whose sums are held at a time: a fixed array instead of one sized by the model. */
#define GROUP ((size_t)256)

static size_t run_size(size_t n, size_t at)
{
    return n - at < RUN ? n - at : RUN;
}

void adamw_step(const struct adamw *o, float *p, const float *g, float *m, float *v, size_t n,
                uint64_t t, double lr, double grad_scale)
{
    const struct adamw_constants k = constants(o->beta1, o->beta2, o->eps, o->weight_decay, t, lr,
                                               grad_scale);
    const int64_t runs = (int64_t)((n + RUN - 1) / RUN);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < runs; b++) {
        size_t at = (size_t)b * RUN;
        adamw_run(p + at, g + at, m + at, v + at, (int64_t)run_size(n, at), &k);
    }
}

double grad_norm(const float *g, size_t n)
{
    double part[GROUP];
    double sum = 0;
    for (size_t start = 0; start < n; start += GROUP * RUN) {
        size_t left = (n - start + RUN - 1) / RUN;
        int64_t runs = (int64_t)(left < GROUP ? left : GROUP);
#pragma omp parallel for schedule(static)
        for (int64_t b = 0; b < runs; b++) {
            size_t at = start + (size_t)b * RUN;
            part[b] = sum_squares(g + at, (int64_t)run_size(n, at));
        }
        for (int64_t b = 0; b < runs; b++)
            sum += part[b];
    }
    return sqrt(sum);
}
