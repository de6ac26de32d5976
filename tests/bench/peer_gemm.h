/*
 * What the harnesses of the matrix peers share: the products of a training step, gaussian data,
 * the clock and the check. A harness names itself and says how to prepare and run a product;
 * peer_gemm_main() does the rest, so that all peers are measured alike. See README.md.
 */
#ifndef TESTS_BENCH_PEER_GEMM_H
#define TESTS_BENCH_PEER_GEMM_H

#include <stddef.h>
#include <stdint.h>

/* The three products of a linear layer y = x W^T with W [N, K], over M tokens. */
enum product_kind {
    FORWARD, /* y  [M, N] = x  [M, K] . W  [N, K]^T */
    DX,      /* dx [M, K] = dy [M, N] . W  [N, K]   */
    DW,      /* dW [N, K] = dy [M, N]^T . x [M, K]  */
};

/*
 * c [m, n] = op(a) op(b), sums over k; all matrices row-major and dense. a is stored [k, m]
 * where trans_a, else [m, k]; b is stored [n, k] where trans_b, else [k, n].
 */
struct product {
    enum product_kind kind;
    int64_t m, n, k;
    int trans_a, trans_b;
    const float *a, *b; /* what the peer is to copy or round; bf16 holds these numbers exactly */
};

struct peer {
    char name[64]; /* without commas */
    int variants;  /* of each product, 1 or more; the fastest is reported */
    const char *const *variant_names;

    /* Once, before anything else. threads > 0. */
    void (*init)(struct peer *self, int threads);
    /* Makes the product ready in the given variant. */
    void (*prepare)(const struct product *p, int variant);
    /* Computes it once; what a training step would pay each time belongs here. */
    void (*run)(void);
    /* The element c [row, column] after run(). */
    double (*result)(int64_t row, int64_t column);
    /* Frees what prepare() took. */
    void (*finish)(void);
};

/* Memory to free(), on 2 MiB pages where possible. Ends the program where there is none left. */
void *peer_alloc(size_t bytes);

/* Parses the arguments, measures, prints CSV. Returns the exit status of the program. */
int peer_gemm_main(struct peer *self, int argc, char **argv);

#endif
