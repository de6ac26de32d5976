/*
 * Speed of the products on matrices in blocks, with what is done to their results, at every CPU
 * level of this machine: on gaussian data and against the peak that the level reaches with such.
 *
 *     make bench-linear BENCH_ARGS="avx512 fp32 120m"   one level, one precision, products
 *                                                       whose name holds this
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

static const double SECONDS = 0.15; /* of each measurement */
static const double PEAK_SECONDS = 0.1;

static void must(int failed, const struct err *e)
{
    if (failed) {
        fprintf(stderr, "bench_linear: %s\n", e->msg);
        exit(1);
    }
}

static void *reserve(int64_t bytes)
{
    struct err e;
    void *p = mem_map((size_t)bytes, "benchmark data", &e);
    must(!p, &e);
    return p;
}

static float gaussian_at(int64_t i)
{
    static float values[65521]; /* not a power of two: lines differ */
    if (values[0] == 0.0f) {
        struct rng r;
        rng_init(&r, 1, 1);
        for (int j = 0; j < 65521; j++)
            values[j] = (float)rng_normal(&r);
    }
    return values[i % 65521];
}

static void *gaussian(enum kernel_precision p, int64_t n, float scale)
{
    void *x = reserve(n * (int64_t)act_bytes(p));
    for (int64_t i = 0; i < n; i++)
        if (p == KERNEL_BF16)
            ((uint16_t *)x)[i] = bf16_round(gaussian_at(i) * scale);
        else
            ((float *)x)[i] = gaussian_at(i) * scale;
    return x;
}

enum kind { STORE, ADD, SWIGLU, SWIGLU_BEFORE, SOFTMAX };

static const struct shape {
    const char *name;
    int64_t n, in, out;
    enum kind kind; /* what follows the product; SWIGLU_BEFORE: what its input came from, and ADD */
} shapes[] = {
    {"mini qkv", 2048, 128, 256, STORE},
    {"mini o", 2048, 128, 128, ADD},
    {"mini gate+up", 2048, 128, 768, SWIGLU},
    {"mini down", 2048, 384, 128, SWIGLU_BEFORE},
    {"mini head", 2048, 128, 8192, SOFTMAX},
    {"120m qkv", 2048, 768, 1280, STORE},
    {"120m o", 2048, 768, 768, ADD},
    {"120m gate+up", 2048, 768, 4096, SWIGLU},
    {"120m down", 2048, 2048, 768, SWIGLU_BEFORE},
    {"120m head", 2048, 768, 32000, SOFTMAX},
    {"1b o", 2048, 2048, 2048, ADD},
    {"1b gate+up", 2048, 2048, 11264, SWIGLU},
    {"1b down", 2048, 5632, 2048, SWIGLU_BEFORE},
};

/* A product with all it reads and writes. */
struct problem {
    enum kernel_precision p;
    const struct shape *s;
    struct weight w;
    void *x, *y, *dx, *gu;
    float *dw, *residual;
    uint32_t *targets;
    struct softmax_stats stats;
};

static void problem_init(struct problem *q, enum kernel_precision p, const struct shape *s)
{
    const int64_t n = s->n, in = s->in, out = s->out, bytes = (int64_t)act_bytes(p);
    *q = (struct problem){.p = p, .s = s};
    q->x = gaussian(p, n * in, 1);
    q->y = gaussian(p, n * out, 1);
    q->dx = reserve(n * in * bytes);
    q->gu = gaussian(p, n * (s->kind == SWIGLU ? out : 2 * in), 1);
    q->dw = reserve(out * in * 4);
    q->residual = reserve(n * out * 4);
    q->w = (struct weight){out, in, reserve(out * in * bytes), reserve(out * in * bytes)};
    float *blocks = gaussian(KERNEL_FP32, out * in, 0.03f);
    weight_pack(p, &q->w, blocks, out, 0, 1);
    mem_unmap(blocks, (size_t)(out * in * 4));
    q->targets = reserve(n * 4);
    q->stats = (struct softmax_stats){reserve(n * out / 8), reserve(n * out / 8), reserve(n * 4)};
}

static void problem_release(struct problem *q)
{
    const int64_t n = q->s->n, in = q->s->in, out = q->s->out, bytes = (int64_t)act_bytes(q->p);
    mem_unmap(q->x, (size_t)(n * in * bytes));
    mem_unmap(q->y, (size_t)(n * out * bytes));
    mem_unmap(q->dx, (size_t)(n * in * bytes));
    mem_unmap(q->gu, (size_t)(n * (q->s->kind == SWIGLU ? out : 2 * in) * bytes));
    mem_unmap(q->dw, (size_t)(out * in * 4));
    mem_unmap(q->residual, (size_t)(n * out * 4));
    mem_unmap(q->w.forward, (size_t)(out * in * bytes));
    mem_unmap(q->w.backward, (size_t)(out * in * bytes));
    mem_unmap(q->targets, (size_t)(n * 4));
    mem_unmap(q->stats.max, (size_t)(n * out / 8));
    mem_unmap(q->stats.sum, (size_t)(n * out / 8));
    mem_unmap(q->stats.at_target, (size_t)(n * 4));
}

static void forward(struct problem *q)
{
    const int64_t n = q->s->n;
    if (q->s->kind == STORE)
        linear_forward(q->p, &q->w, q->x, q->y, n);
    else if (q->s->kind == SWIGLU)
        linear_forward_swiglu(q->p, &q->w, q->x, q->gu, q->y, n);
    else if (q->s->kind == SOFTMAX)
        linear_forward_softmax(q->p, &q->w, q->x, q->targets, q->s->out, q->y, &q->stats, n);
    else
        linear_forward_add(q->p, &q->w, q->x, q->residual, n);
}

static void backward(struct problem *q)
{
    if (q->s->kind == SWIGLU_BEFORE)
        linear_backward_swiglu(q->p, &q->w, q->y, q->gu, q->gu, q->dx, q->s->n);
    else
        linear_backward(q->p, &q->w, q->y, q->dx, q->s->n);
}

static void gradient(struct problem *q)
{
    linear_gradient(q->p, q->y, q->x, q->dw, q->s->n, q->s->out, q->s->in);
}

/* Shortest time of one call. */
static double measure(void (*run)(struct problem *), struct problem *q)
{
    double best = 1e30, begin = omp_get_wtime();
    run(q);
    do {
        double start = omp_get_wtime();
        run(q);
        double took = omp_get_wtime() - start;
        best = took < best ? took : best;
    } while (omp_get_wtime() - begin < SECONDS);
    return best;
}

static void bench(enum kernel_precision p, const char *only)
{
    double peak = peak_flops(peak_unit_real(p), PEAK_SECONDS);
    printf("\n%s, %s, %d threads: peak %.0f GFLOP/s\n", cpu_level_name(kernels_level()),
           p == KERNEL_BF16 ? "bf16" : "fp32", threads_count(), peak / 1e9);
    printf("  %-14s %5s %5s %6s   y = x Wt       dx = dy W      dW = dyt x\n", "", "n", "in",
           "out");
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const struct shape *s = &shapes[i];
        if (!strstr(s->name, only))
            continue;
        struct problem q;
        problem_init(&q, p, s);
        printf("  %-14s %5lld %5lld %6lld", s->name, (long long)s->n, (long long)s->in,
               (long long)s->out);
        void (*const runs[])(struct problem *) = {forward, backward, gradient};
        for (int r = 0; r < 3; r++) {
            double rate = 2.0 * (double)(s->n * s->in * s->out) / measure(runs[r], &q);
            printf("   %7.1f %3.0f %%", rate / 1e9, 100 * rate / peak);
            fflush(stdout);
        }
        printf("\n");
        problem_release(&q);
    }
}

int main(int argc, char **argv)
{
    struct err e;
    const char *names[] = {"fp32", "bf16"};
    threads_settle(argv);
    threads_init(0);
    for (int level = CPU_C; level <= CPU_AMX; level++) {
        if (argc > 1 && strcmp(argv[1], cpu_level_name((enum cpu_level)level)) != 0)
            continue;
        if (cpu_level_force((enum cpu_level)level) != (enum cpu_level)level)
            continue;
        must(kernels_init(&e), &e);
        for (int p = KERNEL_FP32; p <= KERNEL_BF16; p++)
            if (argc <= 2 || strcmp(argv[2], names[p]) == 0)
                bench((enum kernel_precision)p, argc > 3 ? argv[3] : "");
    }
    return 0;
}
