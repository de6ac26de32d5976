/*
 * Norms, rotation, softmax and embedding on matrices in blocks: every level and precision
 * against the definition in double, on rows and columns that do and do not fill the blocks.
 */
#include "tests/model/kernels_help.h"

static const struct {
    int64_t n, C;
} shapes[] = {{32, 40}, {96, 40}, {96, 256}, {32, 768}, {96, 768}, {2048 + 32, 40}};
#define SHAPE_COUNT (sizeof(shapes) / sizeof(shapes[0]))

#define FOR_PRECISIONS(p) for (int p = KERNEL_FP32; p <= KERNEL_BF16; p++)
#define FREE_ALL(...)                                                                              \
    do {                                                                                           \
        void *all[] = {__VA_ARGS__};                                                               \
        for (size_t i_ = 0; i_ < sizeof(all) / sizeof(all[0]); i_++)                               \
            free(all[i_]);                                                                         \
    } while (0)

/* What rounding to an activation may add to 1e-6. */
static double bound(int p)
{
    return p == KERNEL_BF16 ? 1.0 / 256 : 2e-6;
}

/* At a multiple of 64 bytes, of which activations are one too: the end is exact. */
static void *act_alloc(int p, int64_t n)
{
    size_t bytes = (size_t)n * act_bytes((enum kernel_precision)p);
    void *x = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(x);
    return memset(x, 0x3f, bytes);
}

static double act_value(int p, const void *x, int64_t i)
{
    return p == KERNEL_BF16 ? (double)bf16_value(((const uint16_t *)x)[i])
                            : (double)((const float *)x)[i];
}

/* A gaussian activation (n, C), filled up with zeros. */
static void *act_gaussian(int p, int64_t n, int64_t C, uint64_t seed)
{
    float *x = gaussian(n * C, seed);
    uint16_t *half = act_alloc(p, n * block_up(C));
    float *full = (float *)(void *)half;
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < block_up(C); c++) {
            float value = c < C ? x[r * C + c] : 0;
            if (p == KERNEL_BF16)
                half[block_at(r, c, block_up(C))] = bf16_round(value);
            else
                full[block_at(r, c, block_up(C))] = value;
        }
    free(x);
    return half;
}

static float *fp32_gaussian(int64_t n, int64_t C, uint64_t seed)
{
    return act_gaussian(KERNEL_FP32, n, C, seed);
}

/* x (n, C) in blocks is y (n, C) in rows, within bound, and zero in the filling. */
static void assert_blocks(int p, const void *x, const double *y, int64_t n, int64_t C,
                          double within, const char *what)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < block_up(C); c++) {
            double value = act_value(p, x, block_at(r, c, block_up(C)));
            double right = c < C ? y[r * C + c] : 0;
            if (!(fabs(value - right) <= (c < C ? within * (1 + fabs(right)) : 0)))
                fail_msg("%s (%lld, %lld): value (%lld, %lld) is %.9g instead of %.9g at level %s",
                         what, (long long)n, (long long)C, (long long)r, (long long)c, value, right,
                         cpu_level_name(kernels_level()));
        }
}

static void assert_same_bytes(const void *x, const void *y, size_t bytes, const char *what)
{
    if (memcmp(x, y, bytes) != 0)
        fail_msg("%s: bits differ at level %s", what, cpu_level_name(kernels_level()));
}

/* --- norm --------------------------------------------------------------------------------- */

struct norm {
    int p;
    int64_t n, C;
    float *x, *w, *rstd, *dx, *dw;
    void *h, *saved, *dh, *dx_act;
};

static struct norm norm_make(int p, int64_t n, int64_t C)
{
    struct norm t = {.p = p, .n = n, .C = C};
    t.x = fp32_gaussian(n, C, 1);
    memset(t.x, 0, (size_t)BLOCK * sizeof(float)); /* part of a row, and … */
    for (int64_t c = 0; c < block_up(C); c++)
        t.x[block_at(n - 1, c, block_up(C))] = 0; /* … a whole one, as filling is */
    t.w = gaussian(C, 2);
    t.rstd = floats(n);
    t.dx = fp32_gaussian(n, C, 3);
    t.dw = gaussian(C, 4);
    t.h = act_alloc(p, n * block_up(C));
    t.saved = act_alloc(p, n * block_up(C));
    t.dh = act_gaussian(p, n, C, 5);
    t.dx_act = act_alloc(p, n * block_up(C));
    return t;
}

static void norm_free(struct norm *t)
{
    FREE_ALL(t->x, t->w, t->rstd, t->dx, t->dw, t->h, t->saved, t->dh, t->dx_act);
}

static void check_norm_forward(struct norm *t)
{
    int64_t width = block_up(t->C), values = t->n * width;
    enum kernel_precision p = (enum kernel_precision)t->p;
    double *h = doubles(t->n * t->C), *rstd = doubles(t->n), *x = doubles(t->n * t->C);
    for (int64_t r = 0; r < t->n; r++) {
        double squares = 0;
        for (int64_t c = 0; c < t->C; c++) {
            x[r * t->C + c] = (double)t->x[block_at(r, c, width)];
            squares += x[r * t->C + c] * x[r * t->C + c];
        }
        rstd[r] = 1 / sqrt(squares / (double)t->C + 1e-5);
        for (int64_t c = 0; c < t->C; c++)
            h[r * t->C + c] = x[r * t->C + c] * rstd[r] * (double)t->w[c];
    }
    void *again = act_alloc(t->p, values);
    norm_forward(p, t->x, t->w, again, NULL, t->rstd, t->n, t->C, 1e-5);
    norm_forward(p, t->x, t->w, t->h, t->saved, t->rstd, t->n, t->C, 1e-5);
    assert_same_bytes(again, t->h, (size_t)values * act_bytes(p), "norm without saving");
    assert_near(t->rstd, rstd, t->n, 2e-6, "norm rstd");
    assert_blocks(t->p, t->h, h, t->n, t->C, bound(t->p), "norm h");
    assert_blocks(t->p, t->saved, x, t->n, t->C, t->p == KERNEL_BF16 ? 1.0 / 256 : 0, "norm saved");
    norm_again(p, t->saved, t->w, t->rstd, again, t->n, t->C);
    assert_blocks(t->p, again, h, t->n, t->C, 3 * bound(t->p), "norm again");
    FREE_ALL(h, rstd, x, again);
}

/* dx and dw as the definition has them, of the values that were saved. */
static void norm_gradient_reference(const struct norm *t, double *dx, double *dw)
{
    for (int64_t r = 0; r < t->n; r++) {
        double mean = 0, rstd = (double)t->rstd[r];
        for (int64_t c = 0; c < t->C; c++) {
            int64_t i = block_at(r, c, block_up(t->C));
            mean += act_value(t->p, t->dh, i) * (double)t->w[c] * act_value(t->p, t->saved, i) *
                    rstd / (double)t->C;
        }
        for (int64_t c = 0; c < t->C; c++) {
            int64_t i = block_at(r, c, block_up(t->C));
            double dh = act_value(t->p, t->dh, i), normed = act_value(t->p, t->saved, i) * rstd;
            dx[r * t->C + c] = rstd * (dh * (double)t->w[c] - normed * mean);
            dw[c] += dh * normed;
        }
    }
}

static void check_norm_backward(struct norm *t)
{
    int64_t width = block_up(t->C), values = t->n * width;
    enum kernel_precision p = (enum kernel_precision)t->p;
    double *dx = doubles(t->n * t->C), *dw = doubles(t->C);
    float *alone = floats(values);
    memset(t->rstd + t->n - 1, 0, sizeof(float)); /* 1 / sqrt(eps) would drown the comparison */
    for (int64_t c = 0; c < t->C; c++)
        dw[c] = (double)t->dw[c];
    norm_gradient_reference(t, dx, dw);
    memset(alone, 0x3f, (size_t)values * sizeof(float));
    norm_backward(p, t->saved, t->w, t->rstd, t->dh, alone, NULL, NULL, false, t->n, t->C);
    assert_blocks(KERNEL_FP32, alone, dx, t->n, t->C, 1e-5, "norm dx alone");
    for (int64_t i = 0; i < t->n * t->C; i++)
        dx[i] += (double)t->dx[block_at(i / t->C, i % t->C, width)];
    norm_backward(p, t->saved, t->w, t->rstd, t->dh, t->dx, t->dx_act, t->dw, true, t->n, t->C);
    assert_blocks(KERNEL_FP32, t->dx, dx, t->n, t->C, 1e-5, "norm dx");
    assert_blocks(t->p, t->dx_act, dx, t->n, t->C, 1e-5 + bound(t->p), "norm dx rounded");
    assert_near(t->dw, dw, t->C, 2e-5, "norm dw");
    FREE_ALL(dx, dw, alone);
}

static void test_norm(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    FOR_PRECISIONS(p)
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        struct norm t = norm_make(p, shapes[i].n, shapes[i].C);
        check_norm_forward(&t);
        check_norm_backward(&t);
        norm_free(&t);
    }
}

/* --- rotation ----------------------------------------------------------------------------- */

/* Column of pair value i of head h, queries first. */
static int64_t head_column(const struct heads_shape *s, int64_t h, int64_t i)
{
    return h < s->H ? h * s->D + i : block_up(s->H * s->D) + (h - s->H) * s->D + i;
}

static void check_rotate(int p, const struct heads_shape *s)
{
    enum kernel_precision precision = (enum kernel_precision)p;
    int64_t width = block_up(s->H * s->D) + 2 * block_up(s->G * s->D), half = s->D / 2;
    int64_t T = block_up(s->T), n = s->B * T;
    float *cosine = floats(s->T * half), *sine = floats(s->T * half);
    void *x = act_gaussian(p, n, width, 1);
    double *y = doubles(n * width), *before = doubles(n * width);
    rope_table(cosine, sine, s->T, s->D, 10000);
    for (int64_t i = 0; i < n * width; i++)
        before[i] = y[i] = act_value(p, x, block_at(i / width, i % width, width));
    for (int64_t row = 0; row < n; row++)
        for (int64_t h = 0; h < s->H + s->G; h++)
            for (int64_t i = 0; i < half && row % T < s->T; i++) {
                double angle = (double)(row % T) * pow(10000, -2.0 * (double)i / (double)s->D);
                double *a = y + row * width + head_column(s, h, i);
                double *b = y + row * width + head_column(s, h, i + half), low = *a, high = *b;
                *a = low * cos(angle) - high * sin(angle);
                *b = high * cos(angle) + low * sin(angle);
            }
    heads_rotate(precision, s, x, cosine, sine, false);
    assert_blocks(p, x, y, n, width, bound(p), "rotated");
    heads_rotate(precision, s, x, cosine, sine, true);
    assert_blocks(p, x, before, n, width, 3 * bound(p), "rotated and back");
    FREE_ALL(cosine, sine, x, y, before);
}

static void test_rotate(void **state)
{
    (void)state;
    static const int64_t depths[] = {2, 6, 8, 16, 32, 64, 80, 96, 128};
    use_threads(2);
    FOR_LEVELS(level)
    FOR_PRECISIONS(p)
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        struct heads_shape s = {.B = 2, .T = 75, .H = 6, .G = 3, .D = depths[i]};
        check_rotate(p, &s);
        s = (struct heads_shape){.B = 1, .T = 64, .H = 1, .G = 1, .D = depths[i]};
        check_rotate(p, &s);
    }
}

/* --- softmax ------------------------------------------------------------------------------ */

struct loss {
    int p;
    int64_t n, V, out;
    double *logits; /* (n, V) */
    void *e;
    struct softmax_stats stats;
    uint32_t *targets;
    float *losses;
};

/* What linear_forward_softmax() leaves, from logits of so large a spread. */
static void loss_stats(struct loss *t, const float *logits)
{
    uint16_t *half = t->e;
    float *full = t->e;
    for (int64_t r = 0; r < t->n; r++)
        for (int64_t j = 0; j < t->out / BLOCK; j++) {
            double max = -INFINITY, sum = 0;
            int64_t end = (j + 1) * BLOCK < t->V ? (j + 1) * BLOCK : t->V;
            for (int64_t c = j * BLOCK; c < end; c++)
                max = fmax(max, (double)logits[r * t->V + c]);
            for (int64_t c = j * BLOCK; c < (j + 1) * BLOCK; c++) {
                double value = c < t->V ? exp((double)logits[r * t->V + c] - max) : 0;
                sum += value;
                if (t->p == KERNEL_BF16)
                    half[block_at(r, c, t->out)] = bf16_round((float)value);
                else
                    full[block_at(r, c, t->out)] = (float)value;
            }
            t->stats.max[j * t->n + r] = (float)max;
            t->stats.sum[j * t->n + r] = (float)sum;
        }
}

static struct loss loss_make(int p, int64_t n, int64_t V, int64_t out, double spread)
{
    struct loss t = {.p = p, .n = n, .V = V, .out = out};
    float *logits = gaussian(n * V, (uint64_t)V);
    t.logits = doubles(n * V);
    t.e = act_alloc(p, n * out);
    t.stats = (struct softmax_stats){floats(out / BLOCK * n), floats(out / BLOCK * n), floats(n)};
    t.targets = mem_alloc((size_t)n * sizeof(uint32_t));
    t.losses = floats(n);
    for (int64_t i = 0; i < n * V; i++)
        t.logits[i] = (double)(logits[i] = (float)((double)logits[i] * spread - 20));
    for (int64_t r = 0; r < n; r++) {
        t.targets[r] = r % 7 == 4 ? UINT32_MAX : (uint32_t)(r * 7919 % V);
        if (t.targets[r] != UINT32_MAX)
            t.stats.at_target[r] = logits[r * V + t.targets[r]];
    }
    loss_stats(&t, logits);
    free(logits);
    return t;
}

static void loss_free(struct loss *t)
{
    FREE_ALL(t->logits, t->e, t->stats.max, t->stats.sum, t->stats.at_target, t->targets,
             t->losses);
}

static void loss_reference(const struct loss *t, double scale, double z_loss, double *losses,
                           double *gradient)
{
    for (int64_t r = 0; r < t->n; r++) {
        const double *l = t->logits + r * t->V;
        double max = -INFINITY, sum = 0;
        if (t->targets[r] == UINT32_MAX)
            continue; /* zeros */
        for (int64_t c = 0; c < t->V; c++)
            max = fmax(max, l[c]);
        for (int64_t c = 0; c < t->V; c++)
            sum += exp(l[c] - max);
        double lse = max + log(sum);
        losses[r] = lse - l[t->targets[r]] + z_loss * lse * lse;
        for (int64_t c = 0; c < t->V; c++)
            gradient[r * t->V + c] = scale * ((1 + 2 * z_loss * lse) * exp(l[c] - lse) -
                                              (c == t->targets[r]));
    }
}

static void check_softmax(int p, int64_t n, int64_t V, int64_t out, double spread, double z_loss)
{
    const float scale = 0.25f;
    struct loss t = loss_make(p, n, V, out, spread), only = loss_make(p, n, V, out, spread);
    double *losses = doubles(n), *gradient = doubles(n * V);
    loss_reference(&t, (double)scale, z_loss, losses, gradient);
    softmax_finish((enum kernel_precision)p, t.targets, V, out, t.e, &t.stats, t.losses, scale,
                   (float)z_loss, n);
    softmax_finish((enum kernel_precision)p, only.targets, V, out, NULL, &only.stats, only.losses,
                   scale, (float)z_loss, n);
    assert_same_bits(t.losses, only.losses, n, "losses with and without gradient");
    assert_near(t.losses, losses, n, 5e-6, "loss");
    assert_blocks(p, t.e, gradient, n, V, 1.5 * bound(p) * (double)scale, "gradient of the loss");
    if (out > block_up(V))
        for (int64_t i = 0; i < n; i++)
            assert_true(act_value(p, t.e, block_at(i, out - 1, out)) == 0);
    FREE_ALL(losses, gradient);
    loss_free(&t);
    loss_free(&only);
}

static void test_softmax(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    FOR_PRECISIONS(p)
    {
        check_softmax(p, 32, 5, 32, 1, 0);
        check_softmax(p, 96, 100, 128, 3, 0);
        check_softmax(p, 96, 1000, 1024, 30, 1e-4);
        check_softmax(p, 2048 + 32, 60, 64, 3, 1e-2);
        struct loss bad = loss_make(p, 32, 64, 64, 1);
        bad.stats.max[0] = bad.stats.sum[0] = NAN;
        softmax_finish((enum kernel_precision)p, bad.targets, 64, 64, NULL, &bad.stats, bad.losses,
                       1, 0, 32);
        assert_true(isnan(bad.losses[0])); /* a diverged run must not look healthy */
        assert_true(!isnan(bad.losses[1]));
        loss_free(&bad);
    }
}

/* --- embedding ---------------------------------------------------------------------------- */

enum { VOCABULARY = 50 };

/* Every fifth row is filling; few ids, so that rows meet in the gradient. */
static uint32_t *some_ids(int64_t n)
{
    uint32_t *ids = mem_alloc((size_t)n * sizeof(uint32_t));
    for (int64_t i = 0; i < n; i++)
        ids[i] = i % 5 == 3 ? UINT32_MAX : (uint32_t)(i * i * 31 % VOCABULARY);
    ids[0] = VOCABULARY - 1;
    return ids;
}

static void check_embedding(int64_t n, int64_t C)
{
    float *table = gaussian(VOCABULARY * C, 1), *x = floats(n * block_up(C));
    float *dx = fp32_gaussian(n, C, 2), *dtable = gaussian(VOCABULARY * C, 3);
    uint16_t *upper = mem_alloc((size_t)(VOCABULARY * C) * sizeof(*upper));
    int16_t *lower = mem_alloc((size_t)(VOCABULARY * C) * sizeof(*lower));
    uint32_t *ids = some_ids(n);
    double *rows = doubles(n * C), *sums = doubles(VOCABULARY * C);
    for (int64_t i = 0; i < VOCABULARY * C; i++) {
        uint32_t bits;
        memcpy(&bits, table + i, sizeof(bits));
        upper[i] = split_upper(bits);
        lower[i] = (int16_t)(bits - ((uint32_t)upper[i] << 16));
        sums[i] = (double)dtable[i];
    }
    for (int64_t i = 0; i < n * C; i++) {
        uint32_t id = ids[i / C];
        if (id == UINT32_MAX)
            continue;
        rows[i] = (double)table[id * C + i % C];
        sums[id * C + i % C] += (double)dx[block_at(i / C, i % C, block_up(C))];
    }
    struct embedding whole = {.fp32 = table}, split = {.upper = upper, .lower = lower};
    memset(x, 0x3f, (size_t)(n * block_up(C)) * sizeof(float));
    embed_forward(&whole, ids, x, n, C);
    assert_blocks(KERNEL_FP32, x, rows, n, C, 0, "embedding");
    memset(x, 0x3f, (size_t)(n * block_up(C)) * sizeof(float));
    embed_forward(&split, ids, x, n, C);
    assert_blocks(KERNEL_FP32, x, rows, n, C, 0, "split embedding");
    embed_backward(dx, ids, dtable, n, C);
    assert_near(dtable, sums, VOCABULARY * C, 1e-5, "gradient of the embedding");
    FREE_ALL(table, x, dx, dtable, upper, lower, ids, rows, sums);
}

static void test_embedding(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    for (size_t i = 0; i < SHAPE_COUNT; i++)
        check_embedding(shapes[i].n, shapes[i].C);
}

/* --- rows and threads ----------------------------------------------------------------------- */

static void check_round_trip(int p, int64_t rows, int64_t cols, int64_t ld)
{
    enum kernel_precision precision = (enum kernel_precision)p;
    int64_t size = block_up(rows) * block_up(cols), last = (rows - 1) * ld + cols;
    float *x = gaussian(last, 1), *back = gaussian(last, 2), *between = copy(back, last);
    void *blocks = act_alloc(p, size);
    double *y = doubles(block_up(rows) * cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        float value = x[i / cols * ld + i % cols];
        y[i] = (double)(p == KERNEL_BF16 ? to_bf16(value) : value);
    }
    blocks_from_rows(precision, blocks, x, ld, rows, cols);
    assert_blocks(p, blocks, y, block_up(rows), cols, 0, "rows to blocks");
    blocks_to_rows(precision, blocks, back, ld, rows, cols);
    for (int64_t i = 0; i < last; i++) {
        bool inside = i % ld < cols;
        double right = inside ? y[i / ld * cols + i % ld] : (double)between[i];
        assert_true((double)back[i] == right);
    }
    FREE_ALL(x, back, between, blocks, y);
}

static void test_round_trip(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    FOR_PRECISIONS(p)
    {
        check_round_trip(p, 1, 1, 1);
        check_round_trip(p, 31, 33, 40);
        check_round_trip(p, 96, 256, 256);
        check_round_trip(p, 1000, 167, 170);
    }
}

/* Values that rounding could get wrong: ties, the largest, infinity, NaN. */
static void test_rounding(void **state)
{
    (void)state;
    const float values[] = {1.00390625f,  1.01171875f, -1.00390625f, 1.00390637f, 3.4e38f,
                            -3.39615e38f, INFINITY,    -INFINITY,    -0.0f,       1.5e-38f};
    enum { COUNT = sizeof(values) / sizeof(values[0]) };
    FOR_LEVELS(level)
    {
        uint16_t blocks[BLOCK_AREA];
        float nans[2] = {NAN, -NAN};
        blocks_from_rows(KERNEL_BF16, blocks, values, COUNT, 1, COUNT);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(blocks[i], bf16_round(values[i]));
        blocks_from_rows(KERNEL_BF16, blocks, nans, 2, 1, 2);
        assert_true(isnan(bf16_value(blocks[0])) && isnan(bf16_value(blocks[1])));
    }
}

static void run_everything(int p, struct norm *t, struct loss *l, float *dtable)
{
    enum kernel_precision precision = (enum kernel_precision)p;
    uint32_t *ids = some_ids(t->n);
    norm_forward(precision, t->x, t->w, t->h, t->saved, t->rstd, t->n, t->C, 1e-5);
    norm_backward(precision, t->saved, t->w, t->rstd, t->dh, t->dx, t->dx_act, t->dw, true, t->n,
                  t->C);
    softmax_finish(precision, l->targets, l->V, l->out, l->e, &l->stats, l->losses, 0.5f, 1e-3f,
                   l->n);
    embed_backward(t->dx, ids, dtable, t->n, t->C);
    free(ids);
}

static void check_threads(int p)
{
    const int64_t n = 2048 + 32, C = 100, V = 60, out = 64;
    struct norm t[3];
    struct loss l[3];
    float *dtable[3];
    for (int run = 0; run < 3; run++) {
        use_threads(run + 1);
        t[run] = norm_make(p, n, C);
        l[run] = loss_make(p, n, V, out, 3);
        dtable[run] = gaussian(VOCABULARY * C, 9);
        run_everything(p, &t[run], &l[run], dtable[run]);
        size_t acts = (size_t)(n * block_up(C)) * act_bytes((enum kernel_precision)p);
        assert_same_bytes(t[0].h, t[run].h, acts, "norm h on several threads");
        assert_same_bytes(t[0].dx_act, t[run].dx_act, acts, "norm dx on several threads");
        assert_same_bits(t[0].dx, t[run].dx, n * block_up(C), "norm dx on several threads");
        assert_same_bits(t[0].dw, t[run].dw, C, "norm dw on several threads");
        assert_same_bits(l[0].losses, l[run].losses, n, "losses on several threads");
        assert_same_bytes(l[0].e, l[run].e, (size_t)(n * out) * act_bytes((enum kernel_precision)p),
                          "gradient of the loss on several threads");
        assert_same_bits(dtable[0], dtable[run], VOCABULARY * C,
                         "gradient of the embedding on several threads");
    }
    for (int run = 0; run < 3; run++) {
        norm_free(&t[run]);
        loss_free(&l[run]);
        free(dtable[run]);
    }
}

static void test_threads(void **state)
{
    (void)state;
    FOR_LEVELS(level)
    FOR_PRECISIONS(p)
    check_threads(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),       cmocka_unit_test(test_rotate),
        cmocka_unit_test(test_softmax),    cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
