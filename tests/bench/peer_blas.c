/*
 * A BLAS as a peer: cblas_sgemm (fp32) of whichever library it is linked with; with -DUSE_MKL and
 * -DUSE_BF16 MKL's cblas_gemm_bf16bf16f32 instead (bf16 in, fp32 out). See README.md.
 */
#include "peer_gemm.h"

#ifdef USE_MKL
#include <mkl.h>
#else
#include <cblas.h>
#endif
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PEER_NAME
#define PEER_NAME "blas"
#endif

static struct {
    CBLAS_TRANSPOSE trans_a, trans_b;
    int m, n, k, lda, ldb;
    void *a, *b; /* element[] */
    float *c;
} job;

#ifdef USE_BF16
typedef MKL_BF16 element;

static void multiply(void)
{
    cblas_gemm_bf16bf16f32(CblasRowMajor, job.trans_a, job.trans_b, job.m, job.n, job.k, 1, job.a,
                           job.lda, job.b, job.ldb, 0, job.c, job.n);
}

static element element_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (element)(bits >> 16);
}
#else
typedef float element;

static void multiply(void)
{
    cblas_sgemm(CblasRowMajor, job.trans_a, job.trans_b, job.m, job.n, job.k, 1, job.a, job.lda,
                job.b, job.ldb, 0, job.c, job.n);
}

static element element_of(float x)
{
    return x;
}
#endif

static element *copied(const float *x, int64_t n)
{
    element *y = peer_alloc((size_t)n * sizeof(*y));
    for (int64_t i = 0; i < n; i++)
        y[i] = element_of(x[i]);
    return y;
}

static void prepare(const struct product *p, int variant)
{
    (void)variant;
    job.m = (int)p->m;
    job.n = (int)p->n;
    job.k = (int)p->k;
    job.trans_a = p->trans_a ? CblasTrans : CblasNoTrans;
    job.trans_b = p->trans_b ? CblasTrans : CblasNoTrans;
    job.lda = p->trans_a ? job.m : job.k;
    job.ldb = p->trans_b ? job.k : job.n;
    job.a = copied(p->a, p->m * p->k);
    job.b = copied(p->b, p->k * p->n);
    job.c = peer_alloc((size_t)(p->m * p->n) * sizeof(float));
}

static double result(int64_t row, int64_t column)
{
    return job.c[row * job.n + column];
}

static void finish(void)
{
    free(job.a);
    free(job.b);
    free(job.c);
}

static void init(struct peer *self, int threads)
{
    snprintf(self->name, sizeof(self->name), "%s", PEER_NAME);
    omp_set_num_threads(threads);
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"plain"};
    struct peer peer = {.variants = 1,
                        .variant_names = variants,
                        .init = init,
                        .prepare = prepare,
                        .run = multiply,
                        .result = result,
                        .finish = finish};
    return peer_gemm_main(&peer, argc, argv);
}
