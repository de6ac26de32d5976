/*
 * The drivers of attention: which block of queries and keys comes when, and on which thread.
 *
 * Forward, blocks of queries are independent. Backward, a tile of queries and keys adds to
 * the gradients of both. Tiles are therefore taken in waves: in wave w the block of keys
 * i meets the w-th block of queries that sees it; no two tiles of a wave share a block, and
 * every gradient is summed in the order of waves, whoever computes it.
 */
#include "model/kernels/table.h"

#include <omp.h>
#include <string.h>

static void check_shape(const struct attention_shape *s)
{
    MW_ASSERT(s->D > 0 && s->D % 8 == 0 && s->D <= ATTENTION_D_MAX);
    MW_ASSERT(s->G > 0 && s->H % s->G == 0);
    MW_ASSERT(kernels.attention_fp32.forward);
}

static const struct attention_engine *engine_for(enum kernel_precision precision)
{
    return precision == KERNEL_BF16 ? &kernels.attention_bf16 : &kernels.attention_fp32;
}

static int threads_for(const struct attention_shape *s)
{
    return s->B * s->H * s->T * s->T * s->D < 64 * 64 * 64 ? 1 : kernels_threads();
}

void attention_forward(const struct attention_shape *s, enum kernel_precision precision,
                       const float *q, const float *k, const float *v, float *out, float *lse)
{
    check_shape(s);
    const struct attention_engine *e = engine_for(precision);
    const struct attention_job job = {.s = *s, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    const int64_t blocks = (s->T + e->queries_forward - 1) / e->queries_forward;
    float *own = omp_in_parallel() ? kernels_thread_scratch() : NULL;
    /* The last queries see most keys: start with them, so that threads end together. */
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_for(s))
    for (int64_t i = 0; i < blocks * s->B * s->H; i++) {
        int64_t block = blocks - 1 - i / (s->B * s->H), head = i % (s->B * s->H);
        e->forward(&job, head / s->H, head % s->H, block * e->queries_forward,
                   own ? own : kernels_thread_scratch());
    }
}

/* Wave `wave` of key block i of one group: false when that block has no more queries. */
static bool run_tile(const struct attention_engine *e, const struct attention_job *job,
                     int64_t group, int64_t i, int64_t wave, float *scratch)
{
    int64_t s0 = i * e->keys_backward;
    int64_t t0 = (s0 / e->queries_backward + wave) * e->queries_backward;
    if (t0 >= job->s.T)
        return false;
    e->backward(job, group / job->s.G, group % job->s.G, t0, s0, scratch);
    return true;
}

void attention_backward(const struct attention_shape *s, enum kernel_precision precision,
                        const float *q, const float *k, const float *v, const float *out,
                        const float *lse, const float *dout, float *dq, float *dk, float *dv)
{
    check_shape(s);
    const struct attention_engine *e = engine_for(precision);
    /* The job serves both directions; out and lse are only read in this one. */
    const struct attention_job job = {.s = *s,
                                      .q = q,
                                      .k = k,
                                      .v = v,
                                      .out = (float *)(uintptr_t)out,
                                      .lse = (float *)(uintptr_t)lse,
                                      .dout = dout,
                                      .dq = dq,
                                      .dk = dk,
                                      .dv = dv};
    const int64_t groups = s->B * s->G, blocks = (s->T + e->keys_backward - 1) / e->keys_backward;
    const int64_t waves = (s->T + e->queries_backward - 1) / e->queries_backward;
    const int threads = threads_for(s);
    float *own = omp_in_parallel() ? kernels_thread_scratch() : NULL;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < s->B * s->T; row++) {
            memset(dq + row * s->H * s->D, 0, (size_t)(s->H * s->D) * sizeof(float));
            memset(dk + row * s->G * s->D, 0, (size_t)(s->G * s->D) * sizeof(float));
            memset(dv + row * s->G * s->D, 0, (size_t)(s->G * s->D) * sizeof(float));
        }
        float *scratch = own ? own : kernels_thread_scratch();
        if (groups >= 3 * threads) {
#pragma omp for schedule(dynamic, 1)
            for (int64_t group = 0; group < groups; group++)
                for (int64_t wave = 0; wave < waves; wave++)
                    for (int64_t i = 0; i < blocks && run_tile(e, &job, group, i, wave, scratch);
                         i++)
                        ;
        } else {
            for (int64_t wave = 0; wave < waves; wave++) {
#pragma omp for schedule(dynamic, 1)
                for (int64_t tile = 0; tile < groups * blocks; tile++)
                    run_tile(e, &job, tile % groups, tile / groups, wave, scratch);
            }
        }
    }
}
