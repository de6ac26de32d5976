/*
 * Speed of an optimiser step, for each way to keep masters and moments, against a triad
 * a = b + s c with stores past the caches, measured in the same run: all threads, arrays much
 * larger than the caches, gaussian gradients.
 *
 *     make bench-update BENCH_ARGS="avx512 split"    one level, variants whose name holds the word
 *                                                    (or is muon)
 *     make bench-update BENCH_ARGS="--csv amx split" the same for programs, without muon
 */
#include "common/cpu.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "train/optimizer.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { ROUNDS = 7 };

static const struct model_config config = {.vocab_size = 16000,
                                           .hidden_size = 768,
                                           .intermediate_size = 2048,
                                           .num_hidden_layers = 4,
                                           .num_attention_heads = 12,
                                           .num_key_value_heads = 4,
                                           .max_position_embeddings = 2048,
                                           .rope_theta = 10000,
                                           .rms_norm_eps = 1e-5};

static void fail(const struct err *e)
{
    fprintf(stderr, "bench_update: %s\n", e->msg);
    exit(1);
}

static void gaussian(float *x, size_t n)
{
    enum { DRAWN = 65521 };
    struct rng r;
    rng_init(&r, 1, 1);
    for (size_t i = 0; i < n; i++)
        x[i] = i < DRAWN ? (float)rng_normal(&r) * 1e-3f : x[i - DRAWN];
}

/* n is a multiple of 16, a cache line. */
static void triad(float *a, const float *b, const float *c, size_t n)
{
    enum { LINE = 16, AHEAD = 4096 };
#pragma omp parallel for schedule(static)
    for (size_t line = 0; line < n; line += LINE) {
        __builtin_prefetch(b + line + AHEAD);
        __builtin_prefetch(c + line + AHEAD);
        for (size_t i = line; i < line + LINE; i += 4) {
#if defined(__x86_64__)
            __m128 x = _mm_mul_ps(_mm_loadu_ps(c + i), _mm_set1_ps(3.0f));
            _mm_stream_ps(a + i, _mm_add_ps(x, _mm_loadu_ps(b + i)));
#else
            for (size_t j = i; j < i + 4; j++)
                a[j] = b[j] + 3.0f * c[j];
#endif
        }
    }
}

/* GB/s, 12 bytes a value. */
static double streaming_bandwidth(void)
{
    const size_t n = (size_t)48 << 20;
    struct err e;
    float *x = mem_map(3 * n * sizeof(float), "triad", &e);
    double best = 1e30;
    if (!x)
        fail(&e);
    gaussian(x, 3 * n);
    for (int i = 0; i < ROUNDS; i++) {
        double start = omp_get_wtime();
        triad(x, x + n, x + 2 * n, n);
        double took = omp_get_wtime() - start;
        best = took < best ? took : best;
    }
    mem_unmap(x, 3 * n * sizeof(float));
    return 12e-9 * (double)n / best;
}

/* Bytes read and written for a value of a weight, each array once each way. */
static int traffic(enum kernel_precision p, enum masters masters, enum moments moments)
{
    int moment = moments == MOMENTS_FP32 ? 4 : moments == MOMENTS_BF16 ? 2 : 1;
    int packed = p == KERNEL_BF16 ? 2 : 4;
    int master = masters == MASTERS_FP32 ? 2 * 4 : 2 * 2 + packed; /* upper: the packed weight */
    return 4 + 4 * moment + master + 2 * packed;
}

struct variant {
    const char *name;
    enum kernel_precision precision;
    enum masters masters;
    enum moments moments;
};

static const struct variant variants[] = {
    {"fp32, weights fp32", KERNEL_FP32, MASTERS_FP32, MOMENTS_FP32},
    {"fp32", KERNEL_BF16, MASTERS_FP32, MOMENTS_FP32},
    {"split", KERNEL_BF16, MASTERS_SPLIT, MOMENTS_FP32},
    {"fp32, moments bf16", KERNEL_BF16, MASTERS_FP32, MOMENTS_BF16},
    {"split, moments bf16", KERNEL_BF16, MASTERS_SPLIT, MOMENTS_BF16},
    {"split, moments int8", KERNEL_BF16, MASTERS_SPLIT, MOMENTS_INT8},
};

/* Shortest seconds of a step, and of the norm. */
static double measure(const struct variant *variant, enum optimizer_name rule, double *norm)
{
    const struct optimizer_options options = {.name = rule,
                                              .masters = variant->masters,
                                              .moments = variant->moments,
                                              .beta1 = 0.9,
                                              .beta2 = 0.95,
                                              .eps = 1e-8,
                                              .weight_decay = 0.1,
                                              .momentum = 0.95};
    struct weights w;
    struct optimizer o;
    struct err e;
    double best = 1e30;
    *norm = 1e30;
    if (weights_init(&w, &config, variant->precision, true, &e) ||
        optimizer_init(&o, &w, &options, &e))
        fail(&e);
    gaussian(o.grads, w.size);
    for (int i = 0; i < (rule == OPTIMIZER_ADAMW ? ROUNDS : 2); i++) {
        double start = omp_get_wtime();
        optimizer_step(&o, (uint64_t)i + 1, 1e-4, 1.0);
        double middle = omp_get_wtime();
        optimizer_norm(&o);
        double end = omp_get_wtime();
        best = middle - start < best ? middle - start : best;
        *norm = end - middle < *norm ? end - middle : *norm;
    }
    optimizer_release(&o);
    weights_release(&w);
    return best;
}

static void bench(const struct variant *variant, double peak, bool csv)
{
    const double n = 1e-9 * (double)weights_size(&config);
    double bytes = traffic(variant->precision, variant->masters, variant->moments), norm;
    double rate = n / measure(variant, OPTIMIZER_ADAMW, &norm);
    if (csv)
        printf("%s,\"%s\",%.4f,%.0f,%.3f,%.3f\n", cpu_level_name(kernels_level()), variant->name,
               rate, bytes, rate * bytes, peak);
    else
        printf("  %-20s %5.2f Gparam/s  %2.0f B/param  %5.1f GB/s, %3.0f %% of triad; norm %5.1f "
               "GB/s\n",
               variant->name, rate, bytes, rate * bytes, 100 * rate * bytes / peak, 4 * n / norm);
    fflush(stdout);
}

/* FLOPs of Newton-Schulz steps, of layers: n n m for each of three products, twice, n < m. */
static double muon_flops(void)
{
    double sum = 0;
    for (size_t i = 1; i <= 7; i++) {
        struct weights_place place = weights_place(&config, i);
        double n = (double)(place.rows < place.cols ? place.rows : place.cols);
        double m = (double)(place.rows < place.cols ? place.cols : place.rows);
        sum += 5 * 2 * n * n * (2 * m + n);
    }
    return sum * (double)config.num_hidden_layers;
}

static void bench_muon(void)
{
    static const struct variant lean = {"muon, moments bf16", KERNEL_BF16, MASTERS_SPLIT,
                                        MOMENTS_BF16};
    double norm, seconds = measure(&lean, OPTIMIZER_MUON, &norm);
    printf("  %-20s %5.0f ms, %.2f TFLOP of Newton-Schulz steps: at least %.2f TFLOP/s\n",
           lean.name, 1e3 * seconds, 1e-12 * muon_flops(), 1e-12 * muon_flops() / seconds);
}

int main(int argc, char **argv)
{
    struct err e;
    char **const all = argv;
    const bool csv = argc > 1 && strcmp(argv[1], "--csv") == 0;
    argc -= csv;
    argv += csv;
    threads_settle(all);
    threads_init(0);
    double peak = streaming_bandwidth();
    if (csv)
        printf("level,variant,gparam_per_s,bytes_per_param,gb_per_s,triad_gb_per_s\n");
    else
        printf("triad %.1f GB/s on %d threads\n", peak, threads_count());
    for (int level = CPU_C; level <= CPU_AMX; level++) {
        const char *name = cpu_level_name((enum cpu_level)level);
        if (argc > 1 && strcmp(argv[1], name) != 0)
            continue;
        if (cpu_level_force((enum cpu_level)level) != (enum cpu_level)level)
            continue;
        if (kernels_init(&e))
            fail(&e);
        if (!csv)
            printf("%s\n", name);
        for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++)
            if (argc <= 2 || strstr(variants[i].name, argv[2]))
                bench(&variants[i], peak, csv);
        if (!csv && (argc <= 2 || strstr("muon", argv[2])))
            bench_muon();
    }
    return 0;
}
