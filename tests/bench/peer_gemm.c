#include "peer_gemm.h"

#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RUNS = 4096, MIN_RUNS = 3, CHECKED_ELEMENTS = 32, GAUSSIANS = 65521 /* a prime */ };

/* A linear layer from K to N numbers a token. */
struct shape {
    int64_t K, N;
};

/* german120m: q, k and v; attention out; gate and up; down; head. Then german1b's. */
static const struct shape shapes[] = {
    {768, 1280},  {768, 768},   {768, 4096},   {2048, 768},  {768, 32000},
    {2048, 2560}, {2048, 2048}, {2048, 11264}, {5632, 2048}, {2048, 32000},
};

static const char *const kind_names[] = {"fwd", "dx", "dw"};

struct options {
    int64_t tokens;
    int threads;
    double seconds; /* of each measurement */
    char **shapes;  /* "KxN"; those of the configurations where there is none */
    int shape_count;
};

void *peer_alloc(size_t bytes)
{
    const size_t page = (size_t)2 << 20;
    bytes = (bytes + page - 1) / page * page;
    void *p = aligned_alloc(page, bytes);
    if (!p) {
        fprintf(stderr, "no memory for %zu bytes\n", bytes);
        exit(1);
    }
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t random_bits(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15u; /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1du;
}

/* A gaussian number (Box-Muller) with the last 16 bits cut off, so that it is a bf16 too. */
static float gaussian(void)
{
    double u = (double)(random_bits() >> 11) * 0x1p-53, v = (double)(random_bits() >> 11) * 0x1p-53;
    float x = (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static float *gaussian_matrix(int64_t n)
{
    float *x = peer_alloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = i < GAUSSIANS ? gaussian() : x[i - GAUSSIANS]; /* no two rows alike */
    return x;
}

static double exact_element(const struct product *p, int64_t row, int64_t column)
{
    double sum = 0;
    for (int64_t i = 0; i < p->k; i++) {
        double a = p->a[p->trans_a ? i * p->m + row : row * p->k + i];
        double b = p->b[p->trans_b ? column * p->k + i : i * p->n + column];
        sum += a * b;
    }
    return sum;
}

/* Is what was computed the product? Elements are about sqrt(k) large; bf16 keeps 8 bits of them. */
static int check(const struct peer *peer, const struct product *p)
{
    for (int i = 0; i < CHECKED_ELEMENTS; i++) {
        int64_t row = (int64_t)(random_bits() % (uint64_t)p->m);
        int64_t column = (int64_t)(random_bits() % (uint64_t)p->n);
        double want = exact_element(p, row, column), got = peer->result(row, column);
        if (!(fabs(got - want) <= fabs(want) / 128 + 1e-3 * sqrt((double)p->k))) {
            fprintf(stderr, "%s: %s [%lld, %lld] is %g instead of %g\n", peer->name,
                    kind_names[p->kind], (long long)row, (long long)column, got, want);
            return -1;
        }
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct speed {
    double median, max; /* TFLOP/s */
    int variant;
};

static struct speed measure(const struct peer *peer, const struct product *p, double seconds)
{
    static double took[MAX_RUNS];
    int runs = 0;
    double begin = now();
    while (runs < MAX_RUNS && (runs < MIN_RUNS || now() - begin < seconds)) {
        double start = now();
        peer->run();
        took[runs++] = now() - start;
    }
    qsort(took, (size_t)runs, sizeof(took[0]), ascending);
    double tflop = 2e-12 * (double)p->m * (double)p->n * (double)p->k;
    return (struct speed){tflop / took[runs / 2], tflop / took[0], 0};
}

/* The fastest variant's speed in *best. Returns -1 if a result is wrong. */
static int measure_variants(const struct peer *peer, const struct product *p, double seconds,
                            struct speed *best)
{
    *best = (struct speed){0, 0, 0};
    for (int v = 0; v < peer->variants; v++) {
        peer->prepare(p, v);
        peer->run(); /* warms up; this is the result checked */
        int wrong = check(peer, p);
        struct speed s = measure(peer, p, seconds);
        peer->finish();
        if (wrong)
            return -1;
        if (s.median > best->median)
            *best = (struct speed){s.median, s.max, v};
    }
    return 0;
}

static int measure_shape(const struct peer *peer, const struct options *o, struct shape s)
{
    int64_t M = o->tokens, K = s.K, N = s.N;
    float *x = gaussian_matrix(M * K), *w = gaussian_matrix(N * K), *dy = gaussian_matrix(M * N);
    const struct product products[] = {
        {FORWARD, M, N, K, 0, 1, x, w}, {DX, M, K, N, 0, 0, dy, w}, {DW, N, K, M, 1, 0, dy, x}};
    int rc = 0;
    for (int i = 0; i < 3; i++) {
        struct speed best;
        rc = measure_variants(peer, &products[i], o->seconds, &best);
        if (rc)
            break;
        printf("%s,%s,%lld,%lld,%lld,%d,%s,%.3f,%.3f\n", peer->name, kind_names[i], (long long)M,
               (long long)K, (long long)N, o->threads, peer->variant_names[best.variant],
               best.median, best.max);
        fflush(stdout);
    }
    free(x);
    free(w);
    free(dy);
    return rc;
}

static int measure_shapes(const struct peer *peer, const struct options *o)
{
    if (!o->shape_count) {
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
            if (measure_shape(peer, o, shapes[i]))
                return -1;
    }
    for (int i = 0; i < o->shape_count; i++) {
        struct shape s;
        char rest;
        if (sscanf(o->shapes[i], "%" SCNd64 "x%" SCNd64 "%c", &s.K, &s.N, &rest) != 2 || s.K < 1 ||
            s.N < 1) {
            fprintf(stderr, "%s is no shape like 768x2048\n", o->shapes[i]);
            return -1;
        }
        if (measure_shape(peer, o, s))
            return -1;
    }
    return 0;
}

/* Peers start as many threads as there are CPUs; those that ask the kernel see only these. */
static void keep_to_cpus(int threads)
{
    cpu_set_t allowed, kept;
    CPU_ZERO(&kept);
    if (sched_getaffinity(0, sizeof(allowed), &allowed))
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&kept) < threads; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            CPU_SET(cpu, &kept);
    sched_setaffinity(0, sizeof(kept), &kept);
}

int peer_gemm_main(struct peer *self, int argc, char **argv)
{
    struct options o = {.tokens = 2048, .threads = 1, .seconds = 0.2};
    int c;
    while ((c = getopt(argc, argv, "m:s:t:")) != -1) {
        if (c == 'm')
            o.tokens = strtoll(optarg, NULL, 10);
        else if (c == 's')
            o.seconds = strtod(optarg, NULL);
        else if (c == 't')
            o.threads = (int)strtol(optarg, NULL, 10);
        else
            o.threads = 0;
    }
    if (o.tokens < 1 || o.threads < 1 || !(o.seconds > 0)) {
        fprintf(stderr, "usage: %s [-t THREADS] [-m TOKENS] [-s SECONDS] [KxN...]\n", argv[0]);
        return 2;
    }
    o.shapes = argv + optind;
    o.shape_count = argc - optind;
    keep_to_cpus(o.threads);
    self->init(self, o.threads);
    printf("peer,product,M,K,N,threads,variant,median_tflops,max_tflops\n");
    return measure_shapes(self, &o) ? 1 : 0;
}
