/*
 * The optimiser of a training run: against AdamW in double, every way to keep masters and
 * moments against the plain one, packed weights against the masters, and the promise that bits
 * depend on neither threads nor level.
 */
#include "tests/model/kernels_help.h"

#include "model/model.h"
#include "train/muon.h"
#include "train/optimizer.h"

#include <omp.h>

/* Odd everywhere: heads of 8 that fill no block, a vocabulary and widths that end in one. */
static const struct model_config odd = {.vocab_size = 77,
                                        .hidden_size = 72,
                                        .intermediate_size = 100,
                                        .num_hidden_layers = 2,
                                        .num_attention_heads = 9,
                                        .num_key_value_heads = 3,
                                        .max_position_embeddings = 64,
                                        .rope_theta = 10000,
                                        .rms_norm_eps = 1e-5};
static int setup(void **state)
{
    (void)state;
    use_threads(2);
    return 0;
}

enum { TENSORS = 3 + 9 * 2 };

static struct optimizer_options kept(enum masters masters, enum moments moments)
{
    return (struct optimizer_options){.masters = masters,
                                      .moments = moments,
                                      .beta1 = 0.9,
                                      .beta2 = 0.95,
                                      .eps = 1e-8,
                                      .weight_decay = 0.1,
                                      .seed = 5};
}

/* An optimiser with its weights. */
struct subject {
    struct weights w;
    struct optimizer o;
};

static struct weights_place place_of(size_t tensor)
{
    return weights_place(&odd, tensor);
}

static size_t values_of(size_t tensor)
{
    struct weights_place place = place_of(tensor);
    return (size_t)(place.rows * place.cols);
}

static size_t all_values(void)
{
    size_t n = 0;
    for (size_t i = 0; i < TENSORS; i++)
        n += values_of(i);
    return n;
}

static struct subject *subject_new(enum kernel_precision p, struct optimizer_options options)
{
    struct subject *s = mem_zalloc(1, sizeof(*s));
    struct err e;
    assert_works(weights_init(&s->w, &odd, p, true, &e), e);
    assert_works(optimizer_init(&s->o, &s->w, &options, &e), e);
    struct rng r;
    rng_init(&r, 11, 0);
    for (size_t i = 0; i < TENSORS; i++) {
        size_t n = values_of(i);
        float *rows = floats((int64_t)n);
        for (size_t j = 0; j < n; j++)
            rows[j] = (float)(rng_f64(&r) - 0.5);
        optimizer_put(&s->o, OPTIMIZER_MASTER, i, 0, place_of(i).rows, rows);
        free(rows);
    }
    optimizer_pack(&s->o);
    return s;
}

static void subject_free(struct subject *s)
{
    optimizer_release(&s->o);
    weights_release(&s->w);
    free(s);
}

/* Gradients of step t, the same for every subject; filling stays zero. */
static void draw_gradients(struct subject *s, uint64_t t)
{
    static const float sizes[] = {3, 0.3f, 0.03f};
    struct rng r;
    rng_init(&r, 12, t);
    optimizer_clear(&s->o);
    for (size_t i = 0; i < TENSORS; i++) {
        struct weights_place place = place_of(i);
        float *rows = floats((int64_t)values_of(i));
        for (size_t j = 0; j < values_of(i); j++)
            rows[j] = (float)(rng_f64(&r) - 0.5) * sizes[j % 3];
        weights_put(&place, s->o.grads, 0, place.rows, rows);
        free(rows);
    }
}

static void steps(struct subject *s, uint64_t from, uint64_t to)
{
    for (uint64_t t = from; t <= to; t++) {
        draw_gradients(s, t);
        optimizer_step(&s->o, t, 1e-2, 0.5);
    }
}

/* All tensors of a part, row by row, one after the other. */
static float *part_of(const struct subject *s, enum optimizer_part part)
{
    float *all = floats((int64_t)all_values()), *at = all;
    for (size_t i = 0; i < TENSORS; at += values_of(i), i++)
        optimizer_get(&s->o, part, i, 0, place_of(i).rows, at);
    return all;
}

static void assert_same_part(const struct subject *a, const struct subject *b,
                             enum optimizer_part part, const char *what)
{
    float *x = part_of(a, part), *y = part_of(b, part);
    assert_same_bits(x, y, (int64_t)all_values(), what);
    free(x);
    free(y);
}

static void assert_same_panels(const struct subject *a, const struct subject *b)
{
    assert_int_equal(a->w.bytes, b->w.bytes);
    assert_memory_equal(a->w.memory, b->w.memory, a->w.bytes);
}

static void assert_same(const struct subject *a, const struct subject *b, const char *what)
{
    assert_same_part(a, b, OPTIMIZER_MASTER, what);
    assert_same_part(a, b, OPTIMIZER_MEAN, what);
    assert_same_part(a, b, OPTIMIZER_SQUARE, what);
    assert_same_panels(a, b);
}

static const struct {
    enum kernel_precision precision;
    enum masters masters;
    enum moments moments;
} variants[] = {
    {KERNEL_FP32, MASTERS_FP32, MOMENTS_FP32},  {KERNEL_BF16, MASTERS_FP32, MOMENTS_FP32},
    {KERNEL_BF16, MASTERS_SPLIT, MOMENTS_FP32}, {KERNEL_BF16, MASTERS_FP32, MOMENTS_BF16},
    {KERNEL_BF16, MASTERS_SPLIT, MOMENTS_BF16}, {KERNEL_FP32, MASTERS_FP32, MOMENTS_INT8},
    {KERNEL_BF16, MASTERS_SPLIT, MOMENTS_INT8},
};
enum { VARIANTS = sizeof(variants) / sizeof(variants[0]) };

static struct subject *variant_new(int i)
{
    return subject_new(variants[i].precision, kept(variants[i].masters, variants[i].moments));
}

/* --- AdamW ------------------------------------------------------------------------- */

struct reference {
    double *p, *m, *v;
};

static struct reference reference_of(struct subject *s, uint64_t count)
{
    const size_t n = all_values();
    struct reference ref = {doubles((int64_t)n), doubles((int64_t)n), doubles((int64_t)n)};
    float *p = part_of(s, OPTIMIZER_MASTER), *g = floats((int64_t)n);
    for (size_t i = 0; i < n; i++)
        ref.p[i] = (double)p[i];
    for (uint64_t t = 1; t <= count; t++) {
        draw_gradients(s, t);
        float *at = g;
        for (size_t i = 0; i < TENSORS; at += values_of(i), i++) {
            struct weights_place place = place_of(i);
            weights_get(&place, s->o.grads, 0, place.rows, at);
        }
        for (size_t i = 0; i < n; i++) {
            double half = 0.5 * (double)g[i];
            ref.m[i] = 0.9 * ref.m[i] + 0.1 * half;
            ref.v[i] = 0.95 * ref.v[i] + 0.05 * half * half;
            double mean = ref.m[i] / (1 - pow(0.9, (double)t));
            double square = ref.v[i] / (1 - pow(0.95, (double)t));
            ref.p[i] -= 1e-2 * (0.1 * ref.p[i] + mean / (sqrt(square) + 1e-8));
        }
    }
    free(p);
    free(g);
    return ref;
}

static void reference_free(struct reference *ref)
{
    free(ref->p);
    free(ref->m);
    free(ref->v);
}

static void assert_part_near(const struct subject *s, enum optimizer_part part, const double *ref,
                             double bound, const char *what)
{
    float *x = part_of(s, part);
    assert_near(x, ref, (int64_t)all_values(), bound, what);
    free(x);
}

static void test_formula(void **state)
{
    (void)state;
    enum { STEPS = 6 };
    /* bf16 is off by up to 2^-7 of itself, a code by up to a gap, both less on average */
    static const double masters_off[] = {2e-6, 5e-4, 3e-2}, moments_off[] = {1e-6, 5e-3, 1e-2};
    use_threads(2);
    FOR_LEVELS(level)
    for (int i = 0; i < VARIANTS; i++) {
        const enum moments moments = variants[i].moments;
        struct subject *s = variant_new(i);
        struct reference ref = reference_of(s, STEPS);
        steps(s, 1, STEPS);
        assert_part_near(s, OPTIMIZER_MASTER, ref.p, masters_off[moments], "masters");
        assert_part_near(s, OPTIMIZER_MEAN, ref.m, moments_off[moments], "means");
        assert_part_near(s, OPTIMIZER_SQUARE, ref.v, moments_off[moments], "squares");
        reference_free(&ref);
        subject_free(s);
    }
}

/* Levels and threads change nothing at all. */
static void test_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        use_level(CPU_C);
        use_threads(1);
        struct subject *plain = variant_new(i);
        steps(plain, 1, 4);
        FOR_LEVELS(level)
        for (int threads = 1; threads <= 3; threads++) {
            use_threads(threads);
            struct subject *s = variant_new(i);
            steps(s, 1, 4);
            assert_same(s, plain, "levels and threads");
            subject_free(s);
        }
        subject_free(plain);
    }
    use_threads(2);
}

static void test_split(void **state)
{
    (void)state;
    FOR_LEVELS(level)
    for (int moments = MOMENTS_FP32; moments <= MOMENTS_INT8; moments++) {
        struct subject *whole = subject_new(KERNEL_BF16, kept(MASTERS_FP32, (enum moments)moments));
        struct subject *split = subject_new(KERNEL_BF16,
                                            kept(MASTERS_SPLIT, (enum moments)moments));
        assert_same(whole, split, "before");
        steps(whole, 1, 5);
        steps(split, 1, 5);
        assert_same(whole, split, "after");
        assert_true(split->o.bytes.masters < whole->o.bytes.masters);
        subject_free(whole);
        subject_free(split);
    }
}

/* --- packed forms ------------------------------------------------------------------ */

static float bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bf16_value(split_upper(bits));
}

static void check_panels(const struct weight *W, const float *blocks, enum kernel_precision p)
{
    for (int64_t row = 0; row < W->out; row++)
        for (int64_t col = 0; col < W->in; col++) {
            float x = blocks[block_at(row, col, W->in)], forward, backward;
            if (p == KERNEL_FP32) {
                forward = ((float *)W->forward)[panel_at_fp32(col, row, W->in)];
                backward = ((float *)W->backward)[panel_at_fp32(row, col, W->out)];
            } else {
                x = bf16_of(x);
                forward = bf16_value(((uint16_t *)W->forward)[panel_at_bf16(col, row, W->in)]);
                backward = bf16_value(((uint16_t *)W->backward)[panel_at_bf16(row, col, W->out)]);
            }
            if (x != forward || x != backward)
                fail_msg("(%d, %d) of (%d, %d) is %g, packed %g and %g", (int)row, (int)col,
                         (int)W->out, (int)W->in, (double)x, (double)forward, (double)backward);
        }
}

static void check_packed(const struct subject *s)
{
    float *blocks = mem_zalloc(s->w.size, sizeof(float));
    for (size_t i = 0; i < TENSORS; i++) {
        struct weights_place place = place_of(i);
        float *rows = floats((int64_t)values_of(i));
        optimizer_get(&s->o, OPTIMIZER_MASTER, i, 0, place.rows, rows);
        weights_put(&place, blocks, 0, place.rows, rows);
        free(rows);
    }
    for (int64_t i = 0; i < s->w.count; i++)
        check_panels(&s->w.list[i], blocks + s->w.offsets[i], s->w.precision);
    /* what the engine reads without panels */
    const struct embedding *table = &s->w.embedding;
    for (size_t i = 0; i < values_of(0); i++) {
        uint32_t bits;
        memcpy(&bits, &blocks[i], sizeof(bits));
        if (table->fp32)
            assert_true(table->fp32[i] == blocks[i]);
        else
            assert_int_equal(bits, ((uint32_t)table->upper[i] << 16) + (uint32_t)table->lower[i]);
    }
    assert_memory_equal(weights_norm(&s->w, 2), blocks + place_of(1 + 9 + 7).offset,
                        (size_t)odd.hidden_size * sizeof(float));
    free(blocks);
}

static void test_packed(void **state)
{
    (void)state;
    FOR_LEVELS(level)
    for (int i = 0; i < VARIANTS; i++) {
        struct subject *s = variant_new(i);
        check_packed(s);
        steps(s, 1, 2);
        check_packed(s);
        subject_free(s);
    }
}

/* --- moments kept in less ---------------------------------------------------------- */

/* A constant gradient: however moments are rounded, on average they must be what they were. */
static void test_unbiased(void **state)
{
    (void)state;
    enum { STEPS = 200 };
    for (int moments = MOMENTS_BF16; moments <= MOMENTS_INT8; moments++) {
        struct subject *s = subject_new(KERNEL_FP32, kept(MASTERS_FP32, (enum moments)moments));
        const size_t first = s->w.offsets[0], n = s->w.size / 4;
        for (size_t i = 0; i < n; i++) /* one value in each block is much larger */
            s->o.grads[first + i] = i % BLOCK_AREA ? 0.01f : 1.0f;
        for (uint64_t t = 1; t <= STEPS; t++)
            optimizer_step(&s->o, t, 1e-3, 1.0);
        double mean = 0, square = 0, count = 0;
        float row[72];
        for (int64_t r = 0; r < 72; r++) {
            optimizer_get(&s->o, OPTIMIZER_MEAN, 1, r, 1, row);
            for (int c = 0; c < 72; c++)
                mean += r % 32 || c % 32 ? (double)row[c] : 0;
            optimizer_get(&s->o, OPTIMIZER_SQUARE, 1, r, 1, row);
            for (int c = 0; c < 72; c++)
                square += r % 32 || c % 32 ? (double)row[c] : 0;
            for (int c = 0; c < 72; c++)
                count += r % 32 || c % 32;
        }
        mean /= count * 0.01, square /= count * 1e-4;
        if (fabs(mean - 1) > 4e-3 * (moments == MOMENTS_INT8 ? 4 : 1) ||
            fabs(square - 1) > 4e-3 * (moments == MOMENTS_INT8 ? 4 : 1))
            fail_msg("moments %d: mean %g, square %g of what they should be", moments, mean,
                     square);
        subject_free(s);
    }
}

/* --- state ------------------------------------------------------------------------- */

static void copy_part(const struct subject *from, struct subject *to, enum optimizer_part part)
{
    for (size_t i = 0; i < TENSORS; i++) {
        struct weights_place place = place_of(i);
        float *rows = floats(64 * place.cols);
        for (int64_t row = 0; row < place.rows; row += 64) {
            int64_t count = place.rows - row < 64 ? place.rows - row : 64;
            optimizer_get(&from->o, part, i, row, count, rows);
            optimizer_put(&to->o, part, i, row, count, rows);
        }
        free(rows);
    }
}

/* Saved, restored, and on: as if nothing had been. */
static void test_restore(void **state)
{
    (void)state;
    use_threads(2);
    for (int i = 0; i < VARIANTS; i++) {
        struct subject *a = variant_new(i), *b = variant_new(i);
        steps(b, 1, 2); /* has other values */
        steps(a, 1, 7);
        for (int part = OPTIMIZER_MASTER; part <= OPTIMIZER_SQUARE; part++)
            copy_part(a, b, (enum optimizer_part)part);
        optimizer_pack(&b->o);
        assert_same(a, b, "restored");
        steps(a, 8, 12);
        steps(b, 8, 12);
        assert_same(a, b, "after going on");
        subject_free(a);
        subject_free(b);
    }
}

static void test_bytes(void **state)
{
    (void)state;
    const struct model_config c = {.vocab_size = 32000,
                                   .hidden_size = 2048,
                                   .intermediate_size = 5632,
                                   .num_hidden_layers = 22,
                                   .num_attention_heads = 32,
                                   .num_key_value_heads = 4,
                                   .max_position_embeddings = 2048};
    const double n = (double)model_param_count(&c), table = 32000.0 * 2048;
    struct optimizer_options o = kept(MASTERS_SPLIT, MOMENTS_INT8);
    struct optimizer_bytes b = optimizer_bytes(&c, &o);
    assert_true(fabs((double)b.grads / (4 * n) - 1) < 1e-3);
    assert_true(fabs((double)b.masters / (2 * n + 2 * table) - 1) < 1e-3);
    assert_true(fabs((double)b.moments / (2 * n + 2 * table) - 1) < 5e-3);
    o = kept(MASTERS_FP32, MOMENTS_BF16);
    b = optimizer_bytes(&c, &o);
    assert_true(fabs((double)b.masters / (4 * n) - 1) < 1e-3);
    assert_true(fabs((double)b.moments / (4 * n) - 1) < 1e-3);
}

static void test_refused(void **state)
{
    (void)state;
    struct weights w;
    struct optimizer o;
    struct err e;
    const struct optimizer_options options = kept(MASTERS_SPLIT, MOMENTS_FP32);
    assert_works(weights_init(&w, &odd, KERNEL_FP32, true, &e), e);
    assert_fails(optimizer_init(&o, &w, &options, &e), e, "bf16");
    weights_release(&w);
}

static void test_norm_of_all(void **state)
{
    (void)state;
    use_threads(2);
    struct subject *s = variant_new(0);
    double sum = 0;
    draw_gradients(s, 1);
    for (size_t i = 0; i < s->w.size; i++)
        sum += (double)s->o.grads[i] * (double)s->o.grads[i];
    assert_true(fabs(optimizer_norm(&s->o) - sqrt(sum)) < 1e-9 * sqrt(sum));
    optimizer_clear(&s->o);
    assert_true(optimizer_norm(&s->o) == 0);
    subject_free(s);
}

/* --- Muon ------------------------------------------------------------------ */

/* x (rows, cols) ← five Newton-Schulz steps, in double. */
static void newton_schulz_reference(double *x, int64_t rows, int64_t cols)
{
    double *g = doubles(rows * rows), *f = doubles(rows * rows), *y = doubles(rows * cols);
    double norm = 0;
    for (int64_t i = 0; i < rows * cols; i++)
        norm += x[i] * x[i];
    for (int64_t i = 0; i < rows * cols; i++)
        x[i] /= sqrt(norm);
    for (int step = 0; step < 5; step++) {
        for (int64_t i = 0; i < rows * rows; i++) {
            g[i] = 0;
            for (int64_t k = 0; k < cols; k++)
                g[i] += x[i / rows * cols + k] * x[i % rows * cols + k];
        }
        for (int64_t i = 0; i < rows * rows; i++) {
            f[i] = -4.7750 * g[i];
            for (int64_t k = 0; k < rows; k++)
                f[i] += 2.0315 * g[i / rows * rows + k] * g[k * rows + i % rows];
        }
        for (int64_t i = 0; i < rows * cols; i++) {
            y[i] = 3.4445 * x[i];
            for (int64_t k = 0; k < rows; k++)
                y[i] += f[i / cols * rows + k] * x[k * cols + i % cols];
        }
        memcpy(x, y, (size_t)(rows * cols) * sizeof(double));
    }
    free(g);
    free(f);
    free(y);
}

static void check_direction(int64_t rows, int64_t cols)
{
    float *scratch = floats((int64_t)muon_scratch(rows, cols)), *g = gaussian(rows * cols, 3);
    double *ref = doubles(rows * cols), off = 0, all = 0;
    for (int64_t i = 0; i < rows * cols; i++)
        ref[i] = (double)g[i];
    newton_schulz_reference(ref, rows, cols);
    memcpy(scratch, g, (size_t)(rows * cols) * sizeof(float));
    const float *x = muon_direction(scratch, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        off += ((double)x[i] - ref[i]) * ((double)x[i] - ref[i]);
        all += ref[i] * ref[i];
    }
    if (!(sqrt(off / all) < 0.05)) /* operands are rounded to bf16, 2^-9, in 15 products */
        fail_msg("(%d, %d): off by %g", (int)rows, (int)cols, sqrt(off / all));
    /* singular values near 1: their squares add up to about the smaller side */
    double share = all / (double)(rows < cols ? rows : cols);
    assert_true(share > 0.5 && share < 1.4);
    memset(scratch, 0, (size_t)(rows * cols) * sizeof(float));
    x = muon_direction(scratch, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        assert_true(x[i] == 0);
    free(scratch);
    free(g);
    free(ref);
}

static void test_direction(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    {
        check_direction(40, 72);
        check_direction(72, 40);
        check_direction(33, 33);
    }
}

static struct subject *muon_new(enum masters masters, enum moments moments)
{
    struct optimizer_options options = kept(masters, moments);
    options.name = OPTIMIZER_MUON;
    options.momentum = 0.95;
    return subject_new(KERNEL_BF16, options);
}

/* One step of a matrix from rest: the gradient's direction, as large as the paper has it. */
static void check_muon_matrix(const struct subject *before, const struct subject *after, size_t i)
{
    const struct weights_place place = place_of(i);
    const int64_t n = place.rows * place.cols;
    float *scratch = floats((int64_t)muon_scratch(place.rows, place.cols));
    float *p = floats(n), *q = floats(n);
    double *want = doubles(n);
    optimizer_get(&before->o, OPTIMIZER_MASTER, i, 0, place.rows, p);
    optimizer_get(&after->o, OPTIMIZER_MASTER, i, 0, place.rows, q);
    weights_get(&place, before->o.grads, 0, place.rows, scratch);
    for (int64_t j = 0; j < n; j++) { /* to the bit: roundings to bf16 hang on it */
        float g = scratch[j] * 0.5f * (1.0f - 0.95f);
        scratch[j] = g * 0.95f + g;
    }
    const float *x = muon_direction(scratch, place.rows, place.cols);
    double longer = (double)(place.rows > place.cols ? place.rows : place.cols);
    for (int64_t j = 0; j < n; j++)
        want[j] = (double)p[j] - 1e-2 * (0.1 * (double)p[j] + 0.2 * sqrt(longer) * (double)x[j]);
    assert_near(q, want, n, 1e-6, "a matrix after a step of Muon");
    free(scratch);
    free(p);
    free(q);
    free(want);
}

static void test_muon(void **state)
{
    (void)state;
    use_threads(2);
    struct subject *before = muon_new(MASTERS_FP32, MOMENTS_FP32);
    struct subject *muon = muon_new(MASTERS_FP32, MOMENTS_FP32);
    struct subject *adamw = subject_new(KERNEL_BF16, kept(MASTERS_FP32, MOMENTS_FP32));
    draw_gradients(before, 1);
    steps(muon, 1, 1);
    steps(adamw, 1, 1);
    for (size_t i = 0; i < TENSORS; i++)
        if (!optimizer_keeps(&muon->o, OPTIMIZER_SQUARE, i)) {
            check_muon_matrix(before, muon, i);
        } else {
            float *x = floats((int64_t)values_of(i)), *y = floats((int64_t)values_of(i));
            optimizer_get(&muon->o, OPTIMIZER_MASTER, i, 0, place_of(i).rows, x);
            optimizer_get(&adamw->o, OPTIMIZER_MASTER, i, 0, place_of(i).rows, y);
            assert_same_bits(x, y, (int64_t)values_of(i), "what is left to AdamW");
            free(x);
            free(y);
        }
    check_packed(muon);
    assert_true(muon->o.bytes.moments < adamw->o.bytes.moments);
    subject_free(before);
    subject_free(muon);
    subject_free(adamw);
}

/* Threads, split masters and a restored state change no bit. */
static void test_muon_same_bits(void **state)
{
    (void)state;
    for (int moments = MOMENTS_FP32; moments <= MOMENTS_INT8; moments++) {
        use_threads(1);
        struct subject *plain = muon_new(MASTERS_FP32, (enum moments)moments);
        steps(plain, 1, 4);
        for (int threads = 2; threads <= 3; threads++) {
            use_threads(threads);
            struct subject *s = muon_new(MASTERS_SPLIT, (enum moments)moments);
            struct subject *restored = muon_new(MASTERS_SPLIT, (enum moments)moments);
            steps(s, 1, 2);
            for (int part = OPTIMIZER_MASTER; part <= OPTIMIZER_SQUARE; part++)
                copy_part(s, restored, (enum optimizer_part)part);
            optimizer_pack(&restored->o);
            steps(restored, 3, 4);
            assert_same(restored, plain, "Muon on threads, split, restored");
            subject_free(s);
            subject_free(restored);
        }
        subject_free(plain);
    }
    use_threads(2);
}

/* --- flat arrays ------------------------------------------------------------------- */

static const struct adamw paper = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

/* Made with torch 1.13.1: AdamW(lr=6e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1). */
static void test_torch(void **state)
{
    (void)state;
    enum { N = 6, STEPS = 5 };
    static const float g[STEPS][N] = {
        {0.1f, -0.2f, 0.3f, 1e-6f, -5.0f, 0.0f}, {-0.05f, 0.4f, 0.3f, 2e-6f, 5.0f, 0.0f},
        {0.2f, 0.1f, -0.6f, -1e-6f, 1.0f, 0.0f}, {0.0f, -0.1f, 0.05f, 1e-7f, -2.0f, 0.0f},
        {0.3f, 0.3f, 0.3f, 3e-6f, 0.5f, 0.0f},
    };
    static const float want[STEPS][N] = {
        {0.499369979f, -1.24932504f, 1.99927998f, -0.000594059413f, 0.00159994001f, -2.99981999f},
        {0.499178976f, -1.24946809f, 1.99855995f, -0.00116523006f, 0.00156826503f, -2.99963999f},
        {0.498759776f, -1.24964345f, 1.99848485f, -0.00141549832f, 0.00148934382f, -2.99945998f},
        {0.498406827f, -1.24969542f, 1.99837828f, -0.00163701817f, 0.00152263709f, -2.99927998f},
        {0.497962415f, -1.24988711f, 1.99814475f, -0.00199884409f, 0.001528266f, -2.99909997f},
    };
    float p[N] = {0.5f, -1.25f, 2.0f, 0.0f, 1e-3f, -3.0f}, m[N] = {0}, v[N] = {0};
    for (uint64_t t = 1; t <= STEPS; t++) {
        adamw_step(&paper, p, g[t - 1], m, v, N, t, 6e-4, 1.0);
        for (int i = 0; i < N; i++)
            if (fabs((double)p[i] - (double)want[t - 1][i]) >
                3e-7 * fabs((double)want[t - 1][i]) + 1e-9)
                fail_msg("step %d, parameter %d: %.9g, torch has %.9g", (int)t, i, (double)p[i],
                         (double)want[t - 1][i]);
    }
    /* 1 - beta in fp32 is off by up to 3e-7 of itself */
    assert_true(fabs((double)m[0] / 0.0491160005 - 1) < 5e-7);
    assert_true(fabs((double)v[4] / 2.33747649 - 1) < 5e-7);
}

/* A long run of parameters over many blocks, in double, clipped by half. */
static void test_flat_formula(void **state)
{
    (void)state;
    enum { N = 100003, STEPS = 3 };
    float *p = mem_alloc(4 * N), *g = mem_alloc(4 * N);
    float *m = mem_zalloc(N, 4), *v = mem_zalloc(N, 4);
    double *q = mem_zalloc(N, 8), *qm = mem_zalloc(N, 8), *qv = mem_zalloc(N, 8);
    struct rng r;
    rng_init(&r, 3, 0);
    for (int i = 0; i < N; i++)
        q[i] = p[i] = (float)rng_normal(&r);
    for (int t = 1; t <= STEPS; t++) {
        for (int i = 0; i < N; i++) {
            g[i] = (float)rng_normal(&r);
            double half = 0.5 * (double)g[i];
            qm[i] = 0.9 * qm[i] + 0.1 * half;
            qv[i] = 0.95 * qv[i] + 0.05 * half * half;
            double mean = qm[i] / (1 - pow(0.9, t)), square = qv[i] / (1 - pow(0.95, t));
            q[i] -= 1e-2 * (0.1 * q[i] + mean / (sqrt(square) + 1e-8));
        }
        adamw_step(&paper, p, g, m, v, N, (uint64_t)t, 1e-2, 0.5);
    }
    for (int i = 0; i < N; i++)
        if (fabs((double)p[i] - q[i]) > 2e-6 * (1 + fabs(q[i])))
            fail_msg("parameter %d: %.9g, expected %.9g", i, (double)p[i], q[i]);
    free(p), free(g), free(m), free(v), free(q), free(qm), free(qv);
}

static void test_norm(void **state)
{
    (void)state;
    enum { N = 5000001 }; /* more blocks than are summed at a time */
    float *g = mem_alloc(sizeof(float) * N);
    double sum = 0;
    struct rng r;
    rng_init(&r, 4, 0);
    for (int i = 0; i < N; i++) {
        g[i] = (float)(rng_f64(&r) - 0.5);
        sum += (double)g[i] * (double)g[i];
    }
    double one = grad_norm(g, N);
    assert_true(fabs(one - sqrt(sum)) < 1e-9 * one);
    for (int threads = 1; threads <= 5; threads++) {
        omp_set_num_threads(threads);
        double again = grad_norm(g, N);
        assert_memory_equal(&one, &again, sizeof(one));
    }
    omp_set_num_threads(2);
    assert_true(grad_norm(g, 0) == 0);
    g[N - 1] = NAN;
    assert_true(isnan(grad_norm(g, N)));
    g[N - 1] = INFINITY;
    assert_true(isinf(grad_norm(g, N)));
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),     cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_split),       cmocka_unit_test(test_packed),
        cmocka_unit_test(test_unbiased),    cmocka_unit_test(test_restore),
        cmocka_unit_test(test_bytes),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_norm_of_all), cmocka_unit_test(test_direction),
        cmocka_unit_test(test_muon),        cmocka_unit_test(test_muon_same_bits),
        cmocka_unit_test(test_torch),       cmocka_unit_test(test_flat_formula),
        cmocka_unit_test(test_norm),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
