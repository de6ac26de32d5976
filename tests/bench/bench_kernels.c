/*
 * Speed of the kernels at every CPU level of this machine, on gaussian data (zeros flatter the
 * AMX unit by a sixth), each against the peak measured just before.
 *
 *     make bench-kernels BENCH_ARGS="avx2 gemm 120m"  one level, one part (gemm, heads,
 *                                                   rows, blocks), products of that name
 *     make bench-kernels BENCH_ARGS="--csv amx"       attention alone, as a table for programs
 */
#include "common/cpu.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "model/kernels/kernels.h"
#include "model/kernels/peak.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double SECONDS = 0.05; /* of each measurement */
static const char *only_shape = ""; /* products whose name holds this */
enum { MAX_RUNS = 65536 };

static void *must(void *p, const struct err *e)
{
    if (!p) {
        fprintf(stderr, "bench_kernels: %s\n", e->msg);
        exit(1);
    }
    return p;
}

static float *gaussian(int64_t n)
{
    struct err e;
    float *x = must(mem_map((size_t)n * sizeof(float), "benchmark data", &e), &e);
    struct rng r;
    rng_init(&r, 1, 1);
    for (int64_t i = 0; i < n && i < 65536; i++)
        x[i] = (float)rng_normal(&r);
    for (int64_t i = 65536; i < n; i++)
        x[i] = x[i - 65521]; /* not a power of two: lines differ */
    return x;
}

struct product {
    int64_t M, N, K;
    enum gemm_layout layout;
    enum kernel_precision precision;
    const float *a, *b;
    float *c;
};

static void run_product(void *arg)
{
    struct product *p = arg;
    int64_t lda = p->layout == GEMM_TN ? p->M : p->K, ldb = p->layout == GEMM_NT ? p->K : p->N;
    gemm(p->layout, p->precision, p->M, p->N, p->K, p->a, lda, p->b, ldb, p->c, p->N, false);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct timing {
    double shortest, median; /* seconds of one call */
};

static struct timing measure_calls(void (*run)(void *), void *arg)
{
    static double took[MAX_RUNS];
    int runs = 0;
    double begin = omp_get_wtime();
    run(arg);
    do {
        double start = omp_get_wtime();
        run(arg);
        took[runs++] = omp_get_wtime() - start;
    } while (runs < MAX_RUNS && omp_get_wtime() - begin < SECONDS);
    qsort(took, (size_t)runs, sizeof(took[0]), ascending);
    return (struct timing){took[0], took[runs / 2]};
}

/* Shortest time of one call. */
static double measure(void (*run)(void *), void *arg)
{
    return measure_calls(run, arg).shortest;
}

static const struct {
    const char *name;
    int64_t rows, in, out;
} linear[] = {{"mini qkv", 4096, 256, 512},      {"mini gate+up", 4096, 256, 2048},
              {"mini down", 4096, 1024, 256},    {"mini head", 4096, 256, 8192},
              {"120m o", 2048, 768, 768},        {"120m gate", 2048, 768, 2048},
              {"120m head", 1024, 768, 32000},   {"1b gate", 1024, 2048, 5632},
              {"generate, 1 row", 1, 768, 2048}, {"generate head", 1, 768, 32000},
              {"4 rows", 4, 768, 2048},          {"16 rows", 16, 768, 2048}};

static void bench_gemm(enum kernel_precision precision)
{
    double peak = peak_flops(peak_unit_real(precision), 0.1);
    printf("\n%s, %s: peak %.0f GFLOP/s\n", cpu_level_name(kernels_level()),
           precision == KERNEL_BF16 ? "bf16" : "fp32", peak / 1e9);
    printf("  %-18s %6s %6s %6s   y = x Wt     dx = dy W    dW = dyt x\n", "", "rows", "in", "out");
    for (size_t i = 0; i < sizeof(linear) / sizeof(linear[0]); i++) {
        if (!strstr(linear[i].name, only_shape))
            continue;
        int64_t M = linear[i].rows, K = linear[i].in, N = linear[i].out;
        float *x = gaussian(M * K), *w = gaussian(N * K), *y = gaussian(M * N);
        struct product p[] = {{M, N, K, GEMM_NT, precision, x, w, y},
                              {M, K, N, GEMM_NN, precision, y, w, x},
                              {N, K, M, GEMM_TN, precision, y, x, w}};
        printf("  %-18s %6lld %6lld %6lld", linear[i].name, (long long)M, (long long)K,
               (long long)N);
        for (int l = 0; l < 3; l++) {
            double flops = 2.0 * (double)(M * N * K) / measure(run_product, &p[l]);
            printf("   %6.1f %3.0f %%", flops / 1e9, 100 * flops / peak);
            fflush(stdout);
        }
        printf("\n");
        mem_unmap(x, (size_t)(M * K) * sizeof(float));
        mem_unmap(w, (size_t)(N * K) * sizeof(float));
        mem_unmap(y, (size_t)(M * N) * sizeof(float));
    }
}

/* Gaussian values are as good in blocks as in rows: only their precision matters. */
static void blocks_from_values(enum kernel_precision p, void *blocks, const float *values,
                               int64_t n)
{
    if (p == KERNEL_FP32)
        memcpy(blocks, values, (size_t)n * sizeof(float));
    else
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)blocks)[i] = bf16_round(values[i]);
}

struct heads_run {
    struct heads_shape s;
    enum kernel_precision precision;
    void *qkv, *out, *dout, *d_qkv;
    float *lse;
};

static void run_heads_forward(void *arg)
{
    struct heads_run *a = arg;
    heads_forward(a->precision, &a->s, a->qkv, a->out, a->lse);
}

static void run_heads_backward(void *arg)
{
    struct heads_run *a = arg;
    heads_backward(a->precision, &a->s, a->qkv, a->out, a->lse, a->dout, a->d_qkv);
}

static const struct heads_shape head_shapes[] = {
    {8, 512, 8, 4, 32, NULL},   {8, 512, 4, 2, 64, NULL},   {1, 2048, 12, 4, 64, NULL},
    {4, 2048, 12, 4, 64, NULL}, {1, 2048, 32, 4, 64, NULL}, {1, 2048, 16, 4, 128, NULL}};

static void print_heads(const struct heads_run *a, double flops, struct timing f, struct timing b)
{
    const double us = 1e6 / (double)(a->s.B * a->s.T);
    printf("  B %2lld T %4lld H %2lld G %lld D %3lld   forward %6.1f %6.2f us   backward %6.1f "
           "%6.2f us\n",
           (long long)a->s.B, (long long)a->s.T, (long long)a->s.H, (long long)a->s.G,
           (long long)a->s.D, flops / f.shortest / 1e9, f.shortest * us,
           2.5 * flops / b.shortest / 1e9, b.shortest * us);
}

static void print_heads_csv(const struct heads_run *a, const char *pass, double flops,
                            struct timing t, double peak)
{
    printf("%s,%s,%s,%lld,%lld,%lld,%lld,%lld,%.4f,%.4f,%.4f\n", cpu_level_name(kernels_level()),
           a->precision == KERNEL_BF16 ? "bf16" : "fp32", pass, (long long)a->s.B,
           (long long)a->s.T, (long long)a->s.H, (long long)a->s.G, (long long)a->s.D,
           1e-12 * flops / t.median, 1e-12 * flops / t.shortest, 1e-12 * peak);
}

/* Counts the causal half: two products forward, five backward. */
static void bench_heads(enum kernel_precision precision, bool csv)
{
    const double peak = csv ? peak_flops(peak_unit_real(precision), 0.1) : 0;
    if (!csv)
        printf("\n%s, %s: attention on blocks, GFLOP/s of the causal half; us per token\n",
               cpu_level_name(kernels_level()), precision == KERNEL_BF16 ? "bf16" : "fp32");
    for (size_t i = 0; i < sizeof(head_shapes) / sizeof(head_shapes[0]); i++) {
        struct heads_run a = {.s = head_shapes[i], .precision = precision};
        int64_t tokens = a.s.B * a.s.T, q = a.s.H * a.s.D, all = q + 2 * a.s.G * a.s.D;
        float *values = gaussian(tokens * all), *lse = gaussian(tokens * a.s.H);
        void **acts[] = {&a.qkv, &a.out, &a.dout, &a.d_qkv};
        int64_t widths[] = {all, q, q, all};
        for (int j = 0; j < 4; j++) {
            *acts[j] = gaussian(tokens * widths[j]);
            blocks_from_values(precision, *acts[j], values, tokens * widths[j]);
        }
        a.lse = lse;
        double flops = 2.0 * (double)(tokens * q * a.s.T);
        struct timing f = measure_calls(run_heads_forward, &a);
        struct timing b = measure_calls(run_heads_backward, &a);
        if (csv) {
            print_heads_csv(&a, "forward", flops, f, peak);
            print_heads_csv(&a, "backward", 2.5 * flops, b, peak);
        } else {
            print_heads(&a, flops, f, b);
        }
        for (int j = 0; j < 4; j++)
            mem_unmap(*acts[j], (size_t)(tokens * widths[j]) * sizeof(float));
        mem_unmap(values, (size_t)(tokens * all) * sizeof(float));
        mem_unmap(lse, (size_t)(tokens * a.s.H) * sizeof(float));
    }
}

enum { ROWS = 2048, C = 768, T = 512 };

struct rows {
    float *x, *y, *z, *dy, *dz, *w, *rstd, *cosine, *sine;
};

static void run_norm(void *arg)
{
    struct rows *r = arg;
    rmsnorm_forward(r->x, r->w, r->y, r->rstd, ROWS, C, 1e-5);
}

static void run_rope(void *arg)
{
    struct rows *r = arg;
    rope_apply(r->x, r->cosine, r->sine, ROWS / T, T, C / 64, 64, 0, false);
}

static void run_swiglu(void *arg)
{
    struct rows *r = arg;
    swiglu_forward(r->x, r->y, r->z, (int64_t)ROWS * C);
}

static void run_adamw(void *arg)
{
    struct rows *r = arg;
    struct adamw_constants k = {1e-9f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f, 1.0f};
    adamw_run(r->x, r->y, r->dy, r->dz, (int64_t)ROWS * C, &k);
}

static void run_squares(void *arg)
{
    struct rows *r = arg;
    r->rstd[0] = (float)sum_squares(r->x, (int64_t)ROWS * C);
}

static void bench_rows(void)
{
    static struct rows r;
    const int64_t n = (int64_t)ROWS * C;
    float **all[] = {&r.x, &r.y, &r.dy, &r.dz, &r.w, &r.rstd, &r.cosine, &r.sine};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        *all[i] = gaussian(n);
    r.z = gaussian(n);
    rope_table(r.cosine, r.sine, T, 64, 10000);
    for (int64_t i = 0; i < n; i++)
        r.dz[i] = r.dz[i] * r.dz[i] + 1.0f; /* serves as AdamW's v */
    const struct {
        const char *name;
        void (*run)(void *);
        int64_t values;
        int bytes; /* moved for a value */
    } loops[] = {{"rmsnorm", run_norm, n, 8},
                 {"rope", run_rope, n, 8},
                 {"swiglu", run_swiglu, n, 12},
                 {"adamw, 1 thread", run_adamw, n, 28},
                 {"squares, 1 thread", run_squares, n, 4}};
    printf("\n%s: rows of %d\n", cpu_level_name(kernels_level()), C);
    for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
        double rate = (double)loops[i].values / measure(loops[i].run, &r);
        printf("  %-20s %6.2f G values/s  %6.1f GB/s\n", loops[i].name, rate / 1e9,
               rate / 1e9 * loops[i].bytes);
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        mem_unmap(*all[i], (size_t)n * sizeof(float));
    mem_unmap(r.z, (size_t)n * sizeof(float));
}

enum { OUT = 32000, TOKENS = 1024 /* of the softmax */ };

struct blocks {
    enum kernel_precision p;
    int64_t C;
    float *x, *dx, *copy, *w, *dw, *rstd, *cosine, *sine, *losses, *table;
    void *h, *saved, *dh, *e;
    struct softmax_stats stats;
    struct embedding embedding;
    uint32_t ids[ROWS];
};

static void run_copy(void *arg)
{
    struct blocks *b = arg;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < ROWS; i++)
        memcpy(b->copy + i * b->C, b->x + i * b->C, (size_t)b->C * sizeof(float));
}

static void run_norm_forward(void *arg)
{
    struct blocks *b = arg;
    norm_forward(b->p, b->x, b->w, b->h, b->saved, b->rstd, ROWS, b->C, 1e-5);
}

static void run_norm_again(void *arg)
{
    struct blocks *b = arg;
    norm_again(b->p, b->saved, b->w, b->rstd, b->h, ROWS, b->C);
}

static void run_norm_backward(void *arg)
{
    struct blocks *b = arg;
    norm_backward(b->p, b->saved, b->w, b->rstd, b->dh, b->dx, b->h, b->dw, true, ROWS, b->C);
}

static void run_rotate(void *arg)
{
    struct blocks *b = arg;
    struct heads_shape s = {.B = ROWS / T, .T = T, .H = b->C / 64 - 2, .G = 1, .D = 64};
    heads_rotate(b->p, &s, b->h, b->cosine, b->sine, false);
}

static void run_embed(void *arg)
{
    struct blocks *b = arg;
    embed_forward(&b->embedding, b->ids, b->dx, ROWS, b->C);
}

static void run_embed_back(void *arg)
{
    struct blocks *b = arg;
    embed_backward(b->dx, b->ids, b->table, ROWS, b->C);
}

static void run_from_rows(void *arg)
{
    struct blocks *b = arg;
    blocks_from_rows(b->p, b->h, b->x, b->C, ROWS, b->C);
}

static void run_to_rows(void *arg)
{
    struct blocks *b = arg;
    blocks_to_rows(b->p, b->h, b->copy, b->C, ROWS, b->C);
}

static void run_softmax(void *arg)
{
    struct blocks *b = arg;
    softmax_finish(b->p, b->ids, OUT, OUT, b->e, &b->stats, b->losses, OUT / 32, 0, TOKENS);
}

/* Memory of the benchmark, filled by the kernels themselves. */
static void blocks_prepare(struct blocks *b)
{
    const int64_t n = ROWS * b->C, stats = (int64_t)OUT / 32 * TOKENS;
    float **floats[] = {&b->x, &b->dx, &b->copy, &b->w, &b->dw, &b->rstd, &b->cosine, &b->sine};
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++)
        *floats[i] = gaussian(n);
    b->table = gaussian(OUT * b->C);
    b->embedding = (struct embedding){.upper = (uint16_t *)b->table,
                                      .lower = (int16_t *)b->table + OUT * b->C};
    void **acts[] = {&b->h, &b->saved, &b->dh};
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        *acts[i] = gaussian(n);
        blocks_from_rows(b->p, *acts[i], b->x, b->C, ROWS, b->C);
    }
    b->e = gaussian((int64_t)OUT * TOKENS);
    b->losses = gaussian(TOKENS);
    b->stats = (struct softmax_stats){gaussian(stats), gaussian(stats), gaussian(TOKENS)};
    for (int64_t i = 0; i < TOKENS; i += BLOCK)
        blocks_from_rows(b->p, (char *)b->e + (size_t)(i * OUT) * act_bytes(b->p), b->x, 1000,
                         BLOCK, OUT);
    for (int64_t i = 0; i < stats; i++) { /* so that e stays as it is, run after run */
        b->stats.max[i] = 0;
        b->stats.sum[i] = 1;
    }
    for (uint32_t i = 0; i < ROWS; i++)
        b->ids[i] = i * 7919 % OUT;
    rope_table(b->cosine, b->sine, T, 64, 10000);
}

static void blocks_release(struct blocks *b)
{
    const size_t n = (size_t)(ROWS * b->C) * sizeof(float);
    const size_t stats = (size_t)OUT / 32 * TOKENS * sizeof(float);
    void *matrices[] = {b->x,    b->dx,     b->copy, b->w,  b->dw,   b->rstd,
                        b->sine, b->cosine, b->h,    b->dh, b->saved};
    for (size_t i = 0; i < sizeof(matrices) / sizeof(matrices[0]); i++)
        mem_unmap(matrices[i], n);
    mem_unmap(b->table, (size_t)(OUT * b->C) * sizeof(float));
    mem_unmap(b->e, (size_t)OUT * TOKENS * sizeof(float));
    mem_unmap(b->losses, TOKENS * sizeof(float));
    mem_unmap(b->stats.max, stats);
    mem_unmap(b->stats.sum, stats);
    mem_unmap(b->stats.at_target, TOKENS * sizeof(float));
}

static void bench_blocks(enum kernel_precision p, int64_t width)
{
    static struct blocks b;
    b.p = p;
    b.C = width;
    blocks_prepare(&b);
    const int a = (int)act_bytes(p);
    const int64_t n = ROWS * width;
    const struct {
        const char *name;
        void (*run)(void *);
        int64_t values;
        int bytes; /* moved for a value */
    } loops[] = {{"copy of floats", run_copy, n, 8},
                 {"norm", run_norm_forward, n, 4 + 2 * a},
                 {"norm again", run_norm_again, n, 2 * a},
                 {"norm backward", run_norm_backward, n, 8 + 3 * a},
                 {"rotation", run_rotate, n - ROWS * 64, 2 * a},
                 {"split embedding", run_embed, n, 8},
                 {"embedding backward", run_embed_back, n, 12},
                 {"rows to blocks", run_from_rows, n, 4 + a},
                 {"blocks to rows", run_to_rows, n, 4 + a},
                 {"softmax", run_softmax, (int64_t)OUT * TOKENS, 2 * a}};
    printf("\n%s, %s: blocks of %d rows, %lld columns (softmax: %d, %d)\n",
           cpu_level_name(kernels_level()), p == KERNEL_BF16 ? "bf16" : "fp32", ROWS,
           (long long)width, TOKENS, OUT);
    for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
        double seconds = measure(loops[i].run, &b), values = (double)loops[i].values;
        printf("  %-20s %8.0f us  %6.1f GB/s\n", loops[i].name, seconds * 1e6,
               values / seconds / 1e9 * loops[i].bytes);
    }
    blocks_release(&b);
}

int main(int argc, char **argv)
{
    struct err e;
    char **const all = argv;
    const bool csv = argc > 1 && strcmp(argv[1], "--csv") == 0;
    argc -= csv;
    argv += csv;
    const char *only = csv ? "heads" : argc > 2 ? argv[2] : "";
    if (csv)
        printf("level,precision,pass,B,T,H,G,D,median_tflops,max_tflops,peak_tflops\n");
    only_shape = argc > 3 ? argv[3] : "";
    threads_settle(all);
    threads_init(0);
    for (int level = CPU_C; level <= CPU_AMX; level++) {
        if (argc > 1 && strcmp(argv[1], cpu_level_name((enum cpu_level)level)) != 0)
            continue;
        if (cpu_level_force((enum cpu_level)level) != (enum cpu_level)level)
            continue;
        if (kernels_init(&e)) {
            fprintf(stderr, "bench_kernels: %s\n", e.msg);
            return 1;
        }
        for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
            if (!*only || strcmp(only, "gemm") == 0)
                bench_gemm((enum kernel_precision)precision);
            if (!*only || strcmp(only, "heads") == 0)
                bench_heads((enum kernel_precision)precision, csv);
            for (int64_t width = 768; width <= 2048; width += 1280)
                if (!*only || strcmp(only, "blocks") == 0)
                    bench_blocks((enum kernel_precision)precision, width);
        }
        if (!*only || strcmp(only, "rows") == 0)
            bench_rows();
    }
    return 0;
}
